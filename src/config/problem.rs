//! One thing that is wrong with a configuration: where, what, and the mend.

use std::fmt;

use super::{excerpt::Excerpt, secret::looks_secret};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is loaded.
    Error,
    /// The configuration is loaded, but may not mean what its author thinks.
    Warning,
}

/// Line and column, both from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    pub(super) const fn new(line: usize, column: usize) -> Self {
        Self { line, column }
    }
}

/// One problem. It holds no secret of the configuration: its line is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// The file, as it was named to the program.
    pub file: String,
    /// `None` where the file as a whole is meant.
    pub place: Option<Place>,
    /// Names the thing and says what is wrong with it.
    pub what: String,
    /// What would be right.
    pub mend: String,
    pub(super) excerpt: Option<Excerpt>,
}

impl Problem {
    /// Where it is, what is wrong, and what would be right, without the line itself.
    pub fn in_one_line(&self) -> String {
        let place = self
            .place
            .map_or_else(String::new, |place| format!("{}:{}:", place.line, place.column));
        let warning = if self.severity == Severity::Warning {
            " warning:"
        } else {
            ""
        };
        format!("{}:{place}{warning} {}; {}", self.file, self.what, self.mend)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.in_one_line())?;
        match (&self.excerpt, self.place) {
            (Some(excerpt), Some(place)) => write!(out, "\n{}", excerpt.under(place.line)),
            _ => Ok(()),
        }
    }
}

/// The candidate that the author may have meant.
pub(super) fn meant<'a>(written: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let written = written.to_lowercase();
    let close_enough = (written.chars().count() / 3).clamp(1, 4);
    let begun = |candidate: &&&str| written.len() >= 3 && candidate.starts_with(&written);
    if let Some(candidate) = candidates.iter().find(begun) {
        return Some(candidate);
    }
    candidates
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&written, &candidate.to_lowercase()),
                *candidate,
            )
        })
        .filter(|(distance, _)| *distance <= close_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", or what there is to choose from.
pub(super) fn meant_or_any(written: &str, candidates: &[&str]) -> String {
    match meant(written, candidates) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("choose from {}", list(candidates)),
    }
}

/// `` `a`, `b`, `c` ``
pub(super) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// Text of the configuration as a message may repeat it: quoted, on one line, short, and not at all when it could
/// be a secret in the wrong place.
pub(super) fn shown(text: &str) -> String {
    if looks_secret(text) {
        return "(not shown: it looks like a secret)".to_owned();
    }
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    // escape_debug is for quotes of Rust; here they stand in backquotes.
    short = short.replace("\\\"", "\"").replace("\\'", "'");
    let dots = if text.chars().count() > 60 { "…" } else { "" };
    format!("`{short}{dots}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_recognised_and_nothing_else() {
        let keys = ["every", "concurrency", "slo", "url"];
        for (written, expected) in [
            ("evry", Some("every")),
            ("concurency", Some("concurrency")),
            ("Concurrency", Some("concurrency")),
            ("uri", Some("url")),
            ("conc", Some("concurrency")),
            ("ladder", None),
            ("", None),
        ] {
            assert_eq!(meant(written, &keys), expected, "{written}");
        }
    }

    #[test]
    fn messages_repeat_text_safely() {
        for (text, expected) in [
            ("it's 1m", "`it's 1m`"),
            ("a\nb\u{7}", "`a\\nb\\u{7}`"),
            ("sk-proj-12345", "(not shown: it looks like a secret)"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(shown(&"x y".repeat(100)).chars().count() < 70);
    }
}
