//! What the file says, 1:1 with the YAML; nothing is required and nothing is related to anything else yet.
//!
//! The text becomes a tree of [`Node`]s ([`tree`]), and the tree becomes the items declared in [`items`] key by key,
//! so that one wrong value hides no other. This is the only home of `serde_yaml`.

pub(super) mod choices;
pub(super) mod items;
pub(super) mod leaves;
pub(super) mod lengths;
pub(super) mod reading;
pub(super) mod redacted;
pub(super) mod template;
pub(super) mod web;

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};

use super::{
    positions::{NodeId, Positions, Shape, Syntax},
    problem::{Place, shown},
    report::Report,
};

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) value: Value,
}

/// A YAML value. Aliases are expanded and merge keys applied; keys are text.
#[derive(Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; of a key given twice the first stands.
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: NodeId,
    pub(super) name: String,
    pub(super) value: Node,
}

impl Value {
    /// What it is, as a message says it.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Null => "empty".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Int(value) => format!("`{value}`"),
            Self::Float(value) => format!("`{value}`"),
            Self::Text(text) if text.is_empty() => "empty".to_owned(),
            Self::Text(text) => shown(text),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The tree of a text whose positions are known. `None` when there is nothing but comments.
pub(super) fn tree(text: &str, positions: &Positions, report: &Report<'_>) -> Result<Option<Node>, Syntax> {
    let Some(root) = positions.root() else {
        return Ok(None);
    };
    let seed = Seed {
        id: root,
        positions,
        report,
    };
    let tree = seed.deserialize(serde_yaml::Deserializer::from_str(text));
    tree.map(Some).map_err(|error| {
        let place = error
            .location()
            .map_or(Place::START, |at| Place::new(at.line(), at.column()));
        Syntax {
            place,
            // The error of serde_yaml itself may repeat text of the file.
            what: "this is no YAML that can be read".to_owned(),
            mend: "check the indentation, quotes, tags and aliases here".to_owned(),
        }
    })
}

/// Deserialises the node `id` of the text.
#[derive(Clone, Copy)]
struct Seed<'a> {
    id: NodeId,
    positions: &'a Positions,
    report: &'a Report<'a>,
}

impl<'a> Seed<'a> {
    fn at(self, id: Option<NodeId>) -> Self {
        Self {
            id: id.unwrap_or(self.id),
            ..self
        }
    }

    fn shape(&self) -> Option<&'a Shape> {
        self.positions.get(self.id).map(|spot| &spot.shape)
    }

    fn node(&self, value: Value) -> Node {
        Node { id: self.id, value }
    }

    /// Adds what `<<` merges: a mapping, or several of which the first wins. What the mapping itself says wins.
    fn merge(&self, entries: &mut Vec<Entry>, names: &mut HashSet<String>, key: NodeId, merged: Node) {
        let maps = match merged.value {
            Value::List(list) => list,
            _ => vec![merged],
        };
        for map in maps {
            let Value::Map(inherited) = map.value else {
                let what = format!("`<<` is {}, which cannot be merged", map.value.described());
                self.report.problem(
                    key,
                    what,
                    "write `<<: *name`, where `&name` stands before a mapping",
                );
                return;
            };
            for entry in inherited {
                if names.insert(entry.name.clone()) {
                    entries.push(entry);
                }
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let id = self.positions.resolve(self.id);
        deserializer.deserialize_any(Self { id, ..self })
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(self.node(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(self.node(Value::Int(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(self.node(Value::Int(value.into())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(self.node(Value::Int(value)))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        let value = i128::try_from(value).map_or(Value::Float(value as f64), Value::Int);
        Ok(self.node(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(self.node(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(self.node(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let ids: &[NodeId] = match self.shape() {
            Some(Shape::List(ids)) => ids,
            _ => &[],
        };
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self.at(ids.get(nodes.len()).copied()))? {
            nodes.push(node);
        }
        Ok(self.node(Value::List(nodes)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let ids: &[(NodeId, NodeId)] = match self.shape() {
            Some(Shape::Map(ids)) => ids,
            _ => &[],
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut names = HashSet::new();
        let mut merges = Vec::new();
        for at in 0.. {
            let (key, value) = ids.get(at).copied().unzip();
            let Some(key) = map.next_key_seed(self.at(key))? else {
                break;
            };
            let value = map.next_value_seed(self.at(value))?;
            let name = match key.value {
                Value::Text(name) => name,
                Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Null => key.value.described(),
                Value::List(_) | Value::Map(_) => {
                    self.report
                        .problem(key.id, "a key is not text here", "write `key: value`");
                    continue;
                }
            };
            if name == "<<" {
                merges.push((key.id, value));
            } else if names.insert(name.clone()) {
                entries.push(Entry {
                    key: key.id,
                    name,
                    value,
                });
            }
        }
        for (key, merged) in merges {
            self.merge(&mut entries, &mut names, key, merged);
        }
        Ok(self.node(Value::Map(entries)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _tagged: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("a tag"))
    }
}
