//! HTTP/2, with prior knowledge or by ALPN: the `h2` crate instead of bytes of our own.
//!
//! The truth of HTTP/2 is therefore weaker: an instant is when a frame was handed to the connection, whose task
//! writes it soon afterwards, and not the one of the write.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{self, SendResponse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{
    body::{Body, MAX_BODY},
    connection::{BODY, Request, WRITE},
    http1::{Head, MAX_REQUEST_ID, Method},
    outlet::{Outlet, ResponseHead},
    pace::monotonic_nanos,
    server::Service,
};

/// For what is still to be recorded when the connection has ended.
const LINGER: Duration = Duration::from_secs(1);

/// How a fault ends a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Goaway,
    Close,
}

/// One request's stream, on its way out.
#[derive(Debug)]
pub(super) struct Exchange {
    respond: SendResponse<Bytes>,
    /// From the response head on.
    body: Option<SendStream<Bytes>>,
    ending: mpsc::Sender<Ending>,
    ended_connection: bool,
}

impl Service {
    /// One connection, with any number of requests at a time.
    pub(super) async fn converse_http2<T>(self: &Arc<Self>, io: T)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Ok(mut connection) = server::handshake(io).await else {
            return;
        };
        let mut streams = JoinSet::new();
        let (ending, mut endings) = mpsc::channel(1);
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        let service = Arc::clone(self);
                        let exchange = Exchange::new(respond, ending.clone());
                        streams.spawn(async move { service.stream(request, exchange).await });
                    }
                    Some(Err(_)) | None => break,
                },
                Some(ending) = endings.recv() => match ending {
                    Ending::Goaway => connection.abrupt_shutdown(Reason::INTERNAL_ERROR),
                    Ending::Close => break,
                },
                Some(_) = streams.join_next() => {}
            }
        }
        drop((connection, endings));
        // Each request learns that its client is gone, and leaves its record.
        timeout(LINGER, async { while streams.join_next().await.is_some() {} })
            .await
            .ok();
    }

    /// One request and its answer.
    async fn stream(&self, request: http::Request<RecvStream>, mut exchange: Exchange) {
        let (parts, body) = request.into_parts();
        match timeout(BODY, read(body)).await {
            Ok(Some((body, received))) => {
                let request = Request {
                    head: head(&parts),
                    body,
                    received,
                };
                let mut outlet = Outlet::http2(exchange);
                // A client that is gone is in the record; there is nothing else to do about it.
                self.answer(&mut outlet, request).await.ok();
                outlet.leave().await;
            }
            Ok(None) | Err(_) => exchange.reset(),
        }
    }
}

/// The body and when its last frame was read; `None` when it is too large or breaks off.
async fn read(mut body: RecvStream) -> Option<(Vec<u8>, u64)> {
    let (mut bytes, mut received) = (Vec::new(), monotonic_nanos());
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        received = monotonic_nanos();
        bytes.extend_from_slice(&data);
        if bytes.len() > MAX_BODY {
            return None;
        }
        body.flow_control().release_capacity(data.len()).ok()?;
    }
    Some((bytes, received))
}

fn head(parts: &http::request::Parts) -> Head {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    Head {
        method: Method::of(parts.method.as_str()),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        chunks: true,
        keep_alive: true,
        expects_continue: false,
        request_id: header("x-request-id")
            .filter(|id| id.len() <= MAX_REQUEST_ID)
            .map(str::to_owned),
        fault: header("x-sim-fault").map(str::to_owned),
        body: Body::Length(0),
    }
}

impl Exchange {
    const fn new(respond: SendResponse<Bytes>, ending: mpsc::Sender<Ending>) -> Self {
        Self {
            respond,
            body: None,
            ending,
            ended_connection: false,
        }
    }

    pub(super) fn head(&mut self, head: ResponseHead<'_>, last: bool) -> io::Result<u64> {
        let mut response = http::Response::builder()
            .status(head.status)
            .header("server", "llm-probe-exporter-simulator")
            .header("content-type", head.content_type);
        for (name, value) in head.headers {
            response = response.header(*name, value);
        }
        let response = response.body(()).map_err(io::Error::other)?;
        let at = monotonic_nanos();
        let body = self.respond.send_response(response, last);
        self.body = Some(body.map_err(io::Error::other)?);
        Ok(at)
    }

    /// In DATA frames of at most `split` bytes. The instant is that of the last one.
    pub(super) async fn data(
        &mut self,
        mut bytes: &[u8],
        split: Option<usize>,
        last: bool,
    ) -> io::Result<u64> {
        let Some(body) = &mut self.body else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        loop {
            let wanted = bytes.len().min(split.unwrap_or(usize::MAX));
            let room = if wanted == 0 {
                0
            } else {
                body.reserve_capacity(wanted);
                timeout(WRITE, poll_fn(|cx| body.poll_capacity(cx)))
                    .await?
                    .ok_or(io::ErrorKind::BrokenPipe)?
                    .map_err(io::Error::other)?
            };
            let (now, later) = bytes.split_at(room.min(wanted));
            bytes = later;
            let at = monotonic_nanos();
            body.send_data(Bytes::copy_from_slice(now), last && later.is_empty())
                .map_err(io::Error::other)?;
            if later.is_empty() {
                return Ok(at);
            }
            // The connection's task gets its turn, or it would join the frames in one write.
            if split.is_some() {
                tokio::task::yield_now().await;
            }
        }
    }

    pub(super) async fn gone(&mut self) -> io::Error {
        let reset = poll_fn(|cx| match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        match reset.await {
            Ok(_) => io::ErrorKind::ConnectionReset.into(),
            Err(error) => io::Error::other(error),
        }
    }

    pub(super) fn reset(&mut self) {
        match &mut self.body {
            Some(body) => body.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    pub(super) fn end_connection(&mut self, ending: Ending) {
        // One that is ending already needs no second reason.
        self.ending.try_send(ending).ok();
        self.ended_connection = true;
    }

    /// Dropping a stream that has not ended resets it, which is not to be seen where the connection ends.
    pub(super) async fn leave(self) {
        if self.ended_connection {
            self.ending.closed().await;
        }
    }
}
