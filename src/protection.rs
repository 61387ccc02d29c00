//! What stands between a due round and its target: whether the target sheds load, whether its server says that it
//! is busy, whether the round fits the budgets; and the brake of a running burst.

mod brake;
mod guard;
mod guarded;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{runtime::Handle, time::Instant};

pub use self::{
    brake::Brake,
    guard::Guard,
    guarded::{Guarded, Spending, Trial},
};
use crate::{
    backoff::{Circuit, Kept},
    budget::{Account, Amounts, Budget, Used},
    client::ClientError,
    clock::unix_now,
    config::plan::{Plan, Probe, Target},
    units::Name,
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tokens that a chat template may add to a prompt, at most.
const TEMPLATE: u64 = 1000;

/// The budgets and guards of a plan.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    guards: Vec<Arc<Guard>>,
    purses: Vec<Arc<Purse>>,
    /// What was used of budgets of earlier plans, which may come back.
    of_others: BTreeMap<String, Used>,
    /// The number of the next guarded probe.
    next_id: Arc<AtomicUsize>,
    /// How many exporters share the budgets.
    replicas: u32,
}

/// Whose a budget is: a probe's over all its targets, or a target's over all probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Probe(Name),
    Target(Name),
}

/// A budget and what was used of it.
#[derive(Debug)]
pub struct Purse {
    pub owner: Owner,
    account: Mutex<Account>,
    changed: AtomicBool,
}

impl Purse {
    fn new(owner: Owner, budget: Budget) -> Arc<Self> {
        Arc::new(Self {
            owner,
            account: Mutex::new(Account::new(budget, unix_now())),
            changed: AtomicBool::new(false),
        })
    }

    /// The budget, and what was used in the period that is now.
    pub fn now(&self) -> (Budget, Amounts) {
        let mut account = lock(&self.account);
        (*account.budget(), account.used(unix_now()))
    }

    /// The state file is to be written.
    fn has_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Its name in the state file.
    fn key(&self) -> String {
        match &self.owner {
            Owner::Probe(probe) => format!("probe/{probe}"),
            Owner::Target(target) => format!("target/{target}"),
        }
    }
}

impl Protection {
    /// Of no plan yet, for one of so many replicas: each may use its share of the budgets.
    pub fn new(replicas: u32) -> Self {
        Self {
            replicas,
            ..Self::default()
        }
    }

    /// The protection of a new plan: targets that are still as they were keep their guards, and those that are
    /// at least where they were are still left alone if they shed load; what was used of a budget stays used.
    /// `blocking` is the runtime whose threads may block.
    pub fn next(&self, plan: &Plan, blocking: &Handle) -> Result<Self, (Name, ClientError)> {
        let agent = &plan.global().user_agent;
        let mut next = Self {
            of_others: self.kept(),
            next_id: Arc::clone(&self.next_id),
            replicas: self.replicas,
            ..Self::default()
        };
        for target in plan.targets() {
            let before = self.guards.iter().find(|guard| guard.target.name == target.name);
            let guard = match before {
                Some(before) if before.target == *target && before.agent == *agent => Arc::clone(before),
                _ => {
                    let circuit = before
                        .filter(|before| before.target.url == target.url)
                        .map(|before| lock(&before.circuit).for_successor(Instant::now()));
                    let guard = Guard::new(target, agent, circuit.unwrap_or_default(), blocking)
                        .map_err(|error| (target.name.clone(), error))?;
                    Arc::new(guard)
                }
            };
            next.guards.push(guard);
        }
        // From here on nothing fails.
        for target in plan.targets() {
            if let Some(budget) = target.budget {
                next.add(Owner::Target(target.name.clone()), budget, &self.purses);
            }
        }
        for probe in plan.probes() {
            if let Some(budget) = probe.budget {
                next.add(Owner::Probe(probe.name.clone()), budget, &self.purses);
            }
        }
        let now = unix_now();
        next.of_others.retain(|_, used| used.is_of_now(now));
        Ok(next)
    }

    /// The purse of `owner`: the one it has had, so that what running rounds have reserved is freed there, too.
    fn add(&mut self, owner: Owner, budget: Budget, before: &[Arc<Purse>]) {
        let budget = budget.share(self.replicas);
        let same =
            (before.iter()).find(|purse| purse.owner == owner && lock(&purse.account).change_budget(budget));
        let purse = same.cloned().unwrap_or_else(|| Purse::new(owner, budget));
        if let Some(kept) = self.of_others.remove(&purse.key())
            && same.is_none()
        {
            lock(&purse.account).restore(&kept);
        }
        self.purses.push(purse);
    }

    pub fn guards(&self) -> &[Arc<Guard>] {
        &self.guards
    }

    pub fn purses(&self) -> &[Arc<Purse>] {
        &self.purses
    }

    /// Takes over what was used before a restart.
    pub fn restore(&self, kept: &BTreeMap<String, Used>) {
        for purse in &self.purses {
            if let Some(kept) = kept.get(&purse.key()) {
                lock(&purse.account).restore(kept);
            }
        }
    }

    /// Goes on leaving alone what was left alone before a restart.
    pub fn restore_backoffs(&self, kept: &BTreeMap<String, Kept>) {
        for guard in &self.guards {
            if let Some(kept) = kept.get(&guard.key()) {
                *lock(&guard.circuit) = Circuit::restored(*kept, Instant::now(), unix_now());
            }
        }
    }

    /// What is left alone now, to be kept over restarts.
    pub fn backoffs(&self) -> BTreeMap<String, Kept> {
        let kept = |guard: &Arc<Guard>| {
            let kept = lock(&guard.circuit).kept(Instant::now(), unix_now())?;
            Some((guard.key(), kept))
        };
        self.guards.iter().filter_map(kept).collect()
    }

    /// What is to be kept over restarts.
    pub fn kept(&self) -> BTreeMap<String, Used> {
        let of_purses = self
            .purses
            .iter()
            .map(|purse| (purse.key(), lock(&purse.account).kept()));
        self.of_others.clone().into_iter().chain(of_purses).collect()
    }

    /// Whether that changed since it was last asked.
    pub fn has_changed(&self) -> bool {
        let purses = self.purses.iter().map(|purse| &purse.changed);
        let guards = self.guards.iter().map(|guard| &guard.changed);
        let changed = purses
            .chain(guards)
            .map(|changed| changed.swap(false, Ordering::Relaxed));
        changed.fold(false, |any, changed| any | changed)
    }

    /// The protection of the rounds of one probe at one target.
    pub fn of(&self, probe: &Arc<Probe>, target: &Arc<Target>) -> Option<Guarded> {
        let guard = self
            .guards
            .iter()
            .find(|guard| guard.target.name == target.name)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let draws_on = |purse: &&Arc<Purse>| match &purse.owner {
            Owner::Probe(name) => *name == probe.name,
            Owner::Target(name) => *name == target.name,
        };
        let guess = probe.prompt.most_tokens(probe.max_tokens);
        let guarded = Guarded {
            id,
            probe: Arc::clone(probe),
            target: Arc::clone(target),
            guard: Arc::clone(guard),
            purses: self.purses.iter().filter(draws_on).cloned().collect(),
            longest_prompt: AtomicU64::new(guess),
            longest_believed: guess.saturating_mul(4).saturating_add(TEMPLATE),
        };
        let round = guarded.most(probe.requests_of_a_round());
        for purse in &guarded.purses {
            lock(&purse.account).join(id, probe.timetable(self.replicas), round);
        }
        Some(guarded)
    }
}
