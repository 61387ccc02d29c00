//! Which request stands for a histogram: the slowest one since its last burst began. That does not depend on how
//! many scrape, and how often; a request that was scraped before is none that Prometheus stores twice.

use crate::{identity::RequestId, units::Seconds};

/// A request, by the id that its endpoint was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub(super) id: RequestId,
    pub(super) value: f64,
    /// When it was observed, in seconds since the Unix epoch.
    pub(super) unix: f64,
}

impl Exemplar {
    /// The only label. With its value it has 46 characters; OpenMetrics allows 128.
    pub(super) const LABEL: &str = "request_id";
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slowest {
    exemplar: Option<Exemplar>,
    /// A new burst began, and none of its requests has ended.
    outdated: bool,
}

impl Slowest {
    pub(super) fn observe(&mut self, id: RequestId, value: Seconds, unix: f64) {
        let value = value.get();
        let is_slower = self.exemplar.is_none_or(|slowest| value > slowest.value);
        if self.outdated || is_slower {
            self.outdated = false;
            self.exemplar = Some(Exemplar { id, value, unix });
        }
    }

    pub(super) fn burst_begun(&mut self) {
        self.outdated = true;
    }

    pub(super) const fn exemplar(&self) -> Option<Exemplar> {
        self.exemplar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_burst_stands_until_the_next_one_has_one() {
        let mut slowest = Slowest::default();
        let mut seen = |begun: bool, requests: &[(u128, f64)]| {
            if begun {
                slowest.burst_begun();
            }
            for &(id, value) in requests {
                slowest.observe(RequestId::new(id), Seconds::new(value), 5.0);
            }
            slowest.exemplar().map(|exemplar| exemplar.value)
        };
        assert_eq!(seen(true, &[]), None);
        assert_eq!(seen(false, &[(1, 0.2), (2, 0.7), (3, 0.5)]), Some(0.7));
        assert_eq!(seen(true, &[]), Some(0.7));
        assert_eq!(seen(false, &[(4, 0.3), (5, 0.1)]), Some(0.3));
        assert!(Exemplar::LABEL.len() + RequestId::new(1).to_string().len() <= 128);
    }
}
