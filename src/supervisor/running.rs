//! A probe at a target and the task that fires it.

use std::sync::Arc;

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::TaskTracker;

use crate::{runner::Runner, units::Name};

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
    pub(super) fn arm(&mut self, tasks: &TaskTracker, measure: &Handle, at_once: bool) {
        let runner = &self.runner;
        self.firing
            .get_or_insert_with(|| tasks.spawn_on(Arc::clone(runner).keep_firing(at_once), measure));
    }

    /// Begins to end it: no new burst, and the running one is cancelled.
    pub(super) fn cancel(&self) {
        self.runner.drain.cancel();
        self.runner.abort.cancel();
    }

    /// Waits for its end.
    pub(super) async fn ended(self) {
        if let Some(firing) = self.firing
            && let Err(error) = firing.await
        {
            tracing::error!(probe = %self.runner.probe.name, target = %self.runner.target.name, %error, "the probe's task died");
        }
    }
}
