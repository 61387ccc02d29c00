//! Many targets, each asked by one user: what one more costs, and whether bursts begin when they are due.

use std::{thread, time::Duration};

use tokio::time::Instant;

use crate::{
    exporter::{Exporter, simulator},
    support::Bound,
};

/// How long each number of targets is probed for its cost.
const COSTS: Duration = Duration::from_secs(40);

/// As Prometheus does.
const SCRAPE: Duration = Duration::from_secs(15);

/// What some number of targets took.
struct Row {
    targets: u32,
    armed: f64,
    memory: f64,
    /// CPU seconds.
    burst: f64,
}

/// Prints the line.
pub(crate) fn cost() -> Vec<Bound> {
    let simulator = simulator();
    // What is there without bursts: heartbeat, health, pages.
    let idle = Exporter::start(&simulator, 10, "cron: '0 0 1 1 *'");
    thread::sleep(Duration::from_secs(2));
    let (begun, before) = (Instant::now(), idle.cpu_seconds());
    thread::sleep(Duration::from_secs(10));
    let base = (idle.cpu_seconds() - before) / begun.elapsed().as_secs_f64();
    drop(idle);

    println!(
        "{:>8}{:>16}{:>14}{:>18}{:>16}",
        "targets", "armed after, ms", "idle, MB", "KB a target more", "CPU ms a burst"
    );
    let mut rows: Vec<Row> = Vec::new();
    for targets in [10, 100, 1000] {
        let exporter = Exporter::start(&simulator, targets, "every: 10s");
        let armed = exporter.armed.as_secs_f64() * 1e3;
        let memory = exporter.memory();
        // The first bursts make connections to code that has never run.
        thread::sleep(Duration::from_secs(10));
        let (first, begun, before) = (exporter.bursts(), Instant::now(), exporter.cpu_seconds());
        thread::sleep(COSTS);
        // Before the scrape, which costs more than all the rest.
        let cpu = exporter.cpu_seconds() - before - base * begun.elapsed().as_secs_f64();
        let last = exporter.bursts();
        let burst = cpu / (last.ended - first.ended).max(1.0);
        let more = rows.last().map(|row| {
            let more = f64::from(targets - row.targets);
            format!("{:.0}", (memory - row.memory) * 1e3 / more)
        });
        println!(
            "{targets:>8}{armed:>16.0}{memory:>14.1}{:>18}{:>16.2}",
            more.unwrap_or_else(|| "–".to_owned()),
            burst * 1e3
        );
        rows.push(Row {
            targets,
            armed,
            memory,
            burst,
        });
    }
    let of = |targets: u32| rows.iter().find(move |row| row.targets == targets);
    let bound = |what: &str, measured, most, unit| Bound {
        what: what.to_owned(),
        measured,
        most,
        unit,
    };
    vec![
        bound(
            "100 targets: idle memory",
            of(100).map(|row| row.memory),
            25.0,
            "MB",
        ),
        bound(
            "1,000 targets: idle memory",
            of(1000).map(|row| row.memory),
            160.0,
            "MB",
        ),
        bound(
            "100 targets: start to armed schedule",
            of(100).map(|row| row.armed),
            100.0,
            "ms",
        ),
        bound(
            "1,000 targets: start to armed schedule",
            of(1000).map(|row| row.armed),
            100.0,
            "ms",
        ),
        bound(
            "CPU of a burst with 1,000 targets over that with 10",
            of(1000).zip(of(10)).map(|(many, few)| many.burst / few.burst),
            1.3,
            "times",
        ),
    ]
}

/// A thousand targets, one burst a minute each, scraped as Prometheus does.
pub(crate) fn schedule(minutes: u32) -> Vec<Bound> {
    let simulator = simulator();
    let exporter = Exporter::start(&simulator, 1000, "every: 1m");
    let begun = Instant::now();
    let whole = Duration::from_mins(u64::from(minutes));
    let (mut settled, mut cpu) = (None, 0.0);
    while begun.elapsed() < whole {
        thread::sleep(SCRAPE);
        exporter.scrape();
        // All bursts have been fired once and all their series have been used.
        if begun.elapsed() > Duration::from_secs(75) && settled.is_none() {
            settled = Some(exporter.memory());
            cpu = exporter.cpu_seconds();
        }
    }
    let (memory, bursts) = (exporter.memory(), exporter.bursts());
    let cores = (exporter.cpu_seconds() - cpu)
        / begun
            .elapsed()
            .saturating_sub(Duration::from_secs(75))
            .as_secs_f64();
    println!(
        "\n1,000 targets, one burst a minute each, for {minutes} min on one core: {} bursts, {:.2} % of them more than 20 ms late, \
         {} skipped, {} of {} requests failed; {memory:.0} MB, {:.0} MB when all had been fired once; {:.1} % of the core, scrapes included",
        bursts.begun,
        bursts.late_share() * 100.0,
        bursts.skipped,
        bursts.failures,
        bursts.requests,
        settled.unwrap_or(f64::NAN),
        cores * 100.0
    );
    let bound = |what: &str, measured, most, unit| Bound {
        what: format!("1,000 targets: {what}"),
        measured,
        most,
        unit,
    };
    // p99 < 20 ms: no more than one in a hundred is later.
    vec![
        bound(
            "bursts more than 20 ms late",
            Some(bursts.late_share() * 100.0),
            1.0,
            "%",
        ),
        bound(
            "bursts skipped or failed",
            Some(bursts.skipped + bursts.failures),
            0.0,
            "",
        ),
        bound("memory", Some(memory), 160.0, "MB"),
        bound(
            "memory, of that after the first bursts",
            settled.map(|settled| memory / settled),
            1.05,
            "times",
        ),
    ]
}
