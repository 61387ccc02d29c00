//! A round that searches for the capacity: bursts of one load after the other, as the search wants them.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Runner, Watched, What, waits::Waits};
use crate::{
    baseline::Baseline,
    capacity::{self, Next, Search},
    config::plan::{Bounds, Series},
    diagnose::{Cause, Lowest, Miss, cause_of, diagnose},
    load::Load,
    outcome::Skip,
    protection::{Brake, Spending},
    slo::{Objective, Verdict},
    summary::{Judged, Summary},
    units::Seconds,
};

/// A request of an open loop that waited for its place for longer than this, in seconds, was not sent when it was due.
const LONG_WAIT: f64 = 0.1;

impl Runner {
    /// Searches, as one burst of `step`.
    pub(super) async fn search(
        &self,
        step: &Arc<Watched>,
        bounds: Bounds,
        due: Instant,
        spending: &mut Spending<'_>,
        waits: Option<&Waits>,
        cancel: &CancellationToken,
    ) {
        let (mut search, mut lowest) = (Search::new(bounds), None);
        let (mut due, mut has_begun) = (due, false);
        let ended = loop {
            let load = match search.next() {
                Next::Fire(load) => load,
                Next::End(end) => break end,
            };
            if has_begun {
                due = self.settle(cancel).await;
                if self.guarded.is_busy(&self.blocking).await {
                    search.stop(Skip::ServerBusy);
                    continue;
                }
            }
            let places = self.places(load.users(), due, waits, cancel).await;
            if let Some(skip) = places.as_ref().err().copied().or(self.forbids(waits)) {
                if !has_begun {
                    return self.tell(step, What::Skipped(skip, 1));
                }
                search.stop(skip);
                continue;
            }
            if !has_begun {
                self.tell(step, What::Begun(Seconds::between(due, Instant::now())));
                has_begun = true;
            }
            self.tell(step, What::Tries(load));
            let burst = self.try_load(step, &bounds, load, &mut lowest, spending, cancel);
            search.ended(load, burst.await);
        };
        let capacity = search.capacity(ended, &step.series.step.slo);
        self.tell(step, What::Searched(Arc::new(capacity), cancel.is_cancelled()));
    }

    /// One burst of `load`. `lowest` becomes what the lowest load showed.
    async fn try_load(
        &self,
        step: &Arc<Watched>,
        bounds: &Bounds,
        load: Load,
        lowest: &mut Option<Lowest>,
        spending: &mut Spending<'_>,
        cancel: &CancellationToken,
    ) -> capacity::Burst {
        let series = Series {
            step: Arc::new(bounds.step(&step.series.step, load)),
            ..step.series.clone()
        };
        let (planned, objective) = (bounds.requests_at(load), series.step.slo.objective);
        let is_open = load.rate().is_some();
        let brake = Brake::new(self.probe.protect);
        let mut burst = capacity::Burst::default();
        let (mut misses, mut missed, mut waited) = (Vec::new(), 0, false);
        // Half of what a user may wait is no small error any more.
        let long = series
            .step
            .slo
            .ttft
            .map_or(LONG_WAIT, |ttft| (ttft.as_secs_f64() / 2.0).max(LONG_WAIT));
        let each = |judged: &Judged| {
            burst.sent += 1;
            if judged.record.warmup {
                return;
            }
            waited |= is_open && judged.measured.send_lag.is_some_and(|lag| lag.get() > long);
            burst
                .ttft
                .extend(judged.waited_for_first_token().map(Seconds::get));
            burst.itl.extend(judged.measured.itl.map(Seconds::get));
            if judged.verdicts.get(Objective::Goodput) == Some(Verdict::Missed) {
                missed += 1;
                misses.extend(
                    judged
                        .sample()
                        .and_then(|sample| Miss::of(sample, &judged.verdicts)),
                );
                if !capacity::can_meet(planned, missed, objective) {
                    brake.ease();
                }
            }
        };
        let summary = self.burst(step, &series, &brake, spending, cancel, each).await;
        let cancelled = cancel.is_cancelled().then(|| self.reason_to_cancel());
        // Where the endpoint shed some of it, it is left alone from now on.
        let shed = brake.sheds().then_some(Skip::Backoff);
        // The endpoint never had the load where requests waited for places of ours.
        let held_up = waited || summary.unsent.contains_key(&Skip::InFlight);
        let throttled = held_up.then_some(Skip::InFlight);
        burst.cut_short = brake.reason().or(cancelled).or(shed).or(throttled);
        burst.met = summary.objective_met;
        (burst.judged, burst.good) = (summary.judged, summary.good);
        burst.cause = cause(load, &summary, &misses, lowest, bounds);
        burst
    }
}

/// What made requests of a burst miss, compared with the lowest load of this search.
fn cause(
    load: Load,
    summary: &Summary,
    misses: &[Miss],
    lowest: &mut Option<Lowest>,
    bounds: &Bounds,
) -> Option<Cause> {
    let (observed, is_lowest) = (&summary.observed, load == bounds.lowest);
    let of_lowest = lowest.as_ref().filter(|_| !is_lowest);
    let diagnosis = diagnose(load, observed, of_lowest, is_lowest, &Baseline::default());
    let cause = if diagnosis.held_back {
        Some(Cause::Network)
    } else {
        cause_of(misses, observed, of_lowest)
    };
    if is_lowest && observed.is_reference() {
        *lowest = Some(Lowest {
            load,
            observed: observed.clone(),
        });
    }
    cause
}
