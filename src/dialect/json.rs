//! JSON as endpoints send it. Nothing is held that could be large: a list of a million empty objects is two
//! megabytes as text, and a hundred as values.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::units::{Seconds, Tokens};

/// Reads a frame that is to be a JSON object; serde would take an array for one.
pub(super) fn object<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, serde_json::Error> {
    if data.trim_ascii_start().first() == Some(&b'{') {
        serde_json::from_slice(data)
    } else {
        Err(serde_json::Error::custom("not a JSON object"))
    }
}

/// Hands on the elements of a list, one at a time.
pub(super) fn for_each<'a, T, F>(list: &'a RawValue, each: F) -> Result<(), serde_json::Error>
where
    T: Deserialize<'a>,
    F: FnMut(T) -> Result<(), serde_json::Error>,
{
    serde_json::Deserializer::from_str(list.get()).deserialize_seq(Each(each, PhantomData))
}

/// A number of tokens. Some gateways count in floating point; what no endpoint can have counted is cut, so that
/// sums do not overflow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub(super) u64);

const MAX_COUNT: u64 = Tokens::MOST.0;

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(number: D) -> Result<Self, D::Error> {
        number.deserialize_any(CountVisitor)
    }
}

/// A time of the server's, in seconds: `None` where no request can have taken it, so that a broken clock at the
/// other end does not spoil the sums of histograms.
pub(super) fn server_time(seconds: f64) -> Option<Seconds> {
    (0.0..=LONGEST_TIME)
        .contains(&seconds)
        .then(|| Seconds::new(seconds))
}

/// A day.
const LONGEST_TIME: f64 = 86_400.0;

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a count")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Count, E> {
        Ok(Count(number.min(MAX_COUNT)))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Count, E> {
        self.visit_u64(u64::try_from(number).unwrap_or(0))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and below zero nothing is counted"
    )]
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Count, E> {
        self.visit_u64(number.round() as u64)
    }
}

struct Each<T, F>(F, PhantomData<T>);

impl<'de, T, F> Visitor<'de> for Each<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), serde_json::Error>,
{
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_one_by_one() {
        let sum = |json: &str| {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            let mut sum = 0;
            for_each(raw, |Count(count)| {
                sum += count;
                Ok(())
            })
            .map(|()| sum)
        };
        assert_eq!(sum("[1, 2.0, 3]").unwrap(), 6);
        assert_eq!(sum("[]").unwrap(), 0);
        assert_eq!(sum("[-1, -2.5]").unwrap(), 0);
        assert_eq!(sum("[18446744073709551615, 1e300]").unwrap(), 2 * MAX_COUNT);
        assert!(sum("{}").is_err() && sum("[\"1\"]").is_err() && sum("[[1]]").is_err());
    }
}
