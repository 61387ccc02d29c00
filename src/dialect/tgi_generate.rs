//! Text Generation Inference's own stream. It answers 200 whatever happens: errors are in the stream.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    json::{Count, object},
    messages,
    openai_usage::tokens,
    said::Said,
};
use crate::{prompt::Question, units::Tokens, usage::Usage};

/// The server has one model, and the API no field for its name.
pub(super) fn body(question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    let parameters = json!({
        "max_new_tokens": max_tokens.0,
        // Without it the server does not say how many tokens there were.
        "details": true,
        "decoder_input_details": false,
    });
    Map::from_iter([
        ("inputs".to_owned(), json!(messages::text(question))),
        ("parameters".to_owned(), parameters),
    ])
}

#[derive(Deserialize)]
struct Step<'a> {
    #[serde(borrow, default)]
    token: Option<Token<'a>>,
    /// The whole text, in the last event.
    #[serde(borrow, default)]
    generated_text: Option<&'a RawValue>,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    /// The end of the sequence and the like, which nobody sees.
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    generated_tokens: Option<Count>,
    #[serde(default)]
    input_length: Option<Count>,
}

pub(super) fn decode(data: &[u8], said: &mut Said<'_>) -> Result<Delta, serde_json::Error> {
    let step: Step<'_> = object(data)?;
    if let Some(token) = step.token.filter(|token| !token.special) {
        said.text(token.text);
    }
    let is_end = step.generated_text.is_some();
    let usage = step.details.map(|details| Usage {
        prompt: tokens(details.input_length),
        output: tokens(details.generated_tokens),
        ..Usage::default()
    });
    Ok(Delta {
        usage: usage.unwrap_or_default(),
        finished: is_end,
        last: is_end,
        ..Delta::default()
    })
}
