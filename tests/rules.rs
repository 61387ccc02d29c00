//! The rules, the runbook and the example configurations of `config/prometheus`. What is an alert's reason is tested by
//! `promtool test rules` on the files of `tests/rules`.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/rules.rs"]
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use components::component;
use llm_probe_exporter::{
    config::plan::Alert,
    metrics::{Kind, table},
    outcome::{Failure, Skip},
    slo::{Objective, Why},
};
use serde_yaml::Value;

const FILES: [&str; 2] = ["recording.yml", "alerting.yml"];

/// The dashboards that an alert may lead to.
const DASHBOARDS: [&str; 4] = [
    "llm-probe-overview",
    "llm-probe-latency",
    "llm-probe-capacity",
    "llm-probe-detail",
];

fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {value:?}"))
        .to_owned()
}

/// Every group of both files.
fn groups() -> Vec<Value> {
    let of = |file: &str| {
        let file: Value = serde_yaml::from_str(&rules::text(&format!("rules/{file}"))).unwrap();
        file["groups"].as_sequence().unwrap().clone()
    };
    FILES.into_iter().flat_map(of).collect()
}

fn all_rules() -> Vec<Value> {
    let of = |group: Value| group["rules"].as_sequence().unwrap().clone();
    groups().into_iter().flat_map(of).collect()
}

fn alerts() -> Vec<Value> {
    let mut all = all_rules();
    all.retain(|rule| rule.get("alert").is_some());
    assert!(all.len() > 12, "the alerts were not found");
    all
}

/// The files of promtool's unit tests.
fn unit_tests() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Words that could be the name of a metric.
fn words(expr: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    expr.split(move |c| !is_part(c)).filter(|word| !word.is_empty())
}

#[test]
fn the_runbook_tells_of_every_alert_and_of_nothing_else() {
    let runbook = rules::text("runbook.md");
    let sections: BTreeMap<_, _> = runbook
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .collect();
    let told: BTreeSet<_> = sections.keys().map(|&name| name.to_owned()).collect();
    let fired: BTreeSet<_> = alerts().iter().map(|alert| text(alert, "alert")).collect();
    assert_eq!(told, fired);
    for (name, section) in sections {
        let parts: Vec<_> = section
            .split("\n**")
            .skip(1)
            .map(|part| part.split_once(".**").unwrap())
            .collect();
        let titles: Vec<_> = parts.iter().map(|(title, _)| *title).collect();
        assert_eq!(titles, ["Meaning", "Impact", "Look at", "Do"], "{name}");
        assert!(parts.iter().all(|(_, said)| said.trim().len() > 20), "{name}");
    }
    // What it tells to look at is there.
    let names: BTreeSet<_> = table().map(|family| family.name).collect();
    let mut named = words(&runbook)
        .filter(|word| word.starts_with("llm_probe_"))
        .peekable();
    assert!(named.peek().is_some());
    for name in named {
        assert!(names.contains(name), "the runbook names {name}");
    }
}

#[test]
fn every_alert_says_what_a_reader_needs() {
    for alert in alerts() {
        let name = text(&alert, "alert");
        let annotations = &alert["annotations"];
        let given: Vec<_> = annotations
            .as_mapping()
            .unwrap()
            .keys()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(
            given,
            ["summary", "description", "runbook_url", "dashboard_url"],
            "{name}"
        );
        // The heading of the runbook, as web pages of Markdown make an anchor of it.
        let runbook = text(annotations, "runbook_url");
        let (_, anchor) = runbook.split_once('#').unwrap();
        assert_eq!(anchor, name.to_ascii_lowercase());
        let dashboard = text(annotations, "dashboard_url");
        let (_, dashboard) = dashboard.split_once("/d/").unwrap();
        let (uid, _) = dashboard.split_once('?').unwrap_or((dashboard, ""));
        assert!(DASHBOARDS.contains(&uid), "{name}: {uid}");
        let severity = text(&alert["labels"], "severity");
        let is_kept = alert.get("keep_firing_for").is_some();
        match severity.as_str() {
            "critical" => assert!(is_kept, "{name}: a page that comes and goes is to be one page"),
            "warning" => assert!(!is_kept, "{name}"),
            other => panic!("{name} has the severity {other}"),
        }
        assert!(alert.get("for").is_some(), "{name}");
    }
}

#[test]
fn rules_read_what_is_exported_or_recorded() {
    let recorded: BTreeSet<_> = all_rules()
        .iter()
        .filter_map(|rule| Some(rule.get("record")?.as_str()?.to_owned()))
        .collect();
    let mut exported = BTreeSet::from(["up".to_owned()]);
    for family in table() {
        exported.insert(family.name.to_owned());
        // A native histogram has the name of its family.
        if matches!(family.kind, Kind::Histogram(_)) {
            exported.insert(format!("{}_bucket", family.name));
        }
    }
    let is_metric = |word: &&str| word.starts_with("llm_probe_") || word.starts_with("series:");
    let mut read = BTreeSet::new();
    for rule in all_rules() {
        let expr = text(&rule, "expr");
        for name in words(&expr).filter(is_metric) {
            assert!(
                recorded.contains(name) || exported.contains(name),
                "{name} in {expr}"
            );
            read.insert(name.to_owned());
        }
    }
    // What only dashboards read: the budget of 28 days.
    let unread: Vec<_> = recorded.difference(&read).collect();
    assert_eq!(unread, ["series:llm_probe_bad_requests:ratio_rate28d"]);
    let overview = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/overview.json");
    assert!(fs::read_to_string(overview).unwrap().contains(unread[0]));
    for file in unit_tests() {
        let tests: Value = serde_yaml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for test in tests["tests"].as_sequence().unwrap() {
            for series in test["input_series"].as_sequence().unwrap() {
                let series = text(series, "series");
                let (name, _) = series.split_once('{').unwrap();
                assert!(exported.contains(name), "{} gives {name}", file.display());
            }
        }
    }
}

/// The values that an expression compares a label with.
fn compared(expr: &str, label: &str) -> Vec<String> {
    let mut found = Vec::new();
    for operator in ["=~", "!~", "=", "!="] {
        for after in expr.split(&format!("{label}{operator}\"")).skip(1) {
            let (values, _) = after.split_once('"').unwrap();
            found.extend(values.split('|').map(str::to_owned));
        }
    }
    found
}

#[test]
fn rules_compare_labels_with_values_that_there_are() {
    let reasons = Failure::ALL.iter().map(|reason| reason.as_str());
    let reasons = reasons
        .chain(Skip::ALL.iter().map(|reason| reason.as_str()))
        .collect();
    let known: [(&str, Vec<&str>); 4] = [
        ("reason", reasons),
        ("why", Why::ALL.map(Why::as_str).into()),
        ("slo", Objective::ALL.map(Objective::as_str).into()),
        (
            "alert",
            [Alert::Page, Alert::Ticket, Alert::None]
                .map(Alert::as_str)
                .into(),
        ),
    ];
    for (label, values) in known {
        let all = all_rules();
        let compared: Vec<_> = all
            .iter()
            .flat_map(|rule| compared(&text(rule, "expr"), label))
            .collect();
        assert!(!compared.is_empty(), "{label}");
        for value in compared {
            assert!(values.contains(&value.as_str()), "{label} is never {value}");
        }
    }
}

#[test]
fn aggregations_keep_the_labels_that_route_an_alert() {
    for rule in all_rules() {
        let expr = text(&rule, "expr");
        // That of the target's alert is a condition: the labels come from the other side of `and`. Of a job that is
        // gone no more is left than its name.
        for by in expr.split(" by ").skip(1) {
            assert!(
                by.starts_with("(job, namespace, cluster, target) (series:llm_probe_unanswered:intervals)")
                    || expr.contains("up{"),
                "{expr}"
            );
        }
        for labels in expr.split("without (").skip(1) {
            let dropped = [
                "instance, pod",
                "index)",
                "probe, model, concurrency, rate)",
                "alert)",
            ];
            assert!(
                dropped.iter().any(|dropped| labels.starts_with(dropped)),
                "{expr}"
            );
        }
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_to_be_silent() {
    let mut fired = BTreeSet::new();
    for file in unit_tests() {
        let tests: Value = serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        for test in tests["tests"].as_sequence().unwrap() {
            for case in test["alert_rule_test"].as_sequence().into_iter().flatten() {
                let expected = case["exp_alerts"].as_sequence().unwrap();
                fired.extend((!expected.is_empty()).then(|| text(case, "alertname")));
            }
            let is_silent = |case: &Value| case["exp_samples"].as_sequence().is_some_and(Vec::is_empty);
            let mut cases = test["promql_expr_test"].as_sequence().into_iter().flatten();
            assert!(
                test.get("alert_rule_test").is_some() || cases.next().is_some(),
                "{test:?} expects nothing"
            );
            let all: Vec<_> = test["promql_expr_test"]
                .as_sequence()
                .into_iter()
                .flatten()
                .collect();
            let claims_silence =
                text(test, "name").contains("nothing") || text(test, "name").contains("resolves");
            assert!(
                !claims_silence || all.into_iter().any(is_silent),
                "{:?}",
                test["name"]
            );
        }
    }
    let alerts: BTreeSet<_> = alerts().iter().map(|alert| text(alert, "alert")).collect();
    assert_eq!(fired, alerts);
}

#[test]
fn unit_tests_evaluate_the_groups_in_the_order_of_the_files() {
    let groups: Vec<_> = groups().iter().map(|group| text(group, "name")).collect();
    for file in unit_tests() {
        let tests: Value = serde_yaml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let order = tests["group_eval_order"].as_sequence().into_iter().flatten();
        let order: Vec<_> = order.filter_map(Value::as_str).collect();
        assert_eq!(order, groups, "{}", file.display());
    }
}

#[test]
fn time_goes_faster_in_windows_and_durations_alone() {
    let rule = "  interval: 30s\n- record: a:rate1h # 1h\n  # for: 1h\n  expr: rate(a{b=\"[c]\"}[1h]) > 5\n  for: 2m\n";
    assert_eq!(
        rules::faster(rule, 60),
        "  interval: 500ms\n- record: a:rate1h # 1h\n\n  expr: rate(a{b=\"[c]\"}[60000ms]) > 5\n  for: 2000ms\n"
    );
}

#[test]
fn kubernetes_monitors_select_what_there_is() {
    let documents = |name: &str| -> Vec<Value> {
        use serde::Deserialize;
        serde_yaml::Deserializer::from_str(&rules::text(name))
            .map(|document| Value::deserialize(document).unwrap())
            .collect()
    };
    let [service, monitor] = <[_; 2]>::try_from(documents("servicemonitor.yaml")).unwrap();
    let [pods] = <[_; 1]>::try_from(documents("podmonitor.yaml")).unwrap();
    assert_eq!(text(&service, "kind"), "Service");
    assert_eq!(service["spec"]["ports"][0]["port"], 9850);
    for (monitor, kind, endpoints) in [
        (&monitor, "ServiceMonitor", "endpoints"),
        (&pods, "PodMonitor", "podMetricsEndpoints"),
    ] {
        assert_eq!(text(monitor, "apiVersion"), "monitoring.coreos.com/v1");
        assert_eq!(text(monitor, "kind"), kind);
        assert_eq!(
            monitor["spec"]["selector"]["matchLabels"],
            service["metadata"]["labels"]
        );
        let endpoint = &monitor["spec"][endpoints][0];
        assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
        // The rule that the exporter is down finds jobs by this; the operator names them after these objects.
        assert!(text(&monitor["metadata"], "name").contains("llm-probe"));
    }
}

/// Runs a program to its end, which is to be a success; what it said.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

const PROMTOOLS: [&str; 2] = ["LLM_PROBE_TEST_PROMTOOL", "LLM_PROBE_TEST_PROMTOOL3"];

#[test]
#[ignore = "needs promtool: run tests/run.sh"]
fn real_promtool_has_no_finding_in_the_rules() {
    for promtool in PROMTOOLS {
        let files = FILES.map(|file| rules::path("rules").join(file));
        let mut check = Command::new(component(promtool));
        succeeds(
            check
                .args(["check", "rules", "--lint=all", "--lint-fatal"])
                .args(files),
        );
    }
}

#[test]
#[ignore = "needs promtool: run tests/run.sh"]
fn real_promtool_tests_every_alert() {
    for promtool in PROMTOOLS {
        succeeds(
            Command::new(component(promtool))
                .args(["test", "rules"])
                .args(unit_tests()),
        );
    }
}

#[test]
#[ignore = "needs promtool and amtool: run tests/run.sh"]
fn real_example_configurations_are_valid() {
    let both = PROMTOOLS.map(|promtool| {
        ["prometheus.yml", "demo.yml", "remote-write.yml", "on-demand.yml"].map(|file| (promtool, file))
    });
    let native = ("LLM_PROBE_TEST_PROMTOOL3", "native-histograms.yml");
    for (promtool, file) in both.concat().into_iter().chain([native]) {
        let mut check = Command::new(component(promtool));
        let said = succeeds(check.args(["check", "config"]).arg(rules::path(file)));
        assert!(said.contains("is valid prometheus config file syntax"), "{said}");
    }
    let mut check = Command::new(component("LLM_PROBE_TEST_AMTOOL"));
    succeeds(check.arg("check-config").arg(rules::path("alertmanager.yml")));
    for (labels, receiver) in [
        (["alertname=LLMProbeBudgetBurn", "severity=critical"], "pages"),
        (["alertname=LLMProbeQueueing", "severity=warning"], "tickets"),
    ] {
        let mut route = Command::new(component("LLM_PROBE_TEST_AMTOOL"));
        route
            .args(["config", "routes", "test"])
            .arg(format!(
                "--config.file={}",
                rules::path("alertmanager.yml").display()
            ))
            .args(labels)
            .arg(format!("--verify.receivers={receiver}"));
        succeeds(&mut route);
    }
}
