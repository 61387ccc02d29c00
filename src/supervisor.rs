//! Owns the running probes: arms their schedules, lets their bursts take turns, and drains.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    burst::Burst,
    client::{Client, ClientError},
    clock::unix_now,
    config::plan::{Plan, Probe, Series, Target},
    gate::Gate,
    lag::Lag,
    metrics::{Metrics, SeriesMetrics},
    outcome::Skip,
    request::Endpoint,
    schedule::{Schedule, phase},
    summary::{Judged, Summary},
    units::{Name, Seconds},
};

/// A series and its metrics.
#[derive(Debug)]
pub struct Watched {
    pub series: Series,
    pub metrics: SeriesMetrics,
}

/// Something that happened to a series, for whoever keeps the books.
#[derive(Debug)]
pub struct Event {
    pub watched: Arc<Watched>,
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// From now on bursts are due.
    Armed,
    /// When the next burst is due, in seconds since the Unix epoch.
    NextDue(f64),
    /// A burst begins, so late.
    Begun(Seconds),
    Request(Box<Judged>),
    /// A burst ended; `true`: because it was cancelled.
    Ended(Box<Summary>, bool),
    Skipped(Skip),
}

/// What the probes of a process share.
#[derive(Clone, Debug)]
pub struct Shared {
    pub metrics: Metrics,
    pub lag: Lag,
    pub gate: Gate,
    /// The runtime whose threads may block.
    pub blocking: Handle,
    pub events: UnboundedSender<Event>,
}

/// The probes of a plan.
#[derive(Debug)]
pub struct Supervisor {
    runners: Vec<Arc<Runner>>,
    tasks: TaskTracker,
    /// No new bursts.
    drain: CancellationToken,
    /// No bursts at all.
    abort: CancellationToken,
}

/// Why a target cannot be probed.
#[derive(Debug, thiserror::Error)]
#[error("target `{target}`: {source}")]
pub struct TargetError {
    target: Name,
    source: ClientError,
}

impl Supervisor {
    /// Sets everything up; from here on the counters exist. Nothing is sent before [`Self::arm`] or
    /// [`Self::run_once`].
    pub fn new(plan: &Plan, shared: &Shared) -> Result<Self, TargetError> {
        let places = Arc::new(Semaphore::new(plan.global().max_in_flight as usize));
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let mut reached: HashMap<Name, Reached> = HashMap::new();
        for target in plan.targets() {
            reached.insert(target.name.clone(), Reached::new(target, plan, shared)?);
        }
        let mut runners: Vec<Arc<Runner>> = Vec::new();
        for probe in plan.probes() {
            for target in &probe.targets {
                let Some(Reached { endpoint, turn }) = reached.get(&target.name) else {
                    continue;
                };
                let watch = |step: &Arc<_>| {
                    let series = Series {
                        probe: Arc::clone(probe),
                        target: Arc::clone(target),
                        step: Arc::clone(step),
                    };
                    Arc::new(Watched {
                        metrics: shared.metrics.acquire(&series, None),
                        series,
                    })
                };
                runners.push(Arc::new(Runner {
                    probe: Arc::clone(probe),
                    target: Arc::clone(target),
                    endpoint: Arc::clone(endpoint),
                    turn: turn.clone(),
                    places: Arc::clone(&places),
                    steps: probe.steps.iter().map(watch).collect(),
                    asked: AtomicU64::new(0),
                    lag: shared.lag.clone(),
                    blocking: shared.blocking.clone(),
                    events: shared.events.clone(),
                    drain: drain.clone(),
                    abort: abort.clone(),
                }));
            }
        }
        Ok(Self {
            runners,
            tasks: TaskTracker::new(),
            drain,
            abort,
        })
    }

    /// Every series, in the order of the plan.
    pub fn watched(&self) -> impl Iterator<Item = &Arc<Watched>> {
        self.runners.iter().flat_map(|runner| &runner.steps)
    }

    /// Arms the schedules: bursts are due from now on. With `at_once` the first ones are not spread.
    /// Call it on the measuring runtime.
    pub fn arm(&self, at_once: bool) {
        let armed = Instant::now();
        for runner in &self.runners {
            for step in &runner.steps {
                runner.tell(step, What::Armed);
            }
            self.tasks.spawn(Arc::clone(runner).keep_firing(armed, at_once));
        }
    }

    /// Runs every probe once, one after the other as far as they would disturb one another, and waits for
    /// them. Call it on the measuring runtime.
    pub async fn run_once(&self) {
        for runner in &self.runners {
            self.tasks.spawn(Arc::clone(runner).fire_once());
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends all bursts at once.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Lets no new burst begin, gives running ones `grace`, then cancels what is left.
    pub async fn drain(&self, grace: Duration) {
        self.drain.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

/// How a target is reached, and whose turn it is there.
struct Reached {
    endpoint: Arc<Endpoint>,
    /// `None` where bursts of several probes may run at once.
    turn: Option<Arc<Semaphore>>,
}

impl Reached {
    fn new(target: &Target, plan: &Plan, shared: &Shared) -> Result<Self, TargetError> {
        let client = Client::new(target, &plan.global().user_agent, &shared.blocking).map_err(|source| {
            TargetError {
                target: target.name.clone(),
                source,
            }
        })?;
        let endpoint = Endpoint {
            client,
            dialect: target.api,
            text_mode: target.text_mode,
            gate: shared.gate.clone(),
        };
        let turn = (!target.share).then(|| Arc::new(Semaphore::new(1)));
        Ok(Self {
            endpoint: Arc::new(endpoint),
            turn,
        })
    }
}

/// One probe at one target.
#[derive(Debug)]
struct Runner {
    probe: Arc<Probe>,
    target: Arc<Target>,
    endpoint: Arc<Endpoint>,
    turn: Option<Arc<Semaphore>>,
    places: Arc<Semaphore>,
    steps: Vec<Arc<Watched>>,
    /// Requests so far.
    asked: AtomicU64,
    lag: Lag,
    blocking: Handle,
    events: UnboundedSender<Event>,
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Runner {
    async fn keep_firing(self: Arc<Self>, armed: Instant, at_once: bool) {
        let every = self.probe.every;
        let phase = if at_once {
            Duration::ZERO
        } else {
            phase(&self.probe.name, &self.target.name, every)
        };
        let mut schedule = Schedule::new(armed, phase, every, self.probe.jitter);
        let mut next = schedule.advance(fastrand::f64());
        loop {
            let due = next;
            self.announce(due);
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return,
                () = sleep_until(due) => {}
            }
            schedule.catch_up(Instant::now());
            next = schedule.advance(fastrand::f64());
            let turn = match self.turn(due + every).await {
                Ok(turn) => turn,
                Err(skip) => {
                    self.skip_round(skip);
                    continue;
                }
            };
            self.announce(next);
            let mut round = std::pin::pin!(self.round(due, turn));
            loop {
                tokio::select! {
                    biased;
                    () = &mut round => break,
                    () = sleep_until(next) => {
                        self.skip_round(Skip::Overlap);
                        schedule.catch_up(Instant::now());
                        next = schedule.advance(fastrand::f64());
                        self.announce(next);
                    }
                }
            }
        }
    }

    async fn fire_once(self: Arc<Self>) {
        let now = Instant::now();
        let never = now + Duration::from_hours(24 * 365);
        if let Ok(turn) = self.turn(never).await {
            self.round(Instant::now(), turn).await;
        }
    }

    /// Waits for the turn at the target.
    async fn turn(&self, until: Instant) -> Result<Option<OwnedSemaphorePermit>, Skip> {
        let Some(turn) = &self.turn else { return Ok(None) };
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Skip::Drain),
            turn = timeout_at(until, Arc::clone(turn).acquire_owned()) => match turn {
                Ok(turn) => Ok(turn.ok()),
                Err(_) => Err(Skip::TargetBusy),
            }
        }
    }

    /// One burst per step, one after the other.
    async fn round(&self, due: Instant, _turn: Option<OwnedSemaphorePermit>) {
        let mut due = due;
        for (number, step) in self.steps.iter().enumerate() {
            if number > 0 {
                tokio::select! {
                    biased;
                    () = self.drain.cancelled() => {}
                    () = sleep(self.probe.settle) => {}
                }
                due = Instant::now();
            }
            match self.places(step.series.step.users, due + self.probe.every).await {
                Ok(_places) => self.burst(step, due).await,
                Err(skip) => self.tell(step, What::Skipped(skip)),
            }
        }
    }

    /// Waits for the places of a whole burst.
    async fn places(&self, users: u32, until: Instant) -> Result<OwnedSemaphorePermit, Skip> {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Skip::Drain),
            places = timeout_at(until, Arc::clone(&self.places).acquire_many_owned(users)) => {
                places.ok().and_then(Result::ok).ok_or(Skip::InFlight)
            }
        }
    }

    async fn burst(&self, step: &Arc<Watched>, due: Instant) {
        self.tell(step, What::Begun(Seconds::between(due, Instant::now())));
        let burst = Burst {
            series: step.series.clone(),
            endpoint: Arc::clone(&self.endpoint),
            in_flight: step.metrics.in_flight(),
            lag: self.lag.clone(),
            blocking: self.blocking.clone(),
            asked_before: self.asked.load(Ordering::Relaxed),
            cancel: self.abort.clone(),
        };
        let summary = burst
            .run(|judged| {
                self.asked.fetch_add(1, Ordering::Relaxed);
                self.tell(step, What::Request(Box::new(judged)));
            })
            .await;
        self.tell(step, What::Ended(Box::new(summary), self.abort.is_cancelled()));
    }

    fn announce(&self, due: Instant) {
        let unix = unix_now() + due.saturating_duration_since(Instant::now()).as_secs_f64();
        for step in &self.steps {
            self.tell(step, What::NextDue(unix));
        }
    }

    fn skip_round(&self, skip: Skip) {
        for step in &self.steps {
            self.tell(step, What::Skipped(skip));
        }
    }

    fn tell(&self, watched: &Arc<Watched>, what: What) {
        // The books are closed only when the process ends.
        self.events
            .send(Event {
                watched: Arc::clone(watched),
                what,
            })
            .ok();
    }
}
