//! What the server says in answer to one request: tokens, times, and text where it is kept. "Not reported" is `None`, never zero.

use serde::Serialize;

use crate::units::{Seconds, Tokens};

/// Token counts as the server reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt: Option<Tokens>,
    /// Of these, tokens that came from the prefix cache.
    pub cached_prompt: Option<Tokens>,
    /// Tokens generated, reasoning included.
    pub output: Option<Tokens>,
    /// Of these, tokens of reasoning.
    pub reasoning: Option<Tokens>,
}

impl Usage {
    /// Takes over what a later report says; counts are cumulative in every protocol.
    pub fn update(&mut self, later: Self) {
        self.prompt = later.prompt.or(self.prompt);
        self.cached_prompt = later.cached_prompt.or(self.cached_prompt);
        self.output = later.output.or(self.output);
        self.reasoning = later.reasoning.or(self.reasoning);
    }

    /// Whether the prompt came from the prefix cache, or the `prefix` of it that could be there. What a chat template
    /// puts before all prompts is cached always, so a few tokens are no hit.
    pub fn found(&self, prefix: Option<Tokens>) -> Found {
        match (self.cached_prompt, self.prompt) {
            (Some(cached), Some(prompt)) if prompt > Tokens(0) => {
                let known = prefix.map_or(prompt, |prefix| prefix.min(prompt));
                if cached.0 >= known.0.div_ceil(2) {
                    Found::Hit
                } else {
                    Found::Miss
                }
            }
            _ => Found::Unknown,
        }
    }
}

/// What the server found of a prompt in its prefix cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// At least half of its tokens, or of those of the prefix that it shares with others.
    Hit,
    /// Less.
    Miss,
    /// The server does not say.
    Unknown,
}

impl Found {
    pub const ALL: &'static [Self] = &[Self::Hit, Self::Miss, Self::Unknown];

    /// The value of the label `found`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Unknown => "unknown",
        }
    }
}

/// Durations as the server reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerPhases {
    /// Until the request had a place in the model: loading it, and waiting.
    pub load: Option<Seconds>,
    /// Evaluation of the prompt.
    pub prompt: Option<Seconds>,
    /// Generation of the output.
    pub decode: Option<Seconds>,
}

impl ServerPhases {
    /// Takes over what a later report says.
    pub fn update(&mut self, later: Self) {
        self.load = later.load.or(self.load);
        self.prompt = later.prompt.or(self.prompt);
        self.decode = later.decode.or(self.decode);
    }
}

/// The text of an answer, as far as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// What the user sees: text, refusals, the names and arguments of tool calls.
    pub visible: String,
    /// What the model thought aloud.
    pub reasoning: String,
    /// There was more than [`Self::MAX`].
    pub cut: bool,
}

impl Transcript {
    /// The most text that is kept, in bytes; more would not fit the memory that a request may take.
    pub const MAX: usize = 512 << 10;

    /// Adds text as long as there is room.
    pub fn add(&mut self, text: &str, visible: bool) {
        let room = Self::MAX - (self.visible.len() + self.reasoning.len());
        let kept = text.get(..text.floor_char_boundary(room)).unwrap_or_default();
        self.cut |= kept.len() < text.len();
        let part = if visible {
            &mut self.visible
        } else {
            &mut self.reasoning
        };
        part.push_str(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_prompt_is_a_hit() {
        for (cached, prompt, found) in [
            (Some(50), Some(100), Found::Hit),
            (Some(49), Some(100), Found::Miss),
            (Some(2), Some(3), Found::Hit),
            (Some(1), Some(3), Found::Miss),
            (Some(0), Some(1), Found::Miss),
            (Some(0), Some(0), Found::Unknown),
            (None, Some(100), Found::Unknown),
            (Some(100), None, Found::Unknown),
        ] {
            let usage = Usage {
                prompt: prompt.map(Tokens),
                cached_prompt: cached.map(Tokens),
                ..Usage::default()
            };
            assert_eq!(usage.found(None), found, "{cached:?} of {prompt:?}");
            // The same of a prompt of twice the length that shares its first half.
            let longer = Usage {
                prompt: prompt.map(|prompt| Tokens(2 * prompt)),
                ..usage
            };
            assert_eq!(longer.found(prompt.map(Tokens)), found, "{longer:?}");
        }
    }

    #[test]
    fn no_more_is_kept_than_fits() {
        let mut transcript = Transcript::default();
        let long = "é".repeat(300 << 10);
        for visible in [true, false, true] {
            transcript.add(&long, visible);
        }
        assert!(transcript.cut);
        assert!(transcript.visible.len() + transcript.reasoning.len() <= Transcript::MAX);
        assert!(transcript.visible.len() >= Transcript::MAX - 1);
    }
}
