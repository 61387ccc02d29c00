//! Budgets, back-off and the brake: the program against simulated servers that know what really came.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    ops::Range,
    time::Duration,
};

use llm_probe_exporter::{
    clock::unix_now,
    rhythm::phase,
    sim::{Settings, journal::End},
    units::Name,
};
use process::{Exporter, eventually, run};
use rustix::process::Signal;
use simulator::Simulator;

/// The laptop, so much faster that a request of `n` tokens takes `n` ms and a bit.
fn quick(faults: &[&str]) -> Settings {
    Settings {
        speed: 10.0,
        slots: Some(64),
        faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
        ..Settings::default()
    }
}

fn config(address: SocketAddr, target: &str, probes: &str) -> String {
    format!(
        "targets: [{{ name: target, url: 'http://{address}/v1', api: openai_chat, model: simulated{target} }}]\n\
         defaults: {{ prompt: {{ text: Say something }}, max_tokens: 5 }}\nprobes:\n{probes}"
    )
}

/// A name whose first burst at `target` is due within a second, however long the interval is: bursts are spread by
/// their probes' names.
fn soon(name: &str) -> String {
    due_within(name, Duration::ZERO..Duration::from_secs(1))
}

/// The same, within another span after the schedule is armed.
fn due_within(name: &str, span: Range<Duration>) -> String {
    let target = Name::new("target").unwrap();
    let is_due = |name: &String| {
        let probe = Name::new(name).unwrap();
        span.contains(&phase(&probe, &target, Duration::from_mins(1)))
    };
    (0..1000).map(|n| format!("{name}-{n}")).find(is_due).unwrap()
}

#[test]
fn a_budget_holds_to_the_request() {
    let simulator = Simulator::start(quick(&[]));
    let probe = "  - { name: thrifty, every: 100ms, concurrency: 2, budget: { requests: 7, per: day } }\n";
    let exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    let samples = exporter.wait_for("bursts are passed over", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"budget\""]) >= 5
    });
    assert_eq!(
        samples.count("budget_limit", &["unit=\"requests\"", "probe=\"thrifty\""]),
        7
    );
    let used = samples.count("budget_used", &["unit=\"requests\""]);
    assert_eq!(used, simulator.requests().len() as u64);
    assert!((2..=6).contains(&used), "{used}");
    // A day has many more due bursts than the budget has requests.
    assert!(samples.sum("interval_seconds", &[]) > 10.0);
    let page = exporter.get("/").body;
    assert!(page.contains("thinned by budget"), "{page}");
    // Our own thrift says nothing of the endpoint; that the burst before was not over may.
    let overlaps = samples.count("bursts_skipped_total", &["reason=\"overlap\""]);
    assert_eq!(
        samples.count("slo_requests_total", &["slo=\"goodput\""]),
        samples.count("requests_total", &[]) + 2 * overlaps
    );
}

#[test]
fn a_restart_does_not_reset_a_budget() {
    let simulator = Simulator::start(quick(&[]));
    let kept = tempfile::tempdir().unwrap();
    let storage = format!("--storage.path={}", kept.path().display());
    let budget = ", budget: { requests: 3, per: day }";
    let config = config(simulator.address, budget, "  - { name: one, every: 100ms }\n");
    let exporter = Exporter::start(&config, &[&storage]);
    exporter.wait_for("one is used", |samples| {
        samples.count("budget_used", &["unit=\"requests\"", "target=\"target\""]) == 1
    });
    let file = kept.path().join("state.json");
    eventually("it is saved", || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("\"requests\":1.0"))
    });
    // Nobody else writes there meanwhile.
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("probes.yaml");
    fs::write(&second, &config).unwrap();
    let second = format!("--config.file={}", second.display());
    let output = run(&[&second, &storage, "--web.listen-address=127.0.0.1:0"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("--storage.path") && told.contains("give each replica a directory of its own"),
        "{told}"
    );
    exporter.process.signal(Signal::KILL);
    drop(exporter);

    let exporter = Exporter::start(&config, &[&storage]);
    assert!(exporter.metrics().count("budget_used", &["unit=\"requests\""]) >= 1);
    exporter.wait_for("bursts are due", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"budget\""]) >= 3
    });
    drop(exporter);
    assert!(simulator.requests().len() <= 3);

    fs::write(&file, "{\"version\":1,").unwrap();
    let exporter = Exporter::start(&config, &[&storage]);
    assert!(
        exporter.process.log().contains("set aside"),
        "{}",
        exporter.process.log()
    );
    assert!(kept.path().join("state.json.unreadable").exists());
}

#[test]
fn a_storage_that_cannot_be_used_is_a_usage_error_and_none_is_warned_of() {
    let simulator = Simulator::start(quick(&[]));
    let budget = ", budget: { requests: 3, per: day }";
    let config = config(simulator.address, budget, "  - { name: one }\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, &config).unwrap();
    let file = format!("--config.file={}", file.display());
    let output = run(&[
        &file,
        "--storage.path=/nonexistent/directory",
        "--web.listen-address=127.0.0.1:0",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("--storage.path"), "{told}");
    let checked = run(&["check", &file]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success() && told.contains("--storage.path"),
        "{told}"
    );
    let exporter = Exporter::start(&config, &[]);
    assert!(exporter.process.log().contains("--storage.path"));
}

#[test]
fn an_endpoint_that_asks_for_time_gets_it_and_one_trial_closes_the_circuit() {
    // The first two requests are refused for 12 s, then all is well.
    let simulator = Simulator::start(quick(&["status=429 retry-after=12 times=2"]));
    let probe = "  - { name: polite, every: 300ms, concurrency: 2 }\n";
    let exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    let samples = exporter.wait_for("it is left alone", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"backoff\""]) >= 3
    });
    assert!(samples.sum("target_backoff_seconds", &[]) > 0.0);
    assert!(exporter.get("/").body.contains("left alone"));
    let samples = exporter.wait_for("it is probed again", |samples| {
        samples.count("requests_total", &[]) >= 4
    });
    let withheld = samples.count("bursts_skipped_total", &["reason=\"backoff\""]);
    assert!(withheld >= 30, "{withheld}");
    assert_eq!(
        samples.count("slo_requests_total", &["slo=\"goodput\""]),
        samples.count("requests_total", &[]) + 2 * withheld,
        "what was withheld is judged and missed"
    );
    drop(exporter);
    let requests = simulator.requests();
    let begun: Vec<_> = requests.iter().map(|request| request.received_ns).collect();
    let refused = requests.iter().filter(|request| request.status == 429).count();
    assert_eq!(refused, 2);
    let gap = Duration::from_nanos(begun[2] - begun[1]);
    assert!(gap >= Duration::from_millis(11_900), "it came back after {gap:?}");
    // The trial is over before the burst begins.
    assert!(begun[3] >= requests[2].ended_ns);
}

#[test]
fn a_burst_that_fails_is_cut_short_and_what_was_never_sent_is_missed() {
    let simulator = Simulator::start(quick(&["status=500"]));
    let (cut, spared) = (soon("cut"), soon("spared"));
    let probe = format!(
        "  - {{ name: {cut}, every: 60s, concurrency: 2, requests: 40, slo: {{ ttft: 1s }} }}\n\
         \x20 - {{ name: {spared}, every: 60s, concurrency: 2, requests: 40, protect: off }}\n"
    );
    let exporter = Exporter::start(&config(simulator.address, "", &probe), &[]);
    let [cut, spared] = [cut, spared].map(|name| format!("probe=\"{name}\""));
    let (cut, spared) = (cut.as_str(), spared.as_str());
    let samples = exporter.wait_for("both have ended", |samples| {
        samples.count("requests_total", &[spared]) == 40 && samples.count("slo_bursts_total", &[cut]) == 1
    });
    let sent = samples.count("requests_total", &[cut]);
    assert!((4..=6).contains(&sent), "{sent}");
    let never = samples.count("requests_skipped_total", &[cut, "reason=\"backoff\""]);
    let invalid = samples.count("invalid_requests_total", &[cut]);
    assert_eq!(sent + never, 40);
    for slo in ["slo=\"goodput\"", "slo=\"ttft\""] {
        assert_eq!(
            samples.count("slo_requests_total", &[cut, slo]),
            40 - invalid,
            "{slo}"
        );
    }
    assert_eq!(samples.count("slo_good_bursts_total", &[cut]), 0);
    assert!(exporter.process.log().contains("cut_short=backoff"));
    assert!(exporter.get("/").body.contains("never sent"));
}

#[test]
fn a_burst_stops_where_an_endpoint_begins_to_say_when_to_come_back() {
    let simulator = Simulator::start(quick(&["limit=60/1h"]));
    let probe = format!(
        "  - {{ name: {}, every: 60s, concurrency: 4, requests: 400 }}\n",
        soon("long")
    );
    let exporter = Exporter::start(&config(simulator.address, "", &probe), &[]);
    let samples = exporter.wait_for("it has ended", |samples| {
        samples.count("slo_bursts_total", &[]) == 1
    });
    drop(exporter);
    let refused = simulator.requests().len() - 60;
    // Four of them say so; each user may have sent one more by then.
    assert!((4..=8).contains(&refused), "{refused}");
    let never = samples.count("requests_skipped_total", &["reason=\"backoff\""]);
    assert!(never >= 400 - 60 - 8, "{never}");
}

#[test]
fn a_restart_does_not_end_a_back_off() {
    let simulator = Simulator::start(quick(&["status=429 retry-after=3600"]));
    let kept = tempfile::tempdir().unwrap();
    let storage = format!("--storage.path={}", kept.path().display());
    let config = config(
        simulator.address,
        "",
        "  - { name: one, every: 100ms, concurrency: 2 }\n",
    );
    let is_withheld = |exporter: &Exporter| {
        exporter.wait_for("it is left alone", |samples| {
            samples.count("bursts_skipped_total", &["reason=\"backoff\""]) >= 3
        })
    };
    let exporter = Exporter::start(&config, &[&storage]);
    is_withheld(&exporter);
    let file = kept.path().join("state.json");
    eventually("it is saved", || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("\"failed_trials\":0"))
    });
    exporter.process.signal(Signal::KILL);
    drop(exporter);
    assert_eq!(simulator.requests().len(), 2);

    let exporter = Exporter::start(&config, &[&storage]);
    let samples = is_withheld(&exporter);
    assert!(samples.sum("target_backoff_seconds", &[]) > 3000.0);
    drop(exporter);
    assert_eq!(simulator.requests().len(), 2, "nothing more was sent");
}

#[test]
fn a_round_stops_where_prompts_are_longer_than_its_budget_was_reserved_for() {
    let simulator = Simulator::start(quick(&[]));
    // Of words this short, more tokens are made than they were taken to be.
    let probe = format!(
        "  - {{ name: dense, every: 100ms, concurrency: 2, requests: 40, prompt: {{ text: '{}' }}, budget: {{ input_tokens: 6000, per: day }} }}\n",
        "a ".repeat(200)
    );
    let exporter = Exporter::start(&config(simulator.address, "", &probe), &[]);
    let samples = exporter.wait_for("the next round is passed over", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"budget\""]) >= 1
    });
    let requests = simulator.requests();
    let longest = requests
        .iter()
        .map(|request| request.prompt_tokens)
        .max()
        .unwrap();
    assert!(
        40 * longest > 6000,
        "the whole round would be too much: {longest}"
    );
    let used = samples.count("budget_used", &["unit=\"input_tokens\""]);
    assert!((longest..=6000).contains(&used), "{used}");
    assert!(samples.count("requests_skipped_total", &["reason=\"budget\""]) > 0);
}

#[test]
fn a_server_that_says_it_is_busy_is_not_probed() {
    let simulator = Simulator::start(quick(&[]));
    let address = simulator.address;
    let busy = |when: &str| format!(", busy: {{ url: 'http://{address}/metrics', {when} }}");
    let probe = "  - { name: one, every: 200ms }\n";
    let skip = busy("skip_when: ['vllm:num_requests_running >= 0']");
    let exporter = Exporter::start(&config(address, &skip, probe), &[]);
    let samples = exporter.wait_for("bursts are withheld", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"server_busy\""]) >= 3
    });
    assert_eq!(samples.count("slo_requests_total", &["slo=\"goodput\""]), 0);
    assert!(exporter.get("/").body.contains("the server is busy"));
    drop(exporter);
    assert_eq!(simulator.requests().len(), 0);

    let idle = busy("skip_when: ['vllm:num_requests_running > 1000']");
    let exporter = Exporter::start(&config(address, &idle, probe), &[]);
    exporter.wait_for("it is probed", |samples| {
        samples.count("requests_total", &[]) >= 1
    });
    drop(exporter);

    let abort = busy("abort_when: ['vllm:num_requests_running > 0']");
    let long = soon("long");
    let long = format!("  - {{ name: {long}, every: 60s, max_tokens: 20000, requests: 3 }}\n");
    let exporter = Exporter::start(&config(address, &abort, &long), &[]);
    let samples = exporter.wait_for("it is cut short", |samples| {
        samples.count("requests_skipped_total", &["reason=\"server_busy\""]) == 2
    });
    assert_eq!(samples.count("slo_requests_total", &["slo=\"goodput\""]), 0);
    let last = eventually("the connection is closed", || {
        let requests = simulator.requests();
        requests
            .last()
            .filter(|request| request.output_tokens == 20_000)
            .cloned()
    });
    assert_eq!(last.end, End::Disconnected);
}

#[test]
fn metrics_that_cannot_be_read_stop_nothing_and_credentials_stay_at_home() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = elsewhere.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = elsewhere.accept().unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let simulator = Simulator::start(quick(&[]));
    let target = format!(
        ", headers: {{ X-Key: {{ value: hunter2hunter2 }} }}, busy: {{ url: 'http://{other}/metrics', skip_when: ['a > 1'], timeout: 500ms }}"
    );
    let probe = "  - { name: one, every: 200ms }\n";
    let exporter = Exporter::start(&config(simulator.address, &target, probe), &[]);
    exporter.wait_for("probing goes on", |samples| {
        samples.count("target_busy_scrape_failures_total", &[]) >= 2
            && samples.count("requests_total", &[]) >= 2
    });
    let warned = exporter.process.log().matches("cannot be read").count();
    assert_eq!(warned, 1);
    let head = asked.join().unwrap();
    assert!(!head.contains("hunter2"), "{head}");
}

#[test]
fn a_ladder_goes_no_higher_after_the_server_said_that_it_is_busy() {
    let simulator = Simulator::start(quick(&[]));
    let busy = format!(
        ", busy: {{ url: 'http://{}/metrics', abort_when: ['vllm:num_requests_running > 0'] }}",
        simulator.address
    );
    let name = soon("climber");
    let probe = format!(
        "  - {{ name: {name}, every: 60s, max_tokens: 20000, ladder: [{{ users: 1 }}, {{ users: 8 }}], settle: 100ms }}\n"
    );
    let exporter = Exporter::start(&config(simulator.address, &busy, &probe), &[]);
    let samples = exporter.wait_for("the next step is left out", |samples| {
        samples.count(
            "bursts_skipped_total",
            &["concurrency=\"8\"", "reason=\"server_busy\""],
        ) == 1
    });
    assert_eq!(samples.count("bursts_total", &["concurrency=\"8\""]), 0);
    drop(exporter);
    assert_eq!(simulator.requests().len(), 1);
}

#[test]
fn a_trial_that_the_endpoint_answered_ends_the_back_off_whatever_the_budget_lets_follow() {
    let simulator = Simulator::start(quick(&["status=429 retry-after=1 times=2"]));
    // Two bursts fit, or one and a trial.
    let name = soon("tried");
    let probe = format!(
        "  - {{ name: {name}, every: 1s, concurrency: 2, expect: {{ contains: nowhere }}, budget: {{ requests: 4, per: hour }} }}\n"
    );
    let exporter = Exporter::start(&config(simulator.address, "", &probe), &[]);
    exporter.wait_for("the trial was made", |samples| {
        samples.count("budget_used", &["unit=\"requests\""]) == 3
            && samples.sum("target_backoff_seconds", &[]) <= 0.0
    });
    exporter.wait_for("the round does not fit", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"budget\""]) >= 1
    });
}

#[test]
fn a_trial_that_is_paused_is_no_fault_of_the_endpoint() {
    let simulator = Simulator::start(quick(&[
        "status=429 retry-after=1 times=1",
        "stall@head from=3s times=1",
    ]));
    let name = soon("held");
    let probe = format!("  - {{ name: {name}, every: 1s }}\n");
    let exporter = Exporter::start(
        &config(simulator.address, "", &probe),
        &["--web.enable-lifecycle"],
    );
    exporter.wait_for("it is left alone, then tried", |samples| {
        samples.count("requests_in_flight", &[]) == 1
            && samples.count("bursts_skipped_total", &["reason=\"backoff\""]) >= 3
    });
    let held_back = |samples: &process::Samples, reason: &str| {
        samples.count("bursts_skipped_total", &[&format!("reason=\"{reason}\"")])
    };
    let before = exporter.metrics();
    assert_eq!(exporter.post("/-/pause").status, 200);
    let after = exporter.wait_for("the trial is cancelled", |samples| {
        held_back(samples, "paused") >= 1
    });
    assert_eq!(held_back(&after, "backoff"), held_back(&before, "backoff"));
}

#[test]
fn a_burst_that_waited_until_its_window_closed_is_not_fired() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hog = soon("hog");
    let waits = due_within("waits", Duration::from_millis(1500)..Duration::from_millis(2500));
    let closes = std::time::UNIX_EPOCH + Duration::from_secs_f64(unix_now() + 6.0);
    let closes = humantime::format_rfc3339_seconds(closes).to_string();
    let closes = closes.trim_end_matches('Z');
    let probes = format!(
        "  - {{ name: {hog}, every: 60s, timeouts: {{ total: 10s }} }}\n\
         \x20 - {{ name: {waits}, every: 60s, timeouts: {{ total: 1s }}, pauses: [{{ from: {closes}, to: 2999-01-01 }}] }}\n"
    );
    let exporter = Exporter::start(&config(silent.local_addr().unwrap(), "", &probes), &[]);
    let waits = format!("probe=\"{waits}\"");
    let samples = exporter.wait_for("its turn came too late", |samples| {
        samples.count("bursts_skipped_total", &[&waits, "reason=\"window\""]) >= 1
    });
    assert_eq!(samples.count("bursts_total", &[&waits]), 0);
}
