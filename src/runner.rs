//! One probe at one target: waits until a burst is due, for its turn and its places, fires it, and counts what
//! was due and not fired.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    burst::Burst,
    clock::unix_now,
    config::plan::{Probe, Series, Target},
    lag::Lag,
    load::is_lost,
    metrics::SeriesMetrics,
    outcome::Skip,
    request::Endpoint,
    schedule::{Schedule, phase},
    summary::{Judged, Summary},
    units::{Ratio, Seconds},
};

/// A series and its metrics.
#[derive(Debug)]
pub struct Watched {
    pub series: Series,
    pub metrics: SeriesMetrics,
}

/// Something that happened to a series, for whoever keeps the books.
#[derive(Debug)]
pub struct Event {
    pub watched: Arc<Watched>,
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// From now on bursts are due.
    Armed,
    /// When the next burst is due, in seconds since the Unix epoch.
    NextDue(f64),
    /// A burst begins, so late.
    Begun(Seconds),
    Request(Box<Judged>),
    /// A burst ended; `true`: because it was cancelled.
    Ended(Arc<Summary>, bool),
    /// So many bursts were due and not fired.
    Skipped(Skip, u32),
    /// So many requests of the burst that ended last were never sent.
    RequestsSkipped(Skip, u32),
}

/// One probe at one target.
#[derive(Debug)]
pub struct Runner {
    pub probe: Arc<Probe>,
    pub target: Arc<Target>,
    pub endpoint: Arc<Endpoint>,
    /// Whose turn it is at the target; `None` where bursts of several probes may run at once.
    pub turn: Option<Arc<Semaphore>>,
    /// Requests that may be under way, over all probes.
    pub places: Arc<Semaphore>,
    pub steps: Vec<Arc<Watched>>,
    /// Requests so far.
    pub asked: AtomicU64,
    pub lag: Lag,
    /// The runtime whose threads may look into answers.
    pub blocking: Handle,
    pub events: UnboundedSender<Event>,
    /// No new bursts.
    pub drain: CancellationToken,
    /// No bursts at all.
    pub abort: CancellationToken,
}

impl Runner {
    /// Fires bursts for as long as it is let. With `at_once` the first one is due when the schedule is armed.
    pub async fn keep_firing(self: Arc<Self>, armed: Instant, at_once: bool) {
        let every = self.probe.every;
        let phase = if at_once {
            Duration::ZERO
        } else {
            phase(&self.probe.name, &self.target.name, every)
        };
        let mut schedule = Schedule::new(armed, phase, every, self.probe.jitter);
        let mut next = schedule.advance(fastrand::f64());
        // Why due times passed of which nothing was told when they came.
        let mut missed_by = Skip::Late;
        loop {
            self.announce(next);
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return,
                () = sleep_until(next) => {}
            }
            let mut due = next;
            if let Some((latest, passed)) = schedule.latest(Instant::now()) {
                self.skip_round(missed_by, passed);
                due = latest;
            }
            next = schedule.advance(fastrand::f64());
            let turn = match self.turn(Some(due + every)).await {
                Ok(turn) => turn,
                Err(skip) => {
                    self.skip_round(skip, 1);
                    missed_by = skip;
                    continue;
                }
            };
            self.announce(next);
            let waits = Waits::since(due);
            let mut round = std::pin::pin!(self.round(due, turn, Some(&waits)));
            loop {
                // A burst that is due finds the last one running by the endpoint's doing only if that one
                // would still be running had it not waited for its turn and its places.
                let excused = next + waits.so_far();
                tokio::select! {
                    biased;
                    () = &mut round => break,
                    // Nothing is due any more.
                    () = self.drain.cancelled() => {
                        round.as_mut().await;
                        return;
                    }
                    () = sleep_until(excused) => {
                        let now = Instant::now();
                        let waited = waits.so_far();
                        if now >= next + waited {
                            self.skip_round(Skip::Overlap, 1);
                            let stopped = now.checked_sub(waited).and_then(|now| schedule.latest(now));
                            if let Some((_, passed)) = stopped {
                                self.skip_round(Skip::Late, passed);
                            }
                            next = schedule.advance(fastrand::f64());
                            self.announce(next);
                        }
                    }
                }
            }
            missed_by = if waits.so_far() >= every {
                waits.reason()
            } else {
                Skip::Late
            };
        }
    }

    /// Fires one burst of each step now, however long it waits for its turn and its places.
    pub async fn fire_once(self: Arc<Self>) {
        match self.turn(None).await {
            Ok(turn) => self.round(Instant::now(), turn, None).await,
            Err(skip) => self.skip_round(skip, 1),
        }
    }

    /// Waits for the turn at the target.
    async fn turn(&self, until: Option<Instant>) -> Result<Option<OwnedSemaphorePermit>, Skip> {
        match &self.turn {
            None => Ok(None),
            Some(turn) => self.wait(turn, 1, until, Skip::TargetBusy).await.map(Some),
        }
    }

    /// One burst per step, one after the other. With `waits` a burst waits for its places no longer than an
    /// interval, and that it waited is noted there.
    async fn round(&self, due: Instant, _turn: Option<OwnedSemaphorePermit>, waits: Option<&Waits>) {
        let mut due = due;
        // Whether the rule of the ladder stops it here.
        let mut stopped = false;
        for (number, step) in self.steps.iter().enumerate() {
            if stopped {
                self.tell(step, What::Skipped(Skip::Ladder, 1));
                continue;
            }
            if number > 0 {
                tokio::select! {
                    biased;
                    () = self.drain.cancelled() => {}
                    () = sleep(self.probe.settle) => {}
                }
                due = Instant::now();
            }
            let until = waits.map(|waits| {
                waits.begin();
                due + self.probe.every
            });
            let places = self
                .wait(&self.places, step.series.step.load.users(), until, Skip::InFlight)
                .await;
            if let Some(waits) = waits {
                waits.end();
            }
            match places {
                Ok(_places) => {
                    let goodput = self.burst(step, due).await;
                    let lost = |(goodput, stop)| is_lost(goodput, stop);
                    stopped = goodput.zip(self.probe.ladder_stop).is_some_and(lost);
                }
                Err(skip) => {
                    self.tell(step, What::Skipped(skip, 1));
                    stopped = self.probe.ladder_stop.is_some() && skip != Skip::Drain;
                }
            }
        }
    }

    /// Waits for `permits`, all at once; too long a wait is `skip`.
    async fn wait(
        &self,
        semaphore: &Arc<Semaphore>,
        permits: u32,
        until: Option<Instant>,
        skip: Skip,
    ) -> Result<OwnedSemaphorePermit, Skip> {
        let acquire = Arc::clone(semaphore).acquire_many_owned(permits);
        let acquire = async {
            match until {
                Some(until) => timeout_at(until, acquire).await.map_err(|_| skip),
                None => Ok(acquire.await),
            }
        };
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Skip::Drain),
            // The semaphores are never closed.
            acquired = acquire => acquired?.map_err(|_| Skip::Drain),
        }
    }

    /// Fires one burst; its goodput, where any of its requests was judged.
    async fn burst(&self, step: &Arc<Watched>, due: Instant) -> Option<Ratio> {
        self.tell(step, What::Begun(Seconds::between(due, Instant::now())));
        let burst = Burst {
            series: step.series.clone(),
            endpoint: Arc::clone(&self.endpoint),
            in_flight: step.metrics.in_flight(),
            lag: self.lag.clone(),
            blocking: self.blocking.clone(),
            asked_before: self.asked.load(Ordering::Relaxed),
            places: Arc::clone(&self.places),
            cancel: self.abort.clone(),
        };
        let summary = burst
            .run(|judged| {
                self.asked.fetch_add(1, Ordering::Relaxed);
                self.tell(step, What::Request(Box::new(judged)));
            })
            .await;
        for (&skip, &requests) in &summary.unsent {
            let requests = u32::try_from(requests).unwrap_or(u32::MAX);
            self.tell(step, What::RequestsSkipped(skip, requests));
        }
        let goodput = summary.goodput;
        self.tell(step, What::Ended(Arc::new(summary), self.abort.is_cancelled()));
        goodput
    }

    fn announce(&self, due: Instant) {
        let unix = unix_now() + due.saturating_duration_since(Instant::now()).as_secs_f64();
        for step in &self.steps {
            self.tell(step, What::NextDue(unix));
        }
    }

    fn skip_round(&self, skip: Skip, bursts: u32) {
        for step in &self.steps {
            self.tell(step, What::Skipped(skip, bursts));
        }
    }

    pub fn tell(&self, watched: &Arc<Watched>, what: What) {
        // The books are closed only when the process ends.
        self.events
            .send(Event {
                watched: Arc::clone(watched),
                what,
            })
            .ok();
    }
}

/// How long a round has waited for what is ours to give: its turn and its places.
#[derive(Debug)]
struct Waits(Mutex<Waited>);

#[derive(Clone, Copy, Debug)]
struct Waited {
    turn: Duration,
    places: Duration,
    /// It waits for places now.
    since: Option<Instant>,
}

impl Waits {
    /// A round that was due at `due` has its turn now.
    fn since(due: Instant) -> Self {
        Self(Mutex::new(Waited {
            turn: due.elapsed(),
            places: Duration::ZERO,
            since: None,
        }))
    }

    fn begin(&self) {
        self.lock().since = Some(Instant::now());
    }

    fn end(&self) {
        let mut waited = self.lock();
        let wait = waited
            .since
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        waited.places += wait;
    }

    fn so_far(&self) -> Duration {
        let Waited { turn, places, since } = *self.lock();
        turn + places + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What the next burst missed its time for, if it did.
    fn reason(&self) -> Skip {
        let Waited { turn, places, .. } = *self.lock();
        if places > turn {
            Skip::InFlight
        } else {
            Skip::TargetBusy
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
