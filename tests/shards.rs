//! Shards: several exporters with the same configuration, which together probe everything once.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/simulator.rs"]
mod simulator;

use std::collections::{BTreeMap, BTreeSet};

use llm_probe_exporter::sim::Settings;
use process::{Exporter, program, run};
use simulator::Simulator;

const SHARDS: usize = 3;
const TARGETS: usize = 6;

/// Two probes at each target; ladders of two steps.
fn config(simulator: &Simulator, targets: usize) -> String {
    let target = |at: usize| {
        format!(
            "  - {{ name: target-{at}, url: 'http://{}/v1', api: openai_chat, model: simulated, share: {} }}\n",
            simulator.address,
            at.is_multiple_of(2)
        )
    };
    let listed: String = (0..targets).map(target).collect();
    "targets:\n".to_owned()
        + &listed
        + "defaults: { prompt: { text: Say something }, max_tokens: 4, every: 500ms, settle: 1ms, ladder: [{ users: 1 }, { users: 2 }] }\n\
            probes: [{ name: first }, { name: second }]\n"
}

fn shards(config: &str) -> Vec<Exporter> {
    let start = |index: usize| {
        let which = [
            format!("--shard.index={index}"),
            format!("--shard.total={SHARDS}"),
        ];
        Exporter::start(config, &[&which[0], &which[1], "--web.enable-lifecycle"])
    };
    (0..SHARDS).map(start).collect()
}

/// The shards that run each series of a burst.
fn runners(shards: &[Exporter]) -> BTreeMap<String, Vec<usize>> {
    let mut runners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, shard) in shards.iter().enumerate() {
        for (series, _) in shard.metrics().find("bursts_total", &[]) {
            runners.entry(series.to_owned()).or_default().push(at);
        }
    }
    runners
}

#[test]
fn everything_is_probed_once_also_after_a_reload() {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..Settings::default()
    });
    let text = config(&simulator, TARGETS);
    let shards = shards(&text);
    let before = runners(&shards);
    assert_eq!(before.len(), TARGETS * 4, "{before:#?}");
    assert!(before.values().all(|shards| shards.len() == 1), "{before:#?}");
    let busy: BTreeSet<_> = before.values().flatten().collect();
    assert_eq!(busy.len(), SHARDS, "{before:#?}");
    for (at, shard) in shards.iter().enumerate() {
        let samples = shard.wait_for("all of its series have bursts", |samples| {
            let mut bursts = samples.find("bursts_total", &[]);
            bursts.all(|(_, bursts)| bursts > 0.0)
        });
        let labels = [format!("index=\"{at}\""), format!("total=\"{SHARDS}\"")];
        assert_eq!(samples.count("exporter_shard_info", &[&labels[0], &labels[1]]), 1);
        assert_eq!(samples.count("exporter_shards", &[]), SHARDS as u64);
        let page = shard.get("/").body;
        assert!(page.contains(&format!("shard {at} of {SHARDS}")), "{page}");
        let log = shard.process.log();
        assert!(
            log.contains(&format!("message=shard index={at} total={SHARDS}")),
            "{log}"
        );
    }

    let more = config(&simulator, TARGETS + 2);
    for shard in &shards {
        shard.configure(&more);
        let answer = shard.post("/-/reload");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(
            answer.body.contains("0 changed, 0 removed"),
            "what was there stays where it was: {}",
            answer.body
        );
    }
    let after = runners(&shards);
    assert_eq!(after.len(), (TARGETS + 2) * 4, "{after:#?}");
    assert!(after.values().all(|shards| shards.len() == 1), "{after:#?}");
}

#[test]
fn a_shard_without_anything_to_run_is_ready() {
    let simulator = Simulator::start(Settings::default());
    let text = config(&simulator, 2)
        .replace("target-1", "other")
        .replace("share: true", "share: false");
    let shards = shards(&text);
    let idle = shards
        .iter()
        .find(|shard| shard.metrics().find("bursts_total", &[]).count() == 0)
        .expect("two targets, three shards");
    idle.wait_for("it is armed", |_| idle.get("/-/ready").status == 200);
}

#[test]
fn contradictions_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    std::fs::write(
        &file,
        "targets: [{ name: t, url: 'http://localhost/v1', api: openai_chat, model: m }]\nprobes: [{ name: p }]\n",
    )
    .unwrap();
    let file = format!("--config.file={}", file.display());
    for (args, error) in [
        (
            vec!["--shard.index=3", "--shard.total=3"],
            "--shard.index=3 is not below --shard.total=3",
        ),
        (
            vec!["--shard.total=3"],
            "write --shard.index or --shard.from-hostname",
        ),
        (vec!["--shard.index=0"], "write --shard.total"),
        (
            vec!["--shard.index=0", "--shard.total=2", "--shard.from-hostname"],
            "cannot be used with",
        ),
    ] {
        let output = run(&[&["check", &file], &*args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(error), "{args:?}: {said}");
    }
    // The same contradiction, half of it from the environment.
    let output = program()
        .args(["check", &file, "--shard.from-hostname", "--shard.total=2"])
        .env("LLM_PROBE_SHARD_INDEX", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot be used with"), "{said}");
}
