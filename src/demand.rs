//! Bursts on demand: somebody asks for one round of a probe at a target, waits for it, and is told of it alone, as the
//! blackbox exporter does it.
//!
//! It takes its turn and its places as a round of the schedule does, obeys budgets, back-off and the kill switch, and is
//! cancelled when whoever asked has gone. What it used counts in the books of the probe; its latencies and verdicts
//! are in the answer and nowhere else.

mod log;

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc::unbounded_channel, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::log::Log;
use crate::{
    board::{self, count},
    metrics::{Answered, Metrics},
    outcome::Skip,
    report::{Report, SearchReport},
    runner::{Event, Runner, Watched, What},
    supervisor::Supervisor,
    units::Seconds,
};

/// Rounds that are asked for at the same time. Each holds metrics of its own, and those at one target wait for one another.
const MOST: usize = 16;

/// Whoever may ask. Clones ask the same probes.
#[derive(Clone, Debug)]
pub struct Demand {
    runners: watch::Receiver<Vec<Weak<Runner>>>,
    tasks: TaskTracker,
    measure: Handle,
    metrics: Metrics,
    room: Arc<Semaphore>,
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub probe: String,
    pub target: String,
    /// How long it is waited for.
    pub within: Duration,
    /// Whether the log of the burst is wanted.
    pub log: bool,
}

/// Why nothing is even tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("no probe is named `{0}`; there are {1}")]
    Probe(String, String),
    #[error("probe `{0}` does not ask a target `{1}`; it asks {2}")]
    Target(String, String, String),
    #[error("so many bursts are asked for already: ask again later")]
    Busy,
    #[error("the exporter ends")]
    Ending,
}

/// What came of it.
#[derive(Debug)]
pub struct Told {
    pub metrics: Metrics,
    /// Series are exposed as long as somebody holds them.
    _steps: Vec<Arc<Watched>>,
    /// As text; empty where none was wanted.
    pub log: String,
}

impl Demand {
    /// For the probes of `supervisor`, as they come into force. `measure` is the runtime that measures.
    pub fn new(supervisor: &Supervisor, metrics: &Metrics, measure: &Handle) -> Self {
        Self {
            runners: supervisor.runners(),
            tasks: supervisor.tasks().clone(),
            measure: measure.clone(),
            metrics: metrics.clone(),
            room: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// Fires a round now, and waits for it. It is cancelled when this future is dropped.
    pub async fn fire(&self, wish: &Wish) -> Result<Told, Unfit> {
        let runner = self.runner(wish)?;
        let _place = self.room.try_acquire().map_err(|_| Unfit::Busy)?;
        let begun = Instant::now();
        let deadline = begun + wish.within;
        let gone = CancellationToken::new();
        let _cancel = gone.clone().drop_guard();
        let metrics = self.metrics.of_an_answer();
        let own = |standing: &Arc<Watched>| {
            let series = standing.series.clone();
            let metrics = metrics.acquire(&series);
            Arc::new(Watched { series, metrics })
        };
        let steps: Vec<_> = runner.steps.iter().map(own).collect();
        let (events, mut told) = unbounded_channel();
        let beside = runner.beside(steps.clone(), events, deadline);
        self.tasks
            .spawn_on(beside.fire_until(deadline, gone), &self.measure);
        let log = wish.log.then(Log::default);
        let mut verdict = Verdict::of(steps.len());
        // Until nobody tells anything any more.
        while let Some(event) = told.recv().await {
            count(&event);
            if let Some(log) = &log {
                log.keep(|| board::log(&event));
            }
            verdict.hears(&event);
            if let What::Request(judged) = event.what {
                let at = steps.iter().position(|step| Arc::ptr_eq(step, &event.watched));
                if let Some(standing) = at.and_then(|at| runner.steps.get(at)) {
                    runner.tell(standing, What::Spent(judged));
                }
            }
        }
        metrics.answered(Answered {
            succeeded: verdict.is_good(),
            took: Seconds::between(begun, Instant::now()),
            refused: verdict.refused,
        });
        Ok(Told {
            metrics,
            _steps: steps,
            log: log.map(Log::text).unwrap_or_default(),
        })
    }

    /// The running probe of these names, or which there are.
    fn runner(&self, wish: &Wish) -> Result<Arc<Runner>, Unfit> {
        let running: Vec<_> = self.runners.borrow().iter().filter_map(Weak::upgrade).collect();
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

/// Each name once.
fn listed(names: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let names: BTreeSet<_> = names.map(|name| format!("`{name}`")).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Whether a round was a good one, by what is told of it: as `once` has it.
#[derive(Debug)]
struct Verdict {
    /// Steps of which nothing good was told yet.
    missing: usize,
    refused: BTreeSet<Skip>,
}

impl Verdict {
    fn of(steps: usize) -> Self {
        Self {
            missing: steps,
            refused: BTreeSet::new(),
        }
    }

    fn hears(&mut self, Event { watched, what }: &Event) {
        let is_good = match what {
            What::Ended(summary, _) => {
                self.refused.extend(summary.cut_short);
                self.refused.extend(summary.unsent.keys());
                let report = Report::new(&watched.series, (**summary).clone());
                report.is_sound() && report.objective_met()
            }
            What::Searched(capacity, _) => {
                let report = SearchReport::new(&watched.series, Arc::clone(capacity));
                report.is_sound() && report.objective_met()
            }
            What::Skipped(skip, _) => {
                self.refused.insert(*skip);
                false
            }
            _ => false,
        };
        self.missing = self.missing.saturating_sub(is_good.into());
    }

    fn is_good(&self) -> bool {
        self.missing == 0 && self.refused.is_empty()
    }
}
