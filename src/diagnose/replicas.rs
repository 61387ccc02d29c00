//! Whether the replicas behind an endpoint are equally fast.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::quantile::percentile;

/// Requests that a replica needs to be compared.
const FEWEST: usize = 3;

/// More replicas are not told apart: whoever names them may not take memory without end.
const MOST: usize = 64;

/// The latencies of each replica, in seconds, by its name.
#[derive(Debug, Default)]
pub(super) struct Replicas(BTreeMap<String, [Vec<f64>; 2]>);

/// How unequal the replicas of one burst were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Replicas that answered enough requests to be compared, at least 2.
    pub replicas: usize,
    /// Requests of the one that answered fewest.
    pub fewest_requests: usize,
    /// The slowest one's median over the fastest one's.
    pub ttft: Option<f64>,
    pub itl: Option<f64>,
    /// Whether three quarters of the slowest one's requests took longer than three quarters of the fastest one's, in
    /// time to first token or inter-token latency, and half as long again at the median.
    pub unequal: bool,
}

impl Replicas {
    pub(super) fn add(&mut self, replica: &str, ttft: Option<f64>, itl: Option<f64>) {
        if !self.0.contains_key(replica) {
            if self.0.len() == MOST {
                return;
            }
            self.0.insert(replica.to_owned(), Default::default());
        }
        if let Some([ttfts, itls]) = self.0.get_mut(replica) {
            ttfts.extend(ttft);
            itls.extend(itl);
        }
    }

    /// `None` with fewer than two replicas.
    pub(super) fn spread(self) -> Option<Spread> {
        let compared: Vec<[Vec<f64>; 2]> = self
            .0
            .into_values()
            .filter(|[ttfts, _]| ttfts.len() >= FEWEST)
            .collect();
        if compared.len() < 2 {
            return None;
        }
        let fewest_requests = compared.iter().map(|[ttfts, _]| ttfts.len()).min()?;
        let [ttft, itl] = [0, 1].map(|of| apart(compared.iter().filter_map(|both| both.get(of))));
        Some(Spread {
            replicas: compared.len(),
            fewest_requests,
            ttft: ttft.map(|(ratio, _)| ratio),
            itl: itl.map(|(ratio, _)| ratio),
            unequal: [ttft, itl]
                .into_iter()
                .flatten()
                .any(|(ratio, disjoint)| ratio >= 1.5 && disjoint),
        })
    }
}

/// The slowest one's median over the fastest one's, and whether their quartiles are apart.
fn apart(each: impl Iterator<Item = impl AsRef<[f64]>>) -> Option<(f64, bool)> {
    let mut quartiles: Vec<[f64; 3]> = each
        .filter(|values| values.as_ref().len() >= FEWEST)
        .filter_map(|values| {
            let mut sorted = values.as_ref().to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let last = sorted.len() - 1;
            Some([
                *sorted.get(last / 4)?,
                percentile(&sorted, 50)?,
                *sorted.get(last - last / 4)?,
            ])
        })
        .collect();
    quartiles.sort_unstable_by(|[_, a, _], [_, b, _]| a.total_cmp(b));
    let ([_, fast, fast_high], [slow_low, slow, _]) = (quartiles.first()?, quartiles.last()?);
    (quartiles.len() > 1 && *fast > 0.0).then(|| (slow / fast, slow_low > fast_high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_is_compared_with_the_fastest() {
        let mut replicas = Replicas::default();
        for n in 0..10 {
            let jitter = 1.0 + 0.01 * f64::from(n);
            replicas.add("10.0.0.1:80", Some(0.2 * jitter), Some(0.010));
            replicas.add("10.0.0.2:80", Some(0.2 * jitter), Some(0.010));
            replicas.add("10.0.0.3:80", Some(0.8 * jitter), Some(0.010));
        }
        replicas.add("seen once", Some(99.0), None);
        let spread = replicas.spread().unwrap();
        assert_eq!((spread.replicas, spread.fewest_requests), (3, 10));
        assert!((spread.ttft.unwrap() - 4.0).abs() < 1e-9 && (spread.itl.unwrap() - 1.0).abs() < 1e-9);
        assert!(spread.unequal);
    }

    #[test]
    fn chance_is_not_inequality() {
        let mut replicas = Replicas::default();
        for n in 0..5 {
            replicas.add("a", Some(1.0 + f64::from(n)), None);
            replicas.add("b", Some(2.0 + 1.5 * f64::from(n)), None);
        }
        let spread = replicas.spread().unwrap();
        assert!(!spread.unequal && spread.itl.is_none(), "{spread:?}");
    }

    #[test]
    fn one_replica_is_nothing_to_compare() {
        let mut replicas = Replicas::default();
        for _ in 0..5 {
            replicas.add("a", Some(1.0), None);
        }
        assert_eq!(replicas.spread(), None);
        let mut endless = Replicas::default();
        for n in 0..1000 {
            endless.add(&n.to_string(), Some(1.0), None);
        }
        assert_eq!(endless.0.len(), MOST);
    }
}
