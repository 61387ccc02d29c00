//! A stream that waits for its client, but not forever: a request head that has begun has to end, and what is sent has
//! to be taken.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::connections::Connection;

/// How long a client may take from the first byte of a request, or of its TLS, to the end of the request's head.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a client may take nothing of what is sent.
const WRITE_TIME: Duration = Duration::from_secs(30);

type Deadline = Option<Pin<Box<Sleep>>>;

#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    connection: Arc<Connection>,
    /// Of the head that is being read, and how many requests there had been.
    head: Deadline,
    requests: u64,
    write: Deadline,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self {
            stream,
            connection,
            head: None,
            requests: 0,
            write: None,
        }
    }

    /// What is sent is `sent`, in time or not.
    fn in_time<T>(&mut self, sent: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.write = None;
            return sent;
        }
        let deadline = self.write.get_or_insert_with(|| Box::pin(sleep(WRITE_TIME)));
        late(
            deadline.as_mut().poll(context),
            "the client takes nothing of its answer",
        )
    }
}

fn late<T>(deadline: Poll<()>, what: &'static str) -> Poll<io::Result<T>> {
    deadline.map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, what)))
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        let requests = self.connection.requests();
        if requests != self.requests {
            (self.requests, self.head) = (requests, None);
        }
        if into.filled().len() > before {
            self.head.get_or_insert_with(|| Box::pin(sleep(HEAD_TIME)));
        }
        match &mut self.head {
            Some(deadline) if read.is_pending() => late(
                deadline.as_mut().poll(context),
                "the client takes too long for a request",
            ),
            _ => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(sent, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.in_time(sent, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(sent, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(sent, context)
    }
}
