//! vLLM's `/tokenize`: counts a prompt and generates nothing.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Prompt, Refused, check_model, prompt::Message, read};

#[derive(Deserialize)]
struct Body {
    model: String,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    prompt: Value,
}

/// The answer; `prompt` is empty and counts.
pub(in crate::sim) fn tokenize(
    body: &[u8],
    model: &str,
    mut prompt: Prompt,
    context: u64,
) -> Result<String, Refused> {
    let body: Body = read(body)?;
    check_model(&body.model, model)?;
    if body.messages.is_empty() {
        prompt.content(&body.prompt);
    } else {
        prompt = prompt.chat(&body.messages);
    }
    let tokens: Vec<u64> = (0..prompt.tokens).collect();
    let answer = json!({ "count": prompt.tokens, "max_model_len": context, "tokens": tokens });
    Ok(answer.to_string())
}
