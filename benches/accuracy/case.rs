//! What is measured: by whom, over what, with how many users.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Who measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tool {
    /// The engine of the exporter, cold as it always is.
    Ours,
    /// The yardstick, each request on a connection of its own.
    BareCold,
    /// The yardstick on connections that are there already.
    BareWarm,
    AiPerf,
    GuideLlm,
}

impl Tool {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "llm-probe-exporter",
            Self::BareCold => "bare client, cold",
            Self::BareWarm => "bare client, pooled",
            Self::AiPerf => "AIPerf",
            Self::GuideLlm => "GuideLLM",
        }
    }
}

/// What the server is like and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    EarlyHeads,
    LateHeads,
    Tls,
    Http2,
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EarlyHeads => "early heads",
            Self::LateHeads => "late heads",
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) tool: Tool,
    pub(crate) way: Way,
    pub(crate) users: u32,
}

/// All cases, those of one load beside one another, so that whatever else the machine does meets them all.
pub(crate) fn all(peers: bool) -> Vec<Case> {
    let mut tools = vec![Tool::Ours, Tool::BareCold, Tool::BareWarm];
    if peers {
        tools.extend([Tool::AiPerf, Tool::GuideLlm]);
    }
    let early = [1, 50, 200, 500, 1000]
        .into_iter()
        .flat_map(|users| tools.iter().map(move |&tool| (tool, Way::EarlyHeads, users)));
    let ours =
        |way, users: &[u32]| -> Vec<_> { users.iter().map(|&users| (Tool::Ours, way, users)).collect() };
    early
        .chain(ours(Way::LateHeads, &[1, 50, 200, 500, 1000]))
        .chain(ours(Way::Tls, &[1, 50, 200, 1000]))
        .chain(ours(Way::Http2, &[1, 50, 200, 1000]))
        .map(|(tool, way, users)| Case { tool, way, users })
        .collect()
}

/// What a process that measures is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) tool: Tool,
    pub(crate) users: u32,
    pub(crate) address: SocketAddr,
    pub(crate) http2: bool,
    /// Of a server with TLS: whom to trust.
    pub(crate) ca: Option<PathBuf>,
}

impl Order {
    /// Bursts that are measured, after one that is not.
    pub(crate) const fn bursts(&self) -> u32 {
        match self.users {
            50 => 6,
            200 => 3,
            _ => 2,
        }
    }

    /// Requests that each user sends in a burst, one after the other.
    pub(crate) const fn requests_each(&self) -> u32 {
        if self.users == 1 { 5 } else { 1 }
    }

    /// Tokens of an answer. At 100 a second for each user, longer answers to many of them would fill two cores, and what
    /// was measured would be how late a busy machine is.
    pub(crate) const fn tokens(&self) -> u32 {
        match self.users {
            0..=50 => 64,
            51..=200 => 32,
            _ => 8,
        }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/v1", self.address)
    }
}
