//! Bursts on demand: somebody asks for one round of a probe at a target, waits for it, and is told of it alone, as the
//! blackbox exporter does it. Where the configuration allows URLs, the target may be one of these.
//!
//! It takes its turn and its places as a round of the schedule does, obeys budgets, back-off and the kill switch, and is
//! cancelled when whoever asked has gone. What it used counts in the books of the probe, or of the entry that allowed the
//! URL; its latencies and verdicts are in the answer and nowhere else.

mod asked;
mod log;
mod unfit;
mod verdict;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::unfit::Unfit;
use self::{
    asked::{Asked, Books},
    log::Log,
    verdict::Verdict,
};
use crate::{
    board::{self, count},
    metrics::{Answered, Metrics},
    runner::{Event, Runner, Watched, What},
    supervisor::{Allowance, Supervisor},
    units::Seconds,
};

/// Rounds that are asked for at the same time. Each holds metrics of its own, and those at one target wait for one another.
const MOST: usize = 16;

/// Whoever may ask. Clones ask the same probes.
#[derive(Clone, Debug)]
pub struct Demand {
    runners: watch::Receiver<Vec<Weak<Runner>>>,
    allowances: watch::Receiver<Vec<Allowance>>,
    tasks: TaskTracker,
    measure: Handle,
    metrics: Metrics,
    room: Arc<Semaphore>,
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub probe: String,
    /// The name of a target, or a URL.
    pub target: String,
    /// How long it is waited for.
    pub within: Duration,
    /// Whether the log of the burst is wanted.
    pub log: bool,
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
            allowances: supervisor.allowances(),
            tasks: supervisor.tasks().clone(),
            measure: measure.clone(),
            metrics: metrics.clone(),
            room: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// Fires a round now, and waits for it. It is cancelled when this future is dropped; what it has used by then is
    /// booked all the same.
    pub async fn fire(&self, wish: &Wish) -> Result<Told, Unfit> {
        let place = Arc::clone(&self.room)
            .try_acquire_owned()
            .map_err(|_| Unfit::Busy)?;
        let begun = Instant::now();
        let deadline = begun + wish.within;
        let metrics = self.metrics.of_an_answer();
        let (events, told) = unbounded_channel();
        let Asked { runner, books } = self.asked(wish, &metrics, events, deadline).await?;
        let gone = CancellationToken::new();
        let _cancel = gone.clone().drop_guard();
        let listener = Listener {
            steps: runner.steps.clone(),
            books,
            metrics,
            log: wish.log.then(Log::default),
            begun,
            _place: place,
        };
        let listening = self.tasks.spawn(listener.listen(told));
        self.tasks
            .spawn_on(runner.fire_until(deadline, gone), &self.measure);
        listening.await.map_err(|_| Unfit::Lost)
    }
}

/// Hears what is told of a round, whether or not somebody still waits for it.
#[derive(Debug)]
struct Listener {
    steps: Vec<Arc<Watched>>,
    books: Books,
    metrics: Metrics,
    log: Option<Log>,
    begun: Instant,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// Until nobody tells anything any more.
    async fn listen(self, mut told: UnboundedReceiver<Event>) -> Told {
        let mut verdict = Verdict::of(self.steps.len());
        while let Some(event) = told.recv().await {
            count(&event);
            if let Some(log) = &self.log {
                log.keep(|| board::log(&event));
            }
            verdict.hears(&event);
            if let What::Request(judged) = event.what {
                self.books.spent(&event.watched, &self.steps, judged);
            }
        }
        self.metrics.answered(Answered {
            succeeded: verdict.is_good(),
            took: Seconds::between(self.begun, Instant::now()),
            refused: verdict.refused,
        });
        Told {
            metrics: self.metrics,
            _steps: self.steps,
            log: self.log.map(Log::text).unwrap_or_default(),
        }
    }
}
