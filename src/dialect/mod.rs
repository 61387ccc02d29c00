//! The wire protocols: request body out, [`Delta`]s in. One file per protocol; no I/O, no clock.

mod anthropic_messages;
mod control;
mod decoder;
mod fault;
mod gemini;
mod json;
mod llamacpp_completion;
mod messages;
mod ollama_chat;
mod ollama_generate;
mod openai_chat;
mod openai_completions;
mod openai_responses;
mod openai_usage;
mod said;
mod tgi_generate;
mod tokenize;
mod triton_generate;

use bytes::Bytes;
use serde_json::{Map, Value};
use url::Url;

pub use self::{
    decoder::{DecodeError, Decoder},
    fault::{ApiError, error_in},
    tokenize::{tokenize_body, tokens_counted},
};
pub use crate::config::plan::Dialect;
use crate::{
    config::plan::{Authorization, Generation, Target},
    framing::Framing,
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

impl Dialect {
    pub const fn framing(self) -> Framing {
        match self {
            Self::OllamaChat | Self::OllamaGenerate => Framing::Ndjson,
            _ => Framing::Sse,
        }
    }

    /// The media type of the stream.
    pub const fn media_type(self) -> &'static str {
        match self.framing() {
            Framing::Sse => "text/event-stream",
            Framing::Ndjson => "application/x-ndjson",
        }
    }

    /// Whether the protocol has a place for the server's own times. OpenAI-like servers may report them, too.
    pub const fn reports_times(self) -> bool {
        matches!(
            self,
            Self::OllamaChat | Self::OllamaGenerate | Self::LlamacppCompletion
        )
    }

    /// Where a request goes: the base URL, the path of the API, and in it the model where the API has it there.
    /// `None` when the base URL cannot be extended by a path.
    pub fn address(self, target: &Target) -> Option<Url> {
        let mut url = target.url.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(
            self.path()
                .split('/')
                .skip(1)
                .map(|segment| segment.replace("{model}", &target.model)),
        );
        url.set_query(self.query());
        Some(url)
    }

    /// The fewest tokens that an answer can be limited to.
    pub const fn fewest_tokens(self) -> Tokens {
        match self {
            Self::OpenaiResponses => openai_responses::FEWEST_TOKENS,
            _ => Tokens(1),
        }
    }

    /// The header that carries the credentials, and its value: the API's own, unless a scheme is given.
    pub fn credentials(self, authorization: &Authorization) -> (&'static str, String) {
        let secret = authorization.credentials.expose();
        match (&authorization.scheme, self) {
            (None, Self::AnthropicMessages) => ("x-api-key", secret.to_owned()),
            (None, Self::Gemini) => ("x-goog-api-key", secret.to_owned()),
            (scheme, _) => {
                let scheme = scheme.as_deref().unwrap_or("Bearer");
                ("authorization", format!("{scheme} {secret}"))
            }
        }
    }

    /// Headers that the API needs besides. The target's own win.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AnthropicMessages => &[anthropic_messages::VERSION],
            _ => &[],
        }
    }

    /// The body of a request, with the target's `body` merged in.
    pub fn body(
        self,
        target: &Target,
        question: &Question,
        max_tokens: Tokens,
        generation: &Generation,
    ) -> Bytes {
        let mut body = match self {
            Self::OpenaiChat => openai_chat::body(target, question, max_tokens),
            Self::OpenaiCompletions => openai_completions::body(target, question, max_tokens),
            Self::OpenaiResponses => openai_responses::body(target, question, max_tokens),
            Self::AnthropicMessages => anthropic_messages::body(target, question, max_tokens),
            Self::OllamaChat => ollama_chat::body(target, question, max_tokens),
            Self::OllamaGenerate => ollama_generate::body(target, question, max_tokens),
            Self::LlamacppCompletion => llamacpp_completion::body(question, max_tokens),
            Self::TgiGenerate => tgi_generate::body(question, max_tokens),
            Self::TritonGenerate => triton_generate::body(question, max_tokens),
            Self::Gemini => gemini::body(question, max_tokens),
        };
        merge(&mut body, &control::fields(self, target.reasoning, generation));
        merge(&mut body, &target.body);
        Value::Object(body).to_string().into()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
