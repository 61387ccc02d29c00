//! Ten thousand streams at the same time, one token a second each.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde::Deserialize;

use llm_probe_exporter::{accuracy::Truth, quantile::percentile, sim::journal};

use crate::support::{
    Bound, machine,
    process::{Running, answer},
};

const STREAMS: u32 = 10_000;

/// A simulated server takes 8,192 connections at most.
const SERVERS: u32 = 2;

const EACH: u32 = STREAMS / SERVERS;

/// Tokens of an answer; the first comes after ten seconds, when all streams are there.
const TOKENS: u32 = 20;

/// File descriptors that a process has beside its streams.
const OTHERS: u64 = 256;

/// What `once` says of a burst.
#[derive(Debug, Deserialize)]
struct Said {
    successes: u64,
    peak_in_flight: u64,
    ttft: Option<Stats>,
    itl: Option<Stats>,
    #[serde(default)]
    first_failure: Option<String>,
    #[serde(default)]
    first_invalid: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Stats {
    p99: f64,
}

/// The p99 of what a server really did, of times to first token and of latencies between tokens, in seconds.
fn truth(server: &Running) -> Option<(f64, f64)> {
    let page = answer(server.address, "/sim/requests?limit=20000", "");
    let page: journal::Page = serde_json::from_slice(&page).expect("the journal is JSON");
    let truths: Vec<_> = page
        .requests
        .iter()
        .filter_map(|record| Truth::of(record))
        .collect();
    let p99 = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        percentile(&values, 99)
    };
    let ttft = p99(truths.iter().map(|truth| truth.ttft).collect())?;
    let itl = p99(truths.iter().filter_map(|truth| truth.itl).collect())?;
    Some((ttft, itl))
}

/// With so many file descriptors a process at most.
pub(crate) fn measure(descriptors: Option<u64>) -> Result<Vec<Bound>, String> {
    let needed = u64::from(STREAMS) + OTHERS;
    if descriptors.is_some_and(|limit| limit < needed) {
        return Err(format!(
            "{STREAMS} streams need {needed} file descriptors, and the hard limit here is {}; raise it (`ulimit -Hn` as root)",
            descriptors.unwrap_or_default()
        ));
    }
    let slots = format!("--slots={EACH}");
    let servers: Vec<_> = (0..SERVERS)
        .map(|_| {
            let mut server = Running::start(&[
                "simulate",
                "--listen-address=127.0.0.1:0",
                "--profile=8b-h100",
                &slots,
                "--speed=1000",
                "--fault=stall=10s",
                "--fault=drip=1s",
            ]);
            server.let_it_talk();
            server
        })
        .collect();
    let targets = (0..).zip(&servers).map(|(number, server): (u32, _)| {
        let address = server.address;
        format!("  - {{ name: s{number}, url: 'http://{address}/v1', api: openai_chat, model: simulated }}\n")
    });
    let text = format!(
        "global: {{ max_in_flight: {STREAMS} }}\ntargets:\n{}probes:\n  - {{ name: many, concurrency: {EACH}, max_tokens: {TOKENS}, \
         prompt: {{ text: Count }}, protect: off, timeouts: {{ connect: 30s, total: 2m }} }}\n",
        targets.collect::<String>()
    );
    let folder = tempfile::tempdir().expect("there is room for a file");
    let file = folder.path().join("probes.yaml");
    std::fs::write(&file, text).expect("there is room for a file");
    let mut once = Command::new(env!("CARGO_BIN_EXE_llm-probe-exporter"))
        .args(["once", "--output=json"])
        .arg(format!("--config.file={}", file.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let id = once.id();
    let mut peak = 0.0_f64;
    // Its answer is short, so that it need not be read before the end.
    let ended = loop {
        thread::sleep(Duration::from_millis(200));
        match once.try_wait().expect("it is our child") {
            Some(ended) => break ended,
            None => peak = peak.max(machine::memory(&id.to_string(), "VmHWM")),
        }
    };
    let output = once.wait_with_output().expect("it is our child");
    assert!(
        ended.code().is_some_and(|code| code == 0 || code == 3),
        "once failed: {ended}"
    );
    let said: Vec<Said> = serde_json::from_slice(&output.stdout).expect("it says what it found");
    let successes: u64 = said.iter().map(|burst| burst.successes).sum();
    let at_once: u64 = said.iter().map(|burst| burst.peak_in_flight).sum();
    // Targets are told of in the order of the plan.
    let mut above = (0.0_f64, 0.0_f64);
    let mut itl = 0.0_f64;
    for (burst, server) in said.iter().zip(&servers) {
        if let (Some(ttft), Some(measured), Some(truth)) = (&burst.ttft, &burst.itl, truth(server)) {
            above.0 = above.0.max((ttft.p99 - truth.0).abs());
            above.1 = above.1.max((measured.p99 - truth.1).abs());
            itl = itl.max(measured.p99);
        }
    }
    println!(
        "\n{at_once} streams at once, one token a second each: {successes} succeeded; TTFT p99 {:.1} ms off the truth, \
         ITL p99 {:.3} ms off and {itl:.3} s; {peak:.0} MB",
        above.0 * 1e3,
        above.1 * 1e3
    );
    for burst in &said {
        for problem in [&burst.first_failure, &burst.first_invalid].into_iter().flatten() {
            println!("  {problem}");
        }
    }
    let bound = |what: &str, measured: f64, most, unit| Bound {
        what: format!("{STREAMS} streams: {what}"),
        measured: Some(measured),
        most,
        unit,
    };
    Ok(vec![
        bound("fewer at once", f64::from(STREAMS) - at_once as f64, 0.0, ""),
        bound("lost", f64::from(STREAMS) - successes as f64, 0.0, ""),
        bound("ITL p99 off the truth", above.1 * 1e3, 1.0, "ms"),
    ])
}
