//! The engines behind one server: the one that all know, and replicas that are slower.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::task::JoinSet;

use super::{engine::Engine, fault::Drift, inference::Inference, pace::Pacer, profile::Profile};

/// Replicas at most; a header may ask for any factor.
const MAX_REPLICAS: usize = 16;

/// The engines. Dropping it ends the replicas.
#[derive(Debug)]
pub(super) struct Machines {
    main: Inference,
    profile: Profile,
    seed: u64,
    slower: Mutex<Slower>,
}

#[derive(Debug, Default)]
struct Slower {
    /// By the bits of the factor.
    replicas: HashMap<u64, Inference>,
    tasks: JoinSet<()>,
    drift: Option<Drift>,
}

impl Machines {
    pub(super) fn new(profile: Profile, seed: u64) -> Self {
        Self {
            main: Inference::new(Engine::new(profile, seed)),
            profile,
            seed,
            slower: Mutex::default(),
        }
    }

    /// The one that has a queue, metrics, and gives ids.
    pub(super) const fn main(&self) -> &Inference {
        &self.main
    }

    /// A replica that is `factor` times slower, with a queue of its own; made when it is first asked for.
    pub(super) fn slower(&self, factor: f64) -> io::Result<Inference> {
        let mut slower = self.lock();
        if let Some(replica) = slower.replicas.get(&factor.to_bits()) {
            return Ok(replica.clone());
        }
        if slower.replicas.len() == MAX_REPLICAS {
            return Err(io::Error::other(format!(
                "there are {MAX_REPLICAS} replicas already"
            )));
        }
        let pacer = Pacer::new()?;
        let replica = Inference::new(Engine::new(self.profile.faster(1.0 / factor), self.seed));
        replica.set_drift(slower.drift);
        let running = replica.clone();
        slower.tasks.spawn(async move {
            if let Err(error) = running.run(pacer).await {
                tracing::warn!(%error, "simulator: a replica has stopped");
            }
        });
        slower.replicas.insert(factor.to_bits(), replica.clone());
        Ok(replica)
    }

    /// How all of them get slower from now on.
    pub(super) fn set_drift(&self, drift: Option<Drift>) {
        let mut slower = self.lock();
        slower.drift = drift;
        for engine in slower.replicas.values().chain([&self.main]) {
            engine.set_drift(drift);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slower> {
        self.slower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
