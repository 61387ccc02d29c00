//! `GET /metrics` under vLLM's names, and what the simulator says of itself.

use std::fmt::Write;

use super::{counters::Histogram, inference::Snapshot};

/// The Prometheus text format.
pub(super) fn render(snapshot: &Snapshot, model: &str) -> String {
    let mut page = Page {
        out: String::new(),
        labels: format!(r#"engine="0",model_name="{}""#, escape(model)),
    };
    let Snapshot {
        load,
        counters,
        kv_capacity,
        slipped,
    } = snapshot;
    page.family(
        "vllm:num_requests_running",
        "gauge",
        "Number of requests in model execution batches.",
    );
    page.sample("vllm:num_requests_running", "", load.running as f64);
    page.family(
        "vllm:num_requests_waiting",
        "gauge",
        "Number of requests waiting to be processed.",
    );
    page.sample("vllm:num_requests_waiting", "", load.waiting as f64);
    page.family(
        "vllm:kv_cache_usage_perc",
        "gauge",
        "KV-cache usage. 1 means 100 percent usage.",
    );
    let usage = load.kv_tokens as f64 / (*kv_capacity).max(1) as f64;
    page.sample("vllm:kv_cache_usage_perc", "", usage);
    page.family(
        "vllm:prompt_tokens_total",
        "counter",
        "Number of prefill tokens processed.",
    );
    page.sample("vllm:prompt_tokens_total", "", counters.prompt_tokens as f64);
    page.family(
        "vllm:generation_tokens_total",
        "counter",
        "Number of generation tokens processed.",
    );
    page.sample(
        "vllm:generation_tokens_total",
        "",
        counters.generation_tokens as f64,
    );
    page.family(
        "vllm:request_success_total",
        "counter",
        "Count of successfully processed requests.",
    );
    for (reason, count) in [
        ("stop", 0),
        ("length", counters.finished),
        ("abort", counters.aborted),
        ("error", 0),
    ] {
        let label = format!(r#",finished_reason="{reason}""#);
        page.sample("vllm:request_success_total", &label, count as f64);
    }
    page.family(
        "vllm:admission_rejections_total",
        "counter",
        "Number of admission attempts rejected by a queue limit, by reason.",
    );
    page.sample(
        "vllm:admission_rejections_total",
        r#",reason="max_num_queued_reqs""#,
        counters.refused as f64,
    );
    page.histogram(
        "vllm:time_to_first_token_seconds",
        "Histogram of time to first token in seconds.",
        &counters.time_to_first_token,
    );
    page.histogram(
        "vllm:request_queue_time_seconds",
        "Histogram of time spent in WAITING phase for request.",
        &counters.queue_time,
    );
    page.family(
        "simulator_slipped_seconds_total",
        "counter",
        "How much later than the model wanted tokens came, because this machine was busy.",
    );
    page.sample("simulator_slipped_seconds_total", "", slipped.as_secs_f64());
    page.out
}

struct Page {
    out: String,
    labels: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// `more` holds further labels and begins with a comma.
    fn sample(&mut self, name: &str, more: &str, value: f64) {
        let labels = std::mem::take(&mut self.labels);
        self.line(format_args!("{name}{{{labels}{more}}} {value:?}"));
        self.labels = labels;
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.sample(&bucket, &format!(r#",le="{bound:?}""#), count as f64);
        }
        self.sample(&bucket, r#",le="+Inf""#, histogram.count() as f64);
        self.sample(&format!("{name}_count"), "", histogram.count() as f64);
        self.sample(&format!("{name}_sum"), "", histogram.sum());
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{line}").expect("a String takes everything");
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', r#"\""#)
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::counters::{Counters, Load};

    #[test]
    fn the_names_are_vllms() {
        let mut counters = Counters {
            prompt_tokens: 344,
            finished: 11,
            ..Counters::default()
        };
        counters.queue_time.observe(Duration::from_millis(400));
        let snapshot = Snapshot {
            load: Load {
                waiting: 3,
                running: 1,
                kv_tokens: 50,
            },
            counters,
            kv_capacity: 100,
            slipped: Duration::ZERO,
        };
        let text = render(&snapshot, "a\"b");
        for line in [
            "# TYPE vllm:num_requests_waiting gauge",
            r#"vllm:num_requests_waiting{engine="0",model_name="a\"b"} 3.0"#,
            r#"vllm:kv_cache_usage_perc{engine="0",model_name="a\"b"} 0.5"#,
            r#"vllm:prompt_tokens_total{engine="0",model_name="a\"b"} 344.0"#,
            r#"vllm:request_success_total{engine="0",model_name="a\"b",finished_reason="length"} 11.0"#,
            r#"vllm:request_queue_time_seconds_bucket{engine="0",model_name="a\"b",le="0.3"} 0.0"#,
            r#"vllm:request_queue_time_seconds_bucket{engine="0",model_name="a\"b",le="0.5"} 1.0"#,
            r#"vllm:request_queue_time_seconds_bucket{engine="0",model_name="a\"b",le="+Inf"} 1.0"#,
            r#"vllm:request_queue_time_seconds_sum{engine="0",model_name="a\"b"} 0.4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
