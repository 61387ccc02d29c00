//! Anthropic messages, as Anthropic, vLLM, llama.cpp and gateways speak it. Unknown events are passed over: that
//! is the API's documented way to grow.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    json::{Count, object},
    messages,
    openai_usage::tokens,
    said::Said,
};
use crate::{config::plan::Target, prompt::Question, units::Tokens, usage::Usage};

/// The version of the API that is spoken; the API refuses requests without one.
pub(super) const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

pub(super) fn body(target: &Target, question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(target.model)),
        ("messages".to_owned(), messages::spoken(question)),
        ("stream".to_owned(), json!(true)),
        ("max_tokens".to_owned(), json!(max_tokens.0)),
    ]);
    if let Some(system) = &question.system {
        body.insert("system".to_owned(), json!(system));
    }
    body
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a str>,
    #[serde(default)]
    message: Option<Message>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<BlockDelta<'a>>,
    #[serde(default)]
    usage: Option<MessageUsage>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    usage: Option<MessageUsage>,
}

/// The start of a block. Text and thoughts are empty in it and come as deltas, but need not be.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a str>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
}

/// Signatures and citations are in none of these.
#[derive(Deserialize)]
struct BlockDelta<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    partial_json: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct MessageUsage {
    #[serde(default)]
    input_tokens: Option<Count>,
    #[serde(default)]
    cache_creation_input_tokens: Option<Count>,
    #[serde(default)]
    cache_read_input_tokens: Option<Count>,
    #[serde(default)]
    output_tokens: Option<Count>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Option<Count>,
    #[serde(default)]
    reasoning_tokens: Option<Count>,
}

/// The parts of the prompt, which the API counts apart, and tells once each or again with every report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prompt {
    uncached: Option<Count>,
    written: Option<Count>,
    read: Option<Count>,
}

impl Prompt {
    fn update(&mut self, usage: &MessageUsage) {
        self.uncached = usage.input_tokens.or(self.uncached);
        self.written = usage.cache_creation_input_tokens.or(self.written);
        self.read = usage.cache_read_input_tokens.or(self.read);
    }

    fn total(&self) -> Option<Tokens> {
        let Count(uncached) = self.uncached?;
        let cached = [self.written, self.read].into_iter().flatten();
        Some(Tokens(uncached + cached.map(|Count(count)| count).sum::<u64>()))
    }
}

/// `name` is that of the SSE event, which is the type of the payload.
pub(super) fn decode(
    name: &[u8],
    data: &[u8],
    prompt: &mut Prompt,
    said: &mut Said<'_>,
) -> Result<Delta, serde_json::Error> {
    let event: Event<'_> = object(data)?;
    let kind = event
        .r#type
        .or_else(|| std::str::from_utf8(name).ok())
        .unwrap_or_default();
    let is_start = kind == "message_start";
    if let ("content_block_start", Some(block)) = (kind, &event.content_block) {
        said.thought(block.thinking);
        said.text(block.text);
        if block.r#type.is_some_and(|kind| kind.ends_with("tool_use")) {
            said.shows();
            said.text(block.name);
        }
    }
    if let ("content_block_delta", Some(delta)) = (kind, &event.delta) {
        said.thought(delta.thinking);
        said.text(delta.text);
        said.text(delta.partial_json);
    }
    let mut delta = Delta::default();
    let reported = event
        .usage
        .or_else(|| event.message.and_then(|message| message.usage));
    if let Some(usage) = reported {
        prompt.update(&usage);
        let details = usage.output_tokens_details;
        let thoughts = details.and_then(|details| details.thinking_tokens.or(details.reasoning_tokens));
        delta.usage = Usage {
            prompt: prompt.total(),
            cached_prompt: tokens(prompt.read),
            // At the start it is a placeholder.
            output: tokens(usage.output_tokens.filter(|_| !is_start)),
            reasoning: tokens(thoughts),
        };
    }
    delta.finished = kind == "message_stop";
    delta.last = delta.finished;
    Ok(delta)
}
