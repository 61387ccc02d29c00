//! Which round a wish is for: of a target's probe, or at a URL that an entry of the allow list allows.

use std::sync::{Arc, Weak};

use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use super::{Demand, Unfit, Wish, unfit::listed};
use crate::{
    client::is_admitted,
    config::plan::AskedUrl,
    metrics::Metrics,
    runner::{Event, Runner, Watched, What},
    summary::Judged,
    supervisor::Round,
    units::Name,
};

/// A round that is to be fired, and where is booked what it uses.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) runner: Runner,
    pub(super) books: Books,
}

/// Where is booked what a round used.
#[derive(Debug)]
pub(super) enum Books {
    /// In the series of the probe at the target.
    Standing(Arc<Runner>),
    /// Under the name of the entry, so that there are no series of endpoints that come and go.
    Entry(Name, Metrics),
}

impl Books {
    /// What a request used that is told of `step`, one of `steps`.
    pub(super) fn spent(&self, step: &Arc<Watched>, steps: &[Arc<Watched>], judged: Box<Judged>) {
        match self {
            Self::Standing(runner) => {
                let at = steps.iter().position(|other| Arc::ptr_eq(other, step));
                if let Some(standing) = at.and_then(|at| runner.steps.get(at)) {
                    runner.tell(standing, What::Spent(judged));
                }
            }
            Self::Entry(name, metrics) => metrics.spent_on_demand(name, &judged, step.series.target.price),
        }
    }
}

impl Demand {
    /// The round that `wish` is for. What it says stands in `metrics` alone.
    pub(super) async fn asked(
        &self,
        wish: &Wish,
        metrics: &Metrics,
        events: UnboundedSender<Event>,
        deadline: Instant,
    ) -> Result<Asked, Unfit> {
        if AskedUrl::is_meant(&wish.target) && !self.is_target(&wish.target) {
            return self.at_url(wish, metrics, events, deadline).await;
        }
        let standing = self.runner(wish)?;
        let own = |step: &Arc<Watched>| {
            let series = step.series.clone();
            let metrics = metrics.acquire(&series);
            Arc::new(Watched { series, metrics })
        };
        let steps = standing.steps.iter().map(own).collect();
        Ok(Asked {
            runner: standing.beside(steps, events, deadline),
            books: Books::Standing(standing),
        })
    }

    async fn at_url(
        &self,
        wish: &Wish,
        metrics: &Metrics,
        events: UnboundedSender<Event>,
        deadline: Instant,
    ) -> Result<Asked, Unfit> {
        let url: AskedUrl = wish.target.parse().map_err(Unfit::Url)?;
        let allowances = self.allowances.borrow().clone();
        // In the order of the file, the first one stands.
        let first = allowances
            .iter()
            .find_map(|allowance| Some((allowance, allowance.allowed.at(&url)?)));
        let (allowance, target) = first.ok_or_else(|| Unfit::NotAllowed(url.to_string()))?;
        let (allowed, entry) = (&allowance.allowed, &allowance.allowed.target.name);
        let probe = allowed
            .probes
            .iter()
            .find(|probe| probe.name.as_str() == wish.probe)
            .ok_or_else(|| {
                let names = allowed.probes.iter().map(|probe| &probe.name);
                Unfit::NotThisProbe(entry.to_string(), wish.probe.clone(), listed(names))
            })?;
        // Asked again where the connection is made; here it is told.
        let looked = timeout_at(deadline, is_admitted(&target, allowance.blocking())).await;
        if looked == Ok(false) {
            return Err(Unfit::NotPublic(url.to_string()));
        }
        let round = Round {
            probe,
            target,
            metrics,
            events,
            deadline,
        };
        Ok(Asked {
            runner: allowance.runner(round)?.ok_or(Unfit::Ending)?,
            books: Books::Entry(entry.clone(), self.metrics.clone()),
        })
    }

    fn running(&self) -> Vec<Arc<Runner>> {
        self.runners.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    fn is_target(&self, name: &str) -> bool {
        let running = self.running();
        running.iter().any(|runner| runner.target.name.as_str() == name)
    }

    /// The running probe of these names, or which there are.
    fn runner(&self, wish: &Wish) -> Result<Arc<Runner>, Unfit> {
        let running = self.running();
        if running.is_empty() {
            return Err(Unfit::Ending);
        }
        let of_probe: Vec<_> = running
            .iter()
            .filter(|runner| runner.probe.name.as_str() == wish.probe)
            .collect();
        if of_probe.is_empty() {
            let names = running.iter().map(|runner| runner.probe.name.as_str());
            return Err(Unfit::Probe(wish.probe.clone(), listed(names)));
        }
        let found = of_probe
            .iter()
            .find(|runner| runner.target.name.as_str() == wish.target);
        found.copied().cloned().ok_or_else(|| {
            let names = of_probe.iter().map(|runner| runner.target.name.as_str());
            Unfit::Target(wish.probe.clone(), wish.target.clone(), listed(names))
        })
    }
}
