//! OpenAI chat completions, as OpenAI, Azure, vLLM, SGLang, llama.cpp, Ollama and gateways speak it.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    fault::given_up,
    json::{for_each, object},
    messages,
    openai_usage::Chunk,
    said::{Said, is_something},
};
use crate::{config::plan::Target, prompt::Question, units::Tokens};

pub(super) fn body(target: &Target, question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    Map::from_iter([
        ("model".to_owned(), json!(target.model)),
        ("messages".to_owned(), messages::chat(question)),
        ("stream".to_owned(), json!(true)),
        ("stream_options".to_owned(), json!({ "include_usage": true })),
        (target.max_tokens_field.to_owned(), json!(max_tokens.0)),
    ])
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<ChunkDelta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
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
    /// vLLM, `OpenRouter`. Some servers send both.
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<Call<'a>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    function: Option<Call<'a>>,
    #[serde(borrow, default)]
    custom: Option<Call<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

pub(super) fn decode(data: &[u8], said: &mut Said<'_>) -> Result<Delta, serde_json::Error> {
    let chunk: Chunk<'_> = object(data)?;
    let (mut finished, mut error) = (false, None);
    if let Some(choices) = chunk.choices {
        for_each(choices, |choice: Choice<'_>| {
            if let Some(reason) = choice.finish_reason.filter(|reason| is_something(reason)) {
                finished = true;
                error = error.take().or_else(|| given_up(reason));
            }
            choice.delta.map_or(Ok(()), |delta| delta.hear(said))
        })?;
    }
    Ok(Delta {
        usage: chunk.usage(),
        server_phases: chunk.phases(),
        finished: finished && error.is_none(),
        error,
        ..Delta::default()
    })
}

impl ChunkDelta<'_> {
    fn hear(&self, said: &mut Said<'_>) -> Result<(), serde_json::Error> {
        let thought = self.reasoning_content.filter(|thought| is_something(thought));
        said.thought(thought.or(self.reasoning));
        said.text(self.content);
        said.text(self.refusal);
        if let Some(calls) = self.tool_calls {
            for_each(calls, |call: ToolCall<'_>| {
                for call in [call.function, call.custom].iter().flatten() {
                    call.hear(said);
                }
                Ok(())
            })?;
        }
        if let Some(call) = &self.function_call {
            call.hear(said);
        }
        Ok(())
    }
}

impl Call<'_> {
    pub(super) fn hear(&self, said: &mut Said<'_>) {
        for part in [self.name, self.arguments, self.input] {
            said.text(part);
        }
    }
}
