//! `POST /generate_stream` and `/generate`, as Text Generation Inference speaks them: `data:` without a space, the
//! last token carries the whole text, and a stream is refused with an error under 200.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Ask, Part, Progress, Prompt, Refused, Route, UsageIn, Wire, limit, read};

#[derive(Deserialize)]
struct Body {
    inputs: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    max_new_tokens: Option<u64>,
    #[serde(default)]
    details: bool,
}

#[derive(Debug)]
pub(super) struct Tgi;

impl Wire for Tgi {
    fn ask(&self, body: &[u8], route: &Route, _model: &str, mut prompt: Prompt) -> Result<Ask, Refused> {
        let body: Body = read(body)?;
        prompt.text(&body.inputs);
        Ok(Ask {
            prompt,
            output_tokens: limit("max_new_tokens", body.parameters.max_new_tokens)?,
            stream: route.stream.unwrap_or(true),
            details: body.parameters.details,
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
            _ => return out.push_str(self.comment()),
        };
        let mut text = String::new();
        answer.tokens(from, to, &mut text);
        let ends = answer.ends_at(to, progress);
        let details = (ends && answer.ask.details).then(|| {
            let mut details = json!({ "finish_reason": "length", "seed": null });
            if let (true, Some(fields)) = (answer.usage != UsageIn::Nowhere, details.as_object_mut()) {
                fields.insert("generated_tokens".into(), answer.ask.output_tokens.into());
                fields.insert("input_length".into(), answer.ask.prompt.tokens.into());
            }
            details
        });
        // The end-of-sequence token that an empty answer consists of is no output.
        let special = to == 0;
        let token = json!({"id": 100 + from, "text": text, "logprob": -0.5, "special": special});
        let generated = if ends {
            Value::from(answer.text())
        } else {
            Value::Null
        };
        write!(
            out,
            r#"data:{{"index":{},"token":{token},"generated_text":{generated},"details":{}}}"#,
            to.max(1),
            details.unwrap_or_default(),
        )
        .expect("a String takes everything");
        out.push_str("\n\n");
    }

    fn whole(&self, answer: &Answer, _progress: &Progress) -> String {
        json!({"generated_text": answer.text()}).to_string()
    }

    fn error(&self, refused: &Refused) -> String {
        let (message, kind) = match refused {
            refused if refused.is_overload() => ("Model is overloaded".to_owned(), "overloaded"),
            Refused::Malformed(_) | Refused::TooLong { .. } | Refused::UnknownModel(_) => {
                (refused.message(), "validation")
            }
            Refused::Status(_) | Refused::QueueFull => (
                format!("Request failed during generation: {}", refused.message()),
                "generation",
            ),
        };
        json!({"error": message, "error_type": kind}).to_string()
    }

    fn error_frame(&self, refused: &Refused, _progress: &Progress, out: &mut String) {
        out.push_str("data:");
        out.push_str(&self.error(refused));
        out.push_str("\n\n");
    }

    fn comment(&self) -> &'static str {
        ":\n\n"
    }

    /// `/generate` says 429 where the stream says 200.
    fn busy(&self) -> u16 {
        429
    }

    fn refuses_in_stream(&self) -> bool {
        true
    }
}
