//! `POST /v1/messages`, as Anthropic frames it: named events, cumulative usage in `message_delta`, `message_stop`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, Part, Progress, Prompt, Refused, Route, UsageIn, Wire, check_model, event, limit,
    prompt::Message, read,
};

#[derive(Deserialize)]
struct Body {
    model: String,
    messages: Vec<Message>,
    system: Option<Value>,
    max_tokens: u64,
    stream: Option<bool>,
}

const MESSAGE_START: &str = "message_start";
const BLOCK_START: &str = "content_block_start";
const BLOCK_DELTA: &str = "content_block_delta";
const BLOCK_STOP: &str = "content_block_stop";
const MESSAGE_DELTA: &str = "message_delta";
const THOUGHT_START: &str = "content_block_start (thinking)";
const THOUGHT_SIGNATURE: &str = "content_block_delta (signature)";
const THOUGHT_STOP: &str = "content_block_stop (thinking)";

#[derive(Debug)]
pub(super) struct Anthropic;

impl Wire for Anthropic {
    fn ask(&self, body: &[u8], _route: &Route, model: &str, prompt: Prompt) -> Result<Ask, Refused> {
        let body: Body = read(body)?;
        check_model(&body.model, model)?;
        if body.messages.is_empty() {
            return Err(Refused::Malformed(
                "messages: at least one message is required".to_owned(),
            ));
        }
        let mut messages: Vec<_> = body.system.map(Message::system).into_iter().collect();
        messages.extend(body.messages);
        Ok(Ask {
            prompt: prompt.chat(&messages),
            output_tokens: limit("max_tokens", Some(body.max_tokens))?,
            stream: body.stream.unwrap_or(false),
            ..Ask::default()
        })
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn opening(&self, answer: &Answer) -> &'static [Part] {
        if answer.shows_thoughts() {
            return const { &[Part::Event(MESSAGE_START), Part::Event(THOUGHT_START), Part::Ping] };
        }
        const { &[Part::Event(MESSAGE_START), Part::Event(BLOCK_START), Part::Ping] }
    }

    fn turning(&self) -> &'static [Part] {
        const {
            &[
                Part::Event(THOUGHT_SIGNATURE),
                Part::Event(THOUGHT_STOP),
                Part::Event(BLOCK_START),
            ]
        }
    }

    fn closing(&self, _answer: &Answer) -> &'static [Part] {
        const { &[Part::Event(BLOCK_STOP), Part::Event(MESSAGE_DELTA), Part::Done] }
    }

    fn render(&self, answer: &Answer, part: Part, _progress: &Progress, out: &mut String) {
        let index = u64::from(answer.shows_thoughts());
        let (name, json) = match part {
            Part::Tokens { from, to } => {
                let mut text = String::new();
                answer.tokens(from, to, &mut text);
                let (index, delta) = if answer.is_thought(from) {
                    (0, json!({"type": "thinking_delta", "thinking": text}))
                } else {
                    (index, json!({"type": "text_delta", "text": text}))
                };
                (
                    BLOCK_DELTA,
                    json!({"type": BLOCK_DELTA, "index": index, "delta": delta}),
                )
            }
            Part::Event(MESSAGE_START) => (
                MESSAGE_START,
                json!({"type": MESSAGE_START, "message": message(answer, &json!([]), &Value::Null, 1)}),
            ),
            Part::Event(THOUGHT_START) => (
                BLOCK_START,
                json!({"type": BLOCK_START, "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            ),
            Part::Event(THOUGHT_SIGNATURE) => (
                BLOCK_DELTA,
                json!({"type": BLOCK_DELTA, "index": 0, "delta": {"type": "signature_delta", "signature": "c2ltdWxhdGVk"}}),
            ),
            Part::Event(THOUGHT_STOP) => (BLOCK_STOP, json!({"type": BLOCK_STOP, "index": 0})),
            Part::Event(BLOCK_START) => (
                BLOCK_START,
                json!({"type": BLOCK_START, "index": index, "content_block": {"type": "text", "text": ""}}),
            ),
            Part::Event(BLOCK_STOP) => (BLOCK_STOP, json!({"type": BLOCK_STOP, "index": index})),
            Part::Event(MESSAGE_DELTA) => {
                let mut json = json!({"type": MESSAGE_DELTA, "delta": {"stop_reason": "max_tokens", "stop_sequence": null}});
                if let (false, Some(fields)) = (answer.usage == UsageIn::Nowhere, json.as_object_mut()) {
                    fields.insert("usage".into(), json!({"output_tokens": answer.ask.output_tokens}));
                }
                (MESSAGE_DELTA, json)
            }
            Part::Done => ("message_stop", json!({"type": "message_stop"})),
            _ => ("ping", json!({"type": "ping"})),
        };
        event(out, name, &json);
    }

    fn whole(&self, answer: &Answer, _progress: &Progress) -> String {
        let text = json!({"type": "text", "text": answer.text()});
        let content = match answer.thoughts() {
            Some(thoughts) => json!([{"type": "thinking", "thinking": thoughts, "signature": ""}, text]),
            None => json!([text]),
        };
        message(answer, &content, &json!("max_tokens"), answer.ask.output_tokens).to_string()
    }

    fn error(&self, refused: &Refused) -> String {
        let kind = match refused {
            Refused::UnknownModel(_) | Refused::Status(404) => "not_found_error",
            Refused::Status(401) => "authentication_error",
            Refused::Status(403) => "permission_error",
            Refused::Status(413) => "request_too_large",
            Refused::Status(429) => "rate_limit_error",
            refused if refused.is_overload() => "overloaded_error",
            Refused::Status(500..) => "api_error",
            _ => "invalid_request_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": refused.message()}}).to_string()
    }

    fn error_frame(&self, refused: &Refused, _progress: &Progress, out: &mut String) {
        out.push_str("event: error\ndata: ");
        out.push_str(&self.error(refused));
        out.push_str("\n\n");
    }

    fn busy(&self) -> u16 {
        529
    }

    fn thinks(&self) -> bool {
        true
    }
}

/// `input_tokens` are those that did not come from the cache.
fn message(answer: &Answer, content: &Value, stop_reason: &Value, output_tokens: u64) -> Value {
    json!({
        "id": format!("msg_sim_{}", answer.id.0),
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": serde_json::from_str::<Value>(&answer.model).unwrap_or_default(),
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": answer.uncached(),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.cached.unwrap_or(0),
            "output_tokens": output_tokens,
        },
    })
}
