//! How a series stands, in one word: what its last burst showed, unless something keeps it from firing.

use crate::{
    board::{Row, State},
    capacity::Capacity,
    config::plan::Alert,
    history::Past,
    outcome::Skip,
    summary::Summary,
};

/// The word, from the worst on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Failing,
    Degraded,
    /// A search for the capacity found no load that meets the objective.
    NothingMeets,
    BackingOff,
    OverBudget,
    ServerBusy,
    Paused,
    OutsideWindows,
    NotJudged,
    /// A search for the capacity ended without a verdict.
    CapacityUnknown,
    NoBurstYet,
    CapacityFound,
    Ok,
}

impl Standing {
    pub(super) const ALL: [Self; 13] = [
        Self::Failing,
        Self::Degraded,
        Self::NothingMeets,
        Self::BackingOff,
        Self::OverBudget,
        Self::ServerBusy,
        Self::Paused,
        Self::OutsideWindows,
        Self::NotJudged,
        Self::CapacityUnknown,
        Self::NoBurstYet,
        Self::CapacityFound,
        Self::Ok,
    ];

    /// As the API says it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Degraded => "degraded",
            Self::NothingMeets => "nothing_meets",
            Self::BackingOff => "backing_off",
            Self::OverBudget => "over_budget",
            Self::ServerBusy => "server_busy",
            Self::Paused => "paused",
            Self::OutsideWindows => "outside_windows",
            Self::NotJudged => "not_judged",
            Self::CapacityUnknown => "capacity_unknown",
            Self::NoBurstYet => "no_burst_yet",
            Self::CapacityFound => "capacity_found",
            Self::Ok => "ok",
        }
    }

    /// As a page says it.
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Degraded => "degraded",
            Self::NothingMeets => "nothing meets",
            Self::BackingOff => "backing off",
            Self::OverBudget => "over budget",
            Self::ServerBusy => "server busy",
            Self::Paused => "paused",
            Self::OutsideWindows => "outside its windows",
            Self::NotJudged => "not judged",
            Self::CapacityUnknown => "not known",
            Self::NoBurstYet => "no burst yet",
            Self::CapacityFound => "found",
            Self::Ok => "ok",
        }
    }

    /// Its colour.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Ok | Self::CapacityFound => "ok",
            Self::Degraded | Self::NothingMeets => "degraded",
            Self::Failing => "failing",
            Self::BackingOff | Self::OverBudget | Self::ServerBusy | Self::Paused => "held",
            Self::OutsideWindows | Self::NotJudged | Self::CapacityUnknown | Self::NoBurstYet => "unknown",
        }
    }

    /// How a series stands now.
    pub(super) fn of(row: &Row) -> Self {
        let held = match (row.state, row.held_by, row.held_back) {
            (State::Running(_), ..) => None,
            (_, Some(Skip::Window), _) => Some(Self::OutsideWindows),
            (_, Some(_), _) => Some(Self::Paused),
            (_, None, Some(Skip::Budget)) if row.stretch <= 1.0 => Some(Self::OverBudget),
            (_, None, Some(Skip::Backoff)) => Some(Self::BackingOff),
            (_, None, Some(Skip::ServerBusy)) => Some(Self::ServerBusy),
            (_, None, _) => None,
        };
        held.unwrap_or_else(|| Self::of_last(row))
    }

    /// What its last burst showed, or its last search where it searches.
    pub(super) fn of_last(row: &Row) -> Self {
        // The probe may have searched, or may not have, before a reload.
        if row.watched.series.probe.capacity.is_some() {
            let searched = row.searched.as_ref();
            return searched.map_or(Self::NoBurstYet, |searched| Self::of_search(&searched.capacity));
        }
        let last = row.last.as_ref();
        last.map_or(Self::NoBurstYet, |last| Self::of_burst(&last.summary))
    }

    fn of_burst(summary: &Summary) -> Self {
        Self::judged(summary.requests, summary.successes, summary.objective_met)
    }

    /// What an earlier burst showed.
    pub(super) fn of_past(past: &Past) -> Self {
        Self::judged(past.requests, past.successes, past.objective_met)
    }

    fn judged(requests: u64, successes: u64, objective_met: Option<bool>) -> Self {
        match objective_met {
            _ if successes == 0 && requests > 0 => Self::Failing,
            Some(true) => Self::Ok,
            Some(false) => Self::Degraded,
            None => Self::NotJudged,
        }
    }

    fn of_search(capacity: &Capacity) -> Self {
        match (capacity.is_known(), capacity.meets) {
            (true, Some(_)) => Self::CapacityFound,
            (true, None) => Self::NothingMeets,
            (false, _) => Self::CapacityUnknown,
        }
    }

    /// Whether somebody has to look: an overload step that alerts nobody is information.
    pub(super) fn wants_attention(self, row: &Row) -> bool {
        let alerts = row.watched.series.step.slo.alert != Alert::None;
        self == Self::Failing || (self == Self::Degraded && alerts) || self == Self::BackingOff
    }
}
