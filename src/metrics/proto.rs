//! The protobuf format: messages of `io.prometheus.client`, each after its length. The only home of prost.

use prost::Message;

use super::{
    exemplar,
    exposition::{self, Exposed, Value},
    families::Kind,
    latency::Latency,
    native::{Native, ZERO_THRESHOLD},
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub(super) r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    pub(super) unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// The messages `Gauge` and `Counter`, which have this in common.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Number {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
    /// Of a counter.
    #[prost(message, optional, tag = "3")]
    pub(super) created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    /// Of each bucket, how much more it holds than the one before.
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub(super) positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    pub(super) created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) exemplar: Option<Exemplar>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

pub(super) fn write(families: &mut dyn Iterator<Item = Exposed<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    for family in families.filter(|family| !family.samples.is_empty()) {
        let message = MetricFamily::from(&family);
        message
            .encode_length_delimited(&mut out)
            .expect("memory takes every write");
    }
    out
}

impl From<&Exposed<'_>> for MetricFamily {
    fn from(exposed: &Exposed<'_>) -> Self {
        let of = exposed.family;
        let kind = match of.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram(_) => MetricType::Histogram,
        };
        let metric = |sample: &exposition::Sample<'_>| {
            let since = sample.since.map(Timestamp::from);
            let number = match sample.value {
                Value::Number(value) => Some(Number {
                    value: Some(value),
                    created_timestamp: since.filter(|_| kind == MetricType::Counter),
                }),
                Value::Histogram(_) => None,
            };
            Metric {
                label: sample.labels().map(LabelPair::from).collect(),
                gauge: number.filter(|_| kind == MetricType::Gauge),
                counter: number.filter(|_| kind == MetricType::Counter),
                histogram: match sample.value {
                    Value::Number(_) => None,
                    Value::Histogram(latency) => Some(Histogram {
                        created_timestamp: since,
                        ..latency.into()
                    }),
                },
            }
        };
        Self {
            name: Some(of.name.to_owned()),
            help: Some(of.help.to_owned()),
            r#type: Some(kind.into()),
            metric: exposed.samples.iter().map(metric).collect(),
            unit: of.unit().map(str::to_owned),
        }
    }
}

impl From<(&str, &str)> for LabelPair {
    fn from((name, value): (&str, &str)) -> Self {
        Self {
            name: Some(name.to_owned()),
            value: Some(value.to_owned()),
        }
    }
}

impl From<&Latency> for Histogram {
    fn from(latency: &Latency) -> Self {
        let exemplar = latency.exemplar();
        let of = |position| exemplar.filter(|(of, _)| *of == position);
        let buckets = latency.buckets().enumerate();
        let classic = Self {
            sample_count: Some(latency.count()),
            sample_sum: Some(latency.sum()),
            bucket: buckets
                // That of +Inf is implied, but for its exemplar.
                .filter(|(position, (bound, _))| bound.is_finite() || of(*position).is_some())
                .map(|(position, (bound, count))| Bucket {
                    cumulative_count: Some(count),
                    upper_bound: Some(bound),
                    exemplar: of(position).map(|(_, exemplar)| exemplar.into()),
                })
                .collect(),
            ..Self::default()
        };
        match latency.native() {
            Some(native) => classic.with(native),
            None => classic,
        }
    }
}

impl Histogram {
    fn with(self, native: &Native) -> Self {
        let spans = native.spans();
        let counts = spans.iter().flat_map(|span| &span.counts);
        let deltas = counts.scan(0, |before, &count| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            Some(count - std::mem::replace(before, count))
        });
        Self {
            schema: Some(native.schema().into()),
            zero_threshold: Some(ZERO_THRESHOLD),
            zero_count: Some(native.zero_count()),
            positive_delta: deltas.collect(),
            positive_span: spans
                .iter()
                .map(|span| BucketSpan {
                    offset: Some(span.offset),
                    length: u32::try_from(span.counts.len()).ok(),
                })
                .collect(),
            ..self
        }
    }
}

impl From<exemplar::Exemplar> for Exemplar {
    fn from(exemplar: exemplar::Exemplar) -> Self {
        Self {
            label: vec![(exemplar::Exemplar::LABEL, exemplar.id.to_string().as_str()).into()],
            value: Some(exemplar.value),
            timestamp: Some(exemplar.unix.into()),
        }
    }
}

/// From seconds since the Unix epoch.
impl From<f64> for Timestamp {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seconds since 1970, and nanoseconds of one"
    )]
    fn from(unix: f64) -> Self {
        Self {
            seconds: unix.floor() as i64,
            nanos: (unix.fract() * 1e9) as i32,
        }
    }
}
