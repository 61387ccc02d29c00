//! Errors that endpoints report, in every shape that is about.

use memchr::memmem;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::json::{for_each, object};

/// An error that the endpoint reports, in a 200 stream or in the body of another status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The endpoint says that it has too much to do.
    pub overloaded: bool,
    pub message: String,
}

impl ApiError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            overloaded: false,
            message: message.into(),
        }
    }
}

/// More of an error is not looked into.
const MAX_ERROR: usize = 64 << 10;

/// What says in the kind of an error that the endpoint has too much to do.
const OVERLOAD_KINDS: &[&str] = &["overload", "server busy", "server_busy", "unavailable"];

/// The same in its message, which is free text: a tool may be unavailable and a function overload another. The
/// last two are Triton's and Ollama's, whose errors have nothing but a message.
const OVERLOAD_MESSAGES: &[&str] = &[
    "overloaded",
    "server busy",
    "maximum queue size",
    "maximum pending requests",
];

/// What in an object says that it is an error.
#[derive(Deserialize)]
struct Fault<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    /// TGI's, beside `error`.
    #[serde(borrow, default)]
    error_type: Option<&'a RawValue>,
    /// `"error"`: vLLM of old has the error's fields at the top.
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    /// `"error"`: so has the Responses API.
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
}

/// The error in a body that is not a stream: that of another status, or of a 200 that is plain JSON.
pub fn error_in(body: &[u8]) -> Option<ApiError> {
    if body.trim_ascii_start().first() != Some(&b'[') {
        return fault(body);
    }
    // Gemini answers with a list where it does not stream.
    let list: &RawValue = serde_json::from_slice(body).ok()?;
    let mut found = None;
    let each = |element: &RawValue| {
        found = found.take().or_else(|| fault(element.get().as_bytes()));
        Ok(())
    };
    for_each(list, each).ok()?;
    found
}

/// The error that a frame is, looked for before anything else in it: what an error frame has besides may be
/// of any type.
pub(super) fn error_frame(event: &[u8], data: &[u8]) -> Option<ApiError> {
    if event == b"error" {
        let said = || ApiError::new(shortened(&String::from_utf8_lossy(data)));
        return fault(data)
            .or_else(|| Some(api_error(object(data).ok()?, None)))
            .or_else(|| Some(said()));
    }
    // In text that somebody generated, the quotation marks would be escaped.
    memmem::find(data, b"\"error\"").and_then(|_| fault(data))
}

/// The error that the end of an answer is: the server gave it up, and says so in nothing but its reason.
pub(super) fn given_up(finish_reason: &RawValue) -> Option<ApiError> {
    let reason = finish_reason.get().trim_matches('"');
    matches!(reason, "error" | "abort").then(|| ApiError::new(format!("finish_reason {reason}")))
}

fn fault(data: &[u8]) -> Option<ApiError> {
    let fault: Fault<'_> = object(data).ok()?;
    let is_error = |word: Option<&RawValue>| word.is_some_and(|word| word.get() == "\"error\"");
    match fault.error {
        Some(error) => Some(api_error(error, fault.error_type)),
        None if is_error(fault.object) || is_error(fault.r#type) => {
            Some(api_error(serde_json::from_slice(data).ok()?, None))
        }
        None => None,
    }
}

/// Reads a string, or an object with some of `message`, `type`, `code`, `status`; `kind` stands beside it.
pub(super) fn api_error(error: &RawValue, kind: Option<&RawValue>) -> ApiError {
    let value = |raw: &RawValue| match raw.get() {
        text if text.len() <= MAX_ERROR => serde_json::from_str(text).unwrap_or_default(),
        text => Value::String(shortened(text)),
    };
    let (error, kind) = (value(error), kind.map(value));
    let field = |name| error.get(name).and_then(Value::as_str);
    let message = error
        .as_str()
        .or_else(|| field("message"))
        .or_else(|| field("error"));
    let code = error
        .get("code")
        .and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
    let kind = kind.as_ref().and_then(Value::as_str);
    let says = |text: &str, words: &[&str]| {
        let text = text.to_ascii_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    let kinds = [field("type"), field("code"), field("status"), kind];
    let overloaded = matches!(code, Some(503 | 529))
        || kinds.iter().flatten().any(|kind| says(kind, OVERLOAD_KINDS))
        || message.is_some_and(|message| says(message, OVERLOAD_MESSAGES));
    ApiError {
        overloaded,
        message: message.map_or_else(|| error.to_string(), str::to_owned),
    }
}

fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_ERROR);
    text.get(..end).unwrap_or_default().to_owned()
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
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
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
            (
                json!({"error": "Exceeds maximum queue size"}),
                true,
                "Exceeds maximum queue size",
            ),
            // Words of somebody's code and tools are no sign of overload.
            (
                json!({"error": {"message": "Function overloading is not supported", "type": "invalid_request_error"}}),
                false,
                "Function overloading is not supported",
            ),
            (
                json!({"error": "tool web_search is unavailable"}),
                false,
                "tool web_search is unavailable",
            ),
            (
                json!({"error": {"message": "later", "status": "UNAVAILABLE"}}),
                true,
                "later",
            ),
            (json!({"error": {"code": "529"}}), true, "{\"code\":\"529\"}"),
            (
                json!({"object": "error", "message": "too long", "code": 400}),
                false,
                "too long",
            ),
            (
                json!({"error": "Model is overloaded", "error_type": "overloaded"}),
                true,
                "Model is overloaded",
            ),
            (
                json!({"error": "Request failed during generation", "error_type": "generation"}),
                false,
                "Request failed during generation",
            ),
            (
                json!({"type": "error", "code": "server_error", "message": "boom", "param": null}),
                false,
                "boom",
            ),
            (
                json!([{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}]),
                false,
                "quota",
            ),
        ] {
            let error = error_in(body.to_string().as_bytes()).unwrap();
            assert_eq!(
                (error.overloaded, error.message.as_str()),
                (overloaded, message),
                "{body}"
            );
        }
        for body in ["", "{}", "{\"error\":null}", "[1]", "[]", "<html>", "\"error\""] {
            assert_eq!(error_in(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn frames_that_are_errors() {
        for (event, data, message) in [
            (
                "",
                r#"{"error":{"message":"boom"},"choices":"none"}"#,
                Some("boom"),
            ),
            ("error", r#"{"code":500,"message":"boom"}"#, Some("boom")),
            ("error", r#"{"error":{"message":"boom"}}"#, Some("boom")),
            ("error", "boom", Some("boom")),
            ("error", "[1]", Some("[1]")),
            ("", r#"{"error":null,"choices":[]}"#, None),
            ("", r#"{"choices":[],"status":"error"}"#, None),
            ("", r#"{"choices":[{"delta":{"content":"\"error\""}}]}"#, None),
            (
                "",
                r#"{"type":"response.created","response":{"error":null}}"#,
                None,
            ),
        ] {
            let error = error_frame(event.as_bytes(), data.as_bytes());
            assert_eq!(error.map(|error| error.message).as_deref(), message, "{data}");
        }
    }

    #[test]
    fn a_large_error_is_not_held() {
        let large = format!("{{\"error\":[{}]}}", "{},".repeat(1 << 20) + "{}");
        let error = error_frame(b"", large.as_bytes()).unwrap();
        assert!(error.message.len() <= MAX_ERROR);
    }
}
