//! Due times by the wall clock: the same on every machine, so that replicas can share them.
//!
//! Pure: times are seconds since the Unix epoch.

use std::time::Duration;

use crate::{cron::Cron, units::Name};

/// Which of several exporters with the same configuration this is: of the bursts that are due it fires those whose
/// number leaves its index when divided by the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    index: u32,
    total: u32,
}

impl Default for Replica {
    fn default() -> Self {
        Self { index: 0, total: 1 }
    }
}

impl Replica {
    /// `None` unless `index` is below `total`.
    pub fn new(index: u32, total: u32) -> Option<Self> {
        (index < total).then_some(Self { index, total })
    }

    pub const fn is_alone(self) -> bool {
        self.total == 1
    }

    pub const fn total(self) -> u32 {
        self.total
    }

    fn fires(self, number: i64) -> bool {
        number.rem_euclid(self.total.into()) == i64::from(self.index)
    }
}

/// The times at which the bursts of one replica are due.
#[derive(Clone, Debug)]
pub struct Rhythm {
    beat: Beat,
    replica: Replica,
}

#[derive(Clone, Debug)]
enum Beat {
    /// Burst n is due at `phase + n × every`.
    Every { phase: f64, every: f64 },
    /// Bursts have the numbers that [`Cron::number`] gives.
    Cron(Box<Cron>),
}

/// Occurrences that are looked through for one that this replica fires: where a clock is turned back, numbers repeat.
const TRIES: u32 = 10_000;

impl Rhythm {
    /// Burst n is due `phase + n × every` after the Unix epoch.
    pub fn every(every: Duration, phase: Duration, replica: Replica) -> Self {
        let beat = Beat::Every {
            phase: phase.as_secs_f64(),
            every: every.as_secs_f64(),
        };
        Self { beat, replica }
    }

    pub fn cron(cron: Cron, replica: Replica) -> Self {
        Self {
            beat: Beat::Cron(Box::new(cron)),
            replica,
        }
    }

    /// The first due time after `unix`. `None` when there is none.
    pub fn after(&self, unix: f64) -> Option<f64> {
        match &self.beat {
            Beat::Every { phase, every } => {
                let number = floor((unix - phase) / every) + 1;
                let total = i64::from(self.replica.total);
                let ours = number + (i64::from(self.replica.index) - number).rem_euclid(total);
                let due = |number: i64| phase + number as f64 * every;
                Some(due(ours))
                    .filter(|due| *due > unix)
                    .or_else(|| Some(due(ours + total)))
            }
            Beat::Cron(cron) => self.ours(cron, cron.after(unix), |unix| cron.after(unix)),
        }
    }

    /// The last due time that is not after `unix`.
    pub fn not_after(&self, unix: f64) -> Option<f64> {
        match &self.beat {
            Beat::Every { phase, every } => {
                let number = floor((unix - phase) / every) + 1;
                let total = i64::from(self.replica.total);
                let ours = number - (number - i64::from(self.replica.index)).rem_euclid(total);
                let due = |number: i64| phase + number as f64 * every;
                Some(due(ours))
                    .filter(|due| *due <= unix)
                    .or_else(|| Some(due(ours - total)))
            }
            Beat::Cron(cron) => self.ours(cron, cron.not_after(unix), |unix| cron.not_after(unix - 1.0)),
        }
    }

    /// How many due times there are after `last`, up to `unix`, and the last of them.
    pub fn passed(&self, last: f64, unix: f64) -> Option<(f64, u32)> {
        let latest = self.not_after(unix).filter(|latest| *latest > last)?;
        let passed = match &self.beat {
            Beat::Every { every, .. } => ((latest - last) / (every * f64::from(self.replica.total))).round(),
            Beat::Cron(_) => {
                let following = std::iter::successors(self.after(last), |due| self.after(*due));
                following.take_while(|due| *due <= latest).count() as f64
            }
        };
        Some((latest, u32::try_from(floor(passed)).unwrap_or(u32::MAX)))
    }

    /// The distance between the due times around `unix`.
    pub fn interval(&self, unix: f64) -> Option<f64> {
        Some(self.after(unix)? - self.not_after(unix)?)
    }

    fn ours(&self, cron: &Cron, first: Option<f64>, next: impl Fn(f64) -> Option<f64>) -> Option<f64> {
        let is_ours = |unix: f64| self.replica.is_alone() || self.replica.fires(cron.number(unix));
        let mut candidate = first?;
        for _ in 0..TRIES {
            if is_ours(candidate) {
                return Some(candidate);
            }
            candidate = next(candidate)?;
        }
        None
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the number of an interval since 1970 is far below 2^63"
)]
fn floor(number: f64) -> i64 {
    number.floor() as i64
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
pub fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
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
    use crate::calendar::tests::{at, paris};

    const HOUR: f64 = 3600.0;

    fn replicas(total: u32) -> impl Iterator<Item = Replica> {
        (0..total).map(move |index| Replica::new(index, total).unwrap())
    }

    fn due(rhythm: &Rhythm, from: f64, hours: f64) -> Vec<f64> {
        let times = std::iter::successors(rhythm.after(from), |due| rhythm.after(*due));
        times.take_while(|due| *due <= from + hours * HOUR).collect()
    }

    fn cron(text: &str) -> Cron {
        Cron::new(text, paris()).unwrap()
    }

    /// The due times of each replica over `hours`, checked to be those of a lonely one, each fired once.
    #[track_caller]
    fn shares(rhythm: impl Fn(Replica) -> Rhythm, total: u32, from: f64, hours: f64) -> Vec<usize> {
        let alone = due(&rhythm(Replica::default()), from, hours);
        let shares: Vec<Vec<f64>> = replicas(total)
            .map(|replica| due(&rhythm(replica), from, hours))
            .collect();
        let mut all: Vec<f64> = shares.concat();
        all.sort_by(f64::total_cmp);
        assert_eq!(all, alone);
        shares.iter().map(Vec::len).collect()
    }

    #[test]
    fn replicas_share_a_day_evenly() {
        let from = at("2026-11-24T00:00:00Z") + 0.123;
        for (seconds, millis, total, each) in [
            (60, 0, 2, 720),
            (60, 0, 3, 480),
            (7, 0, 2, 6171),
            (0, 100, 4, 216_000),
        ] {
            let every = Duration::from_secs(seconds) + Duration::from_millis(millis);
            let phase = Duration::from_millis(37);
            let shares = shares(|replica| Rhythm::every(every, phase, replica), total, from, 24.0);
            assert!(shares.iter().all(|share| share.abs_diff(each) <= 1), "{shares:?}");
        }
        for (text, total, each) in [
            ("*/5 8-18 * * *", 2, 66),
            ("*/10 * * * *", 3, 48),
            ("* * * * *", 7, 206),
        ] {
            let shares = shares(|replica| Rhythm::cron(cron(text), replica), total, from, 24.0);
            assert!(
                shares.iter().all(|share| share.abs_diff(each) <= 1),
                "{text}: {shares:?}"
            );
        }
    }

    #[test]
    fn replicas_share_across_days_months_and_clock_changes() {
        let year = 366.0 * 24.0;
        let from = at("2026-01-01T00:00:00Z");
        // Those that occur less than once a day, or whose count a day is a multiple of the total, alternate, too.
        for (text, total, all) in [
            ("0 9 * * *", 2, 366),
            ("0 9 1 * *", 2, 12),
            ("0 6,18 * * Mon-Fri", 2, 522),
        ] {
            let shares = shares(|replica| Rhythm::cron(cron(text), replica), total, from, year);
            assert!(
                shares.iter().all(|share| share.abs_diff(all / 2) <= 1),
                "{text}: {shares:?}"
            );
        }
        let shares = shares(
            |replica| Rhythm::cron(cron("*/20 * * * *"), replica),
            2,
            from,
            year,
        );
        assert!(
            shares[0].abs_diff(shares[1]) <= 4,
            "the hour that the clock shows twice: {shares:?}"
        );
    }

    #[test]
    fn due_times_are_the_same_whenever_one_looks() {
        for replica in replicas(3) {
            for rhythm in [
                Rhythm::every(Duration::from_millis(2_500), Duration::from_millis(777), replica),
                Rhythm::cron(cron("*/7 * * * *"), replica),
            ] {
                let from = at("2026-11-24T10:00:00Z");
                let times = due(&rhythm, from, 1.0);
                for pair in times.windows(2) {
                    let [first, second] = [pair[0], pair[1]];
                    assert_eq!(rhythm.not_after(first), Some(first));
                    let middle = f64::midpoint(first, second);
                    assert_eq!(rhythm.not_after(middle), Some(first));
                    assert_eq!(rhythm.after(middle), Some(second));
                    assert_eq!(rhythm.interval(middle), Some(second - first));
                    assert_eq!(rhythm.passed(first, middle), None);
                    assert_eq!(rhythm.passed(first, second), Some((second, 1)));
                }
                let (first, last) = (times[0], *times.last().unwrap());
                let passed = u32::try_from(times.len()).unwrap() - 1;
                assert_eq!(rhythm.passed(first, last), Some((last, passed)));
            }
        }
    }

    #[test]
    fn an_index_is_below_the_total() {
        assert_eq!(Replica::new(2, 2), None);
        assert_eq!(Replica::new(0, 0), None);
        assert_eq!(Replica::new(0, 1), Some(Replica::default()));
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
        assert!(phases.iter().all(|phase| *phase < Duration::from_mins(1)));
        for quarter in 0..4 {
            let within = phases
                .iter()
                .filter(|phase| (**phase / 15).as_secs() == quarter)
                .count();
            assert!((200..300).contains(&within), "{within} in quarter {quarter}");
        }
        let again = phase(&name("probe"), &name("target-0"), Duration::from_mins(5));
        assert_eq!(phases.first(), Some(&again));
        assert!(phase(&name("a"), &name("b"), Duration::from_mins(1) / 60) < Duration::from_mins(1) / 60);
    }
}
