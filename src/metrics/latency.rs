//! Histograms: one bucket layout a family for all series, so that `sum by (le)` stays valid over probes,
//! shards and regions.

use prometheus::proto;

use crate::units::Seconds;

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

/// A histogram of durations.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    bounds: Buckets,
    /// Observations a bucket, not cumulative; those above the last bound are in `count` alone.
    buckets: Box<[u64]>,
    count: u64,
    sum: f64,
}

impl Latency {
    pub(super) fn new(bounds: Buckets) -> Self {
        Self {
            bounds,
            buckets: vec![0; bounds.len()].into(),
            count: 0,
            sum: 0.0,
        }
    }

    /// A bound belongs to its bucket (`le`).
    pub(super) fn observe(&mut self, value: Seconds) {
        let bucket = self.bounds.partition_point(|&bound| bound < value.get());
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value.get();
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }
}

/// Cumulative, as it is exposed.
impl From<&Latency> for proto::Histogram {
    fn from(latency: &Latency) -> Self {
        let mut so_far = 0;
        let cumulative = latency
            .bounds
            .iter()
            .zip(&latency.buckets)
            .map(|(&bound, count)| {
                so_far += count;
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(so_far);
                bucket
            });
        let mut histogram = Self::default();
        histogram.set_bucket(cumulative.collect());
        histogram.set_sample_count(latency.count);
        histogram.set_sample_sum(latency.sum);
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_belong_to_them() {
        let mut latency = Latency::new(LAG);
        for value in [0.0, 0.0005, 0.000_51, 0.1, 1.0, 1.5, 99.0] {
            latency.observe(Seconds::new(value));
        }
        let exposed = proto::Histogram::from(&latency);
        let counts: Vec<_> = exposed
            .get_bucket()
            .iter()
            .map(proto::Bucket::cumulative_count)
            .collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 4, 5]);
        assert_eq!(exposed.get_sample_count(), 7);
        assert!((exposed.get_sample_sum() - 101.601_01).abs() < 1e-9);
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
