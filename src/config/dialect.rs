//! The wire protocols by name, and where each is served. What they say is in [`crate::dialect`].

/// A wire protocol; in the configuration the key `api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
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

impl Dialect {
    pub const ALL: &'static [Self] = &[
        Self::OpenaiChat,
        Self::OpenaiCompletions,
        Self::OpenaiResponses,
        Self::AnthropicMessages,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::LlamacppCompletion,
        Self::TgiGenerate,
        Self::TritonGenerate,
        Self::Gemini,
    ];

    /// As written in the configuration and in the label `api`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai_chat",
            Self::OpenaiCompletions => "openai_completions",
            Self::OpenaiResponses => "openai_responses",
            Self::AnthropicMessages => "anthropic_messages",
            Self::OllamaChat => "ollama_chat",
            Self::OllamaGenerate => "ollama_generate",
            Self::LlamacppCompletion => "llamacpp_completion",
            Self::TgiGenerate => "tgi_generate",
            Self::TritonGenerate => "triton_generate",
            Self::Gemini => "gemini",
        }
    }

    /// What follows the target's base URL, which includes the version of the API where it has one.
    /// `{model}` stands for the model's name.
    pub const fn path(self) -> &'static str {
        match self {
            Self::OpenaiChat => "/chat/completions",
            Self::OpenaiCompletions => "/completions",
            Self::OpenaiResponses => "/responses",
            Self::AnthropicMessages => "/messages",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
            Self::LlamacppCompletion => "/completion",
            Self::TgiGenerate => "/generate_stream",
            Self::TritonGenerate => "/models/{model}/generate_stream",
            Self::Gemini => "/models/{model}:streamGenerateContent",
        }
    }

    /// The query of the URL, where it has one.
    pub const fn query(self) -> Option<&'static str> {
        match self {
            // Otherwise the answer is one JSON array.
            Self::Gemini => Some("alt=sse"),
            _ => None,
        }
    }

    /// The version that every server has in its base URL; `None` where servers differ or have none.
    pub const fn version(self) -> Option<&'static str> {
        match self {
            Self::AnthropicMessages => Some("/v1"),
            Self::TritonGenerate => Some("/v2"),
            Self::Gemini => Some("/v1beta"),
            _ => None,
        }
    }
}
