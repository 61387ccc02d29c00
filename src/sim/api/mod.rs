//! The wire formats that the simulator speaks: what is asked, what is answered, and how each says no. One file
//! a format, without I/O; each follows the real server that it is named after.

mod answer;
mod anthropic;
mod chat;
mod completions;
mod gemini;
mod llamacpp;
mod ollama;
mod openai;
mod prompt;
mod refused;
mod responses;
mod tgi;
mod tokenize;
mod triton;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(super) use self::{
    answer::{Answer, Progress, Reasoning, Thoughts, UsageIn},
    ollama::tags,
    openai::models,
    prompt::{Counting, Prompt},
    refused::Refused,
    tokenize::tokenize,
};

/// Tokens of an answer for which the request sets no limit.
const DEFAULT_OUTPUT_TOKENS: u64 = 128;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    OpenaiChat,
    OpenaiCompletions,
    OpenaiResponses,
    AnthropicMessages,
    OllamaChat,
    OllamaGenerate,
    LlamacppCompletion,
    TgiGenerate,
    TritonGenerate,
    Gemini,
}

/// What the path of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub api: Api,
    /// Where the path names it.
    pub model: Option<String>,
    /// Where the path says whether the answer is streamed.
    pub stream: Option<bool>,
}

impl Route {
    /// What is spoken at `path`, if anything.
    pub(super) fn at(path: &str) -> Option<Self> {
        let (api, model, stream) = match path {
            "/v1/chat/completions" => (Api::OpenaiChat, None, None),
            "/v1/completions" => (Api::OpenaiCompletions, None, None),
            "/v1/responses" => (Api::OpenaiResponses, None, None),
            "/v1/messages" => (Api::AnthropicMessages, None, None),
            "/api/chat" => (Api::OllamaChat, None, None),
            "/api/generate" => (Api::OllamaGenerate, None, None),
            "/completion" => (Api::LlamacppCompletion, None, None),
            "/generate_stream" => (Api::TgiGenerate, None, Some(true)),
            "/generate" => (Api::TgiGenerate, None, Some(false)),
            _ => {
                let (api, model, stream) = triton::route(path).or_else(|| gemini::route(path))?;
                (api, Some(model.to_owned()), Some(stream))
            }
        };
        Some(Self { api, model, stream })
    }
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub prompt: Prompt,
    /// The answer gets exactly so many, whether or not `ignore_eos` is set: a simulated model never stops early.
    /// 0: the model is only to be loaded (Ollama).
    pub output_tokens: u64,
    pub stream: bool,
    /// OpenAI's APIs tell it only on request, vLLM on request in every frame.
    pub usage: UsageIn,
    /// Details with the last token (TGI).
    pub details: bool,
}

/// A piece of a streamed answer: the unit that is rendered and, unless a fault says otherwise, written on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The frame that names the role (OpenAI's chat).
    Role,
    /// A named event of the protocol's ceremony.
    Event(&'static str),
    /// The tokens with these indices; usually one.
    Tokens {
        from: u64,
        to: u64,
    },
    Finish,
    Usage,
    /// The protocol's end marker, where that is a frame of its own.
    Done,
    /// A frame that says nothing.
    Ping,
}

/// How one API reads requests and frames answers.
pub(super) trait Wire: Sync {
    /// Reads a request to the one `model` there is; `prompt` is empty and counts.
    fn ask(&self, body: &[u8], route: &Route, model: &str, prompt: Prompt) -> Result<Ask, Refused>;

    /// The content type of a streamed answer.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// What all frames with tokens begin with.
    fn prefix(&self, _answer: &Answer) -> String {
        String::new()
    }

    /// What is written before the first token, when that is there.
    fn opening(&self, _answer: &Answer) -> &'static [Part] {
        &[]
    }

    /// What is written between the last thought and the first visible token.
    fn turning(&self) -> &'static [Part] {
        &[]
    }

    /// What is written after the last token; empty where that carries the end marker itself.
    fn closing(&self, answer: &Answer) -> &'static [Part];

    /// Appends one part, framing included.
    fn render(&self, answer: &Answer, part: Part, progress: &Progress, out: &mut String);

    /// The whole answer at once, for one that is not streamed.
    fn whole(&self, answer: &Answer, progress: &Progress) -> String;

    /// The body of the answer to a request that is refused, as the real server words it.
    fn error(&self, refused: &Refused) -> String;

    /// An error inside a stream that has begun.
    fn error_frame(&self, refused: &Refused, _progress: &Progress, out: &mut String) {
        out.push_str("data: ");
        out.push_str(&self.error(refused));
        out.push_str("\n\n");
    }

    /// What still follows an error inside a stream.
    fn after_error(&self) -> &'static [Part] {
        &[]
    }

    /// What keeps a connection alive and says nothing.
    fn comment(&self) -> &'static str {
        ": keep-alive\n\n"
    }

    /// The status that says that the queue is full.
    fn busy(&self) -> u16 {
        503
    }

    /// Refuses a stream with a 200 and an error frame in it (TGI).
    fn refuses_in_stream(&self) -> bool {
        false
    }

    /// The API can show thoughts.
    fn thinks(&self) -> bool {
        false
    }
}

impl Api {
    pub(super) fn wire(self) -> &'static dyn Wire {
        match self {
            Self::OpenaiChat => &chat::Chat,
            Self::OpenaiCompletions => &completions::Completions,
            Self::OpenaiResponses => &responses::Responses,
            Self::AnthropicMessages => &anthropic::Anthropic,
            Self::OllamaChat => &ollama::CHAT,
            Self::OllamaGenerate => &ollama::GENERATE,
            Self::LlamacppCompletion => &llamacpp::Llamacpp,
            Self::TgiGenerate => &tgi::Tgi,
            Self::TritonGenerate => &triton::Triton,
            Self::Gemini => &gemini::Gemini,
        }
    }

    /// The status of a refusal.
    pub(super) fn status(self, refused: &Refused) -> u16 {
        match refused {
            Refused::Malformed(_) | Refused::TooLong { .. } => 400,
            Refused::UnknownModel(_) => 404,
            Refused::QueueFull => self.wire().busy(),
            Refused::Status(status) => *status,
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::malformed(&error))
}

/// There is only one model.
fn check_model(asked: &str, model: &str) -> Result<(), Refused> {
    if asked == model {
        Ok(())
    } else {
        Err(Refused::unknown_model(asked))
    }
}

/// A limit of 0 tokens is a mistake where the API has no meaning for it.
fn limit(field: &str, limit: Option<u64>) -> Result<u64, Refused> {
    match limit {
        Some(0) => Err(Refused::Malformed(format!("{field} must be at least 1, got 0."))),
        Some(limit) => Ok(limit),
        None => Ok(DEFAULT_OUTPUT_TOKENS),
    }
}

/// Appends a server-sent event without a name.
fn data(out: &mut String, json: &serde_json::Value) {
    out.push_str("data: ");
    out.push_str(&json.to_string());
    out.push_str("\n\n");
}

/// Appends a server-sent event whose name is the type of its data.
fn event(out: &mut String, name: &str, json: &serde_json::Value) {
    out.push_str("event: ");
    out.push_str(name);
    out.push('\n');
    data(out, json);
}

#[cfg(test)]
mod tests;
