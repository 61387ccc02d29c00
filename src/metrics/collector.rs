//! From what was counted to the families of the crate prometheus: one collector for the whole table.

use std::sync::{Arc, atomic::Ordering};

use prometheus::{
    core::{Collector, Desc},
    proto,
};
use tokio::time::Instant;

use super::{
    families::{
        BUDGET_LABELS, CERTIFICATE_LABELS, Family, Kind, LOAD_LABELS, SERIES_LABELS, Scope, TARGET_LABELS,
    },
    latency::Latency,
    numbers::{Counts, Numbers},
    series::{Directory, Entry, lock},
    table::table,
};
use crate::{budget::Unit, config::plan::Target, protection::Owner, summary::Summary};

/// What a series says in one scrape: a copy, so that its lock is held for microseconds.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) numbers: Numbers,
    /// The last burst; `None` when it is too old to say anything.
    pub(super) burst: Option<Arc<Summary>>,
    pub(super) in_flight: i64,
}

impl Reading {
    fn of(entry: &Entry, now: Instant) -> Self {
        let numbers = lock(&entry.numbers).clone();
        Self {
            burst: numbers.fresh_burst(now),
            in_flight: entry.in_flight.load(Ordering::Relaxed),
            numbers,
        }
    }
}

/// Exports the table. Registered once; what it reads comes and goes.
#[derive(Debug)]
pub(super) struct Table {
    directory: Arc<Directory>,
    series_labels: Vec<String>,
    descriptions: Vec<Desc>,
}

impl Table {
    pub(super) fn new(directory: Arc<Directory>, label_names: &[String]) -> Self {
        let declared = label_names.iter().map(String::as_str);
        let series_labels: Vec<_> = SERIES_LABELS
            .iter()
            .copied()
            .chain(declared)
            .map(str::to_owned)
            .collect();
        let describe = |family: &Family| {
            let scope = match family.scope_labels() {
                Some(labels) => labels.iter().copied().map(str::to_owned).collect(),
                None => series_labels.clone(),
            };
            let own = family.labels.iter().copied().map(str::to_owned);
            let labels = scope.into_iter().chain(own).collect();
            Desc::new(family.name.into(), family.help.into(), labels, [].into())
                .expect("the table is valid, and the configuration lets only valid labels through that are not reserved")
        };
        let descriptions = ours().map(describe).collect();
        Self {
            directory,
            series_labels,
            descriptions,
        }
    }
}

/// The families that this collector exports.
fn ours() -> impl Iterator<Item = &'static Family> {
    table().filter(|family| !matches!(family.scope, Scope::Process))
}

impl Collector for Table {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let now = Instant::now();
        let (series, lags, known) = {
            let held = lock(&self.directory.held);
            (held.series(), held.lags(), held.targets())
        };
        let series: Vec<_> = series
            .iter()
            .map(|entry| {
                let mut labels = pairs(&self.series_labels, &entry.labels);
                labels.retain(|label| !LOAD_LABELS.contains(&label.name()) || !label.value().is_empty());
                (labels, Reading::of(entry, now))
            })
            .collect();
        let lags: Vec<_> = lags
            .into_iter()
            .map(|(probe, lags)| (pairs(&["probe"], &[probe.as_str()]), lags))
            .collect();
        let targets: Vec<_> = known
            .iter()
            .map(|known| pairs(TARGET_LABELS, &describe(&known.target)))
            .collect();
        let certificates: Vec<_> = known
            .iter()
            .filter_map(|known| {
                let labels = pairs(CERTIFICATE_LABELS, &[known.target.name.as_str()]);
                Some((labels, known.certificate_expires?))
            })
            .collect();
        let exporter = lock(&self.directory.exporter).clone();
        let protection = lock(&self.directory.protection).clone();
        let budgets: Vec<_> = protection
            .purses()
            .iter()
            .map(|purse| {
                let whose = match &purse.owner {
                    Owner::Probe(probe) => [probe.as_str(), ""],
                    Owner::Target(target) => ["", target.as_str()],
                };
                (pairs(BUDGET_LABELS, &whose), purse.now())
            })
            .collect();
        let guards: Vec<_> = protection
            .guards()
            .iter()
            .map(|guard| (pairs(CERTIFICATE_LABELS, &[guard.target.name.as_str()]), guard))
            .collect();
        ours()
            .map(|family| {
                let mut rows = Rows::new(family);
                match family.scope {
                    Scope::Series(read) => series.iter().for_each(|(labels, of)| read(of, rows.of(labels))),
                    Scope::Probe(read) => lags.iter().for_each(|(labels, of)| read(of, rows.of(labels))),
                    Scope::Target => targets.iter().for_each(|labels| rows.of(labels).one(1.0)),
                    Scope::Certificate => certificates
                        .iter()
                        .for_each(|(labels, expires)| rows.of(labels).one(*expires)),
                    Scope::Budget(read) => {
                        for (labels, (budget, used)) in &budgets {
                            let rows = rows.of(labels);
                            for unit in Unit::ALL {
                                if let Some(value) = read(budget, used, *unit) {
                                    rows.by(unit.as_str(), value);
                                }
                            }
                        }
                    }
                    Scope::Guard(read) => guards
                        .iter()
                        .for_each(|(labels, guard)| rows.of(labels).known(read(guard))),
                    Scope::Exporter(read) => read(&exporter, &mut rows),
                    Scope::Process => {}
                }
                rows.family()
            })
            .collect()
    }
}

/// The values of [`TARGET_LABELS`].
fn describe(target: &Target) -> [String; 6] {
    let host = target.url.host_str().unwrap_or_default();
    let host = match target.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    [
        target.name.to_string(),
        target.model.clone(),
        host,
        target.api.as_str().to_owned(),
        target.connection.as_str().to_owned(),
        target.http.as_str().to_owned(),
    ]
}

fn pairs(names: &[impl AsRef<str>], values: &[impl AsRef<str>]) -> Vec<proto::LabelPair> {
    let pairs = names.iter().zip(values);
    pairs
        .map(|(name, value)| pair(name.as_ref(), value.as_ref()))
        .collect()
}

fn pair(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// A family while it is filled.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    family: &'static Family,
    /// Labels of the series, probe or target that is being read.
    scope: &'a [proto::LabelPair],
    metrics: Vec<proto::Metric>,
}

impl<'a> Rows<'a> {
    fn new(family: &'static Family) -> Self {
        Self {
            family,
            scope: &[],
            metrics: Vec::new(),
        }
    }

    fn of(&mut self, scope: &'a [proto::LabelPair]) -> &mut Self {
        self.scope = scope;
        self
    }

    fn family(self) -> proto::MetricFamily {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.family.name.to_owned());
        family.set_help(self.family.help.to_owned());
        family.set_field_type(match self.family.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram(_) => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(self.metrics);
        family
    }

    /// The only metric of its scope.
    pub(super) fn one(&mut self, value: impl Value) {
        self.with(&[], value);
    }

    /// The only metric of its scope, where it is known.
    pub(super) fn known(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.one(value);
        }
    }

    /// The metric with this value of the family's own label.
    pub(super) fn by(&mut self, label: &str, value: impl Value) {
        self.with(&[label], value);
    }

    /// A metric for each value of the family's own label, which is closed.
    pub(super) fn counts<T: Copy, const N: usize>(
        &mut self,
        values: &[T],
        label: fn(T) -> &'static str,
        counts: &Counts<N>,
    ) {
        for (position, &value) in values.iter().enumerate() {
            self.by(label(value), counts.get(position));
        }
    }

    /// The metric with these values of the family's own labels.
    pub(super) fn with(&mut self, labels: &[&str], value: impl Value) {
        let own = pairs(self.family.labels, labels);
        let labels = self.scope.iter().cloned().chain(own).collect();
        let mut metric = proto::Metric::from_label(labels);
        value.fill(self.family.kind, &mut metric);
        self.metrics.push(metric);
    }
}

/// What a row of the table reads.
pub(super) trait Value {
    fn fill(self, kind: Kind, metric: &mut proto::Metric);
}

impl Value for f64 {
    fn fill(self, kind: Kind, metric: &mut proto::Metric) {
        if kind == Kind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(self);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(self);
            metric.set_gauge(gauge);
        }
    }
}

impl Value for u64 {
    fn fill(self, kind: Kind, metric: &mut proto::Metric) {
        (self as f64).fill(kind, metric);
    }
}

impl Value for &Latency {
    fn fill(self, _: Kind, metric: &mut proto::Metric) {
        metric.set_histogram(self.into());
    }
}
