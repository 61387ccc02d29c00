//! llama.cpp's own completion of a prompt, which counts with each token and reports its own times.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    json::{Count, object},
    messages,
    openai_usage::{Timings, tokens},
    said::Said,
};
use crate::{
    prompt::{Cache, Question},
    units::Tokens,
    usage::Usage,
};

/// The server has one model, and the API no field for its name.
pub(super) fn body(question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    Map::from_iter([
        ("prompt".to_owned(), json!(messages::text(question))),
        ("stream".to_owned(), json!(true)),
        ("n_predict".to_owned(), json!(max_tokens.0)),
        ("cache_prompt".to_owned(), json!(question.cache == Cache::Share)),
    ])
}

/// A token; the last one has no content. Progress reports on the prompt have `prompt_progress` instead.
#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    stop: bool,
    #[serde(default)]
    tokens_predicted: Option<Count>,
    /// Tokens of the prompt, cached ones included.
    #[serde(default)]
    tokens_evaluated: Option<Count>,
    #[serde(default)]
    timings: Option<Timings>,
    #[serde(borrow, default)]
    prompt_progress: Option<&'a RawValue>,
}

pub(super) fn decode(data: &[u8], said: &mut Said<'_>) -> Result<Delta, serde_json::Error> {
    let step: Step<'_> = object(data)?;
    if step.prompt_progress.is_some() {
        return Ok(Delta::default());
    }
    said.text(step.content);
    let mut delta = Delta {
        usage: Usage {
            prompt: tokens(step.tokens_evaluated),
            output: tokens(step.tokens_predicted),
            ..Usage::default()
        },
        finished: step.stop,
        last: step.stop,
        ..Delta::default()
    };
    if let Some(timings) = step.timings {
        let counted = timings.usage();
        delta.usage.cached_prompt = counted.cached_prompt;
        delta.usage.output = counted.output.or(delta.usage.output);
        delta.usage.prompt = delta.usage.prompt.or(counted.prompt);
        delta.server_phases = timings.phases();
    }
    Ok(delta)
}
