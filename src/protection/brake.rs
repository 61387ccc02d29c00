//! The brake of a running burst.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::lock;
use crate::{
    backoff::{Protect, Shed, Watch},
    outcome::{Outcome, Skip},
};

/// Ends a running burst: no more requests are sent, and those under way are cancelled.
#[derive(Debug)]
pub struct Brake {
    pulled: CancellationToken,
    watch: Mutex<Watch>,
    reason: OnceLock<Skip>,
    enough: AtomicBool,
}

impl Brake {
    /// Pulled by too many failures, as `protect` has it, if by nobody else.
    pub fn new(protect: Option<Protect>) -> Arc<Self> {
        Arc::new(Self {
            pulled: CancellationToken::new(),
            watch: Mutex::new(Watch::new(protect)),
            reason: OnceLock::new(),
            enough: AtomicBool::new(false),
        })
    }

    /// Returns once it is pulled.
    pub async fn pulled(&self) {
        self.pulled.cancelled().await;
    }

    /// Why it was pulled.
    pub fn reason(&self) -> Option<Skip> {
        self.reason.get().copied()
    }

    /// Whether the endpoint sheds load.
    pub(super) fn shedding(&self) -> Option<Shed> {
        lock(&self.watch).shedding()
    }

    /// Whether the endpoint shed load of this burst.
    pub fn sheds(&self) -> bool {
        self.shedding().is_some()
    }

    /// The first reason stands.
    pub fn pull(&self, reason: Skip) {
        self.reason.get_or_init(|| reason);
        self.pulled.cancel();
    }

    /// No more requests are wanted: those under way go on to their end, so that what they show is not cut off.
    pub fn ease(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    pub fn is_eased(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// A request ended.
    pub fn ended(&self, outcome: Outcome, retry_after: Option<Duration>, all_sent: bool) {
        let mut watch = lock(&self.watch);
        watch.ended(outcome, retry_after);
        if watch.is_to_stop(all_sent) {
            self.pull(Skip::Backoff);
        }
    }
}
