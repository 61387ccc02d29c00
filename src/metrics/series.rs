//! Who counts what: the series, probes and targets that are held by somebody, and the handle that a plan
//! holds of each series.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicI64},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    answer::Answered,
    exporter::Exporter,
    latency::Layouts,
    numbers::{Lags, Numbers},
};
use crate::{
    baseline::Baseline,
    capacity::Capacity,
    config::plan::{Series, Target},
    outcome::{Outcome, Skip},
    protection::Protection,
    summary::{Judged, Summary},
    units::{Name, Seconds},
};

/// The load of a series whose bursts search for the capacity: it has requests of all loads.
const SEARCH: &str = "search";

/// A panic while numbers were changed leaves them as they are: a count may lack what the panic was about.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The values of [`super::families::SERIES_LABELS`] and of the declared labels, in this order. They are the
/// key as they are: the vectors of the crate prometheus hash them joined without a separator, so that there
/// (`a`, `bc`) and (`ab`, `c`) are one series.
pub(super) type LabelValues = Arc<[String]>;

/// What one set of label values has counted.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) labels: LabelValues,
    /// Requests, bursts and scrapes take turns here, so that a scrape never sees half of one.
    pub(super) numbers: Mutex<Numbers>,
    pub(super) in_flight: Arc<AtomicI64>,
    /// Shared with the other series of the probe.
    lags: Arc<Mutex<Lags>>,
    /// Shared with the other series of the target, which is named as long as any of them lives.
    target: Arc<Mutex<Known>>,
}

/// What is known of a target.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The plan that came last says what a target of this name is.
    pub(super) target: Arc<Target>,
    /// Seconds since the Unix epoch; `None` until a certificate was seen.
    pub(super) certificate_expires: Option<u64>,
}

/// Everything that is counted. What nobody holds any more is gone: there is nothing to release by hand.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) layouts: Layouts,
    pub(super) held: Mutex<Held>,
    pub(super) exporter: Mutex<Exporter>,
    /// What came of the burst that somebody asked for.
    pub(super) answered: Mutex<Answered>,
    /// The budgets and guards that are in force.
    pub(super) protection: Mutex<Protection>,
}

impl Directory {
    pub(super) fn new(layouts: Layouts) -> Self {
        Self {
            held: Mutex::default(),
            exporter: Mutex::new(Exporter::new(&layouts)),
            answered: Mutex::default(),
            protection: Mutex::default(),
            layouts,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Held {
    series: BTreeMap<LabelValues, Weak<Entry>>,
    lags: BTreeMap<Name, Weak<Mutex<Lags>>>,
    targets: BTreeMap<Name, Weak<Mutex<Known>>>,
}

impl Held {
    fn acquire(&mut self, labels: LabelValues, plan: &Series, layouts: &Layouts) -> Arc<Entry> {
        self.forget();
        let lags = held(&mut self.lags, plan.probe.name.clone(), || {
            Mutex::new(Lags::new(layouts))
        });
        let target = held(&mut self.targets, plan.target.name.clone(), || {
            Mutex::new(Known {
                target: Arc::clone(&plan.target),
                certificate_expires: None,
            })
        });
        lock(&target).target = Arc::clone(&plan.target);
        let entry = held(&mut self.series, Arc::clone(&labels), || Entry {
            labels,
            numbers: Mutex::new(Numbers::new(plan.clone(), layouts)),
            in_flight: Arc::default(),
            lags,
            target,
        });
        lock(&entry.numbers).follow(plan.clone());
        entry
    }

    /// Drops the names of what is gone.
    fn forget(&mut self) {
        self.series.retain(|_, entry| entry.strong_count() > 0);
        self.lags.retain(|_, lags| lags.strong_count() > 0);
        self.targets.retain(|_, target| target.strong_count() > 0);
    }

    pub(super) fn series(&self) -> Vec<Arc<Entry>> {
        self.series.values().filter_map(Weak::upgrade).collect()
    }

    /// Of each probe: its name and lags.
    pub(super) fn lags(&self) -> Vec<(Name, Lags)> {
        let lags = self.lags.iter();
        lags.filter_map(|(name, lags)| Some((name.clone(), lock(&*lags.upgrade()?).clone())))
            .collect()
    }

    pub(super) fn targets(&self) -> Vec<Known> {
        let targets = self.targets.values();
        targets
            .filter_map(|target| Some(lock(&*target.upgrade()?).clone()))
            .collect()
    }
}

/// The value under `key`: the one that somebody holds, else a new one.
fn held<K: Ord, V>(map: &mut BTreeMap<K, Weak<V>>, key: K, new: impl FnOnce() -> V) -> Arc<V> {
    if let Some(value) = map.get(&key).and_then(Weak::upgrade) {
        return value;
    }
    let value = Arc::new(new());
    map.insert(key, Arc::downgrade(&value));
    value
}

/// The metrics of one series of a plan. Series are counted by their label values: a new plan acquires its
/// own before the old one drops its, and what has the same values goes on counting. With the last one of
/// these values the series leaves the exposition.
#[derive(Clone, Debug)]
pub struct SeriesMetrics {
    entry: Arc<Entry>,
    plan: Series,
}

impl SeriesMetrics {
    /// `armed_unix`: since when bursts of the series are due, where that is known already. A series that goes
    /// on keeps its own.
    pub(super) fn acquire(directory: &Directory, label_names: &[String], plan: &Series) -> Self {
        let load = plan.step.load;
        let is_search = plan.probe.capacity.is_some();
        let shown = |load: Option<String>| match load {
            Some(_) if is_search => SEARCH.to_owned(),
            load => load.unwrap_or_default(),
        };
        let values = [
            plan.probe.name.to_string(),
            plan.target.name.to_string(),
            plan.target.model.clone(),
            shown(load.concurrency().map(|users| users.to_string())),
            shown(load.rate().map(|rate| rate.to_string())),
        ];
        let declared = label_names.iter().map(|name| plan.label(name).to_owned());
        let labels = values.into_iter().chain(declared).collect();
        let entry = lock(&directory.held).acquire(labels, plan, &directory.layouts);
        let plan = plan.clone();
        Self { entry, plan }
    }

    /// A request ended.
    pub fn request(&self, judged: &Judged, unix_now: f64) {
        if let Some(unix) = judged.record.certificate_expires {
            lock(&self.entry.target).certificate_expires = Some(unix);
        }
        let counts = !judged.record.warmup && !matches!(judged.record.outcome, Outcome::Invalid(_));
        if let Some(lag) = judged.measured.send_lag.filter(|_| counts) {
            lock(&self.entry.lags).send.observe(lag);
        }
        lock(&self.entry.numbers).request(judged, &self.plan, unix_now);
    }

    /// A request ended of a burst that is counted elsewhere: only what it used counts here.
    pub fn spent(&self, judged: &Judged) {
        lock(&self.entry.numbers).spent(judged, &self.plan);
    }

    /// A burst began, `schedule_lag` after it was due.
    pub fn burst_begun(&self, unix_now: f64, schedule_lag: Seconds) {
        lock(&self.entry.lags).schedule.observe(schedule_lag);
        lock(&self.entry.numbers).burst_begun(unix_now);
    }

    /// What is usual, as it was learned before a restart.
    pub fn usual(&self, baseline: &Baseline) {
        lock(&self.entry.numbers).baseline = (baseline.usual(), baseline.bursts());
    }

    /// All requests of a burst ended.
    pub fn burst_ended(&self, summary: &Arc<Summary>, now: Instant) {
        lock(&self.entry.numbers).burst_ended(summary, now);
    }

    /// A search for the capacity ended.
    pub fn searched(&self, capacity: &Arc<Capacity>, now: Instant) {
        lock(&self.entry.numbers).searched(capacity, now);
    }

    /// Bursts were due and are not fired.
    pub fn skipped(&self, skip: Skip, bursts: u32) {
        lock(&self.entry.numbers).skipped(skip, bursts, &self.plan);
    }

    /// Requests of a burst that began were never sent. What they make of the burst is in its summary.
    pub fn requests_skipped(&self, skip: Skip, requests: u32) {
        let slo = &self.plan.step.slo;
        let mut numbers = lock(&self.entry.numbers);
        numbers.requests_skipped(skip, requests.into());
        if slo.judges_unsent(skip) {
            numbers.withheld_requests(slo, requests.into());
        }
    }

    /// By how much budgets stretch the interval, at least 1.
    pub fn stretched(&self, stretch: f64) {
        lock(&self.entry.numbers).stretch = stretch;
    }

    /// When the next burst is due that will be fired, if that is known, and the interval in force.
    pub fn next_due(&self, unix: Option<f64>, interval: Duration) {
        lock(&self.entry.numbers).next_due(unix, interval);
    }

    /// Bursts are not due from now on.
    pub fn disarmed(&self) {
        lock(&self.entry.numbers).times.armed = None;
    }

    /// Bursts are due from now on.
    pub fn armed(&self, unix: f64) {
        lock(&self.entry.numbers).armed(unix);
    }

    /// For the burst to hold; it does not keep the series.
    pub fn in_flight(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.entry.in_flight)
    }
}
