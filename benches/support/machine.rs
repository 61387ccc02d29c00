//! The machine that a bench runs on, and what its processes take of it.

use std::fs;

use rustix::{
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// CPU time that all threads of this process have taken, in seconds.
pub(crate) fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A figure of `/proc/ID/status`, in MB.
pub(crate) fn memory(process: &str, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    // A process that has just ended has none.
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

/// What a process and its descendants hold, pages that several share counted once (PSS), in MB.
pub(crate) fn family_memory(process: u32) -> f64 {
    let processes = fs::read_dir("/proc").expect("the kernel tells of processes");
    let parents: Vec<(u32, u32)> = processes
        .filter_map(|process| {
            let process = process.ok()?;
            let id = process.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(process.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    let mut family = vec![process];
    let mut looked_at = 0;
    while let Some(&member) = family.get(looked_at) {
        looked_at += 1;
        family.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == member)
                .map(|(id, _)| *id),
        );
    }
    let held = family.iter().filter_map(|member| {
        let smaps = fs::read_to_string(format!("/proc/{member}/smaps_rollup")).ok()?;
        let line = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    });
    held.sum::<f64>() * 1024.0 / 1e6
}

/// CPU time that a process has taken, that of its ended children included, in seconds.
pub(crate) fn cpu_seconds(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, which may hold anything, ends with the last bracket.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(4);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// CPU time that the threads of a process have taken which are still there, to the nanosecond.
pub(crate) fn exact_cpu_seconds(process: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let taken = threads.filter_map(|thread| {
        let schedstat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        schedstat.split_whitespace().next()?.parse::<f64>().ok()
    });
    taken.sum::<f64>() / 1e9
}

/// Of `/proc`, a second; the same on all machines that this runs on.
const TICKS: f64 = 100.0;

/// What the cores did since the machine started, in seconds: all together, and busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    all: f64,
    busy: f64,
}

impl Cores {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let ticks: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|ticks| ticks.parse().ok())
            .collect();
        let all: f64 = ticks.iter().sum();
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        Self {
            all: all / TICKS,
            busy: (all - idle) / TICKS,
        }
    }

    /// The share of the cores since `before` that others had, where we had `ours` seconds.
    pub(crate) fn share_of_others(self, before: Self, ours: f64) -> f64 {
        let all = (self.all - before.all).max(f64::MIN_POSITIVE);
        ((self.busy - before.busy - ours) / all).clamp(0.0, 1.0)
    }
}

/// Processes that ran or wanted to in the last minute, on average.
pub(crate) fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// As many open files as the system allows, for this process and those that it starts; how many that is.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
    limit.maximum
}
