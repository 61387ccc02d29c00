//! What Grafana reads: identity, variables, panels.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::dashboard::{Dashboard, dashboards, list, text};

/// Units of Grafana that are used here. It shows an unknown one as a suffix, so that `secs` would read `0.2 secs`.
const UNITS: &[&str] = &[
    "bytes",
    "cpm",
    "currencyUSD",
    "none",
    "percentunit",
    "reqpm",
    "reqps",
    "s",
    "short",
    "suffix: tok/s",
    "suffix:x",
];

/// The filters, each of which is narrowed by those before it.
const FILTERS: [&str; 4] = ["job", "target", "probe", "model"];

#[test]
fn each_is_who_the_links_and_alerts_think_it_is() {
    let all = dashboards();
    let names: Vec<_> = all.iter().map(|dashboard| dashboard.name.as_str()).collect();
    assert_eq!(names, ["capacity", "detail", "latency", "overview"]);
    for Dashboard { name, json } in &all {
        assert_eq!(json["uid"], format!("llm-probe-{name}"));
        assert_eq!(json["id"], Value::Null, "{name}: Grafana gives the id");
        assert_eq!(json["schemaVersion"], 39, "{name}: what Grafana 10 to 13 read");
        assert_eq!(json["editable"], false, "{name}");
        assert!(
            json.get("__inputs").is_none(),
            "{name}: provisioning does not fill these in"
        );
        assert_eq!(json["graphTooltip"], 1, "{name}: one crosshair for all panels");
        assert!(
            !text(json, "title").is_empty() && !text(json, "description").is_empty(),
            "{name}"
        );
        let [link] = list(json, "links") else {
            panic!("{name}: one link, to the others")
        };
        assert_eq!(link["tags"], json["tags"], "{name}");
        assert!(link["keepTime"] == true && link["includeVars"] == true, "{name}");
        let events: Vec<_> = list(&json["annotations"], "list")
            .iter()
            .map(|event| text(event, "name"))
            .collect();
        assert_eq!(
            events,
            ["Firing alerts", "Configuration reloads", "Model changes"],
            "{name}"
        );
    }
}

#[test]
fn links_lead_to_a_dashboard() {
    let known: BTreeSet<_> = dashboards()
        .iter()
        .map(|dashboard| text(&dashboard.json, "uid").to_owned())
        .collect();
    let mut texts: Vec<_> = dashboards()
        .iter()
        .map(|dashboard| (dashboard.name.clone(), dashboard.json.to_string()))
        .collect();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/rules/alerting.yml");
    texts.push(("alerting.yml".into(), fs::read_to_string(rules).unwrap()));
    for (name, text) in texts {
        for link in text.split("/d/").skip(1) {
            let uid: String = link
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '-')
                .collect();
            assert!(known.contains(&uid), "{name}: there is no dashboard `{uid}`");
        }
    }
}

#[test]
fn variables_narrow_each_other_and_all_is_all() {
    for Dashboard { name, json } in dashboards() {
        let variables = list(&json["templating"], "list");
        let names: Vec<_> = variables.iter().map(|variable| text(variable, "name")).collect();
        assert!(
            names.starts_with(&["datasource", "job", "target", "probe", "model"]),
            "{name}: {names:?}"
        );
        assert_eq!(names.last(), Some(&"window"), "{name}");
        for (at, variable) in variables
            .iter()
            .enumerate()
            .filter(|(_, variable)| variable["type"] == "query")
        {
            let place = format!("{name}: {}", text(variable, "name"));
            assert!(
                variable["multi"] == true && variable["includeAll"] == true,
                "{place}"
            );
            assert_eq!(
                variable["refresh"], 2,
                "{place}: also when the time range changes"
            );
            assert_eq!(variable["datasource"]["uid"], "${datasource}", "{place}");
            // `.*` also takes the series that have no such label: an open loop has no users.
            let all = if names[at] == "users" { ".*" } else { ".+" };
            assert_eq!(variable["allValue"], all, "{place}");
            let query = text(&variable["query"], "query");
            for before in FILTERS.iter().take(at - 1) {
                assert!(
                    query.contains(&format!("{before}=~\"${before}\"")),
                    "{place}: {query}"
                );
            }
        }
        let written = json.to_string();
        for used in written.split('$').skip(1) {
            let used: String = used
                .trim_start_matches('{')
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            // Without a name it is the end of a regular expression.
            assert!(
                used.is_empty() || used.starts_with("__") || names.contains(&used.as_str()),
                "{name}: nothing fills in ${used}"
            );
        }
    }
}

#[test]
fn panels_say_what_they_mean() {
    for dashboard in dashboards() {
        let mut ids = BTreeSet::new();
        for panel in dashboard.panels() {
            assert!(!text(panel, "title").is_empty(), "{}: {panel}", dashboard.name);
            assert!(
                ids.insert(panel["id"].as_u64()),
                "{}: the id is taken",
                dashboard.place(panel)
            );
        }
        for panel in dashboard.drawn() {
            let (place, description) = (dashboard.place(panel), text(panel, "description"));
            assert!(
                description.ends_with(['.', '?']),
                "{place}: a sentence: {description:?}"
            );
            assert!(
                ["llm_probe_", "process_", "scrape_", "ALERTS", "vllm:"]
                    .iter()
                    .any(|name| description.contains(name)),
                "{place}: the description names the metric"
            );
            assert_eq!(
                panel["datasource"],
                json!({ "type": "prometheus", "uid": "${datasource}" }),
                "{place}"
            );
            assert!(!list(panel, "targets").is_empty(), "{place}");
            for unit in units(panel) {
                assert!(UNITS.contains(&unit), "{place}: unit `{unit}`");
            }
        }
    }
}

fn units(panel: &Value) -> Vec<&str> {
    let config = &panel["fieldConfig"];
    let overridden = list(config, "overrides")
        .iter()
        .flat_map(|rule| list(rule, "properties"))
        .filter(|property| property["id"] == "unit")
        .map(|property| text(property, "value"));
    let axis = panel["options"]["yAxis"]["unit"].as_str();
    config["defaults"]["unit"]
        .as_str()
        .into_iter()
        .chain(axis)
        .chain(overridden)
        .collect()
}

#[test]
fn thresholds_are_chosen_and_not_left_over() {
    for dashboard in dashboards() {
        for panel in dashboard.drawn() {
            let place = dashboard.place(panel);
            let defaults = &panel["fieldConfig"]["defaults"];
            let steps = list(&defaults["thresholds"], "steps");
            assert!(
                !steps.iter().any(|step| step["value"] == 80),
                "{place}: red at 80 is Grafana's default"
            );
            // Filled areas drown the data.
            let style = &defaults["custom"]["thresholdsStyle"]["mode"];
            assert!(
                style.is_null() || style == "dashed",
                "{place}: thresholds are {style}"
            );
        }
    }
}

#[test]
fn panels_do_not_overlap() {
    for dashboard in dashboards() {
        let mut taken = BTreeSet::new();
        let open = list(&dashboard.json, "panels").iter();
        for panel in open {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(
                w > 0 && h > 0 && x + w <= 24,
                "{}: outside",
                dashboard.place(panel)
            );
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(
                    taken.insert(cell),
                    "{}: {cell:?} is taken",
                    dashboard.place(panel)
                );
            }
        }
    }
}
