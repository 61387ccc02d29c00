//! When DNS, TCP and TLS were done on the way to one request's connection.
//!
//! The connector runs inside the request's own task, so a task-local [`Marks`] finds it. A connect that lost
//! the race against a pooled connection goes on in the background: it takes its marks along.
//!
//! What belongs to which phase, on each way:
//!
//! | way | dns | connect | tls |
//! |---|---|---|---|
//! | straight | the target's name | TCP | handshake |
//! | HTTP proxy, `https` | the proxy's name | TCP to the proxy, and CONNECT | handshake with the target |
//! | HTTP proxy, `http` | the proxy's name | TCP to the proxy; what it does further is in `headers` | |
//! | `socks5` | both names | TCP to the proxy, and the SOCKS handshake | handshake with the target |
//! | `socks5h` | the proxy's name | the same | the same |
//! | Unix socket | | connecting | handshake |
//!
//! None where a name is an address, and none at all over a connection that was there before. With HTTP/2 the
//! exchange of settings is in `headers`: the request is sent along with it. With `connection: reuse` and HTTP/2
//! all requests share one connection; those that wait for it while another request opens it have no phases of
//! their own, and their waiting is in `headers`.

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::gate::Turn;

tokio::task_local! {
    static MARKS: Marks;
}

/// Connecting for longer than this is waiting for round trips, during which others may go.
pub const LONG_WAY: Duration = Duration::from_millis(1);

/// Marks on the way to the connection of one request. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Marks {
    way: Arc<Mutex<Way>>,
    turn: Turn,
    /// Whether the last connection to this target took longer than [`LONG_WAY`].
    far: Arc<AtomicBool>,
}

/// What is known of one connection.
#[derive(Clone, Debug, Default)]
pub struct Way {
    pub began: Option<Instant>,
    /// Name resolution; none where the host is an address. Of several names it is the sum.
    pub dns: Option<Duration>,
    /// A name is being resolved.
    pub is_resolving: bool,
    pub dns_failed: bool,
    /// What the last name resolved to.
    pub addresses: Arc<[IpAddr]>,
    pub tls_began: Option<Instant>,
    pub connected: Option<Instant>,
    pub local: Option<SocketAddr>,
    /// The other end: the target, or the proxy. Unknown for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// When the first of the certificates that the server showed ends, in seconds since the Unix epoch.
    pub certificate_expires: Option<u64>,
    /// A connection took the request, this one or one from the pool.
    pub taken: Option<Instant>,
}

impl Way {
    /// From name to connection: TCP, and what a proxy takes to make a tunnel.
    pub fn connect(&self) -> Option<Duration> {
        let done = self.tls_began.or(self.connected)?;
        Some((done - self.began?).saturating_sub(self.dns.unwrap_or_default()))
    }

    /// The handshake.
    pub fn tls(&self) -> Option<Duration> {
        Some(self.connected? - self.tls_began?)
    }

    /// A connection was begun and is not there yet, nor did another one take the request.
    pub fn is_connecting(&self) -> bool {
        self.began.is_some() && self.connected.is_none() && self.taken.is_none()
    }

    /// How far it came that was no connection in the end, for a detail: an error tells of one address behind a
    /// name, without saying which.
    pub fn whereto(&self) -> String {
        if self.connected.is_some() {
            return String::new();
        }
        if self.tls_began.is_some() {
            return " (in the TLS handshake)".to_owned();
        }
        if self.addresses.is_empty() {
            return String::new();
        }
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        format!(" (tried {})", addresses.join(", "))
    }

    /// The request went out before this connection was there: over one from the pool.
    pub fn was_pooled(&self) -> bool {
        self.taken
            .is_some_and(|taken| self.connected.is_none_or(|connected| taken < connected))
    }
}

impl Marks {
    pub fn new(turn: Turn, far: Arc<AtomicBool>) -> Self {
        Self {
            way: Arc::default(),
            turn,
            far,
        }
    }

    pub fn way(&self) -> Way {
        self.lock().clone()
    }

    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Runs `future` so that connectors, resolver and TLS in it find these marks.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        MARKS.scope(self.clone(), future).await
    }

    /// The turn has lasted for [`LONG_WAY`]: the next may go, and the next burst need not find out again.
    pub fn is_long_way(&self) {
        if self.way().is_connecting() {
            self.far.store(true, Ordering::Relaxed);
        }
        self.turn.pass();
    }

    /// A connection has taken the request.
    pub(super) fn taken(&self) {
        self.mark(|way| _ = way.taken.get_or_insert_with(Instant::now));
    }

    pub(super) fn mark(&self, set: impl FnOnce(&mut Way)) {
        set(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) {
        if self.far.load(Ordering::Relaxed) {
            self.turn.pass();
        }
    }

    fn connected(&self, at: Instant, ends: Option<&HttpInfo>) {
        let mut way = self.lock();
        way.connected = Some(at);
        way.local = ends.map(HttpInfo::local_addr);
        way.peer = ends.map(HttpInfo::remote_addr);
        if let Some((began, done)) = way.began.zip(way.tls_began.or(way.connected)) {
            self.far.store(done - began > LONG_WAY, Ordering::Relaxed);
        }
    }
}

pub(super) fn current() -> Option<Marks> {
    MARKS.try_with(Clone::clone).ok()
}

/// The connector layer that marks when connecting begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkConnecting;

impl<S> Layer<S> for MarkConnecting {
    type Service = Marking<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Marking(inner)
    }
}

/// See [`MarkConnecting`].
#[derive(Clone, Debug)]
pub(super) struct Marking<S>(S);

impl<S, R> Service<R> for Marking<S>
where
    S: Service<R>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let connecting = self.0.call(destination);
        match current() {
            None => Box::pin(connecting),
            Some(marks) => Box::pin(async move { marks.scope(connect(connecting, &marks)).await }),
        }
    }
}

async fn connect<C: Connection, E>(
    connecting: impl Future<Output = Result<C, E>>,
    marks: &Marks,
) -> Result<C, E> {
    marks.mark(|way| way.began = Some(Instant::now()));
    let mut connecting = std::pin::pin!(connecting);
    let connection = poll_fn(|context| {
        let polled = connecting.as_mut().poll(context);
        if polled.is_pending() {
            marks.waits();
        }
        polled
    })
    .await?;
    let at = Instant::now();
    marks.connected(at, ends(&connection.connected()).as_ref());
    Ok(connection)
}

fn ends(connected: &Connected) -> Option<HttpInfo> {
    let mut extensions = http::Extensions::new();
    connected.get_extras(&mut extensions);
    extensions.remove()
}

/// A certificate came that ends then, while the connection of the current request is made.
pub(super) fn mark_certificate(expires: u64) {
    if let Some(marks) = current() {
        marks.mark(|way| way.certificate_expires = Some(expires));
    }
}

/// A session store that remembers nothing, so that every connection shakes hands in full as a new user's
/// does. It is first asked for a session while the `ClientHello` is built: there TLS begins.
#[derive(Debug)]
pub(super) struct MarkTls;

fn mark_tls() {
    if let Some(marks) = current() {
        marks.mark(|way| _ = way.tls_began.get_or_insert_with(Instant::now));
    }
}

impl ClientSessionStore for MarkTls {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        mark_tls();
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        mark_tls();
        None
    }
}
