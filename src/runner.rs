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
    metrics::SeriesMetrics,
    outcome::Skip,
    pause::{Holds, PauseSwitch},
    request::Endpoint,
    rhythm::Replica,
    schedule::{Due, Now, Schedule, Step, Timing, phase},
    summary::{Judged, Summary},
    units::Seconds,
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
    /// From now on no bursts are fired.
    Disarmed(Skip),
    /// When the next burst is due that will be fired, in seconds since the Unix epoch, as far as that is known; and
    /// the interval in force.
    NextDue(Option<f64>, Duration),
    /// A burst begins, so late.
    Begun(Seconds),
    Request(Box<Judged>),
    /// A burst ended; `true`: because it was cancelled.
    Ended(Arc<Summary>, bool),
    /// So many bursts were due and not fired.
    Skipped(Skip, u32),
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
    pub replica: Replica,
    /// Holds all bursts back.
    pub pause: PauseSwitch,
    /// No new bursts.
    pub drain: CancellationToken,
    /// No bursts at all.
    pub abort: CancellationToken,
}

impl Runner {
    /// Fires bursts for as long as it is let. With `at_once` the first one is due when the schedule is armed.
    pub async fn keep_firing(self: Arc<Self>, at_once: bool) {
        let mut schedule = Schedule::new(self.timing(), now(), at_once, fastrand::f64());
        let mut announced = None;
        let mut paused = self.pause.watch();
        // Why due times passed of which nothing was told when they came.
        let mut missed_by = Skip::Late;
        loop {
            let holds = paused.borrow_and_update().is_any();
            let step = schedule.step(now(), holds, missed_by, fastrand::f64());
            self.announce(&schedule, now(), &mut announced);
            match step {
                Step::Wait(until) => tokio::select! {
                    biased;
                    () = self.drain.cancelled() => return,
                    _ = paused.changed() => {}
                    () = sleep_until(until) => {}
                },
                Step::Fire(due) => {
                    missed_by = self.fire(due, &mut schedule, &mut announced).await;
                    if self.drain.is_cancelled() {
                        return;
                    }
                }
                step => self.told(step),
            }
        }
    }

    fn timing(&self) -> Timing {
        let probe = &self.probe;
        Timing {
            every: probe.every,
            jitter: probe.jitter,
            cron: probe.cron.clone(),
            calendar: probe.calendar.clone(),
            replica: self.replica,
            phase: phase(&probe.name, &self.target.name, probe.every),
        }
    }

    /// Tells what the schedule does beside firing and waiting.
    fn told(&self, step: Step) {
        match step {
            Step::Open => self.tell_all(|| What::Armed),
            Step::Close(skip) => self.tell_all(|| What::Disarmed(skip)),
            Step::Skip(skip, bursts) => self.skip_round(skip, bursts),
            Step::Fire(_) | Step::Wait(_) => {}
        }
    }

    /// Fires a round that is due, unless it waits too long for its turn or somebody holds it back, and lets the
    /// schedule go on meanwhile. Says for what the next ones missed their time, if they did.
    async fn fire(&self, due: Due, schedule: &mut Schedule, announced: &mut Option<Announced>) -> Skip {
        // The file may have come since it was looked for last.
        self.pause.look(&self.blocking).await;
        let cancel = self.abort.child_token();
        let turn = match self.turn(Some(due.at + self.probe.every), &cancel).await {
            Ok(_) if self.pause.is_on() => {
                self.skip_round(Skip::Paused, 1);
                return Skip::Paused;
            }
            Ok(turn) => turn,
            Err(skip) => {
                self.skip_round(skip, 1);
                return skip;
            }
        };
        self.announce(schedule, now(), announced);
        let waits = Waits::since(due.at);
        let mut paused = self.pause.watch();
        let mut round = std::pin::pin!(self.round(due.at, turn, Some(&waits), &cancel));
        loop {
            let holds = paused.borrow_and_update().is_any();
            if holds {
                // Requests that are dropped close their connections at once.
                cancel.cancel();
            }
            // A burst that is due finds the last one running by the endpoint's doing only if that one
            // would still be running had it not waited for its turn and its places.
            let now = now();
            let waited = waits.so_far();
            let until = match schedule.step(now.before(waited), holds, Skip::Late, fastrand::f64()) {
                Step::Wait(until) => until + waited,
                Step::Fire(_) => {
                    // Nothing is due any more in a drain.
                    if !self.drain.is_cancelled() {
                        self.skip_round(Skip::Overlap, 1);
                    }
                    now.instant
                }
                step => {
                    if !self.drain.is_cancelled() {
                        self.told(step);
                    }
                    now.instant
                }
            };
            self.announce(schedule, now.before(waited), announced);
            tokio::select! {
                biased;
                () = &mut round => break,
                () = self.drain.cancelled() => {
                    let mut paused = self.pause.watch();
                    tokio::select! {
                        biased;
                        () = round.as_mut() => return Skip::Drain,
                        // A kill switch kills in a drain, too.
                        _ = paused.wait_for(Holds::is_any) => {}
                    }
                    cancel.cancel();
                    round.await;
                    return Skip::Drain;
                }
                _ = paused.changed() => {}
                () = sleep_until(until) => {}
            }
        }
        if waits.so_far() >= self.probe.every {
            waits.reason()
        } else {
            Skip::Late
        }
    }

    /// Fires one burst of each step now, however long it waits for its turn and its places.
    pub async fn fire_once(self: Arc<Self>) {
        let cancel = self.abort.child_token();
        match self.turn(None, &cancel).await {
            Ok(turn) => self.round(Instant::now(), turn, None, &cancel).await,
            Err(skip) => self.skip_round(skip, 1),
        }
    }

    /// Waits for the turn at the target.
    async fn turn(
        &self,
        until: Option<Instant>,
        cancel: &CancellationToken,
    ) -> Result<Option<OwnedSemaphorePermit>, Skip> {
        match &self.turn {
            None => Ok(None),
            Some(turn) => self
                .wait(turn, 1, until, Skip::TargetBusy, cancel)
                .await
                .map(Some),
        }
    }

    /// One burst per step, one after the other. With `waits` a burst waits for its places no longer than an
    /// interval, and that it waited is noted there. Once `cancel` is cancelled, nothing more is sent.
    async fn round(
        &self,
        due: Instant,
        _turn: Option<OwnedSemaphorePermit>,
        waits: Option<&Waits>,
        cancel: &CancellationToken,
    ) {
        let mut due = due;
        for (number, step) in self.steps.iter().enumerate() {
            if number > 0 {
                tokio::select! {
                    biased;
                    () = self.drain.cancelled() => {}
                    () = cancel.cancelled() => {}
                    () = sleep(self.probe.settle) => {}
                }
                due = Instant::now();
            }
            let until = waits.map(|waits| {
                waits.begin();
                due + self.probe.every
            });
            let places = self
                .wait(
                    &self.places,
                    step.series.step.users,
                    until,
                    Skip::InFlight,
                    cancel,
                )
                .await;
            if let Some(waits) = waits {
                waits.end();
            }
            match places {
                Ok(_places) => self.burst(step, due, cancel).await,
                Err(skip) => self.tell(step, What::Skipped(skip, 1)),
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
        cancel: &CancellationToken,
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
            () = cancel.cancelled() => Err(Skip::Paused),
            // The semaphores are never closed.
            acquired = acquire => acquired?.map_err(|_| Skip::Drain),
        }
    }

    async fn burst(&self, step: &Arc<Watched>, due: Instant, cancel: &CancellationToken) {
        self.tell(step, What::Begun(Seconds::between(due, Instant::now())));
        let burst = Burst {
            series: step.series.clone(),
            endpoint: Arc::clone(&self.endpoint),
            in_flight: step.metrics.in_flight(),
            lag: self.lag.clone(),
            blocking: self.blocking.clone(),
            asked_before: self.asked.load(Ordering::Relaxed),
            cancel: cancel.clone(),
        };
        let summary = burst
            .run(|judged| {
                self.asked.fetch_add(1, Ordering::Relaxed);
                self.tell(step, What::Request(Box::new(judged)));
            })
            .await;
        self.tell(step, What::Ended(Arc::new(summary), cancel.is_cancelled()));
    }

    /// Tells when the next burst is due and which interval is in force, where that has changed.
    fn announce(&self, schedule: &Schedule, now: Now, announced: &mut Option<Announced>) {
        let next = Announced {
            due: schedule.next_due().map(|due| (due * 1e3).round() as i64),
            is_paused: self.pause.is_on(),
        };
        if *announced == Some(next) {
            return;
        }
        *announced = Some(next);
        let due = schedule.next_fired(now, next.is_paused);
        let interval = schedule.interval(now);
        self.tell_all(|| What::NextDue(due, interval));
    }

    fn skip_round(&self, skip: Skip, bursts: u32) {
        self.tell_all(|| What::Skipped(skip, bursts));
    }

    fn tell_all(&self, what: impl Fn() -> What) {
        for step in &self.steps {
            self.tell(step, what());
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

/// The clocks now.
fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix: unix_now(),
    }
}

/// Of what the next due time was told last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Announced {
    /// In milliseconds, so that a clock that drifts tells nothing new.
    due: Option<i64>,
    is_paused: bool,
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
