//! The file as it may be shown to anybody: what was read of it, anchors filled in, comments and `x-` keys left out.
//! Shown is what the excerpts of problems show, by permission and not by suspicion.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};

use super::{Entry, Node, Value};
use crate::config::{report::Report, secret::looks_secret};

/// What stands where something may be a secret.
const MASK: &str = "<secret>";

/// The whole file.
pub(in crate::config) fn yaml(file: &Node, report: &Report<'_>) -> String {
    serde_yaml::to_string(&Shown {
        node: file,
        report,
        is_outermost: true,
    })
    .unwrap_or_default()
}

struct Shown<'a> {
    node: &'a Node,
    report: &'a Report<'a>,
    is_outermost: bool,
}

impl<'a> Shown<'a> {
    fn at(&self, node: &'a Node) -> Self {
        Self {
            node,
            report: self.report,
            is_outermost: false,
        }
    }

    fn key(&self, entry: &'a Entry) -> &'a str {
        if self.report.is_permitted(entry.key) && !looks_secret(&entry.name) {
            &entry.name
        } else {
            MASK
        }
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_shown = self.report.is_permitted(self.node.id);
        match &self.node.value {
            Value::List(nodes) => {
                let mut list = serializer.serialize_seq(Some(nodes.len()))?;
                for node in nodes {
                    list.serialize_element(&self.at(node))?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(None)?;
                for entry in entries
                    .iter()
                    .filter(|entry| !self.is_outermost || !entry.name.starts_with("x-"))
                {
                    map.serialize_entry(self.key(entry), &self.at(&entry.value))?;
                }
                map.end()
            }
            Value::Null => serializer.serialize_unit(),
            _ if !is_shown => serializer.serialize_str(MASK),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i128(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(text) if looks_secret(text) => serializer.serialize_str(MASK),
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}
