//! One due burst → N concurrent requests → their records, measured and judged.

mod calibrating;
mod open;

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{
        Semaphore,
        mpsc::{UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::calibrating::calibrating_body;
use self::open::{Unsent, Upcoming};
use crate::{
    answer::Examination,
    calibration::Fit,
    config::plan::{Probe, Series, Slo},
    identity::RequestId,
    lag::Lag,
    load::{Arrival, Volume},
    measure::Measurement,
    outcome::{Outcome, Skip},
    prompt::MadeUp,
    protection::Brake,
    record::Record,
    request::{Endpoint, Request},
    summary::{Judged, Summary, Tally},
};

/// One burst that is to be fired now.
#[derive(Debug)]
pub struct Burst {
    pub series: Series,
    pub endpoint: Arc<Endpoint>,
    /// Counts the requests under way.
    pub in_flight: Arc<AtomicI64>,
    pub lag: Lag,
    /// The runtime whose threads may look into answers.
    pub blocking: Handle,
    /// How many requests the probe has asked before: what is asked goes on from there.
    pub asked_before: u64,
    /// Ends the burst at once; requests under way become invalid.
    pub brake: Arc<Brake>,
    /// Requests that may be under way, over all probes: those of an open loop wait for theirs here.
    pub places: Arc<Semaphore>,
    /// How many words a made-up prompt takes.
    pub fit: Fit,
}

/// What a request asks.
#[derive(Debug)]
struct Asked {
    body: Bytes,
    /// How the prompt in it was made up, where it was.
    made_up: Option<MadeUp>,
}

impl Burst {
    /// Runs the burst to its end: warm-up requests first, then those that are measured. Hands on each
    /// request as it ends.
    pub async fn run(self, mut each: impl FnMut(Judged)) -> Summary {
        let Self {
            series, lag, brake, ..
        } = &self;
        let slo = &series.step.slo;
        let step = &series.step;
        let users = step.load.users();
        let start_together = step.arrival == Arrival::Together;
        let mut tally = Tally::default();
        let (mut planned, mut held_back) = (series.planned_requests(), 0);
        let warmup = series.probe.warmup;
        let phases = [(true, Volume::Requests(warmup)), (false, series.step.volume)];
        for (is_warmup, volume) in phases
            .into_iter()
            .filter(|phase| *phase != (true, Volume::Requests(0)))
        {
            let mut places = Places::fill(&self, is_warmup, volume);
            while let Some(record) = places.next_examined(&self).await {
                brake.ended(record.outcome, record.retry_after, places.all_sent());
                if brake.reason().is_some() && record.was_never_sent() {
                    held_back += u64::from(!is_warmup);
                    continue;
                }
                let together = start_together && record.number < users;
                let judged = judged(record, slo, lag);
                tally.add(&judged, together);
                each(judged);
            }
            if !is_warmup {
                for (reason, requests) in places.unsent().await {
                    // What an abort left unsent is the brake's doing where it was pulled.
                    let reason = brake.reason().filter(|_| reason == Skip::Drain).unwrap_or(reason);
                    tally.unsent(reason, requests, slo.judges_unsent(reason));
                }
                if places.shared.is_open() {
                    planned = tally.requests() + tally.unsent_requests() + held_back;
                }
            }
            if brake.token().is_cancelled() {
                break;
            }
        }
        if let Some(reason) = brake.reason() {
            let never_sent = planned.saturating_sub(tally.requests() + tally.unsent_requests());
            tally.cut_short(reason);
            tally.unsent(reason, never_sent, slo.judges_unsent(reason));
        }
        tally.finish(slo.objective)
    }
}

impl Burst {
    /// Sends one request, which counts like a warm-up request.
    pub async fn try_one(&self) -> Option<Judged> {
        let mut places = Places::fill(self, true, Volume::Requests(1));
        let record = places.next_examined(self).await?;
        Some(judged(record, &self.series.step.slo, &self.lag))
    }
}

/// Measures and judges an ended request.
fn judged(record: Record, slo: &Slo, lag: &Lag) -> Judged {
    let measured = Measurement::of(&record);
    let bounds = lag.bounds(&record.timeline, &measured);
    Judged::new(record, measured, bounds, slo)
}

/// The places of a burst's users. Each sends a request, waits for its end, and sends the next (a closed loop). In an
/// open loop each request has one of its own.
struct Places {
    /// What is still to be sent of an open loop.
    upcoming: Option<Upcoming>,
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
    records: tokio::sync::mpsc::UnboundedReceiver<Record>,
    /// Kept until the end for places that have to be filled again.
    deliver: Option<UnboundedSender<Record>>,
    /// Answers that are being looked into.
    examined: JoinSet<Record>,
}

/// What the places of a burst share.
struct Shared {
    series: Series,
    endpoint: Arc<Endpoint>,
    in_flight: Arc<AtomicI64>,
    asked_before: u64,
    fit: Fit,
    warmup: bool,
    keep_text: bool,
    volume: Volume,
    begun: Instant,
    started: AtomicU32,
    unsent: Unsent,
}

impl Places {
    /// Builds what the first requests say, then lets all places start.
    fn fill(burst: &Burst, warmup: bool, volume: Volume) -> Self {
        let users = burst.series.step.load.users();
        let first = volume.requests().map_or(users, |requests| requests.min(users));
        let (deliver, records) = unbounded_channel();
        let shared = Arc::new(Shared {
            series: burst.series.clone(),
            endpoint: Arc::clone(&burst.endpoint),
            in_flight: Arc::clone(&burst.in_flight),
            asked_before: burst.asked_before,
            fit: burst.fit,
            warmup,
            keep_text: Examination::of(&burst.series).is_some(),
            volume,
            begun: Instant::now(),
            started: AtomicU32::new(first),
            unsent: Unsent::default(),
        });
        let prepared: Vec<Asked> = (0..first).map(|number| shared.ask(number)).collect();
        let upcoming = Upcoming::of(burst, &shared);
        let mut tasks = JoinSet::new();
        for first in (0..first).zip(prepared) {
            tasks.spawn(Arc::clone(&shared).keep_asking(Some(first), deliver.clone()));
        }
        Self {
            upcoming,
            tasks,
            shared,
            records,
            deliver: Some(deliver),
            examined: JoinSet::new(),
        }
    }

    /// Whether no measured request is left to be sent.
    fn all_sent(&self) -> bool {
        let all_started = if self.shared.is_open() {
            self.upcoming.is_none()
        } else {
            let started = self.shared.started.load(Ordering::Relaxed);
            (self.shared.volume.requests()).is_some_and(|planned| started >= planned)
        };
        !self.shared.warmup && all_started
    }

    /// The next record, once its answer is examined where it is to be; `None` when there are no more. Requests go
    /// on meanwhile.
    async fn next_examined(&mut self, burst: &Burst) -> Option<Record> {
        let Some(examination) = Examination::of(&burst.series) else {
            return self.next(burst.brake.token()).await;
        };
        loop {
            // Not in the `select!` below, which borrows it.
            let mut examined = mem::take(&mut self.examined);
            let ready = tokio::select! {
                biased;
                Some(record) = examined.join_next() => Ok(record.ok()),
                record = self.next(burst.brake.token()) => Err(record),
            };
            self.examined = examined;
            match ready {
                Ok(Some(record)) => return Some(record),
                Ok(None) => {}
                Err(Some(record)) => {
                    let (examination, blocking) = (examination.clone(), burst.blocking.clone());
                    let endpoint = Arc::clone(&burst.endpoint);
                    let redact = move |text| endpoint.client.redact(text);
                    self.examined
                        .spawn(async move { examination.on(&blocking, record, redact).await });
                }
                Err(None) => return self.examined.join_next().await?.ok(),
            }
        }
    }

    /// The next record, in the order in which requests end; `None` when all have.
    async fn next(&mut self, cancel: &CancellationToken) -> Option<Record> {
        loop {
            tokio::select! {
                biased;
                () = Upcoming::due(self.upcoming.as_ref()), if self.deliver.is_some() => self.start_due(),
                record = self.records.recv() => return record,
                () = cancel.cancelled(), if self.deliver.is_some() => {
                    // Requests that are dropped deliver their records, and their connections close at once.
                    self.tasks.abort_all();
                    self.deliver = None;
                    if let Some(upcoming) = self.upcoming.take() {
                        self.shared.unsent.add(Skip::Drain, upcoming.left(self.shared.volume));
                    }
                }
                ended = self.tasks.join_next(), if self.deliver.is_some() && !self.waits_for_the_next() => match ended {
                    // A panic cost one request; its place goes on with the next one.
                    Some(Err(error)) if error.is_panic() && !self.shared.is_open() => {
                        if let Some(deliver) = self.deliver.clone() {
                            self.tasks.spawn(Arc::clone(&self.shared).keep_asking(None, deliver));
                        }
                    }
                    Some(_) => {}
                    None => self.deliver = None,
                },
            }
        }
    }
}

impl Shared {
    /// One user: the request that is prepared, then one after the other for as long as the volume allows.
    async fn keep_asking(
        self: Arc<Self>,
        mut prepared: Option<(u32, Asked)>,
        deliver: UnboundedSender<Record>,
    ) {
        // The first request is intended to start with the burst, each other one when the last one ended.
        let mut intended = match &prepared {
            Some((number, _)) if !self.warmup => {
                let step = &self.series.step;
                self.begun + step.arrival.start(*number, step.load.users())
            }
            Some(_) => self.begun,
            None => Instant::now(),
        };
        // A timer that is due already may still take a millisecond.
        if intended > Instant::now() {
            sleep_until(intended).await;
        }
        let mut failures: u32 = 0;
        loop {
            let Some((number, asked)) = prepared.take().or_else(|| self.prepare()) else {
                return;
            };
            let request = self.request(number, intended, asked);
            match request.run(&self.endpoint, deliver.clone()).await {
                Outcome::Ok => failures = 0,
                Outcome::Failed(_) | Outcome::Invalid(_) => failures += 1,
            }
            sleep(self.volume.pause(failures)).await;
            intended = Instant::now();
        }
    }

    fn request(&self, number: u32, intended: Instant, asked: Asked) -> Request {
        Request {
            number,
            id: RequestId::new(fastrand::u128(..)),
            probe: self.series.probe.name.clone(),
            warmup: self.warmup,
            intended,
            body: asked.body,
            made_up: asked.made_up,
            timeouts: self.series.probe.timeouts,
            keep_text: self.keep_text,
            in_flight: Arc::clone(&self.in_flight),
        }
    }

    fn prepare(&self) -> Option<(u32, Asked)> {
        let elapsed: Duration = self.begun.elapsed();
        let next = |started| self.volume.allows(started, elapsed).then_some(started + 1);
        let number = self
            .started
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .ok()?;
        Some((number, self.ask(number)))
    }

    fn ask(&self, number: u32) -> Asked {
        let (series, seed) = (&self.series, fastrand::u64(..));
        let prompt = &series.probe.prompt;
        let number = self.asked_before + u64::from(number);
        let question = prompt.question(number, seed, &self.fit);
        let Probe {
            max_tokens,
            generation,
            ..
        } = &*series.probe;
        let dialect = self.endpoint.dialect;
        Asked {
            body: dialect.body(&series.target, &question, *max_tokens, generation),
            made_up: prompt.made_up(seed, &self.fit),
        }
    }
}
