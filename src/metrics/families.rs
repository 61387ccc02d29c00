//! What a row of the table of families is. Everything is registered, exported and documented from the table:
//! a row says what a family is and reads it from what was counted.

use super::{
    answer::Answered,
    collector::Reading,
    exporter::Exporter,
    exposition::Rows,
    latency::{self, Buckets},
    numbers::Lags,
};
use crate::{
    budget::{Amounts, Budget, Unit},
    protection::Guard,
};

/// The labels of a series, before those that the configuration declares. A series has one of the last two.
pub const SERIES_LABELS: &[&str] = &["probe", "target", "model", "concurrency", "rate"];

/// Of these a series has the one that its load has a value for.
pub(super) const LOAD_LABELS: &[&str] = &["concurrency", "rate"];

/// The labels of `llm_probe_target_info`.
pub(super) const TARGET_LABELS: &[&str] = &["target", "model", "host", "api", "connection", "http"];

pub(super) const CERTIFICATE_LABELS: &[&str] = &["target"];

/// One of them is empty: a budget is of a probe or of a target.
pub(super) const BUDGET_LABELS: &[&str] = &["probe", "target"];

/// One family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// The labels beside those of the scope.
    pub labels: &'static [&'static str],
    pub since: Since,
    /// What it tells, in one line: the HELP of the exposition.
    pub help: &'static str,
    pub(super) scope: Scope,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(Buckets),
}

impl Kind {
    /// As in the TYPE line of the exposition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// From when on there are samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// From the first scrape after the load of the plan; counters and histograms at 0.
    Load,
    /// From then on, too, but NaN until there is a last burst and when it is older than three intervals.
    Burst,
    /// The same of the last search for the capacity, of the probes that search.
    Search,
    /// Absent until known.
    Known,
}

impl Since {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Burst => "last burst",
            Self::Search => "last search",
            Self::Known => "once known",
        }
    }
}

/// What a family has its samples of, and how they are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    Series(Read<Reading>),
    Probe(Read<Lags>),
    Target,
    /// Of the targets whose certificate was seen.
    Certificate,
    /// Of each budget, by unit; `None` where it does not limit the unit.
    Budget(fn(&Budget, &Amounts, Unit) -> Option<f64>),
    /// Of each target, as it is guarded.
    Guard(fn(&Guard) -> Option<f64>),
    Exporter(Read<Exporter>),
    /// The burst that was asked for.
    Answer(Read<Answered>),
    /// What the crate prometheus says of the process.
    Process,
}

/// Units that a family may be named after.
const UNITS: [&str; 5] = ["seconds", "bytes", "ratio", "tokens", "dollars"];

impl Family {
    /// What it is measured in, which its name ends with; `None` where it only counts.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let (_, last) = name.rsplit_once('_')?;
        UNITS.into_iter().find(|unit| *unit == last)
    }

    /// Whether it is said of series, or of what was seen of a target.
    pub(super) fn is_of_a_burst(&self) -> bool {
        matches!(self.scope, Scope::Series(_) | Scope::Target | Scope::Certificate)
    }

    /// The labels that come from the scope; `None` stands for [`SERIES_LABELS`] and the declared ones.
    pub const fn scope_labels(&self) -> Option<&'static [&'static str]> {
        match self.scope {
            Scope::Series(_) => None,
            Scope::Probe(_) => Some(&["probe"]),
            Scope::Target => Some(TARGET_LABELS),
            Scope::Certificate | Scope::Guard(_) => Some(CERTIFICATE_LABELS),
            Scope::Budget(_) => Some(BUDGET_LABELS),
            Scope::Exporter(_) | Scope::Answer(_) | Scope::Process => Some(&[]),
        }
    }
}

/// How a row reads what was counted.
type Read<T> = for<'a> fn(&'a T, &mut Rows<'a>);
type Labels = &'static [&'static str];

pub(super) const fn counter(
    name: &'static str,
    labels: Labels,
    help: &'static str,
    read: Read<Reading>,
) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        labels,
        since: Since::Load,
        help,
        scope: Scope::Series(read),
    }
}

pub(super) const fn gauge(
    name: &'static str,
    labels: Labels,
    since: Since,
    help: &'static str,
    read: Read<Reading>,
) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        labels,
        since,
        help,
        scope: Scope::Series(read),
    }
}

pub(super) const fn histogram(
    name: &'static str,
    buckets: Buckets,
    labels: Labels,
    help: &'static str,
    read: Read<Reading>,
) -> Family {
    Family {
        name,
        kind: Kind::Histogram(buckets),
        labels,
        since: Since::Load,
        help,
        scope: Scope::Series(read),
    }
}

pub(super) const fn lag(name: &'static str, help: &'static str, read: Read<Lags>) -> Family {
    let kind = Kind::Histogram(latency::LAG);
    Family {
        name,
        kind,
        labels: &[],
        since: Since::Load,
        help,
        scope: Scope::Probe(read),
    }
}

pub(super) const fn exporter(
    name: &'static str,
    kind: Kind,
    labels: Labels,
    since: Since,
    help: &'static str,
    read: Read<Exporter>,
) -> Family {
    Family {
        name,
        kind,
        labels,
        since,
        help,
        scope: Scope::Exporter(read),
    }
}

pub(super) const fn answer(
    name: &'static str,
    labels: Labels,
    since: Since,
    help: &'static str,
    read: Read<Answered>,
) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        labels,
        since,
        help,
        scope: Scope::Answer(read),
    }
}

pub(super) const fn process(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family {
        name,
        kind,
        labels: &[],
        since: Since::Load,
        help,
        scope: Scope::Process,
    }
}
