//! What comes of a response while it is read.

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use crate::outcome::Ended;

/// A response head.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Wall time when it came, in seconds since the Unix epoch: a moment to come back is told in wall time.
    pub unix_seconds: f64,
}

impl Head {
    /// Of the name of a replica, in bytes.
    const LONGEST_REPLICA: usize = 64;

    /// The media type without its parameters, in lower case; empty when there is none.
    pub fn media_type(&self) -> String {
        self.header(&CONTENT_TYPE)
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }

    /// `Content-Encoding`, empty when there is none.
    pub fn encoding(&self) -> &str {
        self.header(&CONTENT_ENCODING)
    }

    /// What `name` says of who answered: its beginning, as far as that is text.
    pub fn replica(&self, name: &HeaderName) -> Option<String> {
        let value = self.headers.get(name)?.as_bytes();
        let value = value.get(..Self::LONGEST_REPLICA).unwrap_or(value);
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn header(&self, name: &HeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// What came of waiting for more of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    Chunk(&'a [u8]),
    /// The body ended.
    End,
    /// The connection broke, or what came was not HTTP.
    Broke(Ended),
    /// Nothing came until the deadline.
    Late,
}
