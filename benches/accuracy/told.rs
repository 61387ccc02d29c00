//! What a process that measures tells of it.

use serde::{Deserialize, Serialize};

/// What one process measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Whether the threads that measured went before all others.
    pub(crate) realtime: bool,
    /// Of the bursts that were measured, without start-up.
    pub(crate) cpu_seconds: f64,
    /// The share of the requests that this CPU time was spent on.
    pub(crate) share: f64,
    /// In MB.
    pub(crate) peak_memory: f64,
    pub(crate) requests: Vec<Request>,
}

/// One request, in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Request {
    /// What the server knows it by: the client's id, or the server's own.
    pub(crate) id: String,
    /// Which burst it began with; `None`: it did not begin with one.
    pub(crate) burst: Option<u32>,
    /// `None`: it failed.
    pub(crate) ttft: Option<f64>,
    pub(crate) itl: Option<f64>,
    /// Between arrivals.
    pub(crate) gaps: Vec<f64>,
    /// The TLS handshake, which is in the time to first token and no error of it.
    pub(crate) handshake: f64,
}
