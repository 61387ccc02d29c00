//! Whatever comes, and however it is cut: the same meaning, and no panic.

use std::{fs, path::Path};

use llm_probe_exporter::{
    dialect::{Decoder, Dialect},
    framing::{Framing, MAX_FRAME},
};
use proptest::{prelude::*, sample::Index};

use crate::{Meaning, fuzz, meaning, recorded, stream, wire};

fn cut<'a>(bytes: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// Good answers of every dialect.
fn bodies() -> Vec<(Dialect, String)> {
    let made = |dialect, frames: &[&str]| (dialect, stream(dialect, frames));
    let mut bodies: Vec<_> = [
        (Dialect::OpenaiChat, "llama-server/chat_stream_usage"),
        (Dialect::OpenaiChat, "vllm/chat_stream_continuous_usage"),
        (Dialect::OpenaiCompletions, "vllm/completions_stream_usage"),
        (Dialect::OpenaiResponses, "llama-server/responses_stream"),
        (Dialect::AnthropicMessages, "llama-server/messages_stream"),
        (
            Dialect::LlamacppCompletion,
            "llama-server/completion_native_stream",
        ),
    ]
    .map(|(dialect, name)| (dialect, recorded(name)))
    .into();
    bodies.extend([
        made(Dialect::OllamaChat, &[
            r#"{"message":{"content":"","thinking":"Hm"},"done":false}"#,
            "{\"message\":{\"content\":\"é🦀\u{2028}\"},\"done\":false}",
            r#"{"message":{"content":""},"done":true,"prompt_eval_count":9,"eval_count":3}"#,
        ]),
        made(Dialect::OllamaGenerate, &[
            r#"{"response":"Why","done":false}"#,
            r#"{"response":"","done":true,"load_duration":1,"eval_count":1}"#,
        ]),
        made(Dialect::TgiGenerate, &[
            r#"{"index":1,"token":{"text":"a","special":false},"generated_text":null}"#,
            r#"{"token":{"text":"</s>","special":true},"generated_text":"a","details":{"generated_tokens":2}}"#,
        ]),
        made(Dialect::TritonGenerate, &[
            r#"{"text_output":"Why"}"#,
            r#"{"text_output":"Why not"}"#,
            r#"{"text_output":["Why not?"]}"#,
        ]),
        made(Dialect::Gemini, &[
            r#"{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true}]}}],"usageMetadata":{"thoughtsTokenCount":1}}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"So"}]},"finishReason":"STOP"}],"usageMetadata":{"candidatesTokenCount":1}}"#,
        ]),
    ]);
    let crlf: Vec<_> = bodies
        .iter()
        .map(|(dialect, body)| (*dialect, body.replace('\n', "\r\n")))
        .collect();
    bodies.extend(crlf);
    bodies
}

#[test]
fn every_dialect_has_an_answer_here() {
    let bodies = bodies();
    for dialect in Dialect::ALL {
        let answers: Vec<Meaning> = bodies
            .iter()
            .filter(|(spoken, _)| spoken == dialect)
            .map(|(_, body)| meaning(*dialect, [body.as_bytes()]))
            .collect();
        assert!(answers.len() >= 2);
        for answer in answers {
            assert!(answer.is_finished() && answer.wrong.is_none() && !answer.outputs().is_empty());
        }
    }
}

/// What the fuzzer would begin with.
#[test]
fn seeds_of_the_fuzzer_hold() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let seeds = |target: &str| {
        let files: Vec<_> = fs::read_dir(corpus.join(target)).unwrap().collect();
        assert!(!files.is_empty(), "{target}");
        files
            .into_iter()
            .map(|file| fs::read(file.unwrap().path()).unwrap())
    };
    seeds("sse").for_each(|seed| fuzz::frames(Framing::Sse, &seed));
    seeds("ndjson").for_each(|seed| fuzz::frames(Framing::Ndjson, &seed));
    for dialect in Dialect::ALL {
        seeds(dialect.as_str()).for_each(|seed| fuzz::meaning(*dialect, &seed));
    }
}

/// The largest resident size that this process has had, in bytes.
fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn large_frames_are_not_held_as_values() {
    let many = |element: &str| vec![element; (MAX_FRAME - 100) / (element.len() + 1)].join(",");
    let shapes = [
        format!(r#"{{"choices":[{}]}}"#, many("{}")),
        format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{}]}}}}]}}"#, many("{}")),
        format!(r#"{{"choices":[{{"delta":{{"content":[{}]}}}}]}}"#, many("0")),
        format!(
            r#"{{"choices":[{{"text":"{}"}}]}}"#,
            "\\n".repeat(MAX_FRAME / 2 - 50)
        ),
        format!(r#"{{"usage":{{"prompt_tokens":[{}]}}}}"#, many("0")),
        format!(r#"{{"error":[{}]}}"#, many("{}")),
        format!(r#"{{"object":"error","message":[{}]}}"#, many("{}")),
        format!(r#"{{"candidates":[{{"content":{{"parts":[{}]}}}}]}}"#, many("{}")),
        format!(r#"{{"message":{{"tool_calls":[{}]}}}}"#, many("{}")),
        format!(r#"{{"text_output":[{}]}}"#, many("\"a\"")),
        format!(r#"{{"unknown":{}"#, "[".repeat(MAX_FRAME - 100)),
    ];
    let before = peak_memory();
    for (dialect, shape) in Dialect::ALL
        .iter()
        .flat_map(|dialect| shapes.iter().map(move |shape| (dialect, shape)))
    {
        let mut decoder = Decoder::new(*dialect).keeping_text(true);
        let frame = wire(*dialect, "", "");
        let (begin, end) = frame.split_at(frame.find('\n').unwrap());
        for part in [begin, shape, end] {
            for chunk in part.as_bytes().chunks(16 << 10) {
                if decoder.push(chunk, |_| {}).is_err() {
                    break;
                }
            }
        }
    }
    let grown = peak_memory() - before;
    // What a request may hold, less the gaps between its frames; and what the allocator keeps.
    assert!(grown < 8 << 20, "{grown} bytes");
}

/// A frame of any dialect, or none.
fn frame() -> impl Strategy<Value = String> {
    let texts: Vec<String> = bodies()
        .iter()
        .flat_map(|(_, body)| {
            body.lines()
                .map(|line| line.trim_start_matches("data: ").to_owned())
        })
        .filter(|line| line.len() < 600)
        .collect();
    prop_oneof![
        3 => prop::sample::select(texts),
        1 => Just("[DONE]".to_owned()),
        1 => Just(r#"{"error":{"message":"no"}}"#.to_owned()),
        1 => Just(r#"{"type":"error","message":"no"}"#.to_owned()),
        1 => json(),
    ]
}

/// JSON with the keys that mean something, and the wrong values under them.
fn json() -> impl Strategy<Value = String> {
    const KEYS: &[&str] = &[
        "choices",
        "delta",
        "content",
        "text",
        "finish_reason",
        "usage",
        "type",
        "message",
        "candidates",
        "parts",
        "text_output",
        "token",
        "response",
        "done",
        "item",
        "error",
        "tool_calls",
        "function",
        "thinking",
        "details",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-1".to_owned()),
        Just("1e999".to_owned()),
        Just("\"\\ud83e\"".to_owned()),
        "[a-zé🦀 ]{0,6}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(","))),
            prop::collection::vec((prop::sample::select(KEYS), inner), 0..4).prop_map(|entries| {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("\"{key}\":{value}"))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(Dialect::ALL)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn cuts_anywhere_make_no_difference(
        which in any::<Index>(),
        places in prop::collection::vec(any::<Index>(), 0..40),
        end in any::<Index>(),
        shortened in any::<bool>(),
    ) {
        let bodies = bodies();
        let (dialect, body) = which.get(&bodies);
        // Also where the body breaks off.
        let end = if shortened { end.index(body.len() + 1) } else { body.len() };
        let bytes = &body.as_bytes()[..end];
        prop_assert_eq!(meaning(*dialect, cut(bytes, &places)), meaning(*dialect, [bytes]));
    }

    #[test]
    fn nor_do_they_where_bytes_are_damaged(
        which in any::<Index>(),
        places in prop::collection::vec(any::<Index>(), 0..10),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let bodies = bodies();
        let (dialect, body) = which.get(&bodies);
        let mut bytes = body.clone().into_bytes();
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(meaning(*dialect, cut(&bytes, &places)), meaning(*dialect, [bytes.as_slice()]));
    }

    #[test]
    fn nor_do_they_in_streams_of_every_kind_of_frame(
        dialect in dialect(),
        frames in prop::collection::vec((frame(), 0..4_u8), 0..12),
        places in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let frame = |(data, form): &(String, u8)| match (form, dialect.framing()) {
            (1, Framing::Sse) => format!("data:{data}\r\n\r\n: ping\r\n"),
            (2, Framing::Sse) => format!("event: content_block_delta\rdata: {data}\r\r"),
            (3, Framing::Sse) => format!("error: {data}\n"),
            _ => wire(dialect, "", data),
        };
        let body: String = frames.iter().map(frame).collect();
        let whole = meaning(dialect, [body.as_bytes()]);
        prop_assert_eq!(&meaning(dialect, cut(body.as_bytes(), &places)), &whole);
        prop_assert_eq!(&meaning(dialect, body.as_bytes().chunks(1)), &whole);
    }

    #[test]
    fn any_bytes_have_a_meaning(dialect in dialect(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let whole = meaning(dialect, [bytes.as_slice()]);
        prop_assert_eq!(meaning(dialect, bytes.chunks(1)), whole);
    }
}
