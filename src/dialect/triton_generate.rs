//! Triton's generate extension. It has neither an end marker nor usage: a clean end of the body is the end. A
//! frame carries what is new or all so far, as the back end and its parameters have it.

use std::mem;

use serde::{Deserialize, de::Error as _};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    json::{for_each, object},
    messages,
    said::{Said, unescaped},
};
use crate::{config::plan::TextMode, prompt::Question, units::Tokens, usage::Transcript};

/// The model is in the path.
pub(super) fn body(question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    Map::from_iter([
        ("text_input".to_owned(), json!(messages::text(question))),
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
    /// In cumulative mode, or while the mode is guessed, the text of the last frame that had any.
    before: String,
    /// How many texts had the one before them as their beginning; where the mode is guessed.
    extensions: u32,
    /// While the mode is guessed, all texts one after the other, as far as they are kept: the answer, should
    /// each be new.
    joined: String,
}

/// As many extensions, without a text that is none, are no accident of tokens that begin alike.
const CONVINCING: u32 = 2;

impl Seen {
    pub(super) fn new(mode: TextMode) -> Self {
        Self {
            mode,
            before: String::new(),
            extensions: 0,
            joined: String::new(),
        }
    }

    /// Says what is new in `text`. Where the mode is guessed, only that there is something new: what it is, is
    /// known when a text is no extension of the one before it, or else at the end.
    fn hear(&mut self, text: &str, said: &mut Said<'_>) {
        if text.is_empty() {
            return;
        }
        match self.mode {
            TextMode::Delta => said.plain(text),
            TextMode::Cumulative => {
                let grown = text.strip_prefix(self.before.as_str());
                said.plain(grown.unwrap_or_else(|| after_the_same(&self.before, text)));
                text.clone_into(&mut self.before);
            }
            TextMode::Auto => self.guess(text, said),
        }
    }

    fn guess(&mut self, text: &str, said: &mut Said<'_>) {
        // The last character may not have been whole before.
        let whole = self.before.trim_end_matches('\u{fffd}');
        let is_extension = text.starts_with(self.before.as_str());
        if !is_extension && !text.starts_with(whole) {
            self.mode = TextMode::Delta;
            said.plain(&mem::take(&mut self.joined));
            said.plain(text);
            self.before = String::new();
            return;
        }
        let is_repeated = text == self.before;
        self.extensions += u32::from(is_extension && !is_repeated && !self.before.is_empty());
        // Tokens repeat, too; a text that grows says nothing when it does.
        if !is_repeated || self.extensions < CONVINCING {
            said.shows();
        }
        if self.joined.len() <= Transcript::MAX {
            self.joined.push_str(text);
        }
        text.clone_into(&mut self.before);
    }

    /// The text that is still to be said when the body has ended. One extension will do here: no text was none.
    pub(super) fn rest(&self) -> &str {
        match self.mode {
            TextMode::Auto if self.extensions > 0 => &self.before,
            _ => &self.joined,
        }
    }
}

/// A character that was not whole before has changed: what follows is new.
fn after_the_same<'a>(before: &str, text: &'a str) -> &'a str {
    let same = text
        .char_indices()
        .zip(before.chars())
        .find(|((_, now), before)| now != before)
        .map_or(text.len().min(before.len()), |((at, _), _)| at);
    text.get(same..).unwrap_or_default()
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
        seen.hear(&text, said);
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
        for (mode, texts, outputs, answer) in [
            (Auto, vec!["Why", " not", "?"], 3, "Why not?"),
            (Auto, vec!["Why", "Why not", "Why not?"], 3, "Why not?"),
            (Auto, vec!["", "Why", "Why", "Why not"], 3, "Why not"),
            (Auto, vec!["la", "la", "da"], 3, "lalada"),
            (Auto, vec!["la", "la"], 2, "lala"),
            // Once the text was seen to grow, it may stand still.
            (Auto, vec!["a", "ab", "abc", "abc", "abcd"], 4, "abcd"),
            // However often tokens began alike, one that does not tells that each is new.
            (Auto, vec!["a", "an", "and", "cat", "cat"], 5, "aanandcatcat"),
            (Auto, vec!["a\u{fffd}", "a🦀", "a🦀!", "a🦀!?"], 4, "a🦀!?"),
            (Auto, vec!["\u{fffd}", "\u{fffd}", "!"], 3, "\u{fffd}\u{fffd}!"),
            (Delta, vec!["a", "ab"], 2, "aab"),
            (Cumulative, vec!["a", "a", "ab"], 2, "ab"),
            // The end of an emoji.
            (Cumulative, vec!["a\u{fffd}", "a🦀", "a🦀!"], 3, "a\u{fffd}🦀!"),
            (Cumulative, vec!["ab", "a"], 1, "ab"),
        ] {
            let (mut seen, mut transcript) = (Seen::new(mode), Transcript::default());
            let is_output = |text: &&&str| {
                let mut said = Said::new(Some(&mut transcript));
                seen.hear(text, &mut said);
                said.output().is_some()
            };
            let heard = texts.iter().filter(is_output).count();
            transcript.add(seen.rest(), true);
            assert_eq!(
                (heard, transcript.visible.as_str()),
                (outputs, answer),
                "{mode:?} {texts:?}"
            );
        }
    }
}
