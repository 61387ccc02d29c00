//! The bytes of one response as they were read, kept for a recording (see [`crate::recording`]) where there is
//! one. No clock, no I/O, bounded memory.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    outcome::Ended,
    response::{Head, Read},
};

/// The most that is kept of one response; each chunk costs its bytes and [`CHUNK`] more.
pub const MOST: usize = 8 << 20;

/// What keeping a chunk costs beside its bytes: its instant and its end.
pub const CHUNK: usize = size_of::<(Instant, usize)>();

/// The most that all tapes of a process hold together, those that wait to be written included.
const MOST_OF_ALL: usize = 256 << 20;

/// Headers that say how to read the body, and when to come back.
const KEPT_HEADERS: &[&str] = &[
    "content-type",
    "content-encoding",
    "retry-after",
    "retry-after-ms",
    "x-ms-retry-after-ms",
];
const KEPT_PREFIXES: &[&str] = &["x-ratelimit-", "anthropic-ratelimit-"];

/// What all tapes of a process have in common: how many bytes they hold.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<AtomicUsize>);

impl Room {
    /// A tape for the response to a request with this body.
    pub fn tape(&self, request: Bytes) -> Tape {
        Tape {
            request,
            head: None,
            bytes: Vec::new(),
            chunks: Vec::new(),
            ending: None,
            truncated: false,
            held: 0,
            room: self.clone(),
            secrets: Hidden::default(),
        }
    }
}

/// One response.
#[derive(Debug)]
pub struct Tape {
    /// The body of the request.
    pub request: Bytes,
    /// The head, with those of its headers that matter; `None` when none came.
    pub head: Option<Head>,
    bytes: Vec<u8>,
    /// When each chunk was read, and where in `bytes` it ends.
    chunks: Vec<(Instant, usize)>,
    /// How reading ended; `None` when what was read last ended the request.
    pub ending: Option<(Instant, Ending)>,
    /// From some place on, chunks were not kept.
    pub truncated: bool,
    held: usize,
    room: Room,
    /// What the request was sent with, and a recording may not hold.
    pub secrets: Hidden,
}

/// Secrets, in every form in which they may be sent back. `Debug` does not show them.
#[derive(Clone, Default)]
pub struct Hidden(pub Arc<[String]>);

impl fmt::Debug for Hidden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Hidden").finish_non_exhaustive()
    }
}

/// [`Read`] without its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    End,
    Broke(Ended),
    Late,
}

impl Tape {
    pub fn head(&mut self, head: &Head) {
        let kept = head.headers.iter().filter(|(name, _)| {
            let name = name.as_str();
            KEPT_HEADERS.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        });
        self.head = Some(Head {
            status: head.status,
            unix_seconds: head.unix_seconds,
            headers: kept.map(|(name, value)| (name.clone(), value.clone())).collect(),
        });
    }

    /// Keeps what was read at `at`.
    pub fn read(&mut self, read: &Read<'_>, at: Instant) {
        let ending = match read {
            Read::Chunk(chunk) => {
                self.chunk(chunk, at);
                return;
            }
            Read::End => Ending::End,
            Read::Broke(ended) => Ending::Broke(ended.clone()),
            Read::Late => Ending::Late,
        };
        self.ending = Some((at, ending));
    }

    /// Keeps a chunk if there is room; after one that was not kept, none is.
    pub fn chunk(&mut self, chunk: &[u8], at: Instant) {
        if chunk.is_empty() || self.truncated {
            return;
        }
        let cost = chunk.len() + CHUNK;
        let full = self.held + cost > MOST
            || self.room.0.fetch_add(cost, Ordering::Relaxed) + cost > MOST_OF_ALL && {
                self.room.0.fetch_sub(cost, Ordering::Relaxed);
                true
            };
        if full {
            self.truncated = true;
            return;
        }
        self.held += cost;
        self.bytes.extend_from_slice(chunk);
        self.chunks.push((at, self.bytes.len()));
    }

    /// The chunks that were kept, in the order in which they came.
    pub fn chunks(&self) -> impl Iterator<Item = (Instant, &[u8])> {
        let begins = std::iter::once(0).chain(self.chunks.iter().map(|&(_, end)| end));
        self.chunks
            .iter()
            .zip(begins)
            .filter_map(|(&(at, end), begin)| Some((at, self.bytes.get(begin..end)?)))
    }

    /// All chunks that were kept, as one.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_kept_as_they_came() {
        let t0 = Instant::now();
        let mut tape = Room::default().tape(Bytes::new());
        for chunk in [&b"ab"[..], b"", b"c"] {
            tape.read(&Read::Chunk(chunk), t0);
        }
        tape.read(&Read::End, t0);
        assert_eq!(tape.chunks().collect::<Vec<_>>(), [(t0, &b"ab"[..]), (t0, b"c")]);
        assert_eq!((tape.bytes(), tape.truncated), (&b"abc"[..], false));
        assert_eq!(tape.ending, Some((t0, Ending::End)));
    }

    #[test]
    fn memory_is_bounded() {
        let t0 = Instant::now();
        let room = Room::default();
        let mut endless = room.tape(Bytes::new());
        let mut dribble = room.tape(Bytes::new());
        for _ in 0..20 {
            endless.chunk(&vec![b'x'; 1 << 20], t0);
        }
        for _ in 0..MOST {
            dribble.chunk(b"x", t0);
        }
        assert!(endless.truncated && dribble.truncated);
        assert!(endless.held <= MOST && dribble.held <= MOST);
        // What follows a chunk that was not kept would make no sense.
        let kept = endless.bytes().len();
        endless.chunk(b"x", t0);
        assert_eq!(endless.bytes().len(), kept);

        let mut many: Vec<_> = (0..40).map(|_| room.tape(Bytes::new())).collect();
        for tape in &mut many {
            tape.chunk(&vec![b'x'; MOST - CHUNK], t0);
        }
        assert!(many.iter().any(|tape| tape.truncated) && !many[0].truncated);
        assert!(room.0.load(Ordering::Relaxed) <= MOST_OF_ALL);
        drop((many, endless, dribble));
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_headers_that_matter_are_kept() {
        let headers = [
            ("content-type", "text/event-stream"),
            ("x-ratelimit-reset-tokens", "1s"),
            ("set-cookie", "a=b"),
        ];
        let mut tape = Room::default().tape(Bytes::new());
        tape.head(&Head {
            status: http::StatusCode::OK,
            unix_seconds: 0.0,
            headers: headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect(),
        });
        let head = tape.head.as_ref().unwrap();
        assert_eq!(
            (head.headers.len(), head.media_type().as_str()),
            (2, "text/event-stream")
        );
    }
}
