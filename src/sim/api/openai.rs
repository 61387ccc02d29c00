//! What OpenAI's APIs have in common, worded as vLLM words it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Refused, Thoughts, UsageIn};

#[derive(Default, Deserialize)]
pub(super) struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

impl StreamOptions {
    pub(super) fn usage(&self) -> UsageIn {
        match (self.include_usage, self.continuous_usage_stats) {
            (Some(true), Some(true)) => UsageIn::EveryFrame,
            (Some(true), _) => UsageIn::Place,
            _ => UsageIn::Nowhere,
        }
    }
}

/// The body of an error.
pub(super) fn error(refused: &Refused) -> String {
    let (code, kind) = match refused {
        Refused::Malformed(_) => (400, "Bad Request"),
        Refused::TooLong { .. } => (400, "BadRequestError"),
        Refused::UnknownModel(_) => (404, "NotFoundError"),
        Refused::QueueFull => (503, "ServiceUnavailableError"),
        Refused::Status(code) => (
            *code,
            match code {
                401 => "AuthenticationError",
                403 => "PermissionDeniedError",
                404 => "NotFoundError",
                429 => "RateLimitError",
                503 | 529 => "ServiceUnavailableError",
                500.. => "InternalServerError",
                _ => "BadRequestError",
            },
        ),
    };
    let param = matches!(refused, Refused::UnknownModel(_)).then_some("model");
    json!({"error": {"message": refused.message(), "type": kind, "param": param, "code": code}}).to_string()
}

/// The usage after `tokens` tokens of the answer.
pub(super) fn usage(answer: &Answer, tokens: u64) -> Value {
    let prompt = answer.ask.prompt.tokens;
    let mut usage = json!({
        "prompt_tokens": prompt,
        "total_tokens": prompt + tokens,
        "completion_tokens": tokens,
    });
    if let (Some(cached), Some(fields)) = (answer.cached, usage.as_object_mut()) {
        fields.insert("prompt_tokens_details".into(), json!({"cached_tokens": cached}));
    }
    if let (1.., Some(fields)) = (answer.reasoning.tokens, usage.as_object_mut()) {
        let reasoning = answer.visible_from().min(tokens);
        fields.insert(
            "completion_tokens_details".into(),
            json!({"reasoning_tokens": reasoning}),
        );
    }
    usage
}

/// Appends what comes after `choices`, up to the end of the frame.
pub(super) fn end_of_frame(answer: &Answer, tokens: u64, out: &mut String) {
    if answer.usage == UsageIn::EveryFrame {
        out.push_str(r#","usage":"#);
        out.push_str(&usage(answer, tokens).to_string());
    }
    out.push_str("}\n\n");
}

/// Appends `choices` of the frame that has only the usage, and the usage.
pub(super) fn usage_frame(answer: &Answer, out: &mut String) {
    out.push_str(r#"],"usage":"#);
    out.push_str(&usage(answer, answer.ask.output_tokens).to_string());
    out.push_str("}\n\n");
}

/// The field of a delta that has the thoughts.
pub(super) fn thoughts_field(answer: &Answer) -> &'static str {
    match answer.reasoning.thoughts {
        Thoughts::ReasoningContent => "reasoning_content",
        Thoughts::Reasoning | Thoughts::Hidden => "reasoning",
    }
}

/// The body of `GET /v1/models`.
pub(in crate::sim) fn models(model: &str, created: Duration, context: u64) -> String {
    json!({
        "object": "list",
        "data": [{
            "id": model,
            "object": "model",
            "created": created.as_secs(),
            "owned_by": "llm-probe-exporter",
            "root": model,
            "parent": null,
            "max_model_len": context,
        }],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_worded_as_vllm_does() {
        for (refused, expected) in [
            (
                Refused::UnknownModel("x\"".into()),
                r#"{"error":{"code":404,"message":"The model `x\"` does not exist.","param":"model","type":"NotFoundError"}}"#,
            ),
            (
                Refused::QueueFull,
                r#"{"error":{"code":503,"message":"The server has too many requests in flight; please try again later.","param":null,"type":"ServiceUnavailableError"}}"#,
            ),
        ] {
            assert_eq!(error(&refused), expected);
        }
    }
}
