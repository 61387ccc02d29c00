//! An entry of the allow list that is in force: rounds that somebody asks for at endpoints that are no targets. What
//! protects endpoints is one for all that an entry allows, so that it takes no more memory however many are asked for.

use std::sync::{Arc, atomic::AtomicU64};

use tokio::{
    sync::{Semaphore, mpsc::UnboundedSender},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Shared, Supervisor, setup};
use crate::{
    access::{Access, Setup},
    baseline::Baselines,
    calibration::Calibrations,
    client::ClientError,
    config::plan::{Allowed, Global, Probe, Series, Target},
    lag::Lag,
    metrics::Metrics,
    pause::PauseSwitch,
    protection::Protection,
    rhythm::Replica,
    runner::{Event, Runner, Sizing, Tried, Watched},
};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Allowance {
    pub allowed: Arc<Allowed>,
    setup: Setup,
    protection: Protection,
    /// `None` where bursts of several probes may run at once.
    turn: Option<Arc<Semaphore>>,
    queue: Arc<Semaphore>,
    places: Arc<Semaphore>,
    calibrations: Calibrations,
    tried: Tried,
    asked: Arc<AtomicU64>,
    lag: Lag,
    replica: Replica,
    pause: PauseSwitch,
    drain: CancellationToken,
    abort: CancellationToken,
}

/// A round that is asked for at an endpoint.
#[derive(Debug)]
pub struct Round<'a> {
    /// One of the entry.
    pub probe: &'a Arc<Probe>,
    /// As [`Allowed::at`] has it.
    pub target: Target,
    /// Those of the answer, which alone have its series.
    pub metrics: &'a Metrics,
    pub events: UnboundedSender<Event>,
    /// When it is over.
    pub deadline: Instant,
}

impl Supervisor {
    /// An entry of the plan; as it was `before` where it says the same.
    pub(super) fn allowance(
        &self,
        allowed: &Arc<Allowed>,
        global: &Global,
        before: Option<&Allowance>,
        protection: &Protection,
    ) -> Result<Allowance, ClientError> {
        if let Some(before) = before {
            return Ok(Allowance {
                protection: protection.clone(),
                ..before.clone()
            });
        }
        let Shared {
            calibrations,
            lag,
            replica,
            pause,
            ..
        } = &self.shared;
        let setup = setup(global, &self.shared);
        // Whether there is a way at all is seen now, and not when somebody asks.
        Access::new(&allowed.target, setup.clone())?;
        Ok(Allowance {
            setup,
            protection: protection.clone(),
            turn: (!allowed.target.share).then(|| Arc::new(Semaphore::new(1))),
            queue: Arc::new(Semaphore::new(1)),
            places: Arc::clone(self.places.semaphore()),
            calibrations: calibrations.clone(),
            tried: Tried::default(),
            asked: Arc::default(),
            lag: lag.clone(),
            replica: *replica,
            pause: pause.clone(),
            drain: self.drain.child_token(),
            abort: self.abort.child_token(),
            allowed: Arc::clone(allowed),
        })
    }
}

impl Allowance {
    /// The entry is not in force any more: what is asked for ends.
    pub(super) fn cancel(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Whether it is the same, though its protection may be of a later plan.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// The runtime whose threads may block.
    pub fn blocking(&self) -> &tokio::runtime::Handle {
        &self.setup.blocking
    }

    /// Fires a round that is asked for. `None` where the entry is not in force any more.
    pub fn runner(&self, round: Round<'_>) -> Result<Option<Runner>, ClientError> {
        let Round {
            probe,
            target,
            metrics,
            events,
            deadline,
        } = round;
        // It goes by the entry's name, as do the budgets; what is counted goes by the endpoint's.
        let Some(guarded) = self.protection.beside(probe, &self.allowed.target) else {
            return Ok(None);
        };
        let target = Arc::new(target);
        let watch = |step: &Arc<_>| {
            let series = Series {
                probe: Arc::clone(probe),
                target: Arc::clone(&target),
                step: Arc::clone(step),
            };
            let metrics = metrics.acquire(&series);
            Arc::new(Watched { series, metrics })
        };
        Ok(Some(Runner {
            access: Arc::new(Access::new(&target, self.setup.clone())?),
            turn: self.turn.clone(),
            queue: Arc::clone(&self.queue),
            places: Arc::clone(&self.places),
            steps: probe.steps.iter().map(watch).collect(),
            guarded: Arc::new(guarded),
            // What is usual at one endpoint is not so at another.
            baselines: Baselines::default(),
            sizing: Arc::new(Sizing::new(
                probe,
                &self.allowed.target,
                &self.calibrations,
                &self.tried,
            )),
            asked: Arc::clone(&self.asked),
            lag: self.lag.clone(),
            blocking: self.setup.blocking.clone(),
            events,
            replica: self.replica,
            pause: self.pause.clone(),
            drain: self.drain.child_token(),
            abort: self.abort.child_token(),
            deadline: Some(deadline),
            probe: Arc::clone(probe),
            target,
        }))
    }
}
