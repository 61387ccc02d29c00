//! OpenAI responses: named events, and no `[DONE]`.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    fault::{ApiError, api_error},
    json::{Count, object},
    openai_usage::{Timings, tokens},
    said::Said,
};
use crate::{
    config::plan::Target,
    prompt::{Message, Question, Role},
    units::Tokens,
    usage::Usage,
};

/// What `max_output_tokens` is at least.
pub(super) const FEWEST_TOKENS: Tokens = Tokens(16);

pub(super) fn body(target: &Target, question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(target.model)),
        ("input".to_owned(), question.messages.iter().map(item).collect()),
        ("stream".to_owned(), json!(true)),
        ("max_output_tokens".to_owned(), json!(max_tokens.0)),
        // A probe's answers are nothing to keep.
        ("store".to_owned(), json!(false)),
    ]);
    if let Some(system) = &question.system {
        body.insert("instructions".to_owned(), json!(system));
    }
    body
}

/// An item of the input. What the model said has the form in which the API says it, which llama.cpp insists on.
fn item(message: &Message) -> Value {
    match message.role {
        Role::User => json!({ "type": "message", "role": "user", "content": message.content }),
        Role::Assistant => {
            let text = json!({ "type": "output_text", "text": message.content, "annotations": [] });
            json!({ "type": "message", "role": "assistant", "status": "completed", "content": [text] })
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a str>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    /// llama.cpp's, beside the response.
    #[serde(default)]
    timings: Option<Timings>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a str>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    usage: Option<ResponseUsage>,
}

#[derive(Deserialize)]
struct ResponseUsage {
    #[serde(default)]
    input_tokens: Option<Count>,
    #[serde(default)]
    output_tokens: Option<Count>,
    #[serde(default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<Count>,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<Count>,
}

/// `name` is that of the SSE event, which is the type of the payload; servers leave out one or the other.
pub(super) fn decode(name: &[u8], data: &[u8], said: &mut Said<'_>) -> Result<Delta, serde_json::Error> {
    let event: Event<'_> = object(data)?;
    let kind = event
        .r#type
        .or_else(|| std::str::from_utf8(name).ok())
        .unwrap_or_default();
    let end = match kind {
        "response.completed" | "response.incomplete" => true,
        "response.failed" => return failed(event.response),
        "response.output_item.added" => {
            let item: Item<'_> = event
                .item
                .map(|item| object(item.get().as_bytes()))
                .transpose()?
                .unwrap_or(Item {
                    r#type: None,
                    name: None,
                });
            if let Some("function_call" | "custom_tool_call" | "mcp_call") = item.r#type {
                said.shows();
                said.text(item.name);
            }
            false
        }
        _ => {
            if let Some(part) = kind.strip_suffix(".delta") {
                if part.starts_with("response.reasoning") {
                    said.thought(event.delta);
                } else {
                    said.text(event.delta);
                }
            }
            false
        }
    };
    let usage = match event.response.filter(|_| end) {
        Some(response) => object::<Response<'_>>(response.get().as_bytes())?.usage,
        None => None,
    };
    let mut delta = Delta {
        finished: end,
        last: end,
        ..Delta::default()
    };
    if let Some(timings) = event.timings {
        delta.usage = timings.usage();
        delta.server_phases = timings.phases();
    }
    delta.usage.update(usage.map(Usage::from).unwrap_or_default());
    Ok(delta)
}

fn failed(response: Option<&RawValue>) -> Result<Delta, serde_json::Error> {
    let error = match response {
        Some(response) => object::<Response<'_>>(response.get().as_bytes())?.error,
        None => None,
    };
    Ok(Delta {
        error: Some(error.map_or_else(
            || ApiError::new("response.failed without an error"),
            |error| api_error(error, None),
        )),
        ..Delta::default()
    })
}

impl From<ResponseUsage> for Usage {
    fn from(usage: ResponseUsage) -> Self {
        let cached = usage
            .input_tokens_details
            .and_then(|details| details.cached_tokens);
        let reasoning = usage
            .output_tokens_details
            .and_then(|details| details.reasoning_tokens);
        Self {
            prompt: tokens(usage.input_tokens),
            cached_prompt: tokens(cached),
            output: tokens(usage.output_tokens),
            reasoning: tokens(reasoning),
        }
    }
}
