//! Histograms: one bucket layout a family for all series, so that `sum by (le)` stays valid over probes,
//! shards and regions.

use std::{collections::HashMap, sync::Arc};

use super::{
    exemplar::{Exemplar, Slowest},
    families::Kind,
    native::Native,
    table::table,
};
use crate::{config::plan::Exposition, identity::RequestId, units::Seconds};

/// Upper bounds in seconds, rising; `+Inf` is implied.
pub type Buckets = &'static [f64];

/// Times to the first token and to the first visible output: from a cache hit to a queue of minutes.
pub(super) const FIRST_TOKEN: Buckets = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0,
    7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0,
];

/// Times between tokens.
pub(super) const BETWEEN_TOKENS: Buckets = &[
    0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5,
    0.75, 1.0, 2.5, 5.0, 10.0,
];

/// Whole requests.
pub(super) const REQUEST: Buckets = &[
    0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0,
    180.0, 300.0, 600.0,
];

/// How late this program was.
pub(super) const LAG: Buckets = &[0.0005, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0];

/// The phases of a request, eight buckets with `+Inf`, because there are six phases a series: up to 2 ms is a
/// connect in the same network, 10 ms a DNS answer, 50 ms a TLS handshake, 200 ms and 1 s a prompt of an idle
/// server, 5 s and 30 s a queue.
pub(super) const PHASE: Buckets = &[0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0];

/// Failed requests, eight buckets with `+Inf`: refused, answered with an error, slow; then a little above each
/// default deadline (connect 5 s, stall 30 s, first token 120 s, total 600 s), because a timeout is always a
/// little late.
pub(super) const FAILED: Buckets = &[0.01, 0.1, 1.0, 6.0, 35.0, 130.0, 610.0];

/// Phases as the server reports them, eight buckets with `+Inf`: a loaded model and a cached prompt take
/// milliseconds, loading a model up to a minute.
pub(super) const SERVER_PHASE: Buckets = &[0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

/// The buckets of every family, and whether there are native ones beside them. They hold until the end of the
/// process.
#[derive(Clone, Debug)]
pub(super) struct Layouts {
    native: bool,
    bounds: HashMap<&'static str, Arc<[f64]>>,
}

impl Layouts {
    pub(super) fn new(exposition: &Exposition) -> Self {
        let bounds = table().filter_map(|family| {
            let Kind::Histogram(usual) = family.kind else {
                return None;
            };
            let given = exposition.buckets.get(family.name);
            Some((family.name, given.map_or(usual, Vec::as_slice).into()))
        });
        Self {
            native: exposition.native_histograms,
            bounds: bounds.collect(),
        }
    }

    /// An empty histogram of the family.
    pub(super) fn latency(&self, family: &str) -> Latency {
        let bounds = self.bounds.get(family);
        let bounds = bounds.expect("only histograms of the table are asked for: a test acquires them all");
        Latency {
            bounds: Arc::clone(bounds),
            buckets: vec![0; bounds.len()].into(),
            count: 0,
            sum: 0.0,
            slowest: Slowest::default(),
            native: self.native.then(Native::default),
        }
    }
}

/// A histogram of durations: classic, and native where it is wanted.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    bounds: Arc<[f64]>,
    /// Observations a bucket, not cumulative; those above the last bound are in `count` alone.
    buckets: Box<[u64]>,
    count: u64,
    sum: f64,
    slowest: Slowest,
    native: Option<Native>,
}

impl Latency {
    pub(super) fn observe(&mut self, value: Seconds) {
        if let Some(bucket) = self.buckets.get_mut(position(&self.bounds, value.get())) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value.get();
        if let Some(native) = &mut self.native {
            native.observe(value);
        }
    }

    /// What a request took, which may come to stand for the histogram.
    pub(super) fn observe_request(&mut self, value: Seconds, id: Option<RequestId>, unix: f64) {
        self.observe(value);
        if let Some(id) = id {
            self.slowest.observe(id, value, unix);
        }
    }

    /// From now on the slowest request is looked for anew.
    pub(super) fn burst_begun(&mut self) {
        self.slowest.burst_begun();
    }

    /// Without `+Inf`.
    pub(super) fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// Upper bounds and cumulative counts, `+Inf` at the end.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let within = self.bounds.iter().copied().zip(self.buckets.iter().copied());
        let within = within.scan(0, |so_far, (bound, count)| {
            *so_far += count;
            Some((bound, *so_far))
        });
        within.chain([(f64::INFINITY, self.count)])
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) const fn sum(&self) -> f64 {
        self.sum
    }

    /// The slowest request, and the position of the bucket that it is in.
    pub(super) fn exemplar(&self) -> Option<(usize, Exemplar)> {
        let exemplar = self.slowest.exemplar()?;
        Some((position(&self.bounds, exemplar.value), exemplar))
    }

    pub(super) const fn native(&self) -> Option<&Native> {
        self.native.as_ref()
    }
}

/// The bucket that `value` is in. A bound belongs to its bucket (`le`).
fn position(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|&bound| bound < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_belong_to_them() {
        let exposition = Exposition {
            native_histograms: true,
            ..Exposition::default()
        };
        let mut latency = Layouts::new(&exposition).latency("llm_probe_send_lag_seconds");
        for value in [0.0, 0.0005, 0.000_51, 0.1, 1.0, 1.5, 99.0] {
            latency.observe(Seconds::new(value));
        }
        let counts: Vec<_> = latency.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 4, 5, 7]);
        assert_eq!(latency.count(), 7);
        assert!((latency.sum() - 101.601_01).abs() < 1e-9);
        let native = latency.native().unwrap();
        let spans = native.spans();
        let counts = spans.iter().flat_map(|span| &span.counts);
        assert_eq!(counts.sum::<u64>() + native.zero_count(), 7);
    }

    #[test]
    fn layouts_rise_and_the_small_ones_are_small() {
        for layout in [
            FIRST_TOKEN,
            BETWEEN_TOKENS,
            REQUEST,
            LAG,
            PHASE,
            FAILED,
            SERVER_PHASE,
        ] {
            assert!(layout.is_sorted_by(|low, high| low < high), "{layout:?}");
        }
        for layout in [PHASE, FAILED, SERVER_PHASE] {
            assert!(layout.len() < 8, "eight with +Inf: {layout:?}");
        }
    }
}
