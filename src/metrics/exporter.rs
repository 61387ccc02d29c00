//! What this program says of itself.

use super::latency::{Latency, Layouts};

#[derive(Clone, Debug)]
pub(super) struct Exporter {
    pub(super) last_load_succeeded: bool,
    pub(super) last_loaded: Option<f64>,
    pub(super) paused_since: Option<f64>,
    pub(super) runtime_lag: Latency,
    pub(super) task_restarts: u64,
    pub(super) is_realtime: bool,
}

impl Exporter {
    pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// Given by whoever builds it from git; there is no build script.
    pub(super) const REVISION: &str = match option_env!("LLM_PROBE_EXPORTER_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    };

    pub(super) fn new(layouts: &Layouts) -> Self {
        Self {
            last_load_succeeded: false,
            last_loaded: None,
            paused_since: None,
            runtime_lag: layouts.latency("llm_probe_exporter_runtime_lag_seconds"),
            task_restarts: 0,
            is_realtime: false,
        }
    }
}
