//! Made-up text of about so many tokens.

use serde::{Deserialize, Serialize};

use crate::units::Tokens;

/// A beginning that all prompts of a probe have in common, while the rest is new each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    pub tokens: Tokens,
    /// The same seed makes the same text.
    pub seed: u64,
}

/// A made-up prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeUp {
    /// How many it is to have.
    pub tokens: Tokens,
    /// How many it is made of.
    pub words: u64,
    /// How many of its tokens others began with before, where that is not all of it.
    pub prefix: Option<Tokens>,
}

/// `shared` words that are the same for the same `seed`, then others up to `words`.
pub(super) fn text(words: u64, shared: u64, seed: u64, random: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    append(&mut text, shared.min(words), &mut fastrand::Rng::with_seed(seed));
    append(&mut text, words.saturating_sub(shared), random);
    text
}

/// Adds so many words. As many as there are in the list are all those of the list in a new order: so the tokens of a
/// text hardly depend on which words were drawn.
fn append(text: &mut String, words: u64, random: &mut fastrand::Rng) {
    let mut deck: Vec<&str> = Vec::new();
    for _ in 0..words {
        if deck.is_empty() {
            deck.extend(WORDS);
            random.shuffle(&mut deck);
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(deck.pop().unwrap_or("the"));
    }
}

/// Words that are one token (with the space before them) in the vocabularies of Llama, Qwen, GPT and Mistral.
const WORDS: &[&str] = &[
    "the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "with", "as", "his",
    "they", "be", "at", "one", "have", "this", "from", "or", "had", "by", "not", "word", "but", "what",
    "some", "we", "can", "out", "other", "were", "all", "there", "when", "up", "use", "your", "how", "said",
    "an", "each", "she", "which", "do", "their", "time", "if", "will", "way", "about", "many", "then",
    "them", "write", "would", "like", "so", "these", "her", "long",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_long_text_are_always_the_same() {
        let sorted = |seed| {
            let whole = text(3 * WORDS.len() as u64, 0, 0, &mut fastrand::Rng::with_seed(seed));
            let mut words: Vec<_> = whole.split(' ').map(str::to_owned).collect();
            words.sort();
            (whole, words)
        };
        let ((one, of_one), (other, of_other)) = (sorted(1), sorted(2));
        assert_ne!(one, other);
        assert_eq!(of_one, of_other);
    }

    #[test]
    fn a_text_begins_with_what_is_shared() {
        let made = |words, shared, seed| text(words, shared, 7, &mut fastrand::Rng::with_seed(seed));
        let (one, other, longer) = (made(100, 90, 1), made(100, 90, 2), made(200, 150, 3));
        let shared: String = one.split_inclusive(' ').take(90).collect();
        assert_ne!(one, other);
        assert!(other.starts_with(&shared) && longer.starts_with(&shared));
        assert_eq!(one.split(' ').count(), 100);
        assert_eq!(made(5, 9, 1).split(' ').count(), 5);
    }
}
