//! What is exposed to Prometheus. [`table()`] tells every family; [`Metrics`] counts and renders them.
//!
//! A series (one probe at one target and one load) is acquired once by whoever fires its bursts; its
//! numbers are plain and behind one short lock, so that a scrape sees a request or a burst whole or not at
//! all: requests = successes + failures + invalid, in every scrape, and the classic buckets of a histogram hold
//! what its native ones do. A scrape copies the numbers of a series under that lock and does everything else
//! without it. From there on: `collector` (the copy, read by the rows of `table`) → `exposition` (the model) → one
//! writer per format (`text`, `openmetrics`, `proto`), as `negotiation` has it.

mod answer;
mod collector;
mod exemplar;
mod exporter;
mod exposition;
mod families;
mod latency;
mod lines;
mod listing;
mod native;
mod negotiation;
mod numbers;
mod openmetrics;
mod proto;
mod series;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;

pub use self::{
    answer::Answered,
    families::{Family, Kind, SERIES_LABELS, Since},
    latency::Buckets,
    listing::{aligned_table, markdown_table},
    negotiation::{Format, Wanted},
    series::SeriesMetrics,
    table::table,
};
use self::{
    collector::Collected,
    exporter::List,
    latency::Layouts,
    series::{Directory, lock},
};
use crate::{
    budget::Amounts,
    config::plan::{Allowed, Exposition, Listing, Price, Series},
    protection::Protection,
    shard::Shard,
    summary::Judged,
    units::{Name, Seconds},
};

/// Everything that is counted and exposed. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    directory: Directory,
    label_names: Vec<String>,
    /// What is exposed, by name.
    families: Vec<&'static Family>,
    process: ProcessCollector,
}

impl Metrics {
    /// `label_names` are those that the configuration declares. They hold until the end of the process, and so does
    /// `exposition`: a family has one set of labels, and one of buckets.
    pub fn new(label_names: &[String], exposition: &Exposition) -> Self {
        let exposed = |family: &&Family| !exposition.disable.contains(family.name);
        let mut families: Vec<_> = table().filter(exposed).collect();
        families.sort_unstable_by_key(|family| family.name);
        Self(Arc::new(Parts {
            directory: Directory::new(Layouts::new(exposition)),
            label_names: label_names.to_owned(),
            families,
            process: ProcessCollector::for_self(),
        }))
    }

    /// Metrics of their own, for the answer to somebody who asks for a burst: what is said of series and targets, in the
    /// same labels and buckets, and what came of it.
    #[must_use]
    pub fn of_an_answer(&self) -> Self {
        let is_exposed = |family: &&Family| self.0.families.iter().any(|known| known.name == family.name);
        let of_the_burst = table().filter(|family| family.is_of_a_burst()).filter(is_exposed);
        let mut families: Vec<_> = of_the_burst.chain(table::of_an_answer()).collect();
        families.sort_unstable_by_key(|family| family.name);
        Self(Arc::new(Parts {
            directory: Directory::new(self.0.directory.layouts.clone()),
            label_names: self.0.label_names.clone(),
            families,
            process: ProcessCollector::for_self(),
        }))
    }

    /// What came of the burst that somebody asked for.
    pub fn answered(&self, answered: Answered) {
        *lock(&self.0.directory.answered) = answered;
    }

    /// The metrics of a series of a plan that goes into force, at 0 unless somebody holds the same label
    /// values already.
    pub fn acquire(&self, series: &Series) -> SeriesMetrics {
        SeriesMetrics::acquire(&self.0.directory, &self.0.label_names, series)
    }

    /// These budgets and guards are in force.
    pub fn guarded_by(&self, protection: Protection) {
        *lock(&self.0.directory.protection) = protection;
    }

    /// The budgets and guards that are in force.
    pub fn guarded(&self) -> Protection {
        lock(&self.0.directory.protection).clone()
    }

    /// A configuration was loaded.
    pub fn config_loaded(&self, unix_now: f64) {
        let mut exporter = lock(&self.0.directory.exporter);
        exporter.last_load_succeeded = true;
        exporter.last_loaded = Some(unix_now);
    }

    /// A configuration was to be loaded and is wrong: the one before is still in force.
    pub fn config_rejected(&self) {
        lock(&self.0.directory.exporter).last_load_succeeded = false;
    }

    /// Since when all bursts are held back, in seconds since the Unix epoch; `None` while they are not.
    pub fn paused(&self, since: Option<f64>) {
        lock(&self.0.directory.exporter).paused_since = since;
    }

    /// These lists of targets are in force.
    pub fn listed(&self, listings: &[Listing]) {
        let mut exporter = lock(&self.0.directory.exporter);
        let before = std::mem::take(&mut exporter.lists);
        let now = |listing: &Listing| {
            let known = before.get(&listing.name).copied().unwrap_or_default();
            let list = List {
                targets: listing.targets,
                ..known
            };
            (listing.name.clone(), list)
        };
        exporter.lists = listings.iter().map(now).collect();
    }

    /// These entries of the allow list are in force.
    pub fn allowed(&self, entries: &[Arc<Allowed>]) {
        let mut exporter = lock(&self.0.directory.exporter);
        let before = std::mem::take(&mut exporter.on_demand);
        let names = entries.iter().map(|entry| &entry.target.name);
        let known = |name| before.get(name).copied().unwrap_or_default();
        exporter.on_demand = names.map(|name| (name.clone(), known(name))).collect();
    }

    /// A request ended of a burst that was asked for at a URL which this entry allows.
    pub fn spent_on_demand(&self, entry: &Name, judged: &Judged, price: Option<Price>) {
        let (usage, measured) = (judged.record.usage, &judged.measured);
        let input = usage.prompt.unwrap_or_default().0 as f64;
        let output = usage.output.unwrap_or(measured.output_tokens).0 as f64;
        // What is not in force any more is not counted on.
        if let Some(used) = lock(&self.0.directory.exporter).on_demand.get_mut(entry) {
            *used += Amounts {
                requests: 1.0,
                input_tokens: input,
                output_tokens: output,
                dollars: price.map_or(0.0, |price| price.of(input, output)),
            };
        }
    }

    /// The web server's file was read; whether it is gone by.
    pub fn web_config_read(&self, succeeded: bool) {
        lock(&self.0.directory.exporter).last_web_load_succeeded = Some(succeeded);
    }

    /// A list of targets could not be had, or made no plan.
    pub fn list_failed(&self, name: &Name) {
        if let Some(list) = lock(&self.0.directory.exporter).lists.get_mut(name) {
            list.failures += 1;
        }
    }

    /// Which shard this is.
    pub fn sharded(&self, shard: Shard) {
        lock(&self.0.directory.exporter).shard = shard;
    }

    pub fn shard(&self) -> Shard {
        lock(&self.0.directory.exporter).shard
    }

    /// A timer of the measuring runtime fired so late.
    pub fn runtime_lag(&self, lag: Seconds) {
        lock(&self.0.directory.exporter).runtime_lag.observe(lag);
    }

    /// A task died and begins anew.
    pub fn task_restarted(&self) {
        lock(&self.0.directory.exporter).task_restarts += 1;
    }

    /// Whether the threads that measure go before all others of the machine.
    pub fn realtime(&self, in_force: bool) {
        lock(&self.0.directory.exporter).is_realtime = in_force;
    }

    /// How many samples a scrape stores, without native histograms.
    pub fn samples(&self) -> usize {
        let collected = self.collected();
        let families = self.0.families.iter();
        families
            .map(|family| collected.family(family).stored_samples())
            .sum()
    }

    /// The exposition in `format`. It takes milliseconds: keep it off the measuring runtime.
    pub fn render(&self, format: Format) -> Vec<u8> {
        let collected = self.collected();
        // One family at a time: all of them at once would take more memory than the answer.
        let mut families = self.0.families.iter().map(|family| collected.family(family));
        match format {
            Format::Text => text::write(&mut families),
            Format::OpenMetrics => openmetrics::write(&mut families),
            Format::Protobuf => proto::write(&mut families),
        }
    }

    fn collected(&self) -> Collected {
        let Parts {
            directory,
            label_names,
            process,
            ..
        } = &*self.0;
        Collected::now(directory, label_names, process)
    }
}

/// Label names that the configuration may not declare: those of the families, of histograms, and of the scrape.
pub fn reserved_labels() -> impl Iterator<Item = &'static str> {
    let of_families = table().flat_map(|family| family.labels).copied();
    let others = ["job", "instance", "le", "quantile"];
    SERIES_LABELS.iter().copied().chain(others).chain(of_families)
}
