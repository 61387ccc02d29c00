//! What this program says of itself.

use std::collections::BTreeMap;

use super::latency::{Latency, Layouts};
use crate::{clock::unix_now, shard::Shard, units::Name};

#[derive(Clone, Debug)]
pub(super) struct Exporter {
    /// Since when it counts, in seconds since the Unix epoch.
    pub(super) since: f64,
    pub(super) last_load_succeeded: bool,
    pub(super) last_loaded: Option<f64>,
    pub(super) paused_since: Option<f64>,
    pub(super) shard: Shard,
    pub(super) lists: BTreeMap<Name, List>,
    pub(super) runtime_lag: Latency,
    pub(super) task_restarts: u64,
    pub(super) is_realtime: bool,
}

impl Exporter {
    pub(super) fn new(layouts: &Layouts) -> Self {
        Self {
            since: unix_now(),
            last_load_succeeded: false,
            last_loaded: None,
            paused_since: None,
            shard: Shard::default(),
            lists: BTreeMap::new(),
            runtime_lag: layouts.latency("llm_probe_exporter_runtime_lag_seconds"),
            task_restarts: 0,
            is_realtime: false,
        }
    }
}

/// A list of targets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    pub(super) targets: usize,
    pub(super) failures: u64,
}
