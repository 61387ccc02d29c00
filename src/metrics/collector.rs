//! From what was counted to the families that are exposed: a scrape copies everything first, then the rows of the
//! table read from the copy.

use std::sync::{Arc, atomic::Ordering};

use prometheus::{
    core::Collector,
    process_collector::ProcessCollector,
    proto::{Metric, MetricType},
};
use tokio::time::Instant;

use super::{
    answer::Answered,
    exporter::Exporter,
    exposition::{Exposed, Label, Rows},
    families::{BUDGET_LABELS, CERTIFICATE_LABELS, Family, LOAD_LABELS, SERIES_LABELS, Scope, TARGET_LABELS},
    numbers::{Lags, Numbers},
    series::{Directory, Entry, lock},
};
use crate::{
    budget::{Amounts, Budget, Unit},
    capacity::Capacity,
    config::plan::Target,
    protection::{Guard, Owner},
    summary::Summary,
};

/// What a series says in one scrape: a copy, so that its lock is held for microseconds.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) numbers: Numbers,
    /// The last burst; `None` when it is too old to say anything.
    pub(super) burst: Option<Arc<Summary>>,
    /// The last search for the capacity; `None` when it is too old to say anything.
    pub(super) search: Option<Arc<Capacity>>,
    pub(super) in_flight: i64,
}

impl Reading {
    fn of(entry: &Entry, now: Instant) -> Self {
        let numbers = lock(&entry.numbers).clone();
        Self {
            burst: numbers.fresh_burst(now),
            search: numbers.fresh_search(now),
            in_flight: entry.in_flight.load(Ordering::Relaxed),
            numbers,
        }
    }
}

type Labels = Vec<Label>;

/// Everything that one scrape says.
#[derive(Debug)]
pub(super) struct Collected {
    series: Vec<(Labels, Reading)>,
    lags: Vec<(Labels, Lags)>,
    targets: Vec<Labels>,
    certificates: Vec<(Labels, u64)>,
    budgets: Vec<(Labels, (Budget, Amounts))>,
    guards: Vec<(Labels, Arc<Guard>)>,
    exporter: Exporter,
    answered: Answered,
    /// Names and values.
    process: Vec<(String, f64)>,
}

impl Collected {
    pub(super) fn now(directory: &Directory, label_names: &[String], process: &ProcessCollector) -> Self {
        let now = Instant::now();
        let (series, lags, known) = {
            let held = lock(&directory.held);
            (held.series(), held.lags(), held.targets())
        };
        let series_labels: Vec<_> = SERIES_LABELS
            .iter()
            .copied()
            .chain(label_names.iter().map(String::as_str))
            .collect();
        let series = series.iter().map(|entry| {
            let mut labels = labels(&series_labels, &entry.labels);
            labels.retain(|(name, value)| !LOAD_LABELS.contains(&name.as_str()) || !value.is_empty());
            (labels, Reading::of(entry, now))
        });
        let lags = lags.into_iter();
        let certificates = known.iter().filter_map(|known| {
            let labels = labels(CERTIFICATE_LABELS, &[known.target.name.as_str()]);
            Some((labels, known.certificate_expires?))
        });
        let targets = known.iter().map(|known| &known.target);
        let protection = lock(&directory.protection).clone();
        let budgets = protection.purses().iter().map(|purse| {
            let whose = match &purse.owner {
                Owner::Probe(probe) => [probe.as_str(), ""],
                Owner::Target(target) => ["", target.as_str()],
            };
            (labels(BUDGET_LABELS, &whose), purse.now())
        });
        let guards = protection.guards().iter().map(|guard| {
            let labels = labels(CERTIFICATE_LABELS, &[guard.target.name.as_str()]);
            (labels, Arc::clone(guard))
        });
        Self {
            series: series.collect(),
            lags: lags
                .map(|(probe, lags)| (labels(&["probe"], &[probe.as_str()]), lags))
                .collect(),
            targets: targets
                .map(|target| labels(TARGET_LABELS, &describe(target)))
                .collect(),
            certificates: certificates.collect(),
            budgets: budgets.collect(),
            guards: guards.collect(),
            exporter: lock(&directory.exporter).clone(),
            answered: lock(&directory.answered).clone(),
            process: of_process(process),
        }
    }

    /// What it says of a family.
    pub(super) fn family(&self, family: &'static Family) -> Exposed<'_> {
        let mut rows = Rows::new(family);
        match family.scope {
            Scope::Series(read) => {
                let series = self.series.iter();
                series.for_each(|(labels, of)| read(of, rows.of(labels).since(of.numbers.since)));
            }
            Scope::Probe(read) => {
                let lags = self.lags.iter();
                lags.for_each(|(labels, of)| read(of, rows.of(labels).since(of.since)));
            }
            Scope::Target => self.targets.iter().for_each(|labels| rows.of(labels).one(1.0)),
            Scope::Certificate => {
                let certificates = self.certificates.iter();
                certificates.for_each(|(labels, expires)| rows.of(labels).one(*expires));
            }
            Scope::Budget(read) => {
                for (labels, (budget, used)) in &self.budgets {
                    let rows = rows.of(labels);
                    for unit in Unit::ALL {
                        if let Some(value) = read(budget, used, *unit) {
                            rows.by(unit.as_str(), value);
                        }
                    }
                }
            }
            Scope::Guard(read) => {
                let guards = self.guards.iter();
                guards.for_each(|(labels, guard)| rows.of(labels).known(read(guard)));
            }
            Scope::Exporter(read) => read(&self.exporter, rows.since(self.exporter.since)),
            Scope::Answer(read) => read(&self.answered, &mut rows),
            Scope::Process => {
                let of_it = self.process.iter().find(|(name, _)| name == family.name);
                rows.known(of_it.map(|(_, value)| *value));
            }
        }
        rows.family()
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

fn labels(names: &[impl AsRef<str>], values: &[impl AsRef<str>]) -> Labels {
    let pairs = names.iter().zip(values);
    pairs
        .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
        .collect()
}

/// What the crate prometheus says of this process: counters and gauges without labels.
fn of_process(process: &ProcessCollector) -> Vec<(String, f64)> {
    let families = process.collect().into_iter();
    let value = |metric: &Metric, kind| match kind {
        MetricType::COUNTER => metric.get_counter().get_value(),
        _ => metric.get_gauge().get_value(),
    };
    families
        .filter_map(|family| {
            let metric = family.get_metric().first()?;
            Some((family.name().to_owned(), value(metric, family.get_field_type())))
        })
        .collect()
}
