//! A rate limiter: a bucket of requests that fills evenly. No clock: instants are passed in.

use std::time::Duration;

/// A bucket of requests.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    requests: u64,
    /// From empty to full.
    per: Duration,
    /// When it will be full again.
    full: Duration,
}

/// What the limiter says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How long until it would be let in; `None`: it is.
    pub wait: Option<Duration>,
    pub limit: u64,
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Duration,
}

impl Limiter {
    pub(super) const fn new(requests: u64, per: Duration) -> Self {
        Self {
            requests,
            per,
            full: Duration::ZERO,
        }
    }

    pub(super) fn ask(&mut self, now: Duration) -> Verdict {
        let each = self.per.div_f64(self.requests as f64);
        let missing = self.full.saturating_sub(now);
        let after = missing + each;
        let wait = after
            .checked_sub(self.per)
            .filter(|wait| *wait > Duration::from_micros(1));
        let reset = if wait.is_none() {
            self.full = now + after;
            after
        } else {
            missing
        };
        let left = self.per.saturating_sub(reset).as_secs_f64() / each.as_secs_f64();
        Verdict {
            wait,
            limit: self.requests,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 0 to the limit"
            )]
            remaining: if wait.is_some() {
                0
            } else {
                (left + 1e-6).floor() as u64
            },
            reset,
        }
    }
}

/// As Go and OpenAI write durations: `6m0s`, `1.5s`, `20ms`.
pub(super) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = (millis % 60_000) as f64 / 1e3;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_by_hand() {
        // Three requests in three seconds: (asked at in ms, wait in ms, remaining, reset in ms)
        let mut limiter = Limiter::new(3, Duration::from_secs(3));
        for (at, wait, remaining, reset) in [
            (100_000, None, 2, 1000),
            (100_000, None, 1, 2000),
            (100_000, None, 0, 3000),
            (100_000, Some(1000), 0, 3000),
            (100_400, Some(600), 0, 2600),
            (101_000, None, 0, 3000),
            (102_500, None, 0, 2500),
            (109_000, None, 2, 1000),
        ] {
            let verdict = limiter.ask(Duration::from_millis(at));
            let millis = |duration: Duration| (duration.as_micros() + 500) / 1000;
            assert_eq!(
                (verdict.wait.map(millis), verdict.remaining, millis(verdict.reset)),
                (wait, remaining, reset),
                "at {at}"
            );
            assert_eq!(verdict.limit, 3);
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (millis, text) in [
            (0, "0ms"),
            (20, "20ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (360_000, "6m0s"),
            (3_661_000, "1h1m1s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
