//! What is exposed to Prometheus. [`table()`] tells every family; [`Metrics`] counts and renders them.
//!
//! A series (one probe at one target and one load) is acquired once by whoever fires its bursts; its
//! numbers are plain and behind one short lock, so that a scrape sees a request or a burst whole or not at
//! all: requests = successes + failures + invalid, in every scrape. A scrape copies the numbers of a series
//! under that lock and does everything else without it. From there on: `families` (what there is) →
//! `collector` (read from the numbers) → the registry of the crate prometheus → `exposition` (a view of
//! what was gathered) → one writer per format (`text`).

mod collector;
mod exporter;
mod exposition;
mod families;
mod latency;
mod listing;
mod numbers;
mod series;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use prometheus::{Registry, process_collector::ProcessCollector};

use self::{
    collector::Table,
    series::{Directory, lock},
};
pub use self::{
    exposition::Rendered,
    families::{Family, Kind, SERIES_LABELS, Since},
    latency::Buckets,
    listing::{aligned_table, markdown_table},
    series::SeriesMetrics,
    table::table,
};
use crate::{config::plan::Series, protection::Protection, units::Seconds};

/// Everything that is counted, and the registry it is gathered from. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    directory: Arc<Directory>,
    label_names: Arc<[String]>,
}

impl Metrics {
    /// `label_names` are those that the configuration declares; they hold until the end of the process, because
    /// a family has one set of labels.
    ///
    /// # Panics
    /// When a label name is not valid, is there twice, or is one of [`reserved_labels`].
    pub fn new(label_names: &[String]) -> Self {
        let directory = Arc::<Directory>::default();
        let registry = Registry::new();
        let ours = Table::new(Arc::clone(&directory), label_names);
        for collector in [Box::new(ours) as _, Box::new(ProcessCollector::for_self()) as _] {
            let registered = registry.register(collector);
            registered.expect("names of families are unique: a test of the table says so");
        }
        Self {
            registry,
            directory,
            label_names: label_names.into(),
        }
    }

    /// The metrics of a series of a plan that goes into force, at 0 unless somebody holds the same label
    /// values already.
    pub fn acquire(&self, series: &Series) -> SeriesMetrics {
        SeriesMetrics::acquire(&self.directory, &self.label_names, series)
    }

    /// These budgets and guards are in force.
    pub fn guarded_by(&self, protection: Protection) {
        *lock(&self.directory.protection) = protection;
    }

    /// A configuration was loaded.
    pub fn config_loaded(&self, unix_now: f64) {
        let mut exporter = lock(&self.directory.exporter);
        exporter.last_load_succeeded = true;
        exporter.last_loaded = Some(unix_now);
    }

    /// A configuration was to be loaded and is wrong: the one before is still in force.
    pub fn config_rejected(&self) {
        lock(&self.directory.exporter).last_load_succeeded = false;
    }

    /// Since when all bursts are held back, in seconds since the Unix epoch; `None` while they are not.
    pub fn paused(&self, since: Option<f64>) {
        lock(&self.directory.exporter).paused_since = since;
    }

    /// A timer of the measuring runtime fired so late.
    pub fn runtime_lag(&self, lag: Seconds) {
        lock(&self.directory.exporter).runtime_lag.observe(lag);
    }

    /// How many samples a scrape stores.
    pub fn samples(&self) -> usize {
        let gathered = self.registry.gather();
        exposition::families(&gathered)
            .map(exposition::Exposed::stored_samples)
            .sum()
    }

    /// The exposition in the format that the header `Accept` asks for. It takes milliseconds: keep it off the
    /// measuring runtime.
    pub fn render(&self, accept: Option<&str>) -> Rendered {
        exposition::render(&self.registry.gather(), accept)
    }
}

/// Label names that the configuration may not declare: those of the families, of histograms, and of the scrape.
pub fn reserved_labels() -> impl Iterator<Item = &'static str> {
    let of_families = table().flat_map(|family| family.labels).copied();
    let others = ["job", "instance", "le", "quantile"];
    SERIES_LABELS.iter().copied().chain(others).chain(of_families)
}
