//! Ollama's native chat, which reports its own times.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    json::{Count, for_each, object, server_time},
    messages,
    openai_chat::Call,
    openai_usage::tokens,
    said::Said,
};
use crate::{
    config::plan::Target,
    prompt::Question,
    units::Tokens,
    usage::{ServerPhases, Usage},
};

pub(super) fn body(target: &Target, question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    Map::from_iter([
        ("model".to_owned(), json!(target.model)),
        ("messages".to_owned(), messages::chat(question)),
        ("stream".to_owned(), json!(true)),
        ("options".to_owned(), json!({ "num_predict": max_tokens.0 })),
    ])
}

/// A line of either of Ollama's APIs. Every count and duration (in nanoseconds) is left out where it is zero.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    /// Of the chat.
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    /// Of the other API, and so is `thinking`.
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    load_duration: Option<f64>,
    #[serde(default)]
    prompt_eval_count: Option<Count>,
    #[serde(default)]
    prompt_eval_duration: Option<f64>,
    #[serde(default)]
    eval_count: Option<Count>,
    #[serde(default)]
    eval_duration: Option<f64>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    function: Option<Call<'a>>,
}

pub(super) fn decode(data: &[u8], said: &mut Said<'_>) -> Result<Delta, serde_json::Error> {
    let line: Line<'_> = object(data)?;
    if let Some(message) = &line.message {
        said.thought(message.thinking);
        said.text(message.content);
        if let Some(calls) = message.tool_calls {
            for_each(calls, |call: ToolCall<'_>| {
                if let Some(call) = call.function {
                    call.hear(said);
                }
                Ok(())
            })?;
        }
    }
    said.thought(line.thinking);
    said.text(line.response);
    let seconds = |nanos: Option<f64>| server_time(nanos? / 1e9);
    Ok(Delta {
        usage: Usage {
            prompt: tokens(line.prompt_eval_count),
            output: tokens(line.eval_count),
            ..Usage::default()
        },
        server_phases: ServerPhases {
            load: seconds(line.load_duration),
            prompt: seconds(line.prompt_eval_duration),
            decode: seconds(line.eval_duration),
        },
        finished: line.done,
        last: line.done,
        ..Delta::default()
    })
}
