//! Ten thousand streams at the same time, one token a second each.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde::Deserialize;

use crate::support::{Bound, machine, process::Running};

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
    itl: Option<Stats>,
    #[serde(default)]
    first_failure: Option<String>,
    #[serde(default)]
    first_invalid: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Stats {
    p50: f64,
    p99: f64,
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
         prompt: {{ text: Count }}, protect: off, timeouts: {{ total: 2m }} }}\n",
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
    let itl = said.iter().filter_map(|burst| burst.itl.as_ref());
    let worst = itl.clone().map(|itl| itl.p99).fold(0.0, f64::max);
    let usual = itl.map(|itl| itl.p50).fold(0.0, f64::max);
    println!(
        "\n{at_once} streams at once, one token a second each: {successes} succeeded, ITL p50 {usual:.4} s, p99 {worst:.4} s; {peak:.0} MB"
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
        bound("ITL p99, of a token a second", worst, 1.01, "s"),
    ])
}
