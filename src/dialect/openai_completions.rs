//! OpenAI completions: a prompt is continued. vLLM, SGLang, llama.cpp, TGI and others serve it, too.

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
        ("prompt".to_owned(), json!(messages::text(question))),
        ("stream".to_owned(), json!(true)),
        ("stream_options".to_owned(), json!({ "include_usage": true })),
        ("max_tokens".to_owned(), json!(max_tokens.0)),
    ])
}

#[derive(Deserialize)]
struct Choice<'a> {
    /// Empty for special tokens.
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    /// Gateways that put a reasoning model behind this API.
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

pub(super) fn decode(data: &[u8], said: &mut Said<'_>) -> Result<Delta, serde_json::Error> {
    let chunk: Chunk<'_> = object(data)?;
    let (mut finished, mut error) = (false, None);
    if let Some(choices) = chunk.choices {
        for_each(choices, |choice: Choice<'_>| {
            said.thought(choice.reasoning);
            said.text(choice.text);
            if let Some(reason) = choice.finish_reason.filter(|reason| is_something(reason)) {
                finished = true;
                error = error.take().or_else(|| given_up(reason));
            }
            Ok(())
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
