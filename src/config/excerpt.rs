//! The line of the configuration that a problem is about, with a caret under the place and without anything that
//! might be a secret.
//!
//! A line is masked by permission, not by suspicion: keys are shown if they have a value (`{ value hunter2 }` is a
//! key without one), and of the values only those that were read under a key which never holds a secret. So the value of a header, of `credentials:` or of a key that does not
//! exist is never shown, also not when it stands beside the mistake. Where the text is no YAML there are no keys:
//! then a line is shown that is nothing but a key and its value, and of other lines only the words that are keys.

use std::{collections::HashSet, fmt};

use super::{
    positions::{NodeId, Positions, Shape, Spot},
    problem::Place,
    raw::items,
    secret::looks_secret,
};

/// Longer lines are cut, in characters.
const MAX_LINE: usize = 110;
const MASK: &str = "***";

/// A masked line and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    line: String,
    /// Characters before the caret.
    before: usize,
    carets: usize,
}

impl Excerpt {
    /// The line on which `id` begins.
    pub(super) fn of(
        text: &str,
        positions: &Positions,
        id: NodeId,
        permitted: &HashSet<NodeId>,
    ) -> Option<Self> {
        let spot = positions.get(id)?;
        let line = spot.start.line;
        let source: Vec<char> = text.lines().nth(line.checked_sub(1)?)?.chars().collect();
        let mut cover = vec![None; source.len()];
        let on_line = |(_, other): &(NodeId, &Spot)| (other.start.line..=other.end.line).contains(&line);
        for (id, other) in positions.each().filter(on_line) {
            let (from, to) = columns(other, line, source.len());
            let show = match &other.shape {
                Shape::Scalar(text) => permitted.contains(&id) && !looks_secret(text),
                Shape::Alias(_) => false,
                Shape::List(_) | Shape::Map(_) => continue,
            };
            if let Some(cells) = cover.get_mut(from..to) {
                cells.fill(Some((id, show)));
            }
        }
        let pieces = pieces(&source, |at| cover.get(at).copied().flatten());
        let (from, to) = columns(spot, line, source.len());
        let to = match spot.shape {
            Shape::Scalar(_) | Shape::Alias(_) => to,
            Shape::List(_) | Shape::Map(_) => from + 1,
        };
        Self::fit(&pieces, from, to)
    }

    /// The line of a text that is no YAML.
    pub(super) fn of_syntax(text: &str, place: Place) -> Option<Self> {
        let source = text.lines().nth(place.line.checked_sub(1)?)?;
        let whole = is_harmless(source);
        let vocabulary: HashSet<&str> = items::keys().collect();
        let mut pieces = Vec::new();
        let characters: Vec<char> = source.chars().collect();
        for word in characters.chunk_by(|one, next| is_word(*one) == is_word(*next)) {
            let text: String = word.iter().collect();
            let is_masked =
                word.iter().copied().all(is_word) && !whole && !vocabulary.contains(text.as_str());
            pieces.push((word.len(), if is_masked { MASK.to_owned() } else { text }));
        }
        let from = place.column.saturating_sub(1);
        Self::fit(&pieces, from, from + 1)
    }

    /// Puts the caret under columns `from..to` of the source, whose pieces may have another length when shown.
    fn fit(pieces: &[(usize, String)], from: usize, to: usize) -> Option<Self> {
        let (mut line, mut column, mut shown) = (String::new(), 0, 0);
        let (mut start, mut end) = (None, None);
        for (length, text) in pieces {
            let width = text.chars().count();
            let inside = |wanted: usize| shown + (wanted - column).min(width);
            if start.is_none() && from < column + length {
                start = Some(inside(from.max(column)));
            }
            if end.is_none() && to <= column + length {
                end = Some(if *length == width {
                    inside(to.max(column))
                } else {
                    shown + width
                });
            }
            line.push_str(text);
            column += length;
            shown += width;
        }
        let before = start.unwrap_or(shown);
        let carets = end.unwrap_or(shown).saturating_sub(before).max(1);
        if before >= MAX_LINE {
            return None;
        }
        let printable = |c: char| {
            if c.is_control() && c != '\t' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        let mut cut: String = line.chars().take(MAX_LINE).map(printable).collect();
        cut.truncate(cut.trim_end().len());
        let is_cut = shown > MAX_LINE;
        Some(Self {
            line: if is_cut { cut + "…" } else { cut },
            before,
            carets: carets.min(MAX_LINE - before),
        })
    }

    /// The line and the carets, with the number of the line in the margin.
    pub(super) fn under(&self, line: usize) -> impl fmt::Display {
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let indent: String = self
            .line
            .chars()
            .chain(std::iter::repeat(' '))
            .take(self.before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(self.carets);
        format!("  {number} | {}\n  {margin} | {indent}{carets}", self.line)
    }
}

/// The columns of `line`, from 0, that a node covers.
fn columns(spot: &Spot, line: usize, length: usize) -> (usize, usize) {
    let (start, end) = (spot.start, spot.end);
    if line < start.line || line > end.line {
        return (0, 0);
    }
    let from = if start.line == line { start.column - 1 } else { 0 };
    let to = if end.line == line { end.column - 1 } else { length };
    let from = from.min(length);
    (from, to.clamp(from, length))
}

/// Whether the line is `key: value` with a key that never holds a secret, and nothing else.
fn is_harmless(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '-']);
    let Some((key, value)) = line.split_once(':') else {
        return false;
    };
    let holds_no_secret = items::keys().any(|known| known == key) && !items::MAY_HOLD_SECRETS.contains(&key);
    holds_no_secret
        && !value.contains(['{', '#', '&'])
        && !looks_secret(value)
        && !items::MAY_HOLD_SECRETS.iter().any(|key| value.contains(key))
}

/// Splits a line into pieces of what is shown. What belongs to no node is punctuation, the name of an anchor (or a
/// password that begins with `&`), or a comment, which ends the line.
fn pieces(source: &[char], cover: impl Fn(usize) -> Option<(NodeId, bool)>) -> Vec<(usize, String)> {
    let mut pieces: Vec<(usize, String)> = Vec::new();
    let mut at = 0;
    while let Some(first) = source.get(at) {
        let node = cover(at);
        let same = |next: usize| match node {
            Some(_) => cover(next) == node,
            None => {
                cover(next).is_none() && source.get(next).copied().is_some_and(is_word) == is_word(*first)
            }
        };
        let length = 1 + (at + 1..source.len()).take_while(|next| same(*next)).count();
        let text: String = source.iter().skip(at).take(length).collect();
        match node {
            Some((_, true)) => pieces.push((length, text)),
            None if text.contains('#') => {
                let punctuation = text.split('#').next().unwrap_or_default();
                pieces.push((length, punctuation.to_owned()));
                break;
            }
            None if !is_word(*first) => pieces.push((length, text)),
            Some((_, false)) | None => pieces.push((length, MASK.to_owned())),
        }
        at += length;
    }
    pieces
}

/// Whether the character may be part of a value, rather than of YAML's punctuation.
fn is_word(character: char) -> bool {
    !character.is_whitespace() && !"-?:,[]{}&*!|>'\"#~".contains(character)
}
