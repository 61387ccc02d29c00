//! Secrets are overwritten, byte by byte, so that nothing else of a recording moves.

use std::ops::Range;

use memchr::memmem::Finder;

use crate::{client, tape::Tape};

/// The secrets that a request was sent with, in every form that is looked for.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    pub(super) fn of(tape: &Tape) -> Self {
        let forms = tape.secrets.0.iter();
        Self(forms.map(|form| form.clone().into_bytes()).collect())
    }

    /// Overwrites secrets in `bytes`, which may end in the middle of one; whether there were any.
    pub(super) fn mask(&self, bytes: &mut [u8]) -> bool {
        self.overwrite(bytes, b'*')
    }

    fn overwrite(&self, bytes: &mut [u8], with: u8) -> bool {
        // All are found before any is overwritten: they may overlap.
        let found: Vec<Range<usize>> = self.0.iter().flat_map(|secret| places(secret, bytes)).collect();
        for place in &found {
            if let Some(bytes) = bytes.get_mut(place.clone()) {
                bytes.fill(with);
            }
        }
        !found.is_empty()
    }

    /// The same of text.
    pub(super) fn mask_text(&self, text: &str, masked: &mut bool) -> String {
        let mut bytes = text.as_bytes().to_vec();
        *masked |= self.mask(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The same of a regular expression, which remains one and matches masked text.
    pub(super) fn mask_pattern(&self, pattern: &str, masked: &mut bool) -> String {
        let mut bytes = pattern.as_bytes().to_vec();
        *masked |= self.overwrite(&mut bytes, b'.');
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Where `secret` is in `bytes`: everywhere it is whole, and its beginning at the end.
fn places(secret: &[u8], bytes: &[u8]) -> Vec<Range<usize>> {
    let finder = Finder::new(secret);
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| finder.find(rest)) {
        let place = from + at..from + at + secret.len();
        from = place.start + 1;
        match found.last_mut() {
            Some(last) if last.end >= place.start => last.end = place.end,
            _ => found.push(place),
        }
    }
    let torn = (client::SHORTEST_SECRET..secret.len())
        .rev()
        .find(|&length| secret.get(..length).is_some_and(|part| bytes.ends_with(part)));
    found.extend(torn.map(|length| bytes.len() - length..bytes.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], text: &str) -> String {
        let secrets = Secrets(secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect());
        secrets.mask_text(text, &mut false)
    }

    #[test]
    fn a_pattern_remains_one_that_matches() {
        let secrets = Secrets(vec![b"hunter2".to_vec()]);
        let mut masked = false;
        let pattern = secrets.mask_pattern("^hunter2+!", &mut masked);
        assert_eq!((pattern.as_str(), masked), ("^.......+!", true));
        let text = secrets.mask_text("hunter2!", &mut masked);
        assert!(crate::expect::Pattern::new(&pattern).is_ok() && text == "*******!");
    }

    #[test]
    fn secrets_are_overwritten_wherever_they_are() {
        for (secrets, text, expected) in [
            (&["hunter2"][..], "a hunter2, hunter2", "a *******, *******"),
            (&["hunter2"], "it breaks off: hunt", "it breaks off: ****"),
            (&["hunter2"], "hun", "hun"),
            (&["hunter2"], "é hunter2🦀", "é *******🦀"),
            (&["abcdef", "defghi"], "abcdefghi", "*********"),
            (&["aaaa"], "baaaaaab", "b******b"),
            (&["sk-1", "sk-1-long"], "sk-1-long", "*********"),
            (&[], "hunter2", "hunter2"),
        ] {
            assert_eq!(masked(secrets, text), expected);
        }
    }
}
