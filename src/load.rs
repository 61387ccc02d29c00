//! The shape of a burst: how many requests start when.

use std::time::Duration;

/// After the first failure, and after many.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How much one burst sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// This many requests, at least 1.
    Requests(u32),
    /// Requests are started for this long.
    Lasting(Duration),
}

impl Volume {
    /// Whether a place may start another request when `started` have been and the burst is `elapsed` old.
    pub fn allows(self, started: u32, elapsed: Duration) -> bool {
        match self {
            Self::Requests(requests) => started < requests,
            Self::Lasting(duration) => elapsed < duration,
        }
    }

    /// How long a place waits after so many failures in a row. A burst of a number of requests ends by itself;
    /// one that lasts for a time would hammer an endpoint that fails at once.
    pub fn pause(self, failures: u32) -> Duration {
        match (self, failures) {
            (Self::Requests(_), _) | (_, 0) => Duration::ZERO,
            (Self::Lasting(_), failures) => {
                let doubled = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
                FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
            }
        }
    }

    /// The number of requests that a burst is to send, where it is known beforehand.
    pub const fn requests(self) -> Option<u32> {
        match self {
            Self::Requests(requests) => Some(requests),
            Self::Lasting(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_slow_a_lasting_burst_down() {
        let minute = Volume::Lasting(Duration::from_mins(1));
        let pauses = [0, 1, 2, 3, 4, 5, 40, u32::MAX].map(|failures| minute.pause(failures).as_millis());
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(Volume::Requests(9).pause(3), Duration::ZERO);
    }

    #[test]
    fn a_volume_ends() {
        let second = Duration::from_secs(1);
        for (volume, started, elapsed, allowed) in [
            (Volume::Requests(2), 1, second * 99, true),
            (Volume::Requests(2), 2, Duration::ZERO, false),
            (Volume::Lasting(second), 9999, second / 2, true),
            (Volume::Lasting(second), 0, second, false),
        ] {
            assert_eq!(
                volume.allows(started, elapsed),
                allowed,
                "{volume:?} {started} {elapsed:?}"
            );
        }
    }
}
