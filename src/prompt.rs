//! What is asked. By default every request asks something new from its first token on, so that a server's
//! prefix cache cannot answer for it.

mod conversation;
mod question;
mod scripts;
mod synthetic;

pub use self::{
    conversation::{Asked, Conversation, Script},
    question::{Message, Question, Role},
    scripts::Scripts,
    synthetic::{MadeUp, Prefix},
};
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

/// Where what the user says comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Written(Scripts),
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

    /// The shortest prompt there can be.
    pub const fn least(self) -> Tokens {
        match self {
            Self::Fixed(tokens) | Self::Uniform(tokens, _) => tokens,
            Self::Normal { .. } => Tokens(1),
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

    /// What is asked after `number` other conversations. `seed` makes it new where the cache is to be busted. Where it
    /// is made up, `fit` says how many words it takes.
    pub fn begin(&self, number: u64, seed: u64, fit: &Fit) -> Conversation {
        let busting = self.cache == Cache::Bust;
        let begin = |script: &Script| Conversation::begin(script, self.system.as_ref(), self.cache);
        let mut conversation = match &self.source {
            Source::Written(scripts) => begin(scripts.get(number)),
            Source::Synthetic(length) => {
                let mut random = fastrand::Rng::with_seed(seed);
                let tokens = Tokens(length.draw(&mut random));
                let words = fit.words_of_prompt(tokens);
                // Shared prompts of different lengths begin alike.
                let (shared, of) = match self.prefix {
                    Some(prefix) => (fit.words_of_text(prefix.tokens), prefix.seed),
                    None if busting => (0, 0),
                    None => (words, 0),
                };
                let text = synthetic::text(words, shared, of, &mut random);
                let mut conversation = begin(&Script::of_text(text));
                conversation.asked.made_up = Some(MadeUp {
                    tokens,
                    words,
                    prefix: self.prefix.map(|prefix| prefix.tokens),
                });
                conversation
            }
        };
        let fresh_from_the_start = matches!(self.source, Source::Synthetic(_)) && self.system.is_none();
        if busting && !fresh_from_the_start {
            conversation.mark(&format!("[{:08x}] ", seed >> 32 ^ seed & 0xffff_ffff));
        }
        conversation
    }

    /// Tokens of the longest prompt, as far as that can be said before a server has counted any: letters by three are more
    /// than most tokenizers make. An answer has up to `max_tokens`.
    pub fn most_tokens(&self, max_tokens: Tokens) -> u64 {
        let letters =
            |bytes: usize, system: Option<&String>| (bytes + system.map_or(0, String::len)) as u64 / 3;
        let system = self.system.as_ref();
        let of_script = |script: &Script| {
            // The last turn has all that was said and answered before it.
            let answers = (script.turns.len() as u64).saturating_sub(1);
            letters(script.bytes(), script.system.as_ref().or(system)) + answers * max_tokens.0
        };
        match &self.source {
            Source::Written(scripts) => scripts.iter().map(of_script).max().unwrap_or(0),
            Source::Synthetic(length) => length.most().0 + letters(0, system),
        }
    }

    /// How many turns a conversation has at most.
    pub fn most_turns(&self) -> u32 {
        match &self.source {
            Source::Written(scripts) => scripts.most_turns(),
            Source::Synthetic(_) => 1,
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

    #[test]
    fn busting_changes_the_very_beginning() {
        for source in [
            Source::Written(Scripts::only(Script::of_text("Why?"))),
            Source::Synthetic(Length::Fixed(Tokens(16))),
        ] {
            let prompt = prompt(source, None, Cache::Bust);
            let (one, other) = (
                prompt.begin(0, 1, &Fit::ASSUMED).question,
                prompt.begin(0, u64::MAX / 3, &Fit::ASSUMED).question,
            );
            assert_ne!(user(&one).get(..12), user(&other).get(..12));
        }
        let prompt = prompt(
            Source::Synthetic(Length::Fixed(Tokens(4))),
            Some("Be brief."),
            Cache::Bust,
        );
        let question = prompt.begin(0, 0xabcd_0000_0000, &Fit::ASSUMED).question;
        assert_eq!(question.system.as_deref(), Some("[0000abcd] Be brief."));
    }

    #[test]
    fn sharing_repeats_itself() {
        for source in [
            Source::Written(Scripts::only(Script::of_text("Why?"))),
            Source::Synthetic(Length::Fixed(Tokens(16))),
        ] {
            let prompt = prompt(source, Some("Be brief."), Cache::Share);
            assert_eq!(
                prompt.begin(0, 1, &Fit::ASSUMED).question,
                prompt.begin(0, 2, &Fit::ASSUMED).question
            );
        }
    }

    #[test]
    fn synthetic_prompts_have_as_many_words_as_tokens() {
        let prompt = prompt(Source::Synthetic(Length::Fixed(Tokens(300))), None, Cache::Bust);
        assert_eq!(
            user(&prompt.begin(3, 99, &Fit::ASSUMED).question)
                .split(' ')
                .count(),
            300
        );
    }

    #[test]
    fn lengths_are_drawn_as_told() {
        let drawn = |length: Length| -> Vec<u64> {
            let prompt = prompt(Source::Synthetic(length), None, Cache::Share);
            let of = |seed| {
                user(&prompt.begin(0, seed, &Fit::ASSUMED).question)
                    .split(' ')
                    .count() as u64
            };
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
        let (one, other) = (
            prompt.begin(0, 1, &Fit::ASSUMED).question,
            prompt.begin(0, 2, &Fit::ASSUMED).question,
        );
        let (one, other) = (user(&one), user(&other));
        assert_ne!(one, other);
        assert!(one.starts_with(other) || other.starts_with(one));
    }

    #[test]
    fn lines_are_asked_in_turn() {
        let scripts = ["a", "b"].map(|text| (Script::of_text(text), 1.0)).into();
        let source = Source::Written(Scripts::weighted(scripts).unwrap());
        let prompt = prompt(source, None, Cache::Share);
        let asked: Vec<_> = (0..3)
            .map(|n| user(&prompt.begin(n, 0, &Fit::ASSUMED).question).to_owned())
            .collect();
        assert_eq!(asked, ["a", "b", "a"]);
    }

    #[test]
    fn the_longest_prompt_has_the_answers_of_earlier_turns() {
        let guessed = |source, system: Option<&str>| {
            let prompt = Prompt {
                prefix: None,
                source,
                system: system.map(str::to_owned),
                cache: Cache::Bust,
            };
            prompt.most_tokens(Tokens(1000))
        };
        let turns = |turns: &[&str]| Script {
            turns: turns.iter().map(ToString::to_string).collect(),
            ..Script::default()
        };
        let written = |script| Source::Written(Scripts::only(script));
        let own = Script {
            system: Some("123456789".into()),
            ..turns(&["abc"])
        };
        for (source, system, tokens) in [
            (written(turns(&["abcdef"])), None, 2),
            (written(turns(&["abcdef"])), Some("abc"), 3),
            (written(own), Some("abc"), 4),
            (written(turns(&["abc", "def", "ghi"])), None, 2003),
            (Source::Synthetic(Length::Fixed(Tokens(5))), Some("abc"), 6),
        ] {
            assert_eq!(guessed(source.clone(), system), tokens, "{source:?}");
        }
    }
}
