//! Where an answer goes: HTTP/1.1 or HTTP/2, with what a fault wants of the way.

use std::io;

use super::{
    connection::Connection,
    http1::{self, Framing, Head},
    http2,
};

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseHead<'a> {
    pub status: u16,
    pub content_type: &'a str,
    pub headers: &'a [(&'static str, String)],
}

/// The way to one client, for one answer. Each instant that it returns was taken immediately before the write
/// (HTTP/1.1) or before the frame was handed to the connection (HTTP/2).
#[derive(Debug)]
pub(super) struct Outlet<'a> {
    way: Way<'a>,
    /// Bytes a write at most.
    pub split: Option<usize>,
}

#[derive(Debug)]
enum Way<'a> {
    Http1 {
        connection: &'a mut Connection,
        framing: Framing,
        keep_alive: bool,
        /// Used again for each frame, so that a token costs no allocation.
        wire: Vec<u8>,
    },
    Http2(http2::Exchange),
}

impl<'a> Outlet<'a> {
    pub(super) fn http1(connection: &'a mut Connection, head: &Head) -> Self {
        let way = Way::Http1 {
            connection,
            framing: if head.chunks {
                Framing::Chunked
            } else {
                Framing::UntilClose
            },
            keep_alive: head.keep_alive,
            wire: Vec::new(),
        };
        Self { way, split: None }
    }

    /// For the last words to a client whose request was not understood.
    pub(super) const fn rejecting(connection: &'a mut Connection) -> Self {
        let way = Way::Http1 {
            connection,
            framing: Framing::UntilClose,
            keep_alive: false,
            wire: Vec::new(),
        };
        Self { way, split: None }
    }

    pub(super) const fn http2(exchange: http2::Exchange) -> Self {
        Self {
            way: Way::Http2(exchange),
            split: None,
        }
    }

    pub(super) const fn is_http2(&self) -> bool {
        matches!(self.way, Way::Http2(_))
    }

    /// A whole response.
    pub(super) async fn whole(&mut self, head: ResponseHead<'_>, body: &[u8]) -> io::Result<u64> {
        match &mut self.way {
            Way::Http1 {
                connection,
                keep_alive,
                ..
            } => {
                let response = http1::response(head, body, *keep_alive);
                write(connection, &response, self.split, response.len()).await
            }
            Way::Http2(exchange) => {
                let at = exchange.head(head, body.is_empty())?;
                if !body.is_empty() {
                    exchange.data(body, self.split, true).await?;
                }
                Ok(at)
            }
        }
    }

    /// The head of a response whose body comes bit by bit.
    pub(super) async fn head(&mut self, head: ResponseHead<'_>) -> io::Result<u64> {
        match &mut self.way {
            Way::Http1 {
                connection,
                framing,
                keep_alive,
                ..
            } => {
                let head = http1::stream_head(head, *framing, *keep_alive);
                write(connection, head.as_bytes(), self.split, head.len()).await
            }
            Way::Http2(exchange) => exchange.head(head, false),
        }
    }

    /// A piece of the body; the `last` one carries its end. With writes that are split, the instant is that of
    /// the write that carried the piece's last byte.
    pub(super) async fn piece(&mut self, payload: &[u8], last: bool) -> io::Result<u64> {
        match &mut self.way {
            Way::Http1 {
                connection,
                framing,
                wire,
                ..
            } => {
                wire.clear();
                let end = http1::piece(wire, *framing, payload, last);
                write(connection, wire, self.split, end).await
            }
            Way::Http2(exchange) => exchange.data(payload, self.split, last).await,
        }
    }

    /// Returns when the client is gone. Safe to drop at any time.
    pub(super) async fn gone(&mut self) -> io::Error {
        match &mut self.way {
            Way::Http1 { connection, .. } => connection.gone().await,
            Way::Http2(exchange) => exchange.gone().await,
        }
    }

    /// RST; in HTTP/2 of the stream.
    pub(super) fn reset(&mut self) {
        match &mut self.way {
            Way::Http1 { connection, .. } => connection.abort(),
            Way::Http2(exchange) => exchange.reset(),
        }
    }

    /// Closes the connection, whatever is still to come.
    pub(super) fn close(&mut self) {
        match &mut self.way {
            Way::Http1 { connection, .. } => connection.close(),
            Way::Http2(exchange) => exchange.end_connection(http2::Ending::Close),
        }
    }

    /// Nothing more is to be written.
    pub(super) async fn leave(self) {
        if let Way::Http2(exchange) = self.way {
            exchange.leave().await;
        }
    }

    /// GOAWAY, and the end of the connection; HTTP/1.1 can only close.
    pub(super) fn goaway(&mut self) {
        match &mut self.way {
            Way::Http1 { connection, .. } => connection.close(),
            Way::Http2(exchange) => exchange.end_connection(http2::Ending::Goaway),
        }
    }
}

/// Writes `bytes`; the instant is that of the write with the last of the first `end` bytes.
async fn write(
    connection: &mut Connection,
    bytes: &[u8],
    split: Option<usize>,
    end: usize,
) -> io::Result<u64> {
    let Some(size) = split else {
        return connection.write(bytes).await;
    };
    let (mut begin, mut stamp) = (0, 0);
    for part in bytes.chunks(size.max(1)) {
        let at = connection.write(part).await?;
        if begin < end {
            stamp = at;
        }
        begin += part.len();
    }
    Ok(stamp)
}
