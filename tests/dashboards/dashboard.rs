//! The dashboards as they are in the repository, taken apart.

use std::{fs, path::Path};

use serde_json::Value;

#[derive(Debug)]
pub(crate) struct Dashboard {
    /// Of the file, without its ending.
    pub(crate) name: String,
    pub(crate) json: Value,
}

/// One query of a panel or an annotation.
#[derive(Debug)]
pub(crate) struct Query {
    /// Dashboard, panel and letter, for people.
    pub(crate) place: String,
    pub(crate) expr: String,
    pub(crate) instant: bool,
}

/// What stands for the durations that Grafana or the user chooses, longest name first.
const DURATIONS: [&str; 4] = ["$__rate_interval", "$__interval", "$__range", "$window"];

impl Query {
    /// The query with `duration` for whatever duration Grafana or the user chooses.
    pub(crate) fn over(&self, duration: &str) -> String {
        DURATIONS
            .iter()
            .fold(self.expr.clone(), |expr, name| expr.replace(name, duration))
    }
}

/// Those in the folder, in order.
pub(crate) fn dashboards() -> Vec<Dashboard> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    let read = |path: &Path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let json = serde_json::from_str(&fs::read_to_string(path).unwrap());
        Dashboard {
            json: json.unwrap_or_else(|error| panic!("{name}.json:{error}")),
            name,
        }
    };
    files.iter().map(|path| read(path)).collect()
}

/// The list under a key; none where there is no such key.
pub(crate) fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json[key].as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text<'a>(json: &'a Value, key: &str) -> &'a str {
    json[key].as_str().unwrap_or_default()
}

impl Dashboard {
    /// All panels and rows, also those in collapsed rows.
    pub(crate) fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json, "panels")
            .iter()
            .flat_map(|panel| [panel].into_iter().chain(list(panel, "panels")))
    }

    /// All panels that show something.
    pub(crate) fn drawn(&self) -> impl Iterator<Item = &Value> {
        self.panels().filter(|panel| panel["type"] != "row")
    }

    pub(crate) fn place(&self, panel: &Value) -> String {
        format!("{} / {}", self.name, text(panel, "title"))
    }

    pub(crate) fn queries_of(&self, panel: &Value) -> Vec<Query> {
        list(panel, "targets")
            .iter()
            .map(|target| Query {
                place: format!("{} / {}", self.place(panel), text(target, "refId")),
                expr: text(target, "expr").to_owned(),
                instant: target["instant"] == true,
            })
            .collect()
    }

    pub(crate) fn queries(&self) -> Vec<Query> {
        self.drawn().flat_map(|panel| self.queries_of(panel)).collect()
    }

    pub(crate) fn annotations(&self) -> Vec<Query> {
        list(&self.json["annotations"], "list")
            .iter()
            .map(|annotation| Query {
                place: format!("{} / annotation {}", self.name, text(annotation, "name")),
                expr: text(annotation, "expr").to_owned(),
                instant: false,
            })
            .collect()
    }
}
