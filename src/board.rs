//! The books of a running exporter: each event becomes metrics, a line of the log, and a row of the page.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc::UnboundedReceiver},
    time::Instant,
};

use crate::{
    capacity::Capacity,
    clock::unix_now,
    config::plan::SeriesKey,
    history::History,
    outcome::Skip,
    prompt::Cache,
    record::ConnectionState,
    runner::{Event, Watched, What},
    summary::{Judged, Summary},
    supervisor::Supervisor,
    units::{Ratio, Seconds},
};

/// What the page shows. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    rows: Vec<Row>,
    at: HashMap<SeriesKey, usize>,
    config: Arc<str>,
    changes: u64,
}

/// One series, now.
#[derive(Clone, Debug)]
pub struct Row {
    pub watched: Arc<Watched>,
    pub state: State,
    /// Why no bursts are fired now.
    pub held_by: Option<Skip>,
    /// Seconds since the Unix epoch.
    pub next_due: Option<f64>,
    pub last: Option<LastBurst>,
    /// Of a probe that searches for the capacity: what its last burst found.
    pub searched: Option<LastSearch>,
    pub bursts: u64,
    /// Bursts that were due and not fired.
    pub skipped: BTreeMap<Skip, u64>,
    /// Why the burst that was due last was not fired; `None`: it was.
    pub held_back: Option<Skip>,
    /// By how much budgets stretch the interval, at least 1.
    pub stretch: f64,
    pub history: Arc<History>,
}

/// What a series is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The schedule is not armed yet.
    Unarmed,
    Waiting,
    /// This many requests of the running burst have ended.
    Running(u64),
}

/// The burst that ended last.
#[derive(Clone, Debug)]
pub struct LastBurst {
    /// Seconds since the Unix epoch.
    pub ended: f64,
    pub summary: Arc<Summary>,
}

/// The search that ended last.
#[derive(Clone, Debug)]
pub struct LastSearch {
    /// Seconds since the Unix epoch.
    pub ended: f64,
    pub capacity: Arc<Capacity>,
}

impl Board {
    /// Has a row for every series of `supervisor` from now on; what a row says of a series that was there stays.
    /// `config` is what is in force, without secrets.
    pub fn follow(&self, supervisor: &Supervisor, config: &str) {
        let mut board = self.lock();
        let before = std::mem::take(&mut *board);
        board.config = config.into();
        board.changes = before.changes + 1;
        for watched in supervisor.watched() {
            let key = watched.series.key();
            let known = before.at.get(&key).and_then(|&at| before.rows.get(at));
            let row = known.map_or_else(
                || Row::new(Arc::clone(watched)),
                |row| Row {
                    watched: Arc::clone(watched),
                    ..row.clone()
                },
            );
            let at = board.rows.len();
            board.at.insert(key, at);
            board.rows.push(row);
        }
    }

    /// The rows, in the order of the plan.
    pub fn rows(&self) -> Vec<Row> {
        self.lock().rows.clone()
    }

    /// One of the rows.
    pub fn row(&self, is_meant: impl FnMut(&&Row) -> bool) -> Option<Row> {
        self.lock().rows.iter().find(is_meant).cloned()
    }

    /// The configuration that is in force, without secrets.
    pub fn config(&self) -> Arc<str> {
        Arc::clone(&self.lock().config)
    }

    /// How often something has changed.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Keeps the books until nobody sends events any more. Where an event makes it die, it can be called again and goes on
    /// with the next one.
    pub async fn keep(self, events: Arc<AsyncMutex<UnboundedReceiver<Event>>>) {
        let mut events = events.lock().await;
        while let Some(event) = events.recv().await {
            self.record(&event);
        }
    }

    fn record(&self, event: &Event) {
        count(event);
        let Event { watched, what } = event;
        let mut rows = self.lock();
        let Books {
            rows, at, changes, ..
        } = &mut *rows;
        *changes += 1;
        if let Some(row) = at.get(&watched.series.key()).and_then(|&at| rows.get_mut(at)) {
            row.update(what);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what happened in the metrics of its series, and logs it.
pub fn count(event: &Event) {
    let Event { watched, what } = event;
    let metrics = &watched.metrics;
    match what {
        What::Armed => metrics.armed(unix_now()),
        What::Disarmed(_) => metrics.disarmed(),
        What::NextDue(at, interval) => metrics.next_due(*at, *interval),
        What::Begun(lag) => metrics.burst_begun(unix_now(), *lag),
        What::Request(judged) => metrics.request(judged, unix_now()),
        What::Ended(summary, _) => metrics.burst_ended(summary, Instant::now()),
        What::Searched(capacity, _) => metrics.searched(capacity, Instant::now()),
        What::Skipped(skip, bursts) => metrics.skipped(*skip, *bursts),
        What::RequestsSkipped(skip, requests) => metrics.requests_skipped(*skip, *requests),
        What::Spent(judged) => metrics.spent(judged),
        What::Stretched(stretch) => metrics.stretched(*stretch),
        What::Tries(_) | What::Restarted => {}
    }
    // Of bursts outside of windows and of paused ones the closing was told.
    if !matches!(what, What::Skipped(Skip::Window | Skip::Paused, _)) {
        log(event);
    }
}

/// Logs what happened.
pub fn log(Event { watched, what }: &Event) {
    match what {
        What::Disarmed(skip) => log_closing(watched, *skip),
        What::Request(judged) => log_request(watched, judged),
        What::Ended(summary, cancelled) => log_burst(watched, summary, *cancelled),
        What::Searched(capacity, cancelled) => log_search(watched, capacity, *cancelled),
        What::Skipped(skip, bursts) => log_skip(watched, *skip, *bursts),
        What::Armed
        | What::NextDue(..)
        | What::Begun(_)
        | What::Tries(_)
        | What::RequestsSkipped(..)
        | What::Spent(_)
        | What::Stretched(_)
        | What::Restarted => {}
    }
}

impl Row {
    fn new(watched: Arc<Watched>) -> Self {
        Self {
            watched,
            state: State::Unarmed,
            held_by: None,
            next_due: None,
            last: None,
            searched: None,
            bursts: 0,
            skipped: BTreeMap::new(),
            held_back: None,
            stretch: 1.0,
            history: Arc::default(),
        }
    }

    /// The schedule is armed, whether bursts are fired or not.
    fn arm(&mut self) {
        if self.state == State::Unarmed {
            self.state = State::Waiting;
        }
    }

    fn update(&mut self, what: &What) {
        self.remember(what);
        match what {
            What::Armed => {
                self.held_by = None;
                self.arm();
            }
            What::Disarmed(skip) => {
                self.held_by = Some(*skip);
                self.arm();
            }
            What::NextDue(at, _) => self.next_due = *at,
            What::Begun(_) => {
                self.state = State::Running(0);
                self.held_back = None;
            }
            What::Request(judged) if !judged.record.warmup => {
                if let State::Running(ended) = &mut self.state {
                    *ended += 1;
                }
            }
            What::Request(_) | What::RequestsSkipped(..) | What::Spent(_) | What::Tries(_) => {}
            What::Searched(capacity, _) => {
                self.state = State::Waiting;
                self.bursts += 1;
                self.searched = Some(LastSearch {
                    ended: unix_now(),
                    capacity: Arc::clone(capacity),
                });
            }
            What::Ended(summary, _) => {
                self.state = State::Waiting;
                self.bursts += 1;
                self.last = Some(LastBurst {
                    ended: unix_now(),
                    summary: Arc::clone(summary),
                });
            }
            What::Skipped(skip, bursts) => {
                *self.skipped.entry(*skip).or_default() += u64::from(*bursts);
                self.held_back = Some(*skip);
            }
            What::Stretched(stretch) => self.stretch = *stretch,
            What::Restarted => self.state = State::Waiting,
        }
    }

    fn remember(&mut self, what: &What) {
        // Copied only while somebody reads it.
        let history = &mut self.history;
        match what {
            What::Begun(_) => Arc::make_mut(history).begun(unix_now()),
            What::Request(judged) => Arc::make_mut(history).request(judged),
            What::Ended(summary, _) => Arc::make_mut(history).ended(unix_now(), summary),
            What::Searched(capacity, _) => Arc::make_mut(history).searched(unix_now(), capacity),
            _ => {}
        }
    }
}

fn log_burst(watched: &Watched, summary: &Summary, cancelled: bool) {
    let key = watched.series.key();
    let failed: u64 = summary.failures.values().sum();
    let failures: Vec<_> = summary
        .failures
        .iter()
        .map(|(reason, count)| format!("{reason}:{count}"))
        .collect();
    tracing::info!(
        probe = %key.probe,
        target = %key.target,
        load = %key.load,
        requests = summary.requests,
        ok = summary.successes,
        failed,
        failures = failures.join(","),
        invalid = summary.invalid.values().sum::<u64>(),
        unsent = summary.unsent.values().sum::<u64>(),
        goodput = summary.goodput.map(Ratio::get),
        ttft_p50_seconds = summary.ttft.map(|ttft| ttft.p50.get()),
        ttft_p99_seconds = summary.ttft.map(|ttft| ttft.p99.get()),
        itl_p50_seconds = summary.itl.map(|itl| itl.p50.get()),
        duration_seconds = summary.duration.map(Seconds::get),
        slowest_request = summary.slowest_request.map(tracing::field::display),
        slowest_prompt = summary.slowest_prompt.as_ref().map(tracing::field::display),
        cancelled,
        cut_short = summary.cut_short.map(Skip::as_str),
        withheld = summary.withheld,
        diagnosis = summary.diagnosis.as_ref().map(|diagnosis| &*diagnosis.sentence),
        "burst"
    );
    // That later turns of a conversation are known is meant.
    let hits = summary.first_turns_from_cache;
    if watched.series.probe.prompt.cache == Cache::Bust && hits > 0 {
        tracing::warn!(
            probe = %key.probe,
            target = %key.target,
            load = %key.load,
            hits,
            "the server had prompts in its cache that are meant to be new to it: times to first token are too good"
        );
    }
}

fn log_search(watched: &Watched, capacity: &Capacity, cancelled: bool) {
    let key = watched.series.key();
    tracing::info!(
        probe = %key.probe,
        target = %key.target,
        requests = capacity.requests,
        meets = capacity.meets.map(tracing::field::display),
        misses = capacity.misses.map(tracing::field::display),
        ended = capacity.ended.as_str(),
        confidence = capacity.confidence.map(Ratio::get),
        cancelled,
        capacity = capacity.sentence,
        "capacity"
    );
}

/// Every request, at level debug.
pub fn log_request(watched: &Watched, judged: &Judged) {
    let record = &judged.record;
    let key = watched.series.key();
    tracing::debug!(
        probe = %key.probe,
        target = %key.target,
        load = %key.load,
        request = record.number,
        request_id = record.id.map(tracing::field::display),
        prompt = record.asked.name.as_ref().map(tracing::field::display),
        turn = record.asked.turn,
        warmup = record.warmup,
        outcome = record.outcome.as_str(),
        status = record.status,
        peer = record.peer.map(tracing::field::display),
        connection = record.connection.map(ConnectionState::as_str),
        elapsed_seconds = record.elapsed().map(Seconds::get),
        retry_after_seconds = record.retry_after.map(|wait| wait.as_secs_f64()),
        detail = record.detail.as_deref(),
        "request"
    );
}

/// Bursts are held back from now on. That the kill switch is on is told once for all of them.
fn log_closing(watched: &Watched, skip: Skip) {
    let key = watched.series.key();
    if skip == Skip::Window {
        tracing::info!(probe = %key.probe, target = %key.target, load = %key.load, "window closed");
    }
}

/// A burst that was due and not fired.
pub fn log_skip(watched: &Watched, skip: Skip, bursts: u32) {
    let key = watched.series.key();
    tracing::info!(
        probe = %key.probe,
        target = %key.target,
        load = %key.load,
        reason = skip.as_str(),
        bursts,
        "burst skipped"
    );
}
