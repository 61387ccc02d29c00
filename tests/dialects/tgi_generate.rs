//! Text Generation Inference's own stream.

use llm_probe_exporter::dialect::{Dialect::TgiGenerate, Output};

use crate::{delta, hear, is_malformed, usage};

const STREAM: &str = concat!(
    "data:{\"index\":1,\"token\":{\"id\":1,\"text\":\" Deep\",\"logprob\":-0.97,\"special\":false},\"generated_text\":null,\"details\":null}\n\n",
    ": keep-alive\n\n",
    "data:{\"index\":2,\"token\":{\"id\":2,\"text\":\".\",\"logprob\":-0.1,\"special\":false},\"generated_text\":\" Deep.\",\"details\":{\"finish_reason\":\"length\",\"generated_tokens\":2,\"seed\":null,\"input_length\":4}}\n\n",
);

#[test]
fn streams() {
    let heard = hear(TgiGenerate, STREAM);
    heard.assert_answers(2, " Deep.");
    assert!(heard.deltas.last().unwrap().last);
    assert_eq!(heard.usage(), usage([Some(4), None, Some(2), None]));
    // Without details nothing is known of the tokens.
    let bare =
        "data: {\"token\":{\"text\":\"a\",\"special\":false},\"generated_text\":\"a\",\"details\":null}";
    let heard = hear(TgiGenerate, bare);
    heard.assert_answers(1, "a");
    assert_eq!(heard.usage(), usage([None; 4]));
}

#[test]
fn what_is_output() {
    for (data, output, finished) in [
        (
            r#"{"index":1,"token":{"id":1,"text":"a","special":false},"generated_text":null}"#,
            Some(Output::Visible),
            false,
        ),
        (
            r#"{"index":1,"token":{"id":1,"text":"","special":false},"generated_text":null}"#,
            None,
            false,
        ),
        // The end of the sequence is no output.
        (
            r#"{"index":2,"token":{"id":2,"text":"</s>","special":true},"generated_text":"a","details":{"generated_tokens":2}}"#,
            None,
            true,
        ),
        (
            r#"{"index":2,"token":{"id":2,"text":"<|eot|>","special":true},"generated_text":null}"#,
            None,
            false,
        ),
        // It ended at once and well: an empty text is an end, too.
        (
            r#"{"token":{"text":"</s>","special":true},"generated_text":""}"#,
            None,
            true,
        ),
        ("{}", None, false),
    ] {
        let delta = delta(TgiGenerate, data);
        assert_eq!(
            (delta.output, delta.finished, delta.error),
            (output, finished, None),
            "{data}"
        );
    }
}

#[test]
fn errors_come_with_a_200() {
    for (data, message, overloaded) in [
        (
            r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
            "Model is overloaded",
            true,
        ),
        (
            r#"{"error":"too many requests in flight","error_type":"overloaded"}"#,
            "too many requests in flight",
            true,
        ),
        (
            r#"{"error":"Input validation error: too long","error_type":"validation"}"#,
            "Input validation error: too long",
            false,
        ),
        (
            r#"{"error":"Incomplete generation","error_type":"incomplete_generation"}"#,
            "Incomplete generation",
            false,
        ),
    ] {
        let error = delta(TgiGenerate, data).error.unwrap();
        assert_eq!(
            (error.message.as_str(), error.overloaded),
            (message, overloaded),
            "{data}"
        );
        let late = hear(TgiGenerate, &format!("{STREAM}data:{data}\n\n"));
        assert_eq!(late.error(), Some(message));
    }
    for data in ["{", "[]", "x", r#"{"token":"a"}"#] {
        assert!(is_malformed(TgiGenerate, data), "{data}");
    }
}
