//! The capacity that is found is the true one: against the engine in virtual time, and against the simulator over
//! sockets.
#![cfg(test)]

mod cases;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "../support/process.rs"]
mod process;
#[path = "../support/simulator.rs"]
mod simulator;

use std::{fs, process::Output, time::Duration};

use cases::World;
use llm_probe_exporter::{
    load::Load,
    sim::{Settings, journal::End},
};
use process::{Exporter, eventually, run};
use rustix::process::Signal;
use serde_json::Value;
use simulator::Simulator;

const SLOTS: [usize; 3] = [1, 4, 16];

/// The bench has a hundred searches of each.
#[test]
fn the_true_knee_is_found() {
    for case in cases::all() {
        let found = case.searched(1000..1020);
        assert!(
            found.right >= 19,
            "{}: {} of 20 are within a step of {}: {} to {}, with {} requests",
            case.name,
            found.right,
            found.knee,
            found.least,
            found.most,
            found.requests
        );
    }
}

/// Eight times as fast as the laptop, so many at a time.
fn simulator(slots: usize, queue: Option<usize>, faults: &[&str]) -> Simulator {
    Simulator::start(Settings {
        speed: 8.0,
        slots: Some(slots),
        queue,
        faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
        ..Settings::default()
    })
}

fn config(simulator: &Simulator, probe: &str) -> String {
    format!(
        "targets: [{{ name: laptop, url: 'http://{}/v1', api: openai_chat, model: simulated }}]\n\
         defaults: {{ prompt: {{ text: Say something }}, settle: 20ms }}\nprobes: [{probe}]\n",
        simulator.address
    )
}

/// `once` with a configuration and arguments.
fn once(simulator: &Simulator, probe: &str, args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config(simulator, probe)).unwrap();
    let config = format!("--config.file={}", file.display());
    run(&[&["once", &config], args].concat())
}

fn json(output: &Output) -> Value {
    let reports: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    reports.into_iter().next().unwrap()
}

/// A limit halfway between the time to first token when all users have a slot and when one waits for it.
fn between_served_and_waiting(slots: usize, simulator: &Simulator) -> Duration {
    let settings = Settings {
        speed: 8.0,
        slots: Some(slots),
        ..Settings::default()
    };
    let asked = json(&once(
        simulator,
        "{ name: one, max_tokens: 64, slo: { ttft: 1m } }",
        &["--output=json"],
    ));
    assert_eq!(asked["requests"], 1, "{asked}");
    let world = World {
        profile: settings.machine(),
        prompt: simulator.requests()[0].prompt_tokens,
        output: 64,
        ttft: Duration::from_mins(1),
        objective: 0.99,
    };
    let slowest = |users: usize| {
        let load = Load::Users(u32::try_from(users).unwrap());
        let burst = world.burst(&cases::users(1), load, &mut fastrand::Rng::with_seed(1));
        burst.ttft.into_iter().fold(0.0, f64::max)
    };
    Duration::from_secs_f64(f64::midpoint(slowest(slots), slowest(slots + 1)))
}

#[test]
fn once_finds_as_many_users_as_there_are_slots() {
    for slots in SLOTS {
        let simulator = simulator(slots, None, &[]);
        let ttft = between_served_and_waiting(slots, &simulator).as_millis();
        let before = simulator.requests().len() as u64;
        let probe = format!("{{ name: some, concurrency: 3, max_tokens: 64, slo: {{ ttft: {ttft}ms }} }}");
        let args = [
            "--find-capacity",
            "--capacity.max=32",
            "--capacity.requests=600",
            "--output=json",
        ];
        let output = once(&simulator, &probe, &args);
        let found = json(&output);
        assert_eq!(
            (output.status.code(), &found["ended"]),
            (Some(0), &Value::from("found")),
            "{found}"
        );
        let (meets, misses) = (
            found["meets"]["concurrency"].as_u64().unwrap(),
            found["misses"]["concurrency"].as_u64().unwrap(),
        );
        // A step is a user.
        assert!(
            meets.abs_diff(slots as u64) <= 1 && misses == meets + 1,
            "{slots} slots: {found}"
        );
        let sentence = found["sentence"].as_str().unwrap();
        assert!(
            sentence.starts_with("meets 99 %") && sentence.ends_with(", limited by queue"),
            "{sentence}"
        );
        let sent = simulator.requests().len() as u64 - before;
        assert_eq!(found["requests"].as_u64(), Some(sent), "{found}");
    }
}

#[test]
fn a_rate_is_found_and_what_is_beyond_it_is_missed() {
    // A request keeps the only slot for some 45 ms, so that about 22 a second are borne.
    let simulator = simulator(1, None, &[]);
    let probe = "{ name: rates, max_tokens: 16, requests: 40, \
        arrival: { kind: rate, per_second: 8, process: constant }, slo: { ttft: 200ms, objective: 90% }, \
        capacity: { max: 200, requests: 2000, resolution: 20% } }";
    let found = json(&once(&simulator, probe, &["--output=json"]));
    let (meets, misses) = (
        found["meets"]["rate"].as_f64().unwrap(),
        found["misses"]["rate"].as_f64().unwrap(),
    );
    let requests = simulator.requests();
    let served: Vec<_> = requests
        .windows(2)
        .filter(|pair| pair[1].received_ns < pair[0].ended_ns)
        .map(|pair| (pair[1].ended_ns - pair[0].ended_ns) as f64 / 1e9)
        .collect();
    // One after the other: what the server serves at most.
    let rate = served.len() as f64 / served.iter().sum::<f64>();
    assert!(
        meets < 1.35 * rate && misses > 0.9 * rate,
        "{meets}..{misses} where {rate} are served: {found}"
    );
    assert!(misses / meets < 1.21, "{found}");
    assert_eq!(found["requests"], requests.len());
}

#[test]
fn the_bound_on_requests_holds_to_the_request() {
    let simulator = simulator(64, None, &[]);
    let probe = "{ name: some, warmup: 1, max_tokens: 4, slo: { ttft: 20s }, capacity: { requests: 50 } }";
    let output = once(&simulator, probe, &["--output=json"]);
    let found = json(&output);
    // Two bursts of 1, 2, 4 and 8 users, each after one request: 38. Two more of 16 would be 72.
    assert_eq!(
        (found["ended"].as_str(), found["requests"].as_u64()),
        (Some("requests"), Some(38)),
        "{found}"
    );
    assert_eq!(simulator.requests().len(), 38);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        (&found["meets"]["concurrency"], &found["misses"]),
        (&Value::from(8), &Value::Null)
    );
}

#[test]
fn an_endpoint_that_sheds_is_left_alone_at_once() {
    // The fifth request is refused.
    let simulator = simulator(4, Some(0), &[]);
    let probe = "{ name: some, max_tokens: 32, slo: { ttft: 20s } }";
    let output = once(&simulator, probe, &["--find-capacity", "--output=json"]);
    let found = json(&output);
    assert_eq!(found["ended"], "backoff", "{found}");
    assert_eq!(
        (&found["meets"]["concurrency"], &found["misses"]["concurrency"]),
        (&Value::from(4), &Value::from(8))
    );
    assert_eq!(output.status.code(), Some(0));
    let requests = simulator.requests();
    let refused = requests
        .iter()
        .filter(|request| request.end == End::Refused)
        .count();
    assert!((1..=4).contains(&refused), "{refused}");
    // Two bursts of 1, 2 and 4, and one of 8.
    assert_eq!(requests.len(), 22);
}

#[test]
fn a_rate_limit_lies_within_what_was_found() {
    let simulator = simulator(64, None, &["limit=6/1m"]);
    let probe = "{ name: some, max_tokens: 4, slo: { ttft: 20s } }";
    let found = json(&once(&simulator, probe, &["--find-capacity", "--output=json"]));
    assert_eq!(found["ended"], "backoff", "{found}");
    let requests = simulator.requests();
    let first = requests.iter().position(|request| request.status == 429).unwrap();
    assert_eq!(first, 6);
    // Six requests are two bursts of 1 and of 2 users: the one of 4 is the last.
    assert_eq!(
        (requests.len(), &found["misses"]["concurrency"]),
        (10, &Value::from(4))
    );
}

#[test]
fn an_endpoint_that_bears_nothing_is_told_with_its_exit_code() {
    let simulator = simulator(1, None, &[]);
    let probe = "{ name: some, max_tokens: 4, slo: { ttft: 1ms } }";
    let output = once(&simulator, probe, &["--find-capacity"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        table.contains("does not meet 99 % (ttft ≤ 1.00 ms) even at the lowest load"),
        "{table}"
    );
    assert_eq!(simulator.requests().len(), 2);
}

#[test]
fn what_cannot_be_searched_for_is_a_usage_error() {
    let simulator = simulator(1, None, &[]);
    for (probe, args, told) in [
        (
            "{ name: some }",
            &["--find-capacity"][..],
            "probe `some` has no `slo`",
        ),
        (
            "{ name: some, slo: { ttft: 1s } }",
            &["--find-capacity", "--capacity.max=1"],
            "`max` of the `capacity` of probe `some` is 1 user, no more than the 1 user that the search begins with; write more",
        ),
        (
            "{ name: some, slo: { ttft: 1s } }",
            &["--find-capacity", "--capacity.requests=1"],
            "write `2` or more",
        ),
        (
            "{ name: some, slo: { ttft: 1s }, capacity: {} }",
            &["--record=/nonexistent/file"],
            "probe `some` searches for the capacity, which cannot be recorded",
        ),
        ("{ name: some }", &["--capacity.max=4"], "--find-capacity"),
    ] {
        let output = once(&simulator, probe, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(told), "{error}");
    }
    assert_eq!(simulator.requests().len(), 0);
}

#[test]
fn a_scheduled_search_is_exported_and_counts_for_no_objective() {
    let simulator = simulator(4, None, &[]);
    let ttft = between_served_and_waiting(4, &simulator).as_millis();
    let probe = format!(
        "{{ name: search, every: 100ms, max_tokens: 64, slo: {{ ttft: {ttft}ms, alert: page }}, capacity: {{ max: 8, requests: 200 }} }}"
    );
    let exporter = Exporter::start(&config(&simulator, &probe), &["--web.enable-lifecycle"]);
    let unknown = exporter.metrics();
    let nan = unknown
        .find("capacity_concurrency", &[])
        .all(|(_, value)| value.is_nan());
    assert!(nan, "NaN until known");
    let labels = ["probe=\"search\"", "concurrency=\"search\""];
    let samples = exporter.wait_for("a search ended", |samples| {
        samples.sum("capacity_concurrency", &labels) > 0.0
    });
    let found = samples.count("capacity_concurrency", &labels);
    assert!(found.abs_diff(4) <= 1, "{found}");
    assert_eq!(samples.count("capacity_missed_concurrency", &labels), found + 1);
    assert_eq!(samples.count("capacity_found", &labels), 1);
    assert!(samples.sum("capacity_confidence_ratio", &labels) > 0.5);
    assert_eq!(samples.find("capacity_requests_per_second", &[]).count(), 0);
    assert!(samples.count("requests_total", &labels) >= 20);
    for family in [
        "slo_requests_total",
        "slo_good_requests_total",
        "slo_bursts_total",
        "slo_unjudged_requests_total",
    ] {
        assert_eq!(samples.count(family, &[]), 0, "{family}");
    }
    assert_eq!(
        samples.find("slo_objective_ratio", &["alert=\"none\""]).count(),
        1
    );
    let page = exporter.get("/").body;
    assert!(
        page.contains("up to 8 users") && page.contains("limited by queue"),
        "{page}"
    );
    assert!(
        exporter.process.log().contains("capacity="),
        "{}",
        exporter.process.log()
    );
}

#[test]
fn a_drain_ends_a_search_after_the_burst_that_runs() {
    let simulator = simulator(64, None, &[]);
    // Thousands of requests, were it not drained.
    let probe = "{ name: search, every: 100ms, max_tokens: 8, slo: { ttft: 20s }, \
        capacity: { max: 2, requests: 100000, repeats: 100 } }";
    let mut exporter = Exporter::start(&config(&simulator, probe), &[]);
    exporter.wait_for("it searches", |samples| samples.count("requests_total", &[]) >= 3);
    exporter.process.signal(Signal::TERM);
    assert!(exporter.process.wait().success());
    let log = eventually("the end is logged", || {
        Some(exporter.process.log()).filter(|log| log.contains("capacity="))
    });
    assert!(log.contains("ended=drain"), "{log}");
    let requests = simulator.requests();
    assert!(requests.len() < 100, "{}", requests.len());
    assert!(
        requests.iter().all(|request| request.end == End::Completed),
        "nothing was cut off"
    );
}
