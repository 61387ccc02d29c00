//! `POST /completion`, as llama.cpp's own server speaks it: the last event has `stop: true` and the timings.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, DEFAULT_OUTPUT_TOKENS, Part, Progress, Prompt, Refused, Route, UsageIn, Wire, data, read,
};

#[derive(Deserialize)]
struct Body {
    prompt: Value,
    n_predict: Option<i64>,
    stream: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Llamacpp;

impl Wire for Llamacpp {
    fn ask(&self, body: &[u8], _route: &Route, _model: &str, mut prompt: Prompt) -> Result<Ask, Refused> {
        let body: Body = read(body)?;
        prompt.content(&body.prompt);
        let limit = body.n_predict.and_then(|limit| u64::try_from(limit).ok());
        Ok(Ask {
            prompt,
            output_tokens: limit.filter(|limit| *limit > 0).unwrap_or(DEFAULT_OUTPUT_TOKENS),
            stream: body.stream.unwrap_or(false),
            ..Ask::default()
        })
    }

    fn closing(&self, _answer: &Answer) -> &'static [Part] {
        &[Part::Done]
    }

    fn render(&self, answer: &Answer, part: Part, progress: &Progress, out: &mut String) {
        match part {
            Part::Done => data(out, &last(answer, progress, "")),
            part => {
                let (from, to) = match part {
                    Part::Tokens { from, to } => (from, to),
                    _ => (progress.tokens, progress.tokens),
                };
                out.push_str(r#"data: {"index":0,"content":""#);
                answer.tokens(from, to, out);
                let ids: Vec<u64> = (from..to).map(|index| 100 + index).collect();
                write!(out, r#"","tokens":{ids:?},"stop":false,"id_slot":-1"#)
                    .expect("a String takes everything");
                if answer.usage != UsageIn::Nowhere {
                    let prompt = answer.ask.prompt.tokens;
                    write!(out, r#","tokens_predicted":{to},"tokens_evaluated":{prompt}"#)
                        .expect("a String takes everything");
                }
                out.push_str("}\n\n");
            }
        }
    }

    fn whole(&self, answer: &Answer, progress: &Progress) -> String {
        last(answer, progress, &answer.text()).to_string()
    }

    fn error(&self, refused: &Refused) -> String {
        let (code, kind) = match refused {
            Refused::QueueFull => (503, "unavailable_error"),
            Refused::TooLong { asked, limit } => {
                return json!({"error": {
                    "code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": asked, "n_ctx": limit,
                    "message": format!("request ({asked} tokens) exceeds the available context size ({limit} tokens), try increasing it"),
                }})
                .to_string();
            }
            Refused::Malformed(_) | Refused::UnknownModel(_) => (400, "invalid_request_error"),
            Refused::Status(code) => (
                *code,
                match code {
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    503 | 529 => "unavailable_error",
                    500.. => "server_error",
                    _ => "invalid_request_error",
                },
            ),
        };
        json!({"error": {"code": code, "message": refused.message(), "type": kind}}).to_string()
    }

    /// As builds up to 2025 did it: `error` is a field of its own, which the standard tells to ignore.
    fn error_frame(&self, refused: &Refused, _progress: &Progress, out: &mut String) {
        let error: Value = serde_json::from_str(&self.error(refused)).unwrap_or_default();
        out.push_str("error: ");
        out.push_str(&error.get("error").unwrap_or(&error).to_string());
        out.push_str("\n\n");
    }

    fn comment(&self) -> &'static str {
        ":\n\n"
    }
}

fn last(answer: &Answer, progress: &Progress, content: &str) -> Value {
    let tokens = answer.ask.output_tokens;
    let mut json = json!({
        "index": 0,
        "content": content,
        "tokens": [],
        "id_slot": 0,
        "stop": true,
        "model": serde_json::from_str::<Value>(&answer.model).unwrap_or_default(),
        "generation_settings": {"temperature": 0.0, "n_predict": tokens, "stream": answer.ask.stream},
        "prompt": "",
        "has_new_line": false,
        "truncated": false,
        "stop_type": "limit",
        "stopping_word": "",
    });
    if let (true, Some(fields)) = (answer.usage != UsageIn::Nowhere, json.as_object_mut()) {
        let prompt = answer.ask.prompt.tokens;
        let cached = prompt + tokens - 1.min(tokens);
        for (name, count) in [
            ("tokens_predicted", tokens),
            ("tokens_evaluated", prompt),
            ("tokens_cached", cached),
        ] {
            fields.insert(name.into(), count.into());
        }
        fields.insert("timings".into(), timings(answer, progress));
    }
    json
}

fn timings(answer: &Answer, progress: &Progress) -> Value {
    let millis = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
    let phase = |tokens: u64, ms: f64| (ms / tokens.max(1) as f64, tokens as f64 / ms.max(1e-6) * 1e3);
    let prompt_ms = millis(progress.admitted, progress.first_token);
    let predicted_ms = millis(progress.first_token, progress.last_token);
    let (prompt_n, predicted_n) = (answer.uncached(), answer.ask.output_tokens);
    let (prompt_each, prompt_rate) = phase(prompt_n, prompt_ms);
    let (predicted_each, predicted_rate) = phase(predicted_n, predicted_ms);
    json!({
        "cache_n": answer.cached.unwrap_or(0),
        "prompt_n": prompt_n,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_each,
        "prompt_per_second": prompt_rate,
        "predicted_n": predicted_n,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_each,
        "predicted_per_second": predicted_rate,
    })
}
