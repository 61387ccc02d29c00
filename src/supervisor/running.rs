//! A probe at a target and the task that fires it.

use std::sync::Arc;

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::TaskTracker;

use crate::{
    metrics::Metrics,
    restart::keep_alive,
    runner::{Armed, Runner, What},
    units::Name,
};

/// A runner and, once the schedule is armed, its task.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) runner: Arc<Runner>,
    firing: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn new(runner: Runner) -> Self {
        Self {
            runner: Arc::new(runner),
            firing: None,
        }
    }

    /// Of its probe and its target.
    pub(super) fn name(&self) -> (&Name, &Name) {
        (&self.runner.probe.name, &self.runner.target.name)
    }

    /// Lets bursts be due from now on; nothing where they are already.
    pub(super) fn arm(&mut self, tasks: &TaskTracker, measure: &Handle, metrics: &Metrics, at_once: bool) {
        let runner = &self.runner;
        self.firing.get_or_insert_with(|| {
            tasks.spawn_on(keep_firing(Arc::clone(runner), metrics.clone(), at_once), measure)
        });
    }

    /// Begins to end it: no new burst, and the running one is cancelled.
    pub(super) fn cancel(&self) {
        self.runner.drain.cancel();
        self.runner.abort.cancel();
    }

    /// Waits for its end.
    pub(super) async fn ended(self) {
        if let Some(firing) = self.firing {
            // It ends with an error only where its runtime does.
            firing.await.ok();
        }
    }
}

/// Fires bursts for as long as it is let, also after a panic in one of them.
async fn keep_firing(runner: Arc<Runner>, metrics: Metrics, at_once: bool) {
    let task = format!("probe {} at target {}", runner.probe.name, runner.target.name);
    let mut is_first = true;
    let armed = Armed::default();
    let fire = || {
        let at_once = at_once && is_first;
        if !is_first {
            runner.tell_all(|| What::Restarted);
        }
        is_first = false;
        Arc::clone(&runner).keep_firing(at_once, armed.clone())
    };
    keep_alive(&task, &metrics, &runner.drain, fire).await;
}
