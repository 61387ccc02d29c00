//! What the engine counts, in the terms of vLLM's metrics.

use std::time::Duration;

/// What the engine holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests that have a slot.
    pub running: usize,
    /// Tokens in the KV cache.
    pub kv_tokens: u64,
}

/// What the engine has done since it was made.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Tokens of prompts that were prefilled to their end.
    pub prompt_tokens: u64,
    pub generation_tokens: u64,
    /// Requests that got all their tokens.
    pub finished: u64,
    /// Requests that were cancelled.
    pub aborted: u64,
    /// Requests that found the queue full.
    pub refused: u64,
    /// From the submission to the slot.
    pub queue_time: Histogram,
    /// From the submission to the first token.
    pub time_to_first_token: Histogram,
}

/// vLLM's bounds of `request_queue_time_seconds`.
const REQUEST_BOUNDS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];

/// vLLM's bounds of `time_to_first_token_seconds`.
const FIRST_TOKEN_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];

impl Default for Counters {
    fn default() -> Self {
        Self {
            prompt_tokens: 0,
            generation_tokens: 0,
            finished: 0,
            aborted: 0,
            refused: 0,
            queue_time: Histogram::new(REQUEST_BOUNDS),
            time_to_first_token: Histogram::new(FIRST_TOKEN_BOUNDS),
        }
    }
}

/// A classic Prometheus histogram of seconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One per bound, not cumulative.
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len()],
            count: 0,
            sum: 0.0,
        }
    }

    pub(super) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// Upper bounds with how many observations were at or below each; `+Inf` is [`Self::count`].
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds
            .iter()
            .zip(&self.counts)
            .scan(0, |sum, (bound, count)| {
                *sum += count;
                Some((*bound, *sum))
            })
    }

    pub const fn count(&self) -> u64 {
        self.count
    }

    /// In seconds.
    pub const fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_includes_its_own_value() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for millis in [100, 500, 501, 1000, 1001] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(0.5, 2), (1.0, 4)]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 3.102).abs() < 1e-9);
    }
}
