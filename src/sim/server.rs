//! The simulated server: lets connections in and finds out what they speak. `routes` has what is served.

use std::{
    io::{self, Cursor},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Heads, Settings,
    api::Counting,
    connection::Connection,
    door::Door,
    fault::Faults,
    journal::{self, Journal},
    machines::Machines,
    outlet::{Outlet, ResponseHead},
    pace::{Pacer, monotonic},
    prefix::PrefixCache,
    tls,
};
use crate::clock::unix_now;

/// Connections at one time at most; further ones wait in the backlog of the listener.
const MAX_CONNECTIONS: usize = 8192;
/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Before something is tried again that the machine did not let us do.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) const JSON: &str = "application/json";

/// A simulated inference server that is bound and not yet running.
#[derive(Debug)]
pub struct Server {
    door: Door,
    pacer: Pacer,
    service: Arc<Service>,
}

/// What all connections share.
pub(super) struct Service {
    pub machines: Machines,
    pub journal: Journal,
    pub faults: Faults,
    pub model: String,
    pub counting: Counting,
    /// Whether `/tokenize` is served.
    pub tokenizes: bool,
    pub heads: Heads,
    prefixes: Mutex<PrefixCache>,
    tls: Option<TlsAcceptor>,
    /// Tokens of one request at most.
    pub context: u64,
    pub started: Duration,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Service")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Binds; port 0 takes a free one. Connections are accepted from here on and answered once it runs. An
    /// error of the kind `InvalidInput` names the file of a certificate or key that cannot be used.
    #[expect(
        clippy::unused_async,
        reason = "so that it is called within the runtime that its socket and its timer belong to"
    )]
    pub async fn bind(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let machine = settings.machine();
        let tls = match &settings.tls {
            Some(files) => Some(tls::acceptor(&files.cert, &files.key)?),
            None => None,
        };
        let door = Door::bind(address)?;
        let faults = Faults::new(settings.faults, settings.seed, monotonic());
        let machines = Machines::new(machine, settings.seed);
        machines.set_drift(faults.drift());
        Ok(Self {
            door,
            pacer: Pacer::new()?,
            service: Arc::new(Service {
                machines,
                journal: Journal::default(),
                faults,
                model: settings.model,
                counting: Counting {
                    tokens_per_thousand_words: thousandfold(settings.tokens_per_word),
                    template_tokens: settings.template_tokens,
                },
                tokenizes: machine.tokenizes,
                heads: settings.heads,
                prefixes: Mutex::default(),
                tls,
                context: machine.context.min(machine.kv_capacity),
                started: now_since_epoch(),
            }),
        })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.door.address())
    }

    /// What it really does, also while it runs.
    pub fn truth(&self) -> Truth {
        Truth(Arc::clone(&self.service))
    }

    /// Serves until `shutdown`, then drops what is left and returns when it is gone.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let Self {
            mut door,
            pacer,
            service,
        } = self;
        let connections = TaskTracker::new();
        let stop = shutdown.child_token();
        // A task of its own, so that accepting does not delay it.
        let inference = service.machines.main().clone();
        let mut engine = tokio::spawn(async move { inference.run(pacer).await });
        let result = tokio::select! {
            () = service.accept(&mut door, &connections, &stop) => Ok(()),
            result = &mut engine => result.map_err(io::Error::other).flatten(),
        };
        stop.cancel();
        engine.abort();
        connections.close();
        connections.wait().await;
        result
    }
}

/// What a server of this process really did.
#[derive(Clone, Debug)]
pub struct Truth(Arc<Service>);

impl Truth {
    /// The requests that have ended, as far as they are remembered.
    pub fn requests(&self) -> Vec<Arc<journal::Record>> {
        self.0.journal.page(0, usize::MAX).requests
    }
}

impl Service {
    pub(super) fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until `stop`.
    async fn accept(self: &Arc<Self>, door: &mut Door, connections: &TaskTracker, stop: &CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let (doorway, next) = self.faults.door(monotonic());
            if let Err(error) = door.turn(doorway).await {
                tracing::warn!(%error, ?doorway, "simulator: cannot change over the listening socket");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(AGAIN) => continue,
                }
            }
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                () = self.faults.changed.notified() => continue,
                () = until(next) => continue,
                accepted = async {
                    let place = Arc::clone(&places).acquire_owned().await;
                    (place, door.accept().await)
                } => accepted,
            };
            match accepted {
                (place, Ok(stream)) => {
                    let service = Arc::clone(self);
                    let stop = stop.clone();
                    connections.spawn(async move {
                        stop.run_until_cancelled(service.converse(stream)).await;
                        drop(place);
                    });
                }
                (_, Err(error)) => {
                    // Most likely out of file descriptors: give some connections the time to end.
                    tracing::warn!(%error, "simulator: cannot accept a connection");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// One connection, in whatever protocol its client speaks.
    async fn converse(self: &Arc<Self>, stream: TcpStream) {
        // Without Nagle's algorithm, or a frame waits for the acknowledgement of the one before it.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Some(acceptor) = &self.tls else {
            let mut connection = Connection::plain(stream);
            match connection.speaks_http2().await {
                None => return,
                Some(false) => return self.converse_http1(connection).await,
                Some(true) => {}
            }
            if let Some((stream, ahead)) = connection.into_plain() {
                let (read, write) = stream.into_split();
                let io = tokio::io::join(Cursor::new(ahead).chain(read), write);
                self.converse_http2(io).await;
            }
            return;
        };
        match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.converse_http2(stream).await;
            }
            Ok(Ok(stream)) => self.converse_http1(Connection::tls(stream)).await,
            Ok(Err(error)) => tracing::debug!(%error, "simulator: a TLS handshake failed"),
            Err(_) => tracing::debug!("simulator: a TLS handshake took too long"),
        }
    }

    /// One connection, request after request.
    async fn converse_http1(&self, mut connection: Connection) {
        loop {
            match connection.request().await {
                Ok(Some(request)) => {
                    let keep_alive = request.head.keep_alive;
                    let mut outlet = Outlet::http1(&mut connection, &request.head);
                    let answered = self.answer(&mut outlet, request).await;
                    if answered.is_err() || connection.is_broken() {
                        return;
                    }
                    if !keep_alive {
                        return connection.linger().await;
                    }
                }
                Ok(None) => return,
                Err(rejection) => {
                    let body = serde_json::json!({ "error": rejection.reason }).to_string();
                    let mut outlet = Outlet::rejecting(&mut connection);
                    let head = ResponseHead {
                        status: rejection.status,
                        content_type: JSON,
                        headers: &[],
                    };
                    if outlet.whole(head, body.as_bytes()).await.is_ok() {
                        connection.linger().await;
                    }
                    return;
                }
            }
        }
    }
}

/// The arguments bound it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates"
)]
fn thousandfold(tokens_per_word: f64) -> u64 {
    (tokens_per_word * 1e3).round() as u64
}

/// Since the Unix epoch.
pub(super) fn now_since_epoch() -> Duration {
    Duration::try_from_secs_f64(unix_now()).unwrap_or_default()
}

/// Never, when there is no such instant.
async fn until(at: Option<Duration>) {
    match at {
        Some(at) => sleep(at.saturating_sub(monotonic())).await,
        None => std::future::pending().await,
    }
}
