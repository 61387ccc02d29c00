//! The rules and configurations of `config/prometheus`, and copies of them in which time goes faster.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A file of `config/prometheus`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config/prometheus")
        .join(name)
}

/// Its text.
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Keys whose value is a duration.
const KEYS: [&str; 9] = [
    "for",
    "keep_firing_for",
    "interval",
    "scrape_interval",
    "evaluation_interval",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "resolve_timeout",
];

/// The same file with every window of a rule and every duration of a key `factor` times shorter. Names of what is
/// recorded stay.
pub(crate) fn faster(text: &str, factor: u32) -> String {
    let shorter = |duration: Duration| format!("{}ms", (duration / factor).as_millis());
    let line = |line: &str| {
        let code = line.trim_start();
        if code.starts_with('#') {
            return String::new();
        }
        if let Some((key, value)) = line.split_once(": ") {
            let duration = humantime::parse_duration(value.trim());
            if let (true, Ok(duration)) = (KEYS.contains(&key.trim()), duration) {
                return format!("{key}: {}", shorter(duration));
            }
        }
        let mut parts = line.split('[');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |done, part| {
            let window = part.split_once(']');
            match window.and_then(|(window, rest)| Some((humantime::parse_duration(window).ok()?, rest))) {
                Some((window, rest)) => format!("{done}[{}]{rest}", shorter(window)),
                None => format!("{done}[{part}"),
            }
        })
    };
    text.lines().map(|text| line(text) + "\n").collect()
}
