//! An answer in the making.

use std::time::Duration;

use serde_json::Value;

use super::{Api, Ask, Part};
use crate::sim::engine::Id;

/// When the engine did what, in nanoseconds of `CLOCK_MONOTONIC`, for APIs that tell it, and how far the
/// stream has come. The instants are in this order.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sim) struct Progress {
    pub received: u64,
    /// The model was loaded; `received` unless it had to be.
    pub loaded: u64,
    pub admitted: u64,
    pub first_token: u64,
    pub last_token: u64,
    /// Frames that were rendered before.
    pub frames: u64,
    /// Tokens that were rendered before.
    pub tokens: u64,
    /// The last token does not carry the end marker, because a fault comes before it.
    pub unfinished: bool,
}

/// Where the thoughts of an answer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Thoughts {
    /// Shown; in OpenAI's chat under `reasoning`, as vLLM does now.
    Reasoning,
    /// Shown; in OpenAI's chat under `reasoning_content`, as `DeepSeek` does.
    ReasoningContent,
    /// Only counted.
    Hidden,
}

/// The first tokens of an answer, which are thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Reasoning {
    pub tokens: u64,
    pub thoughts: Thoughts,
}

/// Where the usage is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim) enum UsageIn {
    /// Where the API has it.
    #[default]
    Place,
    /// In every frame, as far as it has come (OpenAI's APIs).
    EveryFrame,
    /// Nowhere.
    Nowhere,
}

/// An answer in the making.
#[derive(Debug)]
pub(in crate::sim) struct Answer {
    pub api: Api,
    pub id: Id,
    pub ask: Ask,
    /// Since the Unix epoch.
    pub created: Duration,
    /// The model's name as a JSON string.
    pub model: String,
    /// Prompt tokens that came from the prefix cache; `None` when there is none.
    pub cached: Option<u64>,
    pub reasoning: Reasoning,
    pub usage: UsageIn,
    prefix: String,
}

impl Answer {
    pub(in crate::sim) fn new(api: Api, id: Id, ask: Ask, created: Duration, model: &str) -> Self {
        let usage = ask.usage;
        let mut answer = Self {
            api,
            id,
            ask,
            created,
            model: Value::from(model).to_string(),
            cached: None,
            reasoning: Reasoning {
                tokens: 0,
                thoughts: Thoughts::Hidden,
            },
            usage,
            prefix: String::new(),
        };
        answer.prefix = api.wire().prefix(&answer);
        answer
    }

    /// Appends one part of the streamed answer, framing included.
    pub(in crate::sim) fn render(&self, part: Part, progress: &mut Progress, out: &mut String) {
        if let Part::Tokens { from, .. } = part {
            progress.tokens = from;
        }
        self.api.wire().render(self, part, progress, out);
        progress.frames += 1;
        if let Part::Tokens { to, .. } = part {
            progress.tokens = to;
        }
    }

    /// What all frames with tokens begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The first token that the user is to see.
    pub(super) fn visible_from(&self) -> u64 {
        self.reasoning.tokens.min(self.ask.output_tokens)
    }

    pub(super) fn is_thought(&self, index: u64) -> bool {
        index < self.reasoning.tokens
    }

    /// There are thoughts, and they are shown.
    pub(in crate::sim) fn shows_thoughts(&self) -> bool {
        self.reasoning.tokens > 0 && self.reasoning.thoughts != Thoughts::Hidden
    }

    /// These tokens end the answer, and nothing speaks against saying so.
    pub(super) fn ends_at(&self, to: u64, progress: &Progress) -> bool {
        to == self.ask.output_tokens && !progress.unfinished
    }

    /// Prompt tokens that had to be worked on.
    pub(super) fn uncached(&self) -> u64 {
        self.ask.prompt.tokens - self.cached.unwrap_or(0).min(self.ask.prompt.tokens)
    }

    /// The text of one token; each request begins elsewhere in the vocabulary.
    pub(super) fn token(&self, index: u64) -> &'static str {
        let at = (self.id.0.wrapping_mul(7).wrapping_add(index)) % WORDS.len() as u64;
        usize::try_from(at)
            .ok()
            .and_then(|at| WORDS.get(at))
            .copied()
            .unwrap_or(" the")
    }

    /// Appends the text of these tokens.
    pub(super) fn tokens(&self, from: u64, to: u64, out: &mut String) {
        for index in from..to {
            out.push_str(self.token(index));
        }
    }

    fn joined(&self, from: u64, to: u64) -> String {
        let mut text = String::new();
        self.tokens(from, to, &mut text);
        text
    }

    /// What the user is to see.
    pub(super) fn text(&self) -> String {
        self.joined(self.visible_from(), self.ask.output_tokens)
    }

    /// The thoughts that are shown.
    pub(super) fn thoughts(&self) -> Option<String> {
        self.shows_thoughts().then(|| self.joined(0, self.visible_from()))
    }
}

/// Nothing in them needs to be escaped in JSON.
const WORDS: [&str; 61] = [
    " the", " queue", " grows", " while", " one", " slot", " works", " and", " every", " user", " waits",
    ",", " but", " between", " two", " tokens", " nothing", " has", " changed", ".", " A", " server",
    " that", " answers", " its", " health", " check", " may", " still", " keep", " people", " waiting",
    " for", " a", " minute", ";", " so", " measure", " what", " they", " feel", ":", " first", " token",
    " late", ",", " then", " even", " pace", ".", " Count", " those", " who", " got", " it", " in", " time",
    " with", " many", " others", ".",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_need_no_escape() {
        for word in WORDS {
            assert_eq!(Value::from(word).to_string(), format!("\"{word}\""));
        }
    }
}
