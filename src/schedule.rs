//! When the next burst is due: a fixed rate from the start, so that a burst that took long does not shift the
//! next one; the first one spread by a hash, so that probes do not fire all at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::units::{Name, Ratio};

/// The due times of one probe at one target.
#[derive(Clone, Debug)]
pub struct Schedule {
    first: Instant,
    every: Duration,
    jitter: Ratio,
    next: u32,
}

impl Schedule {
    /// `phase` after `armed`, then at a fixed rate; each burst is up to `jitter` of `every` later than that.
    pub fn new(armed: Instant, phase: Duration, every: Duration, jitter: Ratio) -> Self {
        Self {
            first: armed + phase,
            every,
            jitter,
            next: 0,
        }
    }

    /// When the next burst is due. `random` in 0..1 draws the jitter.
    pub fn advance(&mut self, random: f64) -> Instant {
        let due = self.regular(self.next) + self.every.mul_f64(self.jitter.get() * random.clamp(0.0, 1.0));
        self.next = self.next.saturating_add(1);
        due
    }

    /// Where the next burst is due already, passes over all but the last one that is: its due time, without
    /// jitter, and by how many it follows the one that [`Self::advance`] gave last. What was slept through is
    /// not made up for.
    pub fn latest(&mut self, now: Instant) -> Option<(Instant, u32)> {
        let intervals = now.checked_duration_since(self.first)?.as_nanos() / self.every.as_nanos().max(1);
        let latest = u32::try_from(intervals).unwrap_or(u32::MAX);
        let passed = latest.checked_sub(self.next)? + 1;
        self.next = latest.saturating_add(1);
        Some((self.regular(latest), passed))
    }

    fn regular(&self, number: u32) -> Instant {
        self.first + self.every * number
    }
}

/// How long after the schedule is armed a probe fires first at a target: anything below `every` and a
/// minute, the same after each start and reload.
pub fn phase(probe: &Name, target: &Name, every: Duration) -> Duration {
    let span = every.min(Duration::from_mins(1));
    let hash = fnv1a(
        [probe.as_str(), "\0", target.as_str()]
            .into_iter()
            .flat_map(str::bytes),
    );
    span.mul_f64((hash >> 11) as f64 / (1_u64 << 53) as f64)
}

/// FNV-1a with a final mix: stable over releases, which std's hasher does not promise.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn ratio(share: f64) -> Ratio {
        Ratio::new(share).unwrap()
    }

    #[test]
    fn the_rate_is_fixed_from_the_start() {
        let armed = Instant::now();
        let mut schedule = Schedule::new(armed, MINUTE / 4, MINUTE, ratio(0.0));
        let due: Vec<_> = (0..3).map(|_| schedule.advance(0.9) - armed).collect();
        assert_eq!(due, [MINUTE / 4, MINUTE * 5 / 4, MINUTE * 9 / 4]);
    }

    #[test]
    fn jitter_does_not_add_up() {
        let armed = Instant::now();
        let mut schedule = Schedule::new(armed, Duration::ZERO, MINUTE, ratio(0.1));
        let due: Vec<_> = [0.5, 1.0, 0.0]
            .map(|random| schedule.advance(random) - armed)
            .into();
        assert_eq!(due, [MINUTE / 20, MINUTE + MINUTE / 10, MINUTE * 2]);
    }

    #[test]
    fn what_was_slept_through_is_not_made_up_for() {
        let armed = Instant::now();
        let mut schedule = Schedule::new(armed, Duration::ZERO, MINUTE, ratio(0.0));
        assert_eq!(schedule.advance(0.0), armed);
        assert_eq!(schedule.latest(armed + MINUTE / 2), None);
        assert_eq!(
            schedule.latest(armed + MINUTE * 7 / 2),
            Some((armed + MINUTE * 3, 3))
        );
        assert_eq!(schedule.latest(armed + MINUTE * 7 / 2), None);
        assert_eq!(schedule.advance(0.0) - armed, MINUTE * 4);
        // Nor does a year take a year.
        let year = Duration::from_hours(24 * 365);
        let (_, passed) = schedule.latest(armed + year).unwrap();
        assert_eq!(passed, 365 * 24 * 60 - 4);
    }

    #[test]
    fn first_bursts_are_spread_and_stable() {
        let name = |text: &str| Name::new(text).unwrap();
        let phases: Vec<_> = (0..1000)
            .map(|n| {
                phase(
                    &name("probe"),
                    &name(&format!("target-{n}")),
                    Duration::from_mins(5),
                )
            })
            .collect();
        assert!(phases.iter().all(|phase| *phase < MINUTE));
        for quarter in 0..4 {
            let within = phases
                .iter()
                .filter(|phase| (**phase / 15).as_secs() == quarter)
                .count();
            assert!((200..300).contains(&within), "{within} in quarter {quarter}");
        }
        let again = phase(&name("probe"), &name("target-0"), Duration::from_mins(5));
        assert_eq!(phases.first(), Some(&again));
        assert!(phase(&name("a"), &name("b"), MINUTE / 60) < MINUTE / 60);
    }
}
