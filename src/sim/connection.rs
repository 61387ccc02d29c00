//! One connection of a client: requests in, bytes out, each write stamped.

use std::{future::pending, io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    http1::{self, Head, MAX_HEAD, Rejection},
    pace::monotonic_nanos,
};

/// Between two requests.
const IDLE: Duration = Duration::from_secs(75);
/// From the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(10);
/// From the end of its head to the end of its body.
const BODY: Duration = Duration::from_mins(1);
/// For a client that does not read what we write.
const WRITE: Duration = Duration::from_secs(30);
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
    stream: TcpStream,
    /// Read and not used yet; also what a client sends ahead while it is being answered.
    buffer: BytesMut,
    last_read: u64,
}

enum Read {
    Some,
    Closed,
    TimedOut,
}

impl Connection {
    /// Without Nagle's algorithm, or a frame waits for the acknowledgement of the one before it.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
            last_read: 0,
        })
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
        } else {
            self.last_read = monotonic_nanos();
        }
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
        loop {
            match timeout_at(deadline, self.stream.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Read::Closed,
                Err(_) => return Read::TimedOut,
            }
            match self.try_read() {
                Ok(0) => return Read::Closed,
                Ok(_) => {
                    self.last_read = monotonic_nanos();
                    return Read::Some;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Read::Closed,
            }
        }
    }

    fn try_read(&mut self) -> io::Result<usize> {
        self.buffer.reserve(16 * 1024);
        self.stream.try_read_buf(&mut self.buffer)
    }

    /// Writes all of it and returns the instant just before, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        timeout(WRITE, self.stream.writable()).await??;
        let at = monotonic_nanos();
        // Nearly always the only system call: a frame fits into the socket's buffer.
        let written = match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written?,
        };
        if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            timeout(WRITE, self.stream.write_all(rest)).await??;
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
            if let Err(error) = self.stream.readable().await {
                return error;
            }
            match self.try_read() {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return error,
            }
        }
    }

    /// Closes so that the client can still read our last words: closing with bytes unread resets the connection.
    pub(super) async fn linger(mut self) {
        if self.stream.shutdown().await.is_ok() {
            let deadline = Instant::now() + LINGER;
            while let Read::Some = self.read(deadline).await {
                self.buffer.clear();
            }
        }
    }
}
