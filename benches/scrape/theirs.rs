//! A registry of the crate prometheus that holds what an exposition says.

use prometheus::{
    Registry,
    core::{Collector, Desc},
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

#[derive(Debug)]
struct Families(Vec<MetricFamily>);

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.clone()
    }
}

/// `text` is ours, whose label values want no escaping here.
pub(crate) fn registry(text: &str) -> Registry {
    let mut families: Vec<MetricFamily> = Vec::new();
    let mut metrics: Vec<Metric> = Vec::new();
    let mut kind = MetricType::UNTYPED;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            finish(&mut families, &mut metrics);
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            families.push(family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = match rest.rsplit_once(' ') {
                Some((_, "counter")) => MetricType::COUNTER,
                Some((_, "histogram")) => MetricType::HISTOGRAM,
                _ => MetricType::GAUGE,
            };
            let family = families.last_mut().expect("HELP comes first");
            family.set_field_type(kind);
        } else {
            sample(line, kind, &mut metrics);
        }
    }
    finish(&mut families, &mut metrics);
    let registry = Registry::new();
    let registered = registry.register(Box::new(Families(families)));
    registered.expect("the only collector");
    registry
}

fn finish(families: &mut [MetricFamily], metrics: &mut Vec<Metric>) {
    if let Some(family) = families.last_mut() {
        family.set_metric(std::mem::take(metrics));
    }
}

/// Adds a sample to the last metric, or begins one.
fn sample(line: &str, kind: MetricType, metrics: &mut Vec<Metric>) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value: f64 = value.parse().expect("a number");
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels
        .trim_end_matches('}')
        .split(',')
        .filter(|label| !label.is_empty());
    let labels: Vec<_> = labels.map(label).collect();
    let (bounds, labels): (Vec<_>, Vec<_>) = labels.into_iter().partition(|label| label.name() == "le");
    let count = || value.to_string().parse().expect("a count");
    if kind != MetricType::HISTOGRAM {
        let mut metric = Metric::from_label(labels);
        if kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metrics.push(metric);
        return;
    }
    let begins = metrics.last().is_none_or(|metric| metric.get_label() != labels);
    if begins {
        metrics.push(Metric::from_label(labels));
    }
    let metric = metrics.last_mut().expect("pushed just now");
    let mut histogram: Histogram = metric.get_histogram().clone();
    if let Some(bound) = bounds.first().filter(|bound| bound.value() != "+Inf") {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.value().parse().expect("a bound"));
        bucket.set_cumulative_count(count());
        let mut buckets = histogram.get_bucket().to_vec();
        buckets.push(bucket);
        histogram.set_bucket(buckets);
    } else if name.ends_with("_sum") {
        histogram.set_sample_sum(value);
    } else {
        histogram.set_sample_count(count());
    }
    metric.set_histogram(histogram);
}

fn label(text: &str) -> LabelPair {
    let (name, value) = text.split_once('=').expect("a label");
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.trim_matches('"').to_owned());
    pair
}
