//! Newline-delimited JSON: a frame a line; blank lines are none.

use memchr::memchr;

use super::{Frame, FramingError, LineBuffer};

#[derive(Debug, Default)]
pub(super) struct NdjsonDecoder {
    line: LineBuffer,
}

impl NdjsonDecoder {
    pub(super) fn push(
        &mut self,
        mut chunk: &[u8],
        each: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), FramingError> {
        while let Some((line, rest)) = memchr(b'\n', chunk).and_then(|end| chunk.split_at_checked(end)) {
            self.line.complete(line, |line| hand_on(line, false, each))?;
            chunk = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        self.line.keep(chunk)
    }

    pub(super) fn finish(&mut self, each: &mut impl FnMut(Frame<'_>)) {
        hand_on(&std::mem::take(&mut self.line.0), true, each);
    }
}

fn hand_on(line: &[u8], unterminated: bool, each: &mut impl FnMut(Frame<'_>)) {
    let data = line.trim_ascii();
    if !data.is_empty() {
        each(Frame {
            event: b"",
            data,
            unterminated,
        });
    }
}
