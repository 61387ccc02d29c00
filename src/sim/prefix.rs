//! A prefix cache: which beginnings of prompts the engine has worked on before. No clock.

use std::collections::HashMap;

/// The prefixes that are held, each under the hash over all its tokens, with when it was last used.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    used: HashMap<u64, u64>,
    clock: u64,
}

impl PrefixCache {
    /// Tokens at the beginning of a prompt that need no work; never all of them, since the last one has to be
    /// worked on to get the first token of the answer.
    pub(super) fn find(&mut self, prefixes: &[u64]) -> u64 {
        self.clock += 1;
        let most = prefixes.len().saturating_sub(1);
        let mut found = 0;
        for prefix in prefixes.iter().take(most) {
            let Some(used) = self.used.get_mut(prefix) else {
                break;
            };
            *used = self.clock;
            found += 1;
        }
        found
    }

    /// A prompt was worked on. Beyond `capacity` tokens, the half that was used longest ago is forgotten.
    pub(super) fn insert(&mut self, prefixes: &[u64], capacity: usize) {
        self.clock += 1;
        for prefix in prefixes.iter().take(capacity) {
            self.used.insert(*prefix, self.clock);
        }
        if self.used.len() > capacity {
            let mut ages: Vec<_> = self.used.values().copied().collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            self.used.retain(|_, used| *used >= median);
            if self.used.len() > capacity {
                self.used.retain(|_, used| *used > median); // one prompt holds more than half
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_beginning_is_found() {
        let mut cache = PrefixCache::default();
        cache.insert(&[1, 2, 3, 4], 100);
        cache.insert(&[1, 2, 30], 100);
        for (prompt, found) in [
            (&[1, 2, 3, 4][..], 3), // the last token always needs work
            (&[1, 2, 3, 4, 5, 6], 4),
            (&[1, 2, 30, 40], 3),
            (&[1, 2, 9, 4], 2),
            (&[9, 2, 3, 4], 0),
            (&[1], 0),
            (&[], 0),
        ] {
            assert_eq!(cache.find(prompt), found, "{prompt:?}");
        }
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let mut cache = PrefixCache::default();
        cache.insert(&[1, 2, 3], 8);
        cache.insert(&[10, 20, 30], 8);
        assert_eq!(cache.find(&[1, 2, 3, 4]), 3);
        cache.insert(&[100, 200, 300], 8);
        assert_eq!(cache.find(&[10, 20, 30, 40]), 0);
        assert_eq!(cache.find(&[1, 2, 3, 4]), 3);
        assert_eq!(cache.find(&[100, 200, 300, 400]), 3);
        cache.insert(&(0..1000).collect::<Vec<_>>(), 8);
        assert!(cache.used.len() <= 8);
    }
}
