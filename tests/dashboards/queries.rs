//! What Prometheus is asked.

use std::collections::{BTreeMap, BTreeSet};

use llm_probe_exporter::metrics::{self, SERIES_LABELS};
use promql_parser::parser::Expr;

use crate::{
    dashboard::{Dashboard, Query, dashboards},
    promql::{aggregated, any, called, follows_variable, keeps, name, parse, selector, visit},
};

/// What others export.
const FOREIGN: &[&str] = &[
    "ALERTS",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "sglang:num_queue_reqs",
    "sglang:num_running_reqs",
    "sglang:queue_time_seconds_bucket",
    "sglang:token_usage",
    "vllm:kv_cache_usage_perc",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:request_queue_time_seconds_bucket",
];

/// What the rules of `config/prometheus` record, and how.
fn recorded() -> BTreeMap<String, String> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/config/prometheus/rules/recording.yml"
    );
    let rules: serde_yaml::Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let groups = rules["groups"].as_sequence().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_sequence().unwrap())
        .map(|rule| ["record", "expr"].map(|key| rule[key].as_str().unwrap().to_owned()))
        .map(|[name, expr]| (name, expr))
        .collect()
}

/// What is left of an expression when nothing is said of the dashboard's filters, of what an aggregation keeps, and
/// of layout.
fn essence(expr: &str) -> String {
    let filters = r#"job=~"$job", target=~"$target", probe=~"$probe", model=~"$model""#;
    let plain = expr
        .replace(&format!("{{{filters}}}"), "")
        .replace(&format!("{filters}, "), "");
    let aggregation = regex::Regex::new(r"\b(by|without) \([^)]*\)").unwrap();
    aggregation.replace_all(&plain, "").split_whitespace().collect()
}

/// A series name of the exporter: its family, and whether it only ever grows.
#[derive(Clone, Debug)]
struct Exported {
    family: String,
    cumulative: bool,
    labels: Vec<String>,
}

/// By the name of the series, as the documentation has the families.
fn exported() -> BTreeMap<String, Exported> {
    let mut names = BTreeMap::new();
    for row in metrics::markdown_table().lines().skip(2) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let family = cells[1].trim_matches('`');
        let labels = cells[3].split(", ").flat_map(|label| match label {
            "**P**" => SERIES_LABELS.to_vec(),
            label => vec![label],
        });
        let is = |cumulative| Exported {
            family: family.to_owned(),
            cumulative,
            labels: labels.clone().map(str::to_owned).collect(),
        };
        if cells[2] == "histogram" {
            for part in ["_bucket", "_sum", "_count"] {
                names.insert(format!("{family}{part}"), is(true));
            }
        } else {
            names.insert(family.to_owned(), is(cells[2] == "counter"));
        }
    }
    names
}

fn every_query() -> Vec<Query> {
    let all = dashboards();
    all.iter()
        .flat_map(|dashboard| dashboard.queries().into_iter().chain(dashboard.annotations()))
        .collect()
}

/// Runs over every part of every query, with those that it is in.
fn each_part(mut check: impl FnMut(&str, &Expr, &[&Expr])) {
    for query in every_query() {
        visit(&parse(&query), &mut |part, within| {
            check(&query.place, part, within);
        });
    }
}

#[test]
fn every_metric_exists() {
    let (exported, recorded) = (exported(), recorded());
    each_part(|place, part, _| {
        if let Some((selector, _)) = selector(part) {
            let name = name(selector);
            assert!(
                exported.contains_key(name) || FOREIGN.contains(&name) || recorded.contains_key(name),
                "{place}: nobody exports {name}"
            );
        }
    });
}

#[test]
fn every_family_is_shown() {
    let exported = exported();
    let mut shown = BTreeSet::new();
    for query in dashboards().iter().flat_map(Dashboard::queries) {
        visit(&parse(&query), &mut |part, _| {
            let family = selector(part).and_then(|(selector, _)| exported.get(name(selector)));
            shown.extend(family.map(|family| family.family.clone()));
        });
    }
    let all: BTreeSet<_> = exported.into_values().map(|exported| exported.family).collect();
    let hidden: Vec<_> = all.difference(&shown).collect();
    assert!(hidden.is_empty(), "no panel shows {hidden:?}");
}

#[test]
fn counters_are_read_by_how_much_they_grow() {
    let exported = exported();
    each_part(|place, part, within| {
        let Some((selector, over_time)) = selector(part) else {
            return;
        };
        let name = name(selector);
        let grows = exported
            .get(name)
            .map_or(name.ends_with("_bucket"), |exported| exported.cumulative);
        let growth = within
            .last()
            .and_then(|call| called(call))
            .is_some_and(|name| ["rate", "increase"].contains(&name));
        assert_eq!(grows, over_time && growth, "{place}: {name}");
    });
}

#[test]
fn selectors_follow_the_variables() {
    let exported = exported();
    each_part(|place, part, _| {
        let Some((selector, _)) = selector(part) else {
            return;
        };
        let name = name(selector);
        let Some(exported) = exported.get(name) else {
            return;
        };
        let own = exported.labels.iter().map(String::as_str);
        for label in own
            .filter(|label| ["target", "probe", "model"].contains(label))
            .chain(["job"])
        {
            // A change of the model has one side with another model.
            assert!(
                follows_variable(selector, label) || (label == "model" && place.ends_with("Model changes")),
                "{place}: {name} is not narrowed by ${label}"
            );
        }
    });
}

#[test]
fn quantiles_are_taken_of_whole_histograms_and_never_averaged() {
    each_part(|place, part, within| {
        if called(part) == Some("histogram_quantile") {
            let mut aggregations = 0;
            visit(part, &mut |inner, _| {
                aggregations += usize::from(aggregated(inner).is_some());
                assert!(keeps(inner, "le"), "{place}: le is lost");
            });
            assert_eq!(aggregations, 1, "{place}: replicas have a histogram each");
            for outer in within {
                let operator = aggregated(outer).unwrap_or_default();
                assert!(
                    !["sum", "avg"].contains(&operator.as_str()),
                    "{place}: {operator} of quantiles"
                );
            }
        }
    });
}

#[test]
fn goodput_comes_from_its_counters() {
    each_part(|place, part, _| {
        assert_ne!(called(part), Some("histogram_fraction"), "{place}");
        if let Some((selector, _)) = selector(part) {
            let by_bucket = selector
                .matchers
                .matchers
                .iter()
                .any(|matcher| matcher.name == "le");
            assert!(!by_bucket, "{place}: a limit is rarely a bucket");
        }
    });
}

/// Nothing happened is no value, and not the quotient of two zeros.
#[test]
fn shares_of_nothing_are_no_value() {
    each_part(|place, part, _| {
        let Expr::Binary(binary) = part else {
            return;
        };
        let growth = |part: &Expr| called(part).is_some_and(|name| ["rate", "increase"].contains(&name));
        if binary.op.to_string() == "/" && any(&binary.rhs, growth) {
            let above_zero = any(&binary.rhs, |part| match part {
                Expr::Binary(inner) => inner.op.to_string() == ">",
                _ => false,
            });
            assert!(above_zero, "{place}: divides by what may be 0: {}", binary.rhs);
        }
    });
}

#[test]
fn burn_rates_and_states_are_those_of_the_rules() {
    let queries = every_query();
    let said = |place: &str| {
        let query = queries.iter().find(|query| query.place == place).unwrap();
        essence(&query.expr)
    };
    let recorded = recorded();
    let rule = |name: &str| essence(&recorded[name]);
    let objective = rule("series:llm_probe_objective:ratio").replace("_ratio)", "_ratio{alert!=\"none\"})");
    assert_eq!(
        said("overview / Burn rate / A"),
        format!(
            "({})/(1-{objective})",
            rule("series:llm_probe_bad_requests:ratio_rate1h")
        )
    );
    let states = said("overview / Status / A");
    let down = format!("({})>2)", rule("series:llm_probe_unanswered:intervals"));
    assert!(states.contains(&down), "{down} is not in {states}");
    let alerts = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/config/prometheus/rules/alerting.yml"
    );
    let alerts = essence(&std::fs::read_to_string(alerts).unwrap());
    let (_, no_burst) = alerts.split_once("alert:LLMProbeNoBurstexpr:|").unwrap();
    let (no_burst, _) = no_burst.split_once("andignoring(alert)").unwrap();
    assert!(states.contains(no_burst), "{no_burst} is not in {states}");
}
