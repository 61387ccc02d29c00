//! `POST /v1/completions`, framed as vLLM frames it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, Part, Progress, Prompt, Refused, Route, UsageIn, Wire, check_model, limit,
    openai::{self, StreamOptions, end_of_frame, usage, usage_frame},
    read,
};

#[derive(Deserialize)]
struct Body {
    model: String,
    prompt: Value,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Completions;

impl Wire for Completions {
    fn ask(&self, body: &[u8], _route: &Route, model: &str, mut prompt: Prompt) -> Result<Ask, Refused> {
        let body: Body = read(body)?;
        check_model(&body.model, model)?;
        prompt.content(&body.prompt);
        let options = body.stream_options.unwrap_or_default();
        Ok(Ask {
            prompt,
            output_tokens: limit("max_tokens", body.max_tokens)?,
            stream: body.stream.unwrap_or(false),
            usage: options.usage(),
            ..Ask::default()
        })
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn prefix(&self, answer: &Answer) -> String {
        format!(
            r#"data: {{"id":"cmpl-sim-{}","object":"text_completion","created":{},"model":{},"choices":["#,
            answer.id.0,
            answer.created.as_secs(),
            answer.model,
        )
    }

    fn closing(&self, answer: &Answer) -> &'static [Part] {
        if answer.usage == UsageIn::Nowhere {
            &[Part::Finish, Part::Done]
        } else {
            &[Part::Finish, Part::Usage, Part::Done]
        }
    }

    fn render(&self, answer: &Answer, part: Part, progress: &Progress, out: &mut String) {
        if part == Part::Done {
            return out.push_str("data: [DONE]\n\n");
        }
        out.push_str(answer.prefix());
        let mut tokens = progress.tokens;
        match part {
            Part::Usage => return usage_frame(answer, out),
            Part::Tokens { from, to } => {
                out.push_str(r#"{"index":0,"text":""#);
                answer.tokens(from, to, out);
                out.push_str(r#"","logprobs":null,"finish_reason":null,"stop_reason":null}]"#);
                tokens = to;
            }
            Part::Finish => out.push_str(
                r#"{"index":0,"text":"","logprobs":null,"finish_reason":"length","stop_reason":null}]"#,
            ),
            _ => out.push_str(
                r#"{"index":0,"text":"","logprobs":null,"finish_reason":null,"stop_reason":null}]"#,
            ),
        }
        end_of_frame(answer, tokens, out);
    }

    fn whole(&self, answer: &Answer, _progress: &Progress) -> String {
        format!(
            r#"{{"id":"cmpl-sim-{}","object":"text_completion","created":{},"model":{},"choices":{},"usage":{}}}"#,
            answer.id.0,
            answer.created.as_secs(),
            answer.model,
            json!([{"index": 0, "text": answer.text(), "logprobs": null, "finish_reason": "length", "stop_reason": null}]),
            usage(answer, answer.ask.output_tokens)
        )
    }

    fn error(&self, refused: &Refused) -> String {
        openai::error(refused)
    }

    fn after_error(&self) -> &'static [Part] {
        &[Part::Done]
    }
}
