//! What the exporter serves over HTTP. The only home of axum.
//!
//! - `GET /metrics`: the exposition, in the format that `Accept` asks for; the first scrape arms the schedule.
//! - `GET /`: the status page, a row per series; `GET /series/TARGET/PROBE/LOAD`: one of them, with its last bursts.
//! - `GET /config`: what is in force, without secrets; `GET /logs`: the last lines of the log.
//! - `GET /api/v1/status`, `series`, `series/TARGET/PROBE/LOAD`, `bursts`: the same as JSON.
//! - `GET /-/healthy`: 200 as long as the process makes progress.
//! - `GET /-/ready`: 200 while the schedule is armed, else 503.
//! - `POST /-/pause`, `POST /-/resume`: the kill switch, with `--web.enable-lifecycle`.
//! - `POST /-/reload`: reads the configuration again, with `--web.enable-lifecycle`.
//! - `GET /probe`: one burst now, and its metrics alone, with `--web.enable-probe`.
//! - `GET /static/…`: what the page is made of.
//!
//! A request passes the `server` (connections, sizes, times) and the `door` (who is let in, how often, below which
//! path) before it comes to a page.

mod api;
mod aside;
mod bucket;
mod coding;
mod connections;
mod door;
mod draw;
mod lending;
mod links;
mod listener;
mod pages;
mod patient;
mod place;
mod probe;
mod scrapes;
mod server;
mod standing;
mod tls;
mod users;

use std::{io, sync::Arc};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{runtime::Handle, sync::watch};
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};

use self::{
    aside::aside,
    lending::Lending,
    scrapes::{Scrapes, Wish},
};
pub use self::{
    door::{Door, DoorError, Rules},
    listener::Listener,
    place::Place,
    probe::Probing,
    server::serve,
};
use crate::{
    board::Board,
    health::Health,
    logs::Logs,
    metrics::{Metrics, Wanted},
    pause::PauseSwitch,
    reload::{Answer, Reloader},
};

const NO_LIFECYCLE: &str =
    "pausing and reloading over HTTP is off; start the exporter with --web.enable-lifecycle\n";

/// Pages and answers of the API in memory at once.
const PAGES: usize = 4;

/// Where the exporter is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Waiting for the first scrape.
    Starting,
    Armed,
    Draining,
}

/// What the handlers need. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    metrics: Metrics,
    scrapes: Scrapes,
    /// For all other answers that are made when they are asked for.
    pages: Lending,
    board: Board,
    health: Health,
    life: watch::Receiver<Life>,
    scraped: watch::Sender<bool>,
    switch: Switch,
    logs: Logs,
}

/// The kill switch, and what a request may do about the exporter's life.
#[derive(Clone, Debug)]
pub struct Switch {
    pub pause: PauseSwitch,
    /// Where to ask for a reload; `None`: requests may neither move the switch nor ask.
    pub lifecycle: Option<Reloader>,
    /// `None`: nobody may ask for bursts.
    pub probing: Option<Probing>,
}

impl App {
    /// `scraped` is set by the first scrape.
    pub fn new(
        metrics: Metrics,
        board: Board,
        health: Health,
        life: watch::Receiver<Life>,
        scraped: watch::Sender<bool>,
        switch: Switch,
        logs: Logs,
    ) -> Self {
        Self(Arc::new(Parts {
            scrapes: Scrapes::new(metrics.clone()),
            pages: Lending::new(PAGES),
            metrics,
            board,
            health,
            life,
            scraped,
            switch,
            logs,
        }))
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/probe", get(probe::probe))
            .route("/-/healthy", get(healthy))
            .route("/-/ready", get(ready))
            .route(
                "/-/pause",
                post(|State(app): State<Self>| async move { app.switch(true) }),
            )
            .route(
                "/-/resume",
                post(|State(app): State<Self>| async move { app.switch(false) }),
            )
            .route("/-/reload", post(reload))
            .merge(
                pages::routes()
                    .merge(api::routes())
                    .layer(from_fn_with_state(self.clone(), made_aside)),
            )
            .fallback(pages::missing)
            .layer(CompressionLayer::new().compress_when(SizeAbove::new(1024)))
            .with_state(self)
    }

    /// Moves the kill switch, and says what holds then.
    fn switch(&self, hold: bool) -> (StatusCode, String) {
        let Switch { pause, lifecycle, .. } = &self.0.switch;
        if lifecycle.is_none() {
            return (StatusCode::FORBIDDEN, NO_LIFECYCLE.to_owned());
        }
        pause.post(hold);
        let holds = pause.holds();
        let said = if holds.is_any() {
            format!("paused: {holds}\n")
        } else {
            "resumed\n".to_owned()
        };
        (StatusCode::OK, said)
    }
}

/// Lets a page be made where that disturbs nobody, one of few at once, and lends it out.
async fn made_aside(State(App(app)): State<App>, request: Request, next: Next) -> Response {
    let runtime = Handle::current();
    let made = async {
        let place = app.pages.place().await?;
        let page = aside("page", move || runtime.block_on(next.run(request))).await?;
        let (head, body) = page.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(Response::from_parts(
            head,
            app.pages.lend(bytes, place).into_body(),
        ))
    };
    made.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a page was not made");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

async fn metrics(State(App(app)): State<App>, method: Method, headers: HeaderMap) -> Response {
    let wanted = wanted(&headers);
    let gzip = coding::takes_gzip(&headers);
    let mut told =
        HeaderMap::from_iter([(header::VARY, HeaderValue::from_static("accept, accept-encoding"))]);
    told.extend(HeaderValue::try_from(wanted.content_type()).map(|value| (header::CONTENT_TYPE, value)));
    if gzip {
        told.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if method == Method::HEAD {
        return told.into_response();
    }
    let format = wanted.format;
    let Some(rendering) = app.scrapes.rendering(Wish { format, gzip }).await else {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return (status, "rendering the metrics failed\n").into_response();
    };
    // Only now, or the first scrape could already hold the first burst.
    app.scraped.send_replace(true);
    (told, rendering.into_body()).into_response()
}

/// In which format a scraper wants its answer.
fn wanted(headers: &HeaderMap) -> Wanted {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .map(|accept| accept.to_str());
    let accept: Result<Vec<_>, _> = accept.collect();
    Wanted::accepted(&accept.map(|accept| accept.join(",")).unwrap_or_default())
}

/// Reads the configuration again, and says what has changed or what is wrong with it.
async fn reload(State(App(app)): State<App>) -> (StatusCode, String) {
    let Some(reloader) = &app.switch.lifecycle else {
        return (StatusCode::FORBIDDEN, NO_LIFECYCLE.to_owned());
    };
    match reloader.ask("POST /-/reload").await {
        Answer::Done(changes) => (StatusCode::OK, changes + "\n"),
        Answer::Rejected(problems) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{problems}\nnot reloaded: the configuration before stays in force\n"),
        ),
        Answer::Refused => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not reloaded: the exporter ends, or too many have asked\n".to_owned(),
        ),
    }
}

async fn healthy(State(App(app)): State<App>) -> (StatusCode, &'static str) {
    if app.health.is_stuck() {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the measuring runtime has made no progress for a minute\n",
        )
    } else {
        (StatusCode::OK, "healthy\n")
    }
}

async fn ready(State(App(app)): State<App>) -> (StatusCode, &'static str) {
    match *app.life.borrow() {
        Life::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for the first scrape before the first burst\n",
        ),
        Life::Armed => (StatusCode::OK, "ready\n"),
        Life::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}
