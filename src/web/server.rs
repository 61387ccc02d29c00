//! Accepts connections and hands their requests to the door and the pages behind it: with a limit on how many
//! connections there are, on how long a client may take for anything, and on the size of what it sends.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connections::{Busy, Connection, Connections},
    door::{Door, Rules},
    listener::Listener,
    patient::{HEAD_TIME, Patient},
};
use crate::{metrics::Metrics, restart::keep_alive};

/// How long a client may be idle between two requests: longer than the usual intervals of scrapes.
const IDLE_TIME: Duration = Duration::from_mins(2);

/// The largest request head, in bytes.
const HEAD_SIZE: usize = 16 << 10;

/// How long open requests may take at the end.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait where no connection can be taken in.
const NO_ROOM: Duration = Duration::from_millis(100);

/// What all connections have in common.
#[derive(Clone, Debug)]
struct Server {
    door: Door,
    pages: Router,
    connections: Connections,
    metrics: Metrics,
    shutdown: CancellationToken,
}

/// Serves `pages` behind `door` on `listeners` until `shutdown`, then finishes the requests that are under way.
pub async fn serve(
    listeners: Vec<Listener>,
    door: Door,
    pages: Router,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let server = Server {
        door,
        pages,
        connections: Connections::default(),
        metrics,
        shutdown,
    };
    let tasks = TaskTracker::new();
    for listener in listeners {
        let (listener, stop, metrics) = (
            Arc::new(listener),
            server.shutdown.clone(),
            server.metrics.clone(),
        );
        let (server, connections) = (server.clone(), tasks.clone());
        let accept = move || {
            server
                .clone()
                .keep_accepting(Arc::clone(&listener), connections.clone())
        };
        tasks.spawn(async move { keep_alive("web server", &metrics, &stop, accept).await });
    }
    tasks.close();
    server.shutdown.cancelled().await;
    if timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some HTTP connections did not end in time");
    }
}

impl Server {
    async fn keep_accepting(self, listener: Arc<Listener>, tasks: TaskTracker) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(stream) => {
                    let Some(connection) = self.room().await else {
                        return;
                    };
                    tasks.spawn(self.clone().serve(stream, connection));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others may close theirs.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(NO_ROOM).await;
                }
            }
        }
    }

    /// Until there is room for a connection; more wait in the kernel's queue. `None`: the server ends.
    async fn room(&self) -> Option<Connection> {
        loop {
            if let Some(connection) = self.connections.take_in(Instant::now()) {
                return Some(connection);
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = sleep(NO_ROOM) => {}
            }
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, connection: Connection) {
        let connection = Arc::new(connection);
        let stream = Patient::new(stream, Arc::clone(&connection));
        let talk = async {
            let mut changes = self.door.changes();
            let rules = Arc::clone(&changes.borrow_and_update());
            match rules.tls() {
                None => self.talk(stream, &connection, changes).await,
                Some(tls) => match timeout(HEAD_TIME, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.talk(stream, &connection, changes).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => tracing::debug!("TLS handshake took too long"),
                },
            }
        };
        tokio::select! {
            () = talk => {}
            () = connection.gone() => tracing::debug!("an idle HTTP connection made room for another"),
        }
    }

    /// Until the client, or the server, has ended, or those who had been let in might not be any more: whoever has
    /// shaken hands by the rules before is asked to do so anew.
    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        connection: &Arc<Connection>,
        mut changes: watch::Receiver<Arc<Rules>>,
    ) {
        let answer = service_fn(|request: Request<Incoming>| async {
            let busy = connection.busy(Instant::now());
            let response = self.door.answer(request, self.pages.clone()).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| Answer { body, _busy: busy }))
        });
        let talk = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIME)
            .max_buf_size(HEAD_SIZE)
            .serve_connection(TokioIo::new(stream), answer);
        let mut talk = std::pin::pin!(talk);
        let ended = tokio::select! {
            ended = &mut talk => ended,
            () = self.shutdown.cancelled() => {
                talk.as_mut().graceful_shutdown();
                talk.await
            }
            () = outdated(&mut changes, connection) => {
                talk.as_mut().graceful_shutdown();
                talk.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "HTTP connection ended");
        }
    }
}

/// Until other rules hold than when the connection was made. Its first request is answered all the same: the client cannot
/// know that it may ask anew.
async fn outdated(changes: &mut watch::Receiver<Arc<Rules>>, connection: &Connection) {
    // The door lives as long as the server does.
    changes.changed().await.ok();
    while connection.requests() == 0 {
        sleep(NO_ROOM).await;
    }
}

/// The body of an answer, whose connection is busy until all of it is handed over.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
