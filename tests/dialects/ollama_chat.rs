//! Ollama's chat.

use llm_probe_exporter::dialect::{Dialect::OllamaChat, Output};

use crate::{delta, hear, is_malformed, phases, stream, usage};

pub(crate) const LAST: &str = r#""done":true,"done_reason":"stop","total_duration":900000000,"load_duration":5000000,"prompt_eval_count":26,"prompt_eval_duration":200000000,"eval_count":64,"eval_duration":640000000}"#;

#[test]
fn what_is_output() {
    use Output::{Both, Reasoning, Visible};
    for (data, output) in [
        (
            r#"{"message":{"role":"assistant","content":"Hi"},"done":false}"#,
            Some(Visible),
        ),
        (
            r#"{"message":{"role":"assistant","content":"","thinking":"Okay"},"done":false}"#,
            Some(Reasoning),
        ),
        (
            r#"{"message":{"content":"So","thinking":"Okay"},"done":false}"#,
            Some(Both),
        ),
        (r#"{"message":{"content":""},"done":false}"#, None),
        (
            r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]}}"#,
            Some(Visible),
        ),
        (r#"{"message":{"content":"","tool_calls":[]}}"#, None),
        (r#"{"message":null}"#, None),
    ] {
        let delta = delta(OllamaChat, data);
        assert_eq!(
            (delta.output, delta.finished, delta.error),
            (output, false, None),
            "{data}"
        );
        assert_eq!(delta.usage, usage([None; 4]));
    }
}

#[test]
fn the_final_line_counts_and_times() {
    let last = delta(OllamaChat, &format!(r#"{{"message":{{"content":""}},{LAST}"#));
    assert!(last.finished && last.last && last.output.is_none());
    assert_eq!(last.usage, usage([Some(26), None, Some(64), None]));
    assert_eq!(last.server_phases, phases([Some(5.0), Some(200.0), Some(640.0)]));
    // Nothing reported is nothing known: zeros are left out, as of a prompt that was cached.
    let bare = delta(OllamaChat, r#"{"done":true,"done_reason":"load"}"#);
    assert_eq!(
        (bare.finished, bare.usage, bare.server_phases),
        (true, usage([None; 4]), phases([None; 3]))
    );
}

#[test]
fn streams() {
    let body = stream(
        OllamaChat,
        &[
            r#"{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"Why"},"done":false}"#,
            r#"{"message":{"content":" not é🦀"},"done":false}"#,
        ],
    );
    let last = format!(r#"{{"message":{{"role":"assistant","content":""}},{LAST}"#);
    for end in ["", "\n", "\r\n", "\n\n"] {
        hear(OllamaChat, &format!("{body}{last}{end}")).assert_answers(2, "Why not é🦀");
    }
    assert!(!hear(OllamaChat, &body).is_finished());
    // Broken off within the last line.
    assert!(!hear(OllamaChat, &format!("{body}{}", last.get(..60).unwrap())).is_finished());
    for (line, overloaded) in [
        (
            r#"{"error":"an error was encountered while running the model"}"#,
            false,
        ),
        (
            r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
            true,
        ),
    ] {
        let heard = hear(OllamaChat, &format!("{body}{line}\n"));
        let error = heard.deltas.last().unwrap().error.clone().unwrap();
        assert_eq!(error.overloaded, overloaded, "{line}");
        assert!(!heard.is_finished());
    }
    for line in ["<html>", "{", "[]", r#"{"message":"Hi"}"#, r#"{"done":"true"}"#] {
        assert!(is_malformed(OllamaChat, line), "{line}");
    }
}

#[test]
fn a_large_model_may_load_for_hours() {
    let end = delta(
        OllamaChat,
        r#"{"done":true,"load_duration":7200000000000,"prompt_eval_duration":-1,"eval_duration":86400000000001}"#,
    );
    assert_eq!(end.server_phases, phases([Some(7_200_000.0), None, None]));
}
