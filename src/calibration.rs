//! How many tokens a server makes of our words, learned from its own counts, so that a made-up prompt of N tokens has
//! N tokens there. No clock: the time of day is passed in.
//!
//! The model: tokens of a prompt = overhead + words × tokens per word. The overhead is what a chat template and a
//! system prompt add; it is part of the N, because it is part of what the server has to work on and counts.
//!
//! The slope is the median of the slopes between every two counts, each with the weight of how far they are apart in
//! words (Theil–Sen, weighted); the overhead is the median of what is left. So a count may be anything now and then.
//! Two prompts of clearly different lengths are enough for both. With one, all is taken to be words as far as it can
//! be, which at least meets prompts of that length.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{lasting::Lasting, units::Tokens};

/// Counts that are remembered, the latest ones.
const MOST_COUNTS: usize = 24;

/// Of prompts of the same length.
const MOST_OF_A_LENGTH: usize = 3;

/// Tokens that a short English word may be: a tokenizer of single bytes makes less than eight of one, and none joins
/// two.
const TOKENS_PER_WORD: std::ops::RangeInclusive<f64> = 0.5..=8.0;

/// What one is taken to be at most as long as only prompts of about one length were counted; the rest is overhead.
const USUAL_AT_MOST: f64 = 2.0;

/// From here on the difference says more of the words than of the noise.
const CLEARLY_LONGER: f64 = 1.25;

/// Counts that are farther than this from the model, as a share or in tokens, are not made by it.
const FAR: (f64, f64) = (0.1, 3.0);

/// What was not learned from for so long is forgotten when the program starts.
const FORGOTTEN_AFTER_SECONDS: f64 = 90.0 * 86_400.0;

/// How many tokens some words are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    overhead: f64,
    tokens_per_word: f64,
}

impl Fit {
    /// Before anything was counted.
    pub const ASSUMED: Self = Self {
        overhead: 0.0,
        tokens_per_word: 1.0,
    };

    pub fn tokens_per_word(&self) -> f64 {
        self.tokens_per_word
    }

    /// What every prompt has beside its words, in tokens.
    pub fn overhead(&self) -> f64 {
        self.overhead
    }

    /// The words of a prompt of so many tokens: at least one, also where the overhead alone is more.
    pub fn words_of_prompt(&self, tokens: Tokens) -> u64 {
        self.words((tokens.0 as f64 - self.overhead).max(0.0)).max(1)
    }

    /// The words that are so many tokens, without any overhead.
    pub fn words_of_text(&self, tokens: Tokens) -> u64 {
        self.words(tokens.0 as f64)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither is negative, and `as` saturates"
    )]
    fn words(&self, tokens: f64) -> u64 {
        (tokens / self.tokens_per_word).round() as u64
    }

    fn tokens(&self, words: u64) -> f64 {
        (words as f64).mul_add(self.tokens_per_word, self.overhead)
    }
}

/// A prompt of so many made-up words and how many tokens the server counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub words: u64,
    pub tokens: Tokens,
}

impl Count {
    /// Whether it can be true.
    fn is_sound(&self) -> bool {
        self.words > 0 && self.tokens > Tokens(0) && self.tokens < Tokens::MOST
    }
}

/// What was learned of one kind of request to one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Oldest first; of different lengths as far as there are any.
    counts: Vec<Count>,
    /// When the last one was learned, in seconds since the Unix epoch.
    last: f64,
}

impl Calibration {
    /// Learns a count, at so many seconds since the Unix epoch. One that cannot be true is passed over.
    pub fn learn(&mut self, count: Count, at: f64) {
        if !count.is_sound() {
            return;
        }
        let is_as_long = |other: &Count| other.words == count.words;
        let first = self.counts.iter().position(is_as_long);
        if self.counts.iter().filter(|other| is_as_long(other)).count() >= MOST_OF_A_LENGTH
            && let Some(first) = first
        {
            self.counts.remove(first);
        } else if self.counts.len() >= MOST_COUNTS {
            self.counts.remove(0);
        }
        self.counts.push(count);
        self.last = at;
    }

    /// Whether it can be what was learned: a file may hold anything, and to fit counts takes their square in time.
    fn is_sound(&self) -> bool {
        self.counts.len() <= MOST_COUNTS && self.counts.iter().all(Count::is_sound)
    }

    /// Whether prompts of clearly different lengths were counted, so that nothing has to be assumed.
    pub fn is_known(&self) -> bool {
        let words = || self.counts.iter().map(|count| count.words as f64);
        let (shortest, longest) = (words().fold(f64::MAX, f64::min), words().fold(0.0, f64::max));
        longest >= shortest * CLEARLY_LONGER
    }

    /// What the counts say; `None` where there are none, or none that words could make.
    pub fn fit(&self) -> Option<Fit> {
        let fit = if self.is_known() {
            self.line()
        } else {
            self.of_one_length()
        }?;
        let is_near = TOKENS_PER_WORD.contains(&fit.tokens_per_word) && self.distance(&fit)? <= 1.0;
        is_near.then_some(fit)
    }

    fn line(&self) -> Option<Fit> {
        let mut slopes = Vec::new();
        for (at, one) in self.counts.iter().enumerate() {
            for other in self.counts.iter().skip(at + 1) {
                let apart = other.words as f64 - one.words as f64;
                if apart != 0.0 {
                    let more = other.tokens.0 as f64 - one.tokens.0 as f64;
                    slopes.push((more / apart, apart.abs()));
                }
            }
        }
        self.with_slope(weighted_median(slopes)?)
    }

    fn of_one_length(&self) -> Option<Fit> {
        self.with_slope(self.ratio()?.min(USUAL_AT_MOST))
    }

    /// The overhead is what is left; where less than nothing is left, the slope was wrong.
    fn with_slope(&self, tokens_per_word: f64) -> Option<Fit> {
        let left = |count: &Count| {
            let left = (count.words as f64).mul_add(-tokens_per_word, count.tokens.0 as f64);
            (left, 1.0)
        };
        let overhead = weighted_median(self.counts.iter().map(left).collect())?;
        let (overhead, tokens_per_word) = if overhead < 0.0 {
            (0.0, self.ratio()?)
        } else {
            (overhead, tokens_per_word)
        };
        Some(Fit {
            overhead,
            tokens_per_word,
        })
    }

    /// Tokens per word where there is no overhead.
    fn ratio(&self) -> Option<f64> {
        let of = |count: &Count| (count.tokens.0 as f64 / count.words as f64, 1.0);
        weighted_median(self.counts.iter().map(of).collect())
    }

    /// How far the counts are from `fit`, the median; beyond 1 it is far.
    fn distance(&self, fit: &Fit) -> Option<f64> {
        let (share, tokens) = FAR;
        let of = |count: &Count| {
            let expected = fit.tokens(count.words);
            let off = (count.tokens.0 as f64 - expected).abs();
            (off / (expected * share).max(tokens), 1.0)
        };
        weighted_median(self.counts.iter().map(of).collect())
    }
}

/// Of pairs of a value and its weight: half of the weight is with values that are not larger. Between two values of
/// which each has a half, it is their mean.
fn weighted_median(mut pairs: Vec<(f64, f64)>) -> Option<f64> {
    pairs.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    let half = pairs.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let mut rest = pairs.iter();
    while let Some(&(value, weight)) = rest.next() {
        sum += weight;
        if sum > half {
            return Some(value);
        }
        if (sum - half).abs() <= half * f64::EPSILON {
            let next = rest.next().map_or(value, |(next, _)| *next);
            return Some(f64::midpoint(value, next));
        }
    }
    None
}

/// Everything that was learned, by what names a target and a kind of request to it.
pub type Calibrations = Lasting<Calibration>;

impl Calibrations {
    /// Takes up what was kept, as far as it is sound and not too old `at` the moment.
    pub fn restore(&self, kept: &BTreeMap<String, Calibration>, at: f64) {
        self.take_up(kept, |calibration| {
            calibration.is_sound() && at - calibration.last <= FORGOTTEN_AFTER_SECONDS
        });
    }

    /// Learns counts, at so many seconds since the Unix epoch.
    pub fn learn(&self, name: &str, counts: &[Count], at: f64) {
        if !counts.is_empty() {
            self.change(name, |calibration| {
                for count in counts {
                    calibration.learn(*count, at);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
