//! What an answer must be like beside being one: a server can answer fast, well-formed and wrong.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::units::Tokens;

/// What a probe expects of each answer. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// The visible text contains this.
    pub contains: Option<String>,
    /// It matches this anywhere.
    pub matches: Option<Pattern>,
    /// At least so many tokens were generated in the open.
    pub min_output_tokens: Option<Tokens>,
}

impl Expect {
    /// What is wrong with an answer of this visible text and so many tokens; `None` when all holds.
    pub fn unmet(&self, text: &str, output_tokens: Tokens) -> Option<String> {
        if let Some(least) = self.min_output_tokens
            && output_tokens < least
        {
            let (count, least) = (output_tokens.0, least.0);
            return Some(format!("has {count} output tokens, fewer than {least}"));
        }
        if let Some(part) = &self.contains
            && !text.contains(part.as_str())
        {
            return Some(format!("does not contain {part:?}"));
        }
        if let Some(pattern) = &self.matches
            && !pattern.0.is_match(text)
        {
            return Some(format!("does not match {:?}", pattern.0.as_str()));
        }
        None
    }
}

/// A regular expression that takes time linear in the text, whatever the text is.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// The largest compiled pattern, in bytes.
    const MAX_SIZE: usize = 1 << 20;

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The error says in one line what is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        RegexBuilder::new(text)
            .size_limit(Self::MAX_SIZE)
            .build()
            .map(Self)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "is too large when compiled".to_owned(),
                error => {
                    let text = error.to_string();
                    let last = text.lines().last().unwrap_or_default();
                    format!("is no regular expression: {}", last.trim_start_matches("error: "))
                }
            })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_given_must_hold() {
        let expect = Expect {
            contains: Some("Paris".into()),
            matches: Some(Pattern::new("(?i)^the capital").unwrap()),
            min_output_tokens: Some(Tokens(3)),
        };
        let unmet = |text, tokens| expect.unmet(text, Tokens(tokens)).unwrap_or_default();
        for (text, tokens, wrong) in [
            ("The capital is Paris.", 3, ""),
            ("The capital is Paris.", 2, "has 2 output tokens, fewer than 3"),
            ("The capital is Rome.", 9, "does not contain \"Paris\""),
            ("Paris", 9, "does not match \"(?i)^the capital\""),
        ] {
            assert_eq!(unmet(text, tokens), wrong);
        }
        assert_eq!(Expect::default().unmet("", Tokens(0)), None);
    }

    #[test]
    fn patterns_are_bounded() {
        assert!(
            Pattern::new("a(b")
                .unwrap_err()
                .starts_with("is no regular expression")
        );
        assert_eq!(
            Pattern::new(r"\w{1000}{100}").unwrap_err(),
            "is too large when compiled"
        );
        assert_eq!(Pattern::new("a").unwrap(), Pattern::new("a").unwrap());
        assert_ne!(Pattern::new("a").unwrap(), Pattern::new("b").unwrap());
    }
}
