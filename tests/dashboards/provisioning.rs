//! What brings the dashboards into Grafana: files that exist, ports and paths that agree.

use std::{collections::BTreeSet, fs, path::Path};

use serde_yaml::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_sequence().into_iter().flatten().filter_map(Value::as_str)
}

/// The mounts of a service: where from, where to.
fn mounts(service: &Value) -> impl Iterator<Item = (&str, &str)> {
    strings(&service["volumes"]).map(|mount| {
        let mut parts = mount.split(':');
        (parts.next().unwrap(), parts.next().unwrap())
    })
}

/// What a path within a container is in the repository.
fn origin(service: &Value, inside: &str) -> String {
    let found =
        mounts(service).find_map(|(from, to)| Some(format!("config/{from}{}", inside.strip_prefix(to)?)));
    found.unwrap_or_else(|| panic!("nothing is mounted at {inside}"))
}

/// The ports that `text` names at this machine.
fn local_ports(text: &str) -> BTreeSet<String> {
    let after = text.split("localhost:").skip(1);
    after
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect())
        .collect()
}

#[test]
fn compose_mounts_files_that_exist() {
    let compose = yaml("config/compose.yaml");
    for (name, service) in compose["services"].as_mapping().unwrap() {
        for (from, to) in mounts(service) {
            let volume = compose["volumes"].get(from).is_some();
            assert!(
                volume || Path::new(ROOT).join("config").join(from).exists(),
                "{name:?}: {from} for {to}"
            );
        }
        for argument in
            strings(&service["command"]).filter_map(|argument| argument.strip_prefix("--config.file="))
        {
            text(&origin(service, argument));
        }
    }
    let grafana = &compose["services"]["grafana"];
    text(&origin(
        grafana,
        grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
            .as_str()
            .unwrap(),
    ));
    let provider = yaml(&origin(
        grafana,
        "/etc/grafana/provisioning/dashboards/llm-probe.yaml",
    ));
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap();
    text(&origin(grafana, &format!("{folder}/detail.json")));
}

#[test]
fn compose_publishes_the_ports_that_others_name() {
    let compose = yaml("config/compose.yaml");
    let exporter = &compose["services"]["exporter"];
    let published: BTreeSet<String> = strings(&exporter["ports"])
        .map(|port| {
            let (outside, inside) = port.strip_prefix("127.0.0.1:").unwrap().split_once(':').unwrap();
            assert_eq!(outside, inside, "`localhost` is to be right inside and outside");
            inside.to_owned()
        })
        .collect();
    let port = strings(&exporter["command"])
        .last()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap();
    assert!(text("Dockerfile").contains(&format!("EXPOSE {port}\n")), "{port}");
    let named = [
        text("config/prometheus/prometheus.yml"),
        text("config/prometheus/rules/alerting.yml"),
        text("config/grafana/provisioning/datasources/prometheus.yaml"),
    ];
    let named: BTreeSet<_> = named.iter().flat_map(|text| local_ports(text)).collect();
    assert_eq!(named, published);
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let shares = service["network_mode"] == "service:exporter";
        assert!(
            shares || name == "exporter",
            "{name:?} has a localhost of its own"
        );
    }
}

#[test]
fn grafana_knows_how_often_is_scraped() {
    let source = yaml("config/grafana/provisioning/datasources/prometheus.yaml");
    let prometheus = yaml("config/prometheus/prometheus.yml");
    assert_eq!(
        source["datasources"][0]["jsonData"]["timeInterval"],
        prometheus["global"]["scrape_interval"]
    );
}
