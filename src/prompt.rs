//! What is asked. By default every request asks something new from its first token on, so that a server's
//! prefix cache cannot answer for it.

use crate::units::Tokens;

/// What the requests of a probe ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub source: Source,
    /// The system message.
    pub system: Option<String>,
    pub cache: Cache,
}

/// Where the user's message comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Text(String),
    /// Lines of a file, at least one, asked in turn.
    Lines(Vec<String>),
    /// Common English words, about one token each in the tokenizers in use.
    Synthetic(Tokens),
}

/// What is done about the server's prefix cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// A nonce before everything else makes each prompt new.
    Bust,
    /// The prompt is the same each time.
    Share,
}

/// The messages of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub system: Option<String>,
    pub user: String,
    /// For APIs that can be told not to use their prefix cache.
    pub cache: Cache,
}

impl Prompt {
    /// The question of request `number` of its probe. `seed` makes it new where the cache is to be busted.
    pub fn question(&self, number: u64, seed: u64) -> Question {
        let busting = self.cache == Cache::Bust;
        let mut system = self.system.clone();
        let mut user = match &self.source {
            Source::Text(text) => text.clone(),
            Source::Lines(lines) => {
                let at = usize::try_from(number % lines.len().max(1) as u64).unwrap_or(0);
                lines.get(at).cloned().unwrap_or_default()
            }
            Source::Synthetic(tokens) => words(tokens.0, if busting { seed } else { 0 }),
        };
        let fresh_from_the_start = matches!(self.source, Source::Synthetic(_)) && system.is_none();
        if busting && !fresh_from_the_start {
            let beginning = system.as_mut().unwrap_or(&mut user);
            beginning.insert_str(0, &format!("[{:08x}] ", seed >> 32 ^ seed & 0xffff_ffff));
        }
        Question {
            system,
            user,
            cache: self.cache,
        }
    }
}

/// `count` words, drawn with `seed`.
fn words(count: u64, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = String::new();
    for at in 0..count {
        if at > 0 {
            text.push(' ');
        }
        text.push_str(random.choice(WORDS).unwrap_or(&"the"));
    }
    text
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

    fn prompt(source: Source, system: Option<&str>, cache: Cache) -> Prompt {
        Prompt {
            source,
            system: system.map(Into::into),
            cache,
        }
    }

    #[test]
    fn busting_changes_the_very_beginning() {
        for source in [Source::Text("Why?".into()), Source::Synthetic(Tokens(16))] {
            let prompt = prompt(source, None, Cache::Bust);
            let (one, other) = (prompt.question(0, 1).user, prompt.question(0, u64::MAX / 3).user);
            assert_ne!(one.get(..12), other.get(..12));
        }
        let prompt = prompt(Source::Synthetic(Tokens(4)), Some("Be brief."), Cache::Bust);
        let question = prompt.question(0, 0xabcd_0000_0000);
        assert_eq!(question.system.as_deref(), Some("[0000abcd] Be brief."));
    }

    #[test]
    fn sharing_repeats_itself() {
        for source in [Source::Text("Why?".into()), Source::Synthetic(Tokens(16))] {
            let prompt = prompt(source, Some("Be brief."), Cache::Share);
            assert_eq!(prompt.question(0, 1), prompt.question(0, 2));
        }
    }

    #[test]
    fn synthetic_prompts_have_as_many_words_as_tokens() {
        let prompt = prompt(Source::Synthetic(Tokens(300)), None, Cache::Bust);
        assert_eq!(prompt.question(3, 99).user.split(' ').count(), 300);
    }

    #[test]
    fn lines_are_asked_in_turn() {
        let prompt = prompt(Source::Lines(vec!["a".into(), "b".into()]), None, Cache::Share);
        let asked: Vec<_> = (0..3).map(|n| prompt.question(n, 0).user).collect();
        assert_eq!(asked, ["a", "b", "a"]);
    }
}
