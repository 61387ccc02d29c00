//! Requests that were judged, and one burst of them in numbers: what the last-burst gauges, the log line,
//! the page and the report of `once` say.

mod tally;

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use serde::Serialize;

pub use self::tally::Tally;

use crate::{
    calibration::Count,
    config::plan::Slo,
    diagnose::{Diagnosis, Fate, Observed, Sample},
    identity::RequestId,
    measure::{Measurement, Phases, TokenSource},
    outcome::{Failure, Invalid, Outcome, Skip},
    quantile::percentile,
    record::Record,
    slo::{ErrorBounds, Verdicts, judge},
    units::{Name, Ratio, Seconds, Tokens},
    usage::Found,
};

/// One ended request with everything that is said of it.
#[derive(Clone, Debug)]
pub struct Judged {
    pub record: Record,
    pub measured: Measurement,
    /// Without verdicts for a warm-up request.
    pub verdicts: Verdicts,
    pub bounds: ErrorBounds,
}

impl Judged {
    /// Judges an ended request by `slo`; a warm-up request is not judged.
    pub fn new(record: Record, measured: Measurement, bounds: ErrorBounds, slo: &Slo) -> Self {
        let verdicts = if record.warmup {
            Verdicts::default()
        } else {
            judge(slo, record.outcome, &measured, &bounds)
        };
        Self {
            record,
            measured,
            verdicts,
            bounds,
        }
    }

    /// The time to first token; of a request that timed out before it, what it waited in vain, so that
    /// percentiles do not improve when requests time out.
    pub fn waited_for_first_token(&self) -> Option<Seconds> {
        self.record.waited_in_vain().or(self.measured.ttft)
    }

    /// What a diagnosis needs of it; `None` of a request that never started.
    pub fn sample(&self) -> Option<Sample> {
        let Self { record, measured, .. } = self;
        let line = &record.timeline;
        let fate = match record.outcome {
            Outcome::Ok => Fate::Succeeded,
            _ if record.waited_in_vain().is_some() => Fate::WaitedInVain,
            Outcome::Failed(_) | Outcome::Invalid(_) => Fate::Failed,
        };
        let ended = record.ended?;
        let Phases {
            dns, connect, tls, ..
        } = measured.phases;
        let connecting = [dns, connect, tls].into_iter().flatten();
        Some(Sample {
            start: line.start?,
            first: line.first,
            end: match fate {
                Fate::Succeeded => line.last.unwrap_or(ended),
                Fate::WaitedInVain | Fate::Failed => ended,
            },
            fate,
            ttft: self.waited_for_first_token(),
            itl: measured.itl,
            intervals: measured.intervals,
            connecting: connecting.reduce(|sum, phase| sum + phase),
            round_trip: connect,
            tokens: measured.output_tokens.0,
            // Each gap is between two of them.
            arrivals: line.first.map_or(0, |_| line.gaps.len() as u64 + 1),
            replica: record
                .replica
                .clone()
                .or_else(|| record.peer.map(|peer| peer.to_string())),
        })
    }
}

/// A distribution of one measurement over the requests of a burst, in seconds; percentiles are exact, with
/// linear interpolation between ranks (as numpy and AIPerf have it).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stats {
    pub count: usize,
    pub avg: Seconds,
    pub min: Seconds,
    pub p50: Seconds,
    pub p90: Seconds,
    pub p99: Seconds,
    pub max: Seconds,
}

impl Stats {
    /// `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let at = |percent| Seconds::new(percentile(&values, percent).unwrap_or(min));
        Some(Self {
            count: values.len(),
            avg: Seconds::new(values.iter().sum::<f64>() / values.len() as f64),
            min: Seconds::new(min),
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: Seconds::new(max),
        })
    }
}

/// From the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    pub min: Tokens,
    pub max: Tokens,
}

impl Range {
    fn of(tokens: Tokens) -> Self {
        Self {
            min: tokens,
            max: tokens,
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// `300`, or `298–303`.
impl Display for Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(out, "{}", self.min)
        } else {
            write!(out, "{}–{}", self.min, self.max)
        }
    }
}

/// How long made-up prompts were to be, and how long they were by the server's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PromptLengths {
    pub asked: Range,
    pub counted: Range,
}

/// In words.
impl Display for PromptLengths {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, counted } = self;
        write!(out, "{asked} tokens asked, {counted} counted by the server")
    }
}

/// One burst, ended: one firing of a probe at one target and one load. Warm-up is in none of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub requests: u64,
    pub successes: u64,
    pub failures: BTreeMap<Failure, u64>,
    pub invalid: BTreeMap<Invalid, u64>,
    /// From the first start to the last output of any request that is not invalid; `None` without a success.
    pub duration: Option<Seconds>,
    /// Successes a second.
    pub requests_per_second: Option<f64>,
    /// Output tokens a second, over all users.
    pub output_tokens_per_second: Option<f64>,
    /// Output tokens a second that one user saw, the median over the requests.
    pub output_tokens_per_second_per_user: Option<f64>,
    pub output_tokens: u64,
    /// Successes by where the number of their output tokens came from.
    pub token_sources: BTreeMap<TokenSource, u64>,
    /// Successes by what the server found of their prompts in its prefix cache.
    pub found_in_cache: BTreeMap<Found, u64>,
    /// How long made-up prompts were to be and, of the successes whose server counts, were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_lengths: Option<PromptLengths>,
    /// Words of some made-up prompts, and what the server counted, to learn from.
    #[serde(skip)]
    pub counts: Vec<Count>,
    /// How many tokens the server was taken to make of a word of theirs; `None` where that was not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_word: Option<f64>,
    /// Those of them that were the first turn of a conversation, and found in it.
    #[serde(skip)]
    pub first_turns_from_cache: u64,
    /// Requests that were never sent, by reason. They are in no other number but these two.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unsent: BTreeMap<Skip, u64>,
    /// Those of them that count as judged and missed.
    pub withheld: u64,
    /// Requests whose goodput was judged, and those that met it.
    pub judged: u64,
    pub good: u64,
    /// good / judged.
    pub goodput: Option<Ratio>,
    pub goodput_per_second: Option<f64>,
    /// Whether goodput reached the objective; `None` when nothing was judged.
    pub objective_met: Option<bool>,
    /// Most requests under way at the same time.
    pub peak_in_flight: u64,
    /// Requests that timed out before their first token count with what they waited.
    pub ttft: Option<Stats>,
    pub ttft_after_connect: Option<Stats>,
    pub ttfo: Option<Stats>,
    pub ttst: Option<Stats>,
    pub itl: Option<Stats>,
    pub longest_gap: Option<Stats>,
    pub request_duration: Option<Stats>,
    pub send_lag: Option<Stats>,
    /// The mean of each phase over the requests in which it happened.
    pub phases: Phases,
    /// The largest error bound of a TTFT.
    pub error_bound: Option<Seconds>,
    /// From the first request's start to the last one's, of those that were to start with the burst.
    pub start_spread: Option<Seconds>,
    /// The request whose first token came last, also in vain: the one to look for in the endpoint's logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_request: Option<RequestId>,
    /// The name of the prompt that it asked, where that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_prompt: Option<Name>,
    /// What the first failed request says of its failure.
    pub first_failure: Option<String>,
    /// What the first invalid request says of what we did wrong.
    pub first_invalid: Option<String>,
    /// The longest time for which the endpoint asked not to come back.
    pub retry_after: Option<Seconds>,
    /// Why the burst was cut short.
    pub cut_short: Option<Skip>,
    /// What a diagnosis needs to know.
    #[serde(skip)]
    pub observed: Observed,
    /// Why it was slow; `None` until it was compared.
    pub diagnosis: Option<Diagnosis>,
}

impl Summary {
    /// Successes whose prompts came from the server's prefix cache.
    pub fn served_from_cache(&self) -> u64 {
        self.found_in_cache.get(&Found::Hit).copied().unwrap_or_default()
    }

    /// Who counted the output tokens, in words; `None` without a success.
    pub fn counted_by(&self) -> Option<String> {
        let words = |source: &TokenSource| match source {
            TokenSource::Usage => "the server",
            TokenSource::Tokenizer => "the tokenizer",
            TokenSource::Deltas => "deltas",
        };
        match self.token_sources.iter().collect::<Vec<_>>().as_slice() {
            [] => None,
            [(only, _)] => Some(words(only).to_owned()),
            several => {
                let counts = several
                    .iter()
                    .map(|(source, count)| format!("{} ({count} requests)", words(source)));
                Some(counts.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn percentiles_interpolate_between_ranks() {
        let stats = Stats::of((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((stats.count, stats.min.get(), stats.max.get()), (100, 1.0, 100.0));
        for (value, expected) in [
            (stats.avg, 50.5),
            (stats.p50, 50.5),
            (stats.p90, 90.1),
            (stats.p99, 99.01),
        ] {
            assert!((value.get() - expected).abs() < 1e-9, "{value} {expected}");
        }
        assert_eq!(
            Stats::of(vec![3.0]).map(|one| (one.p50, one.p99)),
            Some((Seconds::new(3.0), Seconds::new(3.0)))
        );
        assert_eq!(Stats::of(Vec::new()), None);
    }

    #[test]
    fn a_burst_is_summed_up() {
        let slo = Slo {
            ttft: Some(Duration::from_millis(300)),
            ..Slo::default()
        };
        let t0 = Instant::now();
        let mut tally = Tally::default();
        for number in 0..5_u32 {
            let begin = t0 + Duration::from_millis(u64::from(number));
            let mut record = Record::new(number, number == 4, t0);
            record.timeline.start = Some(begin);
            for delta in 0..11 {
                let first = Duration::from_millis(100 + 100 * u64::from(number));
                record
                    .timeline
                    .output(begin + first + Duration::from_millis(10 * delta), true);
            }
            record.ended = record.timeline.last;
            record.outcome = match number {
                3 => Outcome::Failed(Failure::Truncated),
                _ => Outcome::Ok,
            };
            let measured = Measurement::of(&record);
            let judged = Judged::new(record, measured, ErrorBounds::default(), &slo);
            tally.add(&judged, true);
        }
        let summary = tally.finish(slo.objective);
        assert_eq!(
            (summary.requests, summary.successes, summary.judged, summary.good),
            (4, 3, 4, 3)
        );
        assert_eq!(summary.failures, BTreeMap::from([(Failure::Truncated, 1)]));
        assert_eq!(summary.objective_met, Some(false));
        assert_eq!(summary.peak_in_flight, 4);
        // The failed request, number 3, was the last to say something.
        assert_eq!(summary.duration, Some(Seconds::new(0.503)));
        assert_eq!(summary.start_spread, Some(Seconds::new(0.003)));
        assert_eq!(summary.output_tokens, 33);
        let itl = summary.itl.unwrap();
        assert!((itl.p50.get() - 0.010).abs() < 1e-9 && itl.count == 3);
        assert!((summary.output_tokens_per_second.unwrap() - 33.0 / 0.503).abs() < 1e-6);
        // The failed request got its first token too.
        assert_eq!(summary.ttft.map(|ttft| ttft.count), Some(4));
    }

    #[test]
    fn nothing_is_not_zero() {
        let nothing = Tally::default().finish(Slo::default().objective);
        assert_eq!(
            (nothing.goodput, nothing.duration, nothing.requests_per_second),
            (None, None, None)
        );
        assert_eq!(nothing.objective_met, None);
    }
}
