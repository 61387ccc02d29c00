//! `/api/v1/`: the same as the pages say, for programs. Numbers have the names of the metrics; what is not known is
//! `null`. Instants are in seconds since the Unix epoch, durations in seconds.

use std::collections::BTreeMap;

use super::{
    App, Life,
    links::{leads_to, path_of},
    standing::Standing,
};
use crate::{
    board::{Row, State as Doing},
    clock::unix_now,
    history::{PHASES, Past, Percentiles, Trace},
    load::{Load, Rate},
    outcome::Skip,
    record::ConnectionState,
    units::{Name, Ratio, Seconds},
};
use axum::{
    Router,
    extract::{Path, Query, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};

/// Bursts that are told where nobody says how many.
const BURSTS: usize = 100;

/// The most that are told.
const MOST_BURSTS: usize = 1000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/series", get(all_series))
        .route("/api/v1/series/{target}/{probe}/{load}", get(one_series))
        .route("/api/v1/bursts", get(bursts))
}

fn json(status: StatusCode, answer: &impl Serialize) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    match serde_json::to_string(answer) {
        Ok(text) => (status, headers, text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the API cannot write its answer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Serialize)]
struct Mistake<'a> {
    error: &'a str,
}

/// The exporter itself.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    now: f64,
    /// Changes whenever a page would look different, beside the time that goes by.
    revision: String,
    life: &'static str,
    is_starved: bool,
    paused: Option<Paused>,
    backing_off: Vec<BackingOff>,
    /// How many series stand how.
    series: BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
struct Paused {
    since: f64,
    because: String,
}

#[derive(Serialize)]
struct BackingOff {
    target: Name,
    seconds: f64,
}

async fn status(State(App(app)): State<App>) -> Response {
    let mut series: BTreeMap<_, _> = Standing::ALL.map(|standing| (standing.as_str(), 0)).into();
    // Before the rows: a page that is asked for because of it is at least as new.
    let changes = app.board.changes();
    for row in app.board.rows() {
        *series.entry(Standing::of(&row).as_str()).or_default() += 1;
    }
    let holds = app.switch.pause.holds();
    let protection = app.metrics.guarded();
    let backing_off: Vec<_> = (protection.guards().iter())
        .filter_map(|guard| {
            let seconds = guard.backing_off()?.as_secs_f64();
            let target = guard.target.name.clone();
            Some(BackingOff { target, seconds })
        })
        .collect();
    let life = match *app.life.borrow() {
        Life::Starting => "starting",
        Life::Armed => "armed",
        Life::Draining => "draining",
    };
    let is_starved = app.health.is_starved();
    let since = holds.since();
    let revision = format!(
        "{changes}-{life}-{is_starved}-{}-{}",
        since.unwrap_or_default(),
        backing_off.len()
    );
    let answer = Status {
        version: env!("CARGO_PKG_VERSION"),
        now: unix_now(),
        revision,
        life,
        is_starved,
        paused: since.map(|since| Paused {
            since,
            because: holds.to_string(),
        }),
        backing_off,
        series,
    };
    json(StatusCode::OK, &answer)
}

/// One series, now.
#[derive(Serialize)]
struct Series {
    probe: Name,
    target: Name,
    model: String,
    concurrency: Option<u32>,
    rate: Option<Rate>,
    /// Where there is more of it, below `api/v1/`.
    path: String,
    state: &'static str,
    /// What its last burst showed, which is the state where nothing keeps it from firing.
    last_burst_state: &'static str,
    /// Requests of the running burst that have ended.
    running: Option<u64>,
    diagnosis: Option<String>,
    objective_ratio: Ratio,
    bursts_total: u64,
    bursts_skipped_total: BTreeMap<Skip, u64>,
    burst_next_due_timestamp_seconds: Option<f64>,
    last_burst: Option<Ended>,
}

impl Series {
    fn of(row: &Row) -> Self {
        let series = &row.watched.series;
        let load: Load = series.step.load;
        Self {
            probe: series.probe.name.clone(),
            target: series.target.name.clone(),
            model: series.target.model.clone(),
            concurrency: load.concurrency(),
            rate: load.rate(),
            path: path_of(series),
            state: Standing::of(row).as_str(),
            last_burst_state: Standing::of_last(row).as_str(),
            running: match row.state {
                Doing::Running(ended) => Some(ended),
                Doing::Unarmed | Doing::Waiting => None,
            },
            diagnosis: super::pages::why(row).map(str::to_owned),
            objective_ratio: series.step.slo.objective,
            bursts_total: row.bursts,
            bursts_skipped_total: row.skipped.clone(),
            burst_next_due_timestamp_seconds: row.next_due,
            last_burst: row.history.bursts().next_back().map(|past| Ended::of(past)),
        }
    }
}

/// A burst that ended.
#[derive(Serialize)]
struct Ended {
    burst: u64,
    burst_start_timestamp_seconds: Option<f64>,
    burst_end_timestamp_seconds: f64,
    state: &'static str,
    is_search: bool,
    requests: u64,
    successes: u64,
    goodput_ratio: Option<Ratio>,
    burst_time_to_first_token_seconds: Stat,
    burst_inter_token_latency_seconds: Stat,
    bottleneck: Option<&'static str>,
    cut_short: Option<Skip>,
}

#[derive(Serialize)]
struct Stat {
    p50: Option<Seconds>,
    p99: Option<Seconds>,
}

impl From<Option<Percentiles>> for Stat {
    fn from(percentiles: Option<Percentiles>) -> Self {
        Self {
            p50: percentiles.map(|percentiles| percentiles.p50),
            p99: percentiles.map(|percentiles| percentiles.p99),
        }
    }
}

impl Ended {
    fn of(past: &Past) -> Self {
        Self {
            burst: past.number,
            burst_start_timestamp_seconds: past.began,
            burst_end_timestamp_seconds: past.ended,
            state: Standing::of_past(past).as_str(),
            is_search: past.is_search,
            requests: past.requests,
            successes: past.successes,
            goodput_ratio: past.goodput,
            burst_time_to_first_token_seconds: past.ttft.into(),
            burst_inter_token_latency_seconds: past.itl.into(),
            bottleneck: past.cause.map(crate::diagnose::Cause::as_str),
            cut_short: past.cut_short,
        }
    }
}

/// A request of it.
#[derive(Serialize)]
struct Asked {
    request: u32,
    request_id: Option<String>,
    warmup: bool,
    outcome: &'static str,
    code: Option<u16>,
    connection: Option<&'static str>,
    detail: Option<String>,
    /// From the start of its burst.
    start_seconds: Option<f64>,
    end_seconds: Option<f64>,
    time_to_first_token_seconds: Option<f64>,
    inter_token_latency_seconds: Option<f64>,
    output_tokens: u64,
    request_phase_seconds: BTreeMap<&'static str, Option<f64>>,
}

impl Asked {
    fn of(trace: &Trace) -> Self {
        let phases = PHASES.iter().zip(trace.phases);
        Self {
            request: trace.number,
            request_id: trace.id.map(|id| id.to_string()),
            warmup: trace.warmup,
            outcome: trace.outcome.as_str(),
            code: trace.status,
            connection: trace.connection.map(ConnectionState::as_str),
            detail: trace.detail.as_deref().map(str::to_owned),
            start_seconds: trace.start.map(to_the_microsecond),
            end_seconds: trace.end.map(to_the_microsecond),
            time_to_first_token_seconds: trace.ttft.map(to_the_microsecond),
            inter_token_latency_seconds: trace.itl.map(to_the_microsecond),
            output_tokens: trace.output_tokens,
            request_phase_seconds: phases
                .map(|(phase, span)| (*phase, span.map(|span| to_the_microsecond(span.to - span.from))))
                .collect(),
        }
    }
}

/// What is kept is no more exact.
fn to_the_microsecond(seconds: f32) -> f64 {
    (f64::from(seconds) * 1e6).round() / 1e6
}

async fn all_series(State(App(app)): State<App>) -> Response {
    let series: Vec<_> = app.board.rows().iter().map(Series::of).collect();
    json(StatusCode::OK, &series)
}

/// A series with its last bursts, the latest first, and the requests that are kept of them.
#[derive(Serialize)]
struct Detailed {
    #[serde(flatten)]
    series: Series,
    bursts: Vec<WithRequests>,
}

#[derive(Serialize)]
struct WithRequests {
    #[serde(flatten)]
    burst: Ended,
    request_details: Vec<Asked>,
}

async fn one_series(State(App(app)): State<App>, path: Result<Path<[String; 3]>, PathRejection>) -> Response {
    let row = path.ok().and_then(|Path(segments)| {
        let segments = segments.each_ref().map(String::as_str);
        app.board.row(|row| leads_to(&row.watched.series, segments))
    });
    let Some(row) = row else {
        let error = "there is no such series; see `path` in api/v1/series";
        return json(StatusCode::NOT_FOUND, &Mistake { error });
    };
    let bursts = row.history.bursts().rev().map(|past| WithRequests {
        burst: Ended::of(past),
        request_details: past.traces.iter().map(Asked::of).collect(),
    });
    let answer = Detailed {
        bursts: bursts.collect(),
        series: Series::of(&row),
    };
    json(StatusCode::OK, &answer)
}

#[derive(Deserialize)]
struct BurstQuery {
    limit: Option<String>,
}

/// A burst, and of which series.
#[derive(Serialize)]
struct OfSeries {
    probe: Name,
    target: Name,
    concurrency: Option<u32>,
    rate: Option<Rate>,
    path: String,
    #[serde(flatten)]
    burst: Ended,
}

/// The last bursts of all series, the latest first.
async fn bursts(State(App(app)): State<App>, Query(query): Query<BurstQuery>) -> Response {
    let Ok(limit) = query.limit.as_deref().map_or(Ok(BURSTS), str::parse::<usize>) else {
        let error = "write ?limit=N";
        return json(StatusCode::BAD_REQUEST, &Mistake { error });
    };
    let rows = app.board.rows();
    let mut bursts: Vec<_> = rows
        .iter()
        .flat_map(|row| row.history.bursts().map(move |past| (row, past)))
        .collect();
    bursts.sort_by(|(_, one), (_, other)| other.ended.total_cmp(&one.ended));
    bursts.truncate(limit.min(MOST_BURSTS));
    let of_series = |(row, past): &(&Row, &std::sync::Arc<Past>)| {
        let series = &row.watched.series;
        OfSeries {
            probe: series.probe.name.clone(),
            target: series.target.name.clone(),
            concurrency: series.step.load.concurrency(),
            rate: series.step.load.rate(),
            path: path_of(series),
            burst: Ended::of(past),
        }
    };
    let answer: Vec<_> = bursts.iter().map(of_series).collect();
    json(StatusCode::OK, &answer)
}
