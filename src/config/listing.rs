//! Lists of targets, as Prometheus reads them from files (`file_sd`) and over HTTP (`http_sd`):
//! `[{ "targets": ["10.0.0.1:8000"], "labels": { "model": "llama" } }]`, in JSON or YAML. They are read like the
//! configuration itself, with its limits and its messages.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{
    ConfigError, Lines, MAX_BYTES,
    positions::NodeId,
    problem::{Severity, shown},
    raw::{
        items::Group,
        reading::{At, Read as _},
    },
    read_yaml,
    report::Report,
};

/// Longer addresses and values are none.
const MAX_LENGTH: usize = 1024;

/// More files than this that match are not meant.
const MAX_FILES: usize = 1000;

/// One address, with the labels of its group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) address: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// What a list says. `named` is what problems call it.
pub(super) fn listed(text: &str, named: &str) -> Result<Vec<Listed>, ConfigError> {
    let (listed, problems) = read_yaml(text, named, Lines::Shown, |tree, report| {
        let Some(tree) = tree else {
            let mend = "write `[]` where nothing is listed";
            report.problem(NodeId::FILE, "the list is empty", mend);
            return Vec::new();
        };
        let groups = Vec::<At<Group>>::read(&tree, "the list", report).unwrap_or_default();
        groups.iter().flat_map(|group| of_group(group, report)).collect()
    })?;
    let errors: Vec<_> = problems
        .into_iter()
        .filter(|problem| problem.severity == Severity::Error)
        .collect();
    if errors.is_empty() {
        Ok(listed)
    } else {
        Err(ConfigError::Invalid { problems: errors })
    }
}

fn of_group(group: &At<Group>, report: &Report<'_>) -> Vec<Listed> {
    let item = &group.value;
    if item.targets.is_absent() {
        let what = format!("{} has no `targets`", group.thing);
        report.problem(group.id, what, "add `targets: [HOST:PORT]`");
    }
    let is_bad = |text: &str| text.len() > MAX_LENGTH || text.chars().any(char::is_control);
    let mut labels = BTreeMap::new();
    for (name, value) in item.labels.value().map_or(&[][..], |labels| &labels.0) {
        if is_bad(name) || is_bad(&value.value) {
            let what = format!("{} holds a control character, or is too long", value.thing);
            report.problem(value.id, what, "write one short line");
        }
        labels.insert(name.clone(), value.value.clone());
    }
    let address = |at: &At<String>| {
        let address = &at.value;
        if address.is_empty() || is_bad(address) || address.contains(char::is_whitespace) {
            let what = format!("{} is {}, which is no address", at.thing, shown(address));
            report.problem(at.id, what, "write it like `10.0.0.1:8000`");
        }
        Listed {
            address: address.clone(),
            labels: labels.clone(),
        }
    };
    item.targets.value().into_iter().flatten().map(address).collect()
}

/// The files of a pattern, in the order of their names: its file name may hold one `*`. One without it names a file
/// whether it is there or not.
fn files(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let Some((before, after)) = pattern
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.split_once('*'))
    else {
        return Ok(vec![pattern.to_owned()]);
    };
    let folder = pattern
        .parent()
        .filter(|folder| *folder != Path::new(""))
        .unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let fits = |name: &str| {
            name.strip_prefix(before)
                .is_some_and(|rest| rest.ends_with(after))
        };
        if name.to_str().is_some_and(fits) {
            found.push(folder.join(name));
        }
        if found.len() > MAX_FILES {
            return Err(io::Error::other("more than 1000 files match"));
        }
    }
    found.sort();
    Ok(found)
}

/// The files of a pattern and their texts; else what is wrong, in words. `named` is what the pattern is called.
pub fn texts(pattern: &Path, named: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let files = files(pattern).map_err(|error| format!("{named} cannot be looked for: {error}"))?;
    let with_text = |file: PathBuf| match text_of(&file) {
        Ok(text) => Ok((file, text)),
        Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
    };
    files.into_iter().map(with_text).collect()
}

/// The text of a list; not more of it than is looked at.
fn text_of(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(file)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not valid UTF-8, or larger than 1 MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Result<Vec<String>, String> {
        listed(text, "list.json")
            .map(|listed| listed.into_iter().map(|listed| listed.address).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn lists_are_read_as_json_and_as_yaml() {
        let expected: &[&str] = &["10.0.0.1:8000", "[::1]:80", "b:1"];
        for text in [
            r#"[{"targets":["10.0.0.1:8000","[::1]:80"],"labels":{"model":"llama","__meta_zone":"a"}},{"targets":["b:1"]}]"#,
            "[\n\t{\n\t\t\"targets\": [\"10.0.0.1:8000\", \"[::1]:80\"],\n\t\t\"labels\": {}\n\t},\n\t{\"targets\": [\"b:1\"]}\n]\n",
            "- targets: ['10.0.0.1:8000', '[::1]:80']\n  labels: { model: llama }\n- targets:\n  - b:1\n",
        ] {
            assert_eq!(addresses(text).unwrap(), expected, "{text}");
        }
        assert_eq!(addresses("[]").unwrap(), [""; 0]);
        let labels = &listed("[{targets: [a], labels: {model: m}}]", "x").unwrap()[0].labels;
        assert_eq!(labels.get("model").map(String::as_str), Some("m"));
    }

    #[test]
    fn what_is_no_list_is_told_with_its_place() {
        for (text, expected) in [
            ("", "list.json: the list is empty"),
            ("{}", "list.json:1:1: the list is a mapping and not a list"),
            ("[{}]", "list.json:1:2: entry 1 of the list has no `targets`"),
            ("[{targets: [a], extra: b}]", "has no key"),
            ("[{targets: [17]}]", "is `17` and not text"),
            ("[{targets: ['']}]", "which is no address"),
            ("[{targets: ['a b']}]", "which is no address"),
            ("[{targets: [\"a\\u0007\"]}]", "which is no address"),
            ("[{targets: [a], labels: {x: 1}}]", "not text"),
            ("<html>", "is `<html>` and not a list"),
            ("[{\"targets\": [\"a\"", "this is no YAML"),
        ] {
            let error = addresses(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!("[{{targets: ['{}']}}]", "a".repeat(MAX_LENGTH + 1));
        assert!(addresses(&long).is_err());
        let deep = "[".repeat(5000);
        assert!(addresses(&deep).is_err());
        let huge = "#".repeat(2 << 20);
        assert!(addresses(&huge).unwrap_err().contains("larger than 1 MiB"));
    }

    #[test]
    fn patterns_find_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.json", "a.yaml", ".json"] {
            fs::write(folder.path().join(name), "[]").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = files(&folder.path().join(pattern)).unwrap();
            let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            found.iter().map(name).collect()
        };
        assert_eq!(names("*.json"), [".json", "a.json", "b.json"]);
        assert_eq!(names("a*"), ["a.json", "a.yaml"]);
        assert_eq!(names("x*"), [""; 0]);
        assert_eq!(names("missing.json"), ["missing.json"]);
        assert!(files(&folder.path().join("missing/*.json")).is_err());
    }
}
