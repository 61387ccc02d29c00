//! The rounds of one probe at one target: admitted, paid for.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{Brake, Guard, Purse, lock};
use crate::{
    access::Renewal,
    backoff::{Admission, Shed, is_shed, takes_requests},
    budget::{Amounts, Verdict},
    clock::unix_now,
    config::plan::{Probe, Target},
    outcome::{Failure, Outcome, Skip},
    summary::Judged,
};

/// How often a server is asked during a burst whether it is busy.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// One probe at one target, guarded.
#[derive(Debug)]
pub struct Guarded {
    pub(super) id: usize,
    pub(super) probe: Arc<Probe>,
    pub(super) target: Arc<Target>,
    pub(super) guard: Arc<Guard>,
    pub(super) purses: Vec<Arc<Purse>>,
    /// In tokens, as far as prompts were counted.
    pub(super) longest_prompt: AtomicU64,
    /// A server that counts more than this would only stop the probe.
    pub(super) longest_believed: u64,
}

impl Guarded {
    /// Whether the round that is due may begin, as far as the endpoint is concerned; a [`Trial`] if one request comes
    /// first.
    pub async fn admit(&self, blocking: &Handle) -> Result<Option<Trial<'_>>, Skip> {
        let admission = lock(&self.guard.circuit).admit(Instant::now());
        let trial = match admission {
            Admission::Go => None,
            Admission::Trial => Some(Trial {
                guard: &self.guard,
                is_over: false,
            }),
            Admission::Withhold => return Err(Skip::Backoff),
        };
        if self.is_busy(blocking).await {
            return Err(Skip::ServerBusy);
        }
        Ok(trial)
    }

    /// Secrets of the target were renewed, or not.
    pub fn renewed(&self, renewal: &Renewal) {
        self.guard.renewed(renewal);
    }

    /// Whether the server says that it is too busy for a burst to begin.
    pub async fn is_busy(&self, blocking: &Handle) -> bool {
        let busy = self.guard.busy(blocking, |of| &of.busy().skip_when).await;
        if let Some(condition) = &busy {
            tracing::info!(probe = %self.probe.name, target = %self.target.name, condition, "the server is busy");
        }
        busy.is_some()
    }

    /// Reserves what a round may cost; `None` where the budgets do not let it pass. What was due may not be fired
    /// twice over two budgets: both decide, then both are told.
    pub fn round(&self) -> Option<Spending<'_>> {
        let one = self.most(1);
        let most = one.times(self.probe.requests_of_a_round() as f64);
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
        fires.then(|| Spending::new(self, one, most, true))
    }

    /// Reserves what so many requests beside those of a round may cost; `None` where that is not left.
    pub fn apart(&self, requests: u64) -> Option<Spending<'_>> {
        let one = self.most(1);
        let most = one.times(requests as f64);
        let now = unix_now();
        let mut accounts: Vec<_> = self.purses.iter().map(|purse| lock(&purse.account)).collect();
        let fits = accounts.iter_mut().all(|account| account.affords(most, now));
        if fits {
            for account in &mut accounts {
                account.reserve(most);
            }
        }
        drop(accounts);
        fits.then(|| Spending::new(self, one, most, false))
    }

    /// By how much the budgets stretch the interval, at least 1.
    pub fn stretch(&self) -> f64 {
        let stretches = self
            .purses
            .iter()
            .map(|purse| lock(&purse.account).stretch(self.id));
        stretches.fold(1.0, f64::max)
    }

    /// A request ended: an endpoint that says when to come back is left alone by all from then on.
    pub fn request_ended(&self, judged: &Judged) {
        let Judged { record, .. } = judged;
        if let Some(asked) = record.retry_after.filter(|_| is_shed(record.outcome)) {
            lock(&self.guard.circuit).shed(Some(asked), Instant::now());
            self.guard.has_changed();
        }
    }

    /// A burst ended; whether it opens the circuit.
    pub fn burst_ended(&self, brake: &Brake) {
        let Some(Shed { asked }) = brake.shedding() else {
            return;
        };
        let mut circuit = lock(&self.guard.circuit);
        circuit.shed(asked, Instant::now());
        let wait = circuit.open_for(Instant::now()).unwrap_or_default();
        drop(circuit);
        self.guard.has_changed();
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
        let busy = self.target.busy.as_ref();
        if busy.is_none_or(|busy| busy.abort_when.is_empty()) {
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
    pub(super) fn most(&self, requests: u64) -> Amounts {
        let prompt = self.longest_prompt.load(Ordering::Relaxed);
        self.probe.most(requests, prompt, &self.target)
    }

    /// What a request used: as the server counted it. Without a count, a request that may have been worked on is
    /// taken to have used the longest prompt seen, and all the tokens that it was allowed unless it succeeded.
    /// One of a round says how long prompts get, as far as that can be believed.
    fn used(&self, judged: &Judged, of_round: bool) -> Amounts {
        let record = &judged.record;
        if record.timeline.start.is_none() {
            return Amounts::default();
        }
        if let Some(prompt) = record.usage.prompt.filter(|_| of_round) {
            let believed = prompt.0.min(self.longest_believed);
            self.longest_prompt.fetch_max(believed, Ordering::Relaxed);
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

/// The one request that comes first where an endpoint has shed load. The circuit learns how it ended, also where it was
/// not made, or its task died.
#[derive(Debug)]
pub struct Trial<'a> {
    guard: &'a Guard,
    is_over: bool,
}

impl Trial<'_> {
    /// It was made, and ended so.
    pub fn ended(mut self, judged: &Judged) {
        self.is_over = true;
        let succeeded = takes_requests(judged.record.outcome);
        let asked = judged.record.retry_after;
        lock(&self.guard.circuit).trial_ended(succeeded, asked, Instant::now());
        self.guard.has_changed();
        if succeeded == Some(true) {
            tracing::info!(target = %self.guard.target.name, "the endpoint takes requests again");
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.guard.circuit).trial_ended(None, None, Instant::now());
        }
    }
}

/// What is removed from the plan is due no more.
impl Drop for Guarded {
    fn drop(&mut self) {
        for purse in &self.purses {
            lock(&purse.account).leave(self.id);
        }
    }
}

/// What a round, or what is beside it, has reserved and uses; with its end the rest is free again.
#[derive(Debug)]
pub struct Spending<'a> {
    guarded: &'a Guarded,
    one: Amounts,
    /// What is left of it.
    reserved: Amounts,
    cost: Amounts,
    is_round: bool,
}

impl<'a> Spending<'a> {
    fn new(guarded: &'a Guarded, one: Amounts, reserved: Amounts, is_round: bool) -> Self {
        for purse in &guarded.purses {
            purse.has_changed();
        }
        Self {
            guarded,
            one,
            reserved,
            cost: Amounts::default(),
            is_round,
        }
    }

    /// A request ended, whichever way. Whether the budgets still suffice for what is reserved: where requests use more than
    /// they were taken to, no more are to be sent.
    pub fn charge(&mut self, judged: &Judged) -> bool {
        let used = self.guarded.used(judged, self.is_round);
        let of_reserved = self.one.at_most(self.reserved);
        self.reserved -= of_reserved;
        self.cost += used;
        let mut suffice = true;
        for purse in &self.guarded.purses {
            suffice &= lock(&purse.account).charge(used, of_reserved, unix_now());
            purse.has_changed();
        }
        suffice
    }
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        for purse in &self.guarded.purses {
            let mut account = lock(&purse.account);
            if self.is_round {
                account.ended(self.guarded.id, self.cost, self.reserved);
            } else {
                account.release(self.reserved);
            }
            purse.has_changed();
        }
    }
}
