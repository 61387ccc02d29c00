//! What `once` tells of: bursts, and searches for the capacity.

use serde::Serialize;

use crate::report::{Report, SearchReport};

/// One of them. In JSON they are told apart by `curve`, which a search has.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Told {
    Burst(Box<Report>),
    Search(SearchReport),
}

impl From<Report> for Told {
    fn from(report: Report) -> Self {
        Self::Burst(Box::new(report))
    }
}

impl From<SearchReport> for Told {
    fn from(report: SearchReport) -> Self {
        Self::Search(report)
    }
}

impl Told {
    /// Whether it says something of the endpoint.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Burst(report) => report.is_sound(),
            Self::Search(report) => report.is_sound(),
        }
    }

    /// Whether the objective was met; by a search, at any load.
    pub(super) fn objective_met(&self) -> bool {
        match self {
            Self::Burst(report) => report.objective_met(),
            Self::Search(report) => report.objective_met(),
        }
    }
}
