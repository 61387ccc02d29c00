//! `POST /v2/models/MODEL[/versions/VERSION]/generate_stream` and `/generate`, as Triton speaks them: no end marker
//! and no usage; the body just ends.

use serde::Deserialize;
use serde_json::json;

use super::{Answer, Api, Ask, Part, Progress, Prompt, Refused, Route, Wire, check_model, limit, read};

#[derive(Deserialize)]
struct Body {
    text_input: String,
    max_tokens: Option<u64>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    max_tokens: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Triton;

/// The model, and whether the answer is streamed.
pub(super) fn route(path: &str) -> Option<(Api, &str, bool)> {
    let rest = path.strip_prefix("/v2/models/")?;
    let (rest, stream) = match rest.strip_suffix("/generate_stream") {
        Some(rest) => (rest, true),
        None => (rest.strip_suffix("/generate")?, false),
    };
    let model = match rest.split_once("/versions/") {
        Some((model, version)) if !version.contains('/') => model,
        Some(_) => return None,
        None => rest,
    };
    (!model.contains('/')).then_some((Api::TritonGenerate, model, stream))
}

impl Wire for Triton {
    fn ask(&self, body: &[u8], route: &Route, model: &str, mut prompt: Prompt) -> Result<Ask, Refused> {
        check_model(route.model.as_deref().unwrap_or_default(), model)?;
        let body: Body = read(body)?;
        prompt.text(&body.text_input);
        Ok(Ask {
            prompt,
            output_tokens: limit("max_tokens", body.parameters.max_tokens.or(body.max_tokens))?,
            stream: route.stream.unwrap_or(true),
            ..Ask::default()
        })
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn prefix(&self, answer: &Answer) -> String {
        format!(
            r#"{{"model_name":{},"model_version":"1","text_output":""#,
            answer.model
        )
    }

    fn closing(&self, _answer: &Answer) -> &'static [Part] {
        &[]
    }

    fn render(&self, answer: &Answer, part: Part, _progress: &Progress, out: &mut String) {
        let (from, to) = match part {
            Part::Tokens { from, to } => (from, to),
            _ => (0, 0),
        };
        out.push_str("data: ");
        out.push_str(answer.prefix());
        answer.tokens(from, to, out);
        out.push_str("\"}\n\n");
    }

    fn whole(&self, answer: &Answer, _progress: &Progress) -> String {
        format!(r#"{}{}"}}"#, answer.prefix(), answer.text())
    }

    fn error(&self, refused: &Refused) -> String {
        let message = match refused {
            Refused::UnknownModel(name) => format!("Request for unknown model: '{name}' is not found"),
            Refused::QueueFull => "Exceeds maximum queue size".to_owned(),
            other => other.message(),
        };
        json!({ "error": message }).to_string()
    }
}
