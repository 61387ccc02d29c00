//! What is asked, counted by words, and remembered where a prefix cache wants to know it.

use serde::Deserialize;
use serde_json::Value;

/// What a chat template adds to each message.
const TOKENS_PER_MESSAGE: u64 = 4;

/// How tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Counting {
    /// Of a thousand words of a text. The first words of it have their share, rounded down.
    pub tokens_per_thousand_words: u64,
    /// What a chat template adds to open the answer.
    pub template_tokens: u64,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            tokens_per_thousand_words: 1000,
            template_tokens: 3,
        }
    }
}

/// A prompt: how many tokens it has and, if wanted, the name of each of its prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sim) struct Prompt {
    pub tokens: u64,
    /// For each token a hash over it and all before it; `None` when nobody wants to know.
    pub prefixes: Option<Vec<u64>>,
    pub counting: Counting,
    /// Words of texts so far.
    words: u64,
}

impl Prompt {
    /// An empty one, whose prefixes are remembered or not.
    pub(in crate::sim) fn new(counting: Counting, is_remembered: bool) -> Self {
        Self {
            prefixes: is_remembered.then(Vec::new),
            counting,
            ..Self::default()
        }
    }

    /// Adds text, by its words.
    pub(super) fn text(&mut self, text: &str) {
        let Counting {
            tokens_per_thousand_words,
            ..
        } = self.counting;
        let share = |words: u64| words.saturating_mul(tokens_per_thousand_words) / 1000;
        if self.prefixes.is_none() {
            let words = self.words + text.split_whitespace().count() as u64;
            self.tokens += share(words) - share(self.words);
            self.words = words;
            return;
        }
        for word in text.split_whitespace() {
            let tokens = share(self.words + 1) - share(self.words);
            self.words += 1;
            for _ in 0..tokens {
                self.token(word.as_bytes());
            }
        }
    }

    /// Adds text, a list of parts with text, or a list of token ids.
    pub(super) fn content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.text(text),
            Value::Number(id) => self.text(&id.to_string()),
            Value::Array(parts) => {
                for part in parts {
                    self.content(part.get("text").unwrap_or(part));
                }
            }
            _ => {}
        }
    }

    /// Adds a message of a chat, with what the template puts around it.
    pub(super) fn message(&mut self, message: &Message) {
        self.template(TOKENS_PER_MESSAGE, &message.role);
        self.content(&message.content);
    }

    /// Adds messages and what opens the answer.
    pub(super) fn chat(mut self, messages: &[Message]) -> Self {
        for message in messages {
            self.message(message);
        }
        self.template(self.counting.template_tokens, "answer");
        self
    }

    fn template(&mut self, tokens: u64, name: &str) {
        if self.prefixes.is_none() {
            self.tokens += tokens;
            return;
        }
        for part in 0..tokens {
            // A space cannot be part of a word, so this is no word of a text.
            self.token(format!("{name} {part}").as_bytes());
        }
    }

    fn token(&mut self, bytes: &[u8]) {
        self.tokens += 1;
        if let Some(prefixes) = &mut self.prefixes {
            let before = prefixes.last().copied().unwrap_or(FNV_OFFSET);
            prefixes.push(fnv(before, bytes));
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a over `bytes` and a separator, going on from `state`.
fn fnv(state: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    step(bytes.iter().fold(state, step), &b' ')
}

/// A message of a chat: the content is text or, in OpenAI's and Anthropic's APIs, a list of parts with text.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Value,
}

impl Message {
    /// Instructions that stand beside the messages.
    pub(super) fn system(content: Value) -> Self {
        Self {
            role: "system".to_owned(),
            content,
        }
    }

    /// What is asked, where the API has no messages for it.
    pub(super) fn user(content: Value) -> Self {
        Self {
            role: "user".to_owned(),
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"[{"role":"system","content":"two words"},{"content":[{"type":"text","text":"a b\nc"},{"type":"image_url"}]},
        {"role":"assistant","content":null},{"role":"user"}]"#;

    #[test]
    fn prompts_are_counted_by_words() {
        let messages: Vec<Message> = serde_json::from_str(CHAT).unwrap();
        for is_remembered in [false, true] {
            let prompt = Prompt::new(Counting::default(), is_remembered).chat(&messages);
            assert_eq!(prompt.tokens, 2 + 3 + 4 * 4 + 3);
            assert!(prompt.prefixes.is_none_or(|prefixes| prefixes.len() == 24));
            let counting = Counting {
                tokens_per_thousand_words: 1370,
                template_tokens: 11,
            };
            // Five words are 6.85.
            let prompt = Prompt::new(counting, is_remembered).chat(&messages);
            assert_eq!(prompt.tokens, 6 + 4 * 4 + 11);
            assert!(prompt.prefixes.is_none_or(|prefixes| prefixes.len() == 33));
        }
    }

    #[test]
    fn prefixes_are_the_same_as_long_as_the_words_are() {
        let prefixes = |text: &str| {
            let mut prompt = Prompt::new(Counting::default(), true);
            prompt.text(text);
            prompt.prefixes.unwrap()
        };
        let same = |a: &str, b: &str| {
            let (a, b) = (prefixes(a), prefixes(b));
            a.iter().zip(&b).take_while(|(a, b)| a == b).count()
        };
        for (a, b, expected) in [
            ("one two three", "one  two\nthree", 3),
            ("one two three", "one two four", 2),
            ("one two three", "one three two", 1),
            ("one two", "onetwo", 0),
            ("x one two", "one two", 0),
        ] {
            assert_eq!(same(a, b), expected, "{a:?} {b:?}");
        }
    }
}
