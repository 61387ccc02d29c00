//! What the server says of one request: tokens and times. "Not reported" is `None`, never zero.

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
    /// Until the model was ready: loading and, in Ollama, waiting for a runner.
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
