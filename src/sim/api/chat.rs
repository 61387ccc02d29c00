//! `POST /v1/chat/completions`, framed as vLLM frames it: server-sent events, the role frame with the first
//! token, the usage in a frame of its own, `[DONE]`.

use serde::Deserialize;
use serde_json::json;

use super::{
    Answer, Ask, Part, Progress, Prompt, Refused, Route, UsageIn, Wire, check_model, limit,
    openai::{self, StreamOptions, end_of_frame, thoughts_field, usage, usage_frame},
    prompt::Message,
    read,
};

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Message>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Chat;

impl Wire for Chat {
    fn ask(&self, body: &[u8], _route: &Route, model: &str, prompt: Prompt) -> Result<Ask, Refused> {
        let body: Body = read(body)?;
        check_model(&body.model, model)?;
        if body.messages.is_empty() {
            return Err(Refused::Malformed("messages must not be empty".to_owned()));
        }
        let options = body.stream_options.unwrap_or_default();
        Ok(Ask {
            prompt: prompt.chat(&body.messages),
            output_tokens: limit("max_tokens", body.max_completion_tokens.or(body.max_tokens))?,
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
            r#"data: {{"id":"chatcmpl-sim-{}","object":"chat.completion.chunk","created":{},"model":{},"choices":["#,
            answer.id.0,
            answer.created.as_secs(),
            answer.model,
        )
    }

    fn opening(&self, _answer: &Answer) -> &'static [Part] {
        &[Part::Role]
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
        match part {
            Part::Role => out.push_str(
                r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#,
            ),
            Part::Tokens { from, to } => {
                let field = if answer.is_thought(from) {
                    thoughts_field(answer)
                } else {
                    "content"
                };
                out.push_str(r#"{"index":0,"delta":{""#);
                out.push_str(field);
                out.push_str(r#"":""#);
                answer.tokens(from, to, out);
                out.push_str(r#""},"logprobs":null,"finish_reason":null}]"#);
                return end_of_frame(answer, to, out);
            }
            Part::Finish => out.push_str(
                r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"length","stop_reason":null}]"#,
            ),
            Part::Usage => return usage_frame(answer, out),
            Part::Ping | Part::Event(_) | Part::Done => out.push_str(
                r#"{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":null}]"#,
            ),
        }
        end_of_frame(answer, progress.tokens, out);
    }

    fn whole(&self, answer: &Answer, _progress: &Progress) -> String {
        let mut message = json!({"role": "assistant", "content": answer.text(), "refusal": null});
        if let (Some(thoughts), Some(fields)) = (answer.thoughts(), message.as_object_mut()) {
            fields.insert(thoughts_field(answer).into(), thoughts.into());
        }
        format!(
            r#"{{"id":"chatcmpl-sim-{}","object":"chat.completion","created":{},"model":{},"choices":{},"usage":{}}}"#,
            answer.id.0,
            answer.created.as_secs(),
            answer.model,
            json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": "length"}]),
            usage(answer, answer.ask.output_tokens)
        )
    }

    fn error(&self, refused: &Refused) -> String {
        openai::error(refused)
    }

    fn after_error(&self) -> &'static [Part] {
        &[Part::Done]
    }

    fn thinks(&self) -> bool {
        true
    }
}
