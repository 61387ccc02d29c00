//! Newtypes for what is measured and named, so that a number cannot be mistaken for another.

use std::{
    borrow::Borrow,
    fmt,
    ops::{Add, Sub},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;

/// A duration in seconds, as Prometheus wants it. Never negative, never NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds(f64);

impl Seconds {
    pub const ZERO: Self = Self(0.0);

    /// Negative and NaN values become zero: durations come from differences of monotonic instants.
    pub fn new(seconds: f64) -> Self {
        Self(seconds.max(0.0))
    }

    /// From `from` to `to`; zero when `to` is not later.
    pub fn between(from: Instant, to: Instant) -> Self {
        to.saturating_duration_since(from).into()
    }

    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Seconds {
    type Error = &'static str;
    fn try_from(seconds: f64) -> Result<Self, &'static str> {
        if seconds >= 0.0 && seconds.is_finite() {
            Ok(Self(seconds))
        } else {
            Err("a duration may not be negative")
        }
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs_f64())
    }
}

impl Add for Seconds {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Seconds {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::new(self.0 - other.0)
    }
}

/// For people: three significant digits and the unit that fits (`41.7 s`, `223 ms`, `87 µs`).
impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            s if s >= 0.9995 => (s, "s"),
            s if s >= 0.000_999_5 => (s * 1e3, "ms"),
            s => (s * 1e6, "µs"),
        };
        let digits = match value {
            v if v >= 99.95 => 0,
            v if v >= 9.995 => 1,
            _ => 2,
        };
        let text = format!("{value:.digits$} {unit}");
        out.pad(&text)
    }
}

/// A number of tokens, as the server counted them or as deltas were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tokens(pub u64);

impl Tokens {
    /// More than any request has: what says more is wrong, and sums of it could overflow.
    pub const MOST: Self = Self(1 << 40);

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

/// A share between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Ratio(f64);

impl Ratio {
    /// `None` outside 0..=1 and for NaN.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// `None` when there is nothing to take a share of.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        (whole > 0).then(|| Self(part.min(whole) as f64 / whole as f64))
    }

    pub const fn get(self) -> f64 {
        self.0
    }
}

/// `99 %`, with as many decimals as the share needs (at most three).
impl fmt::Display for Ratio {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = format!("{:.3}", self.0 * 100.0);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        out.pad(&format!("{percent} %"))
    }
}

/// The name of a probe or target, fit to be a label value: 1 to 128 characters, none of them a control
/// character, no white space at the ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The error says in words what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            Err("a name may not be empty")
        } else if text.chars().count() > 128 {
            Err("a name may have at most 128 characters")
        } else if text.chars().any(char::is_control) {
            Err("a name may not hold control characters")
        } else if text.trim() != text {
            Err("a name may not begin or end with white space")
        } else {
            Ok(Self(text.into()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_read_like_a_person_says_them() {
        for (seconds, text) in [
            (41.7, "41.7 s"),
            (0.223, "223 ms"),
            (0.0101, "10.1 ms"),
            (0.000_087_4, "87.4 µs"),
            (0.0, "0.00 µs"),
            (0.9996, "1.00 s"),
            (125.0, "125 s"),
        ] {
            assert_eq!(Seconds::new(seconds).to_string(), text);
        }
    }

    #[test]
    fn seconds_are_never_negative() {
        assert_eq!(Seconds::new(-1.0), Seconds::ZERO);
        assert_eq!(Seconds::new(f64::NAN), Seconds::ZERO);
        assert_eq!(Seconds::new(1.0) - Seconds::new(2.0), Seconds::ZERO);
    }

    #[test]
    fn ratios_are_shares() {
        assert_eq!(Ratio::new(1.01), None);
        assert_eq!(Ratio::new(f64::NAN), None);
        assert_eq!(Ratio::of(1, 0), None);
        assert_eq!(Ratio::of(1, 50).map(|r| r.to_string()), Some("2 %".into()));
        assert_eq!(Ratio::new(0.9995).map(|r| r.to_string()), Some("99.95 %".into()));
    }

    #[test]
    fn names_are_label_values() {
        assert!(Name::new("fifty users, \"prod\" 🦀").is_ok());
        for bad in ["", " a", "a\n", "a\u{7}b", &"x".repeat(129)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
    }
}
