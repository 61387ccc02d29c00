//! vLLM's `/tokenize`: how many tokens the prompt of a request has, without inference.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::{
    Dialect,
    json::{Count, object},
};
use crate::{config::plan::Target, units::Tokens};

/// What makes the prompt of a request; the rest says how to answer it.
const OF_THE_PROMPT: &[&str] = &[
    "model",
    "messages",
    "prompt",
    "chat_template",
    "chat_template_kwargs",
    "tools",
];

#[derive(Deserialize)]
struct Answer {
    count: Count,
}

impl Dialect {
    /// Where a server that has it counts; `None` where no server of that API has it, or nobody knows where.
    pub fn tokenize_address(self, target: &Target) -> Option<Url> {
        if !matches!(self, Self::OpenaiChat | Self::OpenaiCompletions) {
            return None;
        }
        let mut url = target.url.clone();
        let segments: Vec<_> = url.path_segments()?.filter(|part| !part.is_empty()).collect();
        if segments.last() != Some(&"v1") {
            return None;
        }
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .pop()
            .push("tokenize");
        Some(url)
    }
}

/// What to ask there, for the body of a request.
pub fn tokenize_body(request: &[u8]) -> Bytes {
    let mut fields: Map<String, Value> = serde_json::from_slice(request).unwrap_or_default();
    fields.retain(|name, _| OF_THE_PROMPT.contains(&name.as_str()));
    Value::Object(fields).to_string().into()
}

/// The tokens that the answer counts, if it is one.
pub fn tokens_counted(answer: &[u8]) -> Option<Tokens> {
    let Answer { count: Count(count) } = object(answer).ok()?;
    Some(Tokens(count))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_makes_the_prompt_is_asked() {
        let request = json!({ "model": "m", "messages": [], "stream": true, "max_tokens": 5,
            "chat_template_kwargs": { "enable_thinking": false } });
        let asked: Value = serde_json::from_slice(&tokenize_body(request.to_string().as_bytes())).unwrap();
        assert_eq!(
            asked,
            json!({ "model": "m", "messages": [], "chat_template_kwargs": { "enable_thinking": false } })
        );
    }

    #[test]
    fn only_a_count_is_one() {
        let counted = |answer: &str| tokens_counted(answer.as_bytes());
        assert_eq!(
            counted(r#"{"count":31,"max_model_len":4096,"tokens":[1,2]}"#),
            Some(Tokens(31))
        );
        // llama.cpp's counts the text alone, and says no number.
        for other in [
            r#"{"tokens":[1,2]}"#,
            r#"{"count":"31"}"#,
            "[31]",
            "31",
            "",
            "<html>",
        ] {
            assert_eq!(counted(other), None, "{other}");
        }
    }
}
