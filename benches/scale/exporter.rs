//! An exporter with many targets, and the server that they all are.

use std::{fmt::Write as _, process::Command, thread, time::Duration};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{
    machine::{exact_cpu_seconds, memory},
    process::{Running, answer},
};

/// Samples that a thousand targets have, with some to spare.
const LIMIT: &str = "--limit.series=600000";

/// The server, on any core but the exporter's where there is another.
pub(crate) fn simulator() -> Running {
    let mut running = Running::start(&[
        "simulate",
        "--listen-address=127.0.0.1:0",
        "--profile=8b-h100",
        "--slots=1000",
        "--speed=1000",
        "--fault=stall=200ms",
        "--fault=drip=10ms",
    ]);
    running.let_it_talk();
    running
}

/// Probing goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Exporter {
    running: Running,
    /// From the start of the process to the schedule.
    pub(crate) armed: Duration,
    _folder: TempDir,
}

impl Exporter {
    /// On one core, with so many targets at `simulator`, each of which is asked by `rhythm`.
    pub(crate) fn start(simulator: &Running, targets: u32, rhythm: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a file");
        let file = folder.path().join("probes.yaml");
        let mut text = "targets:\n".to_owned();
        for target in 0..targets {
            let address = simulator.address;
            writeln!(
                text,
                "  - {{ name: t{target}, url: 'http://{address}/v1', api: openai_chat, model: simulated }}"
            )
            .expect("text takes every write");
        }
        writeln!(
            text,
            "probes:\n  - {{ name: steady, {rhythm}, max_tokens: 8, prompt: {{ text: Count }}, slo: {{ ttft: 1s, objective: 99% }} }}"
        )
        .expect("text takes every write");
        std::fs::write(&file, text).expect("there is room for a file");

        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-probe-exporter"));
        let file = format!("--config.file={}", file.display());
        command.args([&file, "--web.listen-address=127.0.0.1:0", LIMIT]);
        let begun = Instant::now();
        let mut running = on_one_core(|| Running::spawn(&mut command));
        let address = running.address;
        // The first scrape arms the schedule.
        let scrape = thread::spawn(move || answer(address, "/metrics", ""));
        let is_armed = |line: &str| line.contains("schedule armed").then_some(());
        running
            .next(is_armed)
            .expect("it says when the schedule is armed");
        let armed = begun.elapsed();
        scrape.join().expect("it answers");
        running.let_it_talk();
        Self {
            running,
            armed,
            _folder: folder,
        }
    }

    /// What Prometheus reads, which asks for gzip.
    pub(crate) fn scrape(&self) {
        answer(self.running.address, "/metrics", "Accept-Encoding: gzip\r\n");
    }

    /// In MB.
    pub(crate) fn memory(&self) -> f64 {
        memory(&self.running.id().to_string(), "VmRSS")
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        exact_cpu_seconds(self.running.id())
    }

    /// Bursts so far, and how many of them were no more than 20 ms late.
    pub(crate) fn bursts(&self) -> Bursts {
        let page = answer(self.running.address, "/metrics", "");
        let page = String::from_utf8(page).expect("the text format is UTF-8");
        let sum = |prefix: &str, label: &str| {
            let lines = page
                .lines()
                .filter(|line| line.starts_with(prefix) && line.contains(label));
            let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
            values.sum::<f64>()
        };
        Bursts {
            ended: sum("llm_probe_bursts_total{", ""),
            begun: sum("llm_probe_schedule_lag_seconds_count{", ""),
            in_time: sum("llm_probe_schedule_lag_seconds_bucket{", "le=\"0.02\""),
            requests: sum("llm_probe_requests_total{", ""),
            failures: sum("llm_probe_request_failures_total{", "")
                + sum("llm_probe_invalid_requests_total{", ""),
            skipped: sum("llm_probe_bursts_skipped_total{", ""),
        }
    }
}

/// What `/metrics` says of them, over all targets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bursts {
    pub(crate) ended: f64,
    pub(crate) begun: f64,
    /// Begun within 20 ms.
    pub(crate) in_time: f64,
    pub(crate) requests: f64,
    pub(crate) failures: f64,
    pub(crate) skipped: f64,
}

impl Bursts {
    pub(crate) fn late_share(&self) -> f64 {
        1.0 - self.in_time / self.begun.max(1.0)
    }
}

/// What `start` starts has one core.
fn on_one_core<T>(start: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).expect("one's own cores may be asked for");
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap_or(0));
    sched_setaffinity(None, &one).expect("fewer cores may be asked for");
    let started = start();
    sched_setaffinity(None, &all).expect("they were there before");
    started
}
