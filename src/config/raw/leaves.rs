//! The values at the leaves of the file: text, numbers, durations and shares.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use http::HeaderName;
use serde_json::{Map, Number};

use super::{
    Node, Value,
    reading::{Read, wrong},
};
use crate::{
    config::{problem::shown, report::Report, secret::looks_secret},
    units::Ratio,
};

/// Longer waits are mistakes, and instants that far away overflow.
const MAX_DURATION: Duration = Duration::from_hours(366 * 24);

impl Read for String {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        report.permit(node.id);
        text(node, thing, report)
    }
}

/// Text that may be a secret: the value of a header.
#[derive(Clone)]
pub(in crate::config) struct Hidden(pub(in crate::config) String);

impl Read for Hidden {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        if let Value::Text(text) = &node.value {
            return Some(Self(text.clone()));
        }
        report.problem(node.id, format!("{thing} is not text"), "put quotes around it");
        None
    }
}

/// Text that names where a secret is; some authors write the secret itself there.
#[derive(Clone)]
pub(in crate::config) struct Reference(pub(in crate::config) String);

impl Read for Reference {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let text = Hidden::read(node, thing, report)?.0;
        let reference = Self(text);
        if reference.may_be_shown() {
            report.permit(node.id);
        }
        Some(reference)
    }
}

impl Reference {
    /// Whether it looks like the name of a variable or a path, and not like a secret.
    pub(in crate::config) fn may_be_shown(&self) -> bool {
        let is_name = |c: char| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit();
        !looks_secret(&self.0) && (self.0.chars().all(is_name) || self.0.contains(['/', '.']))
    }
}

fn text(node: &Node, thing: &str, report: &Report<'_>) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            let what = format!("{thing} is {} and not text", node.value.described());
            report.problem(node.id, what, "put quotes around it");
            None
        }
        Value::Null | Value::List(_) | Value::Map(_) => {
            wrong(node, thing, "text", "write text there", report);
            None
        }
    }
}

impl Read for bool {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        report.permit(node.id);
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        wrong(node, thing, "`true` or `false`", "write one of these", report);
        None
    }
}

/// The name of a header, or `false` where it is not to be sent.
#[derive(Clone)]
pub(in crate::config) struct HeaderOrNone(pub(in crate::config) Option<HeaderName>);

impl Read for HeaderOrNone {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        report.permit(node.id);
        match &node.value {
            Value::Bool(false) => return Some(Self(None)),
            Value::Text(text) => {
                if let Ok(name) = HeaderName::from_bytes(text.as_bytes()) {
                    return Some(Self(Some(name)));
                }
            }
            _ => {}
        }
        let mend = "write a name such as `X-Probe-Id`, or `false`";
        wrong(node, thing, "the name of an HTTP header", mend, report);
        None
    }
}

/// A whole number within the range of `T`.
fn whole<T: TryFrom<i128>>(node: &Node, thing: &str, least: u8, report: &Report<'_>) -> Option<T> {
    report.permit(node.id);
    let number = match node.value {
        Value::Int(number) => T::try_from(number).ok(),
        _ => None,
    };
    if number.is_none() {
        let (what, mend) = match (&node.value, least) {
            (Value::Int(number), _) if *number > 0 => ("is too large", "write a smaller number"),
            (Value::Int(_), 0) => ("may not be negative", "write a whole number, 0 or more"),
            (Value::Int(_), _) => ("must be at least 1", "write a whole number, 1 or more"),
            _ => ("must be a whole number", "write a number such as `5`"),
        };
        report.problem(
            node.id,
            format!("{thing} {what} and is {}", node.value.described()),
            mend,
        );
    }
    number
}

impl Read for u32 {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        whole(node, thing, 0, report)
    }
}

impl Read for NonZeroU32 {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let number: Option<u32> = whole_from_one(node, thing, report);
        number.and_then(Self::new)
    }
}

impl Read for NonZeroU64 {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let number: Option<u64> = whole_from_one(node, thing, report);
        number.and_then(Self::new)
    }
}

fn whole_from_one<T: TryFrom<i128>>(node: &Node, thing: &str, report: &Report<'_>) -> Option<T> {
    /// A number of at least 1.
    struct FromOne<T>(T);
    impl<T: TryFrom<i128>> TryFrom<i128> for FromOne<T> {
        type Error = ();
        fn try_from(number: i128) -> Result<Self, ()> {
            if number < 1 {
                return Err(());
            }
            T::try_from(number).map(Self).map_err(|_| ())
        }
    }
    whole::<FromOne<T>>(node, thing, 1, report).map(|number| number.0)
}

/// A finite number, 0 or more.
#[derive(Clone, Copy)]
pub(in crate::config) struct Amount(pub(in crate::config) f64);

impl Read for Amount {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        report.permit(node.id);
        match node.value {
            Value::Int(number) if number >= 0 => Some(Self(number as f64)),
            Value::Float(number) if number >= 0.0 && number.is_finite() => Some(Self(number)),
            _ => {
                wrong(
                    node,
                    thing,
                    "an amount",
                    "write a number such as `0.15`, 0 or more",
                    report,
                );
                None
            }
        }
    }
}

/// A duration; zero means not to wait.
#[derive(Clone, Copy)]
pub(in crate::config) struct Rest(pub(in crate::config) Duration);

impl Read for Rest {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        const EXAMPLES: &str = "write it like `250ms`, `30s` or `1m 30s`";
        report.permit(node.id);
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Int(0) => return Some(Self(Duration::ZERO)),
            Value::Int(_) | Value::Float(_) => {
                let what = format!("{thing} is {}, a number without a unit", node.value.described());
                report.problem(
                    node.id,
                    what,
                    with_unit(&node.value).unwrap_or_else(|| EXAMPLES.to_owned()),
                );
                return None;
            }
            _ => {
                wrong(node, thing, "a duration", EXAMPLES, report);
                return None;
            }
        };
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration <= MAX_DURATION => Some(Self(duration)),
            Ok(_) => {
                let what = format!("{thing} is {}, more than a year", shown(text));
                report.problem(node.id, what, "write a shorter duration");
                None
            }
            Err(_) => {
                wrong(node, thing, "a duration", EXAMPLES, report);
                None
            }
        }
    }
}

/// "write `60s` or `60ms`"
fn with_unit(number: &Value) -> Option<String> {
    match number {
        Value::Int(number) if *number > 0 => Some(format!("write `{number}s` or `{number}ms`")),
        Value::Float(seconds) if *seconds > 0.0 => {
            let duration = Duration::try_from_secs_f64(*seconds).ok()?;
            Some(format!("write `{}`", humantime::format_duration(duration)))
        }
        _ => None,
    }
}

/// A duration above zero.
#[derive(Clone, Copy)]
pub(in crate::config) struct Wait(pub(in crate::config) Duration);

impl Read for Wait {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        match Rest::read(node, thing, report)? {
            Rest(Duration::ZERO) => {
                let what = format!("{thing} is 0");
                report.problem(node.id, what, "write a duration above 0, or remove the key");
                None
            }
            Rest(duration) => Some(Self(duration)),
        }
    }
}

/// `99%` or `0.99`.
#[derive(Clone, Copy)]
pub(in crate::config) struct Share(pub(in crate::config) Ratio);

impl Read for Share {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        report.permit(node.id);
        let share = match &node.value {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Text(text) => match text.trim().strip_suffix('%') {
                Some(percent) => percent.trim().parse().ok().map(|percent: f64| percent / 100.0),
                None => text.trim().parse().ok(),
            },
            _ => None,
        };
        let ratio = share.and_then(Ratio::new);
        if ratio.is_none() {
            let has_sign = matches!(&node.value, Value::Text(text) if text.contains('%'));
            let mend = match share {
                Some(percent) if percent > 1.0 && percent <= 100.0 && !has_sign => {
                    format!("write `{percent}%`")
                }
                _ => "write `99%` or `0.99`".to_owned(),
            };
            wrong(node, thing, "a share between 0 and 1", &mend, report);
        }
        ratio.map(Self)
    }
}

/// Fields for the request body, as they are.
#[derive(Clone)]
pub(in crate::config) struct Body(pub(in crate::config) Map<String, serde_json::Value>);

impl Read for Body {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let Value::Map(_) = node.value else {
            wrong(
                node,
                thing,
                "a mapping",
                "write it like `body: { temperature: 0 }`",
                report,
            );
            return None;
        };
        match json(node, thing, report)? {
            serde_json::Value::Object(map) => Some(Self(map)),
            _ => None,
        }
    }
}

fn json(node: &Node, thing: &str, report: &Report<'_>) -> Option<serde_json::Value> {
    Some(match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Text(text) => text.clone().into(),
        Value::Int(number) => match Number::from_i128(*number) {
            Some(number) => number.into(),
            None => return no_json(node, thing, report),
        },
        Value::Float(number) => match Number::from_f64(*number) {
            Some(number) => number.into(),
            None => return no_json(node, thing, report),
        },
        Value::List(nodes) => {
            let values: Option<Vec<_>> = nodes.iter().map(|node| json(node, thing, report)).collect();
            values?.into()
        }
        Value::Map(entries) => {
            let mut map = Map::new();
            for entry in entries {
                if !matches!(entry.value.value, Value::Null) {
                    report.permit(entry.key);
                }
                map.insert(entry.name.clone(), json(&entry.value, thing, report)?);
            }
            map.into()
        }
    })
}

fn no_json(node: &Node, thing: &str, report: &Report<'_>) -> Option<serde_json::Value> {
    let what = format!(
        "{thing} holds {}, which is no number in JSON",
        node.value.described()
    );
    report.problem(node.id, what, "write a finite number");
    None
}
