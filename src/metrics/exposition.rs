//! What is exposed, whatever the format: the model that each writer takes. Why it is ours: that of the crate
//! prometheus has neither exemplars nor native histograms, and copies the labels of every sample.

use std::borrow::Cow;

use super::{
    families::{Family, Kind},
    latency::Latency,
    numbers::Counts,
};

/// The name and the value of a label.
pub(super) type Label = (String, String);

/// A family with its samples.
#[derive(Debug)]
pub(super) struct Exposed<'a> {
    pub(super) family: &'static Family,
    pub(super) samples: Vec<Sample<'a>>,
}

/// One set of label values and what it is at.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    /// Labels of the series, probe or target.
    scope: &'a [Label],
    /// The family's own labels.
    own: &'static [&'static str],
    /// Their values.
    values: Vec<Cow<'a, str>>,
    /// Since when what is counted here counts from 0, in seconds since the Unix epoch, where that is known.
    pub(super) since: Option<f64>,
    pub(super) value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(f64),
    Histogram(&'a Latency),
}

impl Exposed<'_> {
    /// How many samples Prometheus stores of it, without native histograms.
    pub(super) fn stored_samples(&self) -> usize {
        let samples = self.samples.iter().map(|sample| match sample.value {
            Value::Number(_) => 1,
            // The buckets, `+Inf`, sum and count.
            Value::Histogram(histogram) => histogram.bounds().len() + 3,
        });
        samples.sum()
    }
}

impl Sample<'_> {
    /// Names and values, in order.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let scope = self
            .scope
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let own = self.own.iter().zip(&self.values);
        scope.chain(own.map(|(name, value)| (*name, &**value)))
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value<'_> {
    fn from(count: u64) -> Self {
        Self::Number(count as f64)
    }
}

impl<'a> From<&'a Latency> for Value<'a> {
    fn from(histogram: &'a Latency) -> Self {
        Self::Histogram(histogram)
    }
}

/// A family while it is filled: what a row of the table writes into.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    scope: &'a [Label],
    since: Option<f64>,
    exposed: Exposed<'a>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(family: &'static Family) -> Self {
        let samples = Vec::new();
        Self {
            scope: &[],
            since: None,
            exposed: Exposed { family, samples },
        }
    }

    /// What follows is of the series, probe or target with these labels.
    pub(super) fn of(&mut self, scope: &'a [Label]) -> &mut Self {
        self.scope = scope;
        self
    }

    /// What follows counts since then, in seconds since the Unix epoch.
    pub(super) fn since(&mut self, unix: f64) -> &mut Self {
        self.since = Some(unix);
        self
    }

    pub(super) fn family(self) -> Exposed<'a> {
        self.exposed
    }

    /// The only sample of its scope.
    pub(super) fn one(&mut self, value: impl Into<Value<'a>>) {
        self.push(Vec::new(), value.into());
    }

    /// The only sample of its scope, where it is known.
    pub(super) fn known(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.one(value);
        }
    }

    /// The sample with this value of the family's own label.
    pub(super) fn by(&mut self, label: impl Into<Cow<'a, str>>, value: impl Into<Value<'a>>) {
        self.push(vec![label.into()], value.into());
    }

    /// A sample for each value of the family's own label, which is closed.
    pub(super) fn counts<T: Copy, const N: usize>(
        &mut self,
        values: &[T],
        label: fn(T) -> &'static str,
        counts: &Counts<N>,
    ) {
        for (position, &value) in values.iter().enumerate() {
            self.by(label(value), counts.get(position));
        }
    }

    /// The sample with these values of the family's own labels.
    pub(super) fn with<const N: usize>(
        &mut self,
        labels: [impl Into<Cow<'a, str>>; N],
        value: impl Into<Value<'a>>,
    ) {
        self.push(labels.map(Into::into).into(), value.into());
    }

    fn push(&mut self, values: Vec<Cow<'a, str>>, value: Value<'a>) {
        let family = self.exposed.family;
        debug_assert_eq!(values.len(), family.labels.len(), "{}", family.name);
        debug_assert_eq!(
            matches!(value, Value::Histogram(_)),
            matches!(family.kind, Kind::Histogram(_)),
            "{}",
            family.name
        );
        self.exposed.samples.push(Sample {
            scope: self.scope,
            own: family.labels,
            values,
            since: self.since,
            value,
        });
    }
}
