//! One HTTP client per target. The only place that knows reqwest, hyper's client and rustls.
//!
//! It never retries, follows no redirect, asks no proxy of the environment, and never decompresses.

mod counting;
mod error;
mod list;
mod oauth2;
mod phases;
mod redaction;
mod resolver;
mod scrape;
mod tls;
mod whole;

use std::{
    convert::Infallible,
    mem,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::runtime::Handle;
use url::{Host, Url};

pub use self::{
    error::TransportError,
    list::Lister,
    oauth2::{Token, fetch_token},
    phases::{LONG_WAY, Marks, Way},
    redaction::SHORTEST as SHORTEST_SECRET,
    scrape::Scraper,
    tls::TlsError,
};
use self::{phases::MarkConnecting, redaction::Redaction, resolver::MarkingResolver};
use crate::{
    clock::unix_now,
    config::{
        plan::{self, Addresses, Connection, HttpVersion, Reach, Target},
        secret::Secret,
    },
    dialect::Dialect,
    gate::Turn,
    identity::{self, RequestId},
    response::Head,
    tape::Hidden,
    units::Name,
};

/// Sends requests to one target.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    /// For a request whose pooled connection was dead.
    unpooled: Option<reqwest::Client>,
    url: Url,
    /// Where the server may count tokens.
    tokenize: Option<Url>,
    headers: HeaderMap,
    redaction: Redaction,
    secrets: Hidden,
    far: Arc<AtomicBool>,
}

/// Why a client cannot be built; it names no secret.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    #[error("header {0} holds characters that a header may not hold")]
    Header(String),
    #[error("the address {0} cannot be extended by a path")]
    Url(Url),
    #[error("{}", resolver::NOT_PUBLIC)]
    NotPublic,
}

impl Client {
    /// `blocking` is the runtime whose threads resolve names.
    pub fn new(target: &Target, user_agent: &str, blocking: &Handle) -> Result<Self, ClientError> {
        let dialect = target.api;
        let build = |connection| build(target, connection, blocking);
        let url = dialect
            .address(target)
            .ok_or_else(|| ClientError::Url(target.url.clone()))?;
        let (url, _) = named_for_tls(url, &target.reach)?;
        let tokenize = dialect
            .tokenize_address(target)
            .map(|url| named_for_tls(url, &target.reach))
            .transpose()?
            .map(|(url, _)| url);
        Ok(Self {
            http: build(target.connection)?,
            unpooled: match target.connection {
                Connection::New => None,
                Connection::Reuse => Some(build(Connection::New)?),
            },
            url,
            tokenize,
            headers: headers(target, dialect, user_agent)?,
            secrets: Hidden(secret_forms(target).into()),
            redaction: Redaction(secret_forms(target)),
            far: Arc::default(),
        })
    }

    /// Marks for a request that has its turn.
    pub fn marks(&self, turn: Turn) -> Marks {
        Marks::new(turn, Arc::clone(&self.far))
    }

    /// All headers of a request. What the target's configuration says of a header wins over `identity`.
    pub fn headers(&self, identity: &identity::Headers, probe: &Name, id: RequestId) -> HeaderMap {
        let mut headers = self.headers.clone();
        identity.add(probe, id, &mut headers);
        headers
    }

    /// Sends a request and waits for the response head. The turn ends when the body is taken.
    pub async fn send(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        marks: &Marks,
    ) -> Result<Answer, TransportError> {
        Self::send_with(&self.http, self.request(headers, body, marks), marks).await
    }

    /// Sends a request on a connection of its own.
    pub async fn send_anew(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        marks: &Marks,
    ) -> Result<Answer, TransportError> {
        let client = self.unpooled.as_ref().unwrap_or(&self.http);
        Self::send_with(client, self.request(headers, body, marks), marks).await
    }

    async fn send_with(
        client: &reqwest::Client,
        request: reqwest::Request,
        marks: &Marks,
    ) -> Result<Answer, TransportError> {
        match marks.scope(client.execute(request)).await {
            Ok(response) => Ok(Answer(response)),
            Err(error) => Err(TransportError::sending(&error, &marks.way())),
        }
    }

    fn request(&self, headers: &HeaderMap, body: Bytes, marks: &Marks) -> reqwest::Request {
        let mut request = reqwest::Request::new(Method::POST, self.url.clone());
        request.headers_mut().clone_from(headers);
        *request.body_mut() = Some(reqwest::Body::wrap(TakenBody {
            data: Some(body),
            marks: marks.clone(),
        }));
        request
    }

    /// Whether the server may be asked how many tokens a prompt has.
    pub fn may_count(&self) -> bool {
        self.tokenize.is_some()
    }

    /// What it sends that nobody may see.
    pub fn secrets(&self) -> Hidden {
        self.secrets.clone()
    }

    /// Takes secrets out of text that an endpoint sent.
    pub fn redact(&self, text: String) -> String {
        self.redaction.apply(text)
    }
}

/// What to ask for, and the host to resolve in place of its name. They differ where TLS is to verify another name
/// than the host's: reqwest verifies what the URL says.
fn named_for_tls(url: Url, reach: &Reach) -> Result<(Url, Option<Host<String>>), ClientError> {
    let Some(name) = &reach.tls.server_name else {
        return Ok((url, None));
    };
    let mut named = url.clone();
    named
        .set_host(Some(name))
        .map_err(|_| ClientError::Url(url.clone()))?;
    let host = url.host().map(|host| host.to_owned());
    Ok((named, host))
}

/// The address that a URL has for its host.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Whether the target's host has an address that may be connected to, as far as its name can be resolved: one that
/// cannot is found out by connecting. `blocking` is the runtime whose threads resolve names.
pub async fn is_admitted(target: &Target, blocking: &Handle) -> bool {
    let addresses = target.reach.addresses;
    if let Some(address) = literal(&target.url) {
        return addresses.admit(address);
    }
    if addresses == Addresses::Any {
        return true;
    }
    let host = target.url.host_str().unwrap_or_default().to_owned();
    let looking = blocking.spawn_blocking(move || (host.as_str(), 0).to_socket_addrs());
    match looking.await {
        Ok(Ok(found)) => resolver::admitted(found.collect(), addresses).is_ok(),
        _ => true,
    }
}

/// A client that goes where it is told and nowhere else: it follows no redirect, asks nothing twice, and goes by no
/// proxy but that of `reach`.
fn plain(
    tls: rustls::ClientConfig,
    resolver: MarkingResolver,
    reach: &Reach,
) -> Result<reqwest::ClientBuilder, ClientError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .dns_resolver(resolver);
    if let Some(path) = &reach.unix_socket {
        builder = builder.unix_socket(path.as_path());
    }
    if let Some(given) = &reach.proxy {
        builder = builder.proxy(proxy(given)?);
    }
    Ok(builder)
}

fn build(target: &Target, connection: Connection, blocking: &Handle) -> Result<reqwest::Client, ClientError> {
    let reach = &target.reach;
    // An address in the URL passes no resolver.
    if literal(&target.url).is_some_and(|address| !reach.addresses.admit(address)) {
        return Err(ClientError::NotPublic);
    }
    let tls = tls::config(target.url.scheme() == "https", target.http, &reach.tls)?;
    let (_, host) = named_for_tls(target.url.clone(), reach)?;
    let resolver = MarkingResolver::new(blocking.clone(), host, reach.addresses);
    let mut builder = plain(tls, resolver, reach)?
        .tcp_nodelay(true)
        .connector_layer(MarkConnecting);
    builder = match target.http {
        HttpVersion::Http1 => builder.http1_only(),
        HttpVersion::Http2 => builder.http2_prior_knowledge(),
        HttpVersion::Auto => builder,
    };
    if connection == Connection::New {
        builder = builder.pool_max_idle_per_host(0);
    }
    Ok(builder.build()?)
}

fn proxy(proxy: &plan::Proxy) -> Result<reqwest::Proxy, reqwest::Error> {
    let built = reqwest::Proxy::all(proxy.url.clone())?;
    Ok(match &proxy.login {
        Some(login) => built.basic_auth(&login.username, login.password.expose()),
        None => built,
    })
}

fn headers(target: &Target, dialect: Dialect, user_agent: &str) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(dialect.media_type()));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, value(user_agent, "User-Agent")?);
    for (name, value) in dialect.headers() {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    if target.reach.tls.server_name.is_some() && target.http == HttpVersion::Http1 {
        // The name is for TLS alone. HTTP/2 knows no other authority than the URL's.
        let host = target.url.host_str().unwrap_or_default();
        let authority = match target.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        headers.insert(HOST, value(&authority, "Host")?);
    }
    if let Some(authorization) = &target.authorization {
        let (name, credentials) = dialect.credentials(authorization);
        headers.insert(name, sensitive(&credentials, name)?);
    }
    for header in &target.headers {
        let name: HeaderName = header
            .name
            .parse()
            .map_err(|_| ClientError::Header(header.name.clone()))?;
        headers.insert(name, sensitive(header.value.expose(), &header.name)?);
    }
    Ok(headers)
}

fn value(text: &str, name: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(text).map_err(|_| ClientError::Header(name.to_owned()))
}

fn sensitive(text: &str, name: &str) -> Result<HeaderValue, ClientError> {
    let mut value = value(text, name)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What must not be shown, in every form in which an endpoint may send it back.
fn secret_forms(target: &Target) -> Vec<String> {
    let login = target.reach.proxy.iter().filter_map(|proxy| proxy.login.as_ref());
    // A proxy, or who gives tokens, that repeats what it was sent repeats these.
    let logins = login.map(|login| format!("{}:{}", login.username, login.password.expose()));
    let clients = target.oauth2.iter().map(oauth2::basic);
    let pairs: Vec<_> = logins.chain(clients).collect();
    let secrets: Vec<_> = target
        .sent_secrets()
        .map(Secret::expose)
        .chain(pairs.iter().map(String::as_str))
        .collect();
    redaction::forms(&secrets)
}

/// A request body whose drop tells that the transport has taken it: then the turn ends.
struct TakenBody {
    data: Option<Bytes>,
    marks: Marks,
}

impl http_body::Body for TakenBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

impl Drop for TakenBody {
    fn drop(&mut self) {
        if self.data.is_none() {
            self.marks.taken();
        }
        self.marks.turn().pass();
    }
}

/// A response whose head has come.
#[derive(Debug)]
pub struct Answer(reqwest::Response);

impl Answer {
    /// Takes the head out.
    pub fn take_head(&mut self) -> Head {
        Head {
            status: self.0.status(),
            headers: mem::take(self.0.headers_mut()),
            unix_seconds: unix_now(),
        }
    }

    /// Whether it came over the connection that `way` tells of, or over one that was there before.
    pub fn came_over(&self, way: &Way) -> bool {
        let local = self.ends().map(HttpInfo::local_addr);
        way.connected.is_some() && !way.was_pooled() && (local.is_none() || local == way.local)
    }

    /// Whom it came from: the target, or the proxy. Unknown for a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.ends().map(HttpInfo::remote_addr)
    }

    fn ends(&self) -> Option<&HttpInfo> {
        self.0.extensions().get()
    }

    /// The next piece of the body, as it was read.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0
            .chunk()
            .await
            .map_err(|error| TransportError::reading(&error))
    }
}
