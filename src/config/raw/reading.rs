//! How a tree becomes what the file says: one [`Read`] per type, and `item!` for mappings with known keys.

use super::{Entry, Node, Value, items, web};
use crate::config::{
    positions::NodeId,
    problem::{list, meant, shown},
    report::Report,
};

/// A type that a node of the file may be.
pub(in crate::config) trait Read: Sized {
    /// What an entry of a list is called, where its entries have names.
    const NOUN: Option<&'static str> = None;

    /// Reads `node`, which messages call `thing`. `None` when it is no such value, which has then been reported.
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self>;
}

/// A value that was given, with its key and its place.
#[derive(Clone)]
pub(in crate::config) struct At<T> {
    pub(in crate::config) key: NodeId,
    pub(in crate::config) id: NodeId,
    /// What messages call it: `` `every` of probe `x` ``.
    pub(in crate::config) thing: String,
    pub(in crate::config) value: T,
}

/// What the file says about one key.
#[derive(Clone, Default)]
pub(in crate::config) enum Field<T> {
    #[default]
    Absent,
    /// Given, but no value of its type; reported already.
    Bad,
    Given(At<T>),
}

impl<T> Field<T> {
    pub(in crate::config) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Bad => None,
        }
    }

    fn into_given(self) -> Option<At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(in crate::config) fn value(&self) -> Option<&T> {
        self.given().map(|given| &given.value)
    }

    pub(in crate::config) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// This, or `other` where nothing was said.
    pub(in crate::config) fn or(&self, other: &Self) -> Self
    where
        T: Clone,
    {
        let chosen = if self.is_absent() { other } else { self };
        chosen.clone()
    }
}

impl<T: Item> Field<T> {
    /// This with what it leaves out taken from `other`, key by key.
    pub(in crate::config) fn merged(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Given(own), Self::Given(other)) => Self::Given(At {
                value: own.value.merged(&other.value),
                ..own.clone()
            }),
            _ => self.or(other),
        }
    }
}

/// A mapping with known keys.
pub(in crate::config) trait Item: Read + Clone + Default {
    const KEYS: &'static [&'static str];
    /// Keys that belong elsewhere or are written otherwise, and the mend.
    const HINTS: &'static [(&'static str, &'static str)];

    /// Reads the keys of the item and ignores all others.
    fn of(entries: &[Entry], thing: &str, report: &Report<'_>) -> Self;

    /// This with what it leaves out taken from `other`, key by key.
    fn merged(&self, other: &Self) -> Self;
}

/// Declares an [`Item`]: its keys are its fields.
macro_rules! item {
    (
        $(#[$doc:meta])* $name:ident $($noun:literal)? {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)+
        }
        $(hints { $($key:literal => $mend:expr,)+ })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Default)]
        pub(in crate::config) struct $name {
            $($(#[$field_doc])* pub(in crate::config) $field: Field<$type>,)+
        }

        impl Item for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];
            const HINTS: &'static [(&'static str, &'static str)] = &[$($(($key, $mend)),+)?];

            fn of(entries: &[Entry], thing: &str, report: &Report<'_>) -> Self {
                Self { $($field: field(entries, stringify!($field), thing, report),)+ }
            }

            fn merged(&self, other: &Self) -> Self {
                Self { $($field: self.$field.or(&other.$field),)+ }
            }
        }

        impl Read for $name {
            $(const NOUN: Option<&'static str> = Some($noun);)?

            fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
                Some(Self::of(entries::<Self>(node, thing, report)?, thing, report))
            }
        }
    };
}
pub(super) use item;

/// The entries of a mapping; those with a key that the item does not have are reported.
pub(super) fn entries<'a, T: Item>(node: &'a Node, thing: &str, report: &Report<'_>) -> Option<&'a [Entry]> {
    let Value::Map(entries) = &node.value else {
        let example = T::KEYS.first().unwrap_or(&"key");
        let mend = format!(
            "write a mapping such as `{example}: …` there; its keys are {}",
            list(T::KEYS)
        );
        wrong(node, thing, "a mapping", &mend, report);
        return None;
    };
    for entry in entries {
        let name = entry.name.as_str();
        let is_known = T::KEYS.contains(&name);
        let is_ignored = thing == items::FILE && name.starts_with("x-");
        permit_key(entry, is_known, report);
        if !is_known && !is_ignored {
            unknown_key::<T>(node, entry, thing, report);
        }
    }
    Some(entries)
}

fn unknown_key<T: Item>(node: &Node, entry: &Entry, thing: &str, report: &Report<'_>) {
    let name = entry.name.as_str();
    let hint = T::HINTS.iter().find(|(key, _)| *key == name);
    let meant = meant(name, T::KEYS);
    // Of the other file.
    let home = items::home(name).filter(|_| !thing.ends_with(web::FILE));
    let mend = match (hint, meant, home) {
        (Some((_, hint)), _, _) => (*hint).to_owned(),
        (None, Some(key), _) => format!("did you mean `{key}`?"),
        (None, None, Some(home)) => format!("`{name}` is a key of {home}"),
        (None, None, None) => format!("its keys are {}", list(T::KEYS)),
    };
    let key = if let Value::Null = entry.value.value {
        "like this".to_owned()
    } else {
        shown(name)
    };
    report.problem(entry.key, format!("{thing} has no key {key}"), mend);
    report.note_unknown_key(node.id, meant.filter(|_| hint.is_none()));
}

/// A key without a value may be a value in the wrong place: `{ value hunter2 }`.
fn permit_key(entry: &Entry, is_known: bool, report: &Report<'_>) {
    if is_known || !matches!(entry.value.value, Value::Null) {
        report.permit(entry.key);
    }
}

/// The entry `key` of a mapping.
pub(super) fn field<T: Read>(entries: &[Entry], key: &str, parent: &str, report: &Report<'_>) -> Field<T> {
    let Some(entry) = entries.iter().find(|entry| entry.name == key) else {
        return Field::Absent;
    };
    let thing = if parent == items::FILE {
        format!("`{key}`")
    } else {
        format!("{} of {parent}", shown(key))
    };
    if let Value::Null = entry.value.value {
        report.problem(
            entry.key,
            format!("{thing} has no value"),
            "give it one, or remove the key",
        );
        return Field::Bad;
    }
    match T::read(&entry.value, &thing, report) {
        Some(value) => Field::Given(At {
            key: entry.key,
            id: entry.value.id,
            thing,
            value,
        }),
        None => Field::Bad,
    }
}

/// Reports that `node` is not `wanted`.
pub(super) fn wrong(node: &Node, thing: &str, wanted: &str, mend: &str, report: &Report<'_>) {
    // A text where a mapping belongs may be a secret: `authorization: sk-…`.
    let is = match &node.value {
        Value::Text(text) if wanted == "a mapping" && !text.is_empty() => "text".to_owned(),
        value => value.described(),
    };
    report.problem(node.id, format!("{thing} is {is} and not {wanted}"), mend);
}

impl<T: Read> Read for Vec<At<T>> {
    /// Entries that are wrong are left out.
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            let mend = match &node.value {
                Value::Text(text) => format!("write it as a list: `[{}]`", shown(text).trim_matches('`')),
                _ => "write its entries as a list, each after `- `".to_owned(),
            };
            report.permit(node.id);
            wrong(node, thing, "a list", &mend, report);
            return None;
        };
        let entry = |(at, node): (usize, &Node)| {
            let thing = match (T::NOUN, name_of(node)) {
                (Some(noun), Some(name)) => format!("{noun} {}", shown(name)),
                _ => format!("entry {} of {thing}", at + 1),
            };
            Some(At {
                key: node.id,
                id: node.id,
                value: T::read(node, &thing, report)?,
                thing,
            })
        };
        Some(nodes.iter().enumerate().filter_map(entry).collect())
    }
}

fn name_of(node: &Node) -> Option<&str> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    entries.iter().find_map(|entry| match &entry.value.value {
        Value::Text(name) if entry.name == "name" && !name.is_empty() => Some(name.as_str()),
        _ => None,
    })
}

/// A mapping whose keys are the author's: labels, headers.
#[derive(Clone)]
pub(in crate::config) struct Named<T>(pub(in crate::config) Vec<(String, At<T>)>);

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            wrong(
                node,
                thing,
                "a mapping",
                "write a mapping of names and values there",
                report,
            );
            return None;
        };
        for entry in entries {
            permit_key(entry, false, report);
        }
        let read = |entry: &Entry| {
            if let Value::Null = entry.value.value {
                report.problem(
                    entry.key,
                    format!("{thing} has a name without a value"),
                    "write `NAME: VALUE`",
                );
                return None;
            }
            let at = field(entries, &entry.name, thing, report).into_given()?;
            Some((entry.name.clone(), at))
        };
        Some(Self(entries.iter().filter_map(read).collect()))
    }
}
