//! OpenAI chat completions, as OpenAI, Azure, vLLM, SGLang, llama.cpp, Ollama and gateways speak it.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta, Output, api_error,
    brief::{brief, few, few_values, value},
    messages, object,
};
use crate::{
    config::plan::Target,
    framing::Frame,
    prompt::Question,
    units::{Seconds, Tokens},
    usage::{ServerPhases, Usage},
};

pub(super) fn body(target: &Target, question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    Map::from_iter([
        ("model".to_owned(), json!(target.model)),
        ("messages".to_owned(), messages(question)),
        ("stream".to_owned(), json!(true)),
        ("stream_options".to_owned(), json!({ "include_usage": true })),
        (target.max_tokens_field.to_owned(), json!(max_tokens.0)),
    ])
}

/// A chunk. Azure's first one has no choices, its filter results come in choices without a delta.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "few")]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<ChunkUsage>,
    #[serde(default)]
    timings: Option<Timings>,
    #[serde(default, deserialize_with = "brief")]
    error: Option<Value>,
    #[serde(default, deserialize_with = "brief")]
    object: Option<Value>,
    #[serde(default, deserialize_with = "brief")]
    message: Option<Value>,
    #[serde(default, deserialize_with = "brief")]
    code: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<ChunkDelta<'a>>,
    #[serde(default, deserialize_with = "brief")]
    finish_reason: Option<Value>,
}

#[derive(Deserialize)]
struct ChunkDelta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    /// `DeepSeek`, SGLang, llama.cpp, older vLLM.
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    /// vLLM, `OpenRouter`.
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "few_values")]
    tool_calls: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "brief")]
    function_call: Option<Value>,
}

#[derive(Deserialize)]
struct ChunkUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// llama.cpp's own times, in milliseconds.
#[derive(Deserialize)]
struct Timings {
    #[serde(default)]
    prompt_ms: Option<f64>,
    #[serde(default)]
    predicted_ms: Option<f64>,
}

pub(super) fn decode(frame: Frame<'_>) -> Result<Delta, serde_json::Error> {
    if frame.data.trim_ascii() == b"[DONE]" {
        return Ok(Delta {
            finished: true,
            last: true,
            ..Delta::default()
        });
    }
    if frame.event == b"error" {
        let error = value(&String::from_utf8_lossy(frame.data));
        let inner = error
            .get("error")
            .filter(|inner| !inner.is_null())
            .unwrap_or(&error);
        return Ok(Delta {
            error: Some(api_error(inner)),
            ..Delta::default()
        });
    }
    let chunk: Chunk<'_> = object(frame.data)?;
    Ok(Delta::from(chunk))
}

impl From<Chunk<'_>> for Delta {
    fn from(chunk: Chunk<'_>) -> Self {
        let error = match chunk.error {
            Some(error) => Some(api_error(&error)),
            // vLLM of old has the error's fields at the top.
            None if chunk.object.as_ref().and_then(Value::as_str) == Some("error") => Some(api_error(
                &json!({ "message": chunk.message, "code": chunk.code }),
            )),
            None => None,
        };
        let choices = chunk.choices.unwrap_or_default();
        let visible = choices
            .iter()
            .filter_map(|choice| choice.delta.as_ref())
            .any(ChunkDelta::is_visible);
        let thought = choices
            .iter()
            .filter_map(|choice| choice.delta.as_ref())
            .any(ChunkDelta::is_reasoning);
        Self {
            output: Output::of(visible, thought),
            usage: chunk.usage.map(Usage::from).unwrap_or_default(),
            server_phases: chunk.timings.map(ServerPhases::from).unwrap_or_default(),
            finished: choices.iter().any(|choice| choice.finish_reason.is_some()),
            last: false,
            error,
        }
    }
}

impl ChunkDelta<'_> {
    fn is_visible(&self) -> bool {
        let calls = self.tool_calls.iter().flatten().any(|call| {
            ["function", "custom"]
                .iter()
                .filter_map(|kind| call.get(kind))
                .any(names_or_argues)
        });
        says_something(self.content)
            || says_something(self.refusal)
            || calls
            || self.function_call.as_ref().is_some_and(names_or_argues)
    }

    fn is_reasoning(&self) -> bool {
        says_something(self.reasoning_content) || says_something(self.reasoning)
    }
}

/// A tool call that has a name, arguments or input.
fn names_or_argues(call: &Value) -> bool {
    ["name", "arguments", "input"]
        .iter()
        .filter_map(|field| call.get(field))
        .any(|value| !matches!(value, Value::Null) && value.as_str() != Some(""))
}

/// Text (white space counts), or a list of parts.
fn says_something(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| !matches!(value.get(), "null" | "\"\"" | "[]"))
}

impl From<ChunkUsage> for Usage {
    fn from(usage: ChunkUsage) -> Self {
        Self {
            prompt: usage.prompt_tokens.map(Tokens),
            cached_prompt: usage
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens)
                .map(Tokens),
            output: usage.completion_tokens.map(Tokens),
            reasoning: usage
                .completion_tokens_details
                .and_then(|details| details.reasoning_tokens)
                .map(Tokens),
        }
    }
}

impl From<Timings> for ServerPhases {
    fn from(timings: Timings) -> Self {
        let seconds = |ms: Option<f64>| ms.map(|ms| Seconds::new(ms / 1e3));
        Self {
            load: None,
            prompt: seconds(timings.prompt_ms),
            decode: seconds(timings.predicted_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(data: &str) -> Delta {
        decode(Frame {
            event: b"",
            data: data.as_bytes(),
            unterminated: false,
        })
        .unwrap()
    }

    fn chunk(delta: &str) -> String {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}],"usage":null}}"#)
    }

    #[test]
    fn what_is_output() {
        use Output::{Both, Reasoning, Visible};
        for (data, output) in [
            (chunk(r#"{"content":"Hi"}"#), Some(Visible)),
            (chunk(r#"{"content":" "}"#), Some(Visible)),
            (chunk(r#"{"content":"\n"}"#), Some(Visible)),
            (chunk(r#"{"role":"assistant","content":""}"#), None),
            (chunk(r#"{"role":"assistant","content":null}"#), None),
            (chunk("{}"), None),
            (chunk("null"), None),
            (chunk(r#"{"refusal":"No."}"#), Some(Visible)),
            (chunk(r#"{"reasoning_content":"Hm"}"#), Some(Reasoning)),
            (chunk(r#"{"reasoning":"Hm","content":null}"#), Some(Reasoning)),
            (chunk(r#"{"reasoning":"Hm","content":"So"}"#), Some(Both)),
            (chunk(r#"{"tool_calls":null}"#), None),
            (chunk(r#"{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]}"#), Some(Visible)),
            (chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}"#), Some(Visible)),
            (chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":""}}]}"#), None),
            (chunk(r#"{"tool_calls":[{"index":0,"custom":{"name":"f","input":"x"}}]}"#), Some(Visible)),
            (chunk(r#"{"function_call":{"name":"f"}}"#), Some(Visible)),
            // Azure: filter results only, before, between and after.
            (r#"{"choices":[],"id":"","model":"","prompt_filter_results":[{}]}"#.into(), None),
            (r#"{"choices":[{"index":0,"finish_reason":null,"content_filter_results":{},"content_filter_offsets":{}}]}"#.into(), None),
        ] {
            assert_eq!(delta(&data).output, output, "{data}");
        }
    }

    #[test]
    fn the_end_and_the_last_word() {
        let finish = delta(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
        assert_eq!(
            finish,
            Delta {
                finished: true,
                ..Delta::default()
            }
        );
        let done = delta("[DONE]");
        assert_eq!(
            done,
            Delta {
                finished: true,
                last: true,
                ..Delta::default()
            }
        );
        let both = delta(r#"{"choices":[{"index":0,"delta":{"content":"."},"finish_reason":"length"}]}"#);
        assert_eq!((both.output, both.finished), (Some(Output::Visible), true));
    }

    #[test]
    fn usage_is_read_wherever_it_stands() {
        let usage = delta(
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}}"#,
        );
        let tokens = |n| Some(Tokens(n));
        let expected = Usage {
            prompt: tokens(9),
            cached_prompt: tokens(0),
            output: tokens(2),
            reasoning: tokens(1),
        };
        assert_eq!((usage.usage, usage.output), (expected, None));
        let last = delta(
            r#"{"choices":[{"delta":{"content":"."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}}"#,
        );
        assert_eq!(
            (last.usage.output, last.usage.cached_prompt, last.finished),
            (tokens(2), None, true)
        );
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
            let frame = Frame {
                event: event.as_bytes(),
                data: data.as_bytes(),
                unterminated: false,
            };
            let error = decode(frame).unwrap().error.unwrap();
            assert_eq!(
                (error.message.as_str(), error.overloaded),
                ("boom", overloaded),
                "{data}"
            );
        }
    }

    #[test]
    fn what_is_not_the_protocol() {
        for data in [
            "{",
            "1",
            "[]",
            "hello",
            "{\"choices\":1}",
            "{\"choices\":[{\"delta\":{\"content\":\"\u{0}\"}}]}",
        ] {
            let frame = Frame {
                event: b"",
                data: data.as_bytes(),
                unterminated: false,
            };
            assert!(decode(frame).is_err(), "{data}");
        }
        let invalid = Frame {
            event: b"",
            data: b"{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}",
            unterminated: false,
        };
        assert!(decode(invalid).is_err());
    }

    #[test]
    fn llama_cpp_reports_its_times() {
        let timed =
            delta(r#"{"choices":[],"timings":{"prompt_n":5,"prompt_ms":229.5,"predicted_ms":640.0}}"#);
        let phases = timed.server_phases;
        assert_eq!(
            (phases.prompt, phases.decode),
            (Some(Seconds::new(0.2295)), Some(Seconds::new(0.64)))
        );
    }
}
