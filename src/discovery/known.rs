//! What lists say, and the plan that this makes. One that is wrong keeps no other list and no configuration from coming
//! into force.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    config::plan::{ListSource, Lists, Plan, Said},
    units::Name,
};

/// What was got of a list just now.
#[derive(Clone, Debug)]
pub struct Got {
    pub name: Name,
    pub source: ListSource,
    /// Else why it is none, in words.
    pub said: Result<Said, String>,
}

impl Got {
    /// Differs where that differs.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.said.hash(&mut hasher);
        hasher.finish()
    }
}

/// A list that is not in force as it is now, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub list: Name,
    pub what: String,
}

/// The plan that comes into force.
#[derive(Debug)]
pub struct Settled {
    pub plan: Plan,
    /// The lists that are not as they say now: as they were last, or left out.
    pub wrong: Vec<Wrong>,
}

/// What is known of the lists. Clones are the same.
#[derive(Clone, Debug)]
pub struct Known(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// What each said that is in force.
    good: Lists,
    /// What servers have answered since.
    offered: HashMap<Name, Got>,
    /// What was got last of lists in files, as a hash.
    tried: HashMap<Name, u64>,
}

impl Default for Known {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept {
            good: Lists::only_known(),
            offered: HashMap::new(),
            tried: HashMap::new(),
        })))
    }
}

impl Known {
    /// What the list says that is in force.
    pub fn good(&self, name: &Name, source: &ListSource) -> Option<Said> {
        self.lock().good.get(name, source).cloned()
    }

    /// Is to come into force with the next plan.
    pub fn offer(&self, got: Got) {
        self.lock().offered.insert(got.name.clone(), got);
    }

    /// Whether the files say what they said when they were tried last.
    pub(super) fn has_tried(&self, got: &Got) -> bool {
        self.lock().tried.get(&got.name) == Some(&got.hash())
    }

    /// The plan that `load` makes with what lists say `now`, and with what was offered. A list with which there is no plan is
    /// taken as it was last, and where it never made one it is left out.
    ///
    /// # Errors
    /// What is wrong with the configuration itself, or does not fit what a list has said before.
    pub fn settle<E: Display>(
        &self,
        now: impl FnOnce(&Plan) -> Vec<Got>,
        load: impl Fn(&Lists) -> Result<Plan, E>,
    ) -> Result<Settled, E> {
        let bare = load(&Lists::only_known())?;
        let mut wrong = Vec::new();
        if bare.listings().is_empty() {
            return Ok(Settled { plan: bare, wrong });
        }
        let mut got = now(&bare);
        let mut kept = self.lock();
        got.extend(kept.offered.drain().map(|(_, got)| got));
        got.retain(|got| {
            let mut listings = bare.listings().iter();
            listings.any(|listing| listing.name == got.name && listing.source.is_where(&got.source))
        });
        kept.tried = got.iter().map(|got| (got.name.clone(), got.hash())).collect();
        let mut last = Lists::only_known();
        for listing in bare.listings() {
            if let Some(said) = kept.good.get(&listing.name, &listing.source) {
                last.put(&listing.name, &listing.source, said.clone());
            }
        }
        drop(kept);
        let mut new = Vec::new();
        for Got { name, source, said } in got {
            match said {
                Ok(said) => new.push((name, source, said)),
                Err(what) => wrong.push(Wrong { list: name, what }),
            }
        }
        let mut all = last.clone();
        for (name, source, said) in &new {
            all.put(name, source, said.clone());
        }
        let (plan, good) = match load(&all) {
            Ok(plan) => (plan, all),
            Err(error) if new.is_empty() => return Err(error),
            Err(_) => one_by_one(new, &last, &mut wrong, load)?,
        };
        self.lock().good = good;
        Ok(Settled { plan, wrong })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds out with which of the new ones there is no plan.
fn one_by_one<E: Display>(
    new: Vec<(Name, ListSource, Said)>,
    last: &Lists,
    wrong: &mut Vec<Wrong>,
    load: impl Fn(&Lists) -> Result<Plan, E>,
) -> Result<(Plan, Lists), E> {
    let mut lists = last.clone();
    for (name, ..) in &new {
        lists.remove(name);
    }
    let mut plan = load(&lists)?;
    for (name, source, said) in new {
        let mut with = lists.clone();
        with.put(&name, &source, said);
        match load(&with) {
            Ok(next) => (plan, lists) = (next, with),
            Err(error) => {
                let what = error.to_string();
                if let Some(said) = last.get(&name, &source) {
                    lists.put(&name, &source, said.clone());
                    plan = load(&lists)?;
                }
                wrong.push(Wrong { list: name, what });
            }
        }
    }
    Ok((plan, lists))
}
