//! Reloads: the program follows its configuration while it probes a simulated server that knows what it was asked.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::fs;

use llm_probe_exporter::sim::{Settings, journal::End};
use process::{Answer, Exporter, eventually};
use rustix::process::Signal;
use simulator::Simulator;

fn simulator() -> Simulator {
    Simulator::start(Settings {
        slots: Some(64),
        ..Settings::default()
    })
}

fn config(simulator: &Simulator, probes: &str) -> String {
    format!(
        "targets: [{{ name: target, url: 'http://{}/v1', api: openai_chat, model: simulated, share: true }}]\n\
         defaults: {{ prompt: {{ text: Say something }}, max_tokens: 4, every: 200ms }}\nprobes:\n{probes}",
        simulator.address
    )
}

const STEADY: &str = "  - { name: steady }\n";
/// A burst of a minute.
const LONG: &str = "  - { name: long, every: 2s, concurrency: 2, max_tokens: 6000 }\n";

fn reload(exporter: &Exporter, config: &str) -> Answer {
    exporter.configure(config);
    exporter.post("/-/reload")
}

fn start(config: &str) -> Exporter {
    Exporter::start(config, &["--web.enable-lifecycle"])
}

#[test]
fn what_is_not_changed_goes_on_and_what_is_removed_goes() {
    let simulator = simulator();
    let probes =
        format!("{STEADY}{LONG}  - {{ name: leaving, every: 2s, concurrency: 3, max_tokens: 6000 }}\n");
    let exporter = start(&config(&simulator, &probes));
    let before = exporter.wait_for("both long bursts run, and the short one has", |samples| {
        samples.count("requests_in_flight", &["probe=\"long\""]) == 2
            && samples.count("requests_in_flight", &["probe=\"leaving\""]) == 3
            && samples.count("requests_total", &["probe=\"steady\""]) >= 2
    });

    let answer = reload(
        &exporter,
        &config(&simulator, &format!("  - {{ name: new }}\n{LONG}{STEADY}")),
    );
    assert_eq!(
        (answer.status, &*answer.body),
        (
            200,
            "reloaded: 1 added, 0 changed, 1 removed, 2 unchanged (probes at targets)\n"
        )
    );
    let after = exporter.metrics();
    assert_eq!(after.find("requests_total", &["probe=\"leaving\""]).count(), 0);
    assert_eq!(after.count("requests_in_flight", &["probe=\"long\""]), 2);
    let steady = ["probe=\"steady\""];
    assert!(after.count("requests_total", &steady) >= before.count("requests_total", &steady));
    assert!(after.sum("burst_armed_timestamp_seconds", &steady) > 0.0);
    assert!(
        (after.sum("burst_armed_timestamp_seconds", &steady)
            - before.sum("burst_armed_timestamp_seconds", &steady))
        .abs()
            < 1e-3
    );
    assert_eq!(after.count("exporter_config_last_reload_successful", &[]), 1);

    // The server saw the requests of the removed probe go, and no others.
    eventually("the server saw them go", || {
        (simulator
            .requests()
            .iter()
            .filter(|request| request.end == End::Disconnected)
            .count()
            == 3)
            .then_some(())
    });
    let later = exporter.wait_for("both probes go on", |samples| {
        samples.count("requests_total", &["probe=\"new\""]) >= 2
            && samples.count("requests_total", &steady) > after.count("requests_total", &steady)
    });
    assert_eq!(later.count("requests_in_flight", &["probe=\"long\""]), 2);
    assert_eq!(later.count("invalid_requests_total", &[]), 0);
    let page = exporter.get("/").body;
    assert!(page.contains("new") && !page.contains("leaving"), "{page}");
}

#[test]
fn what_is_changed_begins_anew_and_its_counters_go_on() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, STEADY));
    let before = exporter.wait_for("it has begun", |samples| {
        samples.count("requests_total", &[]) >= 2
    });
    let changed = "  - { name: steady, max_tokens: 5 }\n";
    let answer = reload(&exporter, &config(&simulator, changed));
    assert!(
        answer.body.contains("1 changed, 0 removed, 0 unchanged"),
        "{}",
        answer.body
    );
    exporter.wait_for("it goes on with five tokens", |samples| {
        samples.count("requests_total", &[]) > before.count("requests_total", &[])
            && simulator
                .requests()
                .last()
                .is_some_and(|request| request.output_tokens == 5)
    });
}

#[test]
fn a_probe_that_gets_another_target_is_not_disturbed_at_the_one_it_has() {
    let (simulator, other) = (simulator(), simulator());
    let one = config(&simulator, LONG);
    let exporter = start(&one);
    exporter.wait_for("its burst runs", |samples| {
        samples.count("requests_in_flight", &[]) == 2
    });
    let two = one.replace(
        "targets: [",
        &format!(
            "targets: [{{ name: other, url: 'http://{}/v1', api: openai_chat, model: simulated }}, ",
            other.address
        ),
    );
    let answer = reload(&exporter, &two);
    assert!(
        answer.body.contains("1 added, 0 changed, 0 removed, 1 unchanged"),
        "{}",
        answer.body
    );
    exporter.wait_for("both run", |samples| {
        samples.count("requests_in_flight", &["target=\"target\""]) == 2
            && samples.count("requests_in_flight", &["target=\"other\""]) == 2
    });
    assert_eq!(exporter.metrics().count("requests_total", &[]), 0);
}

#[test]
fn a_bad_configuration_changes_nothing_and_is_told() {
    let simulator = simulator();
    let good = config(&simulator, STEADY);
    let exporter = start(&good);
    exporter.wait_for("it has begun", |samples| {
        samples.count("requests_total", &[]) >= 1
    });
    let loaded = exporter
        .metrics()
        .sum("exporter_config_last_reload_success_timestamp_seconds", &[]);
    for (bad, said) in [
        ("", "the configuration is empty"),
        ("probes: [", "probes.yaml:2:1"),
        (&*good.replace("every: 200ms", "every: tomorrow"), "tomorrow"),
        (
            &*format!("global: {{ labels: [team] }}\n{good}"),
            "restart the exporter",
        ),
        (
            &*format!("metrics: {{ native_histograms: true }}\n{good}"),
            "`metrics` has changed",
        ),
        (
            &*good
                .replace("'http://", "'https://")
                .replace("share: true", "tls: { ca_file: probes.yaml }"),
            "ca_file",
        ),
    ] {
        let answer = reload(&exporter, bad);
        assert_eq!(answer.status, 500);
        assert!(
            answer.body.contains(said) && answer.body.ends_with("stays in force\n"),
            "{}",
            answer.body
        );
        let samples = exporter.metrics();
        assert_eq!(samples.count("exporter_config_last_reload_successful", &[]), 0);
        assert!(
            (samples.sum("exporter_config_last_reload_success_timestamp_seconds", &[]) - loaded).abs() < 1e-3
        );
    }
    let before = exporter.metrics().count("requests_total", &[]);
    exporter.wait_for("it goes on", |samples| {
        samples.count("requests_total", &[]) > before
    });
    assert_eq!(reload(&exporter, &good).status, 200);
    assert_eq!(
        exporter
            .metrics()
            .count("exporter_config_last_reload_successful", &[]),
        1
    );
}

#[test]
fn a_signal_and_a_change_of_the_file_do_the_same_and_a_request_only_where_it_may() {
    let simulator = simulator();
    let exporter = Exporter::start(&config(&simulator, STEADY), &["--config.watch"]);
    let refused = exporter.post("/-/reload");
    assert_eq!(refused.status, 403);
    assert!(
        refused.body.contains("--web.enable-lifecycle"),
        "{}",
        refused.body
    );
    let has = |probe: &str| {
        let label = format!("probe=\"{probe}\"");
        exporter.wait_for(probe, |samples| {
            samples.find("requests_total", &[&*label]).count() == 1
                && samples.find("requests_total", &[]).count() == 1
        });
    };
    has("steady");
    exporter.configure(&config(&simulator, "  - { name: second }\n"));
    has("second");
    let exporter = Exporter::start(&config(&simulator, STEADY), &[]);
    exporter.configure(&config(&simulator, "  - { name: third }\n"));
    exporter.process.signal(Signal::HUP);
    exporter.wait_for("third", |samples| {
        samples.find("requests_total", &["probe=\"third\""]).count() == 1
    });
}

#[test]
fn what_was_used_of_a_budget_stays_used() {
    let simulator = simulator();
    let budget = |limit: u32| {
        let probe = format!("  - {{ name: thrifty, budget: {{ requests: {limit}, per: day }} }}\n");
        config(&simulator, &probe)
    };
    let exporter = start(&budget(400_000));
    let used = |samples: &process::Samples| samples.count("budget_used", &["unit=\"requests\""]);
    let before = exporter.wait_for("something is used", |samples| used(samples) >= 2);
    assert_eq!(reload(&exporter, &budget(500_000)).status, 200);
    assert!(used(&exporter.metrics()) >= used(&before));
    // Gone and back.
    assert_eq!(reload(&exporter, &config(&simulator, STEADY)).status, 200);
    assert_eq!(exporter.metrics().find("budget_used", &[]).count(), 0);
    assert_eq!(reload(&exporter, &budget(500_000)).status, 200);
    assert!(used(&exporter.metrics()) >= used(&before));
}

/// Open files and threads of the process, and its memory in kB.
fn resources(exporter: &Exporter) -> (usize, usize, u64) {
    let proc = format!("/proc/{}", exporter.process.child.id());
    let count = |folder: &str| fs::read_dir(format!("{proc}/{folder}")).unwrap().count();
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let memory = memory.trim().trim_end_matches(" kB").parse().unwrap();
    (count("fd"), count("task"), memory)
}

#[test]
fn a_thousand_reloads_under_load_leak_nothing() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, &format!("{STEADY}{LONG}")));
    exporter.wait_for("both run", |samples| {
        samples.count("requests_in_flight", &["probe=\"long\""]) == 2
            && samples.count("requests_total", &["probe=\"steady\""]) >= 1
    });
    let round = |number: u32| {
        let probes = format!(
            "{STEADY}{LONG}  - {{ name: new-{number}, every: 1s, concurrency: 2, max_tokens: 600 }}\n  - {{ name: changing, every: {}ms }}\n",
            200 + number % 7
        );
        assert_eq!(reload(&exporter, &config(&simulator, &probes)).status, 200);
    };
    (0..200).for_each(round);
    let (_, threads, memory) = resources(&exporter);
    let series = exporter.metrics().find("requests_total", &[]).count();
    (200..1000).for_each(round);
    assert_eq!(exporter.metrics().find("requests_total", &[]).count(), series);
    assert_eq!(series, 4);
    // Requests that are under way have files open; the number of the long and the new ones is known.
    eventually("no more files are open than requests need", || {
        (resources(&exporter).0 < 64).then_some(())
    });
    let (_, threads_after, memory_after) = resources(&exporter);
    assert!(
        threads_after <= threads + 8,
        "{threads} threads, then {threads_after}"
    );
    assert!(
        memory_after < memory + memory / 4,
        "{memory} kB, then {memory_after}"
    );
    assert_eq!(
        exporter
            .metrics()
            .count("requests_in_flight", &["probe=\"long\""]),
        2
    );
}
