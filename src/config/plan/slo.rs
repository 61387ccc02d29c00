//! Service level objectives.

use std::time::Duration;

use crate::{
    outcome::{Failure, Skip},
    units::Ratio,
};

/// Service level objectives of a series. Without any limit, success alone is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    pub ttft: Option<Duration>,
    pub ttft_from: TtftFrom,
    pub ttfo: Option<Duration>,
    pub itl: Option<Duration>,
    /// Limit on the longest gap.
    pub gap: Option<Duration>,
    /// Limit on the request duration.
    pub request: Option<Duration>,
    /// Share of requests that are to be good: above 0, below 1.
    pub objective: Ratio,
    pub alert: Alert,
    /// Failures that are not judged.
    pub excuse: Vec<Failure>,
    pub withheld: Withheld,
}

impl Slo {
    /// Whether a burst that was due and not fired for this reason counts as judged and missed: where it is the
    /// endpoint's doing, or that our credentials are not accepted and that is not excused, unless `withheld` says to ignore it.
    pub fn judges(&self, reason: Skip) -> bool {
        let is_to_blame = match reason {
            Skip::Overlap | Skip::Backoff => true,
            Skip::Auth => !self.excuse.contains(&Failure::Unauthorized),
            _ => false,
        };
        self.withheld == Withheld::Missed && is_to_blame
    }

    /// Whether requests of a burst that were never sent for this reason count as judged and missed: those cut off to
    /// protect the endpoint, and those of an open loop that found no place.
    pub fn judges_unsent(&self, reason: Skip) -> bool {
        self.withheld == Withheld::Missed && matches!(reason, Skip::InFlight | Skip::Backoff)
    }
}

impl Default for Slo {
    /// What holds where no `slo` is given: success alone, and nobody is alerted.
    fn default() -> Self {
        Self {
            ttft: None,
            ttft_from: TtftFrom::Start,
            ttfo: None,
            itl: None,
            gap: None,
            request: None,
            objective: Ratio::new(0.99).expect("99 % is a share"),
            alert: Alert::None,
            excuse: vec![Failure::Unauthorized],
            withheld: Withheld::Missed,
        }
    }
}

/// Which time to first token the limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtftFrom {
    Start,
    Connected,
}

impl TtftFrom {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Connected => "connected",
        }
    }
}

/// Whom a missed objective alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alert {
    Page,
    Ticket,
    None,
}

impl Alert {
    /// The value of the label `alert`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
            Self::None => "none",
        }
    }
}

/// How bursts count that were due and withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    Missed,
    Ignore,
}

impl Withheld {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Ignore => "ignore",
        }
    }
}
