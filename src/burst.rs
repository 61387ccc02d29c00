//! One due burst → N concurrent requests → their records, measured and judged.

mod calibrating;
mod closed;
mod open;

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{
        Semaphore,
        mpsc::{UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
    time::Instant,
};

pub use self::calibrating::calibrating_body;
use self::{
    closed::{Loop, Ration},
    open::Unsent,
};
use crate::{
    answer::Examination,
    calibration::Fit,
    config::plan::{Series, Slo},
    identity::RequestId,
    lag::Lag,
    load::{Arrival, Load, Offsets, Volume},
    measure::Measurement,
    prompt::Conversation,
    protection::Brake,
    record::Record,
    request::{Endpoint, Request, Waiting},
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
    /// How many conversations the probe has begun before: what is asked goes on from there.
    pub asked_before: u64,
    /// Ends the burst at once; requests under way become invalid.
    pub brake: Arc<Brake>,
    /// Requests that may be under way, over all probes: those of an open loop wait for theirs here.
    pub places: Arc<Semaphore>,
    /// How many words a made-up prompt takes.
    pub fit: Fit,
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
        let mut planned = series.planned_requests();
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
                    continue;
                }
                let together = start_together && record.number < users;
                let judged = judged(record, slo, lag);
                tally.add(&judged, together);
                each(judged);
            }
            if !is_warmup {
                for (reason, requests) in places.shared.unsent.so_far() {
                    tally.unsent(reason, requests, slo.judges_unsent(reason));
                }
            }
            if brake.reason().is_some() {
                if !is_warmup {
                    planned = places.planned();
                }
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
    /// When the requests of an open loop start.
    offsets: Option<Offsets>,
    /// The users of a closed loop, or what starts the requests of an open one.
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
    brake: Arc<Brake>,
    begun: Instant,
    closed: Loop,
    /// Whether no request of an open loop is left to be sent.
    all_begun: AtomicBool,
    unsent: Unsent,
}

impl Places {
    /// Builds what the first requests say, then lets all places start.
    fn fill(burst: &Burst, warmup: bool, volume: Volume) -> Self {
        let users = burst.series.step.load.users();
        let first = volume.requests().map_or(users, |requests| requests.min(users));
        let ready = |number| {
            let conversation = begun(&burst.series, burst.asked_before, number, &burst.fit);
            Ready::new(number, conversation, &burst.series, &burst.endpoint)
        };
        let all_ready: Vec<Ready> = (0..first).map(ready).collect();
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
            brake: Arc::clone(&burst.brake),
            begun: Instant::now(),
            closed: Loop::new(volume, first),
            all_begun: AtomicBool::new(false),
            unsent: Unsent::default(),
        });
        let mut tasks = JoinSet::new();
        let offsets = burst.offsets();
        if let Some(offsets) = offsets.clone() {
            let places = Arc::clone(&burst.places);
            tasks.spawn(Arc::clone(&shared).keep_starting(offsets, places, deliver.clone()));
        }
        let with_ration = |ready: Ready| {
            let turns = shared.turns_of(&ready.conversation);
            let ration = Ration::of_user(ready.number, first, &shared, turns)?;
            Some((ready, ration))
        };
        // All before the first user can take more.
        let all_ready: Vec<_> = all_ready.into_iter().map(with_ration).collect();
        for next in all_ready {
            tasks.spawn(Arc::clone(&shared).keep_asking(next, deliver.clone()));
        }
        Self {
            offsets,
            tasks,
            shared,
            records,
            deliver: Some(deliver),
            examined: JoinSet::new(),
        }
    }

    /// Whether no measured request is left to be sent.
    fn all_sent(&self) -> bool {
        let all_started = if self.is_open() {
            self.shared.all_begun.load(Ordering::Relaxed)
        } else {
            let started = self.shared.closed.started.load(Ordering::Relaxed);
            (self.shared.volume.requests()).is_some_and(|planned| started >= planned)
        };
        !self.shared.warmup && all_started
    }

    fn is_open(&self) -> bool {
        self.offsets.is_some()
    }

    /// How many requests there would have been. How many users send in a time nobody knows: those that they began.
    fn planned(&self) -> u64 {
        let volume = self.shared.volume;
        match &self.offsets {
            Some(offsets) => offsets.clone().count_in(volume),
            None => (volume.requests())
                .unwrap_or_else(|| self.shared.closed.started.load(Ordering::Relaxed))
                .into(),
        }
    }

    /// The next record, once its answer is examined where it is to be; `None` when there are no more. Requests go
    /// on meanwhile.
    async fn next_examined(&mut self, burst: &Burst) -> Option<Record> {
        let Some(examination) = Examination::of(&burst.series) else {
            return self.next(&burst.brake).await;
        };
        loop {
            // Not in the `select!` below, which borrows it.
            let mut examined = mem::take(&mut self.examined);
            let ready = tokio::select! {
                biased;
                Some(record) = examined.join_next() => Ok(record.ok()),
                record = self.next(&burst.brake) => Err(record),
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
    async fn next(&mut self, brake: &Brake) -> Option<Record> {
        loop {
            tokio::select! {
                biased;
                () = brake.pulled(), if self.deliver.is_some() => {
                    // Requests that are dropped deliver their records, and their connections close at once.
                    self.tasks.abort_all();
                    self.deliver = None;
                }
                record = self.records.recv() => return record,
                ended = self.tasks.join_next(), if self.deliver.is_some() => match ended {
                    // A panic cost one request; its place goes on with the next one.
                    Some(Err(error)) if error.is_panic() && !self.is_open() => {
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
    fn request(&self, ready: &Ready, intended: Instant) -> Request {
        Request {
            number: ready.number,
            id: RequestId::new(fastrand::u128(..)),
            probe: self.series.probe.name.clone(),
            asked: ready.conversation.asked.clone(),
            warmup: self.warmup,
            intended,
            waiting: match self.series.step.load {
                Load::Rate(_) if !self.warmup => Waiting::Lag,
                Load::Rate(_) | Load::Users(_) => Waiting::Order,
            },
            body: ready.body.clone(),
            timeouts: self.series.probe.timeouts,
            keep_text: self.keep_text,
            hand_back: self.turns_of(&ready.conversation) > 1,
            in_flight: Arc::clone(&self.in_flight),
        }
    }
}

/// The conversation that begins after so many others, those of earlier bursts and those of this one.
fn begun(series: &Series, asked_before: u64, in_this: u32, fit: &Fit) -> Conversation {
    let number = asked_before + u64::from(in_this);
    series.probe.prompt.begin(number, fastrand::u64(..), fit)
}

/// A request that is ready to be sent.
struct Ready {
    number: u32,
    conversation: Conversation,
    body: Bytes,
}

impl Ready {
    fn new(number: u32, conversation: Conversation, series: &Series, endpoint: &Endpoint) -> Self {
        let body = endpoint.dialect.body(
            &series.target,
            &conversation.question,
            series.probe.max_tokens,
            &series.probe.generation,
        );
        Self {
            number,
            conversation,
            body,
        }
    }
}
