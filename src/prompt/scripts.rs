//! Prompts that are written down, and which of them comes when.

use std::sync::Arc;

use super::Script;

/// At least one; each is asked as often as its weight says.
#[derive(Clone, Debug, PartialEq)]
pub struct Scripts {
    scripts: Arc<[Script]>,
    /// Where the share of each ends on a circle of 2^64; empty where all weigh the same.
    ends: Arc<[u64]>,
}

impl Scripts {
    pub const LEAST_WEIGHT: f64 = 0.001;
    pub const MOST_WEIGHT: f64 = 1_000_000.0;

    /// A step around the circle of 2^64: its golden section. No other step spreads what is visited more evenly.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Each with its weight, between the least and the most. `None` of none.
    pub fn weighted(scripts: Vec<(Script, f64)>) -> Option<Self> {
        let (_, first) = scripts.first()?;
        let are_alike = scripts.iter().all(|(_, weight)| weight.total_cmp(first).is_eq());
        let ends = if are_alike {
            Vec::new()
        } else {
            let total: f64 = scripts.iter().map(|(_, weight)| weight).sum();
            let sums = scripts.iter().scan(0.0, |sum, (_, weight)| {
                *sum += weight;
                Some(*sum)
            });
            sums.map(|sum| around(sum / total)).collect()
        };
        Some(Self {
            scripts: scripts.into_iter().map(|(script, _)| script).collect(),
            ends: ends.into(),
        })
    }

    /// One.
    pub fn only(script: Script) -> Self {
        Self {
            scripts: Arc::new([script]),
            ends: Arc::new([]),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Script> {
        self.scripts.iter()
    }

    /// Where the share of each ends on a circle of 2^64; empty where all weigh the same.
    pub fn shares(&self) -> &[u64] {
        &self.ends
    }

    /// The most turns that one has.
    pub fn most_turns(&self) -> u32 {
        let turns = self.iter().map(|script| script.turns.len()).max();
        turns.and_then(|turns| turns.try_into().ok()).unwrap_or(1)
    }

    /// The one that comes after `number` others: in turn where all weigh the same, else spread as evenly as their
    /// weights allow, so that one that weighs less than a third never comes twice in a row.
    pub(super) fn get(&self, number: u64) -> &Script {
        let last = self.scripts.len() - 1;
        let at = if self.ends.is_empty() {
            usize::try_from(number % self.scripts.len() as u64).unwrap_or(last)
        } else {
            let at = number.wrapping_mul(Self::STEP);
            self.ends.partition_point(|end| *end <= at).min(last)
        };
        self.scripts.get(at).expect("there is at least one")
    }
}

/// A share of the circle.
fn around(share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is between 0 and 1, and what does not fit becomes the nearest that does"
    )]
    let end = (share * 2.0_f64.powi(64)) as u64;
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scripts(weights: &[f64]) -> Scripts {
        let script = |(at, weight): (usize, &f64)| (Script::of_text(at.to_string()), *weight);
        Scripts::weighted(weights.iter().enumerate().map(script).collect()).unwrap()
    }

    /// Which scripts come.
    fn drawn(weights: &[f64], from: u64, count: usize) -> Vec<usize> {
        let scripts = scripts(weights);
        let at = |number| scripts.get(number).turns[0].parse().unwrap();
        (from..).take(count).map(at).collect()
    }

    #[test]
    fn equal_weights_come_in_turn() {
        assert_eq!(drawn(&[1.0; 3], 5, 4), [2, 0, 1, 2]);
        assert_eq!(drawn(&[0.3], u64::MAX - 2, 2), [0, 0]);
        assert!(Scripts::weighted(Vec::new()).is_none());
    }

    #[test]
    fn a_heavy_one_is_not_asked_in_heaps() {
        let often = drawn(&[3.0, 1.0], 0, 400);
        let rare = often.iter().filter(|at| **at == 1).count();
        assert!(rare.abs_diff(100) <= 1, "{rare}");
        let between: Vec<_> = often.split(|at| *at == 1).map(<[_]>::len).collect();
        let inner = &between[1..between.len() - 1];
        assert!(inner.iter().all(|run| (1..=4).contains(run)), "{inner:?}");
    }

    proptest! {
        /// In the long run as often as the weights say, and never far from it: the golden section's bound.
        #[test]
        fn weights_are_kept_evenly(
            weights in prop::collection::vec(Scripts::LEAST_WEIGHT..100.0, 2..9),
            from in 0..u64::MAX / 2,
            count in 1_usize..3000,
        ) {
            let drawn = drawn(&weights, from, count);
            let total: f64 = weights.iter().sum();
            for (script, weight) in weights.iter().enumerate() {
                let share = weight / total;
                let asked = drawn.iter().filter(|at| **at == script).count() as f64;
                let off = (asked - share * count as f64).abs();
                prop_assert!(off < 2.0 + (count as f64).ln(), "{asked} of {count} where the share is {share}");
                if share < 0.38 {
                    prop_assert!(drawn.windows(2).all(|pair| pair[0] != pair[1] || pair[0] != script));
                }
                let asked: Vec<_> = (0..count).filter(|at| drawn[*at] == script).collect();
                let longest = asked.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
                prop_assert!(longest as f64 <= 4.0 / share, "{longest} where the share is {share}");
            }
        }
    }
}
