//! Prompts and the server's prefix cache: the program against simulated servers that know what they cached.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/simulator.rs"]
mod simulator;

use std::net::SocketAddr;

use llm_probe_exporter::sim::Settings;
use process::Exporter;
use simulator::Simulator;

fn quick(faults: &[&str]) -> Settings {
    Settings {
        speed: 10.0,
        slots: Some(64),
        faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
        ..Settings::default()
    }
}

fn config(address: SocketAddr, probes: &str) -> String {
    format!(
        "targets: [{{ name: target, url: 'http://{address}/v1', api: openai_chat, model: simulated }}]\n\
         defaults: {{ every: 200ms, requests: 1, max_tokens: 5 }}\nprobes:\n{probes}"
    )
}

#[test]
fn a_cold_probe_that_is_served_from_cache_is_counted_as_such() {
    let simulator = Simulator::start(quick(&["cache=10000"]));
    // Of `short`, the simulator's chat template makes more than half, which all prompts begin with.
    let probes = "  - { name: warm, prompt: { tokens: 64, cache: share } }\n  \
                  - { name: cold, prompt: { tokens: 64 } }\n  \
                  - { name: short, prompt: { tokens: 1 } }\n";
    let exporter = Exporter::start(&config(simulator.address, probes), &[]);
    let found = "prompt_cache_requests_total";
    let samples = exporter.wait_for("prompts are found in the cache", |samples| {
        let hits = |probe: &str| samples.count(found, &["found=\"hit\"", probe]);
        let missed = samples.count(found, &["found=\"miss\"", "probe=\"cold\""]);
        hits("probe=\"warm\"") >= 3 && hits("probe=\"short\"") >= 3 && missed >= 3
    });
    let count = |labels: &[&str]| samples.count(found, labels);
    // The first one fills the cache.
    assert_eq!(count(&["expected=\"warm\"", "found=\"miss\""]), 1);
    assert_eq!(count(&["probe=\"cold\"", "found=\"hit\""]), 0);
    assert_eq!(count(&["probe=\"warm\"", "expected=\"cold\""]), 0);
    assert!(count(&["probe=\"short\"", "expected=\"cold\"", "found=\"hit\""]) >= 3);
    assert_eq!(count(&["found=\"unknown\""]), 0);
    let log = exporter.process.log();
    let warned: Vec<_> = log
        .lines()
        .filter(|line| line.contains("meant to be new to it"))
        .collect();
    assert!(warned.len() >= 2, "{log}");
    assert!(warned.iter().all(|line| line.contains("short")), "{warned:?}");
}

#[test]
fn what_a_server_does_not_say_is_unknown() {
    let simulator = Simulator::start(quick(&[]));
    let exporter = Exporter::start(
        &config(simulator.address, "  - { name: cold, prompt: { tokens: 64 } }\n"),
        &[],
    );
    let samples = exporter.wait_for("requests", |samples| samples.count("requests_total", &[]) >= 2);
    let found = "prompt_cache_requests_total";
    assert_eq!(
        samples.count(found, &["found=\"unknown\""]),
        samples.count("requests_total", &[])
    );
    assert!(!exporter.process.log().contains("meant to be new to it"));
}
