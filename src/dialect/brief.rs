//! Fields that an endpoint may make as large as a frame: only as much of them is held as is used. A list of a
//! million empty objects is two megabytes as text, and a hundred as values.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// The longest value that is taken apart, in bytes. Of a longer one the beginning is kept, as text.
pub(super) const LONGEST: usize = 16 << 10;

/// The most elements of a list that are looked at.
const MOST: usize = 128;

/// The value of JSON text.
pub(super) fn value(json: &str) -> Value {
    let whole = (json.len() <= LONGEST)
        .then(|| serde_json::from_str(json).ok())
        .flatten();
    whole.unwrap_or_else(|| {
        let beginning = json.get(..json.floor_char_boundary(LONGEST)).unwrap_or_default();
        Value::String(beginning.to_owned())
    })
}

/// `None` for null.
pub(super) fn brief<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Value>, D::Error> {
    let raw = Option::<&RawValue>::deserialize(json)?;
    Ok(raw.map(|raw| value(raw.get())))
}

/// A list of which the beginning counts; `None` for null.
pub(super) fn few<'de, D, T>(list: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Option::<Few<T>>::deserialize(list)?;
    Ok(list.map(|Few(list)| list))
}

/// The same of values.
pub(super) fn few_values<'de, D: Deserializer<'de>>(list: D) -> Result<Option<Vec<Value>>, D::Error> {
    let list: Option<Vec<&RawValue>> = few(list)?;
    Ok(list.map(|list| list.iter().map(|raw| value(raw.get())).collect()))
}

struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        list.deserialize_seq(Beginning(PhantomData))
    }
}

struct Beginning<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Beginning<T> {
    type Value = Few<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = Vec::new();
        while few.len() < MOST {
            match list.next_element()? {
                Some(element) => few.push(element),
                None => return Ok(Few(few)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Few(few))
    }
}
