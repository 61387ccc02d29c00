//! The simulated server: accepts, routes, and writes the answers.
//!
//! - `POST /v1/chat/completions` OpenAI's chat, streamed or whole
//! - `POST /api/chat` Ollama's chat, streamed or whole
//! - `GET /v1/models`, `GET /api/tags` the one model there is
//! - `GET /health` always 200, whatever the queue: that is the point
//! - `GET /metrics` under vLLM's names
//! - `GET /sim/requests?since=SEQ&limit=N` the truth, a [`Page`](super::journal::Page); `DELETE` forgets it

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Heads, Settings,
    api::Api,
    connection::{Connection, Request},
    engine::Engine,
    exposition,
    http1::{self, Method},
    inference::Inference,
    journal::Journal,
    ollama, openai,
    pace::Pacer,
};
use crate::clock::unix_now;

/// Connections at one time at most; further ones wait in the backlog of the listener.
const MAX_CONNECTIONS: usize = 8192;

pub(super) const JSON: &str = "application/json";

/// A simulated inference server that is bound and not yet running.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    pacer: Pacer,
    service: Arc<Service>,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Service {
    pub inference: Inference,
    pub journal: Journal,
    pub model: String,
    pub heads: Heads,
    /// Tokens of one request at most.
    context: u64,
    started: Duration,
}

impl Server {
    /// Binds; port 0 takes a free one. Connections are accepted from here on and answered once it runs.
    pub async fn bind(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let profile = settings.machine();
        Ok(Self {
            listener,
            pacer: Pacer::new()?,
            service: Arc::new(Service {
                inference: Inference::new(Engine::new(profile, settings.seed)),
                journal: Journal::default(),
                model: settings.model,
                heads: settings.heads,
                context: profile.context.min(profile.kv_capacity),
                started: now_since_epoch(),
            }),
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then drops what is left and returns when it is gone.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let Self {
            listener,
            pacer,
            service,
        } = self;
        let connections = TaskTracker::new();
        let stop = shutdown.child_token();
        // A task of its own, so that accepting does not delay it.
        let inference = service.inference.clone();
        let mut engine = tokio::spawn(async move { inference.run(pacer).await });
        let result = tokio::select! {
            () = service.accept(&listener, &connections, &stop) => Ok(()),
            result = &mut engine => result.map_err(io::Error::other).flatten(),
        };
        stop.cancel();
        engine.abort();
        connections.close();
        connections.wait().await;
        result
    }
}

impl Service {
    /// Until `stop`.
    async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        connections: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = stop.run_until_cancelled(async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            });
            match accepted.await {
                None => return,
                Some((place, Ok((stream, _)))) => {
                    let service = Arc::clone(self);
                    let stop = stop.clone();
                    connections.spawn(async move {
                        stop.run_until_cancelled(service.converse(stream)).await;
                        drop(place);
                    });
                }
                Some((_, Err(error))) => {
                    // Most likely out of file descriptors: give some connections the time to end.
                    tracing::warn!(%error, "simulator: cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// One connection, request after request.
    async fn converse(&self, stream: TcpStream) {
        let Ok(mut connection) = Connection::new(stream) else {
            return;
        };
        loop {
            match connection.request().await {
                Ok(Some(request)) => {
                    let keep_alive = request.head.keep_alive;
                    if self.answer(&mut connection, request).await.is_err() {
                        return;
                    }
                    if !keep_alive {
                        return connection.linger().await;
                    }
                }
                Ok(None) => return,
                Err(rejection) => {
                    let body = serde_json::json!({ "error": rejection.reason }).to_string();
                    let response = http1::response(rejection.status, JSON, body.as_bytes(), false);
                    if connection.write(&response).await.is_ok() {
                        connection.linger().await;
                    }
                    return;
                }
            }
        }
    }

    async fn answer(&self, connection: &mut Connection, request: Request) -> io::Result<()> {
        let head = &request.head;
        if let Some(api) = Api::at(&head.path)
            && head.method == Method::Post
        {
            return self.generate(connection, request, api).await;
        }
        let (status, content_type, body) = match (head.method, head.path.as_str()) {
            (Method::Get, "/v1/models") => (
                200,
                JSON,
                openai::models(&self.model, self.started, self.context).into(),
            ),
            (Method::Get, "/api/tags") => (200, JSON, ollama::tags(&self.model, self.started).into()),
            (Method::Get, "/health") => (200, JSON, Vec::new()),
            (Method::Get, "/metrics") => (
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                exposition::render(&self.inference.snapshot(), &self.model).into(),
            ),
            (Method::Get, "/sim/requests") => match self.truth(&head.query).await {
                Some(page) => (200, JSON, page),
                None => (
                    400,
                    JSON,
                    br#"{"error":"since and limit are whole numbers"}"#.to_vec(),
                ),
            },
            (Method::Delete, "/sim/requests") => {
                self.journal.clear();
                (200, JSON, b"{}".to_vec())
            }
            (
                _,
                "/v1/chat/completions"
                | "/api/chat"
                | "/v1/models"
                | "/api/tags"
                | "/health"
                | "/metrics"
                | "/sim/requests",
            ) => (405, JSON, br#"{"detail":"Method Not Allowed"}"#.to_vec()),
            _ => (404, JSON, br#"{"detail":"Not Found"}"#.to_vec()),
        };
        let response = http1::response(status, content_type, &body, head.keep_alive);
        connection.write(&response).await.map(|_| ())
    }

    /// `None` when the query is not understood.
    async fn truth(&self, query: &str) -> Option<Vec<u8>> {
        let (mut since, mut limit) = (0, usize::MAX);
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "since" => since = value.parse().ok()?,
                "limit" => limit = value.parse().ok()?,
                _ => return None,
            }
        }
        let page = self.journal.page(since, limit);
        // Tens of megabytes of digits must not delay tokens on this worker.
        let body = tokio::task::spawn_blocking(move || serde_json::to_vec(&page)).await;
        body.ok()?.ok()
    }
}

/// Since the Unix epoch.
pub(super) fn now_since_epoch() -> Duration {
    Duration::try_from_secs_f64(unix_now()).unwrap_or_default()
}
