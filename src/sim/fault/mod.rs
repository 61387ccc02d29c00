//! What the simulator can be told to do wrong, or otherwise than a plain server would.
//!
//! A rule is a fault and when it applies, in words: `stall@5 every=3 from=10s`. The same `grammar` reads it from the
//! command line, from a request's `X-Sim-Fault` and from `/sim/faults`; the `catalogue` lists them. `plan` holds
//! those in force and says which of them a request meets: its `orders`.

mod catalogue;
mod cold;
mod drift;
mod grammar;
mod limiter;
mod orders;
mod plan;

use std::time::Duration;

pub use self::grammar::{Rule, RuleError};
pub(super) use self::{
    catalogue::help,
    drift::Drift,
    orders::{Coalesce, Event, Instead, Orders},
    plan::{Doorway, Faults},
};
use super::api::{Reasoning, UsageIn};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
enum Fault {
    Refuse,
    Deaf,
    Instead(Instead),
    Act(Place, Act),
    Delay(Duration),
    Drip(Duration),
    Coalesce(Coalesce),
    PerFrame(u64),
    Split(usize),
    ContentType(String),
    Empty,
    Usage(UsageIn),
    Reasoning(Reasoning),
    Slow(f64),
    Cold { load: Duration, idle: Duration },
    Cache(usize),
    Limit { requests: u64, per: Duration },
    Drift(f64),
}

impl Fault {
    /// A property of the server for a time, and not of a request: knows only `from` and `to`.
    const fn is_of_the_server(&self) -> bool {
        matches!(self, Self::Refuse | Self::Deaf | Self::Drift(_))
    }

    /// Means nothing for one request alone.
    const fn needs_a_plan(&self) -> bool {
        self.is_of_the_server() || matches!(self, Self::Limit { .. } | Self::Cache(_))
    }
}

/// Where in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the response head.
    Head,
    /// After so many tokens.
    Tokens(u64),
    /// After the last token.
    End,
}

/// What happens at a place in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Silence, for ever or for a time.
    Stall(Option<Duration>),
    /// RST; in HTTP/2 `RST_STREAM`.
    Reset,
    /// The connection is closed in the middle of the body.
    Close,
    /// The body ends in order, and the protocol does not.
    Truncate,
    /// An error frame; `true`: an overload.
    Error(bool),
    /// Comments at this interval, for ever.
    Comments(Duration),
    /// Frames that say nothing at this interval, for ever.
    Pings(Duration),
    /// A frame that is not JSON.
    Garbage,
    /// HTTP/2 GOAWAY.
    Goaway,
}
