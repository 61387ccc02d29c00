//! Triton's generate extension. It has neither an end marker nor usage: a clean end of the body is the end. A
//! frame carries what is new or all so far, as the back end and its parameters have it.

use serde::{Deserialize, de::Error as _};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    json::{for_each, object},
    prompt,
    said::{Said, unescaped},
};
use crate::{config::plan::TextMode, prompt::Question, units::Tokens, usage::Transcript};

/// The model is in the path.
pub(super) fn body(question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    Map::from_iter([
        ("text_input".to_owned(), json!(prompt(question))),
        (
            "parameters".to_owned(),
            json!({ "stream": true, "max_tokens": max_tokens.0 }),
        ),
    ])
}

#[derive(Deserialize)]
struct Step<'a> {
    /// Some back ends answer with a list of one text.
    #[serde(borrow, default)]
    text_output: Option<&'a RawValue>,
}

/// How the frames so far carry text.
#[derive(Debug)]
pub(super) struct Seen {
    mode: TextMode,
    /// In cumulative mode, or until the mode is known, the text of the last frame that had any.
    before: String,
}

impl Seen {
    pub(super) fn new(mode: TextMode) -> Self {
        Self {
            mode,
            before: String::new(),
        }
    }

    /// What is new in `text`.
    fn news<'a>(&mut self, text: &'a str) -> &'a str {
        if self.mode == TextMode::Delta || text.is_empty() {
            return text;
        }
        let grown = text.strip_prefix(self.before.as_str());
        let news = match (self.mode, grown) {
            // The first text, or the same once more: tokens may repeat, too, so nothing is known yet.
            (TextMode::Auto, Some(news)) if self.before.is_empty() || news.is_empty() => text,
            (TextMode::Auto, None) => {
                self.mode = TextMode::Delta;
                self.before = String::new();
                return text;
            }
            (_, Some(news)) => {
                self.mode = TextMode::Cumulative;
                news
            }
            // A character that was not whole before has changed: what follows is new.
            (_, None) => {
                let same = text
                    .char_indices()
                    .zip(self.before.chars())
                    .find(|((_, now), before)| now != before)
                    .map_or(text.len().min(self.before.len()), |((at, _), _)| at);
                text.get(same..).unwrap_or_default()
            }
        };
        text.clone_into(&mut self.before);
        news
    }
}

pub(super) fn decode(data: &[u8], seen: &mut Seen, said: &mut Said<'_>) -> Result<Delta, serde_json::Error> {
    let step: Step<'_> = object(data)?;
    let mut hear = |text: &RawValue| {
        if !text.get().starts_with('"') {
            return Ok(());
        }
        let text = unescaped(text);
        if text.len() > Transcript::MAX {
            return Err(serde_json::Error::custom("more text than an answer may have"));
        }
        said.plain(seen.news(&text));
        Ok(())
    };
    match step.text_output {
        Some(list) if list.get().starts_with('[') => for_each(list, hear)?,
        Some(text) => hear(text)?,
        None => {}
    }
    Ok(Delta::default())
}

/// The body has ended in order.
pub(super) fn end() -> Delta {
    Delta {
        finished: true,
        last: true,
        ..Delta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_found_out() {
        use TextMode::{Auto, Cumulative, Delta};
        for (mode, texts, news) in [
            (Auto, vec!["Why", " not", "?"], vec!["Why", " not", "?"]),
            (Auto, vec!["Why", "Why not", "Why not?"], vec!["Why", " not", "?"]),
            (
                Auto,
                vec!["", "Why", "Why", "Why not"],
                vec!["", "Why", "Why", " not"],
            ),
            (Auto, vec!["la", "la", "da"], vec!["la", "la", "da"]),
            (Delta, vec!["a", "ab"], vec!["a", "ab"]),
            (Cumulative, vec!["a", "a", "ab"], vec!["a", "", "b"]),
            // The end of an emoji.
            (
                Cumulative,
                vec!["a\u{fffd}", "a🦀", "a🦀!"],
                vec!["a\u{fffd}", "🦀", "!"],
            ),
            (Cumulative, vec!["ab", "a"], vec!["ab", ""]),
        ] {
            let mut seen = Seen::new(mode);
            let got: Vec<_> = texts.iter().map(|text| seen.news(text)).collect();
            assert_eq!(got, news, "{mode:?} {texts:?}");
        }
    }
}
