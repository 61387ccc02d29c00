//! The diagnosis names the truth, against the engine in virtual time and against the simulator over sockets.
#![cfg(test)]

mod cases;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "../support/process.rs"]
mod process;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "../support/simulator.rs"]
mod simulator;

use std::fs;

use llm_probe_exporter::sim::Settings;
use process::{Exporter, eventually, run};
use rustix::process::Signal;
use serde_json::Value;
use simulator::Simulator;

/// The bench has a hundred runs of each.
#[test]
fn the_truth_is_named() {
    for (name, truth, run) in cases::all() {
        let named = (1000..1020)
            .map(|seed| run(&mut fastrand::Rng::with_seed(seed)))
            .filter(|diagnosis| {
                let right = truth.is_named_by(diagnosis);
                if !right {
                    println!("{name}: {} {:?}", diagnosis.sentence, diagnosis.slots);
                }
                right
            })
            .count();
        assert!(named >= 19, "{name}: {named} of 20");
    }
}

/// A laptop with so many slots, ten times as fast.
fn laptop(slots: usize) -> Simulator {
    Simulator::start(Settings {
        speed: 10.0,
        slots: Some(slots),
        ..Settings::default()
    })
}

fn config(simulator: &Simulator, probe: &str) -> String {
    format!(
        "targets: [{{ name: laptop, url: 'http://{}/v1', api: openai_chat, model: simulated }}]\nprobes: [{probe}]\n",
        simulator.address
    )
}

#[test]
fn once_says_that_requests_queue_and_for_how_many_slots() {
    for slots in [1, 4] {
        let simulator = laptop(slots);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("probes.yaml");
        let ladder = "{ name: ladder, settle: 100ms, ladder: [{ users: 1, requests: 3 }, { users: 50 }] }";
        fs::write(&file, config(&simulator, ladder)).unwrap();
        let config = format!("--config.file={}", file.display());
        let recording = folder.path().join("requests.jsonl");
        let record = format!("--record={}", recording.display());
        let output = run(&["once", "--output=json", &config, &record]);
        let bursts: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (alone, fifty) = (&bursts[0]["diagnosis"], &bursts[1]["diagnosis"]);
        assert_eq!(alone["load_inflation"]["ttft"], 1.0, "{alone}");
        assert_eq!(fifty["cause"], "queue", "{fifty}");
        let found = fifty["slots"]["slots"].as_u64().unwrap();
        assert!(found.abs_diff(slots as u64) <= u64::from(slots > 1), "{fifty}");
        assert!(fifty["load_inflation"]["ttft"].as_f64().unwrap() > 3.0, "{fifty}");
        let sentence = fifty["sentence"].as_str().unwrap();
        for expected in [
            "50 users: first token after ",
            " times the single user's",
            ": requests wait in the queue; the server works on about ",
        ] {
            assert!(sentence.contains(expected), "{sentence}");
        }
        // A replay says the same.
        let replay = format!("--replay={}", recording.display());
        let output = run(&["once", &replay]);
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(table.contains(sentence), "{sentence}\n{table}");
    }
}

#[test]
fn a_restart_forgets_no_baseline() {
    let simulator = laptop(8);
    let kept = tempfile::tempdir().unwrap();
    let storage = format!("--storage.path={}", kept.path().display());
    let probe = "{ name: one, every: 100ms, max_tokens: 5 }";
    let config = config(&simulator, probe);
    let exporter = Exporter::start(&config, &[&storage]);
    let samples = exporter.wait_for("there is a baseline", |samples| {
        samples.sum("baseline_time_to_first_token_seconds", &[]) > 0.0
    });
    let learned = samples.count("baseline_bursts", &[]);
    assert!(learned >= 9, "{learned}");
    let file = kept.path().join("state.json");
    eventually("it is saved", || {
        let text = fs::read_to_string(&file).ok()?;
        let state: Value = serde_json::from_str(&text).ok()?;
        let mut baselines = state["baselines"].as_object()?.values();
        (baselines.next()?["bursts"].as_u64()? >= 10).then_some(())
    });
    assert!(exporter.process.log().contains("diagnosis="));
    assert!(exporter.get("/").body.contains("1 user: first token after "));
    exporter.process.signal(Signal::KILL);
    drop(exporter);

    let exporter = Exporter::start(&config, &[&storage]);
    let samples = exporter.wait_for("a burst is compared with it", |samples| {
        samples.sum("baseline_time_to_first_token_seconds", &[]) > 0.0
    });
    let bursts = samples.count("bursts_total", &[]);
    assert!(samples.count("baseline_bursts", &[]) >= bursts + 8, "{bursts}");
}
