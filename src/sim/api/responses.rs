//! `POST /v1/responses`, as OpenAI frames it: named events, each with its sequence number, no `[DONE]`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, Part, Progress, Prompt, Refused, Route, UsageIn, Wire, check_model, event, limit, openai,
    prompt::Message, read,
};

#[derive(Deserialize)]
struct Body {
    model: String,
    input: Value,
    instructions: Option<Value>,
    stream: Option<bool>,
    max_output_tokens: Option<u64>,
}

const CREATED: &str = "response.created";
const IN_PROGRESS: &str = "response.in_progress";
const ITEM_ADDED: &str = "response.output_item.added";
const PART_ADDED: &str = "response.content_part.added";
const TEXT_DONE: &str = "response.output_text.done";
const PART_DONE: &str = "response.content_part.done";
const ITEM_DONE: &str = "response.output_item.done";
const THOUGHT_ADDED: &str = "response.output_item.added (reasoning)";
const THOUGHT_DONE: &str = "response.reasoning_text.done";
const THOUGHT_ITEM_DONE: &str = "response.output_item.done (reasoning)";

#[derive(Debug)]
pub(super) struct Responses;

impl Wire for Responses {
    fn ask(&self, body: &[u8], _route: &Route, model: &str, prompt: Prompt) -> Result<Ask, Refused> {
        let body: Body = read(body)?;
        check_model(&body.model, model)?;
        let mut messages: Vec<_> = body.instructions.map(Message::system).into_iter().collect();
        match body.input {
            Value::Array(items) => {
                for item in items {
                    let message = serde_json::from_value(item);
                    messages.push(message.map_err(|error| Refused::malformed(&error))?);
                }
            }
            text => messages.push(Message::user(text)),
        }
        Ok(Ask {
            prompt: prompt.chat(&messages),
            output_tokens: limit("max_output_tokens", body.max_output_tokens)?,
            stream: body.stream.unwrap_or(false),
            ..Ask::default()
        })
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn opening(&self, answer: &Answer) -> &'static [Part] {
        if answer.shows_thoughts() {
            return const {
                &[
                    Part::Event(CREATED),
                    Part::Event(IN_PROGRESS),
                    Part::Event(THOUGHT_ADDED),
                ]
            };
        }
        const {
            &[
                Part::Event(CREATED),
                Part::Event(IN_PROGRESS),
                Part::Event(ITEM_ADDED),
                Part::Event(PART_ADDED),
            ]
        }
    }

    fn turning(&self) -> &'static [Part] {
        const {
            &[
                Part::Event(THOUGHT_DONE),
                Part::Event(THOUGHT_ITEM_DONE),
                Part::Event(ITEM_ADDED),
                Part::Event(PART_ADDED),
            ]
        }
    }

    fn closing(&self, _answer: &Answer) -> &'static [Part] {
        const {
            &[
                Part::Event(TEXT_DONE),
                Part::Event(PART_DONE),
                Part::Event(ITEM_DONE),
                Part::Done,
            ]
        }
    }

    fn render(&self, answer: &Answer, part: Part, progress: &Progress, out: &mut String) {
        let (item, thought) = (item_id(answer), thought_id(answer));
        let index = u64::from(answer.shows_thoughts());
        let (name, mut json) = match part {
            Part::Tokens { from, to } => {
                let mut text = String::new();
                answer.tokens(from, to, &mut text);
                if answer.is_thought(from) {
                    (
                        "response.reasoning_text.delta",
                        json!({"item_id": thought, "output_index": 0, "content_index": 0, "delta": text}),
                    )
                } else {
                    (
                        "response.output_text.delta",
                        json!({"item_id": item, "output_index": index, "content_index": 0, "delta": text, "logprobs": []}),
                    )
                }
            }
            Part::Event(THOUGHT_ADDED) => (
                ITEM_ADDED,
                json!({"output_index": 0, "item": {"id": thought, "type": "reasoning", "summary": [], "content": []}}),
            ),
            Part::Event(THOUGHT_DONE) => (
                THOUGHT_DONE,
                json!({"item_id": thought, "output_index": 0, "content_index": 0, "text": answer.thoughts()}),
            ),
            Part::Event(THOUGHT_ITEM_DONE) => (
                ITEM_DONE,
                json!({"output_index": 0, "item": thought_item(answer)}),
            ),
            Part::Event(ITEM_ADDED) => (
                ITEM_ADDED,
                json!({"output_index": index, "item": {"id": item, "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
            ),
            Part::Event(name @ (PART_ADDED | PART_DONE)) => {
                let text = if name == PART_DONE {
                    answer.text()
                } else {
                    String::new()
                };
                (
                    name,
                    json!({"item_id": item, "output_index": index, "content_index": 0, "part": text_part(&text)}),
                )
            }
            Part::Event(TEXT_DONE) => (
                TEXT_DONE,
                json!({"item_id": item, "output_index": index, "content_index": 0, "text": answer.text(), "logprobs": []}),
            ),
            Part::Event(ITEM_DONE) => (
                ITEM_DONE,
                json!({"output_index": index, "item": message_item(answer)}),
            ),
            Part::Done => (
                "response.incomplete",
                json!({"response": response(answer, "incomplete", true)}),
            ),
            Part::Event(CREATED) => (
                CREATED,
                json!({"response": response(answer, "in_progress", false)}),
            ),
            _ => (
                IN_PROGRESS,
                json!({"response": response(answer, "in_progress", false)}),
            ),
        };
        numbered(name, &mut json, progress, out);
    }

    fn whole(&self, answer: &Answer, _progress: &Progress) -> String {
        response(answer, "incomplete", true).to_string()
    }

    fn error(&self, refused: &Refused) -> String {
        openai::error(refused)
    }

    /// An error of the stream before there is output, a failed response afterwards.
    fn error_frame(&self, refused: &Refused, progress: &Progress, out: &mut String) {
        let code = if refused.is_overload() {
            "server_is_overloaded"
        } else {
            "server_error"
        };
        let message = refused.message();
        if progress.tokens == 0 {
            let mut json = json!({"code": code, "message": message, "param": null});
            numbered("error", &mut json, progress, out);
        } else {
            let mut json = json!({"response": {
                "object": "response", "status": "failed", "error": {"code": code, "message": message}, "usage": null,
            }});
            numbered("response.failed", &mut json, progress, out);
        }
    }

    fn thinks(&self) -> bool {
        true
    }
}

fn numbered(name: &str, json: &mut Value, progress: &Progress, out: &mut String) {
    if let Some(fields) = json.as_object_mut() {
        fields.insert("type".into(), name.into());
        fields.insert("sequence_number".into(), progress.frames.into());
    }
    event(out, name, json);
}

fn item_id(answer: &Answer) -> String {
    format!("msg_sim_{}", answer.id.0)
}

fn thought_id(answer: &Answer) -> String {
    format!("rs_sim_{}", answer.id.0)
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn message_item(answer: &Answer) -> Value {
    // The answer always ends at its limit.
    json!({"id": item_id(answer), "type": "message", "status": "incomplete", "role": "assistant", "content": [text_part(&answer.text())]})
}

fn thought_item(answer: &Answer) -> Value {
    json!({
        "id": thought_id(answer), "type": "reasoning", "summary": [],
        "content": [{"type": "reasoning_text", "text": answer.thoughts()}],
    })
}

fn response(answer: &Answer, status: &str, whole: bool) -> Value {
    let output = match (whole, answer.shows_thoughts()) {
        (false, _) => json!([]),
        (true, false) => json!([message_item(answer)]),
        (true, true) => json!([thought_item(answer), message_item(answer)]),
    };
    let usage = (whole && answer.usage != UsageIn::Nowhere).then(|| {
        let (input, output) = (answer.ask.prompt.tokens, answer.ask.output_tokens);
        json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": answer.cached.unwrap_or(0)},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": answer.visible_from()},
            "total_tokens": input + output,
        })
    });
    json!({
        "id": format!("resp_sim_{}", answer.id.0),
        "object": "response",
        "created_at": answer.created.as_secs(),
        "status": status,
        "error": null,
        "incomplete_details": whole.then(|| json!({"reason": "max_output_tokens"})),
        "model": serde_json::from_str::<Value>(&answer.model).unwrap_or_default(),
        "output": output,
        "usage": usage,
    })
}
