//! `POST /api/chat`, as Ollama speaks it: one JSON object a line, durations in nanoseconds in the last one.

use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::json;

use super::{
    api::{Answer, Ask, DEFAULT_OUTPUT_TOKENS, Message, Part, Refused, Times, prompt_tokens},
    pace::monotonic_nanos,
};
use crate::clock::unix_now;

/// Nanoseconds to find a model that is loaded already. Ollama leaves out a duration of 0.
const LOADED: u64 = 1000;

#[derive(Deserialize)]
struct Body {
    model: String,
    #[serde(default)]
    messages: Vec<Message>,
    stream: Option<bool>,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    num_predict: Option<i64>,
}

pub(super) fn ask(body: &[u8], model: &str) -> Result<Ask, Refused> {
    let body: Body = serde_json::from_slice(body).map_err(|error| Refused::malformed(&error))?;
    if untagged(&body.model) != untagged(model) {
        return Err(Refused::unknown_model(&body.model));
    }
    let limit = body.options.and_then(|options| options.num_predict);
    Ok(Ask {
        prompt_tokens: prompt_tokens(&body.messages),
        output_tokens: match limit.and_then(|limit| u64::try_from(limit).ok()) {
            _ if body.messages.is_empty() => 0,
            // -1 and -2 are "as many as there are" and "until the context is full".
            None | Some(0) => DEFAULT_OUTPUT_TOKENS,
            Some(limit) => limit,
        },
        stream: body.stream.unwrap_or(true),
        usage: true,
    })
}

/// `name` and `name:latest` are the same.
fn untagged(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

pub(super) fn error(refused: &Refused) -> String {
    let message = match refused {
        Refused::Malformed(message) => message.clone(),
        Refused::UnknownModel(name) => format!("model '{name}' not found"),
        Refused::TooLong { .. } => "the input length exceeds the context length".to_owned(),
        // Two spaces, as in the original.
        Refused::QueueFull => "server busy, please try again.  maximum pending requests exceeded".to_owned(),
    };
    json!({ "error": message }).to_string()
}

pub(super) fn prefix(model: &str) -> String {
    format!(r#"{{"model":{model},"created_at":""#)
}

pub(super) fn render(answer: &Answer, prefix: &str, part: Part, times: &Times, out: &mut String) {
    match part {
        Part::Token(index) => {
            line(prefix, answer.token(index), out);
            out.push_str(r#""done":false}"#);
        }
        Part::Done => last(answer, prefix, "", times, out),
        Part::Role | Part::Finish | Part::Usage => return,
    }
    out.push('\n');
}

pub(super) fn whole(answer: &Answer, prefix: &str, times: &Times) -> String {
    let mut out = String::new();
    last(answer, prefix, &answer.text(), times, &mut out);
    out
}

/// All of a line up to `done`.
fn line(prefix: &str, content: &str, out: &mut String) {
    out.push_str(prefix);
    out.push_str(&timestamp(Duration::from_secs_f64(unix_now())));
    out.push_str(r#"","message":{"role":"assistant","content":""#);
    out.push_str(content);
    out.push_str(r#""},"#);
}

/// The final line. What is left of the total beside the three phases is waiting for a slot, as in Ollama.
fn last(answer: &Answer, prefix: &str, content: &str, times: &Times, out: &mut String) {
    line(prefix, content, out);
    if answer.ask.output_tokens == 0 {
        out.push_str(r#""done_reason":"load","done":true}"#);
        return;
    }
    let fields = format!(
        r#""done_reason":"length","done":true,"total_duration":{},"load_duration":{LOADED},"prompt_eval_count":{},"prompt_eval_duration":{},"eval_count":{},"eval_duration":{}}}"#,
        monotonic_nanos().saturating_sub(times.received),
        answer.ask.prompt_tokens,
        times.first_token.saturating_sub(times.admitted),
        answer.ask.output_tokens,
        times.last_token.saturating_sub(times.first_token),
    );
    out.push_str(&fields);
}

fn timestamp(since_epoch: Duration) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + since_epoch).to_string()
}

/// The body of `GET /api/tags`.
pub(super) fn tags(model: &str, created: Duration) -> String {
    json!({
        "models": [{
            "name": model,
            "model": model,
            "modified_at": timestamp(created),
            "size": 0,
            "digest": "",
            "details": {"format": "simulated", "family": "simulated", "families": ["simulated"]},
        }],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let ask = |body: &str| ask(body.as_bytes(), "m:latest");
        let base = Ask {
            prompt_tokens: 9,
            output_tokens: 128,
            stream: true,
            usage: true,
        };
        for (rest, expected) in [
            ("", base.clone()),
            (
                r#","stream":false"#,
                Ask {
                    stream: false,
                    ..base.clone()
                },
            ),
            (
                r#","options":{"num_predict":7,"seed":1},"think":false"#,
                Ask {
                    output_tokens: 7,
                    ..base.clone()
                },
            ),
            (r#","options":{"num_predict":-1}"#, base.clone()),
        ] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a b"}}]{rest}}}"#);
            assert_eq!(ask(&body), Ok(expected), "{body}");
        }
        assert_eq!(ask(r#"{"model":"m"}"#).unwrap().output_tokens, 0, "only load");
        for (body, status) in [("{", 400), (r#"{"model":1}"#, 400), (r#"{"model":"n"}"#, 404)] {
            assert_eq!(ask(body).map_err(|r| r.status()), Err(status), "{body}");
        }
    }

    #[test]
    fn errors_are_worded_as_ollama_does() {
        assert_eq!(
            error(&Refused::QueueFull),
            r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#
        );
        assert_eq!(
            error(&Refused::UnknownModel("x".into())),
            r#"{"error":"model 'x' not found"}"#
        );
    }
}
