//! Extra labels: which names there are, and the values that targets and probes give.

use std::collections::{BTreeMap, HashSet};

use super::Context;
use crate::config::{
    plan::RESERVED_LABELS,
    problem::{meant, shown},
    raw::reading::{At, Field, Named},
    report::Report,
};

/// The valid ones of `global.labels`.
pub(super) fn declared(raw: &Field<Vec<At<String>>>, report: &Report<'_>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for label in raw.value().into_iter().flatten() {
        let name = label.value.as_str();
        let problem = |what: &str, mend: &str| {
            report.problem(label.id, format!("label {} {what}", shown(name)), mend.to_owned());
        };
        if RESERVED_LABELS.contains(&name) {
            problem(
                "is reserved for the exporter's own metrics",
                &format!("rename it, such as `my_{name}`"),
            );
        } else if name.starts_with("__") {
            problem("begins with `__`, which Prometheus keeps for itself", "rename it");
        } else if !is_label_name(name) {
            problem(
                "is no name of a Prometheus label",
                "use letters, digits and `_`, and no digit at the beginning",
            );
        } else if seen.insert(name) {
            names.push(name.to_owned());
        } else {
            problem("is declared twice", "remove one");
        }
    }
    names
}

fn is_label_name(name: &str) -> bool {
    let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    !name.is_empty() && name.chars().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The values that an item gives. `of` is the item.
pub(super) fn values(
    raw: &Field<Named<String>>,
    of: &str,
    context: &Context<'_>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let declared = &context.global.labels;
    for (name, given) in raw.value().map_or(&[][..], |named| &named.0) {
        if context.knows_labels && !declared.contains(name) {
            let what = format!(
                "{of} gives label {}, which `global.labels` does not declare",
                shown(name)
            );
            let mend = match meant(name, &declared.iter().map(String::as_str).collect::<Vec<_>>()) {
                Some(label) => format!("did you mean `{label}`?"),
                None => format!("write `global: {{ labels: [{}] }}`", list_with(declared, name)),
            };
            context.report.problem(given.key, what, mend);
        }
        if given.value.chars().any(char::is_control) {
            let what = format!("{} holds a control character", given.thing);
            context
                .report
                .problem(given.id, what, "write one line of printable text");
        }
        values.insert(name.clone(), given.value.clone());
    }
    values
}

fn list_with(declared: &[String], name: &str) -> String {
    let name = shown(name);
    let names = declared
        .iter()
        .map(String::as_str)
        .chain([name.trim_matches('`')]);
    names.collect::<Vec<_>>().join(", ")
}
