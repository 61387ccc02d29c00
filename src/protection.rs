//! What stands between a due round and its target: whether the target sheds load, whether its server says that it
//! is busy, whether the round fits the budgets; and the brake of a running burst.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::{Admission, Circuit, Protect, Watch},
    budget::{Account, Amounts, Budget, Used, Verdict},
    busy::Condition,
    client::{ClientError, Scraper},
    clock::unix_now,
    config::plan::{Plan, Probe, Target},
    outcome::{Failure, Outcome, Skip},
    prompt::Source,
    summary::Judged,
    units::Name,
};

/// How often a server is asked during a burst whether it is busy.
const ASK_EVERY: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The budgets and guards of a plan.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    guards: Vec<Arc<Guard>>,
    purses: Vec<Arc<Purse>>,
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

    /// Its name in the state file.
    fn key(&self) -> String {
        match &self.owner {
            Owner::Probe(probe) => format!("probe/{probe}"),
            Owner::Target(target) => format!("target/{target}"),
        }
    }
}

/// What is known of a target's state over all probes.
#[derive(Debug)]
pub struct Guard {
    pub target: Name,
    circuit: Mutex<Circuit>,
    scraper: Option<Arc<Scraper>>,
    /// Whether the last scrape failed.
    scrape_fails: AtomicBool,
    scrape_failures: AtomicU64,
}

impl Guard {
    /// How much longer the target is left alone; `None`: it is not.
    pub fn backing_off(&self) -> Option<Duration> {
        lock(&self.circuit).open_for(Instant::now())
    }

    /// Scrapes that failed; `None` where nothing is scraped.
    pub fn scrape_failures(&self) -> Option<u64> {
        self.scraper.as_ref()?;
        Some(self.scrape_failures.load(Ordering::Relaxed))
    }

    /// The condition that the server satisfies, if any. A scrape that fails says nothing.
    async fn busy(&self, blocking: &Handle, of: fn(&Scraper) -> &[Condition]) -> Option<String> {
        let scraper = Arc::clone(self.scraper.as_ref()?);
        if of(&scraper).is_empty() {
            return None;
        }
        // Reading megabytes is no work for the runtime that measures.
        let scraped = blocking.spawn(async move {
            let text = scraper.scrape().await?;
            let met = of(&scraper).iter().find(|of| of.satisfied_by(&text).is_some());
            Ok::<_, String>(met.map(ToString::to_string))
        });
        let result = scraped.await.unwrap_or_else(|error| Err(error.to_string()));
        let failed_before = self.scrape_fails.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Ok(met) => {
                if failed_before {
                    tracing::info!(target = %self.target, "the metrics of `busy` can be read again");
                }
                met
            }
            Err(error) => {
                self.scrape_failures.fetch_add(1, Ordering::Relaxed);
                if !failed_before {
                    tracing::warn!(target = %self.target, %error, "the metrics of `busy` cannot be read: probing goes on");
                }
                None
            }
        }
    }
}

impl Protection {
    /// Everything closed, nothing used. `blocking` is the runtime whose threads may block.
    pub fn new(plan: &Plan, blocking: &Handle) -> Result<Self, (Name, ClientError)> {
        let agent = &plan.global().user_agent;
        let mut protection = Self::default();
        for target in plan.targets() {
            let scraper = target
                .busy
                .as_ref()
                .map(|busy| Scraper::new(busy, target, agent, blocking).map(Arc::new));
            protection.guards.push(Arc::new(Guard {
                target: target.name.clone(),
                circuit: Mutex::default(),
                scraper: scraper
                    .transpose()
                    .map_err(|error| (target.name.clone(), error))?,
                scrape_fails: AtomicBool::new(false),
                scrape_failures: AtomicU64::new(0),
            }));
            let purse = target
                .budget
                .map(|budget| Purse::new(Owner::Target(target.name.clone()), budget));
            protection.purses.extend(purse);
        }
        for probe in plan.probes() {
            let purse = probe
                .budget
                .map(|budget| Purse::new(Owner::Probe(probe.name.clone()), budget));
            protection.purses.extend(purse);
        }
        Ok(protection)
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

    /// What is to be kept over restarts.
    pub fn kept(&self) -> BTreeMap<String, Used> {
        let purses = self.purses.iter();
        purses
            .map(|purse| (purse.key(), lock(&purse.account).kept()))
            .collect()
    }

    /// Whether that changed since it was last asked.
    pub fn has_changed(&self) -> bool {
        let changed = self
            .purses
            .iter()
            .map(|purse| purse.changed.swap(false, Ordering::Relaxed));
        changed.fold(false, |any, changed| any | changed)
    }

    /// The protection of the rounds of one probe at one target, told apart by `id`.
    pub fn of(&self, probe: &Arc<Probe>, target: &Arc<Target>, id: usize) -> Option<Guarded> {
        let guard = self.guards.iter().find(|guard| guard.target == target.name)?;
        let draws_on = |purse: &&Arc<Purse>| match &purse.owner {
            Owner::Probe(name) => *name == probe.name,
            Owner::Target(name) => *name == target.name,
        };
        let guarded = Guarded {
            id,
            probe: Arc::clone(probe),
            target: Arc::clone(target),
            guard: Arc::clone(guard),
            purses: self.purses.iter().filter(draws_on).cloned().collect(),
            longest_prompt: AtomicU64::new(guess(&probe.prompt)),
        };
        let round = guarded.most(probe.requests_of_a_round());
        let every = interval(probe);
        for purse in &guarded.purses {
            lock(&purse.account).join(id, every, round);
        }
        Some(guarded)
    }
}

/// The interval of a probe; with a calendar, on average.
fn interval(probe: &Probe) -> Duration {
    let average = 1.0 / probe.bursts_per_second(unix_now());
    let is_plain = (average / probe.every.as_secs_f64() - 1.0).abs() < 1e-3;
    match Duration::try_from_secs_f64(average) {
        Ok(average) if !is_plain => average,
        _ => probe.every,
    }
}

/// Tokens of a prompt, before a server has counted any: letters by three are more than most tokenizers make.
fn guess(prompt: &crate::prompt::Prompt) -> u64 {
    let system = prompt.system.as_ref().map_or(0, String::len);
    let letters = |text: &String| (text.len() + system) as u64 / 3;
    match &prompt.source {
        Source::Text(text) => letters(text),
        Source::Lines(lines) => lines.iter().map(letters).max().unwrap_or(0),
        Source::Synthetic(length) => length.most().0 + system as u64 / 3,
    }
}

/// One probe at one target, guarded.
#[derive(Debug)]
pub struct Guarded {
    id: usize,
    probe: Arc<Probe>,
    target: Arc<Target>,
    guard: Arc<Guard>,
    purses: Vec<Arc<Purse>>,
    /// In tokens, as far as prompts were counted.
    longest_prompt: AtomicU64,
}

/// A round that may begin.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// One request comes first; see [`Guarded::trial_ended`].
    pub on_trial: bool,
    pub spending: Spending<'a>,
}

impl Guarded {
    /// Whether the round that is due may begin. What it may cost is reserved until its spending is dropped.
    pub async fn admit(&self, blocking: &Handle) -> Result<Admitted<'_>, Skip> {
        let on_trial = match lock(&self.guard.circuit).admit(Instant::now()) {
            Admission::Go => false,
            Admission::Trial => true,
            Admission::Withhold => return Err(Skip::Backoff),
        };
        let busy = self.guard.busy(blocking, |of| &of.busy().skip_when).await;
        let spending = match busy {
            Some(condition) => {
                tracing::info!(probe = %self.probe.name, target = %self.target.name, condition, "the server is busy");
                Err(Skip::ServerBusy)
            }
            None => self.spending(on_trial).ok_or(Skip::Budget),
        };
        if spending.is_err() && on_trial {
            self.trial_ended(None);
        }
        Ok(Admitted {
            on_trial,
            spending: spending?,
        })
    }

    /// What was due may not be fired twice over two budgets: both decide, then both are told.
    fn spending(&self, on_trial: bool) -> Option<Spending<'_>> {
        let one = self.most(1);
        let requests = self.probe.requests_of_a_round() + u64::from(on_trial);
        let most = one.times(requests as f64);
        let now = unix_now();
        // In the same order for everybody.
        let mut accounts: Vec<_> = self.purses.iter().map(|purse| lock(&purse.account)).collect();
        let verdicts: Vec<_> = accounts
            .iter_mut()
            .map(|account| account.verdict(self.id, most, now))
            .collect();
        let fires = verdicts.iter().all(|verdict| *verdict == Verdict::Fire);
        for account in &mut accounts {
            account.decided(self.id, most, fires);
        }
        drop(accounts);
        fires.then(|| Spending {
            guarded: self,
            one,
            reserved: most,
            cost: Amounts::default(),
        })
    }

    /// By how much the budgets stretch the interval, at least 1.
    pub fn stretch(&self) -> f64 {
        let stretches = self
            .purses
            .iter()
            .map(|purse| lock(&purse.account).stretch(self.id));
        stretches.fold(1.0, f64::max)
    }

    /// The trial ended so; `None`: it was not made.
    pub fn trial_ended(&self, judged: Option<&Judged>) {
        let succeeded = judged.and_then(|judged| match judged.record.outcome {
            Outcome::Ok => Some(true),
            Outcome::Failed(_) => Some(false),
            Outcome::Invalid(_) => None,
        });
        let asked = judged.and_then(|judged| judged.record.retry_after);
        lock(&self.guard.circuit).trial_ended(succeeded, asked, Instant::now());
        if succeeded == Some(true) {
            tracing::info!(target = %self.target.name, "the endpoint takes requests again");
        }
    }

    /// A burst ended; whether it opens the circuit.
    pub fn burst_ended(&self, brake: &Brake) {
        let Some(asked) = lock(&brake.watch).shedding() else {
            return;
        };
        let mut circuit = lock(&self.guard.circuit);
        circuit.shed(asked, Instant::now());
        let wait = circuit.open_for(Instant::now()).unwrap_or_default();
        drop(circuit);
        tracing::warn!(
            probe = %self.probe.name,
            target = %self.target.name,
            wait_seconds = wait.as_secs_f64(),
            "the endpoint sheds load: it is left alone"
        );
    }

    /// Whether the endpoint has begun to shed load in the round that is running.
    pub fn is_left_alone(&self) -> bool {
        self.guard.backing_off().is_some()
    }

    /// Pulls the brake when the server says that it is busy; never returns before.
    pub async fn watch(&self, blocking: &Handle, brake: &Brake) -> Infallible {
        let watches = self.guard.scraper.as_ref();
        if watches.is_none_or(|scraper| scraper.busy().abort_when.is_empty()) {
            return std::future::pending().await;
        }
        loop {
            sleep(ASK_EVERY).await;
            if let Some(condition) = self.guard.busy(blocking, |of| &of.busy().abort_when).await {
                tracing::warn!(probe = %self.probe.name, target = %self.target.name, condition, "the server is busy: the burst is cut short");
                brake.pull(Skip::ServerBusy);
                return std::future::pending().await;
            }
        }
    }

    /// The most that so many requests use.
    fn most(&self, requests: u64) -> Amounts {
        let prompt = self.longest_prompt.load(Ordering::Relaxed);
        self.probe.most(requests, prompt, &self.target)
    }

    /// What a request used: as the server counted it. Without a count, a request that may have been worked on is
    /// taken to have used the longest prompt seen, and all the tokens that it was allowed unless it succeeded.
    fn used(&self, judged: &Judged) -> Amounts {
        let record = &judged.record;
        if record.timeline.start.is_none() {
            return Amounts::default();
        }
        if let Some(prompt) = record.usage.prompt {
            self.longest_prompt.fetch_max(prompt.0, Ordering::Relaxed);
        }
        let never_arrived = matches!(
            record.outcome,
            Outcome::Failed(
                Failure::Dns
                    | Failure::ConnectRefused
                    | Failure::ConnectTimeout
                    | Failure::ConnectError
                    | Failure::Tls
            )
        );
        let is_refused = record.status.is_some_and(|status| status != 200);
        let (prompt, output) = if never_arrived || is_refused {
            (0, 0)
        } else if record.outcome == Outcome::Ok {
            (
                self.longest_prompt.load(Ordering::Relaxed),
                judged.measured.output_tokens.0,
            )
        } else {
            (
                self.longest_prompt.load(Ordering::Relaxed),
                self.probe.max_tokens.0,
            )
        };
        let input = record.usage.prompt.map_or(prompt, |tokens| tokens.0) as f64;
        let output = record.usage.output.map_or(output, |tokens| tokens.0) as f64;
        Amounts {
            requests: 1.0,
            input_tokens: input,
            output_tokens: output,
            dollars: self.target.price.map_or(0.0, |price| price.of(input, output)),
        }
    }
}

/// What a round has reserved and uses; with its end the rest is free again.
#[derive(Debug)]
pub struct Spending<'a> {
    guarded: &'a Guarded,
    one: Amounts,
    /// What is left of it.
    reserved: Amounts,
    cost: Amounts,
}

impl Spending<'_> {
    /// A request ended, whichever way.
    pub fn charge(&mut self, judged: &Judged) {
        let used = self.guarded.used(judged);
        let of_reserved = self.one.at_most(self.reserved);
        self.reserved -= of_reserved;
        self.cost += used;
        for purse in &self.guarded.purses {
            lock(&purse.account).charge(used, of_reserved, unix_now());
            purse.changed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        for purse in &self.guarded.purses {
            lock(&purse.account).ended(self.guarded.id, self.cost, self.reserved);
        }
    }
}

/// Ends a running burst: no more requests are sent, and those under way are cancelled.
#[derive(Debug)]
pub struct Brake {
    token: CancellationToken,
    watch: Mutex<Watch>,
    reason: OnceLock<Skip>,
}

impl Brake {
    /// Pulled by too many failures, or with `cancel`, and then for no reason.
    pub fn new(protect: Option<Protect>, cancel: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            token: cancel.child_token(),
            watch: Mutex::new(Watch::new(protect)),
            reason: OnceLock::new(),
        })
    }

    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Why it was pulled to protect the endpoint.
    pub fn reason(&self) -> Option<Skip> {
        self.reason.get().copied()
    }

    /// The first reason stands.
    pub fn pull(&self, reason: Skip) {
        if !self.token.is_cancelled() {
            self.reason.get_or_init(|| reason);
            self.token.cancel();
        }
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
