//! Why a burst was slow: from its requests, from the lowest step of the same round, and from what is usual. No clock
//! and no I/O.
//!
//! What a burst is compared with ([`Reference`]) is the lowest step of its round; for that step itself, the series'
//! [baseline](crate::baseline); where there is none, but requests visibly queued, the request that was served first,
//! unless replicas are unequal. Times are medians. A time is inflated when it is half as long again as the reference's,
//! and so much longer that it cost a request at least 10 ms. Where something is inflated, the seconds that a request lost
//! are split:
//!
//! - network: what connecting (DNS, TCP, TLS) took longer, and once more what TCP did, as the request makes that round
//!   trip, too; but no more than the time to first token took longer;
//! - queue: the rest of what the time to first token took longer;
//! - decode: what the inter-token latency rose by, times the tokens of an answer.
//!
//! Where they lost most is the [`Cause`], and its share of the sum the confidence. Two causes come first: errors,
//! where a fifth of the requests failed (their share is the confidence; requests that waited for the first token in
//! vain are slow and not failed), and network where tokens arrive in clumps of at least four and twice those of the
//! reference, the time to first token is inflated and the inter-token latency fell: something on the way holds them
//! back. Nothing inflated is
//! the cause none, more confident the closer everything is to the reference. Without a reference nothing is known:
//! none, with confidence 0.

mod missed;
mod observed;
mod replicas;
mod sentence;
mod staircase;

use serde::{Serialize, Serializer};

use self::staircase::Slots;
pub use self::{
    missed::{Miss, cause_of},
    observed::{Evidence, Fate, Observed, Sample},
    replicas::Spread,
    staircase::Staircase,
};
use crate::{
    baseline::{Baseline, Medians},
    load::Load,
    units::{Ratio, Seconds},
};

/// From this ratio to the reference on, a time is inflated.
const INFLATED: f64 = 1.5;

/// Less than this, in seconds, is nothing that a user loses.
const NOTICED: f64 = 0.010;

/// From this share of failed requests on, failures are the matter.
const ERRORS: f64 = 0.2;

/// From so many tokens an arrival on, they come in clumps.
const CLUMP: f64 = 4.0;

/// To this ratio to the reference or less, a latency fell.
const FELL: f64 = 0.95;

/// What makes a burst slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    None,
    /// The first token is late, its successors are not.
    Queue,
    /// Tokens follow one another slowly.
    Decode,
    /// The way there is long, or holds back what comes.
    Network,
    /// Requests fail.
    Errors,
}

impl Cause {
    pub const ALL: &'static [Self] = &[Self::None, Self::Queue, Self::Decode, Self::Network, Self::Errors];

    /// The value of the label `cause`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Network => "network",
            Self::Errors => "errors",
        }
    }
}

/// What a burst was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The lowest step of the same round, and its load.
    LowestStep(Load),
    Baseline,
    /// The request of this burst that was served first: for the time to first token alone.
    ServedFirst,
}

/// `baseline`, `served_first`, or the load of the lowest step.
impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::LowestStep(load) => serializer.collect_str(load),
            Self::Baseline => serializer.serialize_str("baseline"),
            Self::ServedFirst => serializer.serialize_str("served_first"),
        }
    }
}

/// Why a burst was slow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    pub cause: Cause,
    /// Between 0 and 1.
    pub confidence: f64,
    /// The same in words, and what else is to be said.
    pub sentence: String,
    pub compared_with: Option<Reference>,
    /// Median over the lowest step's median; 1 for that step itself.
    pub load_inflation: Inflation,
    /// What is usual for the series, once enough good bursts were seen.
    pub baseline: Medians,
    /// Good bursts that the baseline was learned from.
    pub baseline_bursts: u64,
    /// How many requests the server works on at once; `None` where none queued for a slot.
    pub slots: Option<Staircase>,
    /// Where none queued: so many at least.
    pub slots_at_least: Option<u32>,
    /// Output tokens for each read that carried any, median.
    pub tokens_per_arrival: Option<f64>,
    /// Whether tokens arrive in clumps.
    pub coalesced: bool,
    /// Whether that is the cause: something on the way holds them back, which it did not before.
    pub held_back: bool,
    pub replicas: Option<Spread>,
}

/// How many times longer something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Inflation {
    pub ttft: Option<f64>,
    pub itl: Option<f64>,
}

/// The step with which a round began.
#[derive(Clone, Debug, PartialEq)]
pub struct Lowest {
    pub load: Load,
    pub observed: Observed,
}

/// Diagnoses a burst of `load`. `lowest`: the lowest step of the same round, unless it is this one or told nothing.
/// `is_lowest`: it is this one.
pub fn diagnose(
    load: Load,
    burst: &Observed,
    lowest: Option<&Lowest>,
    is_lowest: bool,
    baseline: &Baseline,
) -> Diagnosis {
    let usual = baseline.usual();
    let (compared_with, reference) = reference(burst, lowest, usual);
    let inflation = Inflation::of(&burst.medians, &reference);
    let coalesced = burst
        .medians
        .tokens_per_arrival
        .is_some_and(|tokens| tokens >= CLUMP);
    let Found {
        cause,
        confidence,
        held_back,
    } = cause(burst, &reference, inflation, coalesced, compared_with.is_some());
    let (slots, slots_at_least) = match burst.slots {
        Slots::Known(staircase) => (Some(staircase), None),
        Slots::AtLeast(users) => (None, Some(users)),
        Slots::Unknown => (None, None),
    };
    let mut diagnosis = Diagnosis {
        cause,
        confidence,
        sentence: String::new(),
        compared_with,
        load_inflation: match lowest {
            Some(lowest) => Inflation::of(&burst.medians, &lowest.observed.medians),
            None if is_lowest => Inflation::of(&burst.medians, &burst.medians),
            None => Inflation::default(),
        },
        baseline: usual,
        baseline_bursts: baseline.bursts(),
        slots,
        slots_at_least,
        tokens_per_arrival: burst.medians.tokens_per_arrival,
        coalesced,
        held_back,
        replicas: burst.spread,
    };
    diagnosis.sentence = sentence::of(load, burst, inflation, &diagnosis);
    diagnosis
}

fn reference(burst: &Observed, lowest: Option<&Lowest>, usual: Medians) -> (Option<Reference>, Medians) {
    if let Some(lowest) = lowest {
        return (Some(Reference::LowestStep(lowest.load)), lowest.observed.medians);
    }
    let served_first = Medians {
        ttft: burst.fastest,
        ..Medians::default()
    };
    // Of unequal replicas the fast one served it, and it tells nothing of a queue.
    let are_unequal = burst.spread.is_some_and(|spread| spread.unequal);
    match burst.slots {
        // That it always queues here makes it no less a queue.
        Slots::Known(_) if !are_unequal && Inflation::of(&burst.medians, &usual).is_none_or_usual() => {
            (Some(Reference::ServedFirst), served_first)
        }
        _ if usual.ttft.is_some() => (Some(Reference::Baseline), usual),
        _ => (None, Medians::default()),
    }
}

impl Inflation {
    fn of(medians: &Medians, reference: &Medians) -> Self {
        let ratio = |this: Option<Seconds>, that: Option<Seconds>| {
            let that = that.map(Seconds::get).filter(|that| *that > 0.0)?;
            Some(this?.get() / that)
        };
        Self {
            ttft: ratio(medians.ttft, reference.ttft),
            itl: ratio(medians.itl, reference.itl),
        }
    }

    fn is_none_or_usual(self) -> bool {
        let is_usual = |ratio: Option<f64>| ratio.is_none_or(|ratio| ratio < INFLATED);
        is_usual(self.ttft) && is_usual(self.itl)
    }
}

/// What a comparison shows.
struct Found {
    cause: Cause,
    confidence: f64,
    held_back: bool,
}

impl Found {
    fn new(cause: Cause, confidence: f64) -> Self {
        Self {
            cause,
            confidence,
            held_back: false,
        }
    }
}

/// By how many seconds something takes longer: what got shorter cost nothing, as seconds are never negative.
fn longer(this: Option<Seconds>, that: Option<Seconds>) -> f64 {
    this.zip(that).map_or(0.0, |(this, that)| (this - that).get())
}

/// What of the seconds by which the first token is late was lost on the way: in connecting, and in the round trip of
/// the request, which is that of TCP. A name is resolved but once.
fn on_the_way(
    late: f64,
    connecting: Option<Seconds>,
    round_trip: Option<Seconds>,
    reference: &Medians,
) -> f64 {
    let way = longer(connecting, reference.connecting) + longer(round_trip, reference.round_trip);
    way.min(late)
}

/// The cause and how sure it is.
fn cause(
    burst: &Observed,
    reference: &Medians,
    inflation: Inflation,
    coalesced: bool,
    is_compared: bool,
) -> Found {
    let failed = burst.failed.map_or(0.0, Ratio::get);
    if failed >= ERRORS {
        return Found::new(Cause::Errors, failed);
    }
    if !is_compared {
        return Found::new(Cause::None, 0.0);
    }
    let first = longer(burst.medians.ttft, reference.ttft);
    let decode = longer(burst.medians.itl, reference.itl) * burst.intervals;
    let is_inflated =
        |ratio: Option<f64>, lost: f64| ratio.is_some_and(|ratio| ratio >= INFLATED) && lost >= NOTICED;
    let (late, slow) = (
        is_inflated(inflation.ttft, first),
        is_inflated(inflation.itl, decode),
    );
    let clump_more = match (burst.medians.tokens_per_arrival, reference.tokens_per_arrival) {
        (Some(this), Some(that)) => coalesced && this >= 2.0 * that,
        _ => false,
    };
    // A server that only got slower would not send its tokens faster.
    if clump_more && late && inflation.itl.is_none_or(|ratio| ratio <= FELL) {
        return Found {
            held_back: true,
            ..Found::new(Cause::Network, 1.0)
        };
    }
    let Medians {
        connecting,
        round_trip,
        ..
    } = burst.medians;
    let network = on_the_way(first, connecting, round_trip, reference);
    let lost = [
        (Cause::Queue, late, first - network),
        (Cause::Network, late, network),
        (Cause::Decode, slow, decode),
    ];
    let all: f64 = lost.iter().map(|(_, _, seconds)| seconds).sum();
    let most = lost
        .into_iter()
        .filter(|(_, inflated, _)| *inflated)
        .max_by(|(.., a), (.., b)| a.total_cmp(b));
    if let Some((cause, _, seconds)) = most {
        return Found::new(cause, seconds / all);
    }
    let worst = inflation.ttft.unwrap_or(1.0).max(inflation.itl.unwrap_or(1.0));
    let close = 1.0 - (worst - 1.0) / (INFLATED - 1.0);
    Found::new(Cause::None, close.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn medians(ttft: f64, itl: f64) -> Medians {
        Medians {
            ttft: Some(Seconds::new(ttft)),
            itl: Some(Seconds::new(itl)),
            connecting: Some(Seconds::new(0.002)),
            round_trip: Some(Seconds::new(0.002)),
            tokens_per_arrival: Some(1.0),
        }
    }

    fn observed(medians: Medians) -> Observed {
        Observed {
            requests: 50,
            succeeded: 50,
            failed: Ratio::new(0.0),
            fastest: medians.ttft,
            medians,
            intervals: 63.0,
            slots: Slots::Unknown,
            spread: None,
        }
    }

    fn learned_from(usual: Medians) -> Baseline {
        let mut baseline = Baseline::default();
        for _ in 0..20 {
            baseline.learn(usual, 1e9);
        }
        baseline
    }

    /// Against a baseline of 200 ms to the first token and 10 ms between tokens.
    #[test]
    fn what_cost_most_is_the_cause() {
        let usual = medians(0.2, 0.01);
        for (burst, cause, confidence, says) in [
            (
                usual,
                Cause::None,
                1.0,
                "first token after 200 ms, about the usual; ITL unchanged: nothing slows it down",
            ),
            (medians(0.25, 0.01), Cause::None, 0.5, "250 ms, about the usual"),
            (
                medians(2.0, 0.01),
                Cause::Queue,
                1.0,
                "2.00 s, 10 times the usual; ITL unchanged: requests wait in the queue",
            ),
            // 1.26 s between tokens, 0.1 s before.
            (
                medians(0.3, 0.03),
                Cause::Decode,
                1.26 / 1.36,
                "ITL 3.0 times as long: generating the tokens takes longer",
            ),
            (
                Medians {
                    connecting: Some(Seconds::new(0.102)),
                    round_trip: Some(Seconds::new(0.102)),
                    ..medians(0.42, 0.01)
                },
                Cause::Network,
                0.2 / 0.22,
                "the way to the server takes longer",
            ),
            // TCP and TLS, a round trip each, and the one of the request.
            (
                Medians {
                    connecting: Some(Seconds::new(0.202)),
                    round_trip: Some(Seconds::new(0.102)),
                    ..medians(0.53, 0.01)
                },
                Cause::Network,
                0.3 / 0.33,
                "the way to the server takes longer",
            ),
            // A name server that is slow by 2 s, and a queue of 2.5 s.
            (
                Medians {
                    connecting: Some(Seconds::new(2.002)),
                    ..medians(4.7, 0.01)
                },
                Cause::Queue,
                2.5 / 4.5,
                "requests wait in the queue",
            ),
            (
                Medians {
                    tokens_per_arrival: Some(32.0),
                    ..medians(0.52, 0.005)
                },
                Cause::Network,
                1.0,
                "ITL shorter: something on the way holds tokens back; 32 tokens arrive at a time",
            ),
            // The same clumps, but the tokens in all are slower, too.
            (
                Medians {
                    tokens_per_arrival: Some(32.0),
                    ..medians(0.52, 0.011)
                },
                Cause::Queue,
                0.32 / (0.32 + 0.063),
                "requests wait in the queue; 32 tokens arrive at a time",
            ),
            // Twice nothing is nothing.
            (medians(0.2, 0.000_01), Cause::None, 1.0, "ITL shorter"),
        ] {
            let diagnosis = diagnose(Load::Users(1), &observed(burst), None, true, &learned_from(usual));
            assert_eq!(diagnosis.cause, cause, "{diagnosis:?}");
            assert!((diagnosis.confidence - confidence).abs() < 1e-6, "{diagnosis:?}");
            assert!(
                diagnosis.sentence.contains(says),
                "{says}\n{}",
                diagnosis.sentence
            );
        }
    }

    /// The server sends four tokens at a time, as ever; only connecting takes longer.
    #[test]
    fn who_always_sends_clumps_holds_nothing_back() {
        let clumps = |medians| Medians {
            tokens_per_arrival: Some(4.0),
            ..medians
        };
        let burst = Medians {
            connecting: Some(Seconds::new(0.302)),
            round_trip: Some(Seconds::new(0.302)),
            ..clumps(medians(0.8, 0.01))
        };
        let usual = learned_from(clumps(medians(0.2, 0.01)));
        let diagnosis = diagnose(Load::Users(1), &observed(burst), None, true, &usual);
        assert_eq!(
            (diagnosis.cause, diagnosis.coalesced, diagnosis.held_back),
            (Cause::Network, true, false)
        );
        assert!(
            diagnosis
                .sentence
                .contains("the way to the server takes longer; 4.0 tokens arrive at a time"),
            "{}",
            diagnosis.sentence
        );
    }

    #[test]
    fn a_step_is_compared_with_the_lowest_of_its_round() {
        let lowest = Lowest {
            load: Load::Users(1),
            observed: observed(medians(0.223, 0.01)),
        };
        let slots = Slots::Known(Staircase {
            slots: 1,
            slot_seconds: Seconds::new(0.85),
            confidence: 1.0,
        });
        let fifty = Observed {
            slots,
            ..observed(medians(41.5, 0.01))
        };
        // That it is always so slow is no excuse.
        let usual = learned_from(fifty.medians);
        let diagnosis = diagnose(Load::Users(50), &fifty, Some(&lowest), false, &usual);
        assert_eq!(
            diagnosis.sentence,
            "50 users: first token after 41.5 s, 186 times the single user's; ITL unchanged: requests wait in the queue; \
             the server works on about 1 at a time, 850 ms each"
        );
        // Nor without a ladder: the one that was served first did not wait.
        let alone = Observed {
            fastest: Some(Seconds::new(0.22)),
            ..fifty
        };
        let diagnosis = diagnose(Load::Users(50), &alone, None, true, &usual);
        assert_eq!(
            (diagnosis.cause, diagnosis.compared_with),
            (Cause::Queue, Some(Reference::ServedFirst))
        );
        assert_eq!(diagnosis.load_inflation.ttft, Some(1.0));
    }

    #[test]
    fn without_anything_to_compare_with_nothing_is_known_but_errors() {
        let burst = observed(medians(9.0, 0.5));
        let nothing = Baseline::default();
        let diagnosis = diagnose(Load::Users(1), &burst, None, true, &nothing);
        assert_eq!(
            (diagnosis.cause, diagnosis.confidence.to_bits()),
            (Cause::None, 0)
        );
        assert_eq!(diagnosis.sentence, "1 user: first token after 9.00 s");
        let failing = Observed {
            failed: Ratio::new(0.6),
            succeeded: 20,
            ..burst
        };
        let diagnosis = diagnose(Load::Users(50), &failing, None, true, &nothing);
        assert_eq!(diagnosis.cause, Cause::Errors);
        assert!(
            diagnosis.sentence.ends_with(": 60 % of the requests fail"),
            "{}",
            diagnosis.sentence
        );
        assert_eq!(failing.lesson(), None);
    }

    /// What improved cost nothing.
    #[test]
    fn a_confidence_is_a_share() {
        let connecting = |seconds, medians| Medians {
            connecting: Some(Seconds::new(seconds)),
            ..medians
        };
        for (usual, burst, cause, confidence) in [
            (medians(0.2, 0.01), medians(2.0, 0.009), Cause::Queue, 1.0),
            (medians(0.5, 0.01), medians(0.1, 0.016), Cause::Decode, 1.0),
            // What was lost and what was won are the same.
            (medians(1.0, 0.01), medians(0.37, 0.02), Cause::Decode, 1.0),
            (
                connecting(0.1, medians(0.5, 0.01)),
                connecting(0.002, medians(1.0, 0.015)),
                Cause::Queue,
                0.5 / (0.5 + 0.315),
            ),
        ] {
            let diagnosis = diagnose(Load::Users(1), &observed(burst), None, true, &learned_from(usual));
            assert_eq!(diagnosis.cause, cause, "{diagnosis:?}");
            assert!((diagnosis.confidence - confidence).abs() < 1e-9, "{diagnosis:?}");
        }
    }

    fn any_medians() -> impl Strategy<Value = Medians> {
        let seconds = || prop::option::of(prop_oneof![Just(0.0), 1e-6..100.0]);
        (seconds(), seconds(), seconds(), seconds(), seconds()).prop_map(
            |(ttft, itl, connecting, round_trip, tokens_per_arrival)| Medians {
                ttft: ttft.map(Seconds::new),
                itl: itl.map(Seconds::new),
                connecting: connecting.map(Seconds::new),
                round_trip: round_trip.map(Seconds::new),
                tokens_per_arrival,
            },
        )
    }

    proptest! {
        #[test]
        fn no_confidence_leaves_its_bounds(usual in any_medians(), burst in any_medians(), intervals in 0.0..1e4) {
            let lowest = Lowest { load: Load::Users(1), observed: observed(usual) };
            let burst = Observed { intervals, ..observed(burst) };
            let diagnosis = diagnose(Load::Users(2), &burst, Some(&lowest), false, &Baseline::default());
            prop_assert!((0.0..=1.0).contains(&diagnosis.confidence), "{diagnosis:?}");
        }
    }
}
