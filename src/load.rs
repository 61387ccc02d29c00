//! The shape of a burst: how many requests start when.

use std::time::Duration;

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
