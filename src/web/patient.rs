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

/// How long it may take to take all that is handed over at once, however it trickles.
const WHOLE_TIME: Duration = Duration::from_mins(2);

type Deadline = Option<Pin<Box<Sleep>>>;

#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    connection: Arc<Connection>,
    /// Of the head that is being read, and how many requests there had been.
    head: Deadline,
    requests: u64,
    write: Deadline,
    /// Of all that is to be sent before more is.
    whole: Deadline,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self {
            stream,
            connection,
            head: None,
            requests: 0,
            write: None,
            whole: None,
        }
    }

    /// What is sent is `sent`, in time or not.
    fn in_time<T>(&mut self, sent: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.write = None;
            return sent;
        }
        let whole = self.whole.get_or_insert_with(|| Box::pin(sleep(WHOLE_TIME)));
        if whole.as_mut().poll(context).is_ready() {
            return late(Poll::Ready(()), "the client takes too little of its answer");
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
        if sent.is_ready() {
            self.whole = None;
        }
        self.in_time(sent, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(sent, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, advance},
    };

    use super::*;
    use crate::web::connections::Connections;

    fn pair() -> (Patient<DuplexStream>, DuplexStream, Arc<Connection>) {
        let (server, client) = duplex(16);
        let connection = Arc::new(Connections::default().take_in(Instant::now()).unwrap());
        (Patient::new(server, Arc::clone(&connection)), client, connection)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_to_end_however_its_bytes_trickle() {
        let (mut server, mut client, _connection) = pair();
        let begun = Instant::now();
        let trickle = tokio::spawn(async move {
            // Long after connecting: being idle is no offence.
            sleep(HEAD_TIME * 3).await;
            while client.write_all(b"G").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut byte = [0];
        let error = loop {
            if let Err(error) = server.read_exact(&mut byte).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), (HEAD_TIME * 4).as_secs());
        drop(server);
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_has_its_own_time() {
        let (mut server, mut client, connection) = pair();
        let mut byte = [0];
        for _ in 0..3 {
            client.write_all(b"G").await.unwrap();
            server.read_exact(&mut byte).await.unwrap();
            drop(connection.busy(Instant::now()));
            // Idle for longer than a head may take.
            let idle = tokio::time::timeout(HEAD_TIME * 2, server.read_exact(&mut byte));
            assert!(idle.await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_dropped_and_who_takes_little_is_not() {
        let (mut server, mut client, _connection) = pair();
        let begun = Instant::now();
        server.write_all(&[0; 16]).await.unwrap();
        let slow = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..4 {
                sleep(WRITE_TIME / 2).await;
                client.read_exact(&mut byte).await.unwrap();
            }
            sleep(WRITE_TIME * 2).await;
        });
        let error = server.write_all(&[0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIME * 3);
        slow.abort();
        advance(Duration::ZERO).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_byte_now_and_then_is_dropped_in_the_end() {
        let (mut server, mut client, _connection) = pair();
        let begun = Instant::now();
        let slow = tokio::spawn(async move {
            let mut byte = [0];
            while client.read_exact(&mut byte).await.is_ok() {
                sleep(WRITE_TIME.mul_f64(0.9)).await;
            }
        });
        let error = server.write_all(&[0; 99]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WHOLE_TIME);
        slow.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_all_of_it_again_and_again_may_take_long() {
        let (mut server, mut client, _connection) = pair();
        let steady = tokio::spawn(async move {
            let mut bytes = [0; 32];
            while client.read_exact(&mut bytes).await.is_ok() {
                sleep(WRITE_TIME / 2).await;
            }
        });
        for _ in 0..20 {
            server.write_all(&[0; 32]).await.unwrap();
            server.flush().await.unwrap();
        }
        steady.abort();
    }
}
