//! Prompts and the server's prefix cache: the program against simulated servers that know what they cached.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::net::SocketAddr;

use llm_probe_exporter::sim::{Profile, Settings};
use process::{Exporter, eventually, run};
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

#[test]
fn made_up_prompts_are_as_long_as_they_are_to_be_by_the_servers_count() {
    // One answers only requests, the other counts when it is asked.
    for (profile, unmeasured) in [(Profile::LAPTOP, 2), (Profile::H100_8B, 0)] {
        let simulator = Simulator::start(Settings {
            profile,
            tokens_per_word: 1.37,
            template_tokens: 11,
            ..quick(&[])
        });
        let probes = [32, 300, 2000].map(|tokens| {
            format!("  - {{ name: of-{tokens}, requests: 3, prompt: {{ tokens: {tokens} }} }}\n")
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("probes.yaml");
        std::fs::write(&file, config(simulator.address, &probes.concat())).unwrap();
        let once = run(&["once", &format!("--config.file={}", file.display())]);
        let said = String::from_utf8(once.stdout).unwrap();
        assert!(said.contains("prompts: 300 tokens asked, "), "{said}");

        let mut requests = simulator.requests();
        requests.retain(|request| request.output_tokens > 1);
        let mut counted: Vec<_> = requests.iter().map(|request| request.prompt_tokens).collect();
        counted.sort_unstable();
        let asked = [32, 32, 32, 300, 300, 300, 2000, 2000, 2000_u64];
        assert_eq!(counted.len(), asked.len());
        for (counted, asked) in counted.into_iter().zip(asked) {
            let off = counted.abs_diff(asked);
            assert!(off <= (asked / 50).max(2), "{asked} asked, {counted} counted");
        }
        assert_eq!(simulator.requests().len() - requests.len(), unmeasured);
    }
}

#[test]
fn a_pair_shows_what_the_prefix_cache_gives() {
    let simulator = Simulator::start(quick(&["cache=100000"]));
    let probe =
        "  - { name: chat, requests: 3, prompt: { tokens: 1000, prefix_tokens: 900, cache: pair } }\n";
    let exporter = Exporter::start(&config(simulator.address, probe), &[]);
    let (cold, warm) = ("probe=\"chat-cold\"", "probe=\"chat-warm\"");
    let samples = exporter.wait_for("both were fired", |samples| {
        let requests = |probe: &str| samples.count("requests_total", &[probe]);
        requests(cold) >= 6 && requests(warm) >= 6
    });
    let ttft = |probe: &str| {
        let of = |part: &str| samples.sum(&format!("time_to_first_token_seconds_{part}"), &[probe]);
        of("sum") / of("count")
    };
    // 900 tokens of 60 µs each need no work.
    assert!(ttft(warm) + 0.03 < ttft(cold), "{} {}", ttft(warm), ttft(cold));
    let found = |labels: &[&str]| samples.count("prompt_cache_requests_total", labels);
    assert_eq!(
        found(&[cold, "expected=\"cold\"", "found=\"miss\""]),
        samples.count("requests_total", &[cold])
    );
    assert_eq!(
        found(&[warm, "expected=\"warm\"", "found=\"hit\""]),
        samples.count("requests_total", &[warm])
    );
    drop(exporter);
    let cached: Vec<_> = simulator
        .requests()
        .iter()
        .map(|request| request.cached_tokens)
        .filter(|cached| *cached > 100)
        .collect();
    // The template opens with four.
    assert!(
        cached.iter().all(|cached| (900..=910).contains(cached)),
        "{cached:?}"
    );
}

#[test]
fn warm_up_takes_no_line_of_a_file_away() {
    let simulator = Simulator::start(Settings::default());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl");
    let long = "word ".repeat(200);
    std::fs::write(&file, format!("\"short\"\n\"{long}\"\n")).unwrap();
    let config = format!(
        "targets: [{{ name: target, url: 'http://{}/v1', api: openai_chat, model: simulated }}]\n\
         probes: [{{ name: lines, every: 300ms, warmup: 1, max_tokens: 2, prompt: {{ file: '{}' }} }}]\n",
        simulator.address,
        file.display()
    );
    let exporter = Exporter::start(&config, &[]);
    // Nothing is due before the first scrape.
    exporter.metrics();
    eventually("both lines are asked", || {
        let requests = simulator.requests();
        let long = requests
            .iter()
            .filter(|request| request.prompt_tokens > 100)
            .count();
        (long >= 2 && requests.len() > long).then_some(())
    });
}
