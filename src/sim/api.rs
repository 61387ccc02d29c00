//! The wire formats that the simulator speaks: what is asked, what is answered, and how each says no.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{engine::Id, ollama, openai};

/// Tokens of an answer for which the request sets no limit.
pub(super) const DEFAULT_OUTPUT_TOKENS: u64 = 128;
/// What a chat template adds to each message, and to open the answer.
const TOKENS_PER_MESSAGE: u64 = 4;
const TOKENS_OF_TEMPLATE: u64 = 3;
/// Text from the request that an error repeats at most.
const MAX_ECHO: usize = 200;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    OpenaiChat,
    OllamaChat,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub prompt_tokens: u64,
    /// The answer gets exactly so many, whether or not `ignore_eos` is set: a simulated model never stops early.
    /// 0: the model is only to be loaded (Ollama).
    pub output_tokens: u64,
    pub stream: bool,
    /// A usage frame at the end of the stream (OpenAI).
    pub usage: bool,
}

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The body is not what the API asks for.
    Malformed(String),
    UnknownModel(String),
    /// More tokens than the model holds.
    TooLong {
        asked: u64,
        limit: u64,
    },
    QueueFull,
}

impl Refused {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::TooLong { .. } => 400,
            Self::UnknownModel(_) => 404,
            Self::QueueFull => 503,
        }
    }

    /// Without repeating what may be megabytes.
    pub(super) fn malformed(error: &serde_json::Error) -> Self {
        Self::Malformed(echo(&error.to_string()))
    }

    pub(super) fn unknown_model(name: &str) -> Self {
        Self::UnknownModel(echo(name))
    }
}

fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).collect()
}

/// A piece of a streamed answer that is written on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Role,
    /// The token with this index.
    Token(u64),
    Finish,
    Usage,
    Done,
}

impl Api {
    /// The wire format that is spoken at `path`.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::OpenaiChat),
            "/api/chat" => Some(Self::OllamaChat),
            _ => None,
        }
    }

    /// Reads a request to the one `model` there is.
    pub(super) fn ask(self, body: &[u8], model: &str) -> Result<Ask, Refused> {
        match self {
            Self::OpenaiChat => openai::ask(body, model),
            Self::OllamaChat => ollama::ask(body, model),
        }
    }

    /// The body of the answer to a request that is refused, as the real server words it.
    pub(super) fn error(self, refused: &Refused) -> String {
        match self {
            Self::OpenaiChat => openai::error(refused),
            Self::OllamaChat => ollama::error(refused),
        }
    }

    /// The content type of a streamed answer.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenaiChat => "text/event-stream; charset=utf-8",
            Self::OllamaChat => "application/x-ndjson",
        }
    }

    /// What is written before the first token, when that is there.
    pub(super) const fn opening(self) -> &'static [Part] {
        match self {
            Self::OpenaiChat => &[Part::Role],
            Self::OllamaChat => &[],
        }
    }

    /// What is written after the last token.
    pub(super) const fn closing(self, ask: &Ask) -> &'static [Part] {
        match self {
            Self::OpenaiChat if ask.usage => &[Part::Finish, Part::Usage, Part::Done],
            Self::OpenaiChat => &[Part::Finish, Part::Done],
            Self::OllamaChat => &[Part::Done],
        }
    }
}

/// When the engine did what, in nanoseconds of `CLOCK_MONOTONIC`, for APIs that tell it. In this order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub received: u64,
    pub admitted: u64,
    pub first_token: u64,
    pub last_token: u64,
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer {
    pub api: Api,
    pub id: Id,
    pub ask: Ask,
    /// Since the Unix epoch.
    pub created: Duration,
    /// The model's name as a JSON string.
    pub model: String,
    /// What all content frames begin with.
    prefix: String,
}

impl Answer {
    pub(super) fn new(api: Api, id: Id, ask: Ask, created: Duration, model: &str) -> Self {
        let model = Value::from(model).to_string();
        let prefix = match api {
            Api::OpenaiChat => openai::prefix(id, created, &model),
            Api::OllamaChat => ollama::prefix(&model),
        };
        Self {
            api,
            id,
            ask,
            created,
            model,
            prefix,
        }
    }

    /// Appends one part of the streamed answer, framing included.
    pub(super) fn render(&self, part: Part, times: &Times, out: &mut String) {
        match self.api {
            Api::OpenaiChat => openai::render(self, &self.prefix, part, out),
            Api::OllamaChat => ollama::render(self, &self.prefix, part, times, out),
        }
    }

    /// The whole answer at once, for `stream: false`.
    pub(super) fn whole(&self, times: &Times) -> String {
        match self.api {
            Api::OpenaiChat => openai::whole(self),
            Api::OllamaChat => ollama::whole(self, &self.prefix, times),
        }
    }

    /// The text of one token; each request begins elsewhere in the vocabulary.
    pub(super) fn token(&self, index: u64) -> &'static str {
        let at = (self.id.0.wrapping_mul(7).wrapping_add(index)) % WORDS.len() as u64;
        usize::try_from(at)
            .ok()
            .and_then(|at| WORDS.get(at))
            .copied()
            .unwrap_or(" the")
    }

    /// The text of all tokens.
    pub(super) fn text(&self) -> String {
        (0..self.ask.output_tokens)
            .map(|index| self.token(index))
            .collect()
    }
}

/// A simple count instead of a tokenizer: words between white space, and the overhead of a chat template.
pub(super) fn prompt_tokens(messages: &[Message]) -> u64 {
    let words: u64 = messages.iter().map(Message::words).sum();
    words + TOKENS_PER_MESSAGE * messages.len() as u64 + TOKENS_OF_TEMPLATE
}

/// A message in either API: the content is text or, in OpenAI's, a list of parts with text.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    content: Value,
}

impl Message {
    fn words(&self) -> u64 {
        let count = |text: &str| text.split_whitespace().count() as u64;
        match &self.content {
            Value::String(text) => count(text),
            Value::Array(parts) => parts
                .iter()
                .filter_map(|part| part.get("text")?.as_str())
                .map(count)
                .sum(),
            _ => 0,
        }
    }
}

/// Nothing in them needs to be escaped in JSON.
const WORDS: [&str; 61] = [
    " the", " queue", " grows", " while", " one", " slot", " works", " and", " every", " user", " waits",
    ",", " but", " between", " two", " tokens", " nothing", " has", " changed", ".", " A", " server",
    " that", " answers", " its", " health", " check", " may", " still", " keep", " people", " waiting",
    " for", " a", " minute", ";", " so", " measure", " what", " they", " feel", ":", " first", " token",
    " late", ",", " then", " even", " pace", ".", " Count", " those", " who", " got", " it", " in", " time",
    " with", " many", " others", ".",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_counted_in_words() {
        let messages: Vec<Message> = serde_json::from_str(
            r#"[{"role":"system","content":"two words"},{"content":[{"type":"text","text":"a b\nc"},{"type":"image_url"}]},
                {"role":"assistant","content":null},{"role":"user"}]"#,
        )
        .unwrap();
        assert_eq!(prompt_tokens(&messages), 2 + 3 + 4 * 4 + 3);
    }

    #[test]
    fn tokens_need_no_escape() {
        for word in WORDS {
            assert_eq!(Value::from(word).to_string(), format!("\"{word}\""));
        }
    }

    #[test]
    fn errors_do_not_repeat_megabytes() {
        let body = format!(r#"{{"model":"m","messages":"{}"}}"#, "é".repeat(1 << 20));
        for api in [Api::OpenaiChat, Api::OllamaChat] {
            let refused = api.ask(body.as_bytes(), "m").unwrap_err();
            assert_eq!(refused.status(), 400);
            assert!(api.error(&refused).len() < 1000);
        }
    }
}
