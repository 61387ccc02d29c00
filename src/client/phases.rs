//! When DNS, TCP and TLS were done on the way to one request's connection.
//!
//! The connector runs inside the request's own task, so a task-local [`Marks`] finds it. A connect that lost
//! the race against a pooled connection goes on in the background: it takes its marks along.

use std::{
    future::{Future, poll_fn},
    net::{SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};
use tokio::{runtime::Handle, time::Instant};
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    pub began: Option<Instant>,
    pub dns_began: Option<Instant>,
    pub dns_done: Option<Instant>,
    pub dns_failed: bool,
    pub tls_began: Option<Instant>,
    pub connected: Option<Instant>,
    pub local: Option<SocketAddr>,
    /// A connection took the request, this one or one from the pool.
    pub taken: Option<Instant>,
}

impl Way {
    /// Name resolution; none where the host is an address.
    pub fn dns(&self) -> Option<Duration> {
        Some(self.dns_done? - self.dns_began?)
    }

    /// TCP.
    pub fn connect(&self) -> Option<Duration> {
        let done = self.tls_began.or(self.connected)?;
        Some(done - self.dns_done.or(self.began)?)
    }

    /// The handshake.
    pub fn tls(&self) -> Option<Duration> {
        Some(self.connected? - self.tls_began?)
    }

    /// A connection was begun and is not there yet, nor did another one take the request.
    pub fn is_connecting(&self) -> bool {
        self.began.is_some() && self.connected.is_none() && self.taken.is_none()
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
        *self.lock()
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

    fn mark(&self, set: impl FnOnce(&mut Way)) {
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

    fn connected(&self, at: Instant, local: Option<SocketAddr>) {
        let mut way = self.lock();
        way.connected = Some(at);
        way.local = local;
        if let Some((began, done)) = way.began.zip(way.tls_began.or(way.connected)) {
            self.far.store(done - began > LONG_WAY, Ordering::Relaxed);
        }
    }
}

fn current() -> Option<Marks> {
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
    marks.connected(Instant::now(), local_address(&connection.connected()));
    Ok(connection)
}

fn local_address(connected: &Connected) -> Option<SocketAddr> {
    let mut extensions = http::Extensions::new();
    connected.get_extras(&mut extensions);
    extensions.get::<HttpInfo>().map(HttpInfo::local_addr)
}

/// Resolves names with the system's resolver, on threads of the runtime that does not measure.
#[derive(Debug)]
pub(super) struct MarkingResolver(pub(super) Handle);

impl Resolve for MarkingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let runtime = self.0.clone();
        Box::pin(async move {
            let marks = current();
            let mark = |set: fn(&mut Way, Instant)| {
                if let Some(marks) = &marks {
                    marks.mark(|way| set(way, Instant::now()));
                }
            };
            mark(|way, at| way.dns_began = Some(at));
            let host = name.as_str().to_owned();
            let resolved = runtime
                .spawn_blocking(move || (host.as_str(), 0).to_socket_addrs())
                .await?;
            match resolved {
                Ok(addresses) => {
                    mark(|way, at| way.dns_done = Some(at));
                    Ok(Box::new(addresses) as Addrs)
                }
                Err(error) => {
                    mark(|way, _| way.dns_failed = true);
                    Err(error.into())
                }
            }
        })
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
