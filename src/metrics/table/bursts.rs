//! Of bursts: the schedule, the last burst, how late we were.

use crate::{
    metrics::{
        collector::Reading,
        exposition::Rows,
        families::{Family, Since, counter, gauge, lag},
    },
    outcome::Skip,
    summary::{Stats, Summary},
    units::{Ratio, Seconds},
};

/// A gauge of the last burst: NaN without one, and where it has nothing to say.
fn of_burst(reading: &Reading, value: impl FnOnce(&Summary) -> Option<f64>) -> f64 {
    reading.burst.as_deref().and_then(value).unwrap_or(f64::NAN)
}

/// The percentiles of a measurement in the last burst.
fn stats(reading: &Reading, rows: &mut Rows<'_>, of: fn(&Summary) -> Option<Stats>) {
    let stats = reading.burst.as_deref().and_then(of);
    let value = |of: fn(Stats) -> Seconds| stats.map_or(f64::NAN, |stats| of(stats).get());
    rows.by("p50", value(|stats| stats.p50));
    rows.by("p90", value(|stats| stats.p90));
    rows.by("p99", value(|stats| stats.p99));
    rows.by("max", value(|stats| stats.max));
}

pub(super) static FAMILIES: &[Family] = &[
    counter(
        "llm_probe_bursts_total",
        &[],
        "Bursts that were begun.",
        |of, rows| rows.one(of.numbers.bursts),
    ),
    counter(
        "llm_probe_bursts_skipped_total",
        &["reason"],
        "Bursts that were due and not fired, by reason.",
        |of, rows| rows.counts(Skip::ALL, Skip::as_str, &of.numbers.skipped),
    ),
    counter(
        "llm_probe_requests_skipped_total",
        &["reason"],
        "Requests of a burst that were never sent, by reason.",
        |of, rows| rows.counts(Skip::ALL, Skip::as_str, &of.numbers.requests_skipped),
    ),
    gauge(
        "llm_probe_interval_seconds",
        &[],
        Since::Load,
        "The interval of the bursts that is in force, as budgets stretch it; of a cron expression, from its last occurrence to the next one.",
        |of, rows| rows.one(of.numbers.interval_in_force().as_secs_f64()),
    ),
    gauge(
        "llm_probe_burst_armed_timestamp_seconds",
        &[],
        Since::Known,
        "Since when bursts are due; absent outside the windows of the probe and while all are paused.",
        |of, rows| rows.known(of.numbers.times.armed),
    ),
    gauge(
        "llm_probe_burst_last_start_timestamp_seconds",
        &[],
        Since::Known,
        "When the last burst began.",
        |of, rows| rows.known(of.numbers.times.last_start),
    ),
    gauge(
        "llm_probe_burst_next_due_timestamp_seconds",
        &[],
        Since::Known,
        "When the next burst is due that will be fired; absent while all are paused.",
        |of, rows| rows.known(of.numbers.times.next_due),
    ),
    gauge(
        "llm_probe_request_last_success_timestamp_seconds",
        &[],
        Since::Known,
        "When a request last succeeded; before the first success, since when bursts are due.",
        |of, rows| rows.known(of.numbers.times.last_success),
    ),
    gauge(
        "llm_probe_request_last_failure_timestamp_seconds",
        &[],
        Since::Known,
        "When a request last failed.",
        |of, rows| rows.known(of.numbers.times.last_failure),
    ),
    gauge(
        "llm_probe_goodput_ratio",
        &[],
        Since::Burst,
        "Share of the judged requests of the last burst that succeeded and met every limit.",
        |of, rows| rows.one(of_burst(of, |burst| burst.goodput.map(Ratio::get))),
    ),
    gauge(
        "llm_probe_goodput_requests_per_second",
        &[],
        Since::Burst,
        "Good requests a second in the last burst.",
        |of, rows| rows.one(of_burst(of, |burst| burst.goodput_per_second)),
    ),
    gauge(
        "llm_probe_requests_per_second",
        &[],
        Since::Burst,
        "Successful requests a second in the last burst.",
        |of, rows| rows.one(of_burst(of, |burst| burst.requests_per_second)),
    ),
    gauge(
        "llm_probe_output_tokens_per_second",
        &[],
        Since::Burst,
        "Output tokens a second over all users in the last burst.",
        |of, rows| rows.one(of_burst(of, |burst| burst.output_tokens_per_second)),
    ),
    gauge(
        "llm_probe_output_tokens_per_second_per_user",
        &[],
        Since::Burst,
        "Output tokens a second that one user saw in the last burst, median over its requests.",
        |of, rows| rows.one(of_burst(of, |burst| burst.output_tokens_per_second_per_user)),
    ),
    gauge(
        "llm_probe_burst_duration_seconds",
        &[],
        Since::Burst,
        "From the first start of a request in the last burst to its last output.",
        |of, rows| rows.one(of_burst(of, |burst| burst.duration.map(Seconds::get))),
    ),
    gauge(
        "llm_probe_burst_peak_in_flight",
        &[],
        Since::Burst,
        "Most requests under way at the same time in the last burst.",
        |of, rows| rows.one(of_burst(of, |burst| Some(burst.peak_in_flight as f64))),
    ),
    gauge(
        "llm_probe_burst_time_to_first_token_seconds",
        &["stat"],
        Since::Burst,
        "Time to first token in the last burst, exact: p50, p90, p99, max.",
        |of, rows| stats(of, rows, |burst| burst.ttft),
    ),
    gauge(
        "llm_probe_burst_inter_token_latency_seconds",
        &["stat"],
        Since::Burst,
        "Inter-token latency in the last burst, exact: p50, p90, p99, max.",
        |of, rows| stats(of, rows, |burst| burst.itl),
    ),
    gauge(
        "llm_probe_burst_phase_seconds",
        &["phase"],
        Since::Burst,
        "The mean of each phase over the successes of the last burst.",
        |of, rows| {
            let phases = of.burst.as_deref().map(|burst| burst.phases).unwrap_or_default();
            for (phase, mean) in phases.each() {
                rows.by(phase, mean.map_or(f64::NAN, Seconds::get));
            }
        },
    ),
    gauge(
        "llm_probe_measurement_error_bound_seconds",
        &[],
        Since::Burst,
        "By how much this program's own lag may have lengthened a time to first token of the last burst, at most.",
        |of, rows| rows.one(of_burst(of, |burst| burst.error_bound.map(Seconds::get))),
    ),
    gauge(
        "llm_probe_requests_in_flight",
        &[],
        Since::Load,
        "Requests under way.",
        |of, rows| rows.one(of.in_flight as f64),
    ),
    lag(
        "llm_probe_schedule_lag_seconds",
        "From when a burst was due to when it began.",
        |of, rows| rows.one(&of.schedule),
    ),
    lag(
        "llm_probe_send_lag_seconds",
        "From when a request was to start to when it did; waiting for others on the way out is in it at a rate, and in a closed loop not.",
        |of, rows| rows.one(&of.send),
    ),
];
