//! One HTTP client per target. The only place that knows reqwest, hyper's client and rustls.
//!
//! It never retries, follows no redirect, asks no proxy of the environment, and never decompresses.

mod phases;
mod redaction;
mod tls;

use std::{
    convert::Infallible,
    error::Error,
    fmt, io, mem,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT},
};
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::runtime::Handle;

pub use self::phases::{LONG_WAY, Marks, Way};
use self::{
    phases::{MarkConnecting, MarkingResolver},
    redaction::Redaction,
};
use crate::{
    clock::unix_now,
    config::{
        plan::{Connection, HttpVersion, Target},
        secret::Secret,
    },
    dialect::Dialect,
    gate::Turn,
    outcome::{Failure, Invalid, Outcome},
    response::Head,
};

/// Sends requests to one target.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    /// For a request whose pooled connection was dead.
    unpooled: Option<reqwest::Client>,
    url: url::Url,
    headers: HeaderMap,
    redaction: Redaction,
    far: Arc<AtomicBool>,
}

/// Why a client cannot be built; it names no secret.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    #[error("header {0} holds characters that a header may not hold")]
    Header(String),
    #[error("the address {0} cannot be extended by a path")]
    Url(url::Url),
}

impl Client {
    /// `blocking` is the runtime whose threads resolve names.
    pub fn new(target: &Target, user_agent: &str, blocking: &Handle) -> Result<Self, ClientError> {
        let dialect = Dialect::from(target.api);
        let build = |connection| build(target, connection, blocking);
        let path = format!("{}{}", target.url.path().trim_end_matches('/'), dialect.path());
        let mut url = target.url.clone();
        url.set_path(&path);
        Ok(Self {
            http: build(target.connection)?,
            unpooled: match target.connection {
                Connection::New => None,
                Connection::Reuse => Some(build(Connection::New)?),
            },
            url,
            headers: headers(target, dialect, user_agent)?,
            redaction: Redaction(secret_forms(target)),
            far: Arc::default(),
        })
    }

    /// Marks for a request that has its turn.
    pub fn marks(&self, turn: Turn) -> Marks {
        Marks::new(turn, Arc::clone(&self.far))
    }

    /// Sends a request and waits for the response head. The turn ends when the body is taken.
    pub async fn send(&self, body: Bytes, marks: &Marks) -> Result<Answer, TransportError> {
        Self::send_with(&self.http, self.request(body, marks), marks).await
    }

    /// Sends a request on a connection of its own.
    pub async fn send_anew(&self, body: Bytes, marks: &Marks) -> Result<Answer, TransportError> {
        let client = self.unpooled.as_ref().unwrap_or(&self.http);
        Self::send_with(client, self.request(body, marks), marks).await
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

    fn request(&self, body: Bytes, marks: &Marks) -> reqwest::Request {
        let mut request = reqwest::Request::new(Method::POST, self.url.clone());
        request.headers_mut().clone_from(&self.headers);
        *request.body_mut() = Some(reqwest::Body::wrap(TakenBody {
            data: Some(body),
            marks: marks.clone(),
        }));
        request
    }

    /// Takes secrets out of text that an endpoint sent.
    pub fn redact(&self, text: String) -> String {
        self.redaction.apply(text)
    }
}

fn build(target: &Target, connection: Connection, blocking: &Handle) -> Result<reqwest::Client, ClientError> {
    let tls = tls::config(target.url.scheme() == "https", target.http)?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tcp_nodelay(true)
        .dns_resolver(MarkingResolver(blocking.clone()))
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

fn headers(target: &Target, dialect: Dialect, user_agent: &str) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(dialect.media_type()));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, value(user_agent, "User-Agent")?);
    if let Some(authorization) = &target.authorization {
        let credentials = format!("{} {}", authorization.scheme, authorization.credentials.expose());
        headers.insert(AUTHORIZATION, sensitive(&credentials, "Authorization")?);
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
pub fn secret_forms(target: &Target) -> Vec<String> {
    let authorization = target
        .authorization
        .iter()
        .map(|authorization| &authorization.credentials);
    let headers = target.headers.iter().map(|header| &header.value);
    let secrets: Vec<_> = authorization.chain(headers).map(Secret::expose).collect();
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
        let local = self.0.extensions().get::<HttpInfo>().map(HttpInfo::local_addr);
        way.connected.is_some() && (local.is_none() || local == way.local)
    }

    /// The next piece of the body, as it was read.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0
            .chunk()
            .await
            .map_err(|error| TransportError::reading(&error))
    }
}

/// Why there is no (more) answer.
#[derive(Clone, Debug)]
pub struct TransportError {
    pub outcome: Outcome,
    pub detail: String,
    /// The request was on a connection that had been there before, and no byte of an answer came.
    pub stale: bool,
}

impl TransportError {
    /// A failure before the response head is classified by the phase whose mark is missing.
    fn sending(error: &reqwest::Error, way: &Way) -> Self {
        let fault = fault(error);
        // An endpoint that answered, with whatever, is not asked again.
        let stale = way.was_pooled() && !matches!(fault, Some(Fault::NotHttp | Fault::Local));
        let outcome = match fault {
            Some(Fault::Local) => Outcome::Invalid(Invalid::Local),
            Some(Fault::NotHttp) if !error.is_connect() => Outcome::Failed(Failure::Malformed),
            _ if !error.is_connect() => Outcome::Failed(Failure::ConnectionLost),
            _ if way.dns_failed => Outcome::Failed(Failure::Dns),
            _ if way.tls_began.is_some() => Outcome::Failed(Failure::Tls),
            Some(Fault::Refused) => Outcome::Failed(Failure::ConnectRefused),
            Some(Fault::TimedOut) => Outcome::Failed(Failure::ConnectTimeout),
            _ => Outcome::Failed(Failure::ConnectError),
        };
        Self {
            outcome,
            detail: chain(error),
            stale,
        }
    }

    fn reading(error: &reqwest::Error) -> Self {
        let outcome = match fault(error) {
            Some(Fault::NotHttp) => Failure::Malformed,
            _ => Failure::ConnectionLost,
        };
        Self {
            outcome: Outcome::Failed(outcome),
            detail: chain(error),
            stale: false,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.detail)
    }
}

/// What the causes of an error say.
enum Fault {
    /// We are out of file descriptors, ports or buffers.
    Local,
    Refused,
    TimedOut,
    /// The bytes are not HTTP.
    NotHttp,
}

fn fault(error: &reqwest::Error) -> Option<Fault> {
    use rustix::io::Errno;
    causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            let tls = matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>());
            return match (errno, error.kind()) {
                (
                    Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM),
                    _,
                ) => Some(Fault::Local),
                (_, io::ErrorKind::ConnectionRefused) => Some(Fault::Refused),
                (_, io::ErrorKind::TimedOut) => Some(Fault::TimedOut),
                // What hyper makes of chunked framing that is none.
                (None, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) if !tls => {
                    Some(Fault::NotHttp)
                }
                _ => None,
            };
        }
        let not_http = match cause.downcast_ref::<h2::Error>() {
            Some(error) => is_not_http2(error),
            None => cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_parse),
        };
        not_http.then_some(Fault::NotHttp)
    })
}

/// We found that the peer's bytes are not HTTP/2; what the peer says of ours is no finding.
fn is_not_http2(error: &h2::Error) -> bool {
    use h2::Reason;
    let breaks_the_protocol = matches!(
        error.reason(),
        Some(Reason::PROTOCOL_ERROR | Reason::FRAME_SIZE_ERROR | Reason::COMPRESSION_ERROR)
    );
    error.is_library() && breaks_the_protocol
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error as &'a (dyn Error + 'static)), |&cause| cause.source())
}

/// The innermost causes in words; the outer ones only say "error sending request" with the address.
fn chain(error: &reqwest::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in causes(error).skip(1) {
        let text = cause.to_string();
        if said.last().is_none_or(|last| !last.contains(&text)) {
            said.push(text);
        }
    }
    if said.is_empty() {
        "no further detail".into()
    } else {
        said.join(": ")
    }
}
