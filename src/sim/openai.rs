//! `POST /v1/chat/completions`, framed as vLLM frames it: server-sent events, the role frame with the first
//! token, the usage in a frame of its own, `[DONE]`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{Answer, Ask, DEFAULT_OUTPUT_TOKENS, Message, Part, Refused, prompt_tokens},
    engine::Id,
};

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Message>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

pub(super) fn ask(body: &[u8], model: &str) -> Result<Ask, Refused> {
    let body: Body = serde_json::from_slice(body).map_err(|error| Refused::malformed(&error))?;
    if body.model != model {
        return Err(Refused::unknown_model(&body.model));
    }
    if body.messages.is_empty() {
        return Err(Refused::Malformed("messages must not be empty".to_owned()));
    }
    let limit = body.max_completion_tokens.or(body.max_tokens);
    if limit == Some(0) {
        return Err(Refused::Malformed(
            "max_tokens must be at least 1, got 0.".to_owned(),
        ));
    }
    Ok(Ask {
        prompt_tokens: prompt_tokens(&body.messages),
        output_tokens: limit.unwrap_or(DEFAULT_OUTPUT_TOKENS),
        stream: body.stream.unwrap_or(false),
        usage: body
            .stream_options
            .and_then(|options| options.include_usage)
            .unwrap_or(false),
    })
}

pub(super) fn error(refused: &Refused) -> String {
    let (message, kind, param) = match refused {
        Refused::Malformed(message) => (message.clone(), "Bad Request", None),
        Refused::UnknownModel(name) => (
            format!("The model `{name}` does not exist."),
            "NotFoundError",
            Some("model"),
        ),
        Refused::TooLong { asked, limit } => (
            format!(
                "This model's maximum context length is {limit} tokens. However, you requested {asked} tokens. \
                 Please reduce the length of the input prompt or the number of requested output tokens."
            ),
            "BadRequestError",
            None,
        ),
        Refused::QueueFull => (
            "The server has too many requests in flight; please try again later.".to_owned(),
            "ServiceUnavailableError",
            None,
        ),
    };
    json!({"error": {"message": message, "type": kind, "param": param, "code": refused.status()}}).to_string()
}

/// What every frame but `[DONE]` begins with.
pub(super) fn prefix(id: Id, created: Duration, model: &str) -> String {
    format!(
        r#"data: {{"id":"chatcmpl-sim-{}","object":"chat.completion.chunk","created":{},"model":{model},"choices":["#,
        id.0,
        created.as_secs()
    )
}

pub(super) fn render(answer: &Answer, prefix: &str, part: Part, out: &mut String) {
    if part != Part::Done {
        out.push_str(prefix);
    }
    match part {
        Part::Role => out.push_str(
            r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
        ),
        Part::Token(index) => {
            out.push_str(r#"{"index":0,"delta":{"content":""#);
            out.push_str(answer.token(index));
            out.push_str(r#""},"logprobs":null,"finish_reason":null}]}"#);
        }
        Part::Finish => out.push_str(
            r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"length","stop_reason":null}]}"#,
        ),
        Part::Usage => {
            out.push_str(r#"],"usage":"#);
            out.push_str(&usage(&answer.ask).to_string());
            out.push('}');
        }
        Part::Done => out.push_str("data: [DONE]"),
    }
    out.push_str("\n\n");
}

fn usage(ask: &Ask) -> Value {
    json!({
        "prompt_tokens": ask.prompt_tokens,
        "total_tokens": ask.prompt_tokens + ask.output_tokens,
        "completion_tokens": ask.output_tokens,
    })
}

pub(super) fn whole(answer: &Answer) -> String {
    format!(
        r#"{{"id":"chatcmpl-sim-{}","object":"chat.completion","created":{},"model":{},"choices":{},"usage":{}}}"#,
        answer.id.0,
        answer.created.as_secs(),
        answer.model,
        json!([{
            "index": 0,
            "message": {"role": "assistant", "content": answer.text(), "refusal": null},
            "logprobs": null,
            "finish_reason": "length",
        }]),
        usage(&answer.ask)
    )
}

/// The body of `GET /v1/models`.
pub(super) fn models(model: &str, created: Duration, context: u64) -> String {
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
    fn requests_are_read() {
        let ask = |body: &str| ask(body.as_bytes(), "m");
        let messages = r#""model":"m","messages":[{"role":"user","content":"a b"}]"#;
        let base = Ask {
            prompt_tokens: 9,
            output_tokens: 128,
            stream: false,
            usage: false,
        };
        assert_eq!(ask(&format!("{{{messages}}}")), Ok(base.clone()));
        for limit in [r#""max_tokens":7"#, r#""max_tokens":9,"max_completion_tokens":7"#] {
            let full = format!(
                r#"{{{messages},{limit},"stream":true,"stream_options":{{"include_usage":true}},"temperature":0,"ignore_eos":true}}"#
            );
            let expected = Ask {
                output_tokens: 7,
                stream: true,
                usage: true,
                ..base.clone()
            };
            assert_eq!(ask(&full), Ok(expected));
        }
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("[]", 400),
            (r#"{"model":"m"}"#, 400),
            (r#"{"model":"m","messages":[]}"#, 400),
            (r#"{"messages":[{}]}"#, 400),
            (r#"{"model":"m","messages":[{}],"max_tokens":0}"#, 400),
            (r#"{"model":"m","messages":[{}],"max_tokens":-1}"#, 400),
            (r#"{"model":"M","messages":[{}]}"#, 404),
        ] {
            assert_eq!(ask(body).map_err(|r| r.status()), Err(status), "{body}");
        }
    }

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
