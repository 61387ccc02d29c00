//! Whether bursts become due as they should: each one is begun, or skipped for a reason that is counted.

use std::{collections::BTreeMap, time::Duration};

use crate::process::Samples;

/// When the count of each series last rose, and the longest that any took.
#[derive(Debug, Default)]
pub(crate) struct Punctual {
    last: BTreeMap<String, (f64, Duration)>,
    looked: Duration,
    pub(crate) checked: u64,
    pub(crate) longest: Duration,
}

impl Punctual {
    /// A scrape at a time: what is too late. What rose since the last look may have done so just after that.
    pub(crate) fn read(&mut self, samples: &Samples, at: Duration, allowed: Duration) -> Vec<String> {
        let allowed = allowed + at.saturating_sub(self.looked);
        self.looked = at;
        let mut late = Vec::new();
        let mut now = BTreeMap::new();
        for (series, begun) in samples.find("bursts_total", &[]) {
            let labels = series
                .trim_start_matches("llm_probe_bursts_total{")
                .trim_end_matches('}');
            let due = begun + samples.sum("bursts_skipped_total", &[labels]);
            let (before, since) = self.last.get(labels).copied().unwrap_or((due, at));
            let rose = due > before;
            let waited = at.saturating_sub(since);
            self.checked += 1;
            self.longest = self.longest.max(waited);
            if waited > allowed {
                late.push(format!("no burst of {labels} was due for {waited:?}"));
            }
            now.insert(
                labels.to_owned(),
                (due, if rose || waited > allowed { at } else { since }),
            );
        }
        self.last = now;
        late
    }

    /// The exporter stood still until now.
    pub(crate) fn excuse(&mut self, at: Duration) {
        self.looked = at;
        for (_, since) in self.last.values_mut() {
            *since = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_that_are_neither_begun_nor_skipped_are_found() {
        let scrape = |begun: u32, skipped: u32| {
            Samples::parse(&format!(
                "llm_probe_bursts_total{{probe=\"p\"}} {begun}\nllm_probe_bursts_skipped_total{{probe=\"p\",reason=\"late\"}} {skipped}\n"
            ))
        };
        // Looked at every two seconds, which count twice.
        let (second, allowed) = (Duration::from_secs, Duration::from_secs(1));
        let mut punctual = Punctual::default();
        assert!(punctual.read(&scrape(1, 0), second(1), allowed).is_empty());
        assert!(punctual.read(&scrape(2, 0), second(3), allowed).is_empty());
        assert!(punctual.read(&scrape(2, 1), second(5), allowed).is_empty());
        assert!(punctual.read(&scrape(2, 1), second(7), allowed).is_empty());
        assert_eq!(punctual.read(&scrape(2, 1), second(9), allowed).len(), 1);
        punctual.excuse(second(20));
        assert!(punctual.read(&scrape(2, 1), second(21), allowed).is_empty());
        assert!(punctual.read(&scrape(2, 1), second(22), allowed).is_empty());
        assert_eq!(punctual.read(&scrape(2, 1), second(23), allowed).len(), 1);
    }
}
