//! Server-sent events, as the WHATWG defines them, with three allowances that LLM servers need: an event at
//! the end of the body without its blank line is handed on, an event with data but empty is not, and a field
//! named `error` (older llama.cpp servers) is an event of that name.

use memchr::{memchr, memchr2};

use super::{Frame, FramingError, LineBuffer, MAX_FRAME, append, empty};

const BOM: &[u8] = b"\xef\xbb\xbf";
const MAX_NAME: usize = 256;

#[derive(Debug, Default)]
pub(super) struct SseDecoder {
    line: LineBuffer,
    event: Event,
    /// The last chunk ended in CR: an LF at the beginning of the next one belongs to it.
    after_cr: bool,
    /// The first line, which may begin with a byte order mark, is behind us.
    begun: bool,
}

/// The event that is being put together.
#[derive(Debug, Default)]
struct Event {
    name: Vec<u8>,
    data: Vec<u8>,
    /// `data` holds at least one line.
    any: bool,
}

impl SseDecoder {
    pub(super) fn push(
        &mut self,
        mut chunk: &[u8],
        each: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), FramingError> {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some((line, rest)) =
            memchr2(b'\r', b'\n', chunk).and_then(|end| chunk.split_at_checked(end))
        {
            let (begun, event) = (&mut self.begun, &mut self.event);
            self.line
                .complete(line, |line| event.line(strip_bom(line, begun), each))??;
            chunk = match rest {
                [b'\r', b'\n', after @ ..] | [_, after @ ..] => after,
                [] => rest,
            };
            self.after_cr = rest == b"\r";
        }
        self.line.keep(chunk)
    }

    pub(super) fn finish(&mut self, each: &mut impl FnMut(Frame<'_>)) {
        let last = std::mem::take(&mut self.line.0);
        let begun = &mut self.begun;
        // What is left is shorter than a whole event may be, or it would have been an error before.
        let fits = last.is_empty() || self.event.line(strip_bom(&last, begun), each).is_ok();
        drop(last);
        if fits {
            self.event.dispatch(true, each);
        }
    }
}

fn strip_bom<'a>(line: &'a [u8], begun: &mut bool) -> &'a [u8] {
    if std::mem::replace(begun, true) {
        line
    } else {
        line.strip_prefix(BOM).unwrap_or(line)
    }
}

impl Event {
    fn line(&mut self, line: &[u8], each: &mut impl FnMut(Frame<'_>)) -> Result<(), FramingError> {
        if line.is_empty() {
            self.dispatch(false, each);
            return Ok(());
        }
        let (field, value) = match memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) {
            Some((field, rest)) => {
                let value = rest.strip_prefix(b":").unwrap_or(rest);
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if self.data.len() + value.len() + 1 > MAX_FRAME {
                    return Err(FramingError::TooLong);
                }
                if self.any {
                    append(&mut self.data, b"\n");
                }
                append(&mut self.data, value);
                self.any = true;
            }
            b"event" => {
                self.name.clear();
                // No event that means anything has a longer name.
                let most = value.len().min(MAX_NAME);
                self.name.extend_from_slice(value.get(..most).unwrap_or(value));
            }
            b"error" => each(Frame {
                event: b"error",
                data: value,
                unterminated: false,
            }),
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, unterminated: bool, each: &mut impl FnMut(Frame<'_>)) {
        if !self.data.is_empty() {
            each(Frame {
                event: &self.name,
                data: &self.data,
                unterminated,
            });
        }
        self.name.clear();
        empty(&mut self.data);
        self.any = false;
    }
}
