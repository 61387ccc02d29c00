//! Owns the running probes: arms their schedules, lets their bursts take turns, follows a new plan, and drains.

mod allowance;
mod places;
mod running;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::allowance::{Allowance, Round};
use self::{places::Places, running::Running};
use crate::{
    access::{Access, Setup},
    baseline::Baselines,
    calibration::Calibrations,
    client::ClientError,
    config::plan::{Allowed, Global, Plan, Probe, Series, Target},
    gate::Gate,
    lag::Lag,
    metrics::Metrics,
    pause::PauseSwitch,
    protection::Protection,
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
            metrics: Metrics::new(&plan.global().labels, &plan.global().exposition),
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

/// The probes of the plan that is in force.
#[derive(Debug)]
pub struct Supervisor {
    shared: Shared,
    global: Global,
    places: Places,
    reached: HashMap<Name, Reached>,
    running: Vec<Running>,
    /// The same, for whoever asks for a round now. It keeps none of them.
    runners: watch::Sender<Vec<Weak<Runner>>>,
    /// Where rounds may be asked for beside the targets.
    allowances: watch::Sender<Vec<Allowance>>,
    protection: watch::Sender<Protection>,
    tasks: TaskTracker,
    /// Where schedules run, once they are armed.
    armed: Option<Handle>,
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

/// What a new plan changed, in probes at targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub unchanged: usize,
    /// Of the same names as one before, but asked or reached in another way.
    pub changed: usize,
    pub added: usize,
    pub removed: usize,
}

impl Supervisor {
    /// Sets everything up; from here on the counters exist. Nothing is sent before [`Self::arm`] or
    /// [`Self::run_once`].
    pub fn new(plan: &Plan, shared: Shared) -> Result<Self, TargetError> {
        let mut supervisor = Self {
            global: plan.global().clone(),
            places: Places::new(plan.global().max_in_flight),
            reached: HashMap::new(),
            running: Vec::new(),
            runners: watch::Sender::default(),
            allowances: watch::Sender::default(),
            protection: watch::Sender::new(Protection::new(shared.replica.total())),
            shared,
            tasks: TaskTracker::new(),
            armed: None,
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        supervisor.set_up(plan)?;
        Ok(supervisor)
    }

    /// The budgets and guards of its targets, as they come into force.
    pub fn protection(&self) -> watch::Receiver<Protection> {
        self.protection.subscribe()
    }

    /// Its probes at their targets, as they come into force.
    pub fn runners(&self) -> watch::Receiver<Vec<Weak<Runner>>> {
        self.runners.subscribe()
    }

    /// The entries of the allow list, as they come into force.
    pub fn allowances(&self) -> watch::Receiver<Vec<Allowance>> {
        self.allowances.subscribe()
    }

    /// What is waited for at the end.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Every series, in the order of the plan.
    pub fn watched(&self) -> impl Iterator<Item = &Arc<Watched>> {
        self.running.iter().flat_map(|running| &running.runner.steps)
    }

    /// Arms the schedules: bursts are due from now on. With `at_once` the first ones are not spread. `measure`
    /// is the runtime that measures.
    pub fn arm(&mut self, measure: &Handle, at_once: bool) {
        for running in &mut self.running {
            running.arm(&self.tasks, measure, &self.shared.metrics, at_once);
        }
        self.armed = Some(measure.clone());
    }

    /// Follows a new plan. What is not changed goes on: its schedule, its running burst, its counters. What is
    /// removed or changed is cancelled and has ended when this returns. On an error nothing has changed.
    pub async fn follow(&mut self, plan: &Plan) -> Result<Changes, TargetError> {
        let (gone, mut changes) = self.set_up(plan)?;
        gone.iter().for_each(Running::cancel);
        for gone in gone {
            let is_same = |running: &&Running| running.name() == gone.name();
            if self.running.iter().any(|running| is_same(&running)) {
                changes.changed += 1;
            } else {
                changes.removed += 1;
            }
            gone.ended().await;
        }
        changes.added -= changes.changed;
        if let Some(measure) = &self.armed {
            for running in &mut self.running {
                running.arm(&self.tasks, measure, &self.shared.metrics, false);
            }
        }
        Ok(changes)
    }

    /// Brings a plan into force, less the arming, and gives back what ran before and is not of it.
    fn set_up(&mut self, plan: &Plan) -> Result<(Vec<Running>, Changes), TargetError> {
        let global = plan.global();
        let mut reached = HashMap::new();
        for target in plan.targets() {
            let as_before = self.reached.get(&target.name).filter(|before| {
                before.target == *target
                    && self.global.user_agent == global.user_agent
                    && self.global.identity == global.identity
            });
            let target_reached = match as_before {
                Some(before) => before.clone(),
                None => Reached::new(target, global, &self.shared)?,
            };
            reached.insert(target.name.clone(), target_reached);
        }
        let protection = self
            .protection
            .borrow()
            .next(plan, &self.shared.blocking)
            .map_err(|(target, source)| TargetError { target, source })?;
        let allowances = self.allowed_by(plan, &protection)?;
        // From here on nothing fails.
        let before = self.allowances.send_replace(allowances);
        for before in before {
            let is_kept = |now: &Allowance| now.is(&before);
            if !self.allowances.borrow().iter().any(is_kept) {
                before.cancel();
            }
        }
        self.places.resize(global.max_in_flight, &self.shared.blocking);
        self.global = global.clone();
        self.reached = reached;
        self.shared.metrics.allowed(plan.on_demand());
        self.shared.metrics.guarded_by(protection.clone());
        self.protection.send_replace(protection);
        let mut before = std::mem::take(&mut self.running);
        let mut changes = Changes::default();
        for probe in plan.probes() {
            for target in &probe.targets {
                let Some(reached) = self.reached.get(&target.name) else {
                    continue;
                };
                let goes_on = |running: &Running| {
                    let runner = &running.runner;
                    Arc::ptr_eq(&runner.target, &reached.target) && runner.probe.asks_the_same(probe)
                };
                let running = match before.iter().position(goes_on) {
                    Some(at) => {
                        changes.unchanged += 1;
                        before.swap_remove(at)
                    }
                    None => match self.runner(probe, reached) {
                        Some(runner) => {
                            changes.added += 1;
                            Running::new(runner)
                        }
                        None => continue,
                    },
                };
                self.running.push(running);
            }
        }
        let runners = self.running.iter().map(|running| Arc::downgrade(&running.runner));
        self.runners.send_replace(runners.collect());
        Ok((before, changes))
    }

    /// The entries of the allow list of a plan.
    fn allowed_by(&self, plan: &Plan, protection: &Protection) -> Result<Vec<Allowance>, TargetError> {
        let global = plan.global();
        let is_as_before =
            self.global.user_agent == global.user_agent && self.global.identity == global.identity;
        let known = self.allowances.borrow();
        let entry = |allowed: &Arc<Allowed>| {
            let before = known.iter().find(|before| before.allowed == *allowed);
            self.allowance(allowed, global, before.filter(|_| is_as_before), protection)
                .map_err(|source| TargetError {
                    target: allowed.target.name.clone(),
                    source,
                })
        };
        plan.on_demand().iter().map(entry).collect()
    }

    fn runner(&self, probe: &Arc<Probe>, reached: &Reached) -> Option<Runner> {
        let shared = &self.shared;
        let target = &reached.target;
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
        Some(Runner {
            probe: Arc::clone(probe),
            target: Arc::clone(target),
            access: Arc::clone(&reached.access),
            turn: reached.turn.clone(),
            queue: Arc::clone(&reached.queue),
            places: Arc::clone(self.places.semaphore()),
            steps: probe.steps.iter().map(watch).collect(),
            guarded: Arc::new(self.protection.borrow().of(probe, target)?),
            baselines: shared.baselines.clone(),
            sizing: Arc::new(Sizing::new(probe, target, &shared.calibrations, &reached.tried)),
            asked: Arc::default(),
            lag: shared.lag.clone(),
            blocking: shared.blocking.clone(),
            events: shared.events.clone(),
            replica: shared.replica,
            pause: shared.pause.clone(),
            drain: self.drain.child_token(),
            abort: self.abort.child_token(),
            deadline: None,
        })
    }

    /// Runs every probe once, one after the other as far as they would disturb one another, and waits for
    /// them. Call it on the measuring runtime.
    pub async fn run_once(&self) {
        for running in &self.running {
            self.tasks.spawn(Arc::clone(&running.runner).fire_once());
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

fn setup(global: &Global, shared: &Shared) -> Setup {
    Setup {
        user_agent: global.user_agent.clone(),
        gate: shared.gate.clone(),
        identity: global.identity.clone(),
        recording: shared.recording.clone(),
        blocking: shared.blocking.clone(),
    }
}

/// How a target is reached, and whose turn it is there.
#[derive(Clone, Debug)]
struct Reached {
    target: Arc<Target>,
    access: Arc<Access>,
    /// `None` where bursts of several probes may run at once.
    turn: Option<Arc<Semaphore>>,
    /// The same among rounds that are asked for.
    queue: Arc<Semaphore>,
    /// What was tried to learn how it counts prompts.
    tried: Tried,
}

impl Reached {
    fn new(target: &Arc<Target>, global: &Global, shared: &Shared) -> Result<Self, TargetError> {
        let access = Access::new(target, setup(global, shared)).map_err(|source| TargetError {
            target: target.name.clone(),
            source,
        })?;
        let turn = (!target.share).then(|| Arc::new(Semaphore::new(1)));
        Ok(Self {
            target: Arc::clone(target),
            access: Arc::new(access),
            turn,
            queue: Arc::new(Semaphore::new(1)),
            tried: Tried::default(),
        })
    }
}
