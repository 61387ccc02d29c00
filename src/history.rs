//! What became of the last bursts of a series, for the page and its API: a few numbers of each, and the single requests
//! of the latest ones.
//!
//! It is bounded: [`BURSTS`] bursts are remembered, [`REQUESTS`] requests of those that ended, [`OF_A_BURST`] of each.
//! Of a burst with more, those are kept that a reader looks for: the ones that failed, then those whose first token
//! came last. So a thousand series never take more than some 50 MB, and with few users far less.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use crate::{
    capacity::Capacity,
    diagnose::Cause,
    identity::RequestId,
    outcome::{Failure, Outcome, Skip},
    record::{ConnectionState, Record},
    summary::{Judged, Stats, Summary},
    units::{Ratio, Seconds},
};

/// Bursts that are remembered.
pub const BURSTS: usize = 60;

/// Requests of ended bursts that are remembered; those of the last burst are, whatever it had.
pub const REQUESTS: usize = 80;

/// Requests of one burst that are remembered.
pub const OF_A_BURST: usize = 50;

/// Longer details of failures are cut, in bytes: the log has them whole.
const MAX_DETAIL: usize = 160;

/// The last bursts of a series.
#[derive(Clone, Debug, Default)]
pub struct History {
    bursts: VecDeque<Arc<Past>>,
    running: Traces,
}

/// A burst that ended.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its position among the bursts of its series since the start of the process, from 1.
    pub number: u64,
    /// Wall time, in seconds since the Unix epoch, as the next one.
    pub began: Option<f64>,
    pub ended: f64,
    pub requests: u64,
    pub successes: u64,
    /// The reason for which most requests failed, and how many did.
    pub failed: Option<(Failure, u64)>,
    pub goodput: Option<Ratio>,
    pub objective_met: Option<bool>,
    pub ttft: Option<Percentiles>,
    pub itl: Option<Percentiles>,
    pub cause: Option<Cause>,
    pub cut_short: Option<Skip>,
    /// Why there may be no numbers: it was a whole search for the capacity.
    pub is_search: bool,
    /// In the order of their starts; none of a burst long ago.
    pub traces: Vec<Trace>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    pub p50: Seconds,
    pub p99: Seconds,
}

impl From<Stats> for Percentiles {
    fn from(Stats { p50, p99, .. }: Stats) -> Self {
        Self { p50, p99 }
    }
}

/// One request, small enough to be kept. Times are in seconds, from the start of its burst.
#[derive(Clone, Debug)]
pub struct Trace {
    pub number: u32,
    pub id: Option<RequestId>,
    pub warmup: bool,
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub connection: Option<ConnectionState>,
    /// `None`: it was never sent.
    pub start: Option<f32>,
    /// When it was over, whichever way.
    pub end: Option<f32>,
    /// From when to when each of [`PHASES`] lasted.
    pub phases: [Option<Span>; 6],
    pub ttft: Option<f32>,
    pub itl: Option<f32>,
    pub output_tokens: u64,
    /// What happened, in words.
    pub detail: Option<Arc<str>>,
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub from: f32,
    pub to: f32,
}

/// The phases of a request, in the order of time, under the values of the label `phase`.
pub const PHASES: [&str; 6] = ["dns", "connect", "tls", "headers", "first_token", "decode"];

/// The requests of a burst that is not over.
#[derive(Clone, Debug, Default)]
struct Traces {
    began: Option<f64>,
    /// What the times are counted from: the earliest instant at which one was to start.
    zero: Option<Instant>,
    kept: Vec<(Instant, Trace)>,
}

impl History {
    /// From the oldest to the latest.
    pub fn bursts(&self) -> impl DoubleEndedIterator<Item = &Arc<Past>> + ExactSizeIterator {
        self.bursts.iter()
    }

    /// A burst begins, at this wall time.
    pub fn begun(&mut self, unix: f64) {
        self.running = Traces {
            began: Some(unix),
            ..Traces::default()
        };
    }

    /// One of its requests ended.
    pub fn request(&mut self, judged: &Judged) {
        self.running.add(judged);
    }

    /// The burst is over.
    pub fn ended(&mut self, unix: f64, summary: &Summary) {
        let failed = summary.failures.iter().max_by_key(|(_, count)| **count);
        let past = Past {
            requests: summary.requests,
            successes: summary.successes,
            failed: failed.map(|(&failure, &count)| (failure, count)),
            goodput: summary.goodput,
            objective_met: summary.objective_met,
            ttft: summary.ttft.map(Percentiles::from),
            itl: summary.itl.map(Percentiles::from),
            cause: summary.diagnosis.as_ref().map(|diagnosis| diagnosis.cause),
            cut_short: summary.cut_short,
            ..self.past(unix)
        };
        self.push(past);
    }

    /// It was a search for the capacity, which is over.
    pub fn searched(&mut self, unix: f64, capacity: &Capacity) {
        let past = Past {
            requests: capacity.requests,
            is_search: true,
            ..self.past(unix)
        };
        self.push(past);
    }

    fn past(&mut self, unix: f64) -> Past {
        let running = std::mem::take(&mut self.running);
        Past {
            number: self.bursts.back().map_or(0, |last| last.number) + 1,
            began: running.began,
            ended: unix,
            requests: 0,
            successes: 0,
            failed: None,
            goodput: None,
            objective_met: None,
            ttft: None,
            itl: None,
            cause: None,
            cut_short: None,
            is_search: false,
            traces: running.into_traces(),
        }
    }

    fn push(&mut self, past: Past) {
        if self.bursts.len() == BURSTS {
            self.bursts.pop_front();
        }
        let mut kept = past.traces.len();
        for earlier in self.bursts.iter_mut().rev() {
            if earlier.traces.is_empty() {
                continue;
            }
            kept += earlier.traces.len();
            if kept > REQUESTS {
                Arc::make_mut(earlier).traces = Vec::new();
            }
        }
        self.bursts.push_back(Arc::new(past));
    }
}

impl Traces {
    fn add(&mut self, judged: &Judged) {
        let line = &judged.record.timeline;
        let zero = self.zero.map_or(line.intended, |zero| zero.min(line.intended));
        self.zero = Some(zero);
        let started = line.start.unwrap_or(line.intended);
        let mut trace = Trace::of(judged);
        // Failures of a burst often are the same.
        let same = self.kept.iter().find_map(|(_, other)| {
            let other = other.detail.as_ref()?;
            (Some(other) == trace.detail.as_ref()).then(|| Arc::clone(other))
        });
        trace.detail = same.or(trace.detail);
        if self.kept.len() < OF_A_BURST {
            self.kept.push((started, trace));
            return;
        }
        let least = (self.kept.iter_mut()).min_by(|(_, one), (_, other)| {
            let ((one_failed, one), (other_failed, other)) = (one.interest(), other.interest());
            one_failed.cmp(&other_failed).then(one.total_cmp(&other))
        });
        if let Some(least) = least
            && least.1.interest() < trace.interest()
        {
            *least = (started, trace);
        }
    }

    fn into_traces(mut self) -> Vec<Trace> {
        let Some(zero) = self.zero else {
            return Vec::new();
        };
        self.kept.sort_by_key(|(started, trace)| (*started, trace.number));
        let shifted = |(started, mut trace): (Instant, Trace)| {
            trace.shift(seconds(zero, started));
            trace
        };
        self.kept.into_iter().map(shifted).collect()
    }
}

impl Trace {
    /// Its times are counted from its own start.
    fn of(judged: &Judged) -> Self {
        let Judged { record, measured, .. } = judged;
        let line = &record.timeline;
        let at = |instant: Option<Instant>| Some(seconds(line.start?, instant?));
        let (dns, connect, tls) = (
            line.dns.map(|dns| dns.as_secs_f32()),
            line.connect.map(|connect| connect.as_secs_f32()),
            line.tls.map(|tls| tls.as_secs_f32()),
        );
        // The three follow one another up to the connection.
        let resolved = dns.unwrap_or_default();
        let connected_tcp = resolved + connect.unwrap_or_default();
        let secured = connected_tcp + tls.unwrap_or_default();
        let lasted = |happened: Option<f32>, from, to| happened.map(|_| Span { from, to });
        let between = |happened: Option<Seconds>, from: Option<Instant>, to| {
            happened.and_then(|_| {
                Some(Span {
                    from: at(from)?,
                    to: at(to)?,
                })
            })
        };
        let phases = measured.phases;
        let detail = record.detail.as_deref().map(|detail| {
            let end = detail.floor_char_boundary(MAX_DETAIL);
            detail.get(..end).unwrap_or_default().into()
        });
        Self {
            number: record.number,
            id: record.id,
            warmup: record.warmup,
            outcome: record.outcome,
            status: record.status,
            connection: record.connection,
            start: line.start.map(|_| 0.0),
            end: at(record.ended),
            phases: [
                lasted(dns, 0.0, resolved),
                lasted(connect, resolved, connected_tcp),
                lasted(tls, connected_tcp, secured),
                between(phases.headers, line.connected.or(line.start), line.headers),
                between(phases.first_token, line.headers, line.first),
                between(phases.decode, line.first, line.last),
            ],
            ttft: measured.ttft.map(in_short),
            itl: measured.itl.map(in_short),
            output_tokens: measured.output_tokens.0,
            detail,
        }
    }

    fn shift(&mut self, by: f32) {
        for time in [&mut self.start, &mut self.end].into_iter().flatten() {
            *time += by;
        }
        for span in self.phases.iter_mut().flatten() {
            span.from += by;
            span.to += by;
        }
    }

    /// What is more is kept rather: failures before successes, the slow before the fast.
    fn interest(&self) -> (bool, f32) {
        let waited = self.ttft.or(self.end).unwrap_or_default();
        (self.outcome != Outcome::Ok, waited)
    }
}

fn seconds(from: Instant, to: Instant) -> f32 {
    to.saturating_duration_since(from).as_secs_f32()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "to the microsecond it is exact enough to be looked at"
)]
fn in_short(seconds: Seconds) -> f32 {
    seconds.get() as f32
}

// The detail of a record is longer: it is cut here, not there.
const _: () = assert!(MAX_DETAIL < Record::MAX_DETAIL);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{config::plan::Slo, measure::Measurement, slo::ErrorBounds, summary::Tally};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A request that began `begin` ms after `zero`, whose first token took `ttft` ms; without, it failed then.
    fn judged(number: u32, zero: Instant, begin: u64, ttft: Result<u64, u64>) -> Judged {
        let start = zero + ms(begin);
        let mut record = Record::new(number, false, zero);
        record.id = Some(RequestId::new(number.into()));
        record.timeline.start = Some(start);
        record.timeline.connect = Some(ms(2));
        record.timeline.connected = Some(start + ms(2));
        match ttft {
            Ok(ttft) => {
                record.timeline.headers = Some(start + ms(3));
                record.timeline.output(start + ms(ttft), true);
                record.timeline.output(start + ms(ttft + 10), true);
                record.ended = Some(start + ms(ttft + 11));
                record.outcome = Outcome::Ok;
            }
            Err(after) => {
                record.ended = Some(start + ms(after));
                record.outcome = Outcome::Failed(Failure::ConnectionLost);
                record.detail = Some("x".repeat(1000));
            }
        }
        let measured = Measurement::of(&record);
        Judged::new(record, measured, ErrorBounds::default(), &Slo::default())
    }

    fn burst(history: &mut History, requests: impl IntoIterator<Item = Judged>) {
        let mut tally = Tally::default();
        history.begun(1.0);
        for request in requests {
            history.request(&request);
            tally.add(&request, true);
        }
        history.ended(2.0, &tally.finish(Slo::default().objective));
    }

    fn near(span: Option<Span>, from: f32, to: f32) -> bool {
        span.is_some_and(|span| (span.from - from).abs() < 1e-4 && (span.to - to).abs() < 1e-4)
    }

    #[test]
    fn the_phases_of_a_request_stand_where_they_were_in_the_burst() {
        let (zero, mut history) = (Instant::now(), History::default());
        // They end in another order than they began.
        burst(
            &mut history,
            [judged(1, zero, 5, Ok(20)), judged(0, zero, 0, Ok(100))],
        );
        let last = history.bursts().next_back().unwrap();
        assert_eq!((last.number, last.requests, last.began), (1, 2, Some(1.0)));
        let [first, second] = last.traces.as_slice() else {
            panic!("{last:?}");
        };
        assert_eq!((first.number, second.number), (0, 1));
        let [dns, connect, tls, headers, first_token, decode] = second.phases;
        assert_eq!((dns, tls), (None, None));
        assert!(near(connect, 0.005, 0.007) && near(headers, 0.007, 0.008));
        assert!(near(first_token, 0.008, 0.025) && near(decode, 0.025, 0.035));
        assert!((second.ttft.unwrap() - 0.02).abs() < 1e-4);
    }

    #[test]
    fn of_a_large_burst_the_failed_and_the_slow_are_kept() {
        let (zero, mut history) = (Instant::now(), History::default());
        let many = (0..200).map(|number| {
            let ended = match number % 50 {
                0 => Err(1),
                _ => Ok(u64::from(number) + 1),
            };
            judged(number, zero, 0, ended)
        });
        burst(&mut history, many);
        let last = history.bursts().next_back().unwrap();
        assert_eq!((last.requests, last.traces.len()), (200, OF_A_BURST));
        let (failed, slow): (Vec<_>, Vec<_>) =
            (last.traces.iter()).partition(|trace| trace.outcome != Outcome::Ok);
        assert_eq!(failed.len(), 4);
        // The fastest of 46 successes, of which two stand beside the failures 150 and 100.
        assert!(slow.iter().all(|trace| trace.number >= 153), "{slow:?}");
        assert_eq!(failed.first().unwrap().detail.as_ref().unwrap().len(), MAX_DETAIL);
        let mut details = failed.iter().map(|trace| trace.detail.as_ref().unwrap());
        let one = details.next().unwrap();
        assert!(details.all(|other| Arc::ptr_eq(one, other)));
    }

    #[test]
    fn it_stays_small() {
        let (zero, mut history) = (Instant::now(), History::default());
        for _ in 0..2 * BURSTS {
            burst(&mut history, (0..30).map(|number| judged(number, zero, 0, Ok(9))));
        }
        assert_eq!(history.bursts().len(), BURSTS);
        assert_eq!(history.bursts().next_back().unwrap().number, 2 * BURSTS as u64);
        let kept: Vec<_> = history.bursts().rev().map(|past| past.traces.len()).collect();
        assert_eq!(kept.iter().sum::<usize>(), 60, "{kept:?}");
        assert_eq!(kept.first(), Some(&30));

        // At worst, each request has its own long detail.
        let of_a_request = size_of::<Trace>() + MAX_DETAIL + 2 * size_of::<usize>();
        let of_a_running_one = of_a_request + size_of::<Instant>();
        let at_worst = size_of::<History>()
            + BURSTS * (size_of::<Past>() + 3 * size_of::<usize>())
            + REQUESTS * of_a_request
            + OF_A_BURST * of_a_running_one;
        assert!(at_worst < 60_000, "{at_worst} bytes a series");
    }
}
