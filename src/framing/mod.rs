//! Bytes → frames: server-sent events and newline-delimited JSON. No I/O, no clock; a stream cut at any
//! byte gives the same frames.

mod ndjson;
mod sse;

use ndjson::NdjsonDecoder;
use sse::SseDecoder;

/// One SSE event or NDJSON line. It borrows from the decoder or the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The name of an SSE event; empty when it has none, and in NDJSON.
    pub event: &'a [u8],
    pub data: &'a [u8],
    /// The body ended before the frame did: it may be whole all the same (servers leave out the last blank line).
    pub unterminated: bool,
}

/// Why bytes are not frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("a line or event longer than {} bytes", MAX_FRAME)]
    TooLong,
    #[error("more than {} frames in one response", MAX_FRAMES)]
    TooMany,
}

/// The longest line or event that is decoded, in bytes. An event is held twice at most, as its last line and as
/// what the lines say: together with as many gaps between frames as there may be, and the text of the answer, that is
/// within the 8 MiB that a request may take.
pub const MAX_FRAME: usize = 3 << 19;

/// A buffer larger than this is given back once it is empty.
const KEPT: usize = 64 << 10;

/// The most frames of one response; more would not fit the memory that a request may take.
pub const MAX_FRAMES: u32 = 1 << 17;

/// Which framing a dialect uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Sse,
    Ndjson,
}

/// Decodes one response body.
#[derive(Debug)]
pub struct Deframer {
    kind: Kind,
    frames: u32,
}

#[derive(Debug)]
enum Kind {
    Sse(SseDecoder),
    Ndjson(NdjsonDecoder),
}

impl Deframer {
    pub fn new(framing: Framing) -> Self {
        let kind = match framing {
            Framing::Sse => Kind::Sse(SseDecoder::default()),
            Framing::Ndjson => Kind::Ndjson(NdjsonDecoder::default()),
        };
        Self { kind, frames: 0 }
    }

    /// Decodes a chunk and hands on each frame that ends in it.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Frame<'_>)) -> Result<(), FramingError> {
        let frames = &mut self.frames;
        let mut count = |frame: Frame<'_>| {
            *frames = frames.saturating_add(1);
            each(frame);
        };
        match &mut self.kind {
            Kind::Sse(decoder) => decoder.push(chunk, &mut count)?,
            Kind::Ndjson(decoder) => decoder.push(chunk, &mut count)?,
        }
        if self.frames > MAX_FRAMES {
            Err(FramingError::TooMany)
        } else {
            Ok(())
        }
    }

    /// The body has ended: hands on what was not terminated.
    pub fn finish(&mut self, mut each: impl FnMut(Frame<'_>)) {
        match &mut self.kind {
            Kind::Sse(decoder) => decoder.finish(&mut each),
            Kind::Ndjson(decoder) => decoder.finish(&mut each),
        }
    }
}

/// Appends to a buffer of at most [`MAX_FRAME`] bytes, which does not grow beyond that, as doubling would make it.
fn append(buffer: &mut Vec<u8>, piece: &[u8]) {
    let needed = buffer.len() + piece.len();
    if needed > buffer.capacity() {
        let capacity = needed.max((2 * buffer.capacity()).min(MAX_FRAME));
        buffer.reserve_exact(capacity - buffer.len());
    }
    buffer.extend_from_slice(piece);
}

/// Empties a buffer, and gives back what a usual frame does not need.
fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

/// A line that may come in pieces, bounded.
#[derive(Debug, Default)]
struct LineBuffer(Vec<u8>);

impl LineBuffer {
    /// Keeps the beginning of a line whose end has not come yet.
    fn keep(&mut self, piece: &[u8]) -> Result<(), FramingError> {
        if self.0.len() + piece.len() > MAX_FRAME {
            return Err(FramingError::TooLong);
        }
        append(&mut self.0, piece);
        Ok(())
    }

    /// Calls `use_line` with what was kept and the line's last piece.
    fn complete<T>(&mut self, piece: &[u8], use_line: impl FnOnce(&[u8]) -> T) -> Result<T, FramingError> {
        if self.0.is_empty() {
            return if piece.len() > MAX_FRAME {
                Err(FramingError::TooLong)
            } else {
                Ok(use_line(piece))
            };
        }
        self.keep(piece)?;
        let used = use_line(&self.0);
        empty(&mut self.0);
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Decoded = (Vec<(Vec<u8>, Vec<u8>, bool)>, Result<(), FramingError>);

    fn decode<'a, I: IntoIterator<Item = &'a [u8]>>(framing: Framing, chunks: I) -> Decoded {
        let mut frames = Vec::new();
        let mut deframer = Deframer::new(framing);
        for chunk in chunks {
            let pushed = deframer.push(chunk, |frame| {
                frames.push((frame.event.to_vec(), frame.data.to_vec(), frame.unterminated));
            });
            if pushed.is_err() {
                return (frames, pushed);
            }
        }
        deframer.finish(|frame| frames.push((frame.event.to_vec(), frame.data.to_vec(), frame.unterminated)));
        (frames, Ok(()))
    }

    /// Streams that are made of the bytes that matter.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"data: {\"a\":1}\n\n".to_vec()),
            Just(b"data:x\r\n\r\n".to_vec()),
            Just(b"event: ping\r".to_vec()),
            Just(b": comment\n".to_vec()),
            Just(b"\xef\xbb\xbf".to_vec()),
            Just(b"error: {}\n".to_vec()),
            Just(b"data\n".to_vec()),
            Just("data: é🦀\u{2028}\n".as_bytes().to_vec()),
            Just(b"{\"done\":true}\n".to_vec()),
            prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), any::<u8>()],
                0..8
            ),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn split_anywhere_decodes_the_same(bytes in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            for framing in [Framing::Sse, Framing::Ndjson] {
                let whole = decode(framing, [bytes.as_slice()]);
                prop_assert_eq!(&decode(framing, bytes.chunks(1)), &whole, "byte by byte");
                let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
                places.extend([0, bytes.len()]);
                places.sort_unstable();
                let cut = decode(framing, places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]));
                prop_assert_eq!(&cut, &whole, "cut at {:?}", places);
            }
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            for framing in [Framing::Sse, Framing::Ndjson] {
                let (frames, decoded) = decode(framing, [bytes.as_slice()]);
                prop_assert!(decoded.is_ok() && frames.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        for framing in [Framing::Sse, Framing::Ndjson] {
            let endless = vec![b'x'; 1 << 20];
            let (frames, result) = decode(framing, std::iter::repeat_n(endless.as_slice(), 100));
            assert_eq!((frames.len(), result), (0, Err(FramingError::TooLong)));
        }
        // Many short lines of one event.
        let lines = b"data: 0123456789\n".repeat(1 << 19);
        assert_eq!(
            decode(Framing::Sse, [lines.as_slice()]).1,
            Err(FramingError::TooLong)
        );
        let frames = b"{}\n".repeat(MAX_FRAMES as usize + 1);
        assert_eq!(
            decode(Framing::Ndjson, frames.chunks(4096)).1,
            Err(FramingError::TooMany)
        );
    }
}
