//! A simulated inference server, to try probes against and to test them: it queues, batches and streams as a
//! real one does, and it knows the truth about its answers.
//!
//! The data flow: [`server`] lets connections in through its `door` and says what is served in `routes` · `connection` over `http1` and `body`, or `http2`,
//! reads a request, over `tls` where that is wanted · [`fault`] says what is to go wrong with it · `api` understands
//! it · `generate` takes it in: `inference` queues it in the [`engine`] of one of the `machines` and wakes it for each
//! token · `stream` writes the frames through the `outlet` and stamps each write · [`journal`] remembers them for
//! `GET /sim/requests`.
//!
//! The true time to first token of a request is `tokens_ns[0] - received_ns` of its [`journal::Record`]; a client on
//! the same machine can compare every instant with its own, since both read the same clock ([`pace`]). HTTP/1.1 is our
//! own, so that the instants are those of the writes. HTTP/2 is not: there they are those at which the frames were
//! handed to the connection.

mod api;
mod args;
mod body;
mod connection;
pub mod counters;
mod door;
pub mod engine;
mod exposition;
pub mod fault;
mod generate;
mod http1;
mod http2;
mod inference;
pub mod journal;
mod machines;
mod outlet;
pub mod pace;
mod prefix;
pub mod profile;
mod routes;
pub mod server;
mod stream;
mod tls;

use std::path::PathBuf;

pub use self::{
    api::Api,
    args::{SimulateArgs, simulate},
    fault::Rule,
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
    /// Tokens that a word of a prompt is, on average; above 0.
    pub tokens_per_word: f64,
    /// Tokens that the chat template adds to open the answer, beside four a message.
    pub template_tokens: u64,
    /// What goes wrong from the start.
    pub faults: Vec<Rule>,
    /// With TLS, and only with it.
    pub tls: Option<TlsFiles>,
}

/// Where the server's certificate chain and its key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
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
            tokens_per_word: 1.0,
            template_tokens: 3,
            faults: Vec::new(),
            tls: None,
        }
    }
}
