//! One probe at one target: waits until a burst is due, for its turn and its places, fires it, and counts what
//! was due and not fired.

mod demand;
mod firing;
mod renewing;
mod searching;
mod sizing;
mod trial;
mod waits;

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub use self::sizing::{Sizing, Tried};
use self::waits::Waits;
use crate::{
    access::Access,
    baseline::Baselines,
    burst::Burst,
    calibration::Fit,
    capacity::Capacity,
    clock::unix_now,
    config::plan::{Probe, Series, Target},
    diagnose::{Lowest, diagnose},
    lag::Lag,
    load::{Load, is_lost},
    metrics::SeriesMetrics,
    outcome::Skip,
    pause::PauseSwitch,
    prompt::Cache,
    protection::{Brake, Guarded, Spending},
    rhythm::Replica,
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
    /// A search for the capacity, which has begun as one burst, fires one of this load.
    Tries(Load),
    /// It is over; `true`: because it was cancelled.
    Searched(Arc<Capacity>, bool),
    /// So many bursts were due and not fired.
    Skipped(Skip, u32),
    /// So many requests of a burst were never sent.
    RequestsSkipped(Skip, u32),
    /// A request ended of a burst that somebody asked for: what it used counts, and nothing else of it.
    Spent(Box<Judged>),
    /// By how much budgets stretch the interval, at least 1.
    Stretched(f64),
    /// The task that fires the bursts died, and begins anew.
    Restarted,
}

/// One probe at one target.
#[derive(Debug)]
pub struct Runner {
    pub probe: Arc<Probe>,
    pub target: Arc<Target>,
    pub access: Arc<Access>,
    /// Whose turn it is at the target; `None` where bursts of several probes may run at once.
    pub turn: Option<Arc<Semaphore>>,
    /// Requests that may be under way, over all probes.
    pub places: Arc<Semaphore>,
    pub steps: Vec<Arc<Watched>>,
    pub guarded: Arc<Guarded>,
    /// What is usual for each series.
    pub baselines: Baselines,
    pub sizing: Arc<Sizing>,
    /// Conversations so far: a request each, unless it is a later turn of one.
    pub asked: Arc<AtomicU64>,
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
    /// Until when its only round is over, which somebody waits for; `None`: it follows its schedule.
    pub deadline: Option<Instant>,
}

impl Runner {
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
        waits.inspect(|waits| waits.begin());
        let renewed = self.renew(cancel).await;
        waits.inspect(|waits| waits.end());
        if let Err(skip) = renewed {
            return self.skip_round(skip, 1);
        }
        match self.guarded.admit(&self.blocking).await {
            Ok(Some(trial)) => {
                if let Err(skip) = self.trial(trial, due, waits, cancel).await {
                    return self.skip_round(skip, 1);
                }
            }
            Ok(None) => {}
            Err(skip) => return self.skip_round(skip, 1),
        }
        // Bursts that are due meanwhile are late by our own doing.
        waits.inspect(|waits| waits.begin());
        self.calibrate(cancel).await;
        waits.inspect(|waits| waits.end());
        if let Some(skip) = self.forbids(waits) {
            return self.skip_round(skip, 1);
        }
        let spending = match self.deadline {
            None => self.guarded.round(),
            // Nobody counts on it: it thins out no round that is due.
            Some(_) => self.guarded.apart(self.probe.requests_of_a_round()),
        };
        self.tell_all(|| What::Stretched(self.guarded.stretch()));
        let Some(mut spending) = spending else {
            return self.skip_round(Skip::Budget, 1);
        };
        if let (Some(bounds), Some(step)) = (self.probe.capacity, self.steps.first()) {
            return self.search(step, bounds, due, &mut spending, waits, cancel).await;
        }
        let mut lowest = None;
        // Why the steps that are left are not run.
        let mut stopped = None;
        for (number, step) in self.steps.iter().enumerate() {
            if number > 0 && stopped.is_none() {
                due = self.settle(cancel).await;
                let is_busy = self.guarded.is_busy(&self.blocking).await;
                stopped = is_busy.then_some(Skip::ServerBusy);
            }
            if let Some(skip) = stopped {
                self.tell(step, What::Skipped(skip, 1));
                continue;
            }
            match self
                .places(step.series.step.load.users(), due, waits, cancel)
                .await
            {
                Ok(_places) => {
                    if let Some(skip) = self.forbids(waits) {
                        self.tell(step, What::Skipped(skip, 1));
                        continue;
                    }
                    self.tell(step, What::Begun(Seconds::between(due, Instant::now())));
                    let brake = Brake::new(self.probe.protect);
                    let burst = self.burst(step, &step.series, &brake, &mut spending, cancel, |_| ());
                    let mut summary = burst.await;
                    self.diagnose(step, &mut summary, &mut lowest, cancel);
                    let lost = |(goodput, stop)| is_lost(goodput, stop);
                    let is_lost = summary.goodput.zip(self.probe.ladder_stop).is_some_and(lost);
                    // Where this load did harm, a higher one would.
                    stopped = summary.cut_short.or(is_lost.then_some(Skip::Ladder));
                    self.tell(step, What::Ended(Arc::new(summary), cancel.is_cancelled()));
                }
                Err(skip) => {
                    self.tell(step, What::Skipped(skip, 1));
                    let stops = self.probe.ladder_stop.is_some() && skip == Skip::InFlight;
                    stopped = stops.then_some(Skip::Ladder);
                }
            }
        }
    }

    /// Why a burst of a round that was let begin may not begin any more, after it has waited. Whoever asks by hand, and so
    /// does not note its waits, may at any time of day.
    fn forbids(&self, waits: Option<&Waits>) -> Option<Skip> {
        if waits.is_some() && !self.probe.calendar.is_open(unix_now()) {
            Some(Skip::Window)
        } else if self.guarded.is_left_alone() {
            Some(Skip::Backoff)
        } else {
            None
        }
    }

    /// The pause between two loads; when it is over.
    async fn settle(&self, cancel: &CancellationToken) -> Instant {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => {}
            () = cancel.cancelled() => {}
            () = sleep(self.probe.settle) => {}
        }
        Instant::now()
    }

    /// Waits for so many places, all together.
    async fn places(
        &self,
        users: u32,
        due: Instant,
        waits: Option<&Waits>,
        cancel: &CancellationToken,
    ) -> Result<OwnedSemaphorePermit, Skip> {
        let until = waits.map_or(self.deadline, |waits| {
            waits.begin();
            Some(due + self.probe.every)
        });
        let places = self.wait(&self.places, users, until, Skip::InFlight, cancel);
        let places = places.await;
        if let Some(waits) = waits {
            waits.end();
        }
        places
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
            () = cancel.cancelled() => Err(self.reason_to_cancel()),
            // The semaphores are never closed.
            acquired = acquire => acquired?.map_err(|_| Skip::Drain),
        }
    }

    /// What is asked next goes on after the conversations that were begun.
    fn count(&self, judged: &Judged) {
        // Warm-up asks what is asked again after it.
        let is_first = judged.record.asked.is_first_turn() && !judged.record.warmup;
        self.asked.fetch_add(is_first.into(), Ordering::Relaxed);
    }

    fn prepared(&self, step: &Watched, series: &Series, brake: Arc<Brake>) -> Burst {
        Burst {
            series: series.clone(),
            endpoint: self.access.endpoint(),
            in_flight: step.metrics.in_flight(),
            lag: self.lag.clone(),
            blocking: self.blocking.clone(),
            asked_before: self.asked.load(Ordering::Relaxed),
            brake,
            places: Arc::clone(&self.places),
            fit: self.sizing.fit().unwrap_or(Fit::ASSUMED),
        }
    }

    /// Fires a burst of `series` and tells of it as of `step`; shows each of its requests to `each`.
    async fn burst(
        &self,
        step: &Arc<Watched>,
        series: &Series,
        brake: &Arc<Brake>,
        spending: &mut Spending<'_>,
        cancel: &CancellationToken,
        mut each: impl FnMut(&Judged),
    ) -> Summary {
        let tokens_per_word = self.sizing.fit().map(|fit| fit.tokens_per_word());
        let burst = self.prepared(step, series, Arc::clone(brake)).run(|judged| {
            if !spending.charge(&judged) {
                brake.pull(Skip::Budget);
            }
            self.guarded.request_ended(&judged);
            self.count(&judged);
            self.learns_of(judged.record.outcome);
            each(&judged);
            self.tell(step, What::Request(Box::new(judged)));
        });
        let mut summary = tokio::select! {
            biased;
            never = self.pull(brake, cancel) => match never {},
            summary = burst => summary,
            never = self.guarded.watch(&self.blocking, brake) => match never {},
        };
        self.guarded.burst_ended(brake);
        summary.tokens_per_word = tokens_per_word;
        // What comes from a cache may not be counted.
        if self.probe.prompt.cache == Cache::Bust {
            self.sizing.learn(&summary.counts);
        }
        for (&skip, &requests) in &summary.unsent {
            let requests = u32::try_from(requests).unwrap_or(u32::MAX);
            self.tell(step, What::RequestsSkipped(skip, requests));
        }
        summary
    }

    /// Pulls the brake once `cancel` is cancelled, by the kill switch or because nothing is to run any more; never
    /// returns.
    async fn pull(&self, brake: &Brake, cancel: &CancellationToken) -> Infallible {
        cancel.cancelled().await;
        brake.pull(self.reason_to_cancel());
        pending().await
    }

    /// Why what was cancelled was: all bursts end, nobody waits for this one any more, or the kill switch is on.
    fn reason_to_cancel(&self) -> Skip {
        if self.abort.is_cancelled() {
            Skip::Drain
        } else if self.deadline.is_some() && !self.pause.is_on() {
            Skip::Deadline
        } else {
            Skip::Paused
        }
    }

    /// Says why a burst was slow, and learns from it if it was a good one. `lowest` becomes what the lowest step showed.
    fn diagnose(
        &self,
        step: &Arc<Watched>,
        summary: &mut Summary,
        lowest: &mut Option<Lowest>,
        cancel: &CancellationToken,
    ) {
        let load = step.series.step.load;
        let is_lowest = self.steps.first().is_some_and(|first| Arc::ptr_eq(first, step));
        let name = step.series.lasting_name();
        let baseline = self.baselines.of(&name);
        let observed = &summary.observed;
        summary.diagnosis = Some(diagnose(load, observed, lowest.as_ref(), is_lowest, &baseline));
        if is_lowest && observed.is_reference() {
            *lowest = Some(Lowest {
                load,
                observed: observed.clone(),
            });
        }
        let is_whole = summary.invalid.is_empty() && summary.unsent.is_empty() && !cancel.is_cancelled();
        if let Some(lesson) = observed.lesson().filter(|_| is_whole) {
            self.baselines.learn(&name, lesson, unix_now());
        }
    }

    fn skip_round(&self, skip: Skip, bursts: u32) {
        self.tell_all(|| What::Skipped(skip, bursts));
    }

    pub fn tell_all(&self, what: impl Fn() -> What) {
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
