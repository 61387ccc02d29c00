//! Every wire format with the quirks of its servers: one file per dialect, the framing under them, and what
//! holds for all. A response means the same, and each delta arrives with the same byte, wherever the network
//! cuts it.
#![cfg(test)]

mod anthropic_messages;
mod anywhere;
mod framing;
mod gemini;
mod llamacpp_completion;
mod ollama_chat;
mod ollama_generate;
mod openai_chat;
mod openai_completions;
mod openai_responses;
mod requests;
mod tgi_generate;
mod triton_generate;

#[path = "../../fuzz/src/streams.rs"]
#[expect(
    unreachable_pub,
    reason = "it is a crate of its own, which nothing else compiles on stable Rust"
)]
mod fuzz;

#[path = "../support/script.rs"]
#[expect(dead_code, reason = "its scripts are for other test crates")]
mod script;

use llm_probe_exporter::{
    config::plan::TextMode,
    dialect::{Decoder, Delta, Dialect, Output},
    framing::Framing,
    units::{Seconds, Tokens},
    usage::{ServerPhases, Transcript, Usage},
};
pub(crate) use script::recorded;

/// What a body means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meaning {
    pub(crate) deltas: Vec<Delta>,
    pub(crate) text: Transcript,
    /// What is wrong with it.
    pub(crate) wrong: Option<String>,
}

/// Decodes chunks; hands on with each delta the number of the chunk that it came with.
fn decode<'a, I: IntoIterator<Item = &'a [u8]>>(mut decoder: Decoder, chunks: I) -> (Meaning, Vec<usize>) {
    let (mut deltas, mut arrivals, mut wrong) = (Vec::new(), Vec::new(), None);
    let mut count = 0;
    for chunk in chunks {
        let pushed = decoder.push(chunk, |delta| {
            deltas.push(delta);
            arrivals.push(count);
        });
        if let Err(error) = pushed {
            wrong = Some(error.to_string());
            break;
        }
        count += 1;
    }
    if wrong.is_none() {
        decoder.finish(|delta| {
            deltas.push(delta);
            arrivals.push(count);
        });
    }
    let text = decoder.take_transcript().unwrap_or_default();
    (Meaning { deltas, text, wrong }, arrivals)
}

fn decoder(dialect: Dialect) -> Decoder {
    Decoder::new(dialect).keeping_text(true)
}

pub(crate) fn meaning<'a, I: IntoIterator<Item = &'a [u8]>>(dialect: Dialect, chunks: I) -> Meaning {
    decode(decoder(dialect), chunks).0
}

/// What a whole body means; asserts that it means the same, and with the same arrivals, wherever it is cut.
pub(crate) fn hear(dialect: Dialect, body: &str) -> Meaning {
    hear_in(TextMode::Auto, dialect, body)
}

pub(crate) fn hear_in(mode: TextMode, dialect: Dialect, body: &str) -> Meaning {
    let new = || decoder(dialect).text_mode(mode);
    let bytes = body.as_bytes();
    let (whole, _) = decode(new(), [bytes]);
    let (alone, arrivals) = decode(new(), bytes.chunks(1));
    assert_eq!(alone, whole, "byte by byte");
    let unheard = decode(Decoder::new(dialect).text_mode(mode), [bytes]).0;
    assert_eq!(unheard.deltas, whole.deltas, "without keeping the text");
    for at in places(bytes.len()) {
        let (cut, parts) = decode(new(), [&bytes[..at], &bytes[at..]]);
        assert_eq!(cut, whole, "cut at {at}");
        // The byte with which it comes, alone, tells in which part of the two it must come.
        let expected = arrivals.iter().map(|&byte| match byte {
            byte if byte < at => 0,
            byte if byte < bytes.len() => 1,
            _ => 2,
        });
        assert!(expected.eq(parts), "arrivals when cut at {at}");
    }
    whole
}

/// Everywhere, but of a long body its beginning and its end: its middle is one like the other.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let many = 1500;
    (0..=length).filter(move |at| *at < many || length - at < many)
}

/// A frame as it comes over the wire.
pub(crate) fn wire(dialect: Dialect, event: &str, data: &str) -> String {
    match dialect.framing() {
        Framing::Sse if event.is_empty() => format!("data: {data}\n\n"),
        Framing::Sse => format!("event: {event}\ndata: {data}\n\n"),
        Framing::Ndjson => format!("{data}\n"),
    }
}

/// Frames without names, one after the other.
pub(crate) fn stream(dialect: Dialect, frames: &[&str]) -> String {
    frames.iter().map(|data| wire(dialect, "", data)).collect()
}

/// The meaning of one frame.
#[track_caller]
pub(crate) fn delta(dialect: Dialect, data: &str) -> Delta {
    named(dialect, "", data)
}

#[track_caller]
pub(crate) fn named(dialect: Dialect, event: &str, data: &str) -> Delta {
    let meaning = meaning(dialect, [wire(dialect, event, data).as_bytes()]);
    assert_eq!(meaning.wrong, None, "{data}");
    meaning.deltas.into_iter().next().expect("a delta")
}

pub(crate) fn is_malformed(dialect: Dialect, data: &str) -> bool {
    meaning(dialect, [wire(dialect, "", data).as_bytes()])
        .wrong
        .is_some()
}

impl Meaning {
    /// The deltas that are output, in order.
    pub(crate) fn outputs(&self) -> Vec<Output> {
        self.deltas.iter().filter_map(|delta| delta.output).collect()
    }

    /// The usage that remains.
    pub(crate) fn usage(&self) -> Usage {
        self.deltas.iter().fold(Usage::default(), |mut usage, delta| {
            usage.update(delta.usage);
            usage
        })
    }

    pub(crate) fn phases(&self) -> ServerPhases {
        self.deltas
            .iter()
            .fold(ServerPhases::default(), |mut phases, delta| {
                phases.update(delta.server_phases);
                phases
            })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.deltas.iter().any(|delta| delta.finished)
    }

    /// The message of the first error.
    pub(crate) fn error(&self) -> Option<&str> {
        let error = self.deltas.iter().find_map(|delta| delta.error.as_ref());
        error.map(|error| error.message.as_str())
    }

    /// A good answer of `count` visible deltas with this text.
    #[track_caller]
    pub(crate) fn assert_answers(&self, count: usize, text: &str) {
        assert_eq!((&self.wrong, self.error()), (&None, None));
        assert!(self.is_finished());
        assert_eq!(self.outputs(), vec![Output::Visible; count]);
        assert_eq!(
            (self.text.visible.as_str(), self.text.reasoning.as_str()),
            (text, "")
        );
    }
}

/// Prompt, cached prompt, output, reasoning.
pub(crate) fn usage(counts: [Option<u64>; 4]) -> Usage {
    let [prompt, cached_prompt, output, reasoning] = counts.map(|count| count.map(Tokens));
    Usage {
        prompt,
        cached_prompt,
        output,
        reasoning,
    }
}

/// Load, prompt, decode in milliseconds.
pub(crate) fn phases(ms: [Option<f64>; 3]) -> ServerPhases {
    let [load, prompt, decode] = ms.map(|ms| ms.map(|ms| Seconds::new(ms / 1e3)));
    ServerPhases { load, prompt, decode }
}
