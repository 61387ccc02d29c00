//! How long a round waits for what is ours to give.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::outcome::Skip;

/// How long a round has waited for what is ours to give: its turn and its places.
#[derive(Debug)]
pub(super) struct Waits(Mutex<Waited>);

#[derive(Clone, Copy, Debug)]
struct Waited {
    turn: Duration,
    places: Duration,
    /// It waits for places now.
    since: Option<Instant>,
}

impl Waits {
    /// A round that was due at `due` has its turn now.
    pub(super) fn since(due: Instant) -> Self {
        Self(Mutex::new(Waited {
            turn: due.elapsed(),
            places: Duration::ZERO,
            since: None,
        }))
    }

    pub(super) fn begin(&self) {
        self.lock().since = Some(Instant::now());
    }

    pub(super) fn end(&self) {
        let mut waited = self.lock();
        let wait = waited
            .since
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        waited.places += wait;
    }

    pub(super) fn so_far(&self) -> Duration {
        let Waited { turn, places, since } = *self.lock();
        turn + places + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What the next burst missed its time for, if it did.
    pub(super) fn reason(&self) -> Skip {
        let Waited { turn, places, .. } = *self.lock();
        if places > turn {
            Skip::InFlight
        } else {
            Skip::TargetBusy
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
