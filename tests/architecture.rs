//! The homes of outside crates, the direction of imports, and what may not be in the pure parts.
#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules from the bottom to the top: each may import those before it.
const ORDER: &[&str] = &[
    "version",
    "units",
    "random",
    "quantile",
    "outcome",
    "response",
    "tape",
    "clock",
    "systemd",
    "logs",
    "pause",
    "reload",
    "usage",
    "retry_after",
    "framing",
    "timeline",
    "load",
    "calendar",
    "cron",
    "rhythm",
    "shard",
    "schedule",
    "timetable",
    "budget",
    "backoff",
    "busy",
    "lasting",
    "baseline",
    "calibration",
    "state",
    "prompt",
    "identity",
    "expect",
    "tokenizer",
    "config",
    "record",
    "measure",
    "answer",
    "dialect",
    "reading",
    "slo",
    "gate",
    "client",
    "lag",
    "health",
    "diagnose",
    "capacity",
    "summary",
    "history",
    "request",
    "access",
    "protection",
    "burst",
    "metrics",
    "restart",
    "discovery",
    "runner",
    "supervisor",
    "board",
    "report",
    "demand",
    "recording",
    "web",
    "sim",
    "accuracy",
    "runtime",
    "cli",
];

/// Crates that have a home, and where it is.
const HOMES: &[(&str, &[&str])] = &[
    ("anyhow", &["main.rs", "cli/"]),
    ("axum", &["web/"]),
    ("bcrypt", &["config/build/web.rs", "web/"]),
    (
        "base64",
        &["client/redaction.rs", "client/oauth2.rs", "recording/", "web/"],
    ),
    ("clap", &["main.rs", "cli/", "sim/args.rs"]),
    ("clap_complete", &["cli/handout.rs"]),
    ("clap_mangen", &["cli/handout.rs"]),
    (
        "comfy_table",
        &["report.rs", "report/", "cli/check.rs", "cli/calibrate.rs"],
    ),
    ("croner", &["cron.rs"]),
    ("h2", &["client/", "sim/http2.rs"]),
    ("httparse", &["sim/"]),
    ("httpdate", &["retry_after.rs", "sim/"]),
    ("hyper", &["client/", "web/"]),
    ("hyper_util", &["client/", "web/"]),
    ("indicatif", &["cli/once.rs"]),
    ("jiff", &["calendar.rs", "cron.rs"]),
    ("listenfd", &["cli/"]),
    ("maud", &["web/"]),
    ("prometheus", &["metrics/"]),
    ("prost", &["metrics/proto.rs", "metrics/tests/"]),
    ("regex", &["expect.rs"]),
    ("reqwest", &["client/"]),
    ("rustls", &["client/", "sim/tls.rs", "web/"]),
    ("rustls_native_certs", &["client/"]),
    ("saphyr_parser", &["config/"]),
    ("sd_notify", &["systemd.rs"]),
    ("serde_yaml", &["config/raw"]),
    ("thread_priority", &["runtime.rs", "runtime/"]),
    ("tokio_rustls", &["sim/", "web/"]),
    ("tokenizers", &["tokenizer.rs"]),
    ("tower", &["client/", "web/"]),
    ("tower_http", &["web/"]),
    ("tracing_logfmt", &["main.rs", "demand/log.rs"]),
    ("tracing_subscriber", &["main.rs", "tee.rs", "demand/log.rs"]),
    ("x509_cert", &["client/", "web/"]),
];

/// Files that hold no clock and do no I/O.
const PURE: &[&str] = &[
    "framing/",
    "dialect/",
    "reading.rs",
    "response.rs",
    "tape.rs",
    "recording/chunks.rs",
    "recording/few.rs",
    "recording/line.rs",
    "recording/read.rs",
    "recording/recorded.rs",
    "recording/replay.rs",
    "recording/secrets.rs",
    "timeline.rs",
    "measure.rs",
    "slo.rs",
    "calendar.rs",
    "cron.rs",
    "rhythm.rs",
    "shard.rs",
    "schedule.rs",
    "timetable.rs",
    "budget.rs",
    "backoff.rs",
    "baseline.rs",
    "lasting.rs",
    "calibration.rs",
    "diagnose/",
    "capacity.rs",
    "capacity/",
    "busy.rs",
    "load.rs",
    "random.rs",
    "quantile.rs",
    "prompt.rs",
    "prompt/",
    "identity.rs",
    "expect.rs",
    "retry_after.rs",
    "summary.rs",
    "history.rs",
    "sim/engine.rs",
    "web/bucket.rs",
    "web/place.rs",
    "sim/fault/cold.rs",
    "sim/fault/drift.rs",
    "sim/fault/grammar.rs",
    "sim/fault/limiter.rs",
    "sim/prefix.rs",
];

/// What would be a clock or I/O.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::net",
    "tokio::net",
    "tokio::fs",
    "tokio::time::sleep",
    "unix_now",
];

/// Each source file below `src`, without its tests: its path from there and its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                let is_test = name.ends_with("tests.rs");
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let code: Vec<_> = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .collect();
                if !is_test {
                    found.push((name, code.join("\n")));
                }
            }
        }
    }
    assert!(found.len() > 30, "the sources were not found");
    found.sort();
    found
}

/// Names that follow `crate::` in `code`, also in braces and over lines.
fn crate_imports(code: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = Vec::new();
    for after in code.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            found.push(word(after));
            continue;
        };
        let (mut depth, mut expects_name) = (1, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => expects_name = depth == 1,
                c if c.is_alphabetic() && expects_name => {
                    found.push(word(group.get(at..).unwrap()));
                    expects_name = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn imports_go_downwards() {
    let rank = |module: &str| ORDER.iter().position(|listed| *listed == module);
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let module = file.split(['/', '.']).next().unwrap();
        if ["main", "tee", "lib"].contains(&module) {
            continue;
        }
        let own = rank(module).unwrap_or_else(|| panic!("{file}: {module} is not in the list of modules"));
        for import in crate_imports(&code) {
            if rank(&import).is_some_and(|imported| imported > own) {
                wrong.push(format!("{file} imports {import}, which stands above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::{\n  a::{b, c},\n  d,\n};\nuse crate::e::f; let g = crate::h::i();";
    assert_eq!(crate_imports(code), ["a", "d", "e", "h"]);
}

#[test]
fn crates_stay_at_home() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        for (name, homes) in HOMES {
            let used = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                !code
                    .get(..at)
                    .unwrap()
                    .ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
            });
            if used && !homes.iter().any(|home| file.starts_with(home)) {
                wrong.push(format!("{file} uses {name}, whose home is {}", homes.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_parts_hold_no_clock_and_do_no_io() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        if PURE.iter().any(|pure| file.starts_with(pure)) {
            let impure = IMPURE.iter().filter(|impure| code.contains(**impure));
            wrong.extend(impure.map(|impure| format!("{file} has {impure}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn raw_configuration_is_private() {
    for (file, code) in sources() {
        assert!(
            file.starts_with("config") || !code.contains("config::raw"),
            "{file} knows the raw configuration"
        );
    }
}
