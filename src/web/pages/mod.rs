//! What people look at: the status page, a page for each series, the configuration and the log. All of it works without
//! JavaScript, which only refreshes; nothing comes from elsewhere.

mod series;
mod status;
mod words;

pub(super) use self::status::why;

use axum::{
    Router,
    extract::{Path, Query, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use tracing::Level;

use super::{
    App,
    links::{Links, leads_to},
};
use crate::{clock::unix_now, logs};

/// Lines of the log that are shown where nobody says how many.
const LINES: usize = 200;

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<App> {
    let asset = |media_type: &'static str, text: &'static str| {
        get(move || async move {
            let headers = [
                (header::CONTENT_TYPE, media_type),
                (header::CACHE_CONTROL, "no-cache"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, text)
        })
    };
    Router::new()
        .route("/", get(status))
        .route("/series/{target}/{probe}/{load}", get(one_series))
        .route("/config", get(config))
        .route("/logs", get(log))
        .route(
            "/static/page.css",
            asset("text/css; charset=utf-8", include_str!("page.css")),
        )
        .route(
            "/static/page.js",
            asset("text/javascript; charset=utf-8", include_str!("page.js")),
        )
}

/// A page, and what surrounds all of them. What is `live` refreshes itself.
struct Page<'a> {
    links: Links,
    title: &'a str,
    is_live: bool,
    content: Markup,
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> Response {
        let Self {
            links,
            title,
            is_live,
            content,
        } = self;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) " · llm-probe-exporter" }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(links.to("static/page.css"));
                    @if is_live {
                        script src=(links.to("static/page.js")) data-status=(links.to("api/v1/status")) defer {}
                    }
                }
                body {
                    header {
                        a class="home" href=(links.to("")) { "llm-probe-exporter" }
                        nav aria-label="Pages" {
                            a href=(links.to("")) { "Status" }
                            a href=(links.to("logs")) { "Log" }
                            a href=(links.to("config")) { "Configuration" }
                            a href=(links.to("metrics")) { "Metrics" }
                            a href=(links.to("api/v1/status")) { "API" }
                        }
                    }
                    main { (content) }
                    footer {
                        p { "What users of these inference endpoints would have felt. Version " (env!("CARGO_PKG_VERSION")) "." }
                        @if is_live {
                            p id="fresh" role="status" { noscript { "Without JavaScript this page does not refresh itself." } }
                        }
                    }
                }
            }
        };
        (page_headers("text/html; charset=utf-8"), page.into_string()).into_response()
    }
}

fn page_headers(media_type: &'static str) -> [(HeaderName, &'static str); 5] {
    [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ]
}

async fn status(State(app): State<App>, uri: Uri) -> Response {
    let links = Links::from(uri.path());
    let view = status::View::of(&app, unix_now());
    Page {
        links,
        title: &view.in_short(),
        is_live: true,
        content: view.render(links),
    }
    .into_response()
}

async fn one_series(
    State(app): State<App>,
    uri: Uri,
    path: Result<Path<[String; 3]>, PathRejection>,
) -> Response {
    let row = path.ok().and_then(|Path(segments)| {
        let segments = segments.each_ref().map(String::as_str);
        let board = &app.0.board;
        board.row(|row| leads_to(&row.watched.series, segments))
    });
    let Some(row) = row else {
        return missing(uri).await;
    };
    let series = &row.watched.series;
    Page {
        links: Links::from(uri.path()),
        title: &format!(
            "{} at {}, {}",
            series.probe.name, series.target.name, series.step.load
        ),
        is_live: true,
        content: series::render(&row, unix_now()),
    }
    .into_response()
}

/// Whether a browser asks, and not a script.
fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    accept
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

async fn config(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let yaml = app.0.board.config();
    if !wants_page(&headers) {
        return (page_headers("application/yaml"), yaml.to_string()).into_response();
    }
    Page {
        links: Links::from(uri.path()),
        title: "Configuration",
        is_live: false,
        content: html! {
            h1 { "Configuration" }
            p { "In force since the start or the last reload that succeeded. What may be a secret is not shown; comments are left out." }
            pre tabindex="0" role="region" aria-label="The configuration as YAML" { code { (yaml) } }
        },
    }
    .into_response()
}

#[derive(Debug, Deserialize)]
struct LogQuery {
    /// The least grave level that is shown.
    level: Option<String>,
    lines: Option<String>,
}

async fn log(
    State(app): State<App>,
    uri: Uri,
    Query(query): Query<LogQuery>,
    headers: HeaderMap,
) -> Response {
    let level = query.level.as_deref().unwrap_or("trace");
    let count = query.lines.as_deref().map_or(Ok(LINES), str::parse);
    let (Ok(level), Ok(count)) = (level.parse::<Level>(), count) else {
        let mend = "write ?level=error, warn, info, debug or trace, and ?lines=N\n";
        return (
            StatusCode::BAD_REQUEST,
            page_headers("text/plain; charset=utf-8"),
            mend,
        )
            .into_response();
    };
    let lines = app.0.logs.last(count.min(logs::LINES), level);
    if !wants_page(&headers) {
        let text = lines
            .iter()
            .rev()
            .fold(String::new(), |text, line| text + &line.text + "\n");
        return (page_headers("text/plain; charset=utf-8"), text).into_response();
    }
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    Page {
        links: Links::from(uri.path()),
        title: "Log",
        is_live: false,
        content: html! {
            h1 { "Log" }
            p { "The last " (lines.len()) " lines of standard error, the latest first. What is logged at all is the choice of --log.level." }
            nav class="levels" aria-label="Levels" {
                "From level: "
                @for other in levels {
                    @let name = other.as_str().to_ascii_lowercase();
                    a href={ "logs?level=" (name) "&lines=" (count) } aria-current=[(other == level).then_some("true")] { (name) } " "
                }
            }
            @if lines.is_empty() {
                p { "There are none." }
            } @else {
                ol class="log" reversed tabindex="0" aria-label="Log lines, the latest first" {
                    @for line in &lines { li class=(line.level.as_str().to_ascii_lowercase()) { code { (line.text) } } }
                }
            }
        },
    }
    .into_response()
}

/// There is nothing at this path.
pub(super) async fn missing(uri: Uri) -> Response {
    let links = Links::from(uri.path());
    let page = Page {
        links,
        title: "Not found",
        is_live: false,
        content: html! {
            h1 { "There is nothing here" }
            p { "No page and no series is at " code { (uri.path()) } ". A reload may have removed it." }
            p { a href=(links.to("")) { "To the status page" } }
        },
    };
    (StatusCode::NOT_FOUND, page).into_response()
}
