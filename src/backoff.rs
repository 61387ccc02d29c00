//! When an endpoint that sheds load is left alone: a circuit per target, and the watch over a running burst.
//! No clock: instants are passed in.
//!
//! 429, 503 and 529 shed load. The circuit opens when the share of them in a burst reaches `protect.abort_over`,
//! or when one of them says when to come back. It is open for what the endpoint asks, at least for a base that
//! doubles with every trial that fails. Then the next due burst begins with one trial request: its success
//! closes the circuit, its failure opens it again. Nothing is sent but for a burst that is due.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    outcome::{Failure, Outcome},
    units::Ratio,
};

/// How long a circuit is open at first, and at most by its own doubling.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(10);

/// What an endpoint asks for is honoured up to this.
const LONGEST_ASKED: Duration = Duration::from_hours(1);

/// When a burst is cut short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protect {
    /// The share of ended requests that failed: above 0.
    pub abort_over: Ratio,
    /// Fewer ended requests say nothing; at least 1.
    pub after: u32,
}

impl Default for Protect {
    fn default() -> Self {
        Self {
            abort_over: Ratio::new(0.5).expect("a half is a share"),
            after: 4,
        }
    }
}

/// Whether the endpoint told us to go away.
pub const fn is_shed(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Failed(Failure::RateLimited | Failure::Overloaded)
    )
}

/// Whether an endpoint that had shed load takes requests again, by the outcome of one; `None`: it says nothing. An
/// answer that is no good, or a refusal of this one request, is no shedding.
pub const fn takes_requests(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Invalid(_) => None,
        Outcome::Ok
        | Outcome::Failed(
            Failure::Redirect
            | Failure::Unauthorized
            | Failure::ClientError
            | Failure::ContentType
            | Failure::Malformed
            | Failure::Empty
            | Failure::UnexpectedOutput,
        ) => Some(true),
        Outcome::Failed(_) => Some(false),
    }
}

/// What a due burst may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Go,
    /// One request first; tell [`Circuit::trial_ended`] of it.
    Trial,
    /// Leave the endpoint alone.
    Withhold,
}

/// The circuit of one target.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    state: State,
    /// Trials that failed since it was last closed.
    failed_trials: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    OnTrial,
}

impl Circuit {
    /// A burst is due.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Go,
            State::Open { until } if now >= until => {
                self.state = State::OnTrial;
                Admission::Trial
            }
            State::Open { .. } | State::OnTrial => Admission::Withhold,
        }
    }

    /// The endpoint sheds load. What was under way when the circuit opened may make it longer, never shorter.
    pub fn shed(&mut self, asked: Option<Duration>, now: Instant) {
        let until = now + self.pause(asked);
        self.state = match self.state {
            State::Open { until: already } => State::Open {
                until: already.max(until),
            },
            // The trial decides, not what is left of an earlier burst.
            State::OnTrial => State::OnTrial,
            State::Closed => State::Open { until },
        };
    }

    /// The trial succeeded or failed; `None`: it was cancelled, and the next due burst tries again.
    pub fn trial_ended(&mut self, succeeded: Option<bool>, asked: Option<Duration>, now: Instant) {
        match succeeded {
            Some(true) => *self = Self::default(),
            Some(false) => {
                self.failed_trials = self.failed_trials.saturating_add(1);
                self.state = State::Open {
                    until: now + self.pause(asked),
                };
            }
            None => self.state = State::Open { until: now },
        }
    }

    /// For a guard that takes the place of this one's: nobody will tell it of a trial that is under way.
    #[must_use]
    pub fn for_successor(&self, now: Instant) -> Self {
        let state = match self.state {
            State::OnTrial => State::Open { until: now },
            state => state,
        };
        Self {
            state,
            ..self.clone()
        }
    }

    /// How much longer it is open; `None`: it is closed.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until } => Some(until.saturating_duration_since(now)),
            State::OnTrial => Some(Duration::ZERO),
        }
    }

    fn pause(&self, asked: Option<Duration>) -> Duration {
        let doubled = 1_u32.checked_shl(self.failed_trials).unwrap_or(u32::MAX);
        let own = FIRST.saturating_mul(doubled).min(LONGEST);
        own.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

/// An endpoint sheds load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// How long it asks not to come back.
    pub asked: Option<Duration>,
}

/// The requests of a running burst, as far as they say whether to go on.
#[derive(Clone, Debug)]
pub struct Watch {
    /// `None`: never cut short.
    protect: Option<Protect>,
    ended: u32,
    failed: u32,
    shed: u32,
    asked: Option<Duration>,
}

impl Watch {
    pub fn new(protect: Option<Protect>) -> Self {
        Self {
            protect,
            ended: 0,
            failed: 0,
            shed: 0,
            asked: None,
        }
    }

    /// A request ended. Warm-up requests are to be told of, too.
    pub fn ended(&mut self, outcome: Outcome, retry_after: Option<Duration>) {
        match outcome {
            // Our own doing.
            Outcome::Invalid(_) => return,
            Outcome::Ok => {}
            Outcome::Failed(_) => self.failed += 1,
        }
        self.ended += 1;
        if is_shed(outcome) {
            self.shed += 1;
            self.asked = self.asked.max(retry_after);
        }
    }

    /// Whether to cut the burst short. Where all was sent already, cancelling the rest relieves only an endpoint
    /// that sheds.
    pub fn is_to_stop(&self, all_sent: bool) -> bool {
        let Some(protect) = self.protect else {
            return false;
        };
        let reached =
            |part: u32| self.ended >= protect.after && share(part, self.ended) >= protect.abort_over;
        reached(self.shed) || (reached(self.failed) && !all_sent)
    }

    /// Whether the endpoint sheds load.
    pub fn shedding(&self) -> Option<Shed> {
        let limit = self.protect.unwrap_or_default().abort_over;
        let many = self.shed > 0 && share(self.shed, self.ended) >= limit;
        (many || self.asked.is_some()).then_some(Shed { asked: self.asked })
    }
}

fn share(part: u32, whole: u32) -> Ratio {
    Ratio::of(part.into(), whole.into()).unwrap_or_else(|| Ratio::of(0, 1).expect("a share of one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Invalid;

    const SECOND: Duration = Duration::from_secs(1);
    const SHED: Outcome = Outcome::Failed(Failure::RateLimited);
    const OVERLOADED: Outcome = Outcome::Failed(Failure::Overloaded);
    const LOST: Outcome = Outcome::Failed(Failure::ConnectionLost);

    #[test]
    fn a_circuit_opens_longer_each_time_a_trial_fails_and_closes_with_a_success() {
        let mut now = Instant::now();
        let mut circuit = Circuit::default();
        assert_eq!(circuit.admit(now), Admission::Go);
        circuit.shed(None, now);
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600, 600] {
            now += SECOND / 1000 * (1000 * seconds - 1);
            assert_eq!(circuit.admit(now), Admission::Withhold, "before {seconds} s");
            now += SECOND / 1000;
            assert_eq!(circuit.admit(now), Admission::Trial, "after {seconds} s");
            // One at a time.
            assert_eq!(circuit.admit(now), Admission::Withhold);
            circuit.trial_ended(Some(false), None, now);
        }
        assert_eq!(circuit.admit(now + SECOND * 600), Admission::Trial);
        circuit.trial_ended(Some(true), None, now);
        assert_eq!(circuit.admit(now), Admission::Go);
        circuit.shed(None, now);
        assert_eq!(circuit.open_for(now), Some(SECOND * 10), "it begins anew");
    }

    #[test]
    fn what_the_endpoint_asks_for_is_honoured_up_to_an_hour_and_never_shortened() {
        let now = Instant::now();
        for (asked, open) in [(None, 10), (Some(3), 10), (Some(90), 90), (Some(86_400), 3600)] {
            let mut circuit = Circuit::default();
            circuit.shed(asked.map(Duration::from_secs), now);
            assert_eq!(circuit.open_for(now), Some(SECOND * open), "{asked:?}");
            circuit.shed(Some(SECOND), now);
            assert_eq!(circuit.open_for(now), Some(SECOND * open), "{asked:?}");
        }
    }

    #[test]
    fn a_trial_that_was_cancelled_is_made_again_and_an_old_burst_does_not_decide_it() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.shed(None, now);
        let later = now + SECOND * 10;
        assert_eq!(circuit.admit(later), Admission::Trial);
        circuit.shed(Some(SECOND * 99), later);
        circuit.trial_ended(None, None, later);
        assert_eq!(circuit.admit(later), Admission::Trial);
        circuit.trial_ended(Some(true), None, later);
        assert_eq!(circuit.open_for(later), None);
    }

    #[test]
    fn a_successor_tries_for_itself() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.shed(None, now);
        let later = now + SECOND * 10;
        assert_eq!(circuit.for_successor(later).open_for(now), Some(SECOND * 10));
        assert_eq!(circuit.admit(later), Admission::Trial);
        assert_eq!(circuit.for_successor(later).admit(later), Admission::Trial);
    }

    #[test]
    fn only_what_may_be_shedding_keeps_an_endpoint_alone() {
        for (outcome, takes) in [
            (Outcome::Ok, Some(true)),
            (Outcome::Failed(Failure::UnexpectedOutput), Some(true)),
            (Outcome::Failed(Failure::Unauthorized), Some(true)),
            (SHED, Some(false)),
            (LOST, Some(false)),
            (Outcome::Failed(Failure::FirstTokenTimeout), Some(false)),
            (Outcome::Invalid(Invalid::Cancelled), None),
        ] {
            assert_eq!(takes_requests(outcome), takes, "{outcome:?}");
        }
    }

    #[test]
    fn a_burst_is_cut_short_by_its_failures() {
        let cases: &[(&[Outcome], bool, bool, bool)] = &[
            (&[], false, false, false),
            (&[SHED, SHED, SHED], false, false, true),
            (&[SHED, SHED, OVERLOADED, SHED], false, true, true),
            (&[SHED, Outcome::Ok, SHED, Outcome::Ok], true, true, true),
            (
                &[SHED, Outcome::Ok, Outcome::Ok, Outcome::Ok],
                false,
                false,
                false,
            ),
            (&[LOST, LOST, LOST, LOST], false, true, false),
            (&[LOST, LOST, LOST, LOST], true, false, false),
            (&[Outcome::Invalid(Invalid::Cancelled); 9], false, false, false),
        ];
        for (outcomes, all_sent, stop, sheds) in cases {
            let mut watch = Watch::new(Some(Protect::default()));
            let mut off = Watch::new(None);
            for outcome in *outcomes {
                watch.ended(*outcome, None);
                off.ended(*outcome, None);
            }
            assert_eq!(watch.is_to_stop(*all_sent), *stop, "{outcomes:?} {all_sent}");
            assert_eq!(watch.shedding().is_some(), *sheds, "{outcomes:?}");
            assert!(!off.is_to_stop(*all_sent));
        }
    }

    #[test]
    fn one_request_that_is_told_when_to_come_back_is_enough() {
        let mut watch = Watch::new(Some(Protect::default()));
        for outcome in [Outcome::Ok; 9] {
            watch.ended(outcome, None);
        }
        watch.ended(LOST, Some(SECOND));
        assert_eq!(watch.shedding(), None, "no shedding, whatever its header says");
        watch.ended(SHED, Some(SECOND * 7));
        watch.ended(SHED, Some(SECOND * 5));
        let asked = Some(SECOND * 7);
        assert_eq!(watch.shedding(), Some(Shed { asked }));
    }
}
