//! Ollama's completion.

use llm_probe_exporter::dialect::{Dialect::OllamaGenerate, Output};

use crate::{delta, hear, is_malformed, ollama_chat::LAST, phases, stream, usage};

#[test]
fn what_is_output() {
    use Output::{Both, Reasoning, Visible};
    for (data, output) in [
        (
            r#"{"model":"m","created_at":"x","response":"Hi","done":false}"#,
            Some(Visible),
        ),
        (r#"{"response":" ","done":false}"#, Some(Visible)),
        (
            r#"{"response":"","thinking":"Okay","done":false}"#,
            Some(Reasoning),
        ),
        (r#"{"response":"So","thinking":"Okay","done":false}"#, Some(Both)),
        (r#"{"response":"","done":false}"#, None),
        (r#"{"done":false}"#, None),
    ] {
        let delta = delta(OllamaGenerate, data);
        assert_eq!(
            (delta.output, delta.finished, delta.error),
            (output, false, None),
            "{data}"
        );
    }
}

#[test]
fn streams() {
    let tokens = stream(
        OllamaGenerate,
        &[
            r#"{"response":"Why","done":false}"#,
            r#"{"response":" not","done":false}"#,
        ],
    );
    let heard = hear(
        OllamaGenerate,
        &format!(r#"{tokens}{{"response":"","context":[1,2],{LAST}"#),
    );
    heard.assert_answers(2, "Why not");
    assert_eq!(heard.usage(), usage([Some(26), None, Some(64), None]));
    assert_eq!(heard.phases(), phases([Some(5.0), Some(200.0), Some(640.0)]));
    // An empty prompt only loads the model: an end without output.
    let loaded = hear(
        OllamaGenerate,
        "{\"response\":\"\",\"done\":true,\"done_reason\":\"load\"}\n",
    );
    assert!(loaded.is_finished() && loaded.outputs().is_empty());
    let failed = hear(OllamaGenerate, &format!("{tokens}{{\"error\":\"boom\"}}"));
    assert_eq!((failed.error(), failed.is_finished()), (Some("boom"), false));
    assert!(is_malformed(OllamaGenerate, "Internal Server Error"));
}
