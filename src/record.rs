//! What came of one request: the timeline, the outcome, and what the server said.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    identity::RequestId,
    outcome::{Failure, Invalid, Outcome},
    prompt::Asked,
    tape::Tape,
    timeline::Timeline,
    units::{Seconds, Tokens},
    usage::{Found, ServerPhases, Transcript, Usage},
};

/// How a request came by its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// Opened for it.
    New,
    /// Taken from the pool.
    Reused,
    /// Taken from the pool, found dead before the first byte, opened anew.
    Reopened,
}

impl ConnectionState {
    pub const ALL: &'static [Self] = &[Self::New, Self::Reused, Self::Reopened];

    /// The value of the label `state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reused => "reused",
            Self::Reopened => "reopened",
        }
    }
}

/// One request of a burst, ended. There is exactly one for every request that was begun, also when it was
/// cancelled or panicked.
#[derive(Clone, Debug)]
pub struct Record {
    /// Position in the burst, from 0; warm-up requests count on their own.
    pub number: u32,
    /// What the endpoint was told that the request is called; unknown in old recordings.
    pub id: Option<RequestId>,
    /// Which prompt it asks.
    pub asked: Asked,
    /// Warm-up requests count only for tokens and cost.
    pub warmup: bool,
    pub timeline: Timeline,
    pub outcome: Outcome,
    /// For the log and the page: what happened in words, at most [`Record::MAX_DETAIL`] bytes, never in a label.
    pub detail: Option<String>,
    /// When the request was over, whichever way; `None` when it never started.
    pub ended: Option<Instant>,
    pub usage: Usage,
    /// What the server had counted with the first output delta, where it says so on that frame.
    pub first_delta: Usage,
    /// Output tokens as the target's tokenizer counts them, where the server did not.
    pub counted: Option<Tokens>,
    /// The text of the answer, where somebody wants it, until it is examined.
    pub text: Option<Transcript>,
    /// Whether a delta carried reasoning: then reported reasoning tokens were generated in the open.
    pub open_reasoning: bool,
    pub server_phases: ServerPhases,
    /// The HTTP status, once there was a response head.
    pub status: Option<u16>,
    /// For how long an endpoint that refused asked not to come back.
    pub retry_after: Option<Duration>,
    pub connection: Option<ConnectionState>,
    /// What was read, where requests are recorded.
    pub tape: Option<Arc<Tape>>,
    /// The other end of the connection: the target, or its proxy. Unknown for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Which replica answered, where a response header says so; in no label.
    pub replica: Option<String>,
    /// When the first of the certificates that the server showed ends, in seconds since the Unix epoch; seen
    /// with each new connection, also when the certificates were not believed.
    pub certificate_expires: Option<u64>,
}

impl Record {
    /// Longest detail that is kept, in bytes.
    pub const MAX_DETAIL: usize = 1024;

    pub fn new(number: u32, warmup: bool, intended: Instant) -> Self {
        Self {
            number,
            id: None,
            asked: Asked::default(),
            warmup,
            timeline: Timeline::new(intended),
            outcome: Outcome::Invalid(Invalid::Cancelled),
            detail: None,
            ended: None,
            usage: Usage::default(),
            first_delta: Usage::default(),
            counted: None,
            text: None,
            open_reasoning: false,
            server_phases: ServerPhases::default(),
            status: None,
            retry_after: None,
            connection: None,
            tape: None,
            peer: None,
            replica: None,
            certificate_expires: None,
        }
    }

    /// What the server found of its prompt in its prefix cache.
    pub fn found(&self) -> Found {
        self.usage
            .found(self.asked.made_up.and_then(|made_up| made_up.prefix))
    }

    /// Whether it was cancelled while it waited for its turn.
    pub fn was_never_sent(&self) -> bool {
        self.timeline.start.is_none() && self.outcome == Outcome::Invalid(Invalid::Cancelled)
    }

    /// From the start to the end of the request, however it ended; `None` when it never started.
    pub fn elapsed(&self) -> Option<Seconds> {
        Some(Seconds::between(self.timeline.start?, self.ended?))
    }

    /// What a request that timed out before its first token had waited.
    pub fn waited_in_vain(&self) -> Option<Seconds> {
        match self.outcome {
            Outcome::Failed(Failure::HeadersTimeout | Failure::FirstTokenTimeout) => self.elapsed(),
            _ => None,
        }
    }
}

/// Text of an endpoint, fit for a line of a log: without control characters, at most
/// [`Record::MAX_DETAIL`] bytes.
pub fn presentable(text: &str) -> String {
    let mut short = String::new();
    for word in text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
    {
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
        if short.len() > Record::MAX_DETAIL {
            let end = short.floor_char_boundary(Record::MAX_DETAIL - '…'.len_utf8());
            short.truncate(end);
            short.push('…');
            break;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_text_is_made_presentable() {
        assert_eq!(presentable("a\r\n\u{1b}[31mb\0  c"), "a [31mb c");
        let long = presentable(&"é".repeat(2000));
        assert!(
            long.len() <= Record::MAX_DETAIL && long.ends_with('…'),
            "{}",
            long.len()
        );
    }
}
