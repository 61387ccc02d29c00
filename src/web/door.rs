//! Stands before every page: who is let in, how often, under which path. What it goes by may change while it stands.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::{sync::watch, time::Instant};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::{
    bucket::Bucket,
    place::{Asked, Place},
    tls::{self, WebTlsError},
    users::{Admission, Turn, Users},
};
use crate::{
    config::{
        ConfigError,
        problem::Problem,
        web::{self, WebConfig},
    },
    metrics::Metrics,
    reload,
};

/// Larger requests are refused: no page takes anything of that size.
const MAX_BODY: u64 = 64 << 10;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// When to come back where passwords are being looked at, in seconds.
const SOON: u64 = 1;

/// Why a web server's file cannot be gone by.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}: {source}", file.display())]
    Tls { file: PathBuf, source: WebTlsError },
}

/// What it goes by.
#[derive(Debug, Default)]
pub struct Rules {
    tls: Option<Tls>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Users>,
    bucket: Option<Mutex<Bucket>>,
    exempt: HashSet<String>,
    files: Vec<PathBuf>,
    /// What is probably not meant, each in one line.
    pub warnings: Vec<String>,
}

struct Tls {
    acceptor: TlsAcceptor,
    verifies_all_clients: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tls")
    }
}

impl Rules {
    /// Reads `file` and all that it names. It blocks.
    pub fn read(file: &Path) -> Result<Self, DoorError> {
        let config = web::load(file)?;
        Self::of(config).map_err(|source| DoorError::Tls {
            file: file.to_owned(),
            source,
        })
    }

    fn of(config: WebConfig) -> Result<Self, WebTlsError> {
        let set_up = |server: &web::TlsServer| -> Result<Tls, WebTlsError> {
            Ok(Tls {
                acceptor: TlsAcceptor::from(Arc::new(tls::config(server)?)),
                verifies_all_clients: server.client_auth == web::ClientAuth::RequireAndVerify,
            })
        };
        let bucket = |limit| Mutex::new(Bucket::new(limit, Instant::now()));
        Ok(Self {
            tls: config.tls.as_ref().map(set_up).transpose()?,
            headers: config.headers,
            users: Users::new(&config.users),
            bucket: config.rate_limit.map(bucket),
            exempt: config.exempt_paths.into_iter().collect(),
            files: config.files,
            warnings: config.warnings.iter().map(Problem::in_one_line).collect(),
        })
    }

    pub(super) fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref().map(|tls| &tls.acceptor)
    }

    fn asks_who_it_is(&self) -> bool {
        let verifies = self.tls.as_ref().is_some_and(|tls| tls.verifies_all_clients);
        verifies || self.users.is_some()
    }

    fn token(&self) -> Result<(), Duration> {
        let Some(bucket) = &self.bucket else {
            return Ok(());
        };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(Instant::now())
    }
}

/// Cheap to clone; all clones go by the same rules.
#[derive(Clone, Debug)]
pub struct Door(Arc<Frame>);

#[derive(Debug)]
struct Frame {
    rules: watch::Sender<Arc<Rules>>,
    place: Place,
    turn: Turn,
}

impl Door {
    pub fn new(rules: Rules, place: Place) -> Self {
        Self(Arc::new(Frame {
            rules: watch::Sender::new(Arc::new(rules)),
            place,
            turn: Turn::default(),
        }))
    }

    /// Whether anybody who can connect is let in.
    pub fn is_open(&self) -> bool {
        !self.rules().asks_who_it_is()
    }

    pub fn speaks_tls(&self) -> bool {
        self.rules().tls.is_some()
    }

    /// Those in force now.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.rules.borrow())
    }

    /// The same, and when they change.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Rules>> {
        self.0.rules.subscribe()
    }

    /// The answer to a request, whoever it is from.
    pub(super) async fn answer(&self, request: Request<Incoming>, pages: Router) -> Response<Body> {
        let rules = self.rules();
        let mut response = self.ask(&rules, request, pages).await;
        for (name, value) in &rules.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    async fn ask(&self, rules: &Rules, mut request: Request<Incoming>, mut pages: Router) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let asked = self.0.place.asked(&path);
        let is_exempt = matches!(asked, Asked::Page(page) if rules.exempt.contains(page));
        if !is_exempt && let Some(refusal) = self.refusal(rules, &request).await {
            return refusal;
        }
        if request.body().size_hint().lower() > MAX_BODY {
            let said = "no page takes a request of this size\n";
            return (StatusCode::PAYLOAD_TOO_LARGE, said).into_response();
        }
        if let Asked::Page(page) = asked
            && is_forged(page, &request)
        {
            let said = "a page of another site may not ask for this\n";
            return (StatusCode::FORBIDDEN, said).into_response();
        }
        match asked {
            Asked::Page(page) if page == path => {}
            Asked::Page(page) => match below(page, request.uri().query()) {
                Some(uri) => *request.uri_mut() = uri,
                None => return StatusCode::NOT_FOUND.into_response(),
            },
            Asked::Top => {
                let top = [(header::LOCATION, self.0.place.top())];
                return (StatusCode::FOUND, top).into_response();
            }
            Asked::Elsewhere => return StatusCode::NOT_FOUND.into_response(),
        }
        match pages.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Why a request is not let in.
    async fn refusal(&self, rules: &Rules, request: &Request<Incoming>) -> Option<Response<Body>> {
        let later = |status, seconds: u64, said: &'static str| {
            Some((status, [(header::RETRY_AFTER, seconds.to_string())], said).into_response())
        };
        if let Err(wait) = rules.token() {
            // Whole seconds, and not too few.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            return later(StatusCode::TOO_MANY_REQUESTS, seconds, "too many requests\n");
        }
        match rules.users.as_ref()?.admit(request.headers(), &self.0.turn).await {
            Admission::Admitted => None,
            Admission::Busy => later(
                StatusCode::SERVICE_UNAVAILABLE,
                SOON,
                "too many passwords are being looked at\n",
            ),
            Admission::Refused => {
                let challenge = r#"Basic realm="llm-probe-exporter", charset="UTF-8""#;
                let headers = [(header::WWW_AUTHENTICATE, challenge)];
                Some((StatusCode::UNAUTHORIZED, headers, "unauthorized\n").into_response())
            }
        }
    }

    /// Goes by `file` whenever it, or what it names, has changed. What cannot be gone by changes nothing, and is tried again:
    /// what it names may come later.
    pub async fn keep_watching(self, file: PathBuf, metrics: Metrics) {
        let mut failed = None;
        let mut gone_by = self.looks(&file).await;
        let mut before = gone_by.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.looks(&file).await;
            // A certificate and its key are replaced one after the other: wait until nothing changes any more.
            if now == before && (now != gone_by || failed.is_some()) {
                gone_by = now.clone();
                failed = self.reread(&file, failed).await;
                metrics.web_config_read(failed.is_none());
            }
            before = now;
        }
    }

    async fn looks(&self, file: &Path) -> Vec<Option<(PathBuf, Vec<u8>)>> {
        let rules = self.rules();
        let mut looks = vec![reload::seen(file).await];
        for named in &rules.files {
            looks.push(reload::seen(named).await);
        }
        looks
    }

    /// What is wrong with it, if anything; what was wrong `before` is not told again.
    async fn reread(&self, file: &Path, before: Option<String>) -> Option<String> {
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || Rules::read(&path)).await;
        match read {
            Ok(Ok(mut rules)) => {
                let in_force = self.rules();
                rules.users = rules.users.map(|users| match &in_force.users {
                    Some(before) => users.in_place_of(before),
                    None => users,
                });
                for warning in &rules.warnings {
                    tracing::warn!("{warning}");
                }
                if !rules.asks_who_it_is() && !self.is_open() {
                    tracing::warn!("the web server lets everybody in now");
                }
                self.0.rules.send_replace(Arc::new(rules));
                tracing::info!(file = %file.display(), "the web server goes by what its file says now");
                None
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                if before.as_ref() != Some(&error) {
                    tracing::error!(%error, "the web server's file is not read again: what it said before stays in force");
                }
                Some(error)
            }
            Err(error) => {
                tracing::error!(%error, "reading the web server's file failed");
                Some(error.to_string())
            }
        }
    }
}

/// Whether a page of somebody else's lets the browser of a user, who may be let in, ask for what is not only looked at: to
/// send, or to move something.
fn is_forged(page: &str, request: &Request<Incoming>) -> bool {
    let site = request.headers().get("sec-fetch-site");
    let is_look = matches!(*request.method(), Method::GET | Method::HEAD) && page != "/probe";
    !is_look && site.is_some_and(|site| site == "cross-site")
}

/// The page as a request that came to the top would ask for it.
fn below(page: &str, query: Option<&str>) -> Option<Uri> {
    let text = match query {
        Some(query) => format!("{page}?{query}"),
        None => page.to_owned(),
    };
    text.parse().ok()
}
