//! The rate limit: a token bucket over all clients, as the exporter toolkit has it.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::web::RateLimit;

/// How far requests are ahead of one an interval. The caller says when it is.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    ahead: Duration,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        Self {
            limit,
            ahead: Duration::ZERO,
            at: now,
        }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let RateLimit { burst, interval } = self.limit;
        self.ahead = self.ahead.saturating_sub(now.saturating_duration_since(self.at));
        self.at = now;
        let then = self.ahead.saturating_add(interval);
        match then.saturating_sub(interval.saturating_mul(burst)) {
            Duration::ZERO => {
                self.ahead = then;
                Ok(())
            }
            wait => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_in_and_then_one_an_interval() {
        let begun = Instant::now();
        let interval = Duration::from_secs(1);
        let mut bucket = Bucket::new(RateLimit { burst: 2, interval }, begun);
        let mut at = |millis| bucket.take(begun + Duration::from_millis(millis));
        assert_eq!([at(0), at(0)], [Ok(()), Ok(())]);
        assert_eq!(at(0), Err(interval));
        assert_eq!(at(400), Err(Duration::from_millis(600)));
        assert_eq!(at(1000), Ok(()));
        assert_eq!(at(1000), Err(interval));
        assert_eq!([at(9000), at(9000)], [Ok(()), Ok(())]);
        assert_eq!(at(9000), Err(interval));
    }

    #[test]
    fn no_limit_overflows() {
        let now = Instant::now();
        let interval = Duration::from_hours(366 * 24);
        let mut bucket = Bucket::new(
            RateLimit {
                burst: u32::MAX,
                interval,
            },
            now,
        );
        for _ in 0..100 {
            assert_eq!(bucket.take(now), Ok(()));
        }
    }
}
