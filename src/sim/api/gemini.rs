//! `POST /v1beta/models/MODEL:streamGenerateContent?alt=sse` and `:generateContent`, as Gemini speaks them: lines end
//! with CRLF, the usage is in every chunk, and the last token carries the finish reason.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Api, Ask, DEFAULT_OUTPUT_TOKENS, Part, Progress, Prompt, Refused, Route, UsageIn, Wire,
    check_model, prompt::Message, read,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    contents: Vec<Content>,
    system_instruction: Option<Content>,
    #[serde(default)]
    generation_config: GenerationConfig,
}

#[derive(Deserialize)]
struct Content {
    parts: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    max_output_tokens: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Gemini;

/// The model, and whether the answer is streamed.
pub(super) fn route(path: &str) -> Option<(Api, &str, bool)> {
    let (model, method) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
    let stream = match method {
        "streamGenerateContent" => true,
        "generateContent" => false,
        _ => return None,
    };
    (!model.contains('/')).then_some((Api::Gemini, model, stream))
}

impl Wire for Gemini {
    fn ask(&self, body: &[u8], route: &Route, model: &str, prompt: Prompt) -> Result<Ask, Refused> {
        check_model(route.model.as_deref().unwrap_or_default(), model)?;
        let body: Body = read(body)?;
        if body.contents.is_empty() {
            return Err(Refused::Malformed(
                "* GenerateContentRequest.contents: contents is not specified".to_owned(),
            ));
        }
        let system = body
            .system_instruction
            .map(|content| Message::system(content.parts));
        let contents = body
            .contents
            .into_iter()
            .map(|content| Message::user(content.parts));
        let messages: Vec<_> = system.into_iter().chain(contents).collect();
        let limit = body.generation_config.max_output_tokens;
        Ok(Ask {
            prompt: prompt.chat(&messages),
            output_tokens: limit.filter(|limit| *limit > 0).unwrap_or(DEFAULT_OUTPUT_TOKENS),
            stream: route.stream.unwrap_or(true),
            ..Ask::default()
        })
    }

    fn closing(&self, answer: &Answer) -> &'static [Part] {
        if answer.ask.output_tokens == 0 {
            &[Part::Done]
        } else {
            &[]
        }
    }

    fn render(&self, answer: &Answer, part: Part, progress: &Progress, out: &mut String) {
        let (from, to) = match part {
            Part::Tokens { from, to } => (from, to),
            Part::Done => (0, 0),
            _ => (progress.tokens, progress.tokens),
        };
        let ends = answer.ends_at(to, progress) && part != Part::Ping;
        let mut text = String::new();
        answer.tokens(from, to, &mut text);
        let thought = to > from && answer.is_thought(from);
        out.push_str("data: ");
        out.push_str(&chunk(answer, &[(text, thought)], to, ends).to_string());
        out.push_str("\r\n\r\n");
    }

    fn whole(&self, answer: &Answer, _progress: &Progress) -> String {
        let thoughts = answer.thoughts().map(|thoughts| (thoughts, true));
        let parts: Vec<_> = thoughts.into_iter().chain([(answer.text(), false)]).collect();
        chunk(answer, &parts, answer.ask.output_tokens, true).to_string()
    }

    fn error(&self, refused: &Refused) -> String {
        let (code, status) = match refused {
            Refused::Malformed(_) | Refused::TooLong { .. } => (400, "INVALID_ARGUMENT"),
            Refused::UnknownModel(_) => (404, "NOT_FOUND"),
            Refused::QueueFull => (503, "UNAVAILABLE"),
            Refused::Status(code) => (
                *code,
                match code {
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    503 | 529 => "UNAVAILABLE",
                    500.. => "INTERNAL",
                    _ => "INVALID_ARGUMENT",
                },
            ),
        };
        let message = match refused {
            Refused::QueueFull => "The model is overloaded. Please try again later.".to_owned(),
            other => other.message(),
        };
        let mut error = json!({"code": code, "message": message, "status": status});
        if let (429, Some(fields)) = (code, error.as_object_mut()) {
            let retry = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]);
            fields.insert("details".into(), retry);
        }
        json!({ "error": error }).to_string()
    }

    fn error_frame(&self, refused: &Refused, _progress: &Progress, out: &mut String) {
        out.push_str("data: ");
        out.push_str(&self.error(refused));
        out.push_str("\r\n\r\n");
    }

    fn comment(&self) -> &'static str {
        ":\r\n\r\n"
    }

    fn thinks(&self) -> bool {
        true
    }
}

/// `candidatesTokenCount` does not include the thoughts.
fn chunk(answer: &Answer, parts: &[(String, bool)], tokens: u64, ends: bool) -> Value {
    let parts: Vec<_> = parts
        .iter()
        .map(|(text, thought)| match thought {
            true => json!({"text": text, "thought": true}),
            false => json!({"text": text}),
        })
        .collect();
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if let (true, Some(fields)) = (ends, candidate.as_object_mut()) {
        fields.insert("finishReason".into(), "MAX_TOKENS".into());
    }
    let mut chunk = json!({
        "candidates": [candidate],
        "modelVersion": serde_json::from_str::<Value>(&answer.model).unwrap_or_default(),
        "responseId": format!("sim-{}", answer.id.0),
    });
    if let (true, Some(fields)) = (answer.usage != UsageIn::Nowhere, chunk.as_object_mut()) {
        let (prompt, thoughts) = (answer.ask.prompt.tokens, answer.visible_from().min(tokens));
        let mut usage = json!({
            "promptTokenCount": prompt,
            "candidatesTokenCount": tokens - thoughts,
            "totalTokenCount": prompt + tokens,
        });
        if let Some(usage) = usage.as_object_mut() {
            if thoughts > 0 {
                usage.insert("thoughtsTokenCount".into(), thoughts.into());
            }
            if let Some(cached @ 1..) = answer.cached {
                usage.insert("cachedContentTokenCount".into(), cached.into());
            }
        }
        fields.insert("usageMetadata".into(), usage);
    }
    chunk
}
