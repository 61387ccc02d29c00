//! OpenAI chat completions.

use llm_probe_exporter::dialect::{Dialect::OpenaiChat, Output};

use crate::{delta, hear, is_malformed, named, phases, recorded, stream, usage};

fn chunk(delta: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}],"usage":null}}"#)
}

#[test]
fn recorded_streams_mean_what_they_meant() {
    for (name, tokens, counts) in [
        (
            "llama-server/chat_stream_usage",
            24,
            [Some(34), Some(0), Some(24), None],
        ),
        // llama.cpp's times have the counts, too.
        (
            "llama-server/chat_stream_nousage",
            24,
            [Some(34), Some(33), Some(24), None],
        ),
        (
            "llama-server/chat_stream_ignore_eos",
            32,
            [Some(34), Some(33), Some(32), None],
        ),
        (
            "llama-server/chat_stream_logprobs",
            8,
            [Some(34), Some(33), Some(8), None],
        ),
        (
            "llama-server/chat_stream_tool",
            16,
            [Some(34), Some(33), Some(16), None],
        ),
        ("vllm/chat_stream_usage", 24, [Some(34), None, Some(24), None]),
        ("vllm/chat_stream_nousage", 24, [None; 4]),
        (
            "vllm/chat_stream_continuous_usage",
            8,
            [Some(34), None, Some(8), None],
        ),
        (
            "vllm/chat_stream_ignore_eos",
            32,
            [Some(34), None, Some(32), None],
        ),
    ] {
        let heard = hear(OpenaiChat, &recorded(name));
        let text = heard.text.visible.clone();
        heard.assert_answers(tokens, &text);
        assert!(!text.is_empty() && heard.deltas.last().unwrap().last, "{name}");
        assert_eq!(heard.usage(), usage(counts), "{name}");
    }
    let first = hear(OpenaiChat, &recorded("vllm/chat_stream_continuous_usage"));
    let first = first.deltas.iter().find(|delta| delta.output.is_some()).unwrap();
    assert_eq!(first.usage, usage([Some(34), None, Some(1), None]));
    let text = hear(OpenaiChat, &recorded("llama-server/chat_stream_usage"))
        .text
        .visible;
    assert!(text.starts_with("1. Red:"), "{text}");
}

#[test]
fn what_is_output() {
    use Output::{Both, Reasoning, Visible};
    for (data, output, text) in [
        (chunk(r#"{"content":"Hi"}"#), Some(Visible), "Hi"),
        (chunk(r#"{"content":" "}"#), Some(Visible), " "),
        (chunk(r#"{"content":"\n"}"#), Some(Visible), "\n"),
        (chunk(r#"{"content":"\u2028\ud83e\udd80"}"#), Some(Visible), "\u{2028}🦀"),
        (chunk(r#"{"role":"assistant","content":""}"#), None, ""),
        (chunk(r#"{"role":"assistant","content":null}"#), None, ""),
        (chunk("{}"), None, ""),
        (chunk("null"), None, ""),
        (chunk(r#"{"refusal":"No."}"#), Some(Visible), "No."),
        (chunk(r#"{"reasoning_content":"Hm"}"#), Some(Reasoning), ""),
        (chunk(r#"{"reasoning":"Hm","content":null}"#), Some(Reasoning), ""),
        (chunk(r#"{"reasoning":"Hm","reasoning_content":"Hm"}"#), Some(Reasoning), ""),
        (chunk(r#"{"reasoning":"Hm","reasoning_content":""}"#), Some(Reasoning), ""),
        (chunk(r#"{"reasoning":"Hm","content":"So"}"#), Some(Both), "So"),
        (chunk(r#"{"content":[{"type":"text","text":"So"}]}"#), Some(Visible), "So"),
        (chunk(r#"{"tool_calls":null}"#), None, ""),
        (chunk(r#"{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]}"#), Some(Visible), "f"),
        (chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}"#), Some(Visible), "{\"a"),
        (chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":""}}]}"#), None, ""),
        (chunk(r#"{"tool_calls":[{"index":0,"custom":{"name":"f","input":"x"}}]}"#), Some(Visible), "fx"),
        (chunk(r#"{"function_call":{"name":"f"}}"#), Some(Visible), "f"),
        // Azure: filter results only, before, between and after.
        (r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{}]}"#.into(), None, ""),
        (r#"{"choices":[{"index":0,"finish_reason":null,"content_filter_results":{},"content_filter_offsets":{}}]}"#.into(), None, ""),
        // Perplexity repeats the whole message.
        (r#"{"choices":[{"index":0,"delta":{"content":"b"},"message":{"content":"ab"}}]}"#.into(), Some(Visible), "b"),
        // Two choices.
        (r#"{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}"#.into(), Some(Visible), "ab"),
    ] {
        assert_eq!(delta(OpenaiChat, &data).output, output, "{data}");
        let heard = hear(OpenaiChat, &stream(OpenaiChat, &[&data]));
        assert_eq!(heard.text.visible, text, "{data}");
        let thought = matches!(output, Some(Reasoning | Both));
        assert_eq!(heard.text.reasoning, if thought { "Hm" } else { "" }, "{data}");
        assert!(!heard.is_finished(), "{data}");
    }
}

#[test]
fn the_end_and_the_last_word() {
    for (data, finished, last, output) in [
        (
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            true,
            false,
            None,
        ),
        ("[DONE]", true, true, None),
        (
            r#"{"choices":[{"index":0,"delta":{"content":"."},"finish_reason":"length"}]}"#,
            true,
            false,
            Some(Output::Visible),
        ),
        // Azure, after the end.
        (
            r#"{"choices":[{"index":0,"finish_reason":null,"content_filter_results":{}}]}"#,
            false,
            false,
            None,
        ),
        (
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":""}]}"#,
            false,
            false,
            None,
        ),
    ] {
        let delta = delta(OpenaiChat, data);
        assert_eq!(
            (delta.finished, delta.last, delta.output),
            (finished, last, output),
            "{data}"
        );
    }
    for body in [
        stream(
            OpenaiChat,
            &[
                &chunk(r#"{"content":"Hi"}"#),
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            ],
        ),
        format!(
            "data:{}\r\n\r\ndata: [DONE]\r\n\r\n",
            chunk(r#"{"content":"Hi"}"#)
        ),
        format!(": hi\n\ndata: {}\n\ndata: [DONE]", chunk(r#"{"content":"Hi"}"#)),
    ] {
        hear(OpenaiChat, &body).assert_answers(1, "Hi");
    }
}

#[test]
fn usage_is_read_wherever_it_stands() {
    for (data, counts) in [
        (
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}}"#,
            [Some(9), Some(0), Some(2), Some(1)],
        ),
        (
            r#"{"choices":[{"delta":{"content":"."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}}"#,
            [Some(9), None, Some(2), None],
        ),
        (
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"x","usage":{"prompt_tokens":9,"completion_tokens":2}}}"#,
            [Some(9), None, Some(2), None],
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":1}}"#,
            [Some(9), Some(8), Some(2), None],
        ),
        (
            r#"{"choices":[],"usage":{"completion_tokens":2.0}}"#,
            [None, None, Some(2), None],
        ),
        (r#"{"choices":[],"usage":null}"#, [None; 4]),
        (r#"{"choices":[],"usage":{}}"#, [None; 4]),
        (r#"{"choices":[],"x_groq":{"id":"x"}}"#, [None; 4]),
    ] {
        assert_eq!(delta(OpenaiChat, data).usage, usage(counts), "{data}");
    }
}

#[test]
fn times_of_the_server() {
    for (data, ms) in [
        (
            r#"{"choices":[],"timings":{"cache_n":3,"prompt_n":5,"prompt_ms":229.5,"predicted_n":7,"predicted_ms":640.0}}"#,
            [None, Some(229.5), Some(640.0)],
        ),
        (
            r#"{"choices":[],"usage":{"completion_tokens":2},"metrics":{"time_to_first_token_ms":80.0,"generation_time_ms":1240.0,"queue_time_ms":12.0,"mean_itl_ms":9.1,"tokens_per_second":103.2}}"#,
            [Some(12.0), Some(68.0), Some(1240.0)],
        ),
        (
            r#"{"choices":[],"x_groq":{"usage":{"queue_time":0.25,"prompt_time":0.5,"completion_time":1,"total_time":1.5}}}"#,
            [Some(250.0), Some(500.0), Some(1000.0)],
        ),
        (r#"{"choices":[],"metrics":null}"#, [None; 3]),
    ] {
        assert_eq!(delta(OpenaiChat, data).server_phases, phases(ms), "{data}");
    }
}

#[test]
fn errors_in_the_stream() {
    for (event, data, overloaded) in [
        (
            "",
            r#"{"error":{"message":"boom","type":"server_error","code":500}}"#,
            false,
        ),
        ("", r#"{"error":"boom"}"#, false),
        ("", r#"{"object":"error","message":"boom","code":400}"#, false),
        (
            "",
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"error"}],"error":{"code":503,"message":"boom"}}"#,
            true,
        ),
        ("", r#"{"choices":"none","error":{"message":"boom"}}"#, false),
        (
            "error",
            r#"{"code":500,"message":"boom","type":"server_error"}"#,
            false,
        ),
        (
            "error",
            r#"{"error":{"message":"boom","type":"overloaded_error"}}"#,
            true,
        ),
        ("error", "boom", false),
    ] {
        let error = named(OpenaiChat, event, data).error.unwrap();
        assert_eq!(
            (error.message.as_str(), error.overloaded),
            ("boom", overloaded),
            "{data}"
        );
    }
    for reason in ["error", "abort"] {
        let data = format!(r#"{{"choices":[{{"delta":{{"content":"a"}},"finish_reason":"{reason}"}}]}}"#);
        let delta = delta(OpenaiChat, &data);
        let message = delta.error.map(|error| error.message);
        assert_eq!(message, Some(format!("finish_reason {reason}")));
        assert!(!delta.finished && delta.output.is_some());
    }
    // First, in the middle, after the end.
    let (token, end) = (chunk(r#"{"content":"a"}"#), "[DONE]");
    let error = r#"{"error":{"message":"boom"}}"#;
    for frames in [[error, &token, end], [&token, error, end], [&token, end, error]] {
        let heard = hear(OpenaiChat, &stream(OpenaiChat, &frames));
        assert_eq!(heard.error(), Some("boom"));
    }
    // llama.cpp of old: a field that no parser of events knows.
    let heard = hear(OpenaiChat, "error: {\"code\":500,\"message\":\"boom\"}\n\n");
    assert_eq!(heard.error(), Some("boom"));
}

#[test]
fn what_is_not_the_protocol() {
    for data in [
        "{",
        "1",
        "[]",
        "hello",
        "{\"choices\":1}",
        "{\"choices\":[1]}",
        "{\"choices\":[{\"delta\":{\"content\":\"\u{0}\"}}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"\\x\"}}]}",
    ] {
        assert!(is_malformed(OpenaiChat, data), "{data}");
    }
    let invalid = b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n";
    assert!(crate::meaning(OpenaiChat, [invalid.as_slice()]).wrong.is_some());
}
