//! How far what was measured is from what a server did that knows the truth about itself.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;

use crate::{
    outcome::Outcome,
    quantile::median,
    sim::journal,
    summary::{Judged, Stats},
    units::Seconds,
};

/// Users who start at once.
pub const USERS: [u32; 5] = [1, 50, 200, 500, 1000];

/// What is asked of a simulated server that waits for [`FAULTS`] before it answers, of as many users as [`USERS`] has
/// one after the other, each request on a connection of its own. `ADDRESS` stands for the server's.
pub const CONFIG: &str = "
global: { max_in_flight: 1000 }
targets: [{ name: simulated, url: 'http://ADDRESS/v1', api: openai_chat, model: simulated }]
probes:
  - name: calibration
    ladder: [{ users: 1, requests: 10 }, { users: 50 }, { users: 200 }, { users: 500 }, { users: 1000 }]
    settle: 200ms
    warmup: 1
    protect: off
    max_tokens: 4
    prompt: { text: Count to four }
    timeouts: { total: 30s }
";

/// The first token comes 200 ms after the request, whatever the load.
pub const FAULTS: [&str; 1] = ["delay=200ms"];

/// A p99 of the error up to which a load is trusted, in seconds: a hundredth of a limit of 500 ms.
pub const TRUSTED: f64 = 0.005;

/// What a server really did for a request, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// From the last byte of the request to the first token.
    pub ttft: f64,
    /// Of one token after another; `None` with less than two.
    pub itl: Option<f64>,
    /// Between writes that carried tokens.
    pub gaps: Vec<f64>,
}

impl Truth {
    /// `None` of a request without a token.
    pub fn of(record: &journal::Record) -> Option<Self> {
        let seconds = |from: u64, to: u64| Some(to.checked_sub(from)? as f64 / 1e9);
        let tokens = &record.tokens_ns;
        let (&first, &last) = (tokens.first()?, tokens.last()?);
        let after = tokens.iter().zip(tokens.iter().skip(1));
        Some(Self {
            ttft: seconds(record.received_ns, first)?,
            itl: seconds(first, last)
                .filter(|_| tokens.len() > 1)
                .map(|all| all / (tokens.len() - 1) as f64),
            gaps: after
                .filter(|(from, to)| from < to)
                .filter_map(|(from, to)| seconds(*from, *to))
                .collect(),
        })
    }
}

/// The error of times to first token at one load, over all its bursts.
#[derive(Clone, Debug, Serialize)]
pub struct Accuracy {
    pub users: u32,
    /// Measured time to first token less the true one, in seconds; `None` where no request succeeded.
    pub error: Option<Stats>,
    /// From the first request's start to the last one's, of the median burst.
    pub start_spread: Option<Seconds>,
    /// Requests that did not succeed, or of which the server knows nothing.
    pub lost: usize,
}

impl Accuracy {
    /// Of the requests of some bursts, their start spreads, and what the server remembers.
    pub fn of(
        users: u32,
        requests: &[Judged],
        spreads: Vec<Seconds>,
        truth: &[Arc<journal::Record>],
    ) -> Self {
        let known: HashMap<_, _> = truth
            .iter()
            .filter_map(|record| Some((record.client_id.as_deref()?, record)))
            .collect();
        let error = |judged: &Judged| {
            let id = judged
                .record
                .id
                .filter(|_| judged.record.outcome == Outcome::Ok)?;
            let truth = Truth::of(known.get(id.to_string().as_str())?)?;
            let measured = judged.measured.ttft?.get();
            // The server stamps before it writes: what it says is never later.
            Some((measured - truth.ttft).max(0.0))
        };
        let errors: Vec<_> = requests.iter().filter_map(error).collect();
        Self {
            users,
            lost: requests.len() - errors.len(),
            error: Stats::of(errors),
            start_spread: median(spreads.into_iter().map(Seconds::get).collect()).map(Seconds::new),
        }
    }

    pub fn is_trusted(&self) -> bool {
        self.lost == 0 && self.error.is_some_and(|error| error.p99.get() <= TRUSTED)
    }
}

/// The most users up to which every load is trusted.
pub fn trusted(rows: &[Accuracy]) -> Option<u32> {
    let trusted = rows.iter().take_while(|row| row.is_trusted());
    trusted.last().map(|row| row.users)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        config, identity::RequestId, measure::Measurement, outcome::Failure, record::Record, slo::ErrorBounds,
    };

    /// A request whose first token came after so many milliseconds, and what the server says of it.
    fn request(id: u128, ttft: u64, truth: u64) -> (Judged, Arc<journal::Record>) {
        let start = Instant::now();
        let mut record = Record::new(0, false, start);
        record.id = Some(RequestId::new(id));
        record.outcome = Outcome::Ok;
        record.timeline.start = Some(start);
        record.timeline.output(start + Duration::from_millis(ttft), true);
        let remembered = serde_json::json!({
            "seq": id, "id": id, "client_id": RequestId::new(id), "api": "openai_chat", "http2": false, "faults": [],
            "status": 200, "end": "completed", "prompt_tokens": 1, "cached_tokens": 0, "output_tokens": 1,
            "reasoning_tokens": 0, "stream": true, "received_ns": 1000, "tokens_ns": [1000 + truth * 1_000_000],
            "ended_ns": 0
        });
        let plan = config::parse(&CONFIG.replace("ADDRESS", "h"), "calibration", ".".as_ref()).unwrap();
        let slo = plan.series().next().unwrap().step.slo.clone();
        let measured = Measurement::of(&record);
        (
            Judged::new(record, measured, ErrorBounds::default(), &slo),
            Arc::new(serde_json::from_value(remembered).unwrap()),
        )
    }

    #[test]
    fn the_error_is_what_was_measured_less_what_was_true() {
        let (requests, truth): (Vec<_>, Vec<_>) = [(1, 203, 200), (2, 201, 200), (3, 210, 208)]
            .map(|(id, ttft, truth)| request(id, ttft, truth))
            .into_iter()
            .unzip();
        let row = Accuracy::of(3, &requests, vec![Seconds::new(0.5), Seconds::new(0.1)], &truth);
        let error = row.error.unwrap();
        let all = [error.min, error.p50, error.max].map(|error| (error.get() * 1000.0).round());
        assert_eq!((all, error.count, row.lost), ([1.0, 2.0, 3.0], 3, 0));
        assert!(row.is_trusted());
        let spread = row.start_spread.unwrap().get() * 1000.0;
        assert!((spread - 300.0).abs() < 0.001, "{spread} ms");
    }

    #[test]
    fn what_is_lost_or_wrong_is_not_trusted_and_nor_is_what_stands_above_it() {
        let (mut failed, known) = request(1, 200, 200);
        let (good, unknown) = request(2, 200, 200);
        failed.record.outcome = Outcome::Failed(Failure::ConnectionLost);
        let row = Accuracy::of(1, &[failed, good.clone()], Vec::new(), &[known]);
        assert_eq!(
            (row.lost, row.error.is_none(), row.is_trusted()),
            (2, true, false)
        );

        let (late, truth) = request(3, 206, 200);
        let good = |users| {
            Accuracy::of(
                users,
                std::slice::from_ref(&good),
                Vec::new(),
                &[Arc::clone(&unknown)],
            )
        };
        let late = Accuracy::of(200, &[late], Vec::new(), &[truth]);
        assert!(!late.is_trusted());
        assert_eq!(trusted(&[good(1), good(50), late.clone(), good(500)]), Some(50));
        assert_eq!(trusted(&[late]), None);
    }

    #[test]
    fn the_truth_is_that_of_the_writes() {
        let (_, record) = request(1, 200, 200);
        let mut record = journal::Record::clone(&record);
        // Two tokens went in one write.
        record.tokens_ns = [200, 210, 210, 230].map(|ms| 1000 + ms * 1_000_000).to_vec();
        let truth = Truth::of(&record).unwrap();
        assert_eq!(truth.gaps, [0.01, 0.02]);
        assert_eq!((truth.ttft, truth.itl), (0.2, Some(0.01)));
        record.tokens_ns.truncate(1);
        assert_eq!(Truth::of(&record).unwrap().itl, None);
        record.tokens_ns.clear();
        assert_eq!(Truth::of(&record), None);
    }

    #[test]
    fn the_ladder_has_all_users() {
        let plan = config::parse(&CONFIG.replace("ADDRESS", "h"), "calibration", ".".as_ref()).unwrap();
        let users: Vec<_> = plan.series().map(|series| series.step.load.users()).collect();
        assert_eq!(users, USERS);
    }
}
