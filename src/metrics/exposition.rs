//! What is exposed, whatever the format: a view of the gathered registry, and the writer that the scraper
//! asks for. There is one writer per format; prometheus' own writes `le="1"`, which Prometheus 2 takes for
//! another bucket than the `le="1.0"` of everybody else.

use prometheus::proto;

use super::text;

/// A rendered exposition.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The exact `Content-Type`: Prometheus 3 fails a scrape without one.
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// A family with its samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exposed<'a>(&'a proto::MetricFamily);

/// One set of label values and what it is at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    labels: &'a [proto::LabelPair],
    pub(super) value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(f64),
    Histogram(Histogram<'a>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Histogram<'a>(&'a proto::Histogram);

/// The families of a gathered registry, in its order, which is by name.
pub(super) fn families(gathered: &[proto::MetricFamily]) -> impl Iterator<Item = Exposed<'_>> {
    gathered.iter().map(Exposed)
}

impl<'a> Exposed<'a> {
    pub(super) fn name(self) -> &'a str {
        self.0.name()
    }

    pub(super) fn help(self) -> &'a str {
        self.0.help()
    }

    /// As in the TYPE line. Nothing here is a summary.
    pub(super) fn kind(self) -> &'static str {
        match self.0.get_field_type() {
            proto::MetricType::COUNTER => "counter",
            proto::MetricType::GAUGE => "gauge",
            proto::MetricType::HISTOGRAM => "histogram",
            proto::MetricType::SUMMARY | proto::MetricType::UNTYPED => "untyped",
        }
    }

    /// Sorted by label values.
    pub(super) fn samples(self) -> impl Iterator<Item = Sample<'a>> {
        let kind = self.0.get_field_type();
        self.0.get_metric().iter().map(move |metric| Sample {
            labels: metric.get_label(),
            value: match kind {
                proto::MetricType::HISTOGRAM => Value::Histogram(Histogram(metric.get_histogram())),
                proto::MetricType::COUNTER => Value::Number(metric.get_counter().get_value()),
                _ => Value::Number(metric.get_gauge().get_value()),
            },
        })
    }

    /// How many samples Prometheus stores of it.
    pub(super) fn stored_samples(self) -> usize {
        let samples = self.samples().map(|sample| match sample.value {
            Value::Number(_) => 1,
            // The buckets, `+Inf`, sum and count.
            Value::Histogram(histogram) => histogram.buckets().len() + 3,
        });
        samples.sum()
    }
}

impl<'a> Sample<'a> {
    /// Names and values, in order.
    pub(super) fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.labels.iter().map(|pair| (pair.name(), pair.value()))
    }
}

impl<'a> Histogram<'a> {
    /// Upper bounds and cumulative counts, without `+Inf`.
    pub(super) fn buckets(self) -> impl ExactSizeIterator<Item = (f64, u64)> + 'a {
        let buckets = self.0.get_bucket().iter();
        buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
    }

    pub(super) fn count(self) -> u64 {
        self.0.get_sample_count()
    }

    pub(super) fn sum(self) -> f64 {
        self.0.get_sample_sum()
    }
}

/// The formats of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
}

impl Format {
    /// Text is the answer to no `Accept` at all, to `*/*` and to anything unknown.
    const fn accepted(_accept: Option<&str>) -> Self {
        Self::Text
    }
}

/// Writes what was gathered in the format that the header `Accept` asks for.
pub(super) fn render(gathered: &[proto::MetricFamily], accept: Option<&str>) -> Rendered {
    match Format::accepted(accept) {
        Format::Text => Rendered {
            content_type: text::CONTENT_TYPE,
            body: text::write(gathered),
        },
    }
}
