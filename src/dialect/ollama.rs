//! Ollama's native chat, which reports its own times.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta, Output, api_error,
    brief::{brief, few_values},
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
        ("options".to_owned(), json!({ "num_predict": max_tokens.0 })),
    ])
}

/// A line. Every count and duration (in nanoseconds) is left out where it is zero.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    load_duration: Option<u64>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    prompt_eval_duration: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(default)]
    eval_duration: Option<u64>,
    #[serde(default, deserialize_with = "brief")]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "few_values")]
    tool_calls: Option<Vec<Value>>,
}

pub(super) fn decode(frame: Frame<'_>) -> Result<Delta, serde_json::Error> {
    let line: Line<'_> = object(frame.data)?;
    let says = |text: Option<&RawValue>| text.is_some_and(|text| !matches!(text.get(), "null" | "\"\""));
    let message = line.message.as_ref();
    let visible = message.is_some_and(|message| {
        says(message.content) || message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
    });
    let thought = message.is_some_and(|message| says(message.thinking));
    let seconds = |nanos: Option<u64>| nanos.map(|nanos| Seconds::new(nanos as f64 / 1e9));
    Ok(Delta {
        output: Output::of(visible, thought),
        usage: Usage {
            prompt: line.prompt_eval_count.map(Tokens),
            output: line.eval_count.map(Tokens),
            ..Usage::default()
        },
        server_phases: ServerPhases {
            load: seconds(line.load_duration),
            prompt: seconds(line.prompt_eval_duration),
            decode: seconds(line.eval_duration),
        },
        finished: line.done,
        last: line.done,
        error: line.error.as_ref().map(api_error),
    })
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

    #[test]
    fn lines_are_read() {
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
        ] {
            assert_eq!(
                delta(data),
                Delta {
                    output,
                    ..Delta::default()
                },
                "{data}"
            );
        }
    }

    #[test]
    fn the_final_line_counts_and_times() {
        let last = delta(
            r#"{"message":{"content":""},"done":true,"done_reason":"stop","total_duration":900000000,"load_duration":5000000,"prompt_eval_count":26,"prompt_eval_duration":200000000,"eval_count":64,"eval_duration":640000000}"#,
        );
        assert!(last.finished && last.last && last.output.is_none());
        assert_eq!(
            (last.usage.prompt, last.usage.output),
            (Some(Tokens(26)), Some(Tokens(64)))
        );
        let phases = last.server_phases;
        assert_eq!(phases.load, Some(Seconds::new(0.005)));
        assert_eq!(phases.prompt, Some(Seconds::new(0.2)));
        assert_eq!(phases.decode, Some(Seconds::new(0.64)));
        // Nothing reported is nothing known.
        assert_eq!(delta(r#"{"done":true}"#).usage, Usage::default());
    }

    #[test]
    fn an_error_line_is_an_error() {
        let error = delta(r#"{"error":"an error was encountered while running the model"}"#)
            .error
            .unwrap();
        assert!(!error.overloaded && error.message.starts_with("an error"));
        assert!(
            decode(Frame {
                event: b"",
                data: b"<html>",
                unterminated: true
            })
            .is_err()
        );
    }
}
