//! What the server says in answer to one request: tokens, times, and text where it is kept. "Not reported" is `None`, never zero.

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
