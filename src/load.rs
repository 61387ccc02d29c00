//! The shape of a burst: how many requests start when.
//!
//! In a closed loop a number of users each wait for an answer before they ask again. In an open loop requests start
//! when they are due, at a rate, whatever became of those before them: a slow server cannot hide its slowness by
//! delaying the next request (coordinated omission).

use std::{fmt, time::Duration};

use fastrand::Rng;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    random::{exponential, gamma},
    units::Ratio,
};

/// After the first failure, and after many.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How much load a burst is: what a series is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Load {
    /// A closed loop of so many users, at least 1: the label `concurrency`.
    #[serde(rename = "concurrency")]
    Users(u32),
    /// An open loop: the label `rate`.
    #[serde(rename = "rate")]
    Rate(Rate),
}

impl Load {
    /// Places that a burst takes together before it begins: none in an open loop, whose requests wait singly.
    pub const fn users(self) -> u32 {
        match self {
            Self::Users(users) => users,
            Self::Rate(_) => 0,
        }
    }

    /// The users of a closed loop: the label `concurrency`.
    pub const fn concurrency(self) -> Option<u32> {
        match self {
            Self::Users(users) => Some(users),
            Self::Rate(_) => None,
        }
    }

    /// The rate of an open loop: the label `rate`.
    pub const fn rate(self) -> Option<Rate> {
        match self {
            Self::Users(_) => None,
            Self::Rate(rate) => Some(rate),
        }
    }

    /// How much it is among loads of its kind: users, or thousandths of a request a second.
    pub const fn size(self) -> u32 {
        match self {
            Self::Users(users) => users,
            Self::Rate(Rate(thousandths)) => thousandths,
        }
    }

    /// A load of the same kind and this size, which lies between those of two such loads.
    #[must_use]
    pub const fn resized(self, size: u32) -> Self {
        match self {
            Self::Users(_) => Self::Users(size),
            Self::Rate(_) => Self::Rate(Rate(size)),
        }
    }

    /// A load of the same kind: so many users, or requests a second. `None` of what is none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the bounds are checked"
    )]
    pub fn like(self, amount: f64) -> Option<Self> {
        match self {
            Self::Users(_) => {
                let is_count = (1.0..=f64::from(u32::MAX)).contains(&amount) && amount.fract() == 0.0;
                is_count.then_some(Self::Users(amount as u32))
            }
            Self::Rate(_) => Rate::new(amount).map(Self::Rate),
        }
    }
}

/// For people: `1 user`, `50 users`, `2.5 requests/s`.
impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users(1) => out.pad("1 user"),
            Self::Users(users) => out.pad(&format!("{users} users")),
            Self::Rate(rate) => out.pad(&format!("{rate} requests/s")),
        }
    }
}

/// Requests a second, in thousandths, so that it can tell series apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u32);

impl Rate {
    /// The highest.
    pub const MOST: f64 = 10_000.0;
    /// The lowest.
    pub const LEAST: f64 = 0.001;

    /// Between two requests at the lowest rate, in nanoseconds.
    const PERIOD: u128 = 1_000_000_000_000;

    /// `None` of what is no rate between the lowest and the highest; rounded to thousandths.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the bounds are checked"
    )]
    pub fn new(per_second: f64) -> Option<Self> {
        (Self::LEAST..=Self::MOST)
            .contains(&per_second)
            .then(|| Self((per_second * 1000.0).round() as u32))
    }

    pub fn per_second(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// When request `number`, from 0, is due at a constant rate.
    fn offset(self, number: u32) -> Duration {
        let nanos = u128::from(number) * Self::PERIOD / u128::from(self.0);
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// How many requests are due before so much time has passed; on average where the rate is not constant.
    pub fn requests_within(self, duration: Duration) -> u64 {
        let requests = duration.as_nanos() * u128::from(self.0);
        u64::try_from(requests.div_ceil(Self::PERIOD)).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.per_second().fmt(out)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.per_second())
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let per_second = f64::deserialize(deserializer)?;
        Self::new(per_second).ok_or_else(|| serde::de::Error::custom("a rate out of bounds"))
    }
}

/// When the first requests of a closed loop start, and how those of an open loop are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// All users start with the burst.
    Together,
    /// User k of N starts at over · k / N.
    Ramp { over: Duration },
    /// An open loop.
    Rate(Process),
}

impl Arrival {
    /// How long after the burst user `number` of `users` starts.
    pub fn start(self, number: u32, users: u32) -> Duration {
        match self {
            Self::Ramp { over } => over.mul_f64(f64::from(number) / f64::from(users.max(1))),
            Self::Together | Self::Rate(_) => Duration::ZERO,
        }
    }
}

/// How long it is from one request of an open loop to the next; 1 / rate on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// Always the same.
    Constant,
    /// Exponentially distributed: requests that know nothing of one another.
    Poisson,
    /// Gamma distributed with this shape, as `vllm bench serve` has it: 1 is Poisson, less comes in heaps, more is
    /// more even.
    Gamma { burstiness: f64 },
}

impl Process {
    /// From when one begins to look to the next request, as [`Self::gap`]: any time of a gap that is found the more often
    /// the longer it is. So the mean number of requests in a time is that time times the rate.
    fn until_first(self, random: &mut Rng) -> Option<f64> {
        match self {
            Self::Constant => None,
            // It forgets for how long none came.
            Self::Poisson => self.gap(random),
            Self::Gamma { burstiness } => Some(random.f64() * gamma(burstiness + 1.0, random) / burstiness),
        }
    }

    /// From one request to the next, where the mean is 1; `None` where it is always that.
    fn gap(self, random: &mut Rng) -> Option<f64> {
        match self {
            Self::Constant => None,
            Self::Poisson => Some(exponential(random)),
            Self::Gamma { burstiness } => Some(gamma(burstiness, random) / burstiness),
        }
    }
}

/// When the requests of an open loop are intended to start, since the burst began, for ever: the first at once where
/// gaps are always the same, else as if they had been coming all along.
#[derive(Clone, Debug)]
pub struct Offsets {
    rate: Rate,
    process: Process,
    random: Rng,
    /// Of the next one.
    number: u32,
    next: Duration,
}

impl Offsets {
    pub fn new(rate: Rate, process: Process, random: Rng) -> Self {
        let mut offsets = Self {
            rate,
            process,
            random,
            number: 0,
            next: Duration::ZERO,
        };
        offsets.next = process
            .until_first(&mut offsets.random)
            .map_or(Duration::ZERO, |gap| offsets.lasts(gap));
        offsets
    }

    /// The same, but at least one within a burst that lasts for a time: one without a request would tell nothing.
    #[must_use]
    pub fn with_one_in(mut self, volume: Volume) -> Self {
        if matches!(volume, Volume::Lasting(duration) if self.next >= duration) {
            self.next = Duration::ZERO;
        }
        self
    }

    /// How long a gap lasts that is given where the mean is 1. One that no duration holds is one that no burst lives to
    /// see.
    fn lasts(&self, gap: f64) -> Duration {
        Duration::try_from_secs_f64(gap / self.rate.per_second()).unwrap_or(Duration::MAX)
    }

    pub fn mean_gap(&self) -> Duration {
        self.rate.offset(1)
    }

    /// How many there are in all when a burst sends so much.
    pub fn count_in(self, volume: Volume) -> u64 {
        match volume {
            Volume::Requests(requests) => requests.into(),
            Volume::Lasting(duration) => self.take_while(|offset| *offset < duration).count() as u64,
        }
    }
}

impl Iterator for Offsets {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = self.next;
        self.number = self.number.saturating_add(1);
        self.next = match self.process.gap(&mut self.random) {
            // Gaps are rounded: their sum would let one request more in than there should be.
            None => self.rate.offset(self.number),
            Some(gap) => due.saturating_add(self.lasts(gap)),
        };
        Some(due)
    }
}

/// How much one burst sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// This many requests, at least 1.
    Requests(u32),
    /// Requests are started for this long.
    Lasting(Duration),
}

impl Volume {
    /// Whether a place may start another request when `started` have been and the burst is `elapsed` old.
    pub fn allows(self, started: u32, elapsed: Duration) -> bool {
        match self {
            Self::Requests(requests) => started < requests,
            Self::Lasting(duration) => elapsed < duration,
        }
    }

    /// How long a place waits after so many failures in a row. A burst of a number of requests ends by itself;
    /// one that lasts for a time would hammer an endpoint that fails at once.
    pub fn pause(self, failures: u32) -> Duration {
        match (self, failures) {
            (Self::Requests(_), _) | (_, 0) => Duration::ZERO,
            (Self::Lasting(_), failures) => {
                let doubled = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
                FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
            }
        }
    }

    /// How many requests a burst of `load` is to send: where it lasts for a time, at least one per user, or about so
    /// many at its rate.
    pub fn planned(self, load: Load) -> u64 {
        match (self, load) {
            (Self::Requests(requests), _) => requests.into(),
            (Self::Lasting(_), Load::Users(users)) => users.into(),
            (Self::Lasting(duration), Load::Rate(rate)) => rate.requests_within(duration).max(1),
        }
    }

    /// The number of requests that a burst is to send, where it is known beforehand.
    pub const fn requests(self) -> Option<u32> {
        match self {
            Self::Requests(requests) => Some(requests),
            Self::Lasting(_) => None,
        }
    }
}

/// What stops a ladder before a step: the step before lost more than `stop` of its goodput.
pub fn is_lost(goodput: Ratio, stop: Ratio) -> bool {
    goodput.get() < 1.0 - stop.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_slow_a_lasting_burst_down() {
        let minute = Volume::Lasting(Duration::from_mins(1));
        let pauses = [0, 1, 2, 3, 4, 5, 40, u32::MAX].map(|failures| minute.pause(failures).as_millis());
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(Volume::Requests(9).pause(3), Duration::ZERO);
    }

    #[test]
    fn a_volume_ends() {
        let second = Duration::from_secs(1);
        for (volume, started, elapsed, allowed) in [
            (Volume::Requests(2), 1, second * 99, true),
            (Volume::Requests(2), 2, Duration::ZERO, false),
            (Volume::Lasting(second), 9999, second / 2, true),
            (Volume::Lasting(second), 0, second, false),
        ] {
            assert_eq!(
                volume.allows(started, elapsed),
                allowed,
                "{volume:?} {started} {elapsed:?}"
            );
        }
    }

    /// The gaps of `count` requests, times the rate: their mean is 1.
    fn gaps(process: Process, seed: u64, count: usize) -> Vec<f64> {
        let rate = Rate::new(40.0).unwrap();
        let offsets: Vec<_> = Offsets::new(rate, process, Rng::with_seed(seed))
            .take(count + 1)
            .collect();
        assert_eq!(offsets[0] == Duration::ZERO, process == Process::Constant);
        offsets
            .windows(2)
            .map(|pair| pair[1].abs_diff(pair[0]).as_secs_f64() * rate.per_second())
            .collect()
    }

    fn mean_and_variation(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    /// The mean gap is 1 / rate; the coefficient of variation of a gamma distribution is 1 / √shape.
    #[test]
    fn gaps_have_the_mean_and_the_variation_of_their_process() {
        for (process, variation) in [
            (Process::Constant, 0.0),
            (Process::Poisson, 1.0),
            (Process::Gamma { burstiness: 0.25 }, 2.0),
            (Process::Gamma { burstiness: 0.5 }, 2.0_f64.sqrt()),
            (Process::Gamma { burstiness: 1.0 }, 1.0),
            (Process::Gamma { burstiness: 4.0 }, 0.5),
            (Process::Gamma { burstiness: 100.0 }, 0.1),
        ] {
            for seed in 0..5 {
                let (mean, measured) = mean_and_variation(&gaps(process, seed, 40_000));
                // Four deviations of the mean of so many.
                let off = 4.0 * variation / 200.0 + 1e-6;
                assert!((mean - 1.0).abs() < off, "{process:?} {seed}: mean {mean}");
                assert!(
                    (measured - variation).abs() < 0.06 * variation + 1e-6,
                    "{process:?} {seed}: variation {measured} and not {variation}"
                );
            }
        }
    }

    /// The largest distance between the distribution of `values` and `cdf`.
    fn kolmogorov_smirnov(mut values: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
        values.sort_unstable_by(f64::total_cmp);
        let count = values.len() as f64;
        let distance = |(rank, value): (usize, &f64)| {
            let expected = cdf(*value);
            (expected - rank as f64 / count).max((rank + 1) as f64 / count - expected)
        };
        values.iter().enumerate().map(distance).fold(0.0, f64::max)
    }

    #[test]
    fn gaps_are_distributed_as_their_process_says() {
        let exponential = |x: f64| 1.0 - (-x).exp();
        // A gamma distribution of shape 2 and mean 1 has this closed form.
        let shape_two = |x: f64| 1.0 - (-2.0 * x).exp() * (1.0 + 2.0 * x);
        let count = 20_000;
        // Exceeded by chance once in a thousand.
        let critical = 1.95 / f64::from(count).sqrt();
        for seed in 10..15 {
            let of = |process| gaps(process, seed, 20_000);
            for (values, distance) in [
                (
                    Process::Poisson,
                    kolmogorov_smirnov(of(Process::Poisson), exponential),
                ),
                (
                    Process::Gamma { burstiness: 1.0 },
                    kolmogorov_smirnov(of(Process::Gamma { burstiness: 1.0 }), exponential),
                ),
                (
                    Process::Gamma { burstiness: 2.0 },
                    kolmogorov_smirnov(of(Process::Gamma { burstiness: 2.0 }), shape_two),
                ),
            ] {
                assert!(distance < critical, "{values:?} {seed}: {distance} of {critical}");
            }
            let wrong = kolmogorov_smirnov(of(Process::Gamma { burstiness: 0.9 }), exponential);
            assert!(wrong > critical, "what is not exponential passes: {wrong}");
        }
    }

    /// Whenever one looks, as many are due as the rate says: also from the beginning on, and where they come in heaps.
    #[test]
    fn as_many_are_due_on_average_as_are_planned() {
        let (rate, runs) = (Rate::new(5.0).unwrap(), 20_000);
        for (process, variation) in [
            (Process::Poisson, 1.0),
            (Process::Gamma { burstiness: 0.25 }, 2.0),
            (Process::Gamma { burstiness: 4.0 }, 0.5),
        ] {
            for lasts in [Duration::from_millis(400), Duration::from_secs(2)] {
                let volume = Volume::Lasting(lasts);
                let count = |seed| Offsets::new(rate, process, Rng::with_seed(seed)).count_in(volume);
                let mean = (0..runs).map(count).sum::<u64>() as f64 / runs as f64;
                let planned = rate.requests_within(lasts) as f64;
                // Five deviations of the mean of so many, none of which varies more than so.
                let off = 5.0 * (variation + 1.0) * planned.sqrt() / (runs as f64).sqrt();
                assert!(
                    (mean - planned).abs() < off,
                    "{process:?} {lasts:?}: {mean} and not {planned}"
                );
            }
        }
    }

    #[test]
    fn a_burst_of_a_time_has_a_request() {
        let second = Volume::Lasting(Duration::from_secs(1));
        let counted = |process| {
            let count = |seed| {
                let offsets = Offsets::new(Rate::new(1.0).unwrap(), process, Rng::with_seed(seed));
                offsets.with_one_in(second).count_in(second)
            };
            (0..1000).map(count).min()
        };
        assert_eq!(counted(Process::Poisson), Some(1));
        assert_eq!(counted(Process::Constant), Some(1));
        // One that comes too late for its burst comes when it is due where the burst has no end of its own.
        let offsets = Offsets::new(Rate::new(1.0).unwrap(), Process::Poisson, Rng::with_seed(1));
        let first = offsets.clone().with_one_in(Volume::Requests(1)).next();
        assert_eq!(first, offsets.clone().next());
    }

    #[test]
    fn a_seed_draws_the_same_times_again() {
        let draw = |seed| gaps(Process::Gamma { burstiness: 0.5 }, seed, 100);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    /// What a plan, a budget and a burst count must be the same.
    #[test]
    fn a_constant_rate_starts_as_many_as_are_planned() {
        for per_second in [0.001, 0.3, 3.0, 3.333, 7.0, 9.0, 11.0, 12.0, 30.0, 9999.999] {
            for lasts in [0.1, 0.7, 1.1, 60.0, 97.3] {
                let (rate, lasts) = (Rate::new(per_second).unwrap(), Duration::from_secs_f64(lasts));
                let offsets = Offsets::new(rate, Process::Constant, Rng::with_seed(1));
                assert_eq!(
                    offsets.count_in(Volume::Lasting(lasts)),
                    rate.requests_within(lasts),
                    "{per_second} {lasts:?}"
                );
            }
        }
        let three = Rate::new(3.0).unwrap();
        assert_eq!(three.requests_within(Duration::from_mins(1)), 180);
    }

    #[test]
    fn users_of_a_ramp_start_one_after_the_other() {
        let second = Duration::from_secs(1);
        let ramp = Arrival::Ramp { over: second };
        let starts = [0, 1, 2, 3].map(|user| ramp.start(user, 4).as_millis());
        assert_eq!(starts, [0, 250, 500, 750]);
        assert_eq!(Arrival::Together.start(3, 4), Duration::ZERO);
    }

    #[test]
    fn loads_are_told_apart_and_shown() {
        let rate = |per_second| Load::Rate(Rate::new(per_second).unwrap());
        for (load, shown, reported) in [
            (Load::Users(1), "1 user", r#"{"concurrency":1}"#),
            (Load::Users(50), "50 users", r#"{"concurrency":50}"#),
            (rate(5.0), "5 requests/s", r#"{"rate":5.0}"#),
            (rate(0.25), "0.25 requests/s", r#"{"rate":0.25}"#),
        ] {
            assert_eq!(load.to_string(), shown);
            assert_eq!(serde_json::to_string(&load).unwrap(), reported);
        }
        for absurd in [0.0, -1.0, 0.0001, 10_001.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::new(absurd), None, "{absurd}");
        }
    }

    #[test]
    fn a_step_is_lost_beyond_the_share() {
        let ratio = |share| Ratio::new(share).unwrap();
        for (goodput, stop, lost) in [
            (1.0, 0.5, false),
            (0.5, 0.5, false),
            (0.49, 0.5, true),
            (0.99, 0.0, true),
        ] {
            assert_eq!(is_lost(ratio(goodput), ratio(stop)), lost, "{goodput} {stop}");
        }
    }
}
