//! What of the requests of a burst a diagnosis needs: collected as they end, then a few numbers.

use tokio::time::Instant;

use super::{
    replicas::{Replicas, Spread},
    staircase::{Slots, Stay},
};
use crate::{
    baseline::Medians,
    quantile::median,
    units::{Ratio, Seconds},
};

/// One request of a burst; `None` is what did not happen.
#[derive(Clone, Debug)]
pub struct Sample {
    pub start: Instant,
    /// The first output.
    pub first: Option<Instant>,
    /// The last output; of a request that failed, when it did.
    pub end: Instant,
    /// How it went.
    pub fate: Fate,
    /// Time to first token; of a request that timed out before it, what it waited.
    pub ttft: Option<Seconds>,
    pub itl: Option<Seconds>,
    /// The tokens that followed the first ones.
    pub intervals: u64,
    /// DNS, TCP and TLS together; `None` on a reused connection.
    pub connecting: Option<Seconds>,
    /// TCP alone; `None` on a reused connection.
    pub round_trip: Option<Seconds>,
    pub tokens: u64,
    /// Reads that carried output.
    pub arrivals: u64,
    /// Who answered, as far as one can tell.
    pub replica: Option<String>,
}

/// How a request went, as far as a diagnosis cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Succeeded,
    /// It waited for its first token until it timed out: slow, not broken.
    WaitedInVain,
    Failed,
}

/// Answers of fewer tokens do not tell how tokens arrive.
const FEWEST_TOKENS: u64 = 8;

/// Collects the requests of a burst.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Seconds are counted from the first start that was told.
    zero: Option<Instant>,
    stays: Vec<Stay>,
    failed: u64,
    succeeded: u64,
    ttft: Vec<f64>,
    itl: Vec<f64>,
    intervals: Vec<f64>,
    connecting: Vec<f64>,
    round_trip: Vec<f64>,
    tokens_per_arrival: Vec<f64>,
    replicas: Replicas,
}

impl Evidence {
    pub fn add(&mut self, sample: &Sample) {
        let zero = *self.zero.get_or_insert(sample.start);
        // Also before zero: requests are told as they end.
        let since = |at: Instant| match at.checked_duration_since(zero) {
            Some(after) => after.as_secs_f64(),
            None => -zero.saturating_duration_since(at).as_secs_f64(),
        };
        self.stays.push(Stay {
            start: since(sample.start),
            first: sample.first.map(since),
            end: since(sample.end),
        });
        self.ttft.extend(sample.ttft.map(Seconds::get));
        self.connecting.extend(sample.connecting.map(Seconds::get));
        self.round_trip.extend(sample.round_trip.map(Seconds::get));
        match sample.fate {
            Fate::Failed => self.failed += 1,
            Fate::WaitedInVain => {}
            Fate::Succeeded => self.succeeded += 1,
        }
        if sample.fate != Fate::Succeeded {
            return;
        }
        self.itl.extend(sample.itl.map(Seconds::get));
        self.intervals.push(sample.intervals as f64);
        if sample.tokens >= FEWEST_TOKENS && sample.arrivals > 0 {
            self.tokens_per_arrival
                .push(sample.tokens as f64 / sample.arrivals as f64);
        }
        if let Some(replica) = &sample.replica {
            let [ttft, itl] = [sample.ttft, sample.itl].map(|value| value.map(Seconds::get));
            self.replicas.add(replica, ttft, itl);
        }
    }

    /// The burst in numbers.
    pub fn sum_up(self) -> Observed {
        let requests = self.stays.len() as u64;
        let seconds = |values| median(values).map(Seconds::new);
        Observed {
            requests,
            succeeded: self.succeeded,
            failed: Ratio::of(self.failed, requests),
            fastest: self.ttft.iter().copied().min_by(f64::total_cmp).map(Seconds::new),
            medians: Medians {
                ttft: seconds(self.ttft),
                itl: seconds(self.itl),
                connecting: seconds(self.connecting),
                round_trip: seconds(self.round_trip),
                tokens_per_arrival: median(self.tokens_per_arrival),
            },
            intervals: median(self.intervals).unwrap_or_default(),
            slots: Slots::of(&self.stays),
            spread: self.replicas.spread(),
        }
    }
}

/// What a burst shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// All that are not invalid.
    pub(super) requests: u64,
    pub(super) succeeded: u64,
    /// The share that failed, without those that waited in vain.
    pub(super) failed: Option<Ratio>,
    /// The shortest time to first token.
    pub(super) fastest: Option<Seconds>,
    pub(super) medians: Medians,
    /// How many inter-token latencies a request has, median.
    pub(super) intervals: f64,
    pub(super) slots: Slots,
    pub(super) spread: Option<Spread>,
}

impl Observed {
    /// What a baseline may learn from: nothing where any request did not succeed.
    pub fn lesson(&self) -> Option<Medians> {
        (self.requests > 0 && self.succeeded == self.requests).then_some(self.medians)
    }

    /// Whether other steps can be compared with it.
    pub fn is_reference(&self) -> bool {
        self.succeeded > 0
    }
}
