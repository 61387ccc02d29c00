//! A burst while its requests end.

use std::{collections::BTreeMap, fmt::Display, mem, time::Duration};

use tokio::time::Instant;

use super::{Judged, PromptLengths, Range, Stats, Summary};
use crate::{
    calibration::Count,
    diagnose::Evidence,
    identity::RequestId,
    measure::{Measurement, Phases, TokenSource},
    outcome::{Failure, Invalid, Outcome, Skip},
    prompt::MadeUp,
    record::Record,
    slo::{ErrorBounds, Objective, Verdict},
    units::{Name, Ratio, Seconds, Tokens},
    usage::Found,
};

/// Of so many requests it is kept how long their prompts were; more would teach no more.
const MOST_COUNTS: usize = 8;

/// Collects the requests of a burst as they end. It keeps a few numbers of each, not the records.
#[derive(Debug, Default)]
pub struct Tally {
    requests: u64,
    successes: u64,
    failures: BTreeMap<Failure, u64>,
    invalid: BTreeMap<Invalid, u64>,
    unsent: BTreeMap<Skip, u64>,
    withheld: u64,
    judged: u64,
    good: u64,
    output_tokens: u64,
    token_sources: BTreeMap<TokenSource, u64>,
    found_in_cache: BTreeMap<Found, u64>,
    prompt_lengths: Option<PromptLengths>,
    counts: Vec<Count>,
    first_turns_from_cache: u64,
    first_start: Option<Instant>,
    last_output: Option<Instant>,
    begun_together: Option<(Instant, Instant)>,
    under_way: Vec<(Instant, i64)>,
    ttft: Vec<f64>,
    ttft_after_connect: Vec<f64>,
    ttfo: Vec<f64>,
    ttst: Vec<f64>,
    itl: Vec<f64>,
    longest_gap: Vec<f64>,
    request_duration: Vec<f64>,
    send_lag: Vec<f64>,
    phases: [(f64, u32); 6],
    error_bound: Option<Seconds>,
    slowest: Option<(Seconds, RequestId, Option<Name>)>,
    first_failure: Option<String>,
    first_invalid: Option<String>,
    retry_after: Option<Duration>,
    cut_short: Option<Skip>,
    evidence: Evidence,
}

impl Tally {
    /// Adds a request; warm-up requests are passed over. `together` tells that it was to start with the burst.
    pub fn add(&mut self, judged: &Judged, together: bool) {
        let Judged {
            record,
            measured,
            verdicts,
            bounds,
        } = judged;
        if record.warmup {
            return;
        }
        self.requests += 1;
        if let Outcome::Invalid(invalid) = record.outcome {
            *self.invalid.entry(invalid).or_default() += 1;
            note(&mut self.first_invalid, invalid, record);
            return;
        }
        if let Some(sample) = judged.sample() {
            self.evidence.add(&sample);
        }
        let line = &record.timeline;
        if let (Some(start), Some(ended)) = (line.start, record.ended) {
            self.under_way.extend([(start, 1), (ended, -1)]);
            self.first_start = Some(self.first_start.map_or(start, |first| first.min(start)));
            if together {
                let (low, high) = self.begun_together.unwrap_or((start, start));
                self.begun_together = Some((low.min(start), high.max(start)));
            }
        }
        self.last_output = self.last_output.max(line.last);
        self.send_lag.extend(measured.send_lag.map(Seconds::get));
        self.ttft
            .extend(judged.waited_for_first_token().map(Seconds::get));
        if let Some((waited, id)) = judged.waited_for_first_token().zip(record.id)
            && self
                .slowest
                .as_ref()
                .is_none_or(|(longest, ..)| waited > *longest)
        {
            self.slowest = Some((waited, id, record.asked.name.clone()));
        }
        match verdicts.get(Objective::Goodput) {
            Some(Verdict::Met) => (self.judged, self.good) = (self.judged + 1, self.good + 1),
            Some(Verdict::Missed) => self.judged += 1,
            Some(Verdict::NotJudged(_)) | None => {}
        }
        self.retry_after = self.retry_after.max(record.retry_after);
        if let Outcome::Failed(failure) = record.outcome {
            *self.failures.entry(failure).or_default() += 1;
            note(&mut self.first_failure, failure, record);
        } else {
            let found = record.found();
            *self.found_in_cache.entry(found).or_default() += 1;
            self.first_turns_from_cache += u64::from(found == Found::Hit && record.asked.is_first_turn());
            if let Some((made_up, counted)) = record.asked.made_up.zip(record.usage.prompt) {
                self.made_up(made_up, counted);
            }
            self.success(measured, *bounds);
        }
    }

    /// Requests that were never sent: missed, or not judged.
    pub fn unsent(&mut self, reason: Skip, requests: u64, are_missed: bool) {
        if requests == 0 {
            return;
        }
        *self.unsent.entry(reason).or_default() += requests;
        if are_missed {
            self.withheld += requests;
            self.judged += requests;
        }
    }

    fn made_up(&mut self, made_up: MadeUp, counted: Tokens) {
        let asked = Range::of(made_up.tokens);
        let found = Range::of(counted);
        self.prompt_lengths = Some(match self.prompt_lengths {
            None => PromptLengths {
                asked,
                counted: found,
            },
            Some(before) => PromptLengths {
                asked: before.asked.with(asked),
                counted: before.counted.with(found),
            },
        });
        if self.counts.len() < MOST_COUNTS {
            self.counts.push(Count {
                words: made_up.words,
                tokens: counted,
            });
        }
    }

    fn success(&mut self, measured: &Measurement, bounds: ErrorBounds) {
        self.successes += 1;
        self.output_tokens = self.output_tokens.saturating_add(measured.output_tokens.0);
        *self.token_sources.entry(measured.token_source).or_default() += 1;
        if self.error_bound.is_none_or(|bound| bounds.ttft > bound) {
            self.error_bound = Some(bounds.ttft);
        }
        for (values, value) in [
            (&mut self.ttft_after_connect, measured.ttft_after_connect),
            (&mut self.ttfo, measured.ttfo),
            (&mut self.ttst, measured.ttst),
            (&mut self.itl, measured.itl),
            (&mut self.longest_gap, measured.longest_gap),
            (&mut self.request_duration, measured.duration),
        ] {
            values.extend(value.map(Seconds::get));
        }
        for ((sum, count), (_, phase)) in self.phases.iter_mut().zip(measured.phases.each()) {
            if let Some(phase) = phase {
                *sum += phase.get();
                *count += 1;
            }
        }
    }

    /// The burst was cut short.
    pub fn cut_short(&mut self, reason: Skip) {
        self.cut_short = Some(reason);
    }

    /// How many requests were never sent so far.
    pub fn unsent_requests(&self) -> u64 {
        self.unsent.values().sum()
    }

    /// How many requests were added.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The burst in numbers. `objective` is the share of good requests that makes a good burst.
    pub fn finish(mut self, objective: Ratio) -> Summary {
        let duration = self
            .first_start
            .zip(self.last_output)
            .map(|(from, to)| Seconds::between(from, to));
        let per_second = |count: u64| {
            let seconds = duration.map(Seconds::get).filter(|&seconds| seconds > 0.0)?;
            Some(count as f64 / seconds)
        };
        let goodput = Ratio::of(self.good, self.judged);
        let itl = Stats::of(self.itl);
        let [dns, connect, tls, headers, first_token, decode] = self
            .phases
            .map(|(sum, count)| (count > 0).then(|| Seconds::new(sum / f64::from(count))));
        Summary {
            requests: self.requests,
            successes: self.successes,
            failures: self.failures,
            invalid: self.invalid,
            duration,
            requests_per_second: per_second(self.successes),
            output_tokens_per_second: per_second(self.output_tokens),
            output_tokens_per_second_per_user: itl
                .map(|itl| itl.p50.get())
                .filter(|&itl| itl > 0.0)
                .map(f64::recip),
            output_tokens: self.output_tokens,
            token_sources: self.token_sources,
            found_in_cache: self.found_in_cache,
            prompt_lengths: self.prompt_lengths,
            counts: self.counts,
            tokens_per_word: None,
            first_turns_from_cache: self.first_turns_from_cache,
            unsent: self.unsent,
            withheld: self.withheld,
            judged: self.judged,
            good: self.good,
            goodput,
            goodput_per_second: match goodput {
                Some(_) if self.good == 0 => Some(0.0),
                _ => goodput.and_then(|_| per_second(self.good)),
            },
            objective_met: goodput.map(|goodput| goodput >= objective),
            peak_in_flight: peak(mem::take(&mut self.under_way)),
            ttft: Stats::of(self.ttft),
            ttft_after_connect: Stats::of(self.ttft_after_connect),
            ttfo: Stats::of(self.ttfo),
            ttst: Stats::of(self.ttst),
            itl,
            longest_gap: Stats::of(self.longest_gap),
            request_duration: Stats::of(self.request_duration),
            send_lag: Stats::of(self.send_lag),
            phases: Phases {
                dns,
                connect,
                tls,
                headers,
                first_token,
                decode,
            },
            error_bound: self.error_bound,
            start_spread: self.begun_together.map(|(low, high)| Seconds::between(low, high)),
            slowest_request: self.slowest.as_ref().map(|(_, id, _)| *id),
            slowest_prompt: self.slowest.and_then(|(.., prompt)| prompt),
            first_failure: self.first_failure,
            first_invalid: self.first_invalid,
            retry_after: self.retry_after.map(Seconds::from),
            cut_short: self.cut_short,
            observed: self.evidence.sum_up(),
            diagnosis: None,
        }
    }
}

/// Keeps the first reason that is given, with its detail.
fn note(first: &mut Option<String>, reason: impl Display, record: &Record) {
    first.get_or_insert_with(|| {
        let prompt = record.asked.name.as_ref().map(|name| format!("prompt {name}"));
        let request = record.id.map(|id| format!("request {id}"));
        let which: Vec<_> = request.into_iter().chain(prompt).collect();
        let request = match which.as_slice() {
            [] => String::new(),
            which => format!(" ({})", which.join(", ")),
        };
        match &record.detail {
            Some(detail) => format!("{reason}{request}: {detail}"),
            None => format!("{reason}{request}"),
        }
    });
}

/// The largest number of intervals that overlap; an interval that ends where another begins does not overlap it.
fn peak(mut changes: Vec<(Instant, i64)>) -> u64 {
    changes.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    u64::try_from(most).unwrap_or(0)
}
