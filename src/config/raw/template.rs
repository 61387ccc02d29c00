//! A target with gaps, which each entry of a list fills: `${address}` and `${LABEL}`.

use std::{cell::Cell, collections::BTreeMap};

use super::{
    Entry, Node, Value,
    items::Target,
    reading::{At, Item as _, Read, entries},
};
use crate::config::{problem::shown, report::Report};

/// Keys whose text may have gaps. No list chooses files, variables, or what is sent.
const WITH_GAPS: &[&str] = &["name", "url", "model", "labels"];

/// What is written under `target` in an entry of `discover`.
#[derive(Clone)]
pub(in crate::config) struct Template(Node);

impl Read for Template {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        // Unknown keys are told once, also where nothing is listed.
        entries::<Target>(node, thing, report)?;
        Some(Self(node.clone()))
    }
}

impl Template {
    /// The target that an entry of list `of` makes: it goes by its address unless the template gives a name.
    pub(in crate::config) fn fill(
        &self,
        address: &str,
        labels: &BTreeMap<String, String>,
        of: &str,
        report: &Report<'_>,
    ) -> Option<At<Target>> {
        let Value::Map(entries) = &self.0.value else {
            return None;
        };
        let mut filled = entries.clone();
        for entry in &mut filled {
            if WITH_GAPS.contains(&entry.name.as_str()) {
                fill(&mut entry.value, &entry.name, address, labels, of, report)?;
            }
        }
        if !filled.iter().any(|entry| entry.name == "name") {
            filled.push(Entry {
                key: self.0.id,
                name: "name".to_owned(),
                value: Node {
                    id: self.0.id,
                    value: Value::Text(address.to_owned()),
                },
            });
        }
        let thing = format!("target {} of {of}", shown(address));
        Some(At {
            key: self.0.id,
            id: self.0.id,
            value: Target::of(&filled, &thing, report),
            thing,
        })
    }
}

/// What a list may not put into a URL: with it, whoever writes the list chooses the host that gets the template's
/// credentials.
const MOVES: [char; 6] = ['/', '\\', '?', '#', '@', '%'];

/// `None` where something is missing, which is then reported.
fn fill(
    node: &mut Node,
    key: &str,
    address: &str,
    labels: &BTreeMap<String, String>,
    of: &str,
    report: &Report<'_>,
) -> Option<()> {
    match &mut node.value {
        Value::Text(text) => {
            let moves = Cell::new(false);
            let value = |name: &str| {
                let value = match name {
                    "address" => address,
                    _ => labels.get(name)?,
                };
                moves.set(moves.get() || value.contains(MOVES));
                Some(value)
            };
            match filled(text, value) {
                Ok(_) if key == "url" && moves.get() => {
                    let what = format!(
                        "`url` of {of} would lead elsewhere with what the list says of {}",
                        shown(address)
                    );
                    report.problem(
                        node.id,
                        what,
                        "leave `/`, `\\`, `?`, `#`, `@` and `%` out of it there",
                    );
                    return None;
                }
                Ok(whole) => *text = whole,
                Err(Gap::Open) => {
                    let what = format!("`{key}` of {of} has a `${{` without its `}}`");
                    report.problem(node.id, what, "write `${address}` or `${LABEL}`");
                    return None;
                }
                Err(Gap::Unknown(name)) => {
                    let what = format!(
                        "`{key}` of {of} wants a label {}, which {} does not have in its list",
                        shown(&name),
                        shown(address)
                    );
                    report.problem(node.id, what, "give it that label there, or write the value here");
                    return None;
                }
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                fill(&mut entry.value, key, address, labels, of, report)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) => {}
    }
    Some(())
}

/// Why a text cannot be filled.
#[derive(Debug, PartialEq)]
enum Gap {
    Open,
    Unknown(String),
}

/// The text with its gaps filled. What is put in is not looked into again.
fn filled<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, Gap> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or(Gap::Open)?;
        whole.push_str(before);
        whole.push_str(value(name).ok_or_else(|| Gap::Unknown(name.to_owned()))?);
        rest = after;
    }
    whole.push_str(rest);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_once() {
        let value = |name: &str| match name {
            "address" => Some("10.0.0.1:8000"),
            "nested" => Some("${address}"),
            _ => None,
        };
        for (text, expected) in [
            ("http://${address}/v1", Ok("http://10.0.0.1:8000/v1")),
            ("${address}${address}", Ok("10.0.0.1:800010.0.0.1:8000")),
            ("${nested}", Ok("${address}")),
            ("$address {address} $", Ok("$address {address} $")),
            ("", Ok("")),
            ("${address", Err(Gap::Open)),
            ("${zone}", Err(Gap::Unknown("zone".into()))),
            ("${}", Err(Gap::Unknown(String::new()))),
        ] {
            assert_eq!(filled(text, value), expected.map(str::to_owned), "{text}");
        }
    }
}
