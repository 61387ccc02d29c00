//! Of targets and of this program.

use crate::{
    budget::Unit,
    clock::process_began,
    metrics::{
        families::{Family, Kind, Scope, Since, exporter, process},
        latency,
    },
    version::{REVISION, VERSION},
};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "llm_probe_target_info",
        kind: Kind::Gauge,
        labels: &[],
        since: Since::Load,
        help: "What a target is: always 1.",
        scope: Scope::Target,
    },
    Family {
        name: "llm_probe_tls_certificate_expiry_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        since: Since::Known,
        help: "When the first certificate ends of those that the target showed last, whether they were believed or not.",
        scope: Scope::Certificate,
    },
    Family {
        name: "llm_probe_budget_limit",
        kind: Kind::Gauge,
        labels: &["unit"],
        since: Since::Load,
        help: "What a probe may use at all its targets, or all probes at a target, in the hour or day of its budget.",
        scope: Scope::Budget(|budget, _, unit| budget.limit(unit)),
    },
    Family {
        name: "llm_probe_budget_used",
        kind: Kind::Gauge,
        labels: &["unit"],
        since: Since::Load,
        help: "What was used of it in this hour or day (UTC); tokens that no server counted are estimated high.",
        scope: Scope::Budget(|budget, used, unit| budget.limit(unit).map(|_| used.get(unit))),
    },
    Family {
        name: "llm_probe_target_backoff_seconds",
        kind: Kind::Gauge,
        labels: &[],
        since: Since::Load,
        help: "How much longer a target that shed load is left alone; 0: it is not.",
        scope: Scope::Guard(|guard| Some(guard.backing_off().unwrap_or_default().as_secs_f64())),
    },
    Family {
        name: "llm_probe_target_busy_scrape_failures_total",
        kind: Kind::Counter,
        labels: &[],
        since: Since::Load,
        help: "Times that the metrics named by `busy` could not be read; probing went on.",
        scope: Scope::Guard(|guard| guard.scrape_failures().map(|failures| failures as f64)),
    },
    Family {
        name: "llm_probe_target_secret_failures_total",
        kind: Kind::Counter,
        labels: &[],
        since: Since::Load,
        help: "Times that secrets on file could not be read again, or no OAuth 2 token was given; those known were used on.",
        scope: Scope::Guard(|guard| guard.renewal_failures().map(|failures| failures as f64)),
    },
    exporter(
        "llm_probe_exporter_build_info",
        Kind::Gauge,
        &["version", "revision"],
        Since::Load,
        "What this program is: always 1.",
        |_, rows| rows.with([VERSION, REVISION], 1.0),
    ),
    exporter(
        "llm_probe_exporter_config_last_reload_successful",
        Kind::Gauge,
        &[],
        Since::Load,
        "Whether the last load of the configuration succeeded.",
        |of, rows| rows.one(f64::from(u8::from(of.last_load_succeeded))),
    ),
    exporter(
        "llm_probe_exporter_config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        &[],
        Since::Known,
        "When the configuration was last loaded with success.",
        |of, rows| rows.known(of.last_loaded),
    ),
    exporter(
        "llm_probe_exporter_list_targets",
        Kind::Gauge,
        &["list"],
        Since::Load,
        "How many targets a list names, as it is in force.",
        |of, rows| {
            for (name, list) in &of.lists {
                rows.by(name.as_str(), list.targets as f64);
            }
        },
    ),
    exporter(
        "llm_probe_exporter_list_failures_total",
        Kind::Counter,
        &["list"],
        Since::Load,
        "Times that a list of targets could not be had, or was wrong; the last good one stayed in force.",
        |of, rows| {
            for (name, list) in &of.lists {
                rows.by(name.as_str(), list.failures as f64);
            }
        },
    ),
    exporter(
        "llm_probe_on_demand_used_total",
        Kind::Counter,
        &["entry", "unit"],
        Since::Load,
        "What bursts used that were asked for at URLs, by the entry of `on_demand` that allowed them.",
        |of, rows| {
            for (name, used) in &of.on_demand {
                for unit in Unit::ALL {
                    rows.with([name.as_str(), unit.as_str()], used.get(*unit));
                }
            }
        },
    ),
    exporter(
        "llm_probe_exporter_web_config_last_reload_successful",
        Kind::Gauge,
        &[],
        Since::Known,
        "Whether the web server goes by what --web.config.file says now; absent without that file.",
        |of, rows| rows.known(of.last_web_load_succeeded.map(u8::from).map(f64::from)),
    ),
    exporter(
        "llm_probe_exporter_paused_timestamp_seconds",
        Kind::Gauge,
        &[],
        Since::Known,
        "Since when the kill switch holds all bursts back; absent while it does not.",
        |of, rows| rows.known(of.paused_since),
    ),
    exporter(
        "llm_probe_exporter_shard_info",
        Kind::Gauge,
        &["index", "total"],
        Since::Load,
        "Which of several exporters this is, of which each runs a part of the plan: always 1.",
        |of, rows| {
            let labels = [of.shard.index(), of.shard.total()];
            rows.with(labels.map(|number| number.to_string()), 1.0);
        },
    ),
    exporter(
        "llm_probe_exporter_shards",
        Kind::Gauge,
        &[],
        Since::Load,
        "How many of them there are.",
        |of, rows| rows.one(f64::from(of.shard.total())),
    ),
    exporter(
        "llm_probe_exporter_runtime_lag_seconds",
        Kind::Histogram(latency::LAG),
        &[],
        Since::Load,
        "How late timers of the measuring runtime fired.",
        |of, rows| rows.one(&of.runtime_lag),
    ),
    exporter(
        "llm_probe_exporter_realtime",
        Kind::Gauge,
        &[],
        Since::Load,
        "Whether the threads that measure go before all others of the machine (SCHED_FIFO).",
        |of, rows| rows.one(f64::from(u8::from(of.is_realtime))),
    ),
    exporter(
        "llm_probe_exporter_task_restarts_total",
        Kind::Counter,
        &[],
        Since::Load,
        "Tasks of this program that died of a defect and began anew.",
        |of, rows| rows.one(of.task_restarts),
    ),
    process(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Total user and system CPU time spent in seconds.",
    ),
    process(
        "process_open_fds",
        Kind::Gauge,
        "Number of open file descriptors.",
    ),
    process(
        "process_max_fds",
        Kind::Gauge,
        "Maximum number of open file descriptors.",
    ),
    process(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Virtual memory size in bytes.",
    ),
    process(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory size in bytes.",
    ),
    exporter(
        "process_start_time_seconds",
        Kind::Gauge,
        &[],
        Since::Load,
        "Start time of the process since unix epoch in seconds.",
        |_, rows| rows.one(process_began()),
    ),
    process(
        "process_threads",
        Kind::Gauge,
        "Number of OS threads in the process.",
    ),
];
