//! What one series has counted, and how each event moves it. No labels, no formats; the caller holds the lock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::latency::{Latency, Layouts};
use crate::{
    baseline::Medians,
    capacity::Capacity,
    clock::unix_now,
    config::plan::{Price, Series, Slo},
    measure::{Measurement, TokenSource},
    outcome::{Failure, Invalid, Outcome, Skip},
    prompt::Cache,
    record::{ConnectionState, Record},
    slo::{Objective, Verdict, Why},
    summary::{Judged, Summary},
    units::{Seconds, Tokens},
    usage::{Found, Usage},
};

/// Status codes that a series tells apart: an endpoint that makes them up may not make series without end.
const MOST_CODES: usize = 16;

/// A gauge of the last burst says nothing any more when the burst is older than this many intervals.
const FRESH_INTERVALS: u32 = 3;

/// A count for each value of a closed label, by the position of the value in its enum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Counts<N> {
    const ZERO: Self = Self([0; N]);

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|&count| count == 0)
    }

    fn add(&mut self, position: usize, count: u64) {
        if let Some(counted) = self.0.get_mut(position) {
            *counted += count;
        }
    }

    pub(super) fn get(&self, position: usize) -> u64 {
        self.0.get(position).copied().unwrap_or_default()
    }
}

/// Times of day in seconds since the Unix epoch; `None` until known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) armed: Option<f64>,
    pub(super) last_start: Option<f64>,
    pub(super) next_due: Option<f64>,
    pub(super) last_success: Option<f64>,
    pub(super) last_failure: Option<f64>,
}

/// Tokens of every request, warm-up and invalid ones included: they cost, too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consumption {
    pub(super) prompt: Tokens,
    pub(super) cached_prompt: Tokens,
    pub(super) output: Tokens,
    pub(super) reasoning: Tokens,
    pub(super) dollars: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// Since when it counts, in seconds since the Unix epoch.
    pub(super) since: f64,
    /// The plan in force: objectives, price.
    pub(super) plan: Series,
    /// The interval in force.
    pub(super) interval: Duration,
    pub(super) requests: u64,
    pub(super) failures: Counts<{ Failure::ALL.len() }>,
    pub(super) invalid: Counts<{ Invalid::ALL.len() }>,
    pub(super) judged: Counts<{ Objective::ALL.len() }>,
    pub(super) good: Counts<{ Objective::ALL.len() }>,
    pub(super) unjudged: Counts<{ Why::ALL.len() }>,
    pub(super) bursts: u64,
    pub(super) skipped: Counts<{ Skip::ALL.len() }>,
    pub(super) requests_skipped: Counts<{ Skip::ALL.len() }>,
    /// By how much budgets stretch the interval, at least 1.
    pub(super) stretch: f64,
    pub(super) judged_bursts: u64,
    pub(super) good_bursts: u64,
    pub(super) consumption: Consumption,
    pub(super) token_sources: Counts<{ TokenSource::ALL.len() }>,
    /// What the server found of prompts in its cache, by what was expected: a new plan may expect otherwise, and
    /// so does a later turn of a conversation.
    pub(super) found: [Counts<{ Found::ALL.len() }>; Cache::ALL.len()],
    /// By status; `None` is every other one.
    pub(super) responses: BTreeMap<Option<u16>, u64>,
    pub(super) connections: Counts<{ ConnectionState::ALL.len() }>,
    pub(super) times: Times,
    /// What is usual, and of how many bursts that was learned.
    pub(super) baseline: (Medians, u64),
    /// The last burst and when it ended.
    last_burst: Option<(Instant, Arc<Summary>)>,
    /// The last search for the capacity that says something of the endpoint, and when it ended.
    last_search: Option<(Instant, Arc<Capacity>)>,
    pub(super) ttft: Latency,
    pub(super) ttft_after_connect: Latency,
    pub(super) ttfo: Latency,
    pub(super) ttst: Latency,
    pub(super) itl: Latency,
    pub(super) gaps: Latency,
    pub(super) longest_gap: Latency,
    pub(super) request_duration: Latency,
    pub(super) failed_duration: Latency,
    /// In the order of [`crate::measure::Phases::each`].
    pub(super) phases: [Latency; 6],
    /// Load, prompt, decode.
    pub(super) server_phases: [Latency; 3],
}

impl Numbers {
    pub(super) fn new(plan: Series, layouts: &Layouts) -> Self {
        let latency = |family| layouts.latency(family);
        Self {
            since: unix_now(),
            interval: plan.probe.every,
            plan,
            requests: 0,
            failures: Counts::ZERO,
            invalid: Counts::ZERO,
            judged: Counts::ZERO,
            good: Counts::ZERO,
            unjudged: Counts::ZERO,
            bursts: 0,
            skipped: Counts::ZERO,
            requests_skipped: Counts::ZERO,
            stretch: 1.0,
            judged_bursts: 0,
            good_bursts: 0,
            consumption: Consumption::default(),
            token_sources: Counts::ZERO,
            found: [Counts::ZERO; Cache::ALL.len()],
            // So that `increase()` sees the first answer.
            responses: BTreeMap::from([(Some(200), 0)]),
            connections: Counts::ZERO,
            times: Times::default(),
            baseline: (Medians::default(), 0),
            last_burst: None,
            last_search: None,
            ttft: latency("llm_probe_time_to_first_token_seconds"),
            ttft_after_connect: latency("llm_probe_time_to_first_token_after_connect_seconds"),
            ttfo: latency("llm_probe_time_to_first_output_seconds"),
            ttst: latency("llm_probe_time_to_second_token_seconds"),
            itl: latency("llm_probe_inter_token_latency_seconds"),
            gaps: latency("llm_probe_inter_chunk_latency_seconds"),
            longest_gap: latency("llm_probe_longest_gap_seconds"),
            request_duration: latency("llm_probe_request_duration_seconds"),
            failed_duration: latency("llm_probe_failed_request_duration_seconds"),
            phases: std::array::from_fn(|_| latency("llm_probe_request_phase_seconds")),
            server_phases: std::array::from_fn(|_| latency("llm_probe_server_phase_seconds")),
        }
    }

    /// One ended request, and the plan under which it was sent.
    pub(super) fn request(&mut self, judged: &Judged, plan: &Series, unix_now: f64) {
        let Judged { record, measured, .. } = judged;
        self.consumed(record, measured, plan.target.price);
        if record.warmup {
            return;
        }
        self.requests += 1;
        self.verdicts(judged);
        match record.outcome {
            Outcome::Invalid(invalid) => {
                self.invalid.add(invalid as usize, 1);
                return;
            }
            Outcome::Failed(failure) => {
                self.failures.add(failure as usize, 1);
                self.times.last_failure = Some(unix_now);
                observe(&mut self.failed_duration, record.elapsed());
            }
            Outcome::Ok => {
                self.times.last_success = Some(unix_now);
                self.success(record, measured);
                if let Some(duration) = measured.duration {
                    self.request_duration
                        .observe_request(duration, record.id, unix_now);
                }
                let expected = record.asked.expects(plan.probe.prompt.cache);
                if let Some(found) = self.found.get_mut(expected as usize) {
                    found.add(record.found() as usize, 1);
                }
            }
        }
        if let Some(waited) = judged.waited_for_first_token() {
            self.ttft.observe_request(waited, record.id, unix_now);
        }
        if let Some(status) = record.status {
            let known = self.responses.len() < MOST_CODES || self.responses.contains_key(&Some(status));
            *self.responses.entry(known.then_some(status)).or_default() += 1;
        }
        if let Some(connection) = record.connection {
            self.connections.add(connection as usize, 1);
        }
    }

    /// What a request used that is counted elsewhere.
    pub(super) fn spent(&mut self, judged: &Judged, plan: &Series) {
        self.consumed(&judged.record, &judged.measured, plan.target.price);
    }

    fn success(&mut self, record: &Record, measured: &Measurement) {
        for (histogram, value) in [
            (&mut self.ttft_after_connect, measured.ttft_after_connect),
            (&mut self.ttfo, measured.ttfo),
            (&mut self.ttst, measured.ttst),
            (&mut self.itl, measured.itl),
            (&mut self.longest_gap, measured.longest_gap),
        ] {
            observe(histogram, value);
        }
        for &gap in &record.timeline.gaps {
            self.gaps.observe(gap.into());
        }
        for (histogram, (_, value)) in self.phases.iter_mut().zip(measured.phases.each()) {
            observe(histogram, value);
        }
        let reported = record.server_phases;
        let reported = [reported.load, reported.prompt, reported.decode];
        for (histogram, value) in self.server_phases.iter_mut().zip(reported) {
            observe(histogram, value);
        }
    }

    fn verdicts(&mut self, judged: &Judged) {
        if self.is_search() {
            return;
        }
        let mut unjudged = [false; Why::ALL.len()];
        for (objective, verdict) in judged.verdicts.each() {
            match verdict {
                Verdict::Met => {
                    self.judged.add(objective as usize, 1);
                    self.good.add(objective as usize, 1);
                }
                Verdict::Missed => self.judged.add(objective as usize, 1),
                Verdict::NotJudged(why) => {
                    if let Some(unjudged) = unjudged.get_mut(why as usize) {
                        *unjudged = true;
                    }
                }
            }
        }
        for (why, unjudged) in unjudged.into_iter().enumerate() {
            self.unjudged.add(why, u64::from(unjudged));
        }
    }

    /// What is billed: all that the server generated, hidden reasoning included; without usage, the deltas.
    fn consumed(&mut self, record: &Record, measured: &Measurement, price: Option<Price>) {
        let Usage {
            prompt,
            cached_prompt,
            output,
            reasoning,
        } = record.usage;
        let output_or_deltas = output.unwrap_or(measured.output_tokens);
        let sum = &mut self.consumption;
        for (sum, tokens) in [
            (&mut sum.prompt, prompt),
            (&mut sum.cached_prompt, cached_prompt),
            (&mut sum.output, Some(output_or_deltas)),
            (&mut sum.reasoning, reasoning),
        ] {
            sum.0 = sum.0.saturating_add(tokens.unwrap_or_default().0);
        }
        if let Some(price) = price {
            sum.dollars += price.of(prompt.unwrap_or_default().0 as f64, output_or_deltas.0 as f64);
        }
        if output.is_some() || record.timeline.deltas > 0 {
            self.token_sources.add(measured.token_source as usize, 1);
        }
    }

    pub(super) fn burst_begun(&mut self, unix_now: f64) {
        self.bursts += 1;
        self.times.last_start = Some(unix_now);
        self.ttft.burst_begun();
        self.request_duration.burst_begun();
    }

    /// A burst counts for the objective when any of its requests was judged.
    pub(super) fn burst_ended(&mut self, summary: &Arc<Summary>, now: Instant) {
        if let Some(met) = summary.objective_met {
            self.judged_bursts += 1;
            self.good_bursts += u64::from(met);
        }
        if let Some(diagnosis) = &summary.diagnosis {
            self.baseline = (diagnosis.baseline, diagnosis.baseline_bursts);
        }
        self.last_burst = Some((now, Arc::clone(summary)));
    }

    /// Bursts were due and not fired. Where the endpoint is to blame, every configured objective counts their
    /// requests as judged and missed, and the bursts as bad ones, unless `slo.withheld` says to ignore it.
    pub(super) fn skipped(&mut self, skip: Skip, bursts: u32, plan: &Series) {
        self.skipped.add(skip as usize, bursts.into());
        let slo = &plan.step.slo;
        if slo.judges(skip) && !self.is_search() {
            self.withheld_requests(slo, plan.planned_requests() * u64::from(bursts));
            self.judged_bursts += u64::from(bursts);
        }
    }

    /// Whether its bursts search for the capacity. That there are loads at which it misses its objective is what they
    /// look for: it counts for no objective.
    fn is_search(&self) -> bool {
        self.plan.probe.capacity.is_some()
    }

    /// A search for the capacity ended.
    pub(super) fn searched(&mut self, capacity: &Arc<Capacity>, now: Instant) {
        if capacity.is_known() {
            self.last_search = Some((now, Arc::clone(capacity)));
        }
    }

    /// Requests that were never sent: judged and missed.
    pub(super) fn withheld_requests(&mut self, slo: &Slo, requests: u64) {
        if self.is_search() {
            return;
        }
        for objective in configured(slo) {
            self.judged.add(objective as usize, requests);
        }
    }

    pub(super) fn requests_skipped(&mut self, skip: Skip, requests: u64) {
        self.requests_skipped.add(skip as usize, requests);
    }

    /// A plan comes into force; its schedule will tell the interval.
    pub(super) fn follow(&mut self, plan: Series) {
        self.interval = plan.probe.every;
        self.plan = plan;
    }

    pub(super) fn next_due(&mut self, unix: Option<f64>, interval: Duration) {
        self.times.next_due = unix;
        self.interval = interval;
    }

    /// The first success is taken to have been when bursts became due, so that "no success for an hour" can
    /// be said of an endpoint that never answered.
    pub(super) fn armed(&mut self, unix: f64) {
        self.times.armed = Some(unix);
        self.times.last_success.get_or_insert(unix);
    }

    /// The interval, as far as budgets stretch it.
    pub(super) fn interval_in_force(&self) -> Duration {
        let seconds = self.interval.as_secs_f64() * self.stretch;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// The last burst, while it still says something of now.
    pub(super) fn fresh_burst(&self, now: Instant) -> Option<Arc<Summary>> {
        self.fresh(self.last_burst.as_ref(), now)
    }

    /// The last search for the capacity, while it does.
    pub(super) fn fresh_search(&self, now: Instant) -> Option<Arc<Capacity>> {
        self.fresh(self.last_search.as_ref(), now)
    }

    fn fresh<T>(&self, last: Option<&(Instant, Arc<T>)>, now: Instant) -> Option<Arc<T>> {
        let (ended, last) = last?;
        let fresh_for = self.interval_in_force().saturating_mul(FRESH_INTERVALS);
        (now.saturating_duration_since(*ended) <= fresh_for).then(|| Arc::clone(last))
    }
}

/// How late the bursts and requests of a probe were.
#[derive(Clone, Debug)]
pub(super) struct Lags {
    /// Since when they count, in seconds since the Unix epoch.
    pub(super) since: f64,
    pub(super) schedule: Latency,
    pub(super) send: Latency,
}

impl Lags {
    pub(super) fn new(layouts: &Layouts) -> Self {
        Self {
            since: unix_now(),
            schedule: layouts.latency("llm_probe_schedule_lag_seconds"),
            send: layouts.latency("llm_probe_send_lag_seconds"),
        }
    }
}

/// The objectives that are judged.
pub(super) fn configured(slo: &Slo) -> impl Iterator<Item = Objective> + '_ {
    Objective::ALL
        .into_iter()
        .filter(|objective| objective.is_configured(slo))
}

fn observe(histogram: &mut Latency, value: Option<Seconds>) {
    if let Some(value) = value {
        histogram.observe(value);
    }
}
