//! A simulated inference server, to try probes against and to test them: it queues, batches and streams as a
//! real one does, and it knows the truth about its answers.
//!
//! The data flow: [`server`] accepts · `connection` over `http1` and `body` reads a request · `api`, `openai` and `ollama`
//! understand it · `inference` queues it in the [`engine`] and wakes it for each token · `generate` writes the
//! frames and stamps each write · [`journal`] remembers them for `GET /sim/requests`.
//!
//! The true time to first token of a request is `tokens_ns[0] - received_ns` of its [`journal::Record`]; a client on
//! the same machine can compare every instant with its own, since both read the same clock ([`pace`]).

mod api;
mod args;
mod body;
mod connection;
pub mod counters;
pub mod engine;
mod exposition;
mod generate;
mod http1;
mod inference;
pub mod journal;
mod ollama;
mod openai;
pub mod pace;
pub mod profile;
pub mod server;

pub use self::{
    api::Api,
    args::{SimulateArgs, simulate},
    pace::monotonic_nanos,
    profile::Profile,
    server::Server,
};

/// When the head of a streamed response is sent. Real servers do either: llama.cpp at once, others when the
/// engine has the first token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heads {
    /// As soon as the request has its place in the queue.
    #[default]
    Early,
    /// With the first token.
    Late,
}

/// What a simulated server is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub profile: Profile,
    /// Instead of the profile's; at least 1.
    pub slots: Option<usize>,
    /// Instead of the profile's.
    pub queue: Option<usize>,
    /// Of the jitter: the same seed and requests give the same iterations.
    pub seed: u64,
    pub heads: Heads,
    /// The one model there is.
    pub model: String,
    /// How many times as fast as the profile everything goes; above 0.
    pub speed: f64,
}

impl Settings {
    /// The name of the model where none is given.
    pub const DEFAULT_MODEL: &'static str = "simulated";

    /// The profile with everything else applied to it.
    pub fn machine(&self) -> Profile {
        let mut machine = self.profile.faster(self.speed);
        machine.slots = self.slots.unwrap_or(machine.slots).max(1);
        machine.queue = self.queue.unwrap_or(machine.queue);
        machine
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: Profile::LAPTOP,
            slots: None,
            queue: None,
            seed: 1,
            heads: Heads::Early,
            model: Self::DEFAULT_MODEL.to_owned(),
            speed: 1.0,
        }
    }
}
