//! `POST /api/chat` and `/api/generate`, as Ollama speaks them: one JSON object a line, durations in
//! nanoseconds in the last one.

use std::{
    fmt::Write,
    time::{Duration, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, DEFAULT_OUTPUT_TOKENS, Part, Progress, Prompt, Refused, Route, UsageIn, Wire,
    prompt::Message, read,
};
use crate::{clock::unix_now, sim::pace::monotonic_nanos};

/// Nanoseconds to find a model that is loaded already. Ollama leaves out a duration of 0.
const LOADED: u64 = 1000;

#[derive(Deserialize)]
struct Body {
    model: String,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    prompt: String,
    system: Option<Value>,
    stream: Option<bool>,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    num_predict: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Ollama {
    generate: bool,
}

pub(super) const CHAT: Ollama = Ollama { generate: false };
pub(super) const GENERATE: Ollama = Ollama { generate: true };

impl Wire for Ollama {
    fn ask(&self, body: &[u8], _route: &Route, model: &str, prompt: Prompt) -> Result<Ask, Refused> {
        let body: Body = read(body)?;
        if untagged(&body.model) != untagged(model) {
            return Err(Refused::unknown_model(&body.model));
        }
        let mut messages = body.messages;
        if self.generate {
            messages.clear();
            if !body.prompt.is_empty() {
                messages.extend(body.system.map(Message::system));
                messages.push(Message::user(body.prompt.into()));
            }
        }
        let limit = body.options.and_then(|options| options.num_predict);
        Ok(Ask {
            output_tokens: match limit.and_then(|limit| u64::try_from(limit).ok()) {
                _ if messages.is_empty() => 0,
                // -1 and -2 are "as many as there are" and "until the context is full".
                None | Some(0) => DEFAULT_OUTPUT_TOKENS,
                Some(limit) => limit,
            },
            prompt: prompt.chat(&messages),
            stream: body.stream.unwrap_or(true),
            ..Ask::default()
        })
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn prefix(&self, answer: &Answer) -> String {
        format!(r#"{{"model":{},"created_at":""#, answer.model)
    }

    fn closing(&self, _answer: &Answer) -> &'static [Part] {
        &[Part::Done]
    }

    fn render(&self, answer: &Answer, part: Part, progress: &Progress, out: &mut String) {
        match part {
            Part::Tokens { from, to } => {
                self.line(answer, answer.is_thought(from), from, to, out);
                out.push_str(r#""done":false}"#);
            }
            Part::Done => {
                self.line(answer, false, 0, 0, out);
                self.last(answer, progress, out);
            }
            _ => {
                self.line(answer, false, 0, 0, out);
                out.push_str(r#""done":false}"#);
            }
        }
        out.push('\n');
    }

    fn whole(&self, answer: &Answer, progress: &Progress) -> String {
        let mut out = String::new();
        self.line(
            answer,
            false,
            answer.visible_from(),
            answer.ask.output_tokens,
            &mut out,
        );
        self.last(answer, progress, &mut out);
        out
    }

    fn error(&self, refused: &Refused) -> String {
        let message = match refused {
            Refused::UnknownModel(name) => format!("model '{name}' not found"),
            Refused::TooLong { .. } => "the input length exceeds the context length".to_owned(),
            // Two spaces, as in the original.
            Refused::QueueFull => {
                "server busy, please try again.  maximum pending requests exceeded".to_owned()
            }
            other => other.message(),
        };
        json!({ "error": message }).to_string()
    }

    fn error_frame(&self, refused: &Refused, _progress: &Progress, out: &mut String) {
        out.push_str(&self.error(refused));
        out.push('\n');
    }

    /// NDJSON has no comments; empty lines come nearest.
    fn comment(&self) -> &'static str {
        "\n"
    }

    fn thinks(&self) -> bool {
        true
    }
}

impl Ollama {
    /// All of a line up to `done`.
    fn line(&self, answer: &Answer, thoughts: bool, from: u64, to: u64, out: &mut String) {
        out.push_str(answer.prefix());
        out.push_str(&timestamp(Duration::from_secs_f64(unix_now())));
        out.push_str(match (self.generate, thoughts) {
            (true, false) => r#"","response":""#,
            (true, true) => r#"","response":"","thinking":""#,
            (false, false) => r#"","message":{"role":"assistant","content":""#,
            (false, true) => r#"","message":{"role":"assistant","content":"","thinking":""#,
        });
        answer.tokens(from, to, out);
        out.push_str(if self.generate { r#"","# } else { r#""},"# });
    }

    /// The end of the final line. What is left of the total beside the three phases is waiting for a slot, as in Ollama.
    fn last(&self, answer: &Answer, progress: &Progress, out: &mut String) {
        if progress.first_token == 0 {
            return out.push_str(r#""done_reason":"load","done":true}"#);
        }
        out.push_str(r#""done_reason":"length","done":true"#);
        if self.generate {
            out.push_str(r#","context":[128006,882,128007]"#);
        }
        if answer.usage == UsageIn::Nowhere {
            return out.push('}');
        }
        let mut field = |name: &str, value: u64| {
            // What is 0 is left out, as Ollama does.
            if value > 0 {
                write!(out, r#","{name}":{value}"#).expect("a String takes everything");
            }
        };
        field(
            "total_duration",
            monotonic_nanos().saturating_sub(progress.received),
        );
        field(
            "load_duration",
            progress.loaded.saturating_sub(progress.received).max(LOADED),
        );
        field("prompt_eval_count", answer.uncached());
        field(
            "prompt_eval_duration",
            progress.first_token.saturating_sub(progress.admitted),
        );
        field("eval_count", answer.ask.output_tokens);
        field(
            "eval_duration",
            progress.last_token.saturating_sub(progress.first_token),
        );
        out.push('}');
    }
}

/// `name` and `name:latest` are the same.
fn untagged(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

fn timestamp(since_epoch: Duration) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + since_epoch).to_string()
}

/// The body of `GET /api/tags`.
pub(in crate::sim) fn tags(model: &str, created: Duration) -> String {
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
    fn errors_are_worded_as_ollama_does() {
        assert_eq!(
            CHAT.error(&Refused::QueueFull),
            r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#
        );
        assert_eq!(
            CHAT.error(&Refused::UnknownModel("x".into())),
            r#"{"error":"model 'x' not found"}"#
        );
    }
}
