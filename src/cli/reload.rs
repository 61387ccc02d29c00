//! A running exporter follows what its configuration says now.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::anyhow;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use super::{
    CliError, ConfigArgs, LimitArgs, descriptors,
    serve::{Exporter, fits},
    warn_of,
};
use crate::{
    clock::unix_now,
    config::plan::{Exposition, Lists, Plan, Realtime},
    discovery::{self, Discovery, Settled},
    reload::{Answer, Order},
    rhythm::Replica,
    runner::Watched,
    shard::Shard,
    supervisor::{Changes, Shared, Supervisor},
};

/// How long series may take to go: as long as a scrape that is just reading them.
const LEAVING: Duration = Duration::from_secs(1);

/// Where the configuration of an exporter is read from, and what it may ask for.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) config: ConfigArgs,
    pub(super) limit: LimitArgs,
    pub(super) replica: Replica,
    pub(super) shard: Shard,
    /// Where targets are listed elsewhere.
    pub(super) discovery: Discovery,
    /// The labels of every series, which hold until the end of the process.
    pub(super) labels: Vec<String>,
    /// So do these.
    pub(super) exposition: Exposition,
    pub(super) realtime: Realtime,
}

impl Source {
    /// The plan that comes into force, or why not.
    fn read(&self, blocking: &Handle) -> Result<Settled, CliError> {
        let known = self.discovery.known();
        let settled = known.settle(discovery::read_files, |lists| self.plan(lists, blocking))?;
        warn_of(&settled.plan);
        Ok(settled)
    }

    /// The plan with these lists, if this exporter can follow it.
    fn plan(&self, lists: &Lists, blocking: &Handle) -> Result<Plan, CliError> {
        let plan = self.config.load(lists)?.of_shard(self.shard);
        if plan.global().labels != self.labels {
            return Err(CliError::usage(anyhow!(
                "`global.labels` has changed, which the series that are counted cannot follow; restart the exporter"
            )));
        }
        if plan.global().exposition != self.exposition {
            return Err(CliError::usage(anyhow!(
                "`metrics` has changed, which the histograms that are counted cannot follow; restart the exporter"
            )));
        }
        if plan.global().realtime != self.realtime {
            return Err(CliError::usage(anyhow!(
                "`measure` has changed, which the threads that measure cannot follow; restart the exporter"
            )));
        }
        fits(&plan, self.replica)?;
        descriptors::suffice(&plan)?;
        // Sets it up aside: what is wrong with certificates and keys, and how much it would export.
        let (shared, _) = Shared::new(&plan, blocking);
        let metrics = shared.metrics.clone();
        let _aside = Supervisor::new(&plan, shared)?;
        self.limit.check(metrics.samples())?;
        Ok(plan)
    }
}

impl Exporter {
    /// Carries out an order.
    pub(super) async fn reload(&mut self, order: Order, source: &mut Source) {
        match self.follow(source).await {
            Ok(changes) => {
                tracing::info!(
                    by = order.by,
                    unchanged = changes.unchanged,
                    changed = changes.changed,
                    added = changes.added,
                    removed = changes.removed,
                    "configuration reloaded"
                );
                order.answer(Answer::Done(in_words(changes)));
            }
            Err(error) => {
                self.metrics.config_rejected();
                let error = format!("{:#}", error.source);
                tracing::error!(by = order.by, %error, "the configuration is not reloaded: the one before stays in force");
                order.answer(Answer::Rejected(error));
            }
        }
    }

    async fn follow(&mut self, source: &mut Source) -> Result<Changes, CliError> {
        let settled = source.read(&Handle::current())?;
        let plan = &settled.plan;
        let before: Vec<_> = self.supervisor.watched().cloned().collect();
        let changes = self.supervisor.follow(plan).await?;
        self.board.follow(&self.supervisor, plan.redacted());
        source.discovery.follow(&settled);
        self.metrics.config_loaded(unix_now());
        let stay: HashSet<_> = self.supervisor.watched().map(Arc::as_ptr).collect();
        let gone = before
            .iter()
            .filter(|watched| !stay.contains(&Arc::as_ptr(watched)))
            .map(Arc::downgrade)
            .collect();
        drop(before);
        left(gone).await;
        Ok(changes)
    }
}

/// Waits until nobody tells anything of these series any more: then they are exported no longer.
async fn left(gone: Vec<Weak<Watched>>) {
    let all = async {
        while gone.iter().any(|watched| watched.strong_count() > 0) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    if timeout(LEAVING, all).await.is_err() {
        tracing::warn!("series that were removed are still being read");
    }
}

fn in_words(changes: Changes) -> String {
    format!(
        "reloaded: {} added, {} changed, {} removed, {} unchanged (probes at targets)",
        changes.added, changes.changed, changes.removed, changes.unchanged
    )
}
