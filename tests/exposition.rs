//! What scrapers get: over HTTP, and as the real Prometheus, promtool and the parser of `prometheus_client` understand it.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/simulator.rs"]
mod simulator;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use components::{Prometheus, component};
use llm_probe_exporter::{
    rhythm::phase,
    sim::{Profile, Settings},
    units::Name,
};
use process::{Exporter, eventually, get};
use simulator::Simulator;

const OPEN_METRICS: &str = "Accept: application/openmetrics-text;version=1.0.0\r\n";

/// Samples by their labels, the name of the metric and `le` included.
type Samples = BTreeMap<BTreeMap<String, String>, f64>;

/// One burst of a hundred users within a second, and nothing after it; the probe's name wants escaping, and ends with a
/// number: when it is due first goes by it.
fn exporter_after_a_burst(simulator: &Simulator, metrics: &str) -> Exporter {
    let target = Name::new("simulated").unwrap();
    let is_due_soon = |number: &u32| {
        let name = Name::new(&format!("a \"hundred\" \\ users 🦀{number}")).unwrap();
        phase(&name, &target, Duration::from_hours(1)) < Duration::from_secs(1)
    };
    let number = (0..1000).find(is_due_soon).unwrap();
    let config = format!(
        "
metrics: {metrics}
targets: [{{ name: simulated, url: 'http://{}/v1', api: openai_chat, model: simulated }}]
probes: [{{ name: 'a \"hundred\" \\ users 🦀{number}', every: 1h, concurrency: 100, max_tokens: 8, slo: {{ ttft: 1s }} }}]
",
        simulator.address
    );
    let exporter = Exporter::start(&config, &[]);
    exporter.wait_for("the burst is over", |samples| {
        samples.count("requests_total", &[]) == 100 && samples.count("slo_bursts_total", &[]) == 1
    });
    exporter
}

/// Each request begins to answer a little after the one before.
fn simulator() -> Simulator {
    Simulator::start(Settings {
        profile: Profile::LAPTOP,
        speed: 20.0,
        ..Settings::default()
    })
}

fn content_type(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("content-type: "))
}

#[test]
fn the_format_is_the_one_that_is_accepted() {
    let nothing = "targets: [{ name: t, url: 'http://127.0.0.1:9', api: openai_chat, model: m }]\nprobes: [{ name: p, every: 1h }]\n";
    let exporter = Exporter::start(nothing, &[]);
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let protobuf =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    for (accept, expected) in [
        ("", text),
        ("Accept: */*\r\n", text),
        (OPEN_METRICS, open_metrics),
        // Two lines are one list.
        (
            "Accept: text/plain;q=0.1\r\nAccept: application/openmetrics-text\r\n",
            open_metrics,
        ),
        (&format!("Accept: {protobuf}\r\n"), protobuf),
        ("Accept: \u{e9}\r\n", text),
        (
            &format!("Accept: application/openmetrics-text;{}\r\n", "x".repeat(10_000)),
            text,
        ),
        (
            &format!("Accept: {}\r\n", "application/openmetrics-text,".repeat(300)),
            text,
        ),
        ("Accept: application/openmetrics-text;q=NaN\r\n", text),
    ] {
        let answer = get(&exporter.address, "/metrics", accept).unwrap();
        assert_eq!(content_type(&answer.head), Some(expected), "{accept:.60}");
        let ends = answer.body.ends_with("# EOF\n");
        assert_eq!(ends, expected == open_metrics, "{accept:.60}");
    }
    let escaped = "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8\r\n";
    let answer = get(&exporter.address, "/metrics", escaped).unwrap();
    assert_eq!(
        content_type(&answer.head),
        Some(&*format!("{open_metrics}; escaping=allow-utf-8"))
    );
}

#[test]
fn a_head_has_no_body_and_is_no_scrape() {
    let nothing = "targets: [{ name: t, url: 'http://127.0.0.1:9', api: openai_chat, model: m }]\nprobes: [{ name: p, every: 1h }]\n";
    let exporter = Exporter::start(nothing, &[]);
    let mut stream = TcpStream::connect(&exporter.address).unwrap();
    write!(
        stream,
        "HEAD /metrics HTTP/1.1\r\nHost: x\r\n{OPEN_METRICS}Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert_eq!(
        content_type(&answer),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert_eq!(exporter.get("/-/ready").status, 503, "nobody has scraped");
}

/// What the text format says; bucket bounds as text.
fn scraped(exporter: &Exporter) -> Samples {
    let text = exporter.get("/metrics").body;
    let lines = text.lines().filter(|line| line.starts_with("llm_probe_"));
    lines.map(sample).collect()
}

fn sample(line: &str) -> (BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut all = BTreeMap::from([("__name__".to_owned(), name.to_owned())]);
    let mut rest = labels.strip_suffix('}').unwrap();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut letters = after.chars();
        while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
            value.push(match letter {
                '\\' => letters.next().map(|c| if c == 'n' { '\n' } else { c }).unwrap(),
                letter => letter,
            });
        }
        all.insert(label.to_owned(), value);
        rest = letters.as_str().trim_start_matches(',');
    }
    (all, value.replace("Inf", "inf").parse().unwrap())
}

/// The result of an instant query; `None` of a sample that is a native histogram.
fn query(prometheus: &Prometheus, promql: &str) -> Vec<(BTreeMap<String, String>, Option<f64>)> {
    let encoded: String = url::form_urlencoded::byte_serialize(promql.as_bytes()).collect();
    let answer = get(&prometheus.address, &format!("/api/v1/query?query={encoded}"), "").unwrap();
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["status"], "success", "{promql}: {json}");
    let series = json["data"]["result"].as_array().unwrap().iter();
    series
        .map(|series| {
            let mut labels: BTreeMap<String, String> =
                serde_json::from_value(series["metric"].clone()).unwrap();
            labels.retain(|label, _| !matches!(label.as_str(), "job" | "instance"));
            let value = series["value"][1].as_str();
            (
                labels,
                value.map(|value| value.replace("Inf", "inf").parse().unwrap()),
            )
        })
        .collect()
}

/// What moves although no burst is fired.
fn moves(labels: &BTreeMap<String, String>) -> bool {
    ["exporter_runtime_lag", "target_backoff"]
        .iter()
        .any(|moving| labels["__name__"].contains(moving))
}

/// Prometheus stored what the text format says, but for the histograms where it stores native ones.
fn is_stored(variable: &str, config_of_the_job: &str, args: &[&str], native: bool) {
    let simulator = simulator();
    let exporter = exporter_after_a_burst(&simulator, &format!("{{ native_histograms: {native} }}"));
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: exporter, {config_of_the_job} static_configs: [{{ targets: ['{}'] }}] }}]\n",
        exporter.address
    );
    let prometheus = Prometheus::configured(variable, &config, args);
    eventually("Prometheus has scraped", || {
        query(&prometheus, "up == 1").first().map(|_| ())
    });
    assert!(query(&prometheus, "up == 0").is_empty());
    eventually("it has stored the scrape", || {
        query(&prometheus, "llm_probe_requests_total").first().map(|_| ())
    });
    let stored: BTreeMap<_, _> = query(&prometheus, "{__name__=~\"llm_probe_.*\"}")
        .into_iter()
        .collect();
    let said = scraped(&exporter);
    let mut compared = 0;
    for (labels, value) in said.iter().filter(|(labels, _)| !moves(labels)) {
        let name = &labels["__name__"];
        let is_histogram = ["_bucket", "_count", "_sum"]
            .iter()
            .any(|suffix| name.ends_with(suffix));
        if native && is_histogram {
            continue;
        }
        let found = stored.get(labels).copied().flatten();
        let same =
            found.is_some_and(|found| found.to_bits() == value.to_bits() || found.is_nan() && value.is_nan());
        assert!(same, "{labels:?}: {value}, stored {found:?}");
        compared += 1;
    }
    let expected = if native { 100 } else { 300 };
    assert!(compared >= expected, "{compared}");

    let names: BTreeSet<_> = said.keys().map(|labels| labels["__name__"].as_str()).collect();
    let histograms = names.iter().filter_map(|name| name.strip_suffix("_bucket"));
    for family in histograms.filter(|family| native && !family.contains("runtime_lag")) {
        for part in ["count", "sum"] {
            let name = format!("{family}_{part}");
            let expected = said.iter().filter(|(labels, _)| labels["__name__"] == name);
            let expected: Vec<_> = expected.map(|(_, value)| *value).collect();
            let mut found: Vec<_> = query(&prometheus, &format!("histogram_{part}({family})"));
            found.sort_by(|left, right| left.0.cmp(&right.0));
            let found: Vec<_> = found.into_iter().filter_map(|(_, value)| value).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
    if native {
        let exact = query(&prometheus, "llm_probe_burst_time_to_first_token_seconds");
        for (stat, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let exact = exact
                .iter()
                .find(|(labels, _)| labels["stat"] == stat)
                .unwrap()
                .1
                .unwrap();
            let promql = format!("histogram_quantile({quantile}, llm_probe_time_to_first_token_seconds)");
            let estimated = query(&prometheus, &promql)[0].1.unwrap();
            println!("{variable} {stat}: exactly {exact:.4} s, by the native histogram {estimated:.4} s");
            assert!(
                (estimated / exact - 1.0).abs() < 0.05,
                "{stat}: {estimated}, exactly {exact}"
            );
        }
    }
    if args.contains(&EXEMPLARS) {
        let path = "/api/v1/query_exemplars?query=llm_probe_time_to_first_token_seconds_bucket&start=0&end=9999999999";
        let path = if native {
            path.replace("_bucket", "")
        } else {
            path.to_owned()
        };
        eventually("the exemplar is there", || {
            let answer = get(&prometheus.address, &path, "").unwrap().body;
            answer.contains("\"request_id\":\"").then_some(())
        });
    }
}

const EXEMPLARS: &str = "--enable-feature=exemplar-storage";
const NATIVE: &str = "--enable-feature=native-histograms";

#[test]
#[ignore = "needs Prometheus: run tests/run.sh"]
fn real_prometheus_2_stores_what_is_exposed() {
    is_stored("LLM_PROBE_TEST_PROMETHEUS", "", &[EXEMPLARS], false);
}

#[test]
#[ignore = "needs Prometheus: run tests/run.sh"]
fn real_prometheus_2_stores_native_histograms() {
    is_stored("LLM_PROBE_TEST_PROMETHEUS", "", &[NATIVE, EXEMPLARS], true);
}

#[test]
#[ignore = "needs Prometheus: run tests/run.sh"]
fn real_prometheus_3_stores_what_is_exposed() {
    is_stored("LLM_PROBE_TEST_PROMETHEUS3", "", &[EXEMPLARS], false);
}

#[test]
#[ignore = "needs Prometheus: run tests/run.sh"]
fn real_prometheus_3_stores_native_histograms() {
    is_stored("LLM_PROBE_TEST_PROMETHEUS3", "", &[NATIVE, EXEMPLARS], true);
}

/// As the README says it.
#[test]
#[ignore = "needs Prometheus: run tests/run.sh"]
fn real_prometheus_3_stores_classic_histograms_beside_native_ones() {
    let simulator = simulator();
    let exporter = exporter_after_a_burst(&simulator, "{ native_histograms: true }");
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: exporter, always_scrape_classic_histograms: true, static_configs: [{{ targets: ['{}'] }}] }}]\n",
        exporter.address
    );
    let prometheus = Prometheus::configured("LLM_PROBE_TEST_PROMETHEUS3", &config, &[NATIVE]);
    let counts = "llm_probe_time_to_first_token_seconds_bucket{le=\"+Inf\"} == on(probe) histogram_count(llm_probe_time_to_first_token_seconds)";
    let found = eventually("both are stored", || query(&prometheus, counts).first().cloned());
    assert_eq!(found.1, Some(100.0));
}

/// A counter that was at 100 when it was first scraped rose by 100, not by 0.
#[test]
#[ignore = "needs Prometheus: run tests/run.sh"]
fn real_prometheus_3_knows_since_when_is_counted() {
    let simulator = simulator();
    let exporter = exporter_after_a_burst(&simulator, "{}");
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_protocols: [PrometheusProto] }}\nscrape_configs: [{{ job_name: exporter, static_configs: [{{ targets: ['{}'] }}] }}]\n",
        exporter.address
    );
    let created = "--enable-feature=created-timestamp-zero-ingestion";
    let prometheus = Prometheus::configured("LLM_PROBE_TEST_PROMETHEUS3", &config, &[created]);
    let rose = "max_over_time(llm_probe_requests_total[10m]) - min_over_time(llm_probe_requests_total[10m])";
    let found = eventually("it is stored", || query(&prometheus, rose).first().cloned());
    assert_eq!(found.1, Some(100.0));
    let bucket = "min_over_time(llm_probe_time_to_first_token_seconds_bucket{le=\"+Inf\"}[10m])";
    assert_eq!(query(&prometheus, bucket)[0].1, Some(0.0));
}

fn fed(command: &mut Command, text: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
#[ignore = "needs promtool and Python: run tests/run.sh"]
fn real_tools_find_no_fault() {
    let simulator = simulator();
    let exporter = exporter_after_a_burst(&simulator, "{ native_histograms: true }");
    for promtool in ["LLM_PROBE_TEST_PROMTOOL", "LLM_PROBE_TEST_PROMTOOL3"] {
        let text = exporter.get("/metrics").body;
        let said = fed(
            Command::new(component(promtool)).args(["check", "metrics"]),
            &text,
        );
        assert_eq!(said, "");
    }
    let text = get(&exporter.address, "/metrics", OPEN_METRICS).unwrap().body;
    let script = "
import sys
from prometheus_client.openmetrics import parser
families = list(parser.text_string_to_metric_families(sys.stdin.read()))
samples = [sample for family in families for sample in family.samples]
print(len(families), len(samples), sum(sample.exemplar is not None for sample in samples))
";
    let python = component("LLM_PROBE_TEST_LLAMA_PYTHON");
    let said = fed(Command::new(python).args(["-c", script]), &text);
    let types = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(said.trim(), format!("{types} {samples} 2"));
}
