//! The kill switch and the replicas: the program against a simulated server that knows what it was asked for.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::{
    fs,
    io::{self, Read},
    net::{SocketAddr, TcpListener},
    process::Stdio,
};

use llm_probe_exporter::sim::{Settings, journal::End};
use process::{Exporter, Process, eventually, program, run};
use simulator::Simulator;

/// A server that takes a minute for an answer, and a probe that asks for twenty, two at once.
fn slow() -> (Simulator, String) {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..Settings::default()
    });
    let probes = "  - { name: long, every: 300ms, concurrency: 2, requests: 20, max_tokens: 6000 }\n";
    let config = config(simulator.address, probes);
    (simulator, config)
}

fn config(address: SocketAddr, probes: &str) -> String {
    format!(
        "targets: [{{ name: target, url: 'http://{address}/v1', api: openai_chat, model: simulated }}]\n\
         defaults: {{ prompt: {{ text: Say something }} }}\nprobes:\n{probes}"
    )
}

const ARMED: &str = "llm_probe_burst_armed_timestamp_seconds{";
const NEXT: &str = "llm_probe_burst_next_due_timestamp_seconds{";
const PAUSED: &str = "llm_probe_exporter_paused_timestamp_seconds ";

/// Which of the families have samples.
fn present(exporter: &Exporter) -> [bool; 3] {
    let metrics = exporter.get("/metrics").body;
    [ARMED, NEXT, PAUSED].map(|name| metrics.lines().any(|line| line.starts_with(name)))
}

#[test]
fn nothing_is_sent_until_both_hands_let_go_of_the_switch() {
    let (simulator, config) = slow();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pause");
    let pause_file = format!("--pause.file={}", file.display());
    let exporter = Exporter::start(&config, &[&pause_file, "--web.enable-lifecycle"]);
    let under_way = |count: u64| {
        exporter.wait_for("requests are under way", |samples| {
            samples.count("requests_in_flight", &[]) == count
        })
    };
    under_way(2);
    assert_eq!(present(&exporter), [true, true, false]);

    fs::write(&file, "").unwrap();
    let cut = eventually("the server saw them go", || {
        let requests = simulator.requests();
        (requests.len() == 2).then_some(requests)
    });
    for request in &cut {
        assert_eq!(request.end, End::Disconnected);
        assert!((request.tokens_ns.len() as u64) < request.output_tokens / 2);
    }
    let samples = exporter.wait_for("due bursts are held back", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"paused\""]) >= 3
    });
    assert_eq!(
        samples.count("invalid_requests_total", &["reason=\"cancelled\""]),
        2
    );
    assert_eq!(samples.count("requests_total", &[]), 2);
    // What is held back is not judged: all that was is what came due while the burst ran.
    assert_eq!(
        samples.count("slo_requests_total", &["slo=\"goodput\""]),
        20 * samples.count("bursts_skipped_total", &["reason=\"overlap\""])
    );
    // Nor are those of the burst that were never sent.
    assert_eq!(
        samples.count("requests_skipped_total", &["reason=\"paused\""]),
        18
    );
    assert_eq!(present(&exporter), [false, false, true]);
    let page = exporter.get("/").body;
    let banner = format!("because the file {} exists. Remove the file.", file.display());
    assert!(
        page.contains("Paused: nothing is sent.") && page.contains(&banner),
        "{page}"
    );

    // A second hand.
    let said = exporter.post("/-/pause");
    assert!(
        said.status == 200 && said.body.contains("and POST /-/pause was called"),
        "{said:?}"
    );
    fs::remove_file(&file).unwrap();
    eventually("the file is gone", || {
        exporter
            .get("/")
            .body
            .contains("because POST /-/pause was called. Call POST /-/resume.")
            .then_some(())
    });
    let before = exporter
        .metrics()
        .count("bursts_skipped_total", &["reason=\"paused\""]);
    exporter.wait_for("it is still paused", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"paused\""]) >= before + 3
    });
    assert_eq!(exporter.metrics().count("requests_total", &[]), 2);

    assert!(exporter.post("/-/resume").body.contains("resumed"));
    under_way(2);
    assert_eq!(present(&exporter), [true, true, false]);
    assert!(!exporter.get("/").body.contains("Paused: nothing is sent."));

    // The other way round, a running burst is cut, too.
    exporter.post("/-/pause");
    eventually("the server saw them go", || {
        let requests = simulator.requests();
        (requests.len() == 4 && requests.iter().all(|request| request.end == End::Disconnected)).then_some(())
    });
    let log = eventually("both pauses are logged", || {
        let log = exporter.process.log();
        (log.matches("paused: nothing is sent").count() == 2).then_some(log)
    });
    assert_eq!(log.matches("message=resumed").count(), 1, "{log}");
    assert!(!log.contains("burst skipped\" reason=paused"), "{log}");
}

/// It does not begin, and what runs is cut.
#[test]
fn once_obeys_the_file() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (probes, file) = (folder.path().join("probes.yaml"), folder.path().join("pause"));
    let probe = "  - { name: waits, every: 1h }\n";
    fs::write(&probes, config(silent.local_addr().unwrap(), probe)).unwrap();
    fs::write(&file, "").unwrap();
    let [probes, pause] = [("config", probes), ("pause", file.clone())]
        .map(|(what, path)| format!("--{what}.file={}", path.display()));
    let args = ["once", &probes, &pause, "--output=json"];
    let output = run(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let refused = format!("nothing is sent: the file {} exists; remove it", file.display());
    assert!(said.contains(&refused), "{said}");
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);

    silent.set_nonblocking(false).unwrap();
    fs::remove_file(&file).unwrap();
    let mut once = Process::spawn(program().args(args).stdout(Stdio::piped()));
    let (mut accepted, _) = silent.accept().unwrap();
    let mut method = [0; 4];
    accepted.read_exact(&mut method).unwrap();
    assert_eq!(&method, b"POST");
    fs::write(&file, "").unwrap();
    let mut json = String::new();
    once.child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut json)
        .unwrap();
    assert_eq!(once.wait().code(), Some(1), "{}", once.log());
    let reports: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(reports[0]["invalid"]["cancelled"], 1, "{json}");
    assert!(once.log().contains("paused: nothing is sent"), "{}", once.log());
}

#[test]
fn an_exporter_that_starts_paused_sends_nothing() {
    let (simulator, config) = slow();
    let file = tempfile::NamedTempFile::new().unwrap();
    let pause_file = format!("--pause.file={}", file.path().display());
    let exporter = Exporter::start(&config, &[&pause_file]);
    exporter.wait_for("due bursts are held back", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"paused\""]) >= 4
    });
    assert_eq!(exporter.metrics().count("bursts_total", &[]), 0);
    assert!(simulator.requests().is_empty());
    drop(file);
    exporter.wait_for("a burst", |samples| samples.count("bursts_total", &[]) == 1);
}

#[test]
fn the_switch_moves_by_request_only_where_that_is_allowed() {
    let (_simulator, config) = slow();
    let exporter = Exporter::start(&config, &[]);
    for path in ["/-/pause", "/-/resume"] {
        let answer = exporter.post(path);
        assert_eq!(answer.status, 403);
        assert!(
            answer
                .body
                .contains("start the exporter with --web.enable-lifecycle"),
            "{answer:?}"
        );
        assert_eq!(exporter.get(path).status, 405);
    }
    exporter.wait_for("a burst", |samples| samples.count("bursts_total", &[]) == 1);
}

#[test]
fn a_calendar_that_is_closed_is_seen() {
    let (simulator, _) = slow();
    let probe = format!(
        "  - {{ name: later, every: 200ms, pauses: [{{ from: 2000-01-01, to: {} }}] }}\n",
        in_a_week()
    );
    let exporter = Exporter::start(&config(simulator.address, &probe), &[]);
    let samples = exporter.wait_for("due bursts are skipped", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"window\""]) >= 4
    });
    assert_eq!(samples.count("slo_requests_total", &["slo=\"goodput\""]), 0);
    assert_eq!(present(&exporter), [false, true, false]);
    assert!(exporter.get("/").body.contains("outside its windows"));
    assert_eq!(exporter.process.log().matches("burst skipped").count(), 0);
}

/// As a date.
fn in_a_week() -> String {
    let now = std::process::Command::new("date")
        .args(["-u", "-d", "+7 days", "+%F"])
        .output();
    String::from_utf8(now.unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn replicas_fire_the_load_of_one() {
    let simulator = Simulator::start(Settings {
        speed: 10.0,
        slots: Some(64),
        ..Settings::default()
    });
    let config = config(
        simulator.address,
        "  - { name: shared, every: 2s, max_tokens: 5 }\n",
    );
    let replicas = ["--replica.index=0", "--replica.index=1"]
        .map(|index| Exporter::start(&config, &[index, "--replica.total=2"]));
    // The first scrape arms.
    for replica in &replicas {
        replica.metrics();
    }
    for replica in &replicas {
        let samples = replica.wait_for("two bursts", |samples| samples.count("bursts_total", &[]) >= 2);
        assert!((samples.sum("interval_seconds", &[]) - 4.0).abs() < 1e-9);
    }
    drop(replicas);
    // Each burst comes whole intervals after the first, and no two at once.
    let starts: Vec<f64> = simulator
        .requests()
        .iter()
        .map(|request| request.received_ns as f64 / 2e9)
        .collect();
    for pair in starts.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(
            apart > 0.75 && (apart - apart.round()).abs() < 0.25,
            "{apart} intervals"
        );
    }
}

#[test]
fn a_replica_that_there_is_not_is_a_usage_error() {
    let (_simulator, config) = slow();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config).unwrap();
    let file = format!("--config.file={}", file.display());
    for (index, total, mend) in [
        (
            2,
            2,
            "replicas are counted from 0: write --replica.index=1 or less",
        ),
        (1, 1, "such as --replica.total=2"),
        (0, 0, "write --replica.total=1 or more"),
    ] {
        let replica = [
            format!("--replica.index={index}"),
            format!("--replica.total={total}"),
        ];
        let output = run(&[&file, &replica[0], &replica[1]]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(mend), "{said}");
    }
}

#[test]
fn replicas_share_a_budget_or_say_that_a_burst_is_too_large() {
    let simulator = Simulator::start(Settings::default());
    let config = config(
        simulator.address,
        "  - { name: shared, every: 2s, concurrency: 3, max_tokens: 5, budget: { requests: 5, per: day } }\n",
    );
    let exporter = Exporter::start(&config, &[]);
    assert!(
        exporter
            .get("/")
            .body
            .contains("Probe shared: 0 of 5 requests this day")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, &config).unwrap();
    let file = format!("--config.file={}", file.display());
    let output = run(&[&file, "--replica.total=2", "--web.listen-address=127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(
            "one burst of probe `shared` at target `target` may use more requests than each of 2 replicas"
        ),
        "{said}"
    );
}
