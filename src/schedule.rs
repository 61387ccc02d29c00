//! When the next burst is due, and whether it may be fired: a fixed rate from the start, so that a burst that took
//! long does not shift the next one (the first one spread by a hash, so that probes do not fire all at once), or
//! times of the wall clock; and the calendar.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    calendar::Calendar,
    cron::Cron,
    outcome::Skip,
    rhythm::{Replica, Rhythm},
    units::Ratio,
};

/// The clocks are compared again after this long at the latest: only then is a wall clock that was set noticed.
const LOOK: Duration = Duration::from_mins(1);

/// A wall clock that was set by more than this is believed at once: what it left out or repeats was never due. By
/// less, it is only late or early.
const SET: f64 = 60.0;

/// How far the calendar is believed, in seconds. It looks ahead for a year: what changes later is seen only by who
/// looks again.
const FORESEEN: f64 = 300.0 * 24.0 * 3600.0;

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    /// Seconds since the Unix epoch.
    pub unix: f64,
}

impl Now {
    /// As it was then.
    #[must_use]
    pub fn before(self, ago: Duration) -> Self {
        Self {
            instant: self.instant.checked_sub(ago).unwrap_or(self.instant),
            unix: self.unix - ago.as_secs_f64(),
        }
    }

    fn instant_at(self, unix: f64) -> Instant {
        let away = Duration::try_from_secs_f64((unix - self.unix).abs()).unwrap_or(Duration::MAX);
        if unix < self.unix {
            self.instant.checked_sub(away).unwrap_or(self.instant)
        } else {
            // Farther away than one waits at once.
            self.instant.checked_add(away).unwrap_or(self.instant + LOOK)
        }
    }

    fn unix_at(self, instant: Instant) -> f64 {
        let later = instant.saturating_duration_since(self.instant).as_secs_f64();
        self.unix + later - self.instant.saturating_duration_since(instant).as_secs_f64()
    }
}

/// What a probe says about when its bursts are due.
#[derive(Clone, Debug)]
pub struct Timing {
    /// With a cron expression: the shortest distance of its occurrences.
    pub every: Duration,
    /// How much of `every` a burst may be later, at random.
    pub jitter: Ratio,
    pub cron: Option<Cron>,
    pub calendar: Calendar,
    pub replica: Replica,
    /// See [`crate::rhythm::phase`].
    pub phase: Duration,
}

/// A burst that is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    pub at: Instant,
    /// By the wall clock.
    pub unix: f64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Bursts are due from now on.
    Open,
    /// No bursts are fired from now on.
    Close(Skip),
    Fire(Due),
    /// So many bursts were due and are not fired.
    Skip(Skip, u32),
    /// Nothing, until then.
    Wait(Instant),
}

/// The due times of one probe at one target.
#[derive(Clone, Debug)]
pub struct Schedule {
    timing: Timing,
    times: Times,
    /// The burst that is due next; `None` when there will be none.
    next: Option<Due>,
    /// How far the wall clock is ahead of `armed`.
    armed: Instant,
    ahead: f64,
    span: Span,
    told: Told,
    /// How often [`Self::next`] was moved on.
    moves: u64,
}

/// The times at which bursts are regularly due.
#[derive(Clone, Debug)]
enum Times {
    /// By the monotonic clock: at `first`, then every interval. `next` is the number of the one after
    /// [`Schedule::next`].
    Rate { first: Instant, next: u32 },
    /// By the wall clock. `last` is when [`Schedule::next`] is due without jitter.
    Wall { rhythm: Box<Rhythm>, last: f64 },
}

/// What was told last of whether bursts are fired.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Nothing,
    Open,
    Closed(Skip),
}

/// From when to when the calendar stays as it is.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: f64,
    to: f64,
    is_open: bool,
}

impl Schedule {
    /// Bursts are due from now on; with `at_once` the first one is due now. `random` in 0..1 draws the jitter.
    pub fn new(timing: Timing, now: Now, at_once: bool, random: f64) -> Self {
        let Timing {
            every,
            phase,
            replica,
            ..
        } = timing;
        let times = match &timing.cron {
            Some(cron) => Times::Wall {
                rhythm: Box::new(Rhythm::cron(cron.clone(), replica)),
                last: now.unix,
            },
            None if replica.is_alone() => Times::Rate {
                first: now.instant + if at_once { Duration::ZERO } else { phase },
                next: 0,
            },
            None => Times::Wall {
                rhythm: Box::new(Rhythm::every(every, phase, replica)),
                last: now.unix,
            },
        };
        let mut schedule = Self {
            times,
            next: None,
            armed: now.instant,
            ahead: now.unix,
            span: Span::of(&timing.calendar, now.unix),
            told: Told::Nothing,
            moves: 0,
            timing,
        };
        schedule.advance(now, random);
        if let (true, Times::Wall { .. }) = (at_once, &schedule.times) {
            schedule.next = Some(Due {
                at: now.instant,
                unix: now.unix,
            });
            if let Times::Wall { last, .. } = &mut schedule.times {
                *last = now.unix;
            }
        }
        schedule
    }

    /// What is to be done now; to be asked again when it is done. `is_paused`: somebody holds all bursts back.
    /// `missed_by` is why due times passed of which nothing was told when they came.
    pub fn step(&mut self, now: Now, is_paused: bool, missed_by: Skip, random: f64) -> Step {
        self.compare_clocks(now, random);
        let due = self.next.filter(|due| due.at <= now.instant);
        let closed = self.closed(due.map_or(now.unix, |due| due.unix.max(now.unix)), is_paused);
        let telling = closed.map_or(Told::Open, Told::Closed);
        if self.told != telling {
            self.told = telling;
            return closed.map_or(Step::Open, Step::Close);
        }
        let Some(due) = due else {
            let change = now.instant_at(self.span.to);
            let soonest = self.next.map_or(change, |next| next.at.min(change));
            return Step::Wait(
                soonest
                    .min(now.instant + LOOK)
                    .max(now.instant + Duration::from_millis(1)),
            );
        };
        if let Some(passed) = self.pass_over(now) {
            return Step::Skip(missed_by, passed);
        }
        self.advance(now, random);
        match self.closed(due.unix, is_paused) {
            None => Step::Fire(due),
            Some(skip) => Step::Skip(skip, 1),
        }
    }

    /// Which burst is due next, counted from the first, whether it will be fired or not.
    pub fn next_number(&self) -> Option<u64> {
        self.next.map(|_| self.moves)
    }

    /// When the next burst is due that will be fired as far as is known; `None` while somebody holds them back.
    pub fn next_fired(&self, now: Now, is_paused: bool) -> Option<f64> {
        let Timing { calendar, every, .. } = &self.timing;
        let next = self.next.filter(|_| !is_paused)?;
        let mut open = calendar.next_open(next.unix)?;
        if open <= next.unix {
            return Some(next.unix);
        }
        for _ in 0..1000 {
            let due = match &self.times {
                Times::Rate { first, .. } => {
                    let (first, every) = (now.unix_at(*first), every.as_secs_f64());
                    first + ((open - first) / every).ceil() * every
                }
                // What is due at `open` itself counts.
                Times::Wall { rhythm, .. } => rhythm.after(open - 1e-3)?,
            };
            open = calendar.next_open(due)?;
            if open <= due {
                return Some(due);
            }
        }
        None
    }

    /// The interval in force: of a cron expression, from the last occurrence to the following one.
    pub fn interval(&self, now: Now) -> Duration {
        let Timing {
            every, replica, cron, ..
        } = &self.timing;
        match &self.times {
            Times::Wall { rhythm, .. } if cron.is_some() => rhythm
                .interval(now.unix)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .unwrap_or(*every),
            Times::Rate { .. } | Times::Wall { .. } => every.saturating_mul(replica.total()),
        }
    }

    /// Follows a wall clock that was set.
    fn compare_clocks(&mut self, now: Now, random: f64) {
        let ahead = now.unix - now.instant.saturating_duration_since(self.armed).as_secs_f64();
        let set = (ahead - self.ahead).abs() > SET;
        self.ahead = ahead;
        if let Times::Wall { last, .. } = &mut self.times {
            if set {
                *last = now.unix;
                self.advance(now, random);
            }
            self.next = self.next.map(|due| Due {
                at: now.instant_at(due.unix),
                ..due
            });
        } else {
            self.next = self.next.map(|due| Due {
                unix: now.unix_at(due.at),
                ..due
            });
        }
    }

    /// Why a burst that is due then is not fired.
    fn closed(&mut self, unix: f64, is_paused: bool) -> Option<Skip> {
        if !(self.span.from..self.span.to).contains(&unix) {
            self.span = Span::of(&self.timing.calendar, unix);
        }
        if !self.span.is_open {
            return Some(Skip::Window);
        }
        is_paused.then_some(Skip::Paused)
    }

    /// To the burst after the next one.
    fn advance(&mut self, now: Now, random: f64) {
        self.moves += 1;
        let Timing { every, jitter, .. } = &self.timing;
        let late = every.mul_f64(jitter.get() * random.clamp(0.0, 1.0));
        self.next = match &mut self.times {
            Times::Rate { first, next } => {
                let at = *first + *every * *next + late;
                *next = next.saturating_add(1);
                Some(Due {
                    at,
                    unix: now.unix_at(at),
                })
            }
            Times::Wall { rhythm, last } => rhythm.after(*last).map(|regular| {
                *last = regular;
                let unix = regular + late.as_secs_f64();
                Due {
                    at: now.instant_at(unix),
                    unix,
                }
            }),
        };
    }

    /// Where the burst after the next one is due already, passes over all but the last one that is, without
    /// jitter: how many those are. What was slept through is not made up for.
    fn pass_over(&mut self, now: Now) -> Option<u32> {
        let every = self.timing.every;
        let passed = match &mut self.times {
            Times::Rate { first, next } => {
                let intervals =
                    now.instant.checked_duration_since(*first)?.as_nanos() / every.as_nanos().max(1);
                let latest = u32::try_from(intervals).unwrap_or(u32::MAX);
                let passed = latest.checked_sub(*next)? + 1;
                *next = latest.saturating_add(1);
                let at = *first + every * latest;
                self.next = Some(Due {
                    at,
                    unix: now.unix_at(at),
                });
                passed
            }
            Times::Wall { rhythm, last } => {
                let (latest, passed) = rhythm.passed(*last, now.unix)?;
                *last = latest;
                self.next = Some(Due {
                    at: now.instant_at(latest),
                    unix: latest,
                });
                passed
            }
        };
        self.moves += 1;
        Some(passed)
    }
}

impl Span {
    fn of(calendar: &Calendar, unix: f64) -> Self {
        Self {
            from: unix,
            to: calendar
                .next_change(unix)
                .unwrap_or(f64::INFINITY)
                .min(unix + FORESEEN),
            is_open: calendar.is_open(unix),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep_until;

    use super::*;
    use crate::calendar::tests::{at, paris, window};

    const MINUTE: Duration = Duration::from_mins(1);
    const DAY: Duration = Duration::from_hours(24);

    fn timing(every: Duration) -> Timing {
        Timing {
            every,
            jitter: Ratio::new(0.0).unwrap(),
            cron: None,
            calendar: Calendar::default(),
            replica: Replica::default(),
            phase: Duration::ZERO,
        }
    }

    fn office() -> Calendar {
        Calendar {
            zone: paris(),
            windows: vec![window("Mon-Fri", "08:00-18:00")],
            pauses: Vec::new(),
        }
    }

    fn cron(text: &str) -> Cron {
        Cron::new(text, paris()).unwrap()
    }

    /// What a schedule does for a while, by the clocks of the simulated runtime.
    struct Day {
        start: Now,
        schedule: Schedule,
    }

    impl Day {
        fn begins(from: &str, timing: Timing) -> Self {
            let start = Now {
                instant: Instant::now(),
                unix: at(from),
            };
            let schedule = Schedule::new(timing, start, false, 0.5);
            Self { start, schedule }
        }

        fn now(&self) -> Now {
            let instant = Instant::now();
            Now {
                instant,
                unix: self.start.unix + (instant - self.start.instant).as_secs_f64(),
            }
        }

        /// All that happens until then, and at which second.
        async fn passes(&mut self, duration: Duration, is_paused: bool) -> Vec<(f64, Step)> {
            let end = Instant::now() + duration;
            let mut happened = Vec::new();
            while Instant::now() < end {
                let now = self.now();
                match self.schedule.step(now, is_paused, Skip::Late, 0.5) {
                    Step::Wait(until) => sleep_until(until.min(end)).await,
                    step => happened.push((now.unix, step)),
                }
            }
            happened
        }
    }

    fn fired(happened: &[(f64, Step)]) -> Vec<f64> {
        let fire = |(unix, step): &(f64, Step)| matches!(step, Step::Fire(_)).then_some(*unix);
        happened.iter().filter_map(fire).collect()
    }

    fn skipped(happened: &[(f64, Step)], reason: Skip) -> u32 {
        let count = |(_, step): &(f64, Step)| match step {
            Step::Skip(skip, count) if *skip == reason => *count,
            _ => 0,
        };
        happened.iter().map(count).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_fixed_from_the_start() {
        let mut day = Day::begins(
            "2026-11-24T00:00:00Z",
            Timing {
                phase: MINUTE / 4,
                ..timing(MINUTE)
            },
        );
        let happened = day.passes(MINUTE * 3, false).await;
        let from = day.start.unix;
        assert_eq!(happened.first(), Some(&(from, Step::Open)));
        let fired: Vec<f64> = fired(&happened)
            .iter()
            .map(|unix| (unix - from).round())
            .collect();
        assert_eq!(fired, [15.0, 75.0, 135.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_does_not_add_up() {
        let jitter = Ratio::new(0.1).unwrap();
        let mut day = Day::begins(
            "2026-11-24T00:00:00Z",
            Timing {
                jitter,
                ..timing(MINUTE)
            },
        );
        let happened = day.passes(MINUTE * 3, false).await;
        let fired: Vec<f64> = fired(&happened)
            .iter()
            .map(|unix| (unix - day.start.unix).round())
            .collect();
        assert_eq!(fired, [3.0, 63.0, 123.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_slept_through_is_not_made_up_for() {
        for replica in [Replica::default(), Replica::new(1, 2).unwrap()] {
            let every = MINUTE / replica.total();
            let mut day = Day::begins(
                "2026-11-24T00:00:00Z",
                Timing {
                    replica,
                    ..timing(every)
                },
            );
            day.passes(MINUTE * 5 / 4, false).await;
            tokio::time::sleep(MINUTE * 3).await;
            let happened = day.passes(Duration::from_secs(1), false).await;
            assert_eq!((skipped(&happened, Skip::Late), fired(&happened).len()), (2, 1));
            // Nor does a year take a year.
            tokio::time::sleep(DAY * 365).await;
            let happened = day.passes(Duration::from_secs(1), false).await;
            assert_eq!(skipped(&happened, Skip::Late), 365 * 24 * 60 - 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_in_years_is_kept() {
        let mut calendar = Calendar::default();
        calendar.pauses.push(crate::calendar::Pause {
            from: crate::calendar::Pause::parse("2028-11-24").unwrap(),
            to: crate::calendar::Pause::parse("2028-11-25").unwrap(),
        });
        let mut day = Day::begins(
            "2026-11-23T12:00:00Z",
            Timing {
                calendar,
                ..timing(DAY)
            },
        );
        // A burst at each noon: one of them in the pause.
        day.passes(DAY, false).await;
        tokio::time::sleep(DAY * 730).await;
        let happened = day.passes(DAY * 3, false).await;
        assert_eq!((skipped(&happened, Skip::Window), fired(&happened).len()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_demo_day_has_its_windows_to_the_burst() {
        let mut calendar = office();
        calendar.pauses.push(crate::calendar::Pause {
            from: crate::calendar::Pause::parse("2026-11-24T12:00").unwrap(),
            to: crate::calendar::Pause::parse("2026-11-24T13:00").unwrap(),
        });
        let every = Timing {
            calendar: calendar.clone(),
            ..timing(MINUTE)
        };
        let by_cron = Timing {
            cron: Some(cron("* * * * *")),
            calendar: calendar.clone(),
            ..timing(MINUTE)
        };
        for timing in [every, by_cron] {
            let midnight = "2026-11-24T00:00:00+01:00";
            let mut day = Day::begins(midnight, timing);
            let happened = day.passes(DAY, false).await;
            let fired = fired(&happened);
            assert_eq!(fired.len(), 9 * 60);
            for unix in &fired {
                assert!(calendar.is_open(*unix), "{}", calendar.zone.zoned(*unix));
            }
            let close_by = |found: Option<&f64>, text: &str| (found.unwrap() - at(text)).abs() < 1.0;
            assert!(close_by(fired.first(), "2026-11-24T08:00:00+01:00"));
            assert!(close_by(fired.last(), "2026-11-24T17:59:00+01:00"));
            let due = 24 * 60 - u32::from(day.schedule.timing.cron.is_some());
            assert_eq!(skipped(&happened, Skip::Window), due - 9 * 60);
            let changes: Vec<_> = happened
                .iter()
                .filter(|(_, step)| matches!(step, Step::Open | Step::Close(_)))
                .map(|(unix, step)| (calendar.zone.zoned(*unix).strftime("%H:%M").to_string(), *step))
                .collect();
            let closed = Step::Close(Skip::Window);
            let expected = [
                ("00:00", closed),
                ("08:00", Step::Open),
                ("12:00", closed),
                ("13:00", Step::Open),
                ("18:00", closed),
            ];
            assert_eq!(changes, expected.map(|(at, step)| (at.to_owned(), step)));
            // It is told when it goes on.
            let next = day.schedule.next_fired(day.now(), false).unwrap();
            assert!((next - at("2026-11-25T08:00:00+01:00")).abs() < 1.0);
            assert_eq!(day.schedule.next_fired(day.now(), true), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_replicas_share_a_demo_day() {
        for by_cron in [None, Some(cron("*/5 8-18 * * Mon-Fri"))] {
            let mut all = Vec::new();
            for index in 0..2 {
                let replica = Replica::new(index, 2).unwrap();
                let timing = Timing {
                    cron: by_cron.clone(),
                    replica,
                    calendar: office(),
                    ..timing(MINUTE * 5)
                };
                // They do not start at the same time.
                let from = ["2026-11-24T00:00:00+01:00", "2026-11-24T03:17:29+01:00"];
                let mut day = Day::begins(from[index as usize], timing);
                let fired = fired(&day.passes(Duration::from_hours(19), false).await);
                assert_eq!(fired.len(), 60);
                all.extend(fired);
            }
            all.sort_by(f64::total_cmp);
            let from = at("2026-11-24T08:00:00+01:00");
            let expected = (0..120).map(|number| from + 300.0 * f64::from(number));
            assert!(
                all.iter()
                    .zip(expected)
                    .all(|(fired, due)| (fired - due).abs() < 1.0),
                "{all:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_told() {
        let mut day = Day::begins("2026-11-24T00:00:00Z", timing(MINUTE));
        day.passes(MINUTE, false).await;
        let happened = day.passes(MINUTE * 5, true).await;
        assert_eq!(
            happened.first().map(|(_, step)| *step),
            Some(Step::Close(Skip::Paused))
        );
        assert_eq!((skipped(&happened, Skip::Paused), fired(&happened).len()), (5, 0));
        let happened = day.passes(MINUTE, false).await;
        assert_eq!(happened.first().map(|(_, step)| *step), Some(Step::Open));
        assert_eq!(fired(&happened).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_is_followed() {
        for hours in [-7.0, 5.0] {
            let timing = Timing {
                cron: Some(cron("0 * * * *")),
                ..timing(MINUTE * 60)
            };
            let mut day = Day::begins("2026-11-24T10:30:00Z", timing);
            assert_eq!(fired(&day.passes(MINUTE * 35, false).await).len(), 1);
            day.start.unix += hours * 3600.0;
            let happened = day.passes(MINUTE * 60, false).await;
            assert_eq!(
                (skipped(&happened, Skip::Late), fired(&happened).len()),
                (0, 1),
                "{happened:?}"
            );
            // One that is only adjusted repeats nothing.
            day.start.unix -= 600.0 * 0.09;
            assert_eq!(fired(&day.passes(MINUTE * 50, false).await).len(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_in_force() {
        let interval = |from, timing| {
            let day = Day::begins(from, timing);
            day.schedule.interval(day.now())
        };
        let replica = Replica::new(0, 3).unwrap();
        assert_eq!(
            interval(
                "2026-11-27T17:00Z",
                Timing {
                    replica,
                    ..timing(MINUTE)
                }
            ),
            MINUTE * 3
        );
        let weekdays = || Timing {
            cron: Some(cron("*/5 8-18 * * Mon-Fri")),
            ..timing(MINUTE * 5)
        };
        assert_eq!(interval("2026-11-27T17:51+01:00", weekdays()), MINUTE * 5);
        assert_eq!(
            interval("2026-11-28T17:51+01:00", weekdays()),
            Duration::from_hours(61) + MINUTE * 5
        );
    }
}
