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

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Vec<(String, String, bool)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut frames = Vec::new();
        let mut each =
            |frame: Frame<'_>| frames.push((text(frame.event), text(frame.data), frame.unterminated));
        let mut decoder = SseDecoder::default();
        decoder.push(bytes, &mut each).unwrap();
        decoder.finish(&mut each);
        frames
    }

    #[test]
    fn events_follow_the_standard() {
        type Case<'a> = (&'a str, &'a [u8], &'a [(&'a str, &'a str)]);
        let cases: &[Case<'_>] = &[
            ("LF", b"data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]),
            ("CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", &[("", "a"), ("", "b")]),
            ("CR", b"data: a\r\rdata: b\r\r", &[("", "a"), ("", "b")]),
            ("no space", b"data:a\n\n", &[("", "a")]),
            ("one space is stripped, no more", b"data:  a \n\n", &[("", " a ")]),
            ("several lines", b"data: a\ndata\ndata: b\n\n", &[("", "a\n\nb")]),
            (
                "comments",
                b": hi\ndata: a\n: there\ndata: b\n\n:\n\n",
                &[("", "a\nb")],
            ),
            ("byte order mark", b"\xef\xbb\xbfdata: a\n\n", &[("", "a")]),
            (
                "a second mark is part of a field's name",
                b"\n\xef\xbb\xbfdata: a\n\n",
                &[],
            ),
            ("empty data", b"data:\n\ndata: \n\n\n\n", &[]),
            (
                "event before data",
                b"event: ping\ndata: {}\n\n",
                &[("ping", "{}")],
            ),
            (
                "event after data",
                b"data: {}\nevent: ping\n\ndata: a\n\n",
                &[("ping", "{}"), ("", "a")],
            ),
            (
                "an event's name alone",
                b"event: ping\n\ndata: a\n\n",
                &[("", "a")],
            ),
            (
                "id, retry, unknown",
                b"id: 7\nretry: 10\nfoo: bar\ndata: a\n\n",
                &[("", "a")],
            ),
            (
                "llama.cpp's error field",
                b"error: {\"code\":500}\n\n",
                &[("error", "{\"code\":500}")],
            ),
            (
                "line separator in JSON",
                "data: \"\u{2028}\"\n\n".as_bytes(),
                &[("", "\"\u{2028}\"")],
            ),
        ];
        for (case, bytes, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|&(event, data)| (event.to_owned(), data.to_owned(), false))
                .collect();
            assert_eq!(decode(bytes), expected, "{case}");
        }
    }

    #[test]
    fn what_the_end_of_the_body_cuts_is_marked() {
        for bytes in ["data: a", "data: a\n", "data: a\r\n", "data: a\r"] {
            assert_eq!(
                decode(bytes.as_bytes()),
                [(String::new(), "a".into(), true)],
                "{bytes:?}"
            );
        }
        assert_eq!(decode(b"data: a\n\n: bye"), [(String::new(), "a".into(), false)]);
    }
}
