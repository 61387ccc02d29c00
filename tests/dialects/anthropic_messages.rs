//! Anthropic messages.

use llm_probe_exporter::dialect::{Dialect::AnthropicMessages, Output};

use crate::{delta, hear, is_malformed, named, recorded, stream, usage};

#[test]
fn a_recorded_stream_means_what_it_meant() {
    let heard = hear(AnthropicMessages, &recorded("llama-server/messages_stream"));
    heard.assert_answers(11, "1. Red\n2. Blue\n3. Green");
    assert!(heard.deltas.last().unwrap().last);
    // The API counts what came from the cache apart.
    assert_eq!(heard.usage(), usage([Some(34), Some(33), Some(12), None]));
}

#[test]
fn what_is_output() {
    use Output::{Reasoning, Visible};
    for (data, output) in [
        (
            r#"{"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}"#,
            None,
        ),
        (r#"{"type":"ping"}"#, None),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            None,
        ),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            None,
        ),
        (
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"xyz"}}"#,
            None,
        ),
        (
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            Some(Visible),
        ),
        (
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"t","name":"web_search"}}"#,
            Some(Visible),
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#,
            Some(Visible),
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#,
            None,
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}"#,
            Some(Reasoning),
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"xyz"}}"#,
            None,
        ),
        (
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"cited_text":"x"}}}"#,
            None,
        ),
        (
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            None,
        ),
        (
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#,
            Some(Visible),
        ),
        (r#"{"type":"content_block_stop","index":0}"#, None),
        (
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#,
            None,
        ),
        (r#"{"type":"something_new","delta":{"text":"no"}}"#, None),
    ] {
        let delta = delta(AnthropicMessages, data);
        assert_eq!(
            (delta.output, delta.finished, delta.error),
            (output, false, None),
            "{data}"
        );
    }
    let unnamed = named(
        AnthropicMessages,
        "content_block_delta",
        r#"{"delta":{"text":"Hi"}}"#,
    );
    assert_eq!(unnamed.output, Some(Visible));
}

#[test]
fn usage_is_cumulative_and_partly_repeated() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":10,"output_tokens":1}}}"#;
    let text = r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}"#;
    let stop = r#"{"type":"message_stop"}"#;
    for (deltas, counts) in [
        // The placeholder at the start counts nothing.
        (vec![], [Some(38), Some(10), None, None]),
        (
            vec![r#"{"type":"message_delta","usage":{"output_tokens":15}}"#],
            [Some(38), Some(10), Some(15), None],
        ),
        (
            vec![
                r#"{"type":"message_delta","usage":{"output_tokens":7}}"#,
                r#"{"type":"message_delta","usage":{"output_tokens":15,"output_tokens_details":{"thinking_tokens":5}}}"#,
            ],
            [Some(38), Some(10), Some(15), Some(5)],
        ),
        // Some of the prompt's parts again: the others stand.
        (
            vec![r#"{"type":"message_delta","usage":{"input_tokens":26,"output_tokens":15}}"#],
            [Some(39), Some(10), Some(15), None],
        ),
    ] {
        let frames: Vec<_> = [start, text].into_iter().chain(deltas).chain([stop]).collect();
        let heard = hear(AnthropicMessages, &stream(AnthropicMessages, &frames));
        heard.assert_answers(1, "Hi");
        assert_eq!(heard.usage(), usage(counts), "{frames:?}");
    }
    let looser = stream(
        AnthropicMessages,
        &[
            text,
            r#"{"type":"message_delta","usage":{"output_tokens":1}}"#,
            stop,
            "[DONE]",
        ],
    );
    let heard = hear(AnthropicMessages, &looser);
    heard.assert_answers(1, "Hi");
    assert_eq!(heard.usage(), usage([None, None, Some(1), None]));
}

#[test]
fn errors_and_ends() {
    for (event, data, message, overloaded) in [
        (
            "error",
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "Overloaded",
            true,
        ),
        (
            "",
            r#"{"type":"error","error":{"type":"api_error","message":"boom"}}"#,
            "boom",
            false,
        ),
        ("", r#"{"error":{"message":"boom","code":500}}"#, "boom", false),
    ] {
        let error = named(AnthropicMessages, event, data).error.unwrap();
        assert_eq!(
            (error.message.as_str(), error.overloaded),
            (message, overloaded),
            "{data}"
        );
    }
    let text = r#"{"type":"content_block_delta","delta":{"text":"Hi"}}"#;
    // A stop reason is not the end, and neither is another API's word.
    let cut = hear(
        AnthropicMessages,
        &stream(
            AnthropicMessages,
            &[
                text,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
                "[DONE]",
            ],
        ),
    );
    assert!(!cut.is_finished() && cut.error().is_none());
    let late = stream(
        AnthropicMessages,
        &[
            text,
            r#"{"type":"message_stop"}"#,
            r#"{"type":"error","error":{"message":"boom"}}"#,
        ],
    );
    assert_eq!(hear(AnthropicMessages, &late).error(), Some("boom"));
    for data in ["{", "[]", "hello", r#"{"type":"content_block_delta","delta":7}"#] {
        assert!(is_malformed(AnthropicMessages, data), "{data}");
    }
}
