//! How many requests a server works on at once, from when the answers of one burst began and ended.
//!
//! A server with a number of slots lets a request in when another one's answer ends. While requests wait, as many
//! answers are being generated as there are slots: the sorted times to first token are a staircase with steps as
//! wide as the slots and as high as a request keeps its slot.

use serde::Serialize;

use crate::{quantile::median, units::Seconds};

/// A number of answers under way that was reached for less than this share of the time is taken for a matter of
/// arrival: the end of one answer and the beginning of the next one's overlap on the way.
const HELD_AT_LEAST: f64 = 0.05;

/// Queueing that was shorter than this share of the time that an answer takes is no queueing for a slot.
const QUEUED_AT_LEAST: f64 = 0.5;

/// Fewer requests that had to wait for a slot tell nothing.
const FEWEST_LATER: usize = 3;

/// One request, in seconds since any moment, the same for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay {
    pub(super) start: f64,
    /// The first output.
    pub(super) first: Option<f64>,
    pub(super) end: f64,
}

/// What one burst shows of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Staircase {
    /// Requests that the server works on at once.
    pub slots: u32,
    /// How long a request keeps its slot, median.
    pub slot_seconds: Seconds,
    /// The share of the time, while requests waited, in which the number of answers under way was within one or a
    /// quarter of `slots`.
    pub confidence: f64,
}

/// What the requests of a burst tell of the slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Slots {
    Known(Staircase),
    /// Nobody waited for a slot: there are at least so many.
    AtLeast(u32),
    /// No two answers were under way together.
    Unknown,
}

impl Slots {
    pub(super) fn of(stays: &[Stay]) -> Self {
        let levels = Levels::of(stays);
        match staircase(stays, &levels) {
            Some(staircase) => Self::Known(staircase),
            None if levels.most_answered > 1 => {
                Self::AtLeast(u32::try_from(levels.most_answered).unwrap_or(u32::MAX))
            }
            None => Self::Unknown,
        }
    }
}

fn staircase(stays: &[Stay], levels: &Levels) -> Option<Staircase> {
    let total: f64 = levels.seconds.iter().sum();
    let answering = median(
        stays
            .iter()
            .filter_map(|stay| Some(stay.end - stay.first?))
            .collect(),
    )?;
    if total <= 0.0 || total < QUEUED_AT_LEAST * answering {
        return None;
    }
    let mut held = 0.0;
    let slots = (1..levels.seconds.len()).rev().find(|&level| {
        held += levels.at(level);
        held >= HELD_AT_LEAST * total
    })?;
    // Nearly all at once: what seems to wait is the spread of their beginnings.
    let waiting = levels.most_in_flight.saturating_sub(slots);
    if waiting == 0 || waiting < levels.most_in_flight / 10 {
        return None;
    }
    let mut firsts: Vec<f64> = stays.iter().filter_map(|stay| stay.first).collect();
    firsts.sort_unstable_by(f64::total_cmp);
    let later = firsts.get(slots..).filter(|later| later.len() >= FEWEST_LATER)?;
    let steps = firsts.iter().zip(later).map(|(this, next)| next - this);
    let margin = (slots / 4).max(1);
    let near: f64 = (slots.saturating_sub(margin)..=slots + margin)
        .map(|level| levels.at(level))
        .sum();
    Some(Staircase {
        slots: u32::try_from(slots).ok()?,
        slot_seconds: Seconds::new(median(steps.collect())?),
        confidence: near / total,
    })
}

/// How many requests were where, for how long.
struct Levels {
    /// While at least one request waited and at least one answer was under way: the seconds for which so many were.
    seconds: Vec<f64>,
    most_answered: usize,
    most_in_flight: usize,
}

impl Levels {
    fn of(stays: &[Stay]) -> Self {
        // What an answer takes to begin when nobody is before it is no waiting for a slot.
        let unqueued = stays
            .iter()
            .filter_map(|stay| Some(stay.first? - stay.start))
            .fold(f64::INFINITY, f64::min);
        let mut changes: Vec<(f64, [isize; 3])> = Vec::new();
        for stay in stays {
            changes.extend([(stay.start, [0, 0, 1]), (stay.end, [0, 0, -1])]);
            if let Some(first) = stay.first {
                changes.extend([(first, [0, 1, 0]), (stay.end, [0, -1, 0])]);
            }
            let let_in = stay.first.unwrap_or(stay.end) - unqueued;
            if let_in > stay.start {
                changes.extend([(stay.start, [1, 0, 0]), (let_in, [-1, 0, 0])]);
            }
        }
        // What ends at an instant ends before others begin.
        changes.sort_unstable_by(|(a, what_a), (b, what_b)| {
            a.total_cmp(b)
                .then(what_a.iter().sum::<isize>().cmp(&what_b.iter().sum()))
        });
        let mut levels = Self {
            seconds: vec![0.0; stays.len() + 1],
            most_answered: 0,
            most_in_flight: 0,
        };
        let [mut waiting, mut answered, mut in_flight] = [0_isize; 3];
        let mut before = 0.0;
        for (at, [more_waiting, more_answered, more_in_flight]) in changes {
            let level = usize::try_from(answered).unwrap_or_default();
            if waiting > 0
                && level > 0
                && let Some(seconds) = levels.seconds.get_mut(level)
            {
                *seconds += at - before;
            }
            (waiting, answered, in_flight) = (
                waiting + more_waiting,
                answered + more_answered,
                in_flight + more_in_flight,
            );
            levels.most_answered = levels
                .most_answered
                .max(usize::try_from(answered).unwrap_or_default());
            levels.most_in_flight = levels
                .most_in_flight
                .max(usize::try_from(in_flight).unwrap_or_default());
            before = at;
        }
        levels
    }

    fn at(&self, level: usize) -> f64 {
        self.seconds.get(level).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `users` requests that start together at a server with `slots`; each takes `prefill` and then `decode` of its number.
    fn burst(users: usize, slots: usize, prefill: f64, decode: impl Fn(usize) -> f64) -> Vec<Stay> {
        let mut free = vec![0.0; slots];
        (0..users)
            .map(|number| {
                let slot = free.iter_mut().min_by(|a, b| f64::total_cmp(a, b)).unwrap();
                let first = *slot + prefill;
                let end = first + decode(number);
                *slot = end;
                Stay {
                    start: 0.0,
                    first: Some(first),
                    end,
                }
            })
            .collect()
    }

    #[test]
    fn slots_are_counted() {
        for slots in [1, 2, 4, 8, 16, 32] {
            for (prefill, spread) in [(0.2, 0.0), (0.02, 0.5), (0.2, 0.9), (0.6, 0.3)] {
                // Spread without a pattern.
                let decode = |number: usize| {
                    0.64 * (1.0 - spread / 2.0 + spread * ((number * 7919) % 101) as f64 / 101.0)
                };
                let Slots::Known(found) = Slots::of(&burst(50, slots, prefill, decode)) else {
                    panic!("{slots} slots were not seen");
                };
                let wrong = found.slots.abs_diff(slots.try_into().unwrap());
                assert!(wrong <= 1, "{slots}: {found:?}");
                let height = found.slot_seconds.get() / (prefill + 0.64);
                assert!((0.8..1.25).contains(&height), "{slots}: {found:?}");
                assert!(found.confidence > 0.4, "{slots}: {found:?}");
            }
        }
    }

    #[test]
    fn without_a_queue_there_are_at_least_as_many_as_users() {
        assert_eq!(Slots::of(&burst(50, 64, 0.2, |_| 0.6)), Slots::AtLeast(50));
        // Their beginnings are spread, as after a common prefill in pieces.
        let spread: Vec<_> = burst(50, 64, 0.2, |_| 0.6)
            .into_iter()
            .enumerate()
            .map(|(number, stay)| Stay {
                first: stay.first.map(|first| first + 0.005 * number as f64),
                ..stay
            })
            .collect();
        assert_eq!(Slots::of(&spread), Slots::AtLeast(50));
    }

    #[test]
    fn one_user_tells_nothing() {
        let alone: Vec<_> = (0..5)
            .map(|number| f64::from(number) * 1.1)
            .map(|start| Stay {
                start,
                first: Some(start + 0.2),
                end: start + 1.0,
            })
            .collect();
        assert_eq!(Slots::of(&alone), Slots::Unknown);
        assert_eq!(Slots::of(&[]), Slots::Unknown);
    }

    #[test]
    fn requests_that_gave_up_waiting_do_not_count_as_served() {
        let mut stays = burst(30, 2, 0.2, |_| 0.6);
        stays.extend((0..20).map(|_| Stay {
            start: 0.0,
            first: None,
            end: 5.0,
        }));
        assert!(matches!(Slots::of(&stays), Slots::Known(found) if found.slots == 2));
    }
}
