//! The program as a user runs it: the command line, HTTP, signals, bad input. Needs only Rust.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use process::{Exporter, get, program, run};
use rustix::process::Signal;

/// A probe at a port where nobody listens.
fn schedule(rest: &str) -> String {
    format!(
        "targets: [{{ name: nobody, url: 'http://127.0.0.1:9/v1', api: openai_chat, model: none }}]\nprobes: [{{ name: lonely, every: 200ms, {rest} }}]\n"
    )
}

#[test]
fn failures_reach_the_metrics_and_the_page() {
    let exporter = Exporter::start(&schedule("concurrency: 3"), &[]);
    let first = exporter.metrics();
    assert_eq!(
        first.count("requests_total", &["probe=\"lonely\""]),
        0,
        "counters exist at zero before the first burst"
    );
    let later = exporter.wait_for("failures are counted", |samples| {
        samples.count("request_failures_total", &["reason=\"connect_refused\""]) >= 6
    });
    assert_eq!(
        later.count("request_failures_total", &[]),
        later.count("requests_total", &[])
    );
    assert_eq!(later.count("slo_good_requests_total", &["slo=\"goodput\""]), 0);
    let page = exporter.get("/");
    assert!(
        page.head
            .to_ascii_lowercase()
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    for expected in [
        "lonely",
        "nobody",
        "failing",
        "connect_refused",
        "static/page.css",
    ] {
        assert!(
            page.body.contains(expected),
            "{expected} is missing in {}",
            page.body
        );
    }
    for path in ["/static/page.css", "/static/page.js", "/-/healthy", "/-/ready"] {
        assert_eq!(exporter.get(path).status, 200, "{path}");
    }
    assert_eq!(exporter.get("/nothing").status, 404);
}

#[test]
fn the_first_scrape_arms_the_schedule() {
    let exporter = Exporter::start(&schedule("requests: 1"), &[]);
    assert_eq!(exporter.get("/-/ready").status, 503);
    assert!(!exporter.process.log().contains("schedule armed"));
    exporter.metrics();
    process::eventually("ready", || (exporter.get("/-/ready").status == 200).then_some(()));
}

#[test]
fn sigterm_drains_and_exits_0() {
    let mut exporter = Exporter::start(&schedule("requests: 1"), &["--log.format=json"]);
    exporter.wait_for("a burst", |samples| samples.count("bursts_total", &[]) >= 1);
    exporter.process.signal(Signal::TERM);
    assert_eq!(exporter.process.wait().code(), Some(0));
    let log = exporter.process.log();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "drained", "{log}");
}

#[test]
fn a_plan_that_wants_more_sockets_than_there_may_be_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, schedule("concurrency: 500")).unwrap();
    let output = std::process::Command::new("bash")
        .args([
            "-c",
            "ulimit -n 600 && exec \"$0\" \"--config.file=$1\" --web.listen-address=127.0.0.1:0",
        ])
        .args([program().get_program(), file.as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("500 requests under way at once") && said.contains("may have 600"),
        "{said}"
    );
}

#[test]
fn once_reports_what_a_signal_cut() {
    // A server that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "targets: [{{ name: silent, url: 'http://{}', api: ollama_chat, model: none }}]\nprobes: [{{ name: waits, every: 1h }}]\n",
        silent.local_addr().unwrap()
    );
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("probes.yaml");
    fs::write(&path, config).unwrap();
    let mut once = program()
        .args([
            "once".to_owned(),
            format!("--config.file={}", path.display()),
            "--output=json".to_owned(),
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut accepted, _) = silent.accept().unwrap();
    let mut head = [0; 4];
    accepted.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"POST");
    let id = rustix::process::Pid::from_child(&once);
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    let mut json = String::new();
    once.stdout.take().unwrap().read_to_string(&mut json).unwrap();
    // A burst that was cut is no verdict.
    assert_eq!(once.wait().unwrap().code(), Some(1));
    let reports: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(reports[0]["invalid"]["cancelled"], 1, "{json}");
}

#[test]
fn once_gives_no_verdict_where_requests_failed_by_our_own_doing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "targets: [{{ name: t, url: 'http://{}/v1', api: openai_chat, model: none }}]\nprobes: [{{ name: many, every: 1m, concurrency: 60, timeouts: {{ total: 1s }} }}]\n",
        silent.local_addr().unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config).unwrap();
    // Fewer file descriptors than users.
    let program = program().get_program().to_owned();
    let output = std::process::Command::new("bash")
        .args(["-c", "ulimit -n 40 && exec \"$0\" once \"--config.file=$1\""])
        .args([program.as_os_str(), file.as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("local (our own doing)") && said.contains("no verdict"),
        "{said}"
    );
}

#[test]
fn once_waits_for_places_however_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let config = format!(
        "
global: {{ max_in_flight: 2 }}
targets:
  - {{ name: a, url: 'http://{address}/v1', api: openai_chat, model: none }}
  - {{ name: b, url: 'http://{address}/v1', api: openai_chat, model: none }}
probes: [{{ name: p, every: 100ms, concurrency: 2, timeouts: {{ total: 500ms }} }}]
"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config).unwrap();
    let output = run(&[
        "once",
        "--output=json",
        &format!("--config.file={}", file.display()),
    ]);
    let reports: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (reports.as_array().unwrap().len(), output.status.code()),
        (2, Some(3))
    );
}

#[test]
fn bad_configuration_exits_2_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let written = |name: &str, text: &[u8]| {
        fs::write(path(name), text).unwrap();
        path(name)
    };
    let cases = [
        ("missing", path("missing.yaml"), "missing.yaml"),
        ("not UTF-8", written("latin.yaml", b"targets: \xe9\n"), "UTF-8"),
        ("no YAML", written("syntax.yaml", b"targets: [\n"), "syntax.yaml:"),
        (
            "unknown key",
            written("key.yaml", schedule("concurency: 2").as_bytes()),
            "concurrency",
        ),
        (
            "zero",
            written("zero.yaml", schedule("concurrency: 0").as_bytes()),
            "concurrency",
        ),
        (
            "a folder",
            folder.path().to_str().unwrap().to_owned(),
            "directory",
        ),
    ];
    for (case, file, expected) in cases {
        for command in ["check", "serve", "once"] {
            let output = run(&[command, &format!("--config.file={file}")]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{case}: {said}");
            assert!(said.contains(expected), "{case}: {said}");
        }
    }
}

#[test]
fn bad_usage_exits_2() {
    for args in [
        &["--nonsense"][..],
        &["once", "--output=xml"],
        &["--log.level=a=b=c"],
        &["--log.level=inof"],
        &["frobnicate"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, schedule("requests: 1")).unwrap();
    let config = format!("--config.file={}", file.display());
    for args in [
        &["once", "nobody-knows"][..],
        &["--web.listen-address=nowhere"],
        &["check", "--limit.series=3"],
    ] {
        let output = run(&[args, &[config.as_str()]].concat());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_port_in_use_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, schedule("requests: 1")).unwrap();
    let listen = format!("--web.listen-address={}", taken.local_addr().unwrap());
    let output = run(&[&format!("--config.file={}", file.display()), &listen]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on 127.0.0.1:"), "{said}");
}

#[test]
fn check_prints_the_plan() {
    let demo = concat!("--config.file=", env!("CARGO_MANIFEST_DIR"), "/config/demo.yaml");
    let output = run(&["check", demo]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    // 360 bursts of one, twice 60 of 50, 120 of each of five steps with 31 users in all, 720 of two; 64 tokens each.
    for expected in [
        "1800 bursts an hour",
        "11520 requests an hour",
        "17694720 output tokens a day",
        "9 series",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[test]
fn check_warns_where_bursts_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(
        &file,
        schedule("concurrency: 4, requests: 8, slo: { request: 1s }"),
    )
    .unwrap();
    let output = run(&["check", &format!("--config.file={}", file.display())]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("warning: probe `lonely`: its bursts last at least 2.00 s of every 200 ms"),
        "{text}"
    );
    // Nobody knows how many tokens the usual prompt has.
    assert!(text.contains("at least 0 input tokens a day"), "{text}");
    for (seconds, fits) in [(10, true), (11, false)] {
        let open = format!(
            "arrival: {{ kind: rate, per_second: 100 }}, requests: 5, timeouts: {{ first_token: {seconds}s }}"
        );
        let config = format!("global: {{ max_in_flight: 1000 }}\n{}", schedule(&open));
        fs::write(&file, config).unwrap();
        let output = run(&["check", &format!("--config.file={}", file.display())]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let warning = "at 100 requests a second, 1100 wait for their first tokens where the endpoint hangs";
        assert_eq!(!text.contains(warning), fits, "{text}");
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    const KEY: &str = "sk-planted-4711";
    // A server that echoes what it is sent.
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            let mut stream: TcpStream = stream;
            let mut asked = [0; 8192];
            let read = stream.read(&mut asked).unwrap_or(0);
            let body = String::from_utf8_lossy(&asked[..read]).into_owned();
            write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .ok();
        }
    });
    let config = format!(
        "
targets:
  - name: echo
    url: http://{address}/v1
    api: openai_chat
    model: none
    authorization: {{ credentials_file: key }}
    headers: {{ X-Tenant: {{ value: {KEY}-tenant }} }}
probes: [{{ name: leaks, every: 200ms }}]
"
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), format!("{KEY}\n")).unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config).unwrap();
    let config_file = format!("--config.file={}", file.display());
    let once = run(&["once", "--output=json", &config_file, "--log.level=trace"]);
    let said = String::from_utf8_lossy(&[once.stdout, once.stderr].concat()).into_owned();
    assert!(
        said.contains("unauthorized") && said.contains("<secret>"),
        "{said}"
    );
    assert!(!said.contains(KEY), "{said}");
    let check = run(&["check", &config_file, "--log.level=trace"]);
    assert_eq!(check.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).contains(KEY));
}

#[test]
fn the_readmes_table_is_the_programs() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let table = String::from_utf8(run(&["metrics", "--format=markdown"]).stdout).unwrap();
    assert!(table.lines().count() > 40, "{table}");
    assert!(
        readme.contains(table.trim()),
        "README.md is not up to date: paste `llm-probe-exporter metrics --format=markdown`"
    );
}

#[test]
fn the_readmes_mistakes_are_reported_as_it_says() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, shown) = readme.split_once("<!-- mistakes -->\n```\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mistakes = "targets: [{ name: llama, url: 'http://localhost:8000/v1', api: openai_chat, model: llama }]\nprobes:\n  - name: chat\n    every: 60\n    concurency: 16\n    targets: [lama]\n";
    fs::write(folder.path().join("probes.yaml"), mistakes).unwrap();
    let output = program()
        .args(["check", "--config.file=probes.yaml"])
        .current_dir(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, format!("llm-probe-exporter: {shown}"));
}

#[test]
fn the_readmes_configuration_loads() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, yaml) = readme.split_once("```yaml\ntargets:").unwrap();
    let (yaml, _) = yaml.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("probes.yaml"), format!("targets:{yaml}")).unwrap();
    let output = program()
        .args(["check", "--config.file=probes.yaml"])
        .current_dir(&folder)
        .env("LLM_API_KEY", "key")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn http_is_served_within_limits() {
    let exporter = Exporter::start(&schedule("requests: 1"), &[]);
    let huge = format!("X-Huge: {}\r\n", "x".repeat(1 << 20));
    let refused = get(&exporter.address, "/metrics", &huge);
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status >= 400));
    let zipped = get(&exporter.address, "/metrics", "Accept-Encoding: gzip\r\n").unwrap();
    assert!(
        zipped
            .head
            .to_ascii_lowercase()
            .contains("content-encoding: gzip"),
        "{}",
        zipped.head
    );
    let plain = exporter.get("/metrics");
    assert!(
        plain.head.contains("text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        plain.head
    );
}
