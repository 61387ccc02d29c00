//! Wall time, for what is exposed as a time of day. Everything measured is monotonic.

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds since the Unix epoch.
pub fn unix_now() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time is read")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// When this process began, in seconds since the Unix epoch, as of the first call, which `main` makes. The kernel tells it
/// only together with `/proc/stat`, which a service may not see.
pub fn process_began() -> f64 {
    static BEGAN: LazyLock<f64> = LazyLock::new(unix_now);
    *BEGAN
}
