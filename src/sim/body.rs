//! The bodies of requests, of known length or in chunks, without I/O. Tested with the heads in `http1`.

use bytes::{Buf, BytesMut};
use memchr::memmem;

use super::http1::{Rejection, reject};

/// A request body at most, without its chunk framing.
pub(super) const MAX_BODY: usize = 16 * 1024 * 1024;
/// A chunk's size line or a trailer line at most.
pub(super) const MAX_LINE: usize = 1024;
/// Trailer lines at most.
const MAX_TRAILERS: u32 = 64;

pub(super) const TOO_LONG: Rejection = reject(413, "the request body is too large");

/// What is still to come of a request's body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(usize),
    Chunked(Chunk),
}

/// Where in the chunked framing the reader stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    Data(usize),
    DataEnd,
    Trailer(u32),
    End,
}

impl Body {
    /// Moves what `bytes` has of the body to the end of `into`; true when it is whole.
    pub(super) fn take(&mut self, bytes: &mut BytesMut, into: &mut Vec<u8>) -> Result<bool, Rejection> {
        match self {
            Self::Length(left) => {
                *left -= carry(bytes, into, *left);
                Ok(*left == 0)
            }
            Self::Chunked(chunk) => {
                while *chunk != Chunk::End {
                    match chunk.advance(bytes, into)? {
                        Some(next) => *chunk = next,
                        None => return Ok(false),
                    }
                }
                Ok(true)
            }
        }
    }
}

impl Chunk {
    /// The next state, or `None` when `bytes` does not hold enough for one.
    fn advance(&self, bytes: &mut BytesMut, into: &mut Vec<u8>) -> Result<Option<Self>, Rejection> {
        const BROKEN: Rejection = reject(400, "the chunked body is broken");
        Ok(match self {
            Self::Size => {
                let Some(line) = line(bytes)? else {
                    return Ok(None);
                };
                let digits = line
                    .as_ref()
                    .split(|byte: &u8| *byte == b';')
                    .next()
                    .unwrap_or_default();
                let size = std::str::from_utf8(digits.trim_ascii())
                    .ok()
                    .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|text| usize::from_str_radix(text, 16).ok())
                    .ok_or(BROKEN)?;
                if size > MAX_BODY - into.len() {
                    return Err(TOO_LONG);
                }
                Some(if size == 0 {
                    Self::Trailer(0)
                } else {
                    Self::Data(size)
                })
            }
            Self::Data(left) => {
                let taken = carry(bytes, into, *left);
                match left - taken {
                    0 => Some(Self::DataEnd),
                    _ if taken == 0 => None,
                    left => Some(Self::Data(left)),
                }
            }
            Self::DataEnd => match line(bytes)? {
                Some(line) if line.is_empty() => Some(Self::Size),
                Some(_) => return Err(BROKEN),
                None => None,
            },
            Self::Trailer(MAX_TRAILERS) => return Err(BROKEN),
            Self::Trailer(count) => line(bytes)?.map(|line| {
                if line.is_empty() {
                    Self::End
                } else {
                    Self::Trailer(count + 1)
                }
            }),
            Self::End => None,
        })
    }
}

/// Moves up to `most` bytes and tells how many.
fn carry(bytes: &mut BytesMut, into: &mut Vec<u8>, most: usize) -> usize {
    let count = bytes.len().min(most);
    into.extend_from_slice(&bytes.split_to(count));
    count
}

/// Takes a line off the beginning, without its CRLF.
fn line(bytes: &mut BytesMut) -> Result<Option<BytesMut>, Rejection> {
    match memmem::find(bytes, b"\r\n") {
        Some(at) if at <= MAX_LINE => {
            let line = bytes.split_to(at);
            bytes.advance(2);
            Ok(Some(line))
        }
        None if bytes.len() <= MAX_LINE => Ok(None),
        _ => Err(reject(400, "a line of the chunked body is too long")),
    }
}
