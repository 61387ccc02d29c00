//! Owns the running probes: arms their schedules, lets their bursts take turns, and drains.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    baseline::Baselines,
    calibration::Calibrations,
    client::{Client, ClientError},
    config::plan::{Plan, Series, Target},
    gate::Gate,
    lag::Lag,
    metrics::Metrics,
    pause::PauseSwitch,
    protection::Protection,
    request::Endpoint,
    rhythm::Replica,
    runner::{Event, Runner, Sizing, Tried, Watched},
    tape::Room,
    units::Name,
};

/// What the probes of a process share.
#[derive(Clone, Debug)]
pub struct Shared {
    pub metrics: Metrics,
    pub lag: Lag,
    pub gate: Gate,
    /// The runtime whose threads may block.
    pub blocking: Handle,
    pub events: UnboundedSender<Event>,
    /// What is usual for each series.
    pub baselines: Baselines,
    /// How many tokens servers make of words.
    pub calibrations: Calibrations,
    pub replica: Replica,
    /// Holds all bursts back.
    pub pause: PauseSwitch,
    /// Where responses are recorded: room for their bytes.
    pub recording: Option<Room>,
}

impl Shared {
    /// For the probes of `plan`, with metrics of their own, and where they will tell what happens.
    pub fn new(plan: &Plan, blocking: &Handle) -> (Self, UnboundedReceiver<Event>) {
        let (events, told) = unbounded_channel();
        let shared = Self {
            metrics: Metrics::new(&plan.global().labels),
            lag: Lag::default(),
            gate: Gate::default(),
            blocking: blocking.clone(),
            events,
            baselines: Baselines::default(),
            calibrations: Calibrations::default(),
            replica: Replica::default(),
            pause: PauseSwitch::default(),
            recording: None,
        };
        (shared, told)
    }
}

/// The probes of a plan.
#[derive(Debug)]
pub struct Supervisor {
    runners: Vec<Arc<Runner>>,
    protection: Protection,
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
        let protection = Protection::new(plan, &shared.blocking)
            .map_err(|(target, source)| TargetError { target, source })?;
        shared.metrics.guarded_by(protection.clone());
        let mut reached: HashMap<Name, Reached> = HashMap::new();
        for target in plan.targets() {
            reached.insert(target.name.clone(), Reached::new(target, plan, shared)?);
        }
        let mut runners: Vec<Arc<Runner>> = Vec::new();
        for probe in plan.probes() {
            for target in &probe.targets {
                let Some(Reached {
                    endpoint,
                    turn,
                    tried,
                }) = reached.get(&target.name)
                else {
                    continue;
                };
                let Some(guarded) = protection.of(probe, target, runners.len()) else {
                    continue;
                };
                let watch = |step: &Arc<_>| {
                    let series = Series {
                        probe: Arc::clone(probe),
                        target: Arc::clone(target),
                        step: Arc::clone(step),
                    };
                    Arc::new(Watched {
                        metrics: shared.metrics.acquire(&series),
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
                    guarded,
                    baselines: shared.baselines.clone(),
                    sizing: Sizing::new(probe, target, &shared.calibrations, tried),
                    asked: AtomicU64::default(),
                    lag: shared.lag.clone(),
                    blocking: shared.blocking.clone(),
                    events: shared.events.clone(),
                    replica: shared.replica,
                    pause: shared.pause.clone(),
                    drain: drain.clone(),
                    abort: abort.clone(),
                }));
            }
        }
        Ok(Self {
            runners,
            protection,
            tasks: TaskTracker::new(),
            drain,
            abort,
        })
    }

    /// The budgets and guards of its targets.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Every series, in the order of the plan.
    pub fn watched(&self) -> impl Iterator<Item = &Arc<Watched>> {
        self.runners.iter().flat_map(|runner| &runner.steps)
    }

    /// Arms the schedules: bursts are due from now on. With `at_once` the first ones are not spread.
    /// Call it on the measuring runtime.
    pub fn arm(&self, at_once: bool) {
        for runner in &self.runners {
            self.tasks.spawn(Arc::clone(runner).keep_firing(at_once));
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
    /// The kinds of requests to it of which it was tried to learn how they are counted.
    tried: Tried,
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
            replica_header: target.replica_header.clone(),
            gate: shared.gate.clone(),
            identity: plan.global().identity.clone(),
            recording: shared.recording.clone(),
        };
        let turn = (!target.share).then(|| Arc::new(Semaphore::new(1)));
        Ok(Self {
            endpoint: Arc::new(endpoint),
            turn,
            tried: Tried::default(),
        })
    }
}
