//! What the frames of an answer say to the user: whether it is output, and the text where somebody wants it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Output, json::for_each};
use crate::usage::Transcript;

/// What one frame says. Text is taken as it stands in the frame and only looked into where it is kept.
#[derive(Debug)]
pub(super) struct Said<'a> {
    visible: bool,
    reasoning: bool,
    transcript: Option<&'a mut Transcript>,
}

/// An element of a list of contents.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    /// Mistral's reasoning models.
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
}

impl<'a> Said<'a> {
    pub(super) fn new(transcript: Option<&'a mut Transcript>) -> Self {
        Self {
            visible: false,
            reasoning: false,
            transcript,
        }
    }

    pub(super) fn output(&self) -> Option<Output> {
        Output::of(self.visible, self.reasoning)
    }

    /// Something that the user sees and that is no text, or not yet known: a picture, a tool's result.
    pub(super) fn shows(&mut self) {
        self.visible = true;
    }

    /// Text that the user sees; white space counts. Some servers send a list of parts.
    pub(super) fn text(&mut self, text: Option<&RawValue>) {
        self.says(text, true);
    }

    /// Text that the model thinks.
    pub(super) fn thought(&mut self, text: Option<&RawValue>) {
        self.says(text, false);
    }

    /// The same of text that is unescaped already.
    pub(super) fn plain(&mut self, text: &str) {
        if !text.is_empty() {
            self.note(text, true);
        }
    }

    fn says(&mut self, text: Option<&RawValue>, visible: bool) {
        let Some(text) = text.filter(|text| is_something(text)) else {
            return;
        };
        match text.get().as_bytes().first() {
            Some(b'[') => self.parts(text, visible),
            Some(b'"') if self.transcript.is_some() => self.note(&unescaped(text), visible),
            // A tool's arguments may be an object instead of text.
            _ => self.note(text.get(), visible),
        }
    }

    fn parts(&mut self, list: &RawValue, visible: bool) {
        let each = |part: Part<'_>| {
            for (text, visible) in [(part.text, visible), (part.thinking, false)] {
                match text {
                    Some(text) if text.get().starts_with('[') => {
                        for_each(text, |part: Part<'_>| {
                            self.says(part.text.filter(|text| text.get().starts_with('"')), visible);
                            Ok(())
                        })?;
                    }
                    text => self.says(text, visible),
                }
            }
            Ok(())
        };
        // A list of something else is no text.
        for_each(list, each).ok();
    }

    fn note(&mut self, text: &str, visible: bool) {
        if visible {
            self.visible = true;
        } else {
            self.reasoning = true;
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.add(text, visible);
        }
    }
}

/// Neither null nor empty.
pub(super) fn is_something(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"" | "[]")
}

/// What a JSON string says. Half of a surrogate pair, which some servers send where a token ends within a
/// character, becomes a replacement character.
pub(super) fn unescaped(text: &RawValue) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(text.get()).map_or(Cow::Borrowed("\u{fffd}"), |Text(text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> (Option<Output>, Transcript) {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        let mut transcript = Transcript::default();
        let mut said = Said::new(Some(&mut transcript));
        said.text(Some(raw));
        let output = said.output();
        let mut unheard = Said::new(None);
        unheard.text(Some(raw));
        assert_eq!(unheard.output(), output, "{json}");
        (output, transcript)
    }

    #[test]
    fn text_in_every_form() {
        use Output::{Both, Reasoning, Visible};
        for (json, output, visible, reasoning) in [
            (r#""Hi""#, Some(Visible), "Hi", ""),
            (r#"" ""#, Some(Visible), " ", ""),
            (r#""a\n\u00e9\ud83e\udd80""#, Some(Visible), "a\né🦀", ""),
            (r#""\ud83e""#, Some(Visible), "\u{fffd}", ""),
            (r#""""#, None, "", ""),
            ("null", None, "", ""),
            ("[]", None, "", ""),
            (r#"{"city":"Rome"}"#, Some(Visible), r#"{"city":"Rome"}"#, ""),
            (
                r#"[{"type":"text","text":"a"},{"text":"b"}]"#,
                Some(Visible),
                "ab",
                "",
            ),
            (r#"[{"type":"text","text":""}]"#, None, "", ""),
            (
                r#"[{"type":"thinking","thinking":[{"text":"Hm"}]}]"#,
                Some(Reasoning),
                "",
                "Hm",
            ),
            (r#"[{"thinking":"Hm"},{"text":"So"}]"#, Some(Both), "So", "Hm"),
            // However deep: no recursion.
            (r#"[{"text":[{"text":[{"text":"a"}]}]}]"#, None, "", ""),
            ("[1]", None, "", ""),
        ] {
            let (is, transcript) = said(json);
            assert_eq!(
                (is, transcript.visible.as_str(), transcript.reasoning.as_str()),
                (output, visible, reasoning),
                "{json}"
            );
        }
    }
}
