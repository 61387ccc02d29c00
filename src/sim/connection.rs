//! One HTTP/1.1 connection of a client, with or without TLS: requests in, bytes out, each write stamped.

use std::{future::pending, io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::server::TlsStream;

use super::{
    http1::{self, Head, MAX_HEAD, Rejection},
    pace::monotonic_nanos,
};

/// Between two requests.
const IDLE: Duration = Duration::from_secs(75);
/// From the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(10);
/// From the end of its head to the end of its body.
pub(super) const BODY: Duration = Duration::from_mins(1);
/// For a client that does not read what we write.
pub(super) const WRITE: Duration = Duration::from_secs(30);
/// For a client that still sends what we have already rejected.
const LINGER: Duration = Duration::from_secs(1);

/// A request as it was received.
#[derive(Debug)]
pub(super) struct Request {
    pub head: Head,
    pub body: Vec<u8>,
    /// When the last byte of it was read, in nanoseconds of `CLOCK_MONOTONIC`.
    pub received: u64,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// Read and not used yet; also what a client sends ahead while it is being answered.
    buffer: BytesMut,
    last_read: u64,
    /// Nothing of the buffer has been used yet.
    fresh: bool,
    /// A fault has ended it.
    broken: bool,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

enum Read {
    Some,
    Closed,
    TimedOut,
}

impl Connection {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::over(Stream::Plain(stream))
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::over(Stream::Tls(Box::new(stream)))
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            last_read: 0,
            fresh: true,
            broken: false,
        }
    }

    /// Whether the client begins with the preface of HTTP/2; `None` when it is gone or silent.
    pub(super) async fn speaks_http2(&mut self) -> Option<bool> {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
        loop {
            if self.buffer.starts_with(PREFACE) {
                return Some(true);
            }
            if !PREFACE.starts_with(&self.buffer) {
                return Some(false);
            }
            match self.read(Instant::now() + IDLE).await {
                Read::Some => {}
                Read::Closed | Read::TimedOut => return None,
            }
        }
    }

    /// The stream without TLS, and what was read of it.
    pub(super) fn into_plain(self) -> Option<(TcpStream, BytesMut)> {
        match self.stream {
            Stream::Plain(stream) => Some((stream, self.buffer)),
            Stream::Tls(_) => None,
        }
    }

    /// The next request; `None` when the client has closed or said nothing for long.
    pub(super) async fn request(&mut self) -> Result<Option<Request>, Rejection> {
        const SLOW: Rejection = Rejection {
            status: 408,
            reason: "the request did not arrive in time",
        };
        if self.buffer.is_empty() {
            match self.read(Instant::now() + IDLE).await {
                Read::Some => {}
                Read::Closed | Read::TimedOut => return Ok(None),
            }
        } else if !self.fresh {
            self.last_read = monotonic_nanos();
        }
        self.fresh = false;
        let deadline = Instant::now() + HEAD;
        let mut head = loop {
            if let Some(head) = http1::head(&mut self.buffer)? {
                break head;
            }
            match self.read(deadline).await {
                Read::Some => {}
                Read::Closed => return Ok(None),
                Read::TimedOut => return Err(SLOW),
            }
        };
        let deadline = Instant::now() + BODY;
        let mut body = Vec::new();
        while !head.body.take(&mut self.buffer, &mut body)? {
            if head.expects_continue {
                head.expects_continue = false;
                if self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                    return Ok(None);
                }
            }
            match self.read(deadline).await {
                Read::Some => {}
                Read::Closed => return Ok(None),
                Read::TimedOut => return Err(SLOW),
            }
        }
        Ok(Some(Request {
            head,
            body,
            received: self.last_read,
        }))
    }

    async fn read(&mut self, deadline: Instant) -> Read {
        match timeout_at(deadline, self.fill()).await {
            Ok(Ok(1..)) => {
                self.last_read = monotonic_nanos();
                Read::Some
            }
            Ok(_) => Read::Closed,
            Err(_) => Read::TimedOut,
        }
    }

    /// Reads into the buffer; 0 when the client has closed. Safe to drop at any time.
    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        match &mut self.stream {
            Stream::Plain(stream) => loop {
                stream.readable().await?;
                match stream.try_read_buf(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            },
            Stream::Tls(stream) => stream.read_buf(&mut self.buffer).await,
        }
    }

    /// Writes all of it and returns the instant just before, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let stream = match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => {
                let at = monotonic_nanos();
                timeout(WRITE, async {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                })
                .await??;
                return Ok(at);
            }
        };
        timeout(WRITE, stream.writable()).await??;
        let at = monotonic_nanos();
        // Nearly always the only system call: a frame fits into the socket's buffer.
        let written = match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written?,
        };
        if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            timeout(WRITE, stream.write_all(rest)).await??;
        }
        Ok(at)
    }

    /// Returns when the client has closed the connection, also only its sending half: a client that wants an
    /// answer leaves that open. Safe to drop at any time.
    pub(super) async fn gone(&mut self) -> io::Error {
        loop {
            if self.buffer.len() >= MAX_HEAD {
                return pending().await; // it sends ahead without limit; writing will tell when it is gone
            }
            match self.fill().await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Ends it with RST when it is dropped.
    pub(super) fn abort(&mut self) {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        // Where that is not possible, the connection is closed.
        stream.set_zero_linger().ok();
        self.broken = true;
    }

    /// Ends it when it is dropped.
    pub(super) const fn close(&mut self) {
        self.broken = true;
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Closes so that the client can still read our last words: closing with bytes unread resets the connection.
    pub(super) async fn linger(mut self) {
        let shut = match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown().await,
            Stream::Tls(stream) => stream.shutdown().await,
        };
        if shut.is_ok() {
            let deadline = Instant::now() + LINGER;
            while let Read::Some = self.read(deadline).await {
                self.buffer.clear();
            }
        }
    }
}
