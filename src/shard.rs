//! Several exporters with the same configuration, each of which runs a part of it.
//!
//! Pure. Who runs what is decided by rendezvous hashing: each shard draws a number for a name, and the highest wins. So
//! all of them come to the same answer without asking one another, and one more of them takes away from each of the
//! others the same small part and moves nothing else.

use std::{cmp::Reverse, fmt};

use crate::rhythm::fnv1a;

/// Which of several exporters this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    total: u32,
}

impl Default for Shard {
    /// The only one.
    fn default() -> Self {
        Self { index: 0, total: 1 }
    }
}

impl Shard {
    /// `None` unless `index` is below `total`.
    pub fn new(index: u32, total: u32) -> Option<Self> {
        (index < total).then_some(Self { index, total })
    }

    pub const fn index(self) -> u32 {
        self.index
    }

    pub const fn total(self) -> u32 {
        self.total
    }

    pub const fn is_alone(self) -> bool {
        self.total == 1
    }

    /// Whether this one runs what has that name.
    pub fn runs(self, name: &str) -> bool {
        let drawn = |index: u32| fnv1a(name.bytes().chain([0]).chain(index.to_le_bytes()));
        let highest = (0..self.total).max_by_key(|index| (drawn(*index), Reverse(*index)));
        highest == Some(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {}", self.index, self.total)
    }
}

/// The number at the end of the name of a pod of a `StatefulSet`, which is its host name: 2 in `prober-2`.
pub fn ordinal(host_name: &str) -> Option<u32> {
    let pod = host_name.split('.').next()?;
    let (_, ordinal) = pod.rsplit_once('-')?;
    let is_number = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| ordinal.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: u32 = 3000;

    /// Who runs each name.
    fn runners(total: u32) -> Vec<u32> {
        let runner = |name: u32| {
            let runs = |index: &u32| Shard::new(*index, total).unwrap().runs(&format!("target-{name}"));
            let runners: Vec<u32> = (0..total).filter(runs).collect();
            assert_eq!(runners.len(), 1, "target-{name} of {total}");
            runners[0]
        };
        (0..NAMES).map(runner).collect()
    }

    #[test]
    fn each_name_is_run_once_and_all_run_about_as_many() {
        for total in [1, 2, 3, 7, 16] {
            let runners = runners(total);
            for index in 0..total {
                let share = runners.iter().filter(|runner| **runner == index).count();
                let even = NAMES as usize / total as usize;
                assert!(
                    share.abs_diff(even) < even / 4 + 1,
                    "{index} of {total} runs {share}"
                );
            }
        }
    }

    #[test]
    fn one_more_moves_its_own_part_and_nothing_else() {
        for total in [1, 2, 3, 7] {
            let (before, after) = (runners(total), runners(total + 1));
            let moved: Vec<u32> = before
                .iter()
                .zip(&after)
                .filter(|(before, after)| before != after)
                .map(|(_, after)| *after)
                .collect();
            assert!(moved.iter().all(|to| *to == total), "only to the new one");
            let part = NAMES as usize / (total as usize + 1);
            assert!(
                moved.len().abs_diff(part) < part / 4,
                "{} of {NAMES} moved",
                moved.len()
            );
        }
    }

    /// A release that decided otherwise would let shards of two versions run things twice or not at all.
    #[test]
    fn who_runs_what_stays_over_releases() {
        assert_eq!(runners(3)[..12], [0, 2, 1, 1, 1, 0, 0, 2, 0, 0, 2, 0]);
    }

    #[test]
    fn an_index_is_below_the_total() {
        assert_eq!(Shard::new(2, 2), None);
        assert_eq!(Shard::new(0, 0), None);
        assert_eq!(Shard::new(0, 1), Some(Shard::default()));
    }

    #[test]
    fn pods_are_numbered_at_the_end_of_their_names() {
        for (host_name, expected) in [
            ("prober-0", Some(0)),
            ("llm-probe-exporter-12", Some(12)),
            ("prober-3.prober.monitoring.svc.cluster.local", Some(3)),
            ("prober", None),
            ("prober-", None),
            ("prober-+1", None),
            ("prober-7d9f", None),
            ("prober-99999999999", None),
            ("", None),
        ] {
            assert_eq!(ordinal(host_name), expected, "{host_name}");
        }
    }
}
