//! What the tests have in common: a scripted endpoint on a port of its own, and the way from a target to the
//! records of requests. The endpoint stamps what it really did, so that tests compare measured with served.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test crate uses its own part of this"
)]

pub(crate) mod authority;
pub(crate) mod engine;
pub(crate) mod fronts;
pub(crate) mod http2;
pub(crate) mod script;
pub(crate) mod server;

use std::time::Duration;

/// What a busy machine may add to anything that has an upper limit here.
pub(crate) const LOOSE: Duration = Duration::from_millis(500);

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
