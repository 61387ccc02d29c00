//! Wall time, for what is exposed as a time of day. Everything measured is monotonic.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch.
pub fn unix_now() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time is read")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
