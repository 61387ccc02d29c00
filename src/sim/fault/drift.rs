//! A machine that gets slower. No clock: instants are passed in.

use std::time::Duration;

/// Slower by so much with each second, from one instant to another; then it is as it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::sim) struct Drift {
    pub per_second: f64,
    pub from: Duration,
    pub to: Option<Duration>,
}

impl Drift {
    /// How many times longer everything takes at `now`.
    pub(in crate::sim) fn factor(&self, now: Duration) -> f64 {
        if self.to.is_some_and(|to| now >= to) {
            return 1.0;
        }
        1.0 + self.per_second * now.saturating_sub(self.from).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_its_beginning_and_ends() {
        let drift = Drift {
            per_second: 0.01,
            from: Duration::from_secs(100),
            to: Some(Duration::from_secs(400)),
        };
        for (now, factor) in [(0, 1.0), (100, 1.0), (150, 1.5), (399, 3.99), (400, 1.0)] {
            assert!(
                (drift.factor(Duration::from_secs(now)) - factor).abs() < 1e-9,
                "{now}"
            );
        }
    }
}
