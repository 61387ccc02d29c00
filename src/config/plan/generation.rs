//! How the model is to generate, beside how much at most.

use super::Dialect;
use crate::units::Tokens;

/// What a probe wants of the generation. By default: nothing but that models which can be told so do not think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// At most [`super::Probe::max_tokens`]; only at targets whose API has a field for it.
    pub min_tokens: Option<Tokens>,
    /// The end of the sequence is no reason to stop; only at targets whose API has a field for it.
    pub ignore_eos: bool,
    pub thinking: Thinking,
}

/// Whether a model that can do both thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    #[default]
    Off,
    On,
}

impl Thinking {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

/// How a target is told whether to think; in the configuration the key `reasoning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// vLLM, SGLang and llama.cpp: `chat_template_kwargs: { enable_thinking }`.
    ChatTemplate,
    /// OpenAI's `reasoning_effort`, in the Responses API `reasoning: { effort }`: `none`.
    Effort,
    /// Ollama's `think`.
    Think,
    /// Gemini's `thinkingConfig: { thinkingBudget }`: 0.
    Budget,
    /// Anthropic's `thinking: { type: disabled }`.
    Disable,
}

impl Reasoning {
    pub const ALL: &'static [Self] = &[
        Self::ChatTemplate,
        Self::Effort,
        Self::Think,
        Self::Budget,
        Self::Disable,
    ];

    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatTemplate => "chat_template",
            Self::Effort => "effort",
            Self::Think => "think",
            Self::Budget => "budget",
            Self::Disable => "disable",
        }
    }

    /// Whether requests of that API have a place for it.
    pub const fn fits(self, api: Dialect) -> bool {
        match self {
            Self::ChatTemplate => matches!(api, Dialect::OpenaiChat),
            Self::Effort => matches!(api, Dialect::OpenaiChat | Dialect::OpenaiResponses),
            Self::Think => matches!(api, Dialect::OllamaChat | Dialect::OllamaGenerate),
            Self::Budget => matches!(api, Dialect::Gemini),
            Self::Disable => matches!(api, Dialect::AnthropicMessages),
        }
    }
}

impl Dialect {
    /// Whether requests have a field for the least number of tokens.
    pub const fn has_min_tokens(self) -> bool {
        matches!(self, Self::OpenaiChat | Self::OpenaiCompletions)
    }

    /// Whether requests have a field to go on after the end of the sequence.
    pub const fn has_ignore_eos(self) -> bool {
        matches!(
            self,
            Self::OpenaiChat | Self::OpenaiCompletions | Self::LlamacppCompletion
        )
    }
}
