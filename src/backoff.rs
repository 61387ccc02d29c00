//! When an endpoint that sheds load is left alone: a circuit per target, and the watch over a running burst.
//! No clock: instants are passed in.
//!
//! 429, 503 and 529 shed load. The circuit opens when the share of them among the requests of a burst that
//! ended last reaches `protect.abort_over`, or as soon as one of them says when to come back. It is open for what the
//! endpoint asks, at least for a base that doubles with every trial that fails. Then the next due burst begins with one
//! trial request: its success closes the circuit, its failure opens it again. Nothing is sent but for a burst that is due.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
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

/// How many of the requests that ended last say whether to go on, where [`Protect::after`] is not more: in a long burst,
/// shedding that begins late shows as soon as one that begins at once.
const RECENT: u32 = 20;

/// When a burst is cut short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protect {
    /// The share of the requests that ended last that failed: above 0.
    pub abort_over: Ratio,
    /// Fewer ended requests say nothing; at least 1. So many of them that were told when to come back are enough,
    /// whatever their share.
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

/// An open circuit, as it is kept over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// In seconds since the Unix epoch.
    pub until: f64,
    pub failed_trials: u32,
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

    /// What is to be kept over restarts, where `unix` is now, in seconds since the Unix epoch; `None`: it is closed.
    pub fn kept(&self, now: Instant, unix: f64) -> Option<Kept> {
        let open_for = self.open_for(now)?;
        Some(Kept {
            until: unix + open_for.as_secs_f64(),
            failed_trials: self.failed_trials,
        })
    }

    /// The circuit as it was kept before a restart, where `unix` is now: a burst that is due once the time is over begins
    /// with a trial. A clock that was put back makes it no longer than an endpoint may ask for.
    pub fn restored(kept: Kept, now: Instant, unix: f64) -> Self {
        let rest = (kept.until - unix).clamp(0.0, LONGEST_ASKED.as_secs_f64());
        // Not a number is nothing.
        let rest = Duration::try_from_secs_f64(rest).unwrap_or_default();
        Self {
            state: State::Open { until: now + rest },
            failed_trials: kept.failed_trials,
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
    /// Those that ended last, at most [`RECENT`] or [`Protect::after`].
    recent: VecDeque<Ended>,
    /// Whether those that ended last were shed at any time.
    has_shed: bool,
    asked: Option<Duration>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    failed: bool,
    shed: bool,
    /// It was told when to come back.
    told: bool,
}

impl Watch {
    pub fn new(protect: Option<Protect>) -> Self {
        Self {
            protect,
            recent: VecDeque::new(),
            has_shed: false,
            asked: None,
        }
    }

    /// A request ended. Warm-up requests are to be told of, too.
    pub fn ended(&mut self, outcome: Outcome, retry_after: Option<Duration>) {
        // Our own doing.
        if matches!(outcome, Outcome::Invalid(_)) {
            return;
        }
        let shed = is_shed(outcome);
        let most = RECENT.max(self.limits().after);
        while self.recent.len() >= most as usize {
            self.recent.pop_front();
        }
        self.recent.push_back(Ended {
            failed: outcome != Outcome::Ok,
            shed,
            told: shed && retry_after.is_some(),
        });
        if shed {
            self.asked = self.asked.max(retry_after);
            self.has_shed |= self.reached(|ended| ended.shed);
        }
    }

    /// Whether to cut the burst short. Where all was sent already, cancelling the rest relieves only an endpoint
    /// that sheds.
    pub fn is_to_stop(&self, all_sent: bool) -> bool {
        if self.protect.is_none() {
            return false;
        }
        let is_told = self.count(|ended| ended.told) >= self.limits().after as usize;
        self.reached(|ended| ended.shed) || (!all_sent && (is_told || self.reached(|ended| ended.failed)))
    }

    /// Whether the endpoint sheds load: also where too few ended to cut a burst short.
    pub fn shedding(&self) -> Option<Shed> {
        let many =
            self.count(|ended| ended.shed) > 0 && self.share(|ended| ended.shed) >= self.limits().abort_over;
        (self.has_shed || many || self.asked.is_some()).then_some(Shed { asked: self.asked })
    }

    /// Whether the share of those that ended last is as large as may be.
    fn reached(&self, of: fn(&Ended) -> bool) -> bool {
        let Protect { abort_over, after } = self.limits();
        self.recent.len() >= after as usize && self.share(of) >= abort_over
    }

    fn share(&self, of: fn(&Ended) -> bool) -> Ratio {
        let share = Ratio::of(self.count(of) as u64, self.recent.len() as u64);
        share.unwrap_or_else(|| Ratio::of(0, 1).expect("a share of one"))
    }

    fn count(&self, of: fn(&Ended) -> bool) -> usize {
        self.recent.iter().filter(|ended| of(ended)).count()
    }

    /// What a burst that is not cut short is judged by, too, once it ended.
    fn limits(&self) -> Protect {
        self.protect.unwrap_or_default()
    }
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
    fn a_restart_does_not_end_what_the_endpoint_asked_for() {
        let (now, unix) = (Instant::now(), 2e9);
        let mut circuit = Circuit::default();
        assert_eq!(circuit.kept(now, unix), None);
        circuit.shed(None, now);
        assert_eq!(circuit.admit(now + SECOND * 10), Admission::Trial);
        circuit.trial_ended(Some(false), Some(SECOND * 600), now);
        let kept = circuit.kept(now, unix).unwrap();
        let mut again = Circuit::restored(kept, now, unix + 590.0);
        assert_eq!(again.admit(now + SECOND * 9), Admission::Withhold);
        assert_eq!(again.admit(now + SECOND * 10), Admission::Trial);
        again.trial_ended(Some(false), None, now);
        assert_eq!(again.open_for(now), Some(SECOND * 40), "the third in a row");
        for (until, rest) in [(unix - 1e6, 0), (unix + 1e9, 3600), (f64::NAN, 0)] {
            let odd = Kept { until, ..kept };
            let open = Circuit::restored(odd, now, unix).open_for(now);
            assert_eq!(open, Some(SECOND * rest), "{until}");
        }
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
    fn shedding_that_begins_late_shows_as_soon() {
        let ok = |watch: &mut Watch, times| (0..times).for_each(|_| watch.ended(Outcome::Ok, None));
        let mut watch = Watch::new(Some(Protect::default()));
        ok(&mut watch, 500);
        let refused = (1..=500).find(|_| {
            watch.ended(SHED, None);
            watch.is_to_stop(false)
        });
        assert_eq!(refused, Some(10), "half of the last twenty");
        ok(&mut watch, 500);
        assert!(watch.shedding().is_some(), "it did, whatever came then");

        // One in five is told to come back later.
        let mut watch = Watch::new(Some(Protect::default()));
        let told = (1..=100).find(|_| {
            ok(&mut watch, 4);
            watch.ended(SHED, Some(SECOND * 60));
            watch.is_to_stop(false)
        });
        assert_eq!(told, Some(4));
        assert!(!watch.is_to_stop(true), "what was sent already does no more harm");
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
