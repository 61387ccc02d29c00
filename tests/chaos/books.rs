//! What must hold of every scrape, and from one scrape to the next.

use std::collections::{BTreeMap, BTreeSet};

/// What was read last, and how much was checked.
#[derive(Debug, Default)]
pub(crate) struct Books {
    counters: BTreeMap<String, f64>,
    pub(crate) steps: u64,
    pub(crate) sums: u64,
    pub(crate) histograms: u64,
}

/// One scrape.
struct Page<'a> {
    /// By name and labels, as they are written.
    samples: BTreeMap<&'a str, f64>,
    kinds: BTreeMap<&'a str, &'a str>,
}

impl<'a> Page<'a> {
    fn read(text: &'a str, wrong: &mut Vec<String>) -> Self {
        let (mut samples, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                kinds.extend(kind.split_once(' '));
            } else if !line.starts_with('#') {
                let sample = line.rsplit_once(' ');
                match sample
                    .and_then(|(series, value)| Some((series, value.replace("Inf", "inf").parse().ok()?)))
                {
                    Some((series, value)) if samples.insert(series, value).is_none() => {}
                    _ => wrong.push(format!("no sample, or one that is there twice: {line}")),
                }
            }
        }
        Self { samples, kinds }
    }

    /// A counter, or a part of a histogram.
    fn is_counter(&self, series: &str) -> bool {
        let name = name(series);
        let kind = |name| self.kinds.get(name).copied();
        let of_histogram = ["_bucket", "_count", "_sum"]
            .iter()
            .filter_map(|part| name.strip_suffix(part))
            .any(|family| kind(family) == Some("histogram"));
        kind(name) == Some("counter") || of_histogram
    }

    /// The sum over a family's series of these labels, whatever other labels follow, and of any of these reasons.
    fn sum(&self, family: &str, labels: &str, reasons: &[&str]) -> f64 {
        let prefix = format!("llm_probe_{family}{{{labels}");
        let of_series = self
            .samples
            .range(&*prefix..)
            .take_while(|(series, _)| series.starts_with(&prefix));
        of_series
            .filter(|(series, _)| reasons.is_empty() || reasons.iter().any(|reason| series.contains(reason)))
            .map(|(_, value)| value)
            .sum()
    }
}

fn name(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

impl Books {
    /// Reads a scrape in the text format: what is wrong with it.
    pub(crate) fn read(&mut self, text: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let page = Page::read(text, &mut wrong);
        self.falls(&page, &mut wrong);
        self.sums(&page, &mut wrong);
        self.histograms(&page, &mut wrong);
        wrong
    }

    /// Series with this label are removed, or may begin anew.
    pub(crate) fn leave(&mut self, label: &str) {
        self.counters.retain(|series, _| !series.contains(label));
    }

    fn falls(&mut self, page: &Page<'_>, wrong: &mut Vec<String>) {
        for (series, before) in &self.counters {
            self.steps += 1;
            match page.samples.get(&**series) {
                Some(now) if now < before => wrong.push(format!("{series} fell from {before} to {now}")),
                Some(_) => {}
                None => wrong.push(format!("{series} is gone")),
            }
        }
        let counters = page.samples.iter().filter(|(series, _)| page.is_counter(series));
        self.counters = counters
            .map(|(series, value)| ((*series).to_owned(), *value))
            .collect();
        for (series, value) in &self.counters {
            if !(value.is_finite() && *value >= 0.0) {
                wrong.push(format!("{series} is {value}"));
            }
        }
    }

    /// Counts that follow from one another.
    fn sums(&mut self, page: &Page<'_>, wrong: &mut Vec<String>) {
        const WAITED: &[&str] = &["\"headers_timeout\"", "\"first_token_timeout\""];
        let series = page.samples.range("llm_probe_requests_total{"..);
        for (series, requests) in
            series.take_while(|(series, _)| series.starts_with("llm_probe_requests_total{"))
        {
            let labels = series
                .trim_start_matches("llm_probe_requests_total{")
                .trim_end_matches('}');
            let sum = |family: &str| page.sum(family, labels, &[]);
            let (failures, invalid) = (sum("request_failures_total"), sum("invalid_requests_total"));
            let successes = sum("request_duration_seconds_count");
            let waited = page.sum("request_failures_total", labels, WAITED);
            let first_tokens = sum("time_to_first_token_seconds_count");
            let mut hold = |what: &str, holds: bool| {
                self.sums += 1;
                if !holds {
                    wrong.push(format!(
                        "{what}: {requests} requests, {successes} successes, {failures} failures, {invalid} invalid, \
                         {waited} waited for nothing, {first_tokens} times to first token, of {labels}"
                    ));
                }
            };
            let is = |one: f64, other: f64| (one - other).abs() < 0.5;
            hold(
                "requests are successes, failures and invalid ones",
                is(*requests, successes + failures + invalid),
            );
            hold(
                "each success and each vain wait is a time to first token",
                first_tokens >= successes + waited,
            );
            hold(
                "no invalid request has a time to first token",
                first_tokens <= requests - invalid,
            );
            hold(
                "each failure has a duration",
                is(sum("failed_request_duration_seconds_count"), failures),
            );
            for family in [
                "time_to_first_token_after_connect_seconds_count",
                "time_to_first_output_seconds_count",
                "time_to_second_token_seconds_count",
                "inter_token_latency_seconds_count",
                "longest_gap_seconds_count",
            ] {
                hold(family, sum(family) <= successes);
            }
            hold(
                "gaps",
                sum("inter_chunk_latency_seconds_count") >= sum("longest_gap_seconds_count"),
            );
            hold(
                "good requests are judged",
                sum("slo_good_requests_total") <= sum("slo_requests_total"),
            );
            hold(
                "good bursts are judged",
                sum("slo_good_bursts_total") <= sum("slo_bursts_total"),
            );
        }
    }

    /// Buckets hold what is in the ones before them, and the last one all.
    fn histograms(&mut self, page: &Page<'_>, wrong: &mut Vec<String>) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        let mut odd = BTreeSet::new();
        for (series, count) in &page.samples {
            let Some((before, after)) = series
                .split_once("le=\"")
                .filter(|_| name(series).ends_with("_bucket"))
            else {
                continue;
            };
            let Some((bound, rest)) = after.split_once('"') else {
                continue;
            };
            let Ok(bound) = bound.replace("Inf", "inf").parse() else {
                odd.insert(*series);
                continue;
            };
            let labels = before
                .trim_end_matches([',', '{'])
                .replacen("_bucket", "_count", 1);
            let others = if rest == "}" {
                rest
            } else {
                rest.trim_start_matches(',')
            };
            let closed = if labels.contains('{') {
                format!("{labels}{others}")
            } else {
                labels
            };
            buckets.entry(closed).or_default().push((bound, *count));
        }
        wrong.extend(odd.into_iter().map(|series| format!("an odd bucket: {series}")));
        for (count, mut buckets) in buckets {
            self.histograms += 1;
            buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            let rising = buckets.windows(2).all(|two| two[0].1 <= two[1].1);
            let all = buckets
                .last()
                .filter(|(bound, _)| bound.is_infinite())
                .map(|(_, all)| *all);
            if !rising || all.is_none() || all != page.samples.get(&*count).copied() {
                wrong.push(format!("{count}: {buckets:?}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten requests: six successes, three failures of which one waited in vain, one invalid.
    const GOOD: &str = r#"# TYPE llm_probe_requests_total counter
llm_probe_requests_total{probe="p",target="t"} 10
# TYPE llm_probe_request_failures_total counter
llm_probe_request_failures_total{probe="p",target="t",reason="headers_timeout"} 1
llm_probe_request_failures_total{probe="p",target="t",reason="truncated"} 2
# TYPE llm_probe_invalid_requests_total counter
llm_probe_invalid_requests_total{probe="p",target="t",reason="cancelled"} 1
# TYPE llm_probe_request_duration_seconds histogram
llm_probe_request_duration_seconds_bucket{probe="p",target="t",le="0.1"} 4
llm_probe_request_duration_seconds_bucket{probe="p",target="t",le="+Inf"} 6
llm_probe_request_duration_seconds_sum{probe="p",target="t"} 0.7
llm_probe_request_duration_seconds_count{probe="p",target="t"} 6
# TYPE llm_probe_failed_request_duration_seconds histogram
llm_probe_failed_request_duration_seconds_count{probe="p",target="t"} 3
# TYPE llm_probe_time_to_first_token_seconds histogram
llm_probe_time_to_first_token_seconds_count{probe="p",target="t"} 8
# TYPE llm_probe_time_to_first_output_seconds histogram
llm_probe_time_to_first_output_seconds_count{probe="p",target="t"} 6
# TYPE llm_probe_slo_requests_total counter
llm_probe_slo_requests_total{probe="p",target="t",slo="goodput"} 9
# TYPE llm_probe_slo_good_requests_total counter
llm_probe_slo_good_requests_total{probe="p",target="t",slo="goodput"} 6
# TYPE llm_probe_goodput_ratio gauge
llm_probe_goodput_ratio{probe="p",target="t"} 0.6
"#;

    #[test]
    fn what_is_right_is_right_again_and_again() {
        let mut books = Books::default();
        assert_eq!(books.read(GOOD), [""; 0]);
        let lower_gauge = GOOD.replace(" 0.6\n", " 0.1\n");
        assert_eq!(books.read(&lower_gauge), [""; 0]);
        assert_eq!(books.steps, 13);
        assert!(books.sums > 10 && books.histograms == 2);
    }

    /// One thing that is wrong, by what stands there instead.
    #[test]
    fn each_violation_is_found() {
        for (right, instead, found) in [
            (
                "_total{probe=\"p\",target=\"t\"} 10",
                "_total{probe=\"p\",target=\"t\"} 11",
                "requests are",
            ),
            ("\"truncated\"} 2", "\"truncated\"} 3", "requests are"),
            ("\"cancelled\"} 1", "\"cancelled\"} 2", "requests are"),
            (
                "first_token_seconds_count{probe=\"p\",target=\"t\"} 8",
                "first_token_seconds_count{probe=\"p\",target=\"t\"} 6",
                "vain wait",
            ),
            (
                "first_token_seconds_count{probe=\"p\",target=\"t\"} 8",
                "first_token_seconds_count{probe=\"p\",target=\"t\"} 10",
                "no invalid",
            ),
            (
                "first_output_seconds_count{probe=\"p\",target=\"t\"} 6",
                "first_output_seconds_count{probe=\"p\",target=\"t\"} 7",
                "time_to_first_output",
            ),
            (
                "failed_request_duration_seconds_count{probe=\"p\",target=\"t\"} 3",
                "failed_request_duration_seconds_count{probe=\"p\",target=\"t\"} 2",
                "each failure",
            ),
            ("le=\"0.1\"} 4", "le=\"0.1\"} 7", "request_duration_seconds_count"),
            (
                "le=\"+Inf\"} 6",
                "le=\"+Inf\"} 5",
                "request_duration_seconds_count",
            ),
            ("le=\"+Inf\"", "le=\"9.9\"", "request_duration_seconds_count"),
            ("le=\"0.1\"", "le=\"x\"", "odd bucket"),
            ("slo=\"goodput\"} 6", "slo=\"goodput\"} 10", "good requests"),
            (
                "_sum{probe=\"p\",target=\"t\"} 0.7",
                "_sum{probe=\"p\",target=\"t\"} NaN",
                "is NaN",
            ),
            (
                " 0.6\n",
                " 0.6\nllm_probe_goodput_ratio{probe=\"p\",target=\"t\"} 0.6\n",
                "twice",
            ),
            (" 0.6\n", " much\n", "no sample"),
        ] {
            let page = GOOD.replacen(right, instead, 1);
            assert_ne!(page, GOOD, "{right}");
            let wrong = Books::default().read(&page);
            assert!(
                wrong.iter().any(|wrong| wrong.contains(found)),
                "{instead}: {wrong:?}"
            );
        }
    }

    #[test]
    fn counters_may_neither_fall_nor_go_unless_their_series_does() {
        let fallen = GOOD.replace(
            "_sum{probe=\"p\",target=\"t\"} 0.7",
            "_sum{probe=\"p\",target=\"t\"} 0.6",
        );
        let gone = GOOD.replace(
            "llm_probe_slo_good_requests_total{probe=\"p\",target=\"t\",slo=\"goodput\"} 6\n",
            "",
        );
        for (page, found) in [(&fallen, "fell from 0.7 to 0.6"), (&gone, "is gone")] {
            let mut books = Books::default();
            assert_eq!(books.read(GOOD), [""; 0]);
            let wrong = books.read(page);
            assert!(wrong.len() == 1 && wrong[0].contains(found), "{wrong:?}");
            books.read(GOOD);
            books.leave("probe=\"p\"");
            assert_eq!(books.read(page), [""; 0]);
        }
    }
}
