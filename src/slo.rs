//! Objectives, measurement and outcome → a verdict per objective and for all of them together (goodput).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    config::plan::{Slo, TtftFrom},
    measure::Measurement,
    outcome::Outcome,
    units::Seconds,
};

/// What is judged; the values of the label `slo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Objective {
    Ttft,
    Ttfo,
    Itl,
    Gap,
    Request,
    /// The request succeeded.
    Success,
    /// It succeeded and met every limit that was judged.
    Goodput,
}

impl Objective {
    pub const ALL: [Self; 7] = [
        Self::Ttft,
        Self::Ttfo,
        Self::Itl,
        Self::Gap,
        Self::Request,
        Self::Success,
        Self::Goodput,
    ];

    /// The value of the label `slo`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::Ttfo => "ttfo",
            Self::Itl => "itl",
            Self::Gap => "gap",
            Self::Request => "request",
            Self::Success => "success",
            Self::Goodput => "goodput",
        }
    }

    /// The limit that `slo` sets; `None` for success and goodput, and where none is set.
    pub const fn limit(self, slo: &Slo) -> Option<Duration> {
        match self {
            Self::Ttft => slo.ttft,
            Self::Ttfo => slo.ttfo,
            Self::Itl => slo.itl,
            Self::Gap => slo.gap,
            Self::Request => slo.request,
            Self::Success | Self::Goodput => None,
        }
    }

    /// Whether `slo` judges this.
    pub const fn is_configured(self, slo: &Slo) -> bool {
        matches!(self, Self::Success | Self::Goodput) || self.limit(slo).is_some()
    }
}

/// What is said of one request and one objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    NotJudged(Why),
}

impl Verdict {
    /// `met`, `missed`, or why it is not judged.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::NotJudged(why) => why.as_str(),
        }
    }
}

/// Why nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The request succeeded, but the measurement does not apply to it.
    Undefined,
    /// Our own lag could have turned met into missed.
    Lag,
    /// The request was invalid.
    Invalid,
    /// It failed for a reason in `slo.excuse`.
    Excused,
}

impl Why {
    pub const ALL: [Self; 4] = [Self::Undefined, Self::Lag, Self::Invalid, Self::Excused];

    /// The value of the label `why`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Lag => "lag",
            Self::Invalid => "invalid",
            Self::Excused => "excused",
        }
    }
}

/// By how much our own lag may have lengthened each measurement of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBounds {
    pub ttft: Seconds,
    pub ttft_after_connect: Seconds,
    pub ttfo: Seconds,
    pub itl: Seconds,
    pub gap: Seconds,
    pub request: Seconds,
}

/// The verdicts on one request; `None` where an objective is not configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([Option<Verdict>; 7]);

impl Verdicts {
    pub fn get(&self, objective: Objective) -> Option<Verdict> {
        self.0.get(objective as usize).copied().flatten()
    }

    /// The configured objectives and their verdicts.
    pub fn each(&self) -> impl Iterator<Item = (Objective, Verdict)> {
        Objective::ALL
            .into_iter()
            .zip(self.0)
            .filter_map(|(objective, verdict)| Some((objective, verdict?)))
    }
}

/// Judges one request that was not a warm-up.
pub fn judge(slo: &Slo, outcome: Outcome, measured: &Measurement, bounds: &ErrorBounds) -> Verdicts {
    let whole = match outcome {
        Outcome::Ok => Verdict::Met,
        Outcome::Failed(failure) if slo.excuse.contains(&failure) => Verdict::NotJudged(Why::Excused),
        Outcome::Failed(_) => Verdict::Missed,
        Outcome::Invalid(_) => Verdict::NotJudged(Why::Invalid),
    };
    let (ttft, ttft_bound) = match slo.ttft_from {
        TtftFrom::Start => (measured.ttft, bounds.ttft),
        TtftFrom::Connected => (measured.ttft_after_connect, bounds.ttft_after_connect),
    };
    let on = |objective: Objective| {
        let limit = objective.limit(slo)?;
        Some(match (whole, objective) {
            (Verdict::Met, Objective::Ttft) => within(limit, ttft, ttft_bound),
            // A model that only thought and never answered has kept its user waiting.
            (Verdict::Met, Objective::Ttfo) if measured.ttfo.is_none() => Verdict::Missed,
            (Verdict::Met, Objective::Ttfo) => within(limit, measured.ttfo, bounds.ttfo),
            (Verdict::Met, Objective::Itl) => within(limit, measured.itl, bounds.itl),
            (Verdict::Met, Objective::Gap) => within(limit, measured.longest_gap, bounds.gap),
            (Verdict::Met, Objective::Request) => within(limit, measured.duration, bounds.request),
            _ => whole,
        })
    };
    let mut verdicts = Objective::ALL.map(on);
    let goodput = all_of(whole, verdicts.iter().flatten().copied());
    for (objective, verdict) in Objective::ALL.into_iter().zip(&mut verdicts) {
        match objective {
            Objective::Success => *verdict = Some(whole),
            Objective::Goodput => *verdict = Some(goodput),
            _ => {}
        }
    }
    Verdicts(verdicts)
}

/// Met when measured ≤ limit. What our own lag could have pushed over the limit is not judged; anything
/// slower is missed even so, or slow requests would vanish because we were slow too.
fn within(limit: Duration, measured: Option<Seconds>, bound: Seconds) -> Verdict {
    let limit = Seconds::from(limit);
    match measured {
        None => Verdict::NotJudged(Why::Undefined),
        Some(measured) if measured <= limit => Verdict::Met,
        Some(measured) if measured <= limit + bound => Verdict::NotJudged(Why::Lag),
        Some(_) => Verdict::Missed,
    }
}

/// Missed if anything is, else unknown if our lag made anything unknown, else met: what is undefined for a
/// request is not held against it.
fn all_of(success: Verdict, limits: impl Iterator<Item = Verdict>) -> Verdict {
    limits.fold(success, |so_far, verdict| match (so_far, verdict) {
        (Verdict::Missed, _) | (_, Verdict::Missed) => Verdict::Missed,
        (Verdict::Met, Verdict::NotJudged(Why::Lag)) => verdict,
        _ => so_far,
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{
        outcome::{Failure, Invalid},
        record::Record,
    };

    fn measured(ttft: Option<f64>, ttfo: Option<f64>, itl: Option<f64>) -> Measurement {
        let mut measured = Measurement::of(&Record::new(0, false, Instant::now()));
        measured.ttft = ttft.map(Seconds::new);
        measured.ttfo = ttfo.map(Seconds::new);
        measured.itl = itl.map(Seconds::new);
        measured
    }

    fn limits() -> Slo {
        Slo {
            ttft: Some(Duration::from_millis(500)),
            ttfo: Some(Duration::from_secs(1)),
            itl: Some(Duration::from_millis(25)),
            ..Slo::default()
        }
    }

    #[test]
    fn verdicts_follow_the_definitions() {
        use Objective::{Goodput, Itl, Success, Ttfo, Ttft};
        use Verdict::{Met, Missed, NotJudged};
        let all = [
            (Ttft, Met),
            (Ttfo, Met),
            (Itl, Met),
            (Success, Met),
            (Goodput, Met),
        ];
        let but = |changes: &[(Objective, Verdict)]| {
            let mut expected = all;
            for (objective, verdict) in &mut expected {
                if let Some((_, changed)) = changes.iter().find(|(changed, _)| changed == objective) {
                    *verdict = *changed;
                }
            }
            expected
        };
        let every = |verdict| all.map(|(objective, _)| (objective, verdict));
        let good = measured(Some(0.5), Some(1.0), Some(0.025));
        let cases = [
            ("at the limit", Outcome::Ok, good.clone(), 0.0, all),
            (
                "above",
                Outcome::Ok,
                measured(Some(0.51), Some(0.6), Some(0.01)),
                0.0,
                but(&[(Ttft, Missed), (Goodput, Missed)]),
            ),
            (
                "above, but by less than our lag",
                Outcome::Ok,
                measured(Some(0.51), Some(0.6), Some(0.01)),
                0.02,
                but(&[(Ttft, NotJudged(Why::Lag)), (Goodput, NotJudged(Why::Lag))]),
            ),
            (
                "slow beside our lag",
                Outcome::Ok,
                measured(Some(0.9), Some(0.9), Some(0.01)),
                0.02,
                but(&[(Ttft, Missed), (Goodput, Missed)]),
            ),
            (
                "lag on one, missed on another",
                Outcome::Ok,
                measured(Some(0.51), Some(0.6), Some(0.1)),
                0.02,
                but(&[(Ttft, NotJudged(Why::Lag)), (Itl, Missed), (Goodput, Missed)]),
            ),
            (
                "one token: no inter-token latency",
                Outcome::Ok,
                measured(Some(0.4), Some(0.4), None),
                0.0,
                but(&[(Itl, NotJudged(Why::Undefined))]),
            ),
            (
                "thought only",
                Outcome::Ok,
                measured(Some(0.4), None, Some(0.01)),
                0.0,
                but(&[(Ttfo, Missed), (Goodput, Missed)]),
            ),
            (
                "failed",
                Outcome::Failed(Failure::Truncated),
                good.clone(),
                0.0,
                every(Missed),
            ),
            (
                "excused",
                Outcome::Failed(Failure::Unauthorized),
                good.clone(),
                0.0,
                every(NotJudged(Why::Excused)),
            ),
            (
                "invalid",
                Outcome::Invalid(Invalid::Cancelled),
                good,
                0.0,
                every(NotJudged(Why::Invalid)),
            ),
        ];
        for (case, outcome, measured, lag, expected) in cases {
            let lag = Seconds::new(lag);
            let bounds = ErrorBounds {
                ttft: lag,
                ttft_after_connect: lag,
                ttfo: lag,
                itl: lag,
                gap: lag,
                request: lag,
            };
            let verdicts = judge(&limits(), outcome, &measured, &bounds);
            assert_eq!(verdicts.each().collect::<Vec<_>>(), expected, "{case}");
        }
    }

    #[test]
    fn without_limits_success_is_goodput() {
        let verdicts = judge(
            &Slo::default(),
            Outcome::Ok,
            &measured(None, None, None),
            &ErrorBounds::default(),
        );
        let expected = [
            (Objective::Success, Verdict::Met),
            (Objective::Goodput, Verdict::Met),
        ];
        assert_eq!(verdicts.each().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_limit_may_be_on_the_server_alone() {
        let mut slow_network = measured(Some(0.9), Some(0.9), None);
        slow_network.ttft_after_connect = Some(Seconds::new(0.3));
        let slo = Slo {
            ttft_from: TtftFrom::Connected,
            ttfo: None,
            ..limits()
        };
        let verdicts = judge(&slo, Outcome::Ok, &slow_network, &ErrorBounds::default());
        assert_eq!(verdicts.get(Objective::Ttft), Some(Verdict::Met));
    }
}
