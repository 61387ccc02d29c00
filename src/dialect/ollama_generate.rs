//! Ollama's native completion of one prompt. Its lines are those of the chat with the text in `response`.

use serde_json::{Map, Value, json};

use super::messages;
use crate::{config::plan::Target, prompt::Question, units::Tokens};

pub(super) fn body(target: &Target, question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(target.model)),
        ("prompt".to_owned(), json!(messages::transcript(question))),
        ("stream".to_owned(), json!(true)),
        ("options".to_owned(), json!({ "num_predict": max_tokens.0 })),
    ]);
    if let Some(system) = &question.system {
        body.insert("system".to_owned(), json!(system));
    }
    body
}
