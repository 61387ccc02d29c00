//! Of the last burst: why it was slow; see [`crate::diagnose`] for the definitions.

use crate::{
    diagnose::{Cause, Diagnosis, Spread, Staircase},
    metrics::{
        collector::Reading,
        families::{Family, Since, gauge},
    },
    units::Seconds,
};

/// NaN without a last burst, and where it has nothing to say.
fn of_last(reading: &Reading, value: impl FnOnce(&Diagnosis) -> Option<f64>) -> f64 {
    let diagnosis = reading
        .burst
        .as_deref()
        .and_then(|burst| burst.diagnosis.as_ref());
    diagnosis.and_then(value).unwrap_or(f64::NAN)
}

fn of_slots(reading: &Reading, value: impl FnOnce(Staircase) -> f64) -> f64 {
    of_last(reading, |diagnosis| diagnosis.slots.map(value))
}

fn of_replicas(reading: &Reading, value: impl FnOnce(Spread) -> Option<f64>) -> f64 {
    of_last(reading, |diagnosis| diagnosis.replicas.and_then(value))
}

pub(super) static FAMILIES: &[Family] = &[
    gauge(
        "llm_probe_load_inflation_ratio",
        &["of"],
        Since::Burst,
        "How many times longer the median of the last burst is than that of the lowest step of its ladder in the same round.",
        |of, rows| {
            rows.by("ttft", of_last(of, |diagnosis| diagnosis.load_inflation.ttft));
            rows.by("itl", of_last(of, |diagnosis| diagnosis.load_inflation.itl));
        },
    ),
    gauge(
        "llm_probe_bottleneck",
        &["cause"],
        Since::Burst,
        "1 for what made the last burst slow, against the lowest step of its round, else the baseline; 0 for the others.",
        |of, rows| {
            for cause in Cause::ALL {
                let is_it = |diagnosis: &Diagnosis| Some(f64::from(u8::from(diagnosis.cause == *cause)));
                rows.by(cause.as_str(), of_last(of, is_it));
            }
        },
    ),
    gauge(
        "llm_probe_bottleneck_confidence_ratio",
        &[],
        Since::Burst,
        "The share that the bottleneck has in what requests lost; of errors, the share that failed; of none, how close all is to what it is compared with; 0 where there is nothing to compare with.",
        |of, rows| rows.one(of_last(of, |diagnosis| Some(diagnosis.confidence))),
    ),
    gauge(
        "llm_probe_baseline_time_to_first_token_seconds",
        &[],
        Since::Known,
        "The usual median time to first token: that of the first 30 good bursts, then moved towards each good burst by at most 0.5 % an hour; absent before 10 good bursts.",
        |of, rows| rows.known(of.numbers.baseline.0.ttft.map(Seconds::get)),
    ),
    gauge(
        "llm_probe_baseline_inter_token_latency_seconds",
        &[],
        Since::Known,
        "The usual median inter-token latency, learned like that of the time to first token.",
        |of, rows| rows.known(of.numbers.baseline.0.itl.map(Seconds::get)),
    ),
    gauge(
        "llm_probe_baseline_bursts",
        &[],
        Since::Load,
        "Good bursts that the baseline was learned from, also before a restart: none of their requests failed, was invalid or withheld.",
        |of, rows| rows.one(of.numbers.baseline.1),
    ),
    gauge(
        "llm_probe_estimated_slots",
        &[],
        Since::Burst,
        "How many requests the server worked on at once in the last burst; NaN where none waited for a slot.",
        |of, rows| rows.one(of_slots(of, |staircase| staircase.slots.into())),
    ),
    gauge(
        "llm_probe_estimated_slot_seconds",
        &[],
        Since::Burst,
        "How long a request kept its slot in the last burst, median.",
        |of, rows| rows.one(of_slots(of, |staircase| staircase.slot_seconds.get())),
    ),
    gauge(
        "llm_probe_estimated_slots_confidence_ratio",
        &[],
        Since::Burst,
        "Share of the time while requests waited in which the number of answers under way was within 1 or a quarter of the estimated slots.",
        |of, rows| rows.one(of_slots(of, |staircase| staircase.confidence)),
    ),
    gauge(
        "llm_probe_tokens_per_arrival",
        &[],
        Since::Burst,
        "Output tokens for each read that carried output, median over the successes of the last burst with at least 8 tokens.",
        |of, rows| rows.one(of_last(of, |diagnosis| diagnosis.tokens_per_arrival)),
    ),
    gauge(
        "llm_probe_coalescing",
        &[],
        Since::Burst,
        "1 where tokens arrive in clumps of at least 4 tokens: the server or something on the way holds them back.",
        |of, rows| {
            let coalesced = |diagnosis: &Diagnosis| {
                let known = diagnosis.tokens_per_arrival.is_some();
                known.then_some(f64::from(u8::from(diagnosis.coalesced)))
            };
            rows.one(of_last(of, coalesced));
        },
    ),
    gauge(
        "llm_probe_replica_spread_ratio",
        &["of"],
        Since::Burst,
        "The median of the slowest replica over that of the fastest in the last burst, where replicas can be told apart and had at least 3 successes.",
        |of, rows| {
            rows.by("ttft", of_replicas(of, |spread| spread.ttft));
            rows.by("itl", of_replicas(of, |spread| spread.itl));
        },
    ),
    gauge(
        "llm_probe_replicas",
        &[],
        Since::Burst,
        "Replicas that were compared in the last burst.",
        |of, rows| rows.one(of_replicas(of, |spread| Some(spread.replicas as f64))),
    ),
    gauge(
        "llm_probe_replica_fewest_requests",
        &[],
        Since::Burst,
        "Successes of the compared replica that had the fewest in the last burst.",
        |of, rows| rows.one(of_replicas(of, |spread| Some(spread.fewest_requests as f64))),
    ),
];
