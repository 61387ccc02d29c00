//! What is learned, by name, and outlives the plan and, where it is kept, the process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Names beyond this many are not of a plan that is in force: lists of targets have named ever new ones.
const MOST: usize = 10_000;

/// What was learned under each name, of the 10,000 under which anything was learned last. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Lasting<T> {
    all: Arc<Mutex<Learned<T>>>,
    changed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Learned<T> {
    /// And when it was changed last, as a number.
    by_name: BTreeMap<String, (u64, T)>,
    changes: u64,
}

impl<T: Clone + Default> Lasting<T> {
    /// Takes up what was kept, as far as it `is_fresh`.
    pub fn take_up(&self, kept: &BTreeMap<String, T>, is_fresh: impl Fn(&T) -> bool) {
        let fresh = kept.iter().filter(|(_, learned)| is_fresh(learned));
        let mut all = self.lock();
        for (name, learned) in fresh {
            *all.entry(name) = learned.clone();
        }
    }

    /// What is to be kept over restarts.
    pub fn kept(&self) -> BTreeMap<String, T> {
        let all = self.lock();
        let each = all.by_name.iter();
        each.map(|(name, (_, learned))| (name.clone(), learned.clone()))
            .collect()
    }

    /// Whether anything was learned since the last call.
    pub fn have_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    pub fn of(&self, name: &str) -> T {
        let all = self.lock();
        let learned = all.by_name.get(name);
        learned.map(|(_, learned)| learned.clone()).unwrap_or_default()
    }

    /// Something is learned under this name.
    pub fn change(&self, name: &str, learn: impl FnOnce(&mut T)) {
        learn(self.lock().entry(name));
        self.changed.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Learned<T>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Learned<T> {
    /// What is under this name, as the one that was changed last. Where it is new and there are too many, the one goes that
    /// was not changed for the longest time.
    fn entry(&mut self, name: &str) -> &mut T {
        self.changes += 1;
        if self.by_name.len() >= MOST && !self.by_name.contains_key(name) {
            let by_age = self.by_name.iter().min_by_key(|(_, (changed, _))| *changed);
            if let Some(oldest) = by_age.map(|(name, _)| name.clone()) {
                self.by_name.remove(&oldest);
            }
        }
        let entry = self.by_name.entry(name.to_owned()).or_default();
        entry.0 = self.changes;
        &mut entry.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_forgotten_that_nothing_was_learned_under_for_the_longest_time() {
        let lasting = Lasting::<usize>::default();
        for number in 0..MOST {
            lasting.change(&number.to_string(), |learned| *learned = number);
        }
        lasting.change("0", |learned| *learned += 7);
        for new in ["new", "newer"] {
            lasting.change(new, |learned| *learned = 1);
        }
        let kept = lasting.kept();
        assert_eq!(kept.len(), MOST);
        assert_eq!(
            (lasting.of("0"), lasting.of("new"), lasting.of("newer")),
            (7, 1, 1)
        );
        assert!(!kept.contains_key("1") && !kept.contains_key("2") && kept.contains_key("3"));

        let again = Lasting::default();
        again.take_up(&kept, |learned| *learned != 3);
        assert_eq!(
            (again.of("0"), again.of("3"), again.kept().len()),
            (7, 0, MOST - 1)
        );
    }
}
