//! What is asked. By default every request asks something new from its first token on, so that a server's
//! prefix cache cannot answer for it.

mod synthetic;

pub use self::synthetic::{MadeUp, Prefix};
use crate::{calibration::Fit, random::normal, units::Tokens};

/// What the requests of a probe ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub source: Source,
    /// The system message.
    pub system: Option<String>,
    pub cache: Cache,
    /// Of synthetic prompts that are otherwise new; then `cache` is [`Cache::Share`].
    pub prefix: Option<Prefix>,
}

/// Where the user's message comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Text(String),
    /// Lines of a file, at least one, asked in turn.
    Lines(Vec<String>),
    /// Common English words. The length is that of the whole prompt, with what a chat template and a system message
    /// add to them.
    Synthetic(Length),
}

/// How many tokens a synthetic prompt has; drawn anew for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Fixed(Tokens),
    /// Each number from the first to the last is as likely.
    Uniform(Tokens, Tokens),
    /// At least 1, and at most four deviations above the mean.
    Normal {
        mean: Tokens,
        deviation: Tokens,
    },
}

impl Length {
    /// How many deviations from the mean the longest prompt is: one draw in 30 000 would be longer.
    const FARTHEST: u64 = 4;

    /// The longest prompt there can be.
    pub const fn most(self) -> Tokens {
        match self {
            Self::Fixed(tokens) | Self::Uniform(_, tokens) => tokens,
            Self::Normal { mean, deviation } => {
                Tokens(mean.0.saturating_add(deviation.0.saturating_mul(Self::FARTHEST)))
            }
        }
    }

    /// The length of many prompts, on average.
    pub fn mean(self) -> f64 {
        match self {
            Self::Fixed(tokens) => tokens.0 as f64,
            Self::Uniform(from, to) => f64::midpoint(from.0 as f64, to.0 as f64),
            Self::Normal { mean, .. } => mean.0 as f64,
        }
    }

    fn draw(self, random: &mut fastrand::Rng) -> u64 {
        match self {
            Self::Fixed(tokens) => tokens.0,
            Self::Uniform(from, to) => random.u64(from.0..=to.0.max(from.0)),
            Self::Normal { mean, deviation } => {
                let drawn = normal(random).mul_add(deviation.0 as f64, mean.0 as f64).round();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is clamped to what a prompt may have"
                )]
                let tokens = drawn.clamp(1.0, self.most().0.max(1) as f64) as u64;
                tokens
            }
        }
    }
}

/// What is done about the server's prefix cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// A nonce before everything else makes each prompt new.
    Bust,
    /// The prompt is the same each time.
    Share,
}

impl Cache {
    pub const ALL: &'static [Self] = &[Self::Bust, Self::Share];

    /// What the server's cache is expected to be: the value of the label `expected`.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Bust => "cold",
            Self::Share => "warm",
        }
    }
}

/// Who says something, beside the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
}

impl Role {
    /// As most APIs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// What one request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The system message, which comes before all others.
    pub system: Option<String>,
    /// At least one; the last one is the user's.
    pub messages: Vec<Message>,
    /// Whether model and user speak in turn, before this question or after it: an API that takes nothing but a
    /// text has to be told who says what, and each time in the same way.
    pub is_dialogue: bool,
    /// For APIs that can be told not to use their prefix cache.
    pub cache: Cache,
}

impl Prompt {
    /// The same prompt of so many made-up words in place of what is asked, none of them asked before.
    #[must_use]
    pub fn of_new_words(&self, words: u64) -> Self {
        Self {
            source: Source::Synthetic(Length::Fixed(Tokens(words))),
            prefix: (self.cache == Cache::Share).then_some(Prefix {
                tokens: Tokens(0),
                seed: 0,
            }),
            ..self.clone()
        }
    }

    /// How the question of this `seed` is made up, where it is.
    pub fn made_up(&self, seed: u64, fit: &Fit) -> Option<MadeUp> {
        let Source::Synthetic(length) = self.source else {
            return None;
        };
        let tokens = Tokens(length.draw(&mut fastrand::Rng::with_seed(seed)));
        Some(MadeUp {
            tokens,
            words: fit.words_of_prompt(tokens),
            prefix: self.prefix.map(|prefix| prefix.tokens),
        })
    }

    /// The question of request `number` of its probe. `seed` makes it new where the cache is to be busted. Where it is
    /// made up, `fit` says how many words it takes.
    pub fn question(&self, number: u64, seed: u64, fit: &Fit) -> Question {
        let busting = self.cache == Cache::Bust;
        let mut system = self.system.clone();
        let made_up = self.made_up(seed, fit);
        let mut user = match (&self.source, made_up) {
            (Source::Text(text), _) => text.clone(),
            (Source::Lines(lines), _) => {
                let at = usize::try_from(number % lines.len().max(1) as u64).unwrap_or(0);
                lines.get(at).cloned().unwrap_or_default()
            }
            (Source::Synthetic(_), made_up) => {
                let words = made_up.map_or(0, |made_up| made_up.words);
                // Shared prompts of different lengths begin alike.
                let (shared, of) = match self.prefix {
                    Some(prefix) => (fit.words_of_text(prefix.tokens), prefix.seed),
                    None if busting => (0, 0),
                    None => (words, 0),
                };
                synthetic::text(words, shared, of, &mut fastrand::Rng::with_seed(seed))
            }
        };
        let fresh_from_the_start = made_up.is_some() && system.is_none();
        if busting && !fresh_from_the_start {
            let beginning = system.as_mut().unwrap_or(&mut user);
            beginning.insert_str(0, &format!("[{:08x}] ", seed >> 32 ^ seed & 0xffff_ffff));
        }
        Question {
            system,
            messages: vec![Message::new(Role::User, user)],
            is_dialogue: false,
            cache: self.cache,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the user says in a question that has nothing else.
    fn user(question: &Question) -> &str {
        let [message] = question.messages.as_slice() else {
            panic!("{question:?}")
        };
        assert_eq!(message.role, Role::User);
        &message.content
    }

    fn prompt(source: Source, system: Option<&str>, cache: Cache) -> Prompt {
        Prompt {
            source,
            system: system.map(Into::into),
            cache,
            prefix: None,
        }
    }

    fn question(prompt: &Prompt, number: u64, seed: u64) -> Question {
        prompt.question(number, seed, &Fit::ASSUMED)
    }

    #[test]
    fn busting_changes_the_very_beginning() {
        for source in [
            Source::Text("Why?".into()),
            Source::Synthetic(Length::Fixed(Tokens(16))),
        ] {
            let prompt = prompt(source, None, Cache::Bust);
            let (one, other) = (question(&prompt, 0, 1), question(&prompt, 0, u64::MAX / 3));
            assert_ne!(user(&one).get(..12), user(&other).get(..12));
        }
        let prompt = prompt(
            Source::Synthetic(Length::Fixed(Tokens(4))),
            Some("Be brief."),
            Cache::Bust,
        );
        let question = question(&prompt, 0, 0xabcd_0000_0000);
        assert_eq!(question.system.as_deref(), Some("[0000abcd] Be brief."));
    }

    #[test]
    fn sharing_repeats_itself() {
        for source in [
            Source::Text("Why?".into()),
            Source::Synthetic(Length::Fixed(Tokens(16))),
        ] {
            let prompt = prompt(source, Some("Be brief."), Cache::Share);
            assert_eq!(question(&prompt, 0, 1), question(&prompt, 0, 2));
        }
    }

    #[test]
    fn synthetic_prompts_have_as_many_words_as_tokens() {
        let prompt = prompt(Source::Synthetic(Length::Fixed(Tokens(300))), None, Cache::Bust);
        assert_eq!(user(&question(&prompt, 3, 99)).split(' ').count(), 300);
    }

    #[test]
    fn lengths_are_drawn_as_told() {
        let drawn = |length: Length| -> Vec<u64> {
            let prompt = prompt(Source::Synthetic(length), None, Cache::Share);
            let of = |seed| user(&question(&prompt, 0, seed)).split(' ').count() as u64;
            (0..4000).map(of).collect()
        };
        let mean = |drawn: &[u64]| drawn.iter().sum::<u64>() as f64 / drawn.len() as f64;
        let deviation = |drawn: &[u64]| {
            let squares = drawn.iter().map(|&n| (n as f64 - mean(drawn)).powi(2));
            (squares.sum::<f64>() / drawn.len() as f64).sqrt()
        };
        let uniform = drawn(Length::Uniform(Tokens(4), Tokens(12)));
        assert_eq!(
            (uniform.iter().min(), uniform.iter().max()),
            (Some(&4), Some(&12))
        );
        assert!((mean(&uniform) - 8.0).abs() < 0.2);

        let length = Length::Normal {
            mean: Tokens(60),
            deviation: Tokens(10),
        };
        let normal = drawn(length);
        assert!((mean(&normal) - 60.0).abs() < 1.0, "{}", mean(&normal));
        assert!((deviation(&normal) - 10.0).abs() < 0.5, "{}", deviation(&normal));
        assert!(normal.iter().all(|&tokens| tokens <= length.most().0));

        let wide = drawn(Length::Normal {
            mean: Tokens(3),
            deviation: Tokens(3),
        });
        assert_eq!(wide.iter().min(), Some(&1));
    }

    #[test]
    fn shared_prompts_of_different_lengths_begin_alike() {
        let length = Length::Uniform(Tokens(20), Tokens(40));
        let prompt = prompt(Source::Synthetic(length), None, Cache::Share);
        let (one, other) = (question(&prompt, 0, 1), question(&prompt, 0, 2));
        let (one, other) = (user(&one), user(&other));
        assert_ne!(one, other);
        assert!(one.starts_with(other) || other.starts_with(one));
    }

    #[test]
    fn lines_are_asked_in_turn() {
        let prompt = prompt(Source::Lines(vec!["a".into(), "b".into()]), None, Cache::Share);
        let asked: Vec<_> = (0..3)
            .map(|n| user(&question(&prompt, n, 0)).to_owned())
            .collect();
        assert_eq!(asked, ["a", "b", "a"]);
    }
}
