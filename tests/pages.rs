//! The pages and the API: what they say of a simulated server and of nobody, with names that want to be markup; and what a
//! real Chromium makes of them.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::{path::Path, process::Command};

use components::component;
use llm_probe_exporter::sim::Settings;
use process::{Exporter, eventually, get};
use serde_json::Value;
use simulator::Simulator;

/// A name that breaks out of whatever is not escaped.
const HOSTILE: &str = r#""><script>alert(1)</script>&/../é #?%"#;

/// Its path, as a link has it.
const HOSTILE_PATH: &str = "%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E%26%2F..%2F%C3%A9%20%23%3F%25";

/// A server with two slots, and a port where nobody listens; a ladder, a rate, dots and markup as names.
fn exporter(simulator: &Simulator) -> Exporter {
    let config = format!(
        "targets:
  - {{ name: slots, url: 'http://{}/v1', api: openai_chat, model: simulated, share: true }}
  - name: ..
    url: http://127.0.0.1:9/v1
    api: openai_chat
    model: <i>none</i>
    headers: {{ X-Key: {{ value: hunter2hunter2 }} }}
defaults: {{ every: 1s, max_tokens: 8, prompt: {{ text: hunter3hunter3 }} }}
probes:
  - {{ name: chat, targets: [slots], slo: {{ ttft: 10s, objective: 90%, alert: page }} }}
  - {{ name: crowd, targets: [slots], ladder: [{{ users: 2 }}, {{ users: 12 }}], settle: 100ms, every: 3s, slo: {{ ttft: 1ms, objective: 90% }} }}
  - {{ name: stream, targets: [slots], arrival: {{ kind: rate, per_second: 2.5 }}, requests: 2 }}
  - {{ name: '{HOSTILE}', targets: [..], requests: 2, every: 500ms }}
",
        simulator.address
    );
    Exporter::start(&config, &[])
}

fn simulator() -> Simulator {
    Simulator::start(Settings {
        slots: Some(2),
        ..Settings::default()
    })
}

fn json(exporter: &Exporter, path: &str) -> Value {
    let answer = exporter.get(path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert!(answer.head.contains("application/json"), "{}", answer.head);
    serde_json::from_str(&answer.body).unwrap()
}

/// Waits until every series has had two bursts.
fn probed(exporter: &Exporter) {
    exporter.metrics();
    eventually("every series had two bursts", || {
        let series = json(exporter, "/api/v1/series");
        let series = series.as_array().unwrap();
        let had = |one: &Value| one["bursts_total"].as_u64().unwrap() >= 2;
        (series.len() == 5 && series.iter().all(had)).then_some(())
    });
}

#[test]
fn the_api_tells_what_the_bursts_showed() {
    let simulator = simulator();
    let exporter = exporter(&simulator);
    let before = json(&exporter, "/api/v1/series");
    let first = &before[0];
    assert_eq!(first["state"], "no_burst_yet");
    for unknown in ["last_burst", "diagnosis", "running", "rate"] {
        assert_eq!(first[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(json(&exporter, "/api/v1/status")["series"]["no_burst_yet"], 5);
    probed(&exporter);
    let series = json(&exporter, "/api/v1/series");
    let states: Vec<_> = series
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["state"])
        .collect();
    assert_eq!(states, ["ok", "degraded", "degraded", "ok", "failing"]);
    assert_eq!(series[3]["rate"], 2.5);
    assert_eq!(series[2]["concurrency"], 12);
    assert_eq!(series[2]["path"], "series/slots/crowd/concurrency=12");
    assert_eq!(
        series[4]["path"],
        format!("series/%252E%252E/{HOSTILE_PATH}/concurrency=1")
    );

    let crowd = json(&exporter, "/api/v1/series/slots/crowd/concurrency=12");
    let burst = &crowd["bursts"][0];
    assert_eq!(
        (&burst["requests"], &burst["goodput_ratio"]),
        (&12.into(), &0.0.into())
    );
    let requests = burst["request_details"].as_array().unwrap();
    assert_eq!(requests.len(), 12);
    for request in requests {
        let number = |key: &str| request[key].as_f64().unwrap();
        let phases = &request["request_phase_seconds"];
        let sum: f64 = ["dns", "connect", "tls", "headers", "first_token"]
            .iter()
            .filter_map(|phase| phases[phase].as_f64())
            .sum();
        let ttft = number("time_to_first_token_seconds");
        // Between the three ways of connecting and `connected` there may be a little of our own.
        assert!(sum <= ttft + 1e-4 && sum > ttft * 0.9, "{request:#}");
        assert_eq!(phases["tls"], Value::Null);
        let end = number("start_seconds") + ttft + phases["decode"].as_f64().unwrap();
        assert!(number("end_seconds") + 1e-4 >= end, "{request:#}");
    }
    let known: Vec<_> = (simulator.requests().iter())
        .filter_map(|record| record.client_id.clone())
        .collect();
    let is_known = |request: &Value| known.iter().any(|id| request["request_id"] == **id);
    assert!(requests.iter().all(is_known), "{known:?}");
    let lonely = json(
        &exporter,
        &format!("/api/v1/series/%252E%252E/{HOSTILE_PATH}/concurrency=1"),
    );
    let failed = &lonely["bursts"][0]["request_details"][0];
    assert_eq!(failed["outcome"], "connect_refused");
    assert!(failed["detail"].as_str().unwrap().contains("refused"));
    assert_eq!(failed["time_to_first_token_seconds"], Value::Null);

    let bursts = json(&exporter, "/api/v1/bursts?limit=3");
    let ended: Vec<_> = (bursts.as_array().unwrap().iter())
        .map(|burst| burst["burst_end_timestamp_seconds"].as_f64().unwrap())
        .collect();
    assert!(
        ended.len() == 3 && ended.is_sorted_by(|one, other| one >= other),
        "{ended:?}"
    );
    assert_eq!(exporter.get("/api/v1/bursts?limit=x").status, 400);
    assert_eq!(exporter.get("/api/v1/series/a/b/c").status, 404);
}

#[test]
fn pages_escape_what_they_show_and_lead_home() {
    let simulator = simulator();
    let exporter = exporter(&simulator);
    probed(&exporter);
    let hostile = format!("/series/%252E%252E/{HOSTILE_PATH}/concurrency=1");
    for path in ["/", &hostile, "/series/slots/crowd/concurrency=12"] {
        let page = exporter.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.head.contains("script-src 'self'"), "{}", page.head);
        assert!(!page.head.contains("unsafe"), "{}", page.head);
        for markup in ["<script>", "<i>none", "style=", "onclick", "hunter"] {
            assert!(!page.body.contains(markup), "{path} has {markup}: {}", page.body);
        }
        assert!(page.body.contains("aria-label=\"Time to first token") || path == hostile);
    }
    let page = exporter.get(&hostile).body;
    for expected in [
        "&quot;&gt;&lt;script&gt;alert(1)",
        "connect_refused",
        "waited in vain",
        "href=\"../../../static/page.css\"",
    ] {
        assert!(page.contains(expected), "{expected} is missing: {page}");
    }
    for path in [
        "/nothing",
        "/series/a/b/c",
        "/series/%FF/b/c",
        "/series/..%2f/b/%3Cb%3E",
        "/api/v2/",
    ] {
        let page = exporter.get(path);
        let home = format!("href=\"{}\"", "../".repeat(path.matches('/').count() - 1));
        let home = home.replace("\"\"", "\"./\"");
        assert!(
            page.status == 404 && page.body.contains(&home),
            "{path}: {page:?}"
        );
        assert!(!page.body.contains("<b>"), "{}", page.body);
    }
}

#[test]
fn the_configuration_and_the_log_are_shown_without_secrets() {
    let simulator = simulator();
    let exporter = exporter(&simulator);
    probed(&exporter);
    let yaml = exporter.get("/config");
    assert!(yaml.head.contains("application/yaml"), "{}", yaml.head);
    for expected in ["every: 1s", "per_second: 2.5", "value: <secret>", "name: slots"] {
        assert!(
            yaml.body.contains(expected),
            "{expected} is missing: {}",
            yaml.body
        );
    }
    let page = get(&exporter.address, "/config", "Accept: text/html\r\n").unwrap();
    assert!(page.body.contains("value: &lt;secret&gt;"), "{}", page.body);

    let lines = exporter.get("/logs?lines=2&level=info").body;
    let logged = exporter.process.log();
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        assert!(
            logged.lines().any(|other| other == line),
            "{line} is not in {logged}"
        );
    }
    assert_eq!(exporter.get("/logs?level=error").body, "");
    for wrong in ["/logs?level=loud", "/logs?lines=-1"] {
        assert_eq!(exporter.get(wrong).status, 400, "{wrong}");
    }
    let page = get(&exporter.address, "/logs?level=info", "Accept: text/html\r\n").unwrap();
    assert!(page.body.contains("message=burst") && !page.body.contains("<script>alert"));
    for shown in [yaml.body, lines, page.body] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_reload_is_followed_by_history_and_configuration() {
    let simulator = simulator();
    let probes = |more: &str| {
        format!(
            "targets: [{{ name: slots, url: 'http://{}/v1', api: openai_chat, model: simulated }}]
defaults: {{ max_tokens: 4, prompt: {{ text: Hello }} }}
probes:
  - {{ name: stays, every: 500ms }}
{more}",
            simulator.address
        )
    };
    let exporter = Exporter::start(
        &probes("  - { name: goes, every: 1h }\n"),
        &["--web.enable-lifecycle"],
    );
    exporter.wait_for("two bursts", |samples| {
        samples.count("bursts_total", &["probe=\"stays\""]) >= 2
    });
    let path = "/api/v1/series/slots/stays/concurrency=1";
    let before = json(&exporter, path)["bursts"].as_array().unwrap().len();
    exporter.configure(&probes(""));
    assert_eq!(exporter.post("/-/reload").status, 200);
    assert!(json(&exporter, path)["bursts"].as_array().unwrap().len() >= before);
    assert_eq!(exporter.get("/series/slots/goes/concurrency=1").status, 404);
    assert!(!exporter.get("/config").body.contains("goes"));
}

#[test]
#[ignore = "needs Chromium: tests/run.sh"]
fn real_browser_finds_nothing_wrong() {
    let simulator = simulator();
    let exporter = exporter(&simulator);
    probed(&exporter);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/browser.py");
    let looked = Command::new(component("LLM_PROBE_TEST_LLAMA_PYTHON"))
        .arg(script)
        .args(["check", &format!("http://{}/", exporter.address)])
        .arg(component("LLM_PROBE_TEST_CHROMIUM"))
        .output()
        .unwrap();
    let (found, told) = (
        String::from_utf8_lossy(&looked.stdout),
        String::from_utf8_lossy(&looked.stderr),
    );
    assert!(looked.status.success(), "{found}\n{told}");
    assert!(told.contains("looked at 8 pages"), "{told}");
}
