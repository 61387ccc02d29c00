//! Whether a round was a good one, by what is told of it: as `once` has it.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    capacity::End,
    outcome::Skip,
    report::{Report, SearchReport},
    runner::{Event, What},
};

#[derive(Debug)]
pub(super) struct Verdict {
    /// Steps of which nothing good was told yet.
    missing: usize,
    /// Why something was not fired, or was cut short.
    pub(super) refused: BTreeSet<Skip>,
}

impl Verdict {
    pub(super) fn of(steps: usize) -> Self {
        Self {
            missing: steps,
            refused: BTreeSet::new(),
        }
    }

    pub(super) fn hears(&mut self, Event { watched, what }: &Event) {
        let is_good = match what {
            What::Ended(summary, _) => {
                self.refused.extend(summary.cut_short);
                self.refused.extend(summary.unsent.keys());
                let report = Report::new(&watched.series, (**summary).clone());
                report.is_sound() && report.objective_met()
            }
            What::Searched(capacity, _) => {
                if let End::Stopped(skip) = capacity.ended {
                    self.refused.insert(skip);
                }
                let report = SearchReport::new(&watched.series, Arc::clone(capacity));
                report.is_sound() && report.objective_met()
            }
            What::Skipped(skip, _) => {
                self.refused.insert(*skip);
                false
            }
            _ => false,
        };
        self.missing = self.missing.saturating_sub(is_good.into());
    }

    pub(super) fn is_good(&self) -> bool {
        self.missing == 0 && self.refused.is_empty()
    }
}
