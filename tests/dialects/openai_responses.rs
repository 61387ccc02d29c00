//! OpenAI responses.

use llm_probe_exporter::dialect::{Dialect::OpenaiResponses, Output};

use crate::{delta, hear, is_malformed, named, phases, recorded, stream, usage};

#[test]
fn a_recorded_stream_means_what_it_meant() {
    let heard = hear(OpenaiResponses, &recorded("llama-server/responses_stream"));
    heard.assert_answers(
        24,
        "There are so many different colours out there, but I'm happy to help explain it all to you. You're right",
    );
    assert!(heard.deltas.last().unwrap().last);
    assert_eq!(heard.usage(), usage([Some(34), Some(33), Some(24), None]));
    assert_eq!(heard.phases(), phases([None, Some(19.88), Some(702.803)]));
}

#[test]
fn what_is_output() {
    use Output::{Reasoning, Visible};
    for (data, output) in [
        (
            r#"{"type":"response.created","response":{"id":"r","status":"in_progress","error":null}}"#,
            None,
        ),
        (r#"{"type":"response.queued","response":{}}"#, None),
        (
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
            None,
        ),
        (
            r#"{"type":"response.output_item.added","item":{"type":"message","content":[]}}"#,
            None,
        ),
        (
            r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f","arguments":""}}"#,
            Some(Visible),
        ),
        (
            r#"{"type":"response.output_item.added","item":{"type":"custom_tool_call","name":"f"}}"#,
            Some(Visible),
        ),
        (
            r#"{"type":"response.reasoning_summary_part.added","part":{"type":"summary_text","text":""}}"#,
            None,
        ),
        (
            r#"{"type":"response.reasoning_summary_text.delta","item_id":"i","summary_index":0,"delta":"Hm"}"#,
            Some(Reasoning),
        ),
        (
            r#"{"type":"response.reasoning_text.delta","content_index":0,"delta":"Hm"}"#,
            Some(Reasoning),
        ),
        (
            r#"{"type":"response.content_part.added","part":{"type":"output_text","text":""}}"#,
            None,
        ),
        (
            r#"{"type":"response.output_text.delta","delta":"Hi","logprobs":[],"obfuscation":"xyz"}"#,
            Some(Visible),
        ),
        (r#"{"type":"response.output_text.delta","delta":""}"#, None),
        (
            r#"{"type":"response.refusal.delta","delta":"No."}"#,
            Some(Visible),
        ),
        (
            r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#,
            Some(Visible),
        ),
        (
            r#"{"type":"response.custom_tool_call_input.delta","delta":"x"}"#,
            Some(Visible),
        ),
        // What was said is said again at the end, and is no output then.
        (r#"{"type":"response.output_text.done","text":"Hi"}"#, None),
        (r#"{"type":"response.reasoning_text.done","text":"Hm"}"#, None),
        (
            r#"{"type":"response.function_call_arguments.done","arguments":"{}"}"#,
            None,
        ),
        (
            r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"f"}}"#,
            None,
        ),
        (r#"{"type":"response.something.new","delta":7}"#, None),
        (r#"{"type":"keepalive"}"#, None),
    ] {
        let delta = delta(OpenaiResponses, data);
        assert_eq!(
            (delta.output, delta.finished, delta.error),
            (output, false, None),
            "{data}"
        );
    }
    // The type in the event's name alone.
    let unnamed = named(OpenaiResponses, "response.output_text.delta", r#"{"delta":"Hi"}"#);
    assert_eq!(unnamed.output, Some(Visible));
}

#[test]
fn the_ends() {
    let counts = r#""usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":15},"total_tokens":29}"#;
    for (kind, more) in [
        ("completed", ""),
        (
            "incomplete",
            r#","incomplete_details":{"reason":"max_output_tokens"}"#,
        ),
    ] {
        let data = format!(
            r#"{{"type":"response.{kind}","response":{{"error":null,{counts}{more}}},"sequence_number":9}}"#
        );
        let end = delta(OpenaiResponses, &data);
        assert!(end.finished && end.last && end.error.is_none(), "{data}");
        assert_eq!(end.usage, usage([Some(9), Some(4), Some(20), Some(15)]));
    }
    let bare = delta(
        OpenaiResponses,
        r#"{"type":"response.completed","response":{"usage":null}}"#,
    );
    assert_eq!((bare.finished, bare.usage), (true, usage([None; 4])));
    // vLLM and gateways may add what belongs to another API: it ends nothing.
    let done = delta(OpenaiResponses, "[DONE]");
    assert_eq!((done.finished, done.last), (false, true));
}

#[test]
fn failures() {
    for (data, message, overloaded) in [
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"boom"}}}"#,
            "boom",
            false,
        ),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_is_overloaded","message":"busy"}}}"#,
            "busy",
            true,
        ),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":null}}"#,
            "response.failed without an error",
            false,
        ),
        (
            r#"{"type":"error","code":"server_error","message":"boom","param":null,"sequence_number":3}"#,
            "boom",
            false,
        ),
        (r#"{"error":{"message":"boom"}}"#, "boom", false),
    ] {
        let error = delta(OpenaiResponses, data).error.unwrap();
        assert_eq!(
            (error.message.as_str(), error.overloaded),
            (message, overloaded),
            "{data}"
        );
    }
    let late = stream(
        OpenaiResponses,
        &[
            r#"{"type":"response.output_text.delta","delta":"Hi"}"#,
            r#"{"type":"response.completed","response":{}}"#,
            r#"{"type":"error","message":"boom"}"#,
        ],
    );
    assert_eq!(hear(OpenaiResponses, &late).error(), Some("boom"));
    for data in ["{", "[]", "7", r#"{"type":"response.completed","response":7}"#] {
        assert!(is_malformed(OpenaiResponses, data), "{data}");
    }
}
