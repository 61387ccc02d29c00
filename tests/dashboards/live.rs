//! Every query against a real Prometheus that has scraped the demo.

use std::{collections::BTreeSet, fs, process::Stdio, thread, time::Duration};

use serde_json::Value;

use crate::{
    components::Prometheus,
    dashboard::{Dashboard, Query, dashboards},
    process::{Exporter, get, program},
    rules,
};

/// Queries to which the demo has no answer.
const EMPTY: &[(&str, &str)] = &[
    ("capacity / Searched capacity / A", "none of its probes searches"),
    ("capacity / Searched capacity / B", "none of its probes searches"),
    ("capacity / Searched capacity / C", "none of its probes searches"),
    ("capacity / Searched capacity / D", "none of its probes searches"),
    ("capacity / Searched capacity / E", "none of its probes searches"),
    ("capacity / Searched capacity / F", "none of its probes searches"),
    (
        "capacity / Replicas, last burst / A",
        "each of its servers is one replica",
    ),
    (
        "capacity / Replicas, last burst / B",
        "each of its servers is one replica",
    ),
    (
        "capacity / Replicas, last burst / C",
        "each of its servers is one replica",
    ),
    (
        "capacity / Replicas, last burst / D",
        "each of its servers is one replica",
    ),
    (
        "capacity / Waiting and running / C",
        "its servers speak of themselves as vLLM does",
    ),
    (
        "capacity / Waiting and running / D",
        "its servers speak of themselves as vLLM does",
    ),
    (
        "capacity / Time in the queue, p95 / B",
        "its servers speak of themselves as vLLM does",
    ),
    (
        "capacity / KV cache in use / B",
        "its servers speak of themselves as vLLM does",
    ),
    (
        "detail / Outcomes / C",
        "requests fail by our own doing only where something is wrong here",
    ),
    ("detail / Certificates end in / A", "its servers speak no TLS"),
    ("detail / Not to be read / B", "its targets have no secrets"),
    ("detail / State / I", "it has no file for its web server"),
    (
        "detail / Budgets used / B",
        "nobody may ask it for bursts at URLs",
    ),
];

/// How long the demo is watched: two rounds of its slowest probe, ten good bursts of its single user.
const WATCHED: Duration = Duration::from_mins(2);

/// What Grafana would ask with every filter at All.
fn filled_in(query: &Query) -> String {
    let chosen = ["$job", "$target", "$probe", "$model"];
    let text = query.over("2m").replace("$users", ".*");
    chosen
        .iter()
        .fold(text, |text, variable| text.replace(variable, ".+"))
}

/// The values that a panel would draw.
fn values(prometheus: &Prometheus, query: &Query, now: f64) -> Vec<String> {
    let promql = filled_in(query);
    let encoded: String = url::form_urlencoded::byte_serialize(promql.as_bytes()).collect();
    let path = if query.instant {
        format!("/api/v1/query?time={now}&query={encoded}")
    } else {
        let start = now - WATCHED.as_secs_f64();
        format!("/api/v1/query_range?start={start}&end={now}&step=15&query={encoded}")
    };
    let answer = get(&prometheus.address, &path, "").unwrap();
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["status"], "success", "{}: {promql}\n{json}", query.place);
    let series = json["data"]["result"].as_array().unwrap();
    let points = series.iter().flat_map(|series| match &series["values"] {
        Value::Array(points) => points.iter().collect(),
        _ => vec![&series["value"]],
    });
    let numbers = points.map(|point| point[1].as_str().unwrap().to_owned());
    numbers
        .filter(|number| !["NaN", "+Inf", "-Inf"].contains(&number.as_str()))
        .collect()
}

#[test]
#[ignore = "needs both versions of Prometheus, and the machine for itself: run tests/run.sh"]
fn real_queries_return_data_of_the_demo() {
    let mut demo = program();
    demo.args(["demo", "--web.listen-address=127.0.0.1:0"])
        .stdout(Stdio::null());
    let demo = Exporter::spawn(&mut demo, tempfile::tempdir().unwrap());
    let servers: Vec<String> = demo
        .metrics()
        .find("target_info", &[])
        .map(|(series, _)| {
            series
                .split_once("host=\"")
                .unwrap()
                .1
                .split('"')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    // As shipped, but for the addresses, and for rules whose groups would first be evaluated minutes later.
    let folder = tempfile::tempdir().unwrap();
    for file in ["recording.yml", "alerting.yml"] {
        let rules = rules::text(&format!("rules/{file}"));
        let rules = rules.replace("interval: 2m", "interval: 15s");
        fs::write(folder.path().join(file), rules).unwrap();
    }
    let mut config = rules::text("demo.yml")
        .replace("rules/*.yml", &format!("{}/*.yml", folder.path().display()))
        .replace("localhost:9850", &demo.address);
    for (port, server) in (18001..).zip(&servers) {
        let shipped = format!("localhost:{port}");
        assert!(config.contains(&shipped), "{shipped} is not scraped");
        config = config.replace(&shipped, server);
    }
    let versions = ["LLM_PROBE_TEST_PROMETHEUS", "LLM_PROBE_TEST_PROMETHEUS3"]
        .map(|variable| (variable, Prometheus::configured(variable, &config, &[])));
    thread::sleep(WATCHED);

    let known: BTreeSet<_> = EMPTY.iter().map(|(place, _)| (*place).to_owned()).collect();
    for (version, prometheus) in &versions {
        let now = prometheus.query("vector(time())").unwrap();
        let queries: Vec<_> = dashboards().iter().flat_map(Dashboard::queries).collect();
        let empty: BTreeSet<_> = queries
            .iter()
            .filter(|query| values(prometheus, query, now).is_empty())
            .map(|query| query.place.clone())
            .collect();
        println!(
            "{version}: {} of {} queries returned data",
            queries.len() - empty.len(),
            queries.len()
        );
        let unexpected: Vec<_> = empty.difference(&known).collect();
        assert!(unexpected.is_empty(), "{version}: nothing for {unexpected:#?}");
        let answered: Vec<_> = known.difference(&empty).collect();
        assert!(answered.is_empty(), "{version}: there is data for {answered:#?}");
    }
}
