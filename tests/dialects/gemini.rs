//! Gemini.

use llm_probe_exporter::dialect::{Dialect::Gemini, Output};

use crate::{delta, hear, is_malformed, usage};

fn body(frames: &[&str]) -> String {
    frames
        .iter()
        .fold(String::new(), |body, frame| body + "data: " + frame + "\r\n\r\n")
}

const THOUGHT: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":34,"totalTokenCount":100,"thoughtsTokenCount":66}}"#;
const TEXT: &str = r#"{"candidates":[{"content":{"parts":[{"text":"So it is"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":34,"candidatesTokenCount":3,"thoughtsTokenCount":438}}"#;
const LAST: &str = r#"{"candidates":[{"content":{"parts":[{"text":"."}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":34,"cachedContentTokenCount":8,"candidatesTokenCount":418,"thoughtsTokenCount":438,"totalTokenCount":890},"modelVersion":"m","responseId":"r"}"#;

#[test]
fn streams() {
    let heard = hear(Gemini, &body(&[THOUGHT, TEXT, LAST]));
    assert_eq!(
        heard.outputs(),
        [Output::Reasoning, Output::Visible, Output::Visible]
    );
    assert_eq!(
        (heard.text.visible.as_str(), heard.text.reasoning.as_str()),
        ("So it is.", "Hm")
    );
    assert!(heard.is_finished());
    // What was thought is counted apart from what was said.
    assert_eq!(heard.usage(), usage([Some(34), Some(8), Some(856), Some(438)]));
    assert_eq!(heard.deltas[0].usage, usage([Some(34), None, Some(66), Some(66)]));
    assert_eq!(heard.deltas[1].usage.output.unwrap().0, 441);
    // A chunk may leave out what has not changed.
    let partial = r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"candidatesTokenCount":5}}"#;
    let heard = hear(Gemini, &body(&[THOUGHT, partial]));
    assert_eq!(heard.usage(), usage([Some(34), None, Some(71), Some(66)]));
}

#[test]
fn what_is_output() {
    use Output::{Both, Reasoning, Visible};
    let parts = |parts: &str| format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}]}}}}]}}"#);
    for (data, output) in [
        (parts(r#"{"text":"a"}"#), Some(Visible)),
        (parts(r#"{"text":""}"#), None),
        (parts(r#"{"text":"Hm","thought":true}"#), Some(Reasoning)),
        (parts(r#"{"text":"Hm","thought":true},{"text":"So"}"#), Some(Both)),
        (parts(r#"{"text":"","thoughtSignature":"xyz"}"#), None),
        (parts(r#"{"thoughtSignature":"xyz"}"#), None),
        (
            parts(r#"{"functionCall":{"name":"f","args":{"a":1}}}"#),
            Some(Visible),
        ),
        (
            parts(r#"{"inlineData":{"mimeType":"image/png","data":"xyz"}}"#),
            Some(Visible),
        ),
        (parts(r#"{"executableCode":{"code":"1"}}"#), Some(Visible)),
        (parts(""), None),
        (r#"{"candidates":[{"content":{"role":"model"}}]}"#.into(), None),
        (r#"{"candidates":[]}"#.into(), None),
        (r#"{"usageMetadata":{"promptTokenCount":3}}"#.into(), None),
    ] {
        let delta = delta(Gemini, &data);
        assert_eq!(
            (delta.output, delta.finished, delta.error),
            (output, false, None),
            "{data}"
        );
    }
}

#[test]
fn ends_and_errors() {
    for reason in ["STOP", "MAX_TOKENS", "SAFETY", "RECITATION"] {
        let end = delta(
            Gemini,
            &format!(r#"{{"candidates":[{{"finishReason":"{reason}","index":0}}]}}"#),
        );
        // Nothing says that it is the last: what follows may count once more, or be an error.
        assert!(end.finished && !end.last && end.error.is_none() && end.output.is_none());
    }
    let unspecified = r#"{"candidates":[{"finishReason":"FINISH_REASON_UNSPECIFIED"}]}"#;
    assert!(!delta(Gemini, unspecified).finished);
    for (data, message, overloaded) in [
        (
            r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"17s"}]}}"#,
            "quota",
            false,
        ),
        (
            r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            "The model is overloaded.",
            true,
        ),
        (
            r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":3}}"#,
            "the prompt was blocked: PROHIBITED_CONTENT",
            false,
        ),
        (
            r#"{"candidates":[],"promptFeedback":{"blockReason":"SAFETY"}}"#,
            "the prompt was blocked: SAFETY",
            false,
        ),
    ] {
        let error = delta(Gemini, data).error.unwrap();
        assert_eq!(
            (error.message.as_str(), error.overloaded),
            (message, overloaded),
            "{data}"
        );
        let late = hear(Gemini, &body(&[TEXT, LAST, data]));
        assert_eq!(late.error(), Some(message));
    }
    let rated =
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"promptFeedback":{"safetyRatings":[]}}"#;
    assert_eq!(delta(Gemini, rated).error, None);
    for data in ["{", "[{}]", "x", r#"{"candidates":{}}"#] {
        assert!(is_malformed(Gemini, data), "{data}");
    }
}
