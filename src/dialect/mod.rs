//! The wire protocols: request body out, [`Delta`]s in. One file per protocol; no I/O, no clock.

mod brief;
mod ollama;
mod openai;

use std::fmt::{self, Write as _};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    config::plan::{Api, Target},
    framing::{Deframer, Frame, Framing, FramingError},
    prompt::Question,
    units::Tokens,
    usage::{ServerPhases, Usage},
};

/// What one frame means. Most frames say one of these things, some say several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    pub output: Option<Output>,
    pub usage: Usage,
    pub server_phases: ServerPhases,
    /// The protocol's end marker: the answer is whole. Usage and errors may follow.
    pub finished: bool,
    /// The last thing that the protocol says.
    pub last: bool,
    pub error: Option<ApiError>,
}

/// The generated output that a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The user sees it: text, a refusal, a tool call.
    Visible,
    /// The model thinks aloud.
    Reasoning,
    /// Both in one frame.
    Both,
}

impl Output {
    pub const fn is_visible(self) -> bool {
        matches!(self, Self::Visible | Self::Both)
    }

    pub const fn is_reasoning(self) -> bool {
        matches!(self, Self::Reasoning | Self::Both)
    }

    fn of(visible: bool, reasoning: bool) -> Option<Self> {
        match (visible, reasoning) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Visible),
            (false, true) => Some(Self::Reasoning),
            (false, false) => None,
        }
    }
}

/// An error that the endpoint reports, in a 200 stream or in the body of another status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The endpoint says that it has too much to do.
    pub overloaded: bool,
    pub message: String,
}

/// Why a body is not the protocol.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// Which one, and what is wrong with it.
    #[error("frame {0}: {1}")]
    Frame(u32, String),
}

/// A wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenaiChat,
    OllamaChat,
}

impl From<Api> for Dialect {
    fn from(api: Api) -> Self {
        match api {
            Api::OpenaiChat => Self::OpenaiChat,
            Api::OllamaChat => Self::OllamaChat,
        }
    }
}

impl Dialect {
    /// What follows the target's base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::OpenaiChat => "/chat/completions",
            Self::OllamaChat => "/api/chat",
        }
    }

    pub const fn framing(self) -> Framing {
        match self {
            Self::OpenaiChat => Framing::Sse,
            Self::OllamaChat => Framing::Ndjson,
        }
    }

    /// The media type of the stream.
    pub const fn media_type(self) -> &'static str {
        match self.framing() {
            Framing::Sse => "text/event-stream",
            Framing::Ndjson => "application/x-ndjson",
        }
    }

    /// The body of a request, with the target's `body` merged in.
    pub fn body(self, target: &Target, question: &Question, max_tokens: Tokens) -> Bytes {
        let mut body = match self {
            Self::OpenaiChat => openai::body(target, question, max_tokens),
            Self::OllamaChat => ollama::body(target, question, max_tokens),
        };
        merge(&mut body, &target.body);
        Value::Object(body).to_string().into()
    }

    fn decode(self, frame: Frame<'_>) -> Result<Delta, serde_json::Error> {
        match self {
            Self::OpenaiChat => openai::decode(frame),
            Self::OllamaChat => ollama::decode(frame),
        }
    }
}

/// `over` wins; objects are merged key by key, so that `options: { seed: 1 }` keeps the other options.
fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            _ => _ = base.insert(key.clone(), value.clone()),
        }
    }
}

/// Reads a frame that is to be a JSON object; serde would take an array for one.
fn object<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, serde_json::Error> {
    if data.trim_ascii_start().first() == Some(&b'{') {
        serde_json::from_slice(data)
    } else {
        Err(serde::de::Error::custom("not a JSON object"))
    }
}

/// Messages as both protocols have them.
fn messages(question: &Question) -> Value {
    let message = |role: &str, content: &str| serde_json::json!({ "role": role, "content": content });
    let system = question.system.as_deref().map(|system| message("system", system));
    system
        .into_iter()
        .chain([message("user", &question.user)])
        .collect()
}

/// Decodes the body of one response.
#[derive(Debug)]
pub struct Decoder {
    dialect: Dialect,
    deframer: Deframer,
    frames: u32,
}

impl Decoder {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            deframer: Deframer::new(dialect.framing()),
            frames: 0,
        }
    }

    /// Decodes a chunk and hands on what its frames mean. After an error the rest of the body means nothing.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Delta)) -> Result<(), DecodeError> {
        let mut undecodable = None;
        let (dialect, frames) = (self.dialect, &mut self.frames);
        let pushed = self.deframer.push(chunk, |frame| {
            *frames += 1;
            if undecodable.is_none() {
                match dialect.decode(frame) {
                    Ok(delta) => each(delta),
                    Err(error) => undecodable = Some(DecodeError::Frame(*frames, in_brief(&error))),
                }
            }
        });
        undecodable.map_or(Ok(()), Err)?;
        Ok(pushed?)
    }

    /// The body has ended. A last frame without its terminator counts if it is whole.
    pub fn finish(&mut self, mut each: impl FnMut(Delta)) {
        let dialect = self.dialect;
        self.deframer.finish(|frame| {
            if let Ok(delta) = dialect.decode(frame) {
                each(delta);
            }
        });
    }
}

/// The beginning of what an error says: it may quote a frame that is megabytes long.
fn in_brief(error: &serde_json::Error) -> String {
    struct Brief(String);
    impl fmt::Write for Brief {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = brief::LONGEST.saturating_sub(self.0.len());
            self.0
                .push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
            if text.len() > room {
                Err(fmt::Error)
            } else {
                Ok(())
            }
        }
    }
    let mut brief = Brief(String::new());
    // It stops where there is no more room.
    write!(brief, "{error}").ok();
    brief.0
}

/// The error in a body that is not a stream: that of another status, or of a 200 that is plain JSON.
pub fn error_in(body: &[u8]) -> Option<ApiError> {
    let value: Value = serde_json::from_slice(body).ok()?;
    match value.get("error") {
        Some(error) if !error.is_null() => Some(api_error(error)),
        _ if value.get("object").and_then(Value::as_str) == Some("error") => Some(api_error(&value)),
        _ => None,
    }
}

/// Reads an error in any of the shapes that are about: a string, or an object with some of `message`,
/// `type`, `code`, `status`.
fn api_error(error: &Value) -> ApiError {
    let field = |name| error.get(name).and_then(Value::as_str);
    let message = error
        .as_str()
        .or_else(|| field("message"))
        .or_else(|| field("error"));
    let code = error
        .get("code")
        .and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
    let says_overload = [field("type"), field("code"), field("status"), message]
        .into_iter()
        .flatten()
        .any(|text| {
            let text = text.to_ascii_lowercase();
            ["overload", "server busy", "server_busy", "unavailable"]
                .iter()
                .any(|word| text.contains(word))
        });
    ApiError {
        overloaded: says_overload || matches!(code, Some(503 | 529)),
        message: message.map_or_else(|| error.to_string(), str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_every_shape_are_read() {
        for (body, overloaded, message) in [
            (
                json!({"error": {"message": "no such model", "type": "invalid_request_error", "code": 404}}),
                false,
                "no such model",
            ),
            (
                json!({"error": {"type": "overloaded_error", "message": "Overloaded"}}),
                true,
                "Overloaded",
            ),
            (
                json!({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
                true,
                "Loading model",
            ),
            (
                json!({"error": "server busy, please try again.  maximum pending requests exceeded"}),
                true,
                "server busy, please try again.  maximum pending requests exceeded",
            ),
            (json!({"error": {"code": "529"}}), true, "{\"code\":\"529\"}"),
            (
                json!({"object": "error", "message": "too long", "code": 400}),
                false,
                "too long",
            ),
        ] {
            let error = error_in(body.to_string().as_bytes()).unwrap();
            assert_eq!(
                (error.overloaded, error.message.as_str()),
                (overloaded, message),
                "{body}"
            );
        }
        for body in ["", "{}", "{\"error\":null}", "[1]", "<html>", "\"error\""] {
            assert_eq!(error_in(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_targets_body_wins_key_by_key() {
        let mut body = json!({ "stream": true, "options": { "num_predict": 64, "seed": 1 } });
        let over = json!({ "options": { "seed": 2 }, "think": false });
        merge(body.as_object_mut().unwrap(), over.as_object().unwrap());
        assert_eq!(
            body,
            json!({ "stream": true, "options": { "num_predict": 64, "seed": 2 }, "think": false })
        );
    }
}
