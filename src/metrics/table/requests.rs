//! Of requests: counts, objectives, latencies, tokens.

use std::borrow::Cow;

use crate::{
    measure::{Phases, TokenSource},
    metrics::{
        families::{Family, Since, counter, gauge, histogram},
        latency,
        numbers::configured,
    },
    outcome::{Failure, Invalid},
    prompt::Cache,
    record::ConnectionState,
    slo::{Objective, Why},
    usage::Found,
};

pub(super) static FAMILIES: &[Family] = &[
    counter(
        "llm_probe_requests_total",
        &[],
        "Requests that ended: successes, failures and invalid ones. Warm-up requests are not counted.",
        |of, rows| rows.one(of.numbers.requests),
    ),
    counter(
        "llm_probe_request_failures_total",
        &["reason"],
        "Requests that the endpoint failed, by reason.",
        |of, rows| rows.counts(Failure::ALL, Failure::as_str, &of.numbers.failures),
    ),
    counter(
        "llm_probe_invalid_requests_total",
        &["reason"],
        "Requests that this program failed, by reason. They say nothing about the endpoint.",
        |of, rows| rows.counts(Invalid::ALL, Invalid::as_str, &of.numbers.invalid),
    ),
    counter(
        "llm_probe_slo_requests_total",
        &["slo"],
        "Requests that were judged, by objective.",
        |of, rows| {
            for objective in configured(&of.numbers.plan.step.slo) {
                rows.by(objective.as_str(), of.numbers.judged.get(objective as usize));
            }
        },
    ),
    counter(
        "llm_probe_slo_good_requests_total",
        &["slo"],
        "Requests that met the objective.",
        |of, rows| {
            for objective in configured(&of.numbers.plan.step.slo) {
                rows.by(objective.as_str(), of.numbers.good.get(objective as usize));
            }
        },
    ),
    counter(
        "llm_probe_slo_unjudged_requests_total",
        &["why"],
        "Requests of which at least one objective was not judged, by why.",
        |of, rows| rows.counts(&Why::ALL, Why::as_str, &of.numbers.unjudged),
    ),
    counter(
        "llm_probe_slo_bursts_total",
        &[],
        "Bursts of which any request was judged, and bursts that were withheld.",
        |of, rows| rows.one(of.numbers.judged_bursts),
    ),
    counter(
        "llm_probe_slo_good_bursts_total",
        &[],
        "Bursts whose goodput reached the objective.",
        |of, rows| rows.one(of.numbers.good_bursts),
    ),
    gauge(
        "llm_probe_slo_limit_seconds",
        &["slo"],
        Since::Load,
        "The limit of the objective.",
        |of, rows| {
            let slo = &of.numbers.plan.step.slo;
            for (objective, limit) in Objective::ALL
                .into_iter()
                .filter_map(|of| Some((of, of.limit(slo)?)))
            {
                rows.by(objective.as_str(), limit.as_secs_f64());
            }
        },
    ),
    gauge(
        "llm_probe_slo_objective_ratio",
        &["alert"],
        Since::Load,
        "The share of requests that are to be good, and whom it alerts when they are not.",
        |of, rows| {
            let slo = &of.numbers.plan.step.slo;
            rows.by(slo.alert.as_str(), slo.objective.get());
        },
    ),
    histogram(
        "llm_probe_time_to_first_token_seconds",
        latency::FIRST_TOKEN,
        &[],
        "From the start of a request to its first output. A request that timed out before it counts with what it waited.",
        |of, rows| rows.one(&of.numbers.ttft),
    ),
    histogram(
        "llm_probe_time_to_first_token_after_connect_seconds",
        latency::FIRST_TOKEN,
        &[],
        "From the connection to the first output, of successes: what compares with a server's own TTFT.",
        |of, rows| rows.one(&of.numbers.ttft_after_connect),
    ),
    histogram(
        "llm_probe_time_to_first_output_seconds",
        latency::FIRST_TOKEN,
        &[],
        "From the start of a request to its first visible output, of successes: reasoning does not count.",
        |of, rows| rows.one(&of.numbers.ttfo),
    ),
    histogram(
        "llm_probe_time_to_second_token_seconds",
        latency::BETWEEN_TOKENS,
        &[],
        "From the first output to the second, of successes.",
        |of, rows| rows.one(&of.numbers.ttst),
    ),
    histogram(
        "llm_probe_inter_token_latency_seconds",
        latency::BETWEEN_TOKENS,
        &[],
        "Time per output token after the first, one value per successful request.",
        |of, rows| rows.one(&of.numbers.itl),
    ),
    histogram(
        "llm_probe_inter_chunk_latency_seconds",
        latency::BETWEEN_TOKENS,
        &[],
        "Gaps between arrivals of output, one value per gap, of successes.",
        |of, rows| rows.one(&of.numbers.gaps),
    ),
    histogram(
        "llm_probe_longest_gap_seconds",
        latency::BETWEEN_TOKENS,
        &[],
        "The longest gap between arrivals of output, of successes.",
        |of, rows| rows.one(&of.numbers.longest_gap),
    ),
    histogram(
        "llm_probe_request_duration_seconds",
        latency::REQUEST,
        &[],
        "From the start of a request to its last output, of successes.",
        |of, rows| rows.one(&of.numbers.request_duration),
    ),
    histogram(
        "llm_probe_request_phase_seconds",
        latency::PHASE,
        &["phase"],
        "The parts of a request's time, of successes: dns, connect, tls, headers, first_token, decode.",
        |of, rows| {
            for ((phase, _), histogram) in Phases::default().each().into_iter().zip(&of.numbers.phases) {
                rows.by(phase, histogram);
            }
        },
    ),
    histogram(
        "llm_probe_failed_request_duration_seconds",
        latency::FAILED,
        &[],
        "From the start of a request to its failure.",
        |of, rows| rows.one(&of.numbers.failed_duration),
    ),
    histogram(
        "llm_probe_server_phase_seconds",
        latency::SERVER_PHASE,
        &["phase"],
        "What the server says it spent on load, prompt and decode, of successes, where the protocol reports it.",
        |of, rows| {
            let reports = of.numbers.plan.target.api.reports_times();
            for (phase, histogram) in ["load", "prompt", "decode"]
                .into_iter()
                .zip(&of.numbers.server_phases)
            {
                if reports || histogram.count() > 0 {
                    rows.by(phase, histogram);
                }
            }
        },
    ),
    counter(
        "llm_probe_prompt_tokens_total",
        &[],
        "Tokens of prompts as the server counted them, cached ones included. Warm-up and invalid requests count too.",
        |of, rows| rows.one(of.numbers.consumption.prompt.0),
    ),
    counter(
        "llm_probe_cached_prompt_tokens_total",
        &[],
        "Tokens of prompts that came from the server's prefix cache.",
        |of, rows| rows.one(of.numbers.consumption.cached_prompt.0),
    ),
    counter(
        "llm_probe_prompt_cache_requests_total",
        &["expected", "found"],
        "Successes by what the prompt expects of the server's prefix cache and what the server found there: a hit is half of the prompt or more.",
        |of, rows| {
            let in_force = of.numbers.plan.probe.prompt.cache;
            for (&expected, counts) in Cache::ALL.iter().zip(&of.numbers.found) {
                if expected == in_force || !counts.is_zero() {
                    for (position, found) in Found::ALL.iter().enumerate() {
                        rows.with([expected.expected(), found.as_str()], counts.get(position));
                    }
                }
            }
        },
    ),
    counter(
        "llm_probe_output_tokens_total",
        &[],
        "Tokens that were generated, reasoning included: the server's count, else the tokenizer's, else output deltas.",
        |of, rows| rows.one(of.numbers.consumption.output.0),
    ),
    counter(
        "llm_probe_reasoning_tokens_total",
        &[],
        "Tokens of reasoning as the server counted them.",
        |of, rows| rows.one(of.numbers.consumption.reasoning.0),
    ),
    counter(
        "llm_probe_cost_dollars_total",
        &[],
        "What the tokens cost by the price of the target; only for targets with a price.",
        |of, rows| {
            if of.numbers.plan.target.price.is_some() {
                rows.one(of.numbers.consumption.dollars);
            }
        },
    ),
    counter(
        "llm_probe_token_counts_total",
        &["source"],
        "Requests with output, warm-up included, by where the number of their output tokens came from.",
        |of, rows| rows.counts(TokenSource::ALL, TokenSource::as_str, &of.numbers.token_sources),
    ),
    counter(
        "llm_probe_http_responses_total",
        &["code"],
        "Response heads, by status code; `other` beyond the first sixteen.",
        |of, rows| {
            for (code, &count) in &of.numbers.responses {
                let code = code.map(|code| code.to_string());
                rows.by(code.map_or(Cow::Borrowed("other"), Cow::Owned), count);
            }
        },
    ),
    counter(
        "llm_probe_connections_total",
        &["state"],
        "Requests by how they came by their connection: new, reused, or reused, found dead and reopened.",
        |of, rows| {
            rows.counts(
                ConnectionState::ALL,
                ConnectionState::as_str,
                &of.numbers.connections,
            );
        },
    ),
];
