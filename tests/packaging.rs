//! What comes with the program: manifests, the systemd unit, completions, manual pages, licences.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use components::component;
use process::run;
use serde::Deserialize;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The manifests, by kind.
fn manifests() -> BTreeMap<String, (PathBuf, Value)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("config/kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let document = Value::deserialize(document).unwrap();
            let kind = document["kind"].as_str().unwrap().to_owned();
            assert!(
                found.insert(kind, (path.clone(), document)).is_none(),
                "{}",
                path.display()
            );
        }
    }
    found
}

#[test]
fn the_manifests_fit_one_another() {
    let manifests = manifests();
    let kinds: Vec<_> = manifests.keys().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "ConfigMap",
            "Kustomization",
            "Namespace",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "Secret",
            "Service",
            "ServiceMonitor",
            "StatefulSet",
        ]
    );
    let of = |kind: &str| &manifests[kind].1;
    let spec = &of("StatefulSet")["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    for selected in [
        &spec["selector"]["matchLabels"],
        &of("Service")["spec"]["selector"],
        &of("ServiceMonitor")["spec"]["selector"]["matchLabels"],
        &of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selected, labels);
    }
    let namespace = &of("Namespace")["metadata"]["name"];
    let resources = of("Kustomization")["resources"].as_array().unwrap();
    for (kind, (path, manifest)) in &manifests {
        if kind != "Namespace" && kind != "Kustomization" {
            assert_eq!(&manifest["metadata"]["namespace"], namespace, "{kind}");
        }
        let file = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(
            resources.contains(&Value::from(file)),
            kind != "Kustomization",
            "{file}"
        );
    }
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    let args: Vec<_> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    assert!(
        args.contains(&format!("--shard.total={}", spec["replicas"]).as_str()),
        "{args:?}"
    );
    for (of, key, value) in [
        (&pod["securityContext"], "runAsNonRoot", Value::from(true)),
        (
            &container["securityContext"],
            "readOnlyRootFilesystem",
            Value::from(true),
        ),
        (
            &container["securityContext"],
            "allowPrivilegeEscalation",
            Value::from(false),
        ),
    ] {
        assert_eq!(of[key], value, "{key}");
    }
    // A pod is ready once it is scraped: it has to be found before.
    assert_eq!(of("Service")["spec"]["publishNotReadyAddresses"], true);
    let port = &of("Service")["spec"]["ports"][0];
    assert_eq!(port["name"], of("ServiceMonitor")["spec"]["endpoints"][0]["port"]);
    assert_eq!(port["targetPort"], container["ports"][0]["name"]);
}

#[test]
fn what_the_manifests_run_loads() {
    let manifests = manifests();
    let folder = tempfile::tempdir().unwrap();
    for (kind, data, place) in [
        ("ConfigMap", "data", "config"),
        ("Secret", "stringData", "secrets"),
    ] {
        let place = folder.path().join(place);
        fs::create_dir(&place).unwrap();
        for (name, text) in manifests[kind].1[data].as_object().unwrap() {
            fs::write(place.join(name), text.as_str().unwrap()).unwrap();
        }
    }
    let args = &manifests["StatefulSet"].1["spec"]["template"]["spec"]["containers"][0]["args"];
    // `check` knows those about the configuration and shards, and where the pod is told by its name a test is by number.
    let args: Vec<_> = args
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| {
            arg.as_str()
                .unwrap()
                .replace("/etc/llm-probe-exporter", folder.path().to_str().unwrap())
        })
        .filter(|arg| arg.starts_with("--config.file") || arg.starts_with("--shard.total"))
        .collect();
    for index in 0..2 {
        let index = format!("--shard.index={index}");
        let mut all = vec!["check", &index];
        all.extend(args.iter().map(String::as_str));
        let checked = said(&run(&all));
        assert!(!checked.contains("warning"), "{checked}");
    }
}

/// Validates documents in JSON, strictly, by the schemas of Kubernetes.
fn validate(documents: &[&Value]) -> Output {
    const VALIDATE: &str = "import sys, json, kubernetes_validate as k\n\
                            for document in json.loads(sys.argv[1]): k.validate(document, '1.37', strict=True)";
    let documents = serde_json::to_string(documents).unwrap();
    Command::new(component("LLM_PROBE_TEST_LLAMA_PYTHON"))
        .args(["-c", VALIDATE, &documents])
        .output()
        .unwrap()
}

#[test]
#[ignore = "needs kubernetes-validate: run tests/run.sh"]
fn real_schemas_of_kubernetes_accept_the_manifests() {
    let manifests = manifests();
    // Those of the operator and of kustomize are not among them.
    let known: Vec<_> = manifests
        .iter()
        .filter(|(kind, _)| !["ServiceMonitor", "Kustomization"].contains(&kind.as_str()))
        .map(|(_, (_, manifest))| manifest)
        .collect();
    said(&validate(&known));
    for manifest in known {
        let mut misspelt = manifest.clone();
        misspelt["specc"] = Value::from("x");
        assert!(!validate(&[&misspelt]).status.success(), "{misspelt}");
    }
}

/// The directives of a unit or a drop-in, in their order.
fn directives(file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("config/systemd").join(file)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
#[ignore = "needs systemd-analyze: run tests/run.sh"]
fn real_systemd_lets_the_threads_that_measure_go_first_and_nothing_else() {
    let unit = directives("llm-probe-exporter.service");
    let drop_in = directives("llm-probe-exporter.service.d/realtime.conf");
    // The process would begin with it in all its threads.
    assert!(!drop_in.iter().any(|(key, _)| key.starts_with("CPUScheduling")));
    let is_set = |key: &str, value: &str| drop_in.contains(&(key.to_owned(), value.to_owned()));
    assert!(
        is_set("LimitRTPRIO", "1") && is_set("RestrictRealtime", "no"),
        "{drop_in:?}"
    );
    // What is forbidden in the unit as a part of this set, and is called to become a real-time thread and an ordinary one.
    assert!(unit.contains(&("SystemCallFilter".into(), "~@privileged @resources".into())));
    let set = Command::new("systemd-analyze")
        .args(["syscall-filter", "--no-pager", "@resources"])
        .output()
        .unwrap();
    let set = said(&set);
    let calls = drop_in.iter().find(|(key, _)| key == "SystemCallFilter").unwrap();
    let calls: Vec<_> = calls.1.split(' ').collect();
    assert_eq!(calls, ["sched_setscheduler", "setpriority"]);
    for call in calls {
        assert!(
            set.lines().any(|line| line.trim() == call),
            "{call} is not of {set}"
        );
    }
}

#[test]
#[ignore = "needs systemd-analyze: run tests/run.sh"]
fn real_systemd_finds_the_unit_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let unit = "config/systemd/llm-probe-exporter.service";
    let alone = folder.path().join("llm-probe-exporter.service");
    fs::copy(root().join(unit), &alone).unwrap();
    // Beside the unit its drop-in is found, too.
    for unit in [alone, root().join(unit)] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
            .arg(&unit)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}", unit.display());
        assert!(text.contains("Overall exposure level"), "{text}");
    }
}

#[test]
fn shells_read_the_completions() {
    for (shell, option) in [
        ("bash", "--config.file"),
        ("zsh", "--config.file"),
        ("fish", "config.file"),
        ("elvish", "--config.file"),
        ("powershell", "--config.file"),
    ] {
        let script = said(&run(&["completions", shell]));
        assert!(script.contains(option) && script.contains("simulate"), "{shell}");
        if shell == "bash" {
            let checked = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
            said(&checked);
        }
    }
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let page = said(&run(&["man"]));
    assert!(
        page.contains(".TH llm-probe-exporter 1  \"llm-probe-exporter"),
        "{page}"
    );
    for word in [
        "shard.index",
        "completions",
        "Exit codes",
        "NOTIFY_SOCKET",
        "LLM_PROBE_CONFIG_FILE",
    ] {
        assert!(page.contains(&word.replace('-', "\\-")), "{word}: {page}");
    }
    let folder = tempfile::tempdir().unwrap();
    said(&run(&["man", folder.path().to_str().unwrap()]));
    for command in ["", "-check", "-once", "-simulate", "-demo"] {
        let page = folder.path().join(format!("llm-probe-exporter{command}.1"));
        assert!(page.exists(), "{}", page.display());
    }
    let nowhere = run(&["man", "/nowhere/at/all"]);
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
}

#[test]
fn the_version_tells_the_revision() {
    let text = said(&run(&["--version"]));
    let revision = text
        .strip_prefix(&format!(
            "llm-probe-exporter {} (revision ",
            env!("CARGO_PKG_VERSION")
        ))
        .and_then(|rest| rest.strip_suffix(")\n"))
        .unwrap_or_else(|| panic!("{text}"));
    let hash = revision.strip_suffix("-dirty").unwrap_or(revision);
    let is_hash = hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || hash == "unknown", "{revision}");
}
