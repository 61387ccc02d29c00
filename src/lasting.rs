//! What is learned, by name, and outlives the plan and, where it is kept, the process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// What was learned under each name. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Lasting<T> {
    all: Arc<Mutex<BTreeMap<String, T>>>,
    changed: Arc<AtomicBool>,
}

impl<T: Clone + Default> Lasting<T> {
    /// Takes up what was kept, as far as it `is_fresh`.
    pub fn take_up(&self, kept: &BTreeMap<String, T>, is_fresh: impl Fn(&T) -> bool) {
        let fresh = kept.iter().filter(|(_, learned)| is_fresh(learned));
        self.lock()
            .extend(fresh.map(|(name, learned)| (name.clone(), learned.clone())));
    }

    /// What is to be kept over restarts.
    pub fn kept(&self) -> BTreeMap<String, T> {
        self.lock().clone()
    }

    /// Whether anything was learned since the last call.
    pub fn have_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    pub fn of(&self, name: &str) -> T {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    /// Something is learned under this name.
    pub fn change(&self, name: &str, learn: impl FnOnce(&mut T)) {
        learn(self.lock().entry(name.to_owned()).or_default());
        self.changed.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, T>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
