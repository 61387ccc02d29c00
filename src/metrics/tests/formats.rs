//! All formats say the same, number by number, and each says it by its own rules.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    super::{exemplar::Exemplar, native::ZERO_THRESHOLD, proto},
    *,
};
use crate::clock::unix_now;

/// Values by name and labels, `le` included.
type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// An exemplar: its labels, value and time.
type Found = (Vec<(String, String)>, f64, f64);

fn metrics_with(native_histograms: bool, label_names: &[&str]) -> Metrics {
    let names: Vec<_> = label_names.iter().map(|name| (*name).to_owned()).collect();
    let exposition = Exposition {
        native_histograms,
        ..Exposition::default()
    };
    Metrics::new(&names, &exposition)
}

/// Two probes that did everything, with labels that want escaping.
fn busy(native_histograms: bool) -> (Metrics, Vec<SeriesMetrics>) {
    let metrics = metrics_with(native_histograms, &["team"]);
    let odd = edited(("fifty \"users\"", "a\\b", 50), |probe, target, _| {
        probe
            .labels
            .insert("team".into(), "line\nfeed, \"quoted\" \\n 🦀".into());
        target.model = "{model=\"x\"} 1".into();
    });
    let held = [rich("single", "ollama", 1), odd].map(|series| exercise(&metrics, &series));
    (metrics, held.into())
}

/// What the formats have in common once they are read; what moves on its own is left out.
fn steady(samples: Samples) -> Samples {
    let steady = samples.into_iter();
    steady
        .filter(|((name, _), _)| !name.starts_with("process_"))
        .collect()
}

/// Reads labels from after the opening brace to after the closing one.
fn labels(text: &mut std::str::Chars<'_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    loop {
        let name: String = text.by_ref().take_while(|c| *c != '=').collect();
        assert_eq!(text.next(), Some('"'), "{name}");
        let mut value = String::new();
        loop {
            match text.next().unwrap() {
                '"' => break,
                '\\' => value.push(match text.next().unwrap() {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c}"),
                }),
                c => value.push(c),
            }
        }
        labels.push((name, value));
        match text.next().unwrap() {
            '}' => return labels,
            c => assert_eq!(c, ','),
        }
    }
}

/// The samples of a text format, and the exemplars by the name of their sample.
fn read(text: &str) -> (Samples, Vec<(String, Found)>) {
    let (mut samples, mut exemplars) = (Samples::new(), Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(end);
        let mut rest = rest.chars();
        let of = match rest.next() {
            Some('{') => {
                let of = labels(&mut rest);
                assert_eq!(rest.next(), Some(' '), "{line}");
                of
            }
            _ => Vec::new(),
        };
        let (value, exemplar) =
            rest.as_str()
                .split_once(" # {")
                .map_or((rest.as_str(), None), |(value, exemplar)| {
                    let mut exemplar = exemplar.chars();
                    let of = labels(&mut exemplar);
                    let numbers: Vec<f64> = exemplar
                        .as_str()
                        .split_whitespace()
                        .map(|number| number.parse().unwrap())
                        .collect();
                    (value, Some((of, numbers[0], numbers[1])))
                });
        exemplars.extend(exemplar.map(|exemplar| (name.to_owned(), exemplar)));
        let before = samples.insert((name.to_owned(), of), value.parse().unwrap());
        assert_eq!(before, None, "twice: {line}");
    }
    (samples, exemplars)
}

fn families(metrics: &Metrics) -> Vec<proto::MetricFamily> {
    let bytes = metrics.render(Format::Protobuf);
    let mut rest = bytes.as_slice();
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(proto::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

/// The samples of the protobuf format as the text formats have them.
fn samples_of(families: &[proto::MetricFamily]) -> Samples {
    let mut samples = Samples::new();
    for family in families {
        for metric in &family.metric {
            let labels: Vec<_> = metric
                .label
                .iter()
                .map(|pair| (pair.name.clone().unwrap(), pair.value.clone().unwrap()))
                .collect();
            let mut put = |suffix: &str, le: Option<String>, value: f64| {
                let mut labels = labels.clone();
                labels.extend(le.map(|le| ("le".to_owned(), le)));
                samples.insert((format!("{}{suffix}", family.name()), labels), value);
            };
            let number = metric.counter.or(metric.gauge);
            match (&metric.histogram, number) {
                (None, Some(number)) => put("", None, number.value.unwrap()),
                (Some(histogram), None) => {
                    for bucket in histogram
                        .bucket
                        .iter()
                        .filter(|bucket| bucket.upper_bound().is_finite())
                    {
                        let le = format!("{:?}", bucket.upper_bound());
                        put("_bucket", Some(le), bucket.cumulative_count() as f64);
                    }
                    let count = histogram.sample_count() as f64;
                    put("_bucket", Some("+Inf".into()), count);
                    put("_count", None, count);
                    put("_sum", None, histogram.sample_sum.unwrap());
                }
                (histogram, number) => panic!("{}: {histogram:?} {number:?}", family.name()),
            }
        }
    }
    samples
}

/// NaN is equal to itself here.
#[track_caller]
fn assert_same(left: &Samples, right: &Samples) {
    assert!(left.len() > 900, "{}", left.len());
    for (key, value) in left {
        let other = right.get(key).copied();
        assert_eq!(
            other.map(f64::to_bits),
            Some(value.to_bits()),
            "{key:?}: {value} {other:?}"
        );
    }
    assert_eq!(left.len(), right.len());
}

/// Prometheus tells from them that a counter began at 0 before it was first scraped, and when it began anew.
#[tokio::test]
async fn protobuf_tells_since_when_counters_and_histograms_count() {
    let metrics = metrics_with(true, &[]);
    let series = rich("p", "t", 1);
    let created = |kind, within: std::ops::RangeInclusive<f64>| {
        let mut found = 0;
        for family in families(&metrics) {
            for metric in &family.metric {
                let counted = metric.counter.map(|counter| counter.created_timestamp);
                let histogram = metric.histogram.as_ref();
                let of_kind = match kind {
                    proto::MetricType::Counter => counted,
                    _ => histogram.map(|histogram| histogram.created_timestamp),
                };
                let is_of_the_probe = metric.label.iter().any(|label| label.name() == "probe");
                let Some(created) = of_kind.filter(|_| is_of_the_probe) else {
                    continue;
                };
                let created = created.unwrap_or_else(|| panic!("{}", family.name()));
                let unix = created.seconds as f64 + f64::from(created.nanos) / 1e9;
                assert!(within.contains(&unix), "{}: {unix} {within:?}", family.name());
                found += 1;
            }
            assert!(
                family
                    .metric
                    .iter()
                    .all(|metric| metric.gauge.is_none_or(|gauge| gauge.created_timestamp.is_none())),
                "{}",
                family.name()
            );
        }
        found
    };
    let nearly = 1e-5;
    let before = unix_now() - nearly;
    let held = exercise(&metrics, &series);
    let after = unix_now() + nearly;
    for kind in [proto::MetricType::Counter, proto::MetricType::Histogram] {
        assert!(created(kind, before..=after) > 10);
    }
    drop(held);
    let again = unix_now() - nearly;
    let _held = exercise(&metrics, &series);
    assert!(created(proto::MetricType::Counter, again..=unix_now() + nearly) > 10);
}

#[tokio::test(start_paused = true)]
async fn all_formats_say_the_same() {
    for native in [false, true] {
        let (metrics, held) = busy(native);
        let text = String::from_utf8(metrics.render(Format::Text)).unwrap();
        let (text, none) = read(&text);
        assert_eq!(none, []);
        let open_metrics = String::from_utf8(metrics.render(Format::OpenMetrics)).unwrap();
        let (open_metrics, in_text) = read(&open_metrics);
        let families = families(&metrics);
        let text = steady(text);
        assert_same(&text, &steady(open_metrics));
        assert_same(&text, &steady(samples_of(&families)));

        let buckets = families.iter().flat_map(|family| {
            let metrics = family
                .metric
                .iter()
                .filter_map(|metric| metric.histogram.as_ref());
            let buckets = metrics.flat_map(|histogram| &histogram.bucket);
            buckets.filter_map(|bucket| Some((family.name(), bucket, bucket.exemplar.as_ref()?)))
        });
        let in_protobuf = buckets.map(|(family, _, exemplar)| {
            let labels = exemplar.label.iter().cloned();
            let labels = labels
                .map(|pair| (pair.name.unwrap(), pair.value.unwrap()))
                .collect();
            let at = exemplar.timestamp.unwrap();
            let unix = at.seconds as f64 + f64::from(at.nanos) / 1e9;
            (
                format!("{family}_bucket"),
                (labels, exemplar.value.unwrap(), unix),
            )
        });
        assert_eq!(in_text, in_protobuf.collect::<Vec<_>>());
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn label_values_are_escaped_in_every_format() {
    let (metrics, held) = busy(false);
    let text = String::from_utf8(metrics.render(Format::Text)).unwrap();
    let open_metrics = String::from_utf8(metrics.render(Format::OpenMetrics)).unwrap();
    let line = r#"llm_probe_requests_total{probe="fifty \"users\"",target="a\\b",model="{model=\"x\"} 1",concurrency="50",team="line\nfeed, \"quoted\" \\n 🦀"} 6"#;
    for text in [&text, &open_metrics] {
        assert!(text.lines().any(|found| found == line), "{text}");
    }
    let families = families(&metrics);
    let requests = families
        .iter()
        .find(|family| family.name() == "llm_probe_requests_total");
    let labels = requests.unwrap().metric.iter().flat_map(|metric| &metric.label);
    let teams: Vec<_> = labels
        .filter(|label| label.name() == "team")
        .map(proto::LabelPair::value)
        .collect();
    assert_eq!(teams, ["line\nfeed, \"quoted\" \\n 🦀", ""]);
    drop(held);
}

/// Names are such that no `escaping` changes them.
#[test]
fn every_name_is_understood_by_every_scraper() {
    let is_plain = |name: &str| {
        let plain = |c: char| c == '_' || c.is_ascii_alphanumeric();
        name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    for family in table() {
        let labels = family
            .labels
            .iter()
            .chain(family.scope_labels().unwrap_or(SERIES_LABELS));
        assert!(
            labels.copied().chain([family.name]).all(is_plain),
            "{}",
            family.name
        );
    }
}

#[tokio::test(start_paused = true)]
async fn open_metrics_has_heads_of_its_own() {
    let (metrics, held) = busy(true);
    let text = String::from_utf8(metrics.render(Format::OpenMetrics)).unwrap();
    assert!(text.ends_with("\n# EOF\n"));
    for head in [
        "# TYPE llm_probe_requests counter\n# HELP llm_probe_requests Requests that ended",
        "# TYPE llm_probe_prompt_tokens counter\n# UNIT llm_probe_prompt_tokens tokens\n# HELP llm_probe_prompt_tokens Tokens",
        "# TYPE llm_probe_goodput_ratio gauge\n# UNIT llm_probe_goodput_ratio ratio\n",
        "# TYPE llm_probe_time_to_first_token_seconds histogram\n# UNIT llm_probe_time_to_first_token_seconds seconds\n",
        "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n",
        "# TYPE llm_probe_burst_peak_in_flight gauge\n# HELP",
    ] {
        assert!(text.contains(head), "{head}");
    }
    assert!(!text.contains("_created"));
    let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(
        types,
        text.lines().filter(|line| line.starts_with("# HELP ")).count()
    );
    drop(held);
}

#[test]
fn the_slowest_request_of_the_last_burst_is_the_exemplar() {
    let metrics = metrics_with(false, &[]);
    let series = plain("p", "t", 1);
    let held = metrics.acquire(&series);
    let exemplars = || {
        let (_, exemplars) = read(&String::from_utf8(metrics.render(Format::OpenMetrics)).unwrap());
        exemplars
    };
    let at = |ttft: u64, value| {
        let id = RequestId::new(ttft.into()).to_string();
        (vec![(Exemplar::LABEL.to_owned(), id)], value, NOON + 1.0)
    };
    assert_eq!(exemplars(), []);
    let failed = record(Outcome::Failed(Failure::FirstTokenTimeout), 400_000, 0);
    burst(
        &held,
        &series,
        [record(Outcome::Ok, 200, 3), record(Outcome::Ok, 600, 3), failed],
    );
    let [duration, ttft] =
        ["request_duration", "time_to_first_token"].map(|of| format!("llm_probe_{of}_seconds_bucket"));
    // The request that timed out has a time to first token, which is in no bucket but +Inf, and no duration.
    assert_eq!(
        exemplars(),
        [
            (duration.clone(), at(600, 0.62)),
            (ttft.clone(), at(400_000, 400.0))
        ]
    );
    burst(&held, &series, [record(Outcome::Ok, 300, 3)]);
    assert_eq!(exemplars(), [(duration, at(300, 0.32)), (ttft, at(300, 0.3))]);
    let text = String::from_utf8(metrics.render(Format::OpenMetrics)).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("first_token_seconds_bucket") && line.contains(" # {"));
    assert!(
        line.unwrap().contains("le=\"0.3\"} 2 # {request_id=\""),
        "{line:?}"
    );
}

#[test]
fn native_histograms_hold_what_the_classic_ones_do() {
    let metrics = metrics_with(true, &[]);
    let series = plain("p", "t", 1);
    let held = metrics.acquire(&series);
    let mut random = fastrand::Rng::with_seed(7);
    let mut drawn = || {
        let at_least = 1 << random.u32(0..13);
        at_least + random.u64(0..at_least)
    };
    let mut values: Vec<u64> = (0..1000).map(|_| drawn()).collect();
    burst(
        &held,
        &series,
        values.iter().map(|&ttft| record(Outcome::Ok, ttft, 2)),
    );
    let families = families(&metrics);
    for family in families
        .iter()
        .filter(|family| family.r#type() == proto::MetricType::Histogram)
    {
        for metric in &family.metric {
            let histogram = metric.histogram.as_ref().unwrap();
            assert_eq!(
                histogram.zero_threshold.map(f64::to_bits),
                Some(ZERO_THRESHOLD.to_bits())
            );
            assert_eq!(total(histogram), histogram.sample_count(), "{}", family.name());
        }
    }
    let ttft = families
        .iter()
        .find(|family| family.name() == "llm_probe_time_to_first_token_seconds");
    let ttft = ttft.unwrap().metric[0].histogram.as_ref().unwrap();
    assert_eq!((ttft.schema, ttft.sample_count()), (Some(3), 1000));
    values.sort_unstable();
    for (quantile, position) in [(0.5, 499), (0.95, 949), (0.99, 989)] {
        let exact = values[position] as f64 / 1e3;
        let native = native_quantile(ttft, quantile);
        assert!(
            (native / exact - 1.0).abs() < 0.05,
            "p{quantile}: {native}, exactly {exact}"
        );
    }

    let classic = metrics_with(false, &[]);
    let also_held = classic.acquire(&series);
    for family in self::families(&classic) {
        let histograms = family
            .metric
            .iter()
            .filter_map(|metric| metric.histogram.as_ref());
        assert!(
            histograms
                .into_iter()
                .all(|histogram| histogram.schema.is_none() && histogram.zero_threshold.is_none())
        );
    }
    drop((held, also_held));
}

/// Index and count of each bucket.
fn native_buckets(histogram: &proto::Histogram) -> Vec<(i32, i64)> {
    let (mut index, mut count) = (0, 0);
    let mut deltas = histogram.positive_delta.iter();
    let mut buckets = Vec::new();
    for span in &histogram.positive_span {
        index += span.offset();
        for _ in 0..span.length() {
            count += deltas.next().unwrap();
            buckets.push((index, count));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    buckets
}

fn total(histogram: &proto::Histogram) -> u64 {
    let buckets = native_buckets(histogram);
    let counts = buckets.iter().map(|(_, count)| u64::try_from(*count).unwrap());
    counts.sum::<u64>() + histogram.zero_count()
}

/// As PromQL has it: between the bounds of the bucket, exponentially.
fn native_quantile(histogram: &proto::Histogram, quantile: f64) -> f64 {
    let mut rank = quantile * histogram.sample_count() as f64 - histogram.zero_count() as f64;
    for (index, count) in native_buckets(histogram) {
        if rank <= count as f64 {
            let share = rank / count as f64;
            return ((f64::from(index - 1) + share) / f64::from(histogram.schema()).exp2()).exp2();
        }
        rank -= count as f64;
    }
    f64::INFINITY
}
