//! A response means the same wherever the network cuts it: recorded streams of real servers, and what may
//! become of them on the way.
#![cfg(test)]

mod support;

use llm_probe_exporter::dialect::{Decoder, Delta, Dialect};
use proptest::{prelude::*, sample::Index};
use support::script::{recorded, token};

const OPENAI: [&str; 9] = [
    "llama-server/chat_stream_usage",
    "llama-server/chat_stream_nousage",
    "llama-server/chat_stream_ignore_eos",
    "llama-server/chat_stream_logprobs",
    "llama-server/chat_stream_tool",
    "vllm/chat_stream_usage",
    "vllm/chat_stream_nousage",
    "vllm/chat_stream_continuous_usage",
    "vllm/chat_stream_ignore_eos",
];

/// What a body means, and what is wrong with it.
type Meaning = (Vec<Delta>, Option<String>);

fn meaning<'a, I: IntoIterator<Item = &'a [u8]>>(dialect: Dialect, chunks: I) -> Meaning {
    let mut decoder = Decoder::new(dialect);
    let mut deltas = Vec::new();
    for chunk in chunks {
        if let Err(error) = decoder.push(chunk, |delta| deltas.push(delta)) {
            return (deltas, Some(error.to_string()));
        }
    }
    decoder.finish(|delta| deltas.push(delta));
    (deltas, None)
}

fn cut<'a>(bytes: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// An answer as Ollama gives it, without the last line's end.
fn ollama() -> String {
    let line = |content: &str| {
        let message = serde_json::json!({ "role": "assistant", "content": content });
        serde_json::json!({ "model": "m", "message": message, "done": false }).to_string() + "\n"
    };
    let last = r#"{"message":{"content":""},"done":true,"prompt_eval_count":9,"eval_count":3}"#;
    ["", "Why", " not", "? é🦀\u{2028}"].map(line).concat() + last
}

fn bodies() -> Vec<(Dialect, String)> {
    let mut bodies: Vec<_> = OPENAI
        .iter()
        .flat_map(|name| [recorded(name), crlf(&recorded(name))])
        .map(|body| (Dialect::OpenaiChat, body))
        .collect();
    bodies.extend([ollama(), crlf(&ollama())].map(|body| (Dialect::OllamaChat, body)));
    bodies
}

#[test]
fn recorded_streams_mean_what_they_meant() {
    for (dialect, body) in bodies() {
        let (deltas, wrong) = meaning(dialect, [body.as_bytes()]);
        assert_eq!(wrong, None);
        assert!(deltas.iter().any(|delta| delta.output.is_some()));
        assert!(deltas.iter().any(|delta| delta.finished) && deltas.last().unwrap().last);
        assert!(deltas.iter().all(|delta| delta.error.is_none()));
    }
}

#[test]
fn every_single_cut_makes_no_difference() {
    for (dialect, body) in bodies() {
        let bytes = body.as_bytes();
        let whole = meaning(dialect, [bytes]);
        assert_eq!(meaning(dialect, bytes.chunks(1)), whole);
        // Around an event's end is where it matters; the middle is one like the other.
        for at in (0..bytes.len().min(900)).chain(bytes.len() - 200..bytes.len()) {
            assert_eq!(meaning(dialect, [&bytes[..at], &bytes[at..]]), whole, "at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
    fn nor_do_they_in_streams_of_every_kind_of_event(
        events in prop::collection::vec(event(), 0..12),
        places in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let body = events.concat();
        let whole = meaning(Dialect::OpenaiChat, [body.as_bytes()]);
        prop_assert_eq!(meaning(Dialect::OpenaiChat, cut(body.as_bytes(), &places)), whole.clone());
        prop_assert_eq!(meaning(Dialect::OpenaiChat, body.as_bytes().chunks(1)), whole);
    }
}

fn event() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,8}".prop_map(|content| format!("data: {}\n\n", token(&content))),
        Just(format!("data:{}\r\n\r\n", token("la"))),
        Just(": ping\n\n".to_owned()),
        Just("event: error\ndata: it broke\n\n".to_owned()),
        Just("error: {\"code\":503}\n\n".to_owned()),
        Just("data: {\"error\":{\"message\":\"no\"}}\n\n".to_owned()),
        Just("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".to_owned()),
        Just("data: {\"choices\":[],\ndata: \"usage\":{\"completion_tokens\":3}}\n\n".to_owned()),
        Just("data: [DONE]\n\n".to_owned()),
        Just("data: nonsense\n\n".to_owned()),
        Just("id: 1\rretry: 5\r\r".to_owned()),
    ]
}
