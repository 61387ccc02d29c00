//! The last lines of the log, as standard error has them, for the page. Bounded in lines and in bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::Level;

/// Lines that are kept.
pub const LINES: usize = 2000;

/// Bytes of lines that are kept.
const BYTES: usize = 1 << 20;

/// A longer line is cut, in bytes.
const LINE: usize = 8 << 10;

/// The last lines. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: Arc<str>,
}

impl Logs {
    /// Keeps what was written of one event.
    pub fn keep(&self, level: Level, written: &[u8]) {
        let text = String::from_utf8_lossy(written);
        let mut text = without_colours(text.trim_end());
        text.truncate(text.floor_char_boundary(LINE));
        if text.is_empty() {
            return;
        }
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += text.len();
        ring.lines.push_back(Line {
            level,
            text: text.into(),
        });
        while ring.lines.len() > LINES || ring.bytes > BYTES {
            let Some(oldest) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= oldest.text.len();
        }
    }

    /// The last `count` lines that are as grave as `level` or graver, the latest first.
    pub fn last(&self, count: usize, level: Level) -> Vec<Line> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is graver is less.
        let lines = ring.lines.iter().rev().filter(|line| line.level <= level);
        lines.take(count).cloned().collect()
    }
}

/// A terminal is given colours, which are no part of the line; nor is any other control character.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                characters.by_ref().find(char::is_ascii_alphabetic);
            }
            '\n' | '\t' => plain.push(character),
            _ if character.is_control() => plain.push(char::REPLACEMENT_CHARACTER),
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    #[test]
    fn the_last_grave_lines_are_told() {
        let logs = Logs::default();
        for (level, text) in [
            (Level::ERROR, "one\n"),
            (Level::INFO, "\u{1b}[32mtwo\u{1b}[0m a\u{7}b\n"),
            (Level::DEBUG, "three\n"),
            (Level::WARN, "four\n"),
            (Level::WARN, "\n"),
        ] {
            logs.keep(level, text.as_bytes());
        }
        assert_eq!(texts(&logs.last(9, Level::WARN)), ["four", "one"]);
        assert_eq!(texts(&logs.last(1, Level::TRACE)), ["four"]);
        assert_eq!(texts(&logs.last(2, Level::INFO)), ["four", "two a\u{fffd}b"]);
    }

    #[test]
    fn it_stays_small() {
        let logs = Logs::default();
        for number in 0..2 * LINES {
            logs.keep(Level::INFO, format!("{number}\n").as_bytes());
        }
        let kept = logs.last(usize::MAX, Level::TRACE);
        assert_eq!(kept.len(), LINES);
        assert_eq!(&*kept[0].text, (2 * LINES - 1).to_string());
        for _ in 0..300 {
            logs.keep(Level::INFO, "é".repeat(LINE).as_bytes());
        }
        let kept = logs.last(usize::MAX, Level::TRACE);
        assert!(kept.iter().map(|line| line.text.len()).sum::<usize>() <= BYTES);
        assert!(kept.iter().all(|line| line.text.len() <= LINE) && kept.len() >= BYTES / LINE);
    }
}
