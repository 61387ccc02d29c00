//! What is usual for a series: its learned baseline, which a fault of hours hardly moves and a change that lasts
//! moves within days. No clock: the time of day is passed in.
//!
//! The definition, per series and for the medians of its bursts (time to first token, inter-token latency, time to
//! connect): the first [`FEWEST`] good bursts give none; up to [`EARLY`] good bursts the baseline is the median of
//! their medians; from then on each good burst moves it towards its own median, by at most [`STEP_PER_HOUR`] of
//! itself for each hour since the good burst before, of which at most [`LONGEST_PAUSE_HOURS`] count. A burst is good
//! when none of its requests failed, was invalid or was withheld. So six hours of a fault move it by 3 % at most,
//! and a latency that doubles for good is the new baseline after six days.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{lasting::Lasting, quantile::percentile, units::Seconds};

/// Good bursts before there is a baseline.
pub const FEWEST: u64 = 10;

/// Good bursts whose median is the baseline.
pub const EARLY: usize = 30;

/// By how much of itself a baseline moves in an hour, at most.
pub const STEP_PER_HOUR: f64 = 0.005;

/// A longer time without a good burst counts as this long.
pub const LONGEST_PAUSE_HOURS: f64 = 3.0;

/// What was not learned from for so long is forgotten when the program starts.
const FORGOTTEN_AFTER_SECONDS: f64 = 90.0 * 86_400.0;

/// The medians of one burst, or what they usually are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Medians {
    pub ttft: Option<Seconds>,
    pub itl: Option<Seconds>,
    /// DNS, TCP and TLS together; `None` on reused connections.
    pub connecting: Option<Seconds>,
    /// TCP alone, which is one round trip; `None` on reused connections.
    pub round_trip: Option<Seconds>,
    /// Output tokens for each read that carried any.
    pub tokens_per_arrival: Option<f64>,
}

/// The baseline of one series, as it is kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Good bursts that were learned from.
    bursts: u64,
    /// When the last one was, in seconds since the Unix epoch.
    last: f64,
    ttft: Track,
    itl: Track,
    connecting: Track,
    /// Not in what earlier versions kept.
    #[serde(default)]
    round_trip: Track,
    tokens_per_arrival: Track,
}

/// One quantity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Track {
    /// The medians of the first bursts, sorted; empty once they are settled.
    early: Vec<f64>,
    /// What they settled on, moved since.
    settled: Option<f64>,
}

impl Baseline {
    /// How many good bursts it was learned from.
    pub fn bursts(&self) -> u64 {
        self.bursts
    }

    /// What is usual; nothing before enough bursts.
    pub fn usual(&self) -> Medians {
        if self.bursts < FEWEST {
            return Medians::default();
        }
        let seconds = |track: &Track| track.value().map(Seconds::new);
        Medians {
            ttft: seconds(&self.ttft),
            itl: seconds(&self.itl),
            connecting: seconds(&self.connecting),
            round_trip: seconds(&self.round_trip),
            tokens_per_arrival: self.tokens_per_arrival.value(),
        }
    }

    /// Whether it can be what was learned: a file may hold anything.
    fn is_sound(&self) -> bool {
        [
            &self.ttft,
            &self.itl,
            &self.connecting,
            &self.round_trip,
            &self.tokens_per_arrival,
        ]
        .into_iter()
        .all(Track::is_sound)
    }

    /// Learns from a good burst, at so many seconds since the Unix epoch.
    pub fn learn(&mut self, burst: Medians, at: f64) {
        let hours = if self.bursts == 0 {
            0.0
        } else {
            // Clocks may be set back.
            ((at - self.last) / 3600.0).clamp(0.0, LONGEST_PAUSE_HOURS)
        };
        self.bursts = self.bursts.saturating_add(1);
        self.last = at;
        let step = (STEP_PER_HOUR * hours).ln_1p();
        for (track, median) in [
            (&mut self.ttft, burst.ttft),
            (&mut self.itl, burst.itl),
            (&mut self.connecting, burst.connecting),
            (&mut self.round_trip, burst.round_trip),
        ] {
            track.learn(median.map(Seconds::get), step);
        }
        self.tokens_per_arrival.learn(burst.tokens_per_arrival, step);
    }
}

impl Track {
    fn value(&self) -> Option<f64> {
        self.settled.or_else(|| percentile(&self.early, 50))
    }

    fn is_sound(&self) -> bool {
        let mut values = self.early.iter().chain(&self.settled);
        self.early.len() < EARLY && self.early.is_sorted() && values.all(|value| *value > 0.0)
    }

    /// `step`: by how much the logarithm may move.
    fn learn(&mut self, median: Option<f64>, step: f64) {
        // Nothing can be said of ratios to 0.
        let Some(median) = median.filter(|median| *median > 0.0) else {
            return;
        };
        if let Some(settled) = self.settled {
            let distance = (median / settled).ln();
            self.settled = Some(settled * distance.clamp(-step, step).exp());
            return;
        }
        let place = self.early.partition_point(|early| *early <= median);
        self.early.insert(place, median);
        if self.early.len() >= EARLY {
            self.settled = percentile(&self.early, 50);
            self.early = Vec::new();
        }
    }
}

/// The baselines of all series, by whatever names a series.
pub type Baselines = Lasting<Baseline>;

impl Baselines {
    /// Takes up what was kept, as far as it is sound and not too old `at` the moment.
    pub fn restore(&self, kept: &BTreeMap<String, Baseline>, at: f64) {
        let is_fresh = |baseline: &Baseline| at - baseline.last <= FORGOTTEN_AFTER_SECONDS;
        self.take_up(kept, |baseline| baseline.is_sound() && is_fresh(baseline));
    }

    /// Learns from a good burst, at so many seconds since the Unix epoch.
    pub fn learn(&self, name: &str, burst: Medians, at: f64) {
        self.change(name, |baseline| baseline.learn(burst, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(ttft: f64) -> Medians {
        Medians {
            ttft: Some(Seconds::new(ttft)),
            itl: Some(Seconds::new(0.01)),
            connecting: None,
            round_trip: None,
            tokens_per_arrival: Some(1.0),
        }
    }

    /// A burst a minute, from `minutes.start` to `minutes.end`.
    fn teach(baseline: &mut Baseline, minutes: std::ops::Range<u32>, ttft: impl Fn(u32) -> f64) {
        for minute in minutes {
            baseline.learn(burst(ttft(minute)), 1e9 + 60.0 * f64::from(minute));
        }
    }

    fn ttft(baseline: &Baseline) -> f64 {
        baseline.usual().ttft.unwrap().get()
    }

    #[test]
    fn a_baseline_takes_a_few_bursts_and_one_of_them_may_be_odd() {
        let mut baseline = Baseline::default();
        teach(&mut baseline, 0..9, |minute| if minute == 3 { 9.0 } else { 0.2 });
        assert_eq!(baseline.usual(), Medians::default());
        teach(&mut baseline, 9..10, |_| 0.2);
        assert_eq!(baseline.usual().ttft, Some(Seconds::new(0.2)));
        assert_eq!(baseline.usual().connecting, None);
        assert_eq!(baseline.bursts(), 10);
    }

    #[test]
    fn it_does_not_follow_a_fault_and_follows_what_lasts() {
        const DAY: u32 = 24 * 60;
        let mut baseline = Baseline::default();
        let noisy = |minute: u32| 0.2 * (1.0 + 0.1 * f64::from(minute % 7) / 7.0);
        teach(&mut baseline, 0..DAY, noisy);
        let before = ttft(&baseline);
        assert!((0.2..0.22).contains(&before), "{before}");
        teach(&mut baseline, DAY..DAY + 6 * 60, |_| 41.7);
        let after = ttft(&baseline);
        assert!(after / before < 1.0305, "{before} → {after}");
        teach(&mut baseline, DAY + 6 * 60..2 * DAY, noisy);
        assert!((ttft(&baseline) / before - 1.0).abs() < 0.02);
        teach(&mut baseline, 2 * DAY..9 * DAY, |minute| 2.0 * noisy(minute));
        let followed = ttft(&baseline);
        assert!((0.39..0.45).contains(&followed), "{followed}");
    }

    #[test]
    fn neither_pauses_nor_clocks_that_are_set_let_it_jump() {
        let mut baseline = Baseline::default();
        teach(&mut baseline, 0..40, |_| 0.2);
        for later in [1e9, -1e9] {
            let mut baseline = baseline.clone();
            baseline.learn(burst(9.0), 1e9 + later);
            let moved = ttft(&baseline) / 0.2;
            assert!((1.0..1.0151).contains(&moved), "{later}: {moved}");
        }
    }

    #[test]
    fn it_survives_being_kept() {
        let baselines = Baselines::default();
        for minute in 0..35 {
            baselines.learn("a", burst(0.2), 1e9 + 60.0 * f64::from(minute));
        }
        assert!(baselines.have_changed() && !baselines.have_changed());
        let text = serde_json::to_string(&baselines.kept()).unwrap();
        let again = Baselines::default();
        again.restore(&serde_json::from_str(&text).unwrap(), 1e9 + 1e5);
        assert_eq!(again.of("a"), baselines.of("a"));
        assert_eq!(again.of("b"), Baseline::default());
        let late = Baselines::default();
        late.restore(&baselines.kept(), 1e9 + 1e8);
        assert_eq!(late.of("a"), Baseline::default());
    }

    /// An earlier version did not tell the round trip from connecting.
    #[test]
    fn what_an_earlier_version_kept_is_taken_up() {
        let round_trip = Medians {
            round_trip: Some(Seconds::new(0.001)),
            ..burst(0.2)
        };
        let mut baseline = Baseline::default();
        for minute in 0..12 {
            baseline.learn(round_trip, 1e9 + 60.0 * f64::from(minute));
        }
        let mut kept = serde_json::to_value(BTreeMap::from([("a", &baseline)])).unwrap();
        assert!(kept["a"].as_object_mut().unwrap().remove("round_trip").is_some());
        let baselines = Baselines::default();
        baselines.restore(&serde_json::from_value(kept).unwrap(), 1e9);
        let usual = baselines.of("a").usual();
        assert_eq!((usual.ttft, usual.round_trip), (Some(Seconds::new(0.2)), None));
        baselines.learn("a", round_trip, 1e9);
        assert_eq!(baselines.of("a").usual().round_trip, round_trip.round_trip);
    }

    #[test]
    fn nonsense_in_a_file_is_not_taken_up() {
        let mut baseline = Baseline::default();
        teach(&mut baseline, 0..40, |_| 0.2);
        let text = serde_json::to_string(&BTreeMap::from([("a", &baseline)])).unwrap();
        let taken_up = |text: &str| {
            let baselines = Baselines::default();
            baselines.restore(&serde_json::from_str(text).unwrap(), 1e9);
            baselines.of("a")
        };
        assert_eq!(taken_up(&text), baseline);
        for nonsense in ["\"settled\":-0.2", "\"settled\":0.0"] {
            let wrong = text.replacen("\"settled\":0.2", nonsense, 1);
            assert_ne!(wrong, text);
            assert_eq!(taken_up(&wrong), Baseline::default(), "{nonsense}");
        }
    }
}
