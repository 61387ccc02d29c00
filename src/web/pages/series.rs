//! The page of one series: its last bursts, and where the time of their requests went.

use maud::{Markup, html};

use super::{
    status::{doing, failures, goodput, why},
    words::{Way, measured, time_of_day, when},
};
use crate::{
    board::Row,
    diagnose::Cause,
    history::{Past, Percentiles, Trace},
    outcome::Outcome,
    summary::Summary,
    units::Seconds,
    web::{draw, standing::Standing},
};

pub(super) fn render(row: &Row, now: f64) -> Markup {
    let series = &row.watched.series;
    let summary = row.last.as_ref().map(|last| &*last.summary);
    let standing = Standing::of(row);
    let slo = &series.step.slo;
    let limits = [
        ("TTFT", slo.ttft),
        ("TTFO", slo.ttfo),
        ("ITL", slo.itl),
        ("longest gap", slo.gap),
        ("request", slo.request),
    ];
    let limits = limits.map(|(name, limit)| Some(format!("{name} within {}", Seconds::from(limit?))));
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    html! {
        div id="now" data-live {
            h1 class={ "answer " (standing.class()) } {
                span class="verdict" { (standing.in_words()) } ": "
                (series.probe.name) " at " (series.target.name) ", " (series.step.load)
            }
            @if let Some(why) = why(row) { p class="why" { (why) } }
            dl class="facts" {
                div { dt { "Model" } dd { (series.target.model) } }
                div { dt { "Now" } dd { (doing(row)) } }
                div { dt { "Next burst" } dd { @match row.next_due { Some(due) => { (when(due, Way::In, now)) }, None => "not known" } } }
                div {
                    dt { "Objective" }
                    dd {
                        (slo.objective) " of requests succeed"
                        @if !limits.is_empty() { ", with " (limits.join(", ")) }
                    }
                }
                div {
                    dt { "Goodput" }
                    dd { (goodput(summary)) " " (draw::goodput(&row.history)) }
                }
                div {
                    dt { "Time to first token" }
                    dd { (of_last(summary)) " " (draw::ttft(&row.history, slo.ttft.map(Seconds::from))) }
                }
                div { dt { "Failures of the last burst" } dd { (failures(summary)) } }
            }
        }
        h2 { "Last bursts" }
        div id="bursts" data-live { (bursts(row, now)) }
        h2 { "Requests" }
        (draw::legend())
        div id="requests" data-live { (requests(row)) }
    }
}

fn of_last(summary: Option<&Summary>) -> String {
    let ttft = summary.and_then(|summary| summary.ttft);
    format!(
        "p50 {}, p99 {}",
        measured(ttft.map(|ttft| ttft.p50)),
        measured(ttft.map(|ttft| ttft.p99))
    )
}

fn bursts(row: &Row, now: f64) -> Markup {
    html! {
        @if row.history.bursts().len() == 0 {
            p { "None has ended yet." }
        } @else {
            div class="scroll" tabindex="0" role="region" aria-label="Last bursts, the latest first" {
                table class="plain" {
                    thead {
                        tr {
                            @for heading in ["Burst", "Ended", "State", "Succeeded", "Goodput", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "Slowed by"] {
                                th scope="col" { (heading) }
                            }
                        }
                    }
                    tbody { @for past in row.history.bursts().rev() { (burst(past, now)) } }
                }
            }
        }
    }
}

fn burst(past: &Past, now: f64) -> Markup {
    let standing = Standing::of_past(past);
    let times = |percentiles: Option<Percentiles>| {
        [
            measured(percentiles.map(|percentiles| percentiles.p50)),
            measured(percentiles.map(|percentiles| percentiles.p99)),
        ]
    };
    html! {
        tr class=(standing.class()) {
            th scope="row" { (past.number) }
            td { (when(past.ended, Way::Ago, now)) }
            @if past.is_search {
                td colspan="8" { "a search for the capacity, " (past.requests) " requests" }
            } @else {
                td { span class="verdict" { (standing.in_words()) } }
                td {
                    (past.successes) " of " (past.requests)
                    @if let Some((failure, count)) = past.failed { small { (count) " " (failure) } }
                    @if let Some(skip) = past.cut_short { small { "cut short (" (skip) ")" } }
                }
                td { @match past.goodput { Some(goodput) => (goodput), None => "–" } }
                @for time in times(past.ttft).into_iter().chain(times(past.itl)) { td { (time) } }
                td { @match past.cause { Some(Cause::None) | None => "–", Some(cause) => (cause.as_str()) } }
            }
        }
    }
}

/// The latest burst with its requests is open, the others wait to be.
fn requests(row: &Row) -> Markup {
    let with_requests = row.history.bursts().rev().filter(|past| !past.traces.is_empty());
    html! {
        @for (at, past) in with_requests.enumerate() {
            details id={ "burst/" (past.number) } open[at == 0] {
                summary {
                    "Burst " (past.number)
                    @if let Some(began) = past.began { ", " (time_of_day(began)) }
                    @let measured = past.traces.iter().filter(|trace| !trace.warmup).count() as u64;
                    @if measured < past.requests {
                        ": " (measured) " of " (past.requests) " requests, those that failed or waited longest"
                    } @else {
                        ": " (past.requests) " requests"
                    }
                }
                (waterfalls(past))
            }
        }
    }
}

fn waterfalls(past: &Past) -> Markup {
    let end = past
        .traces
        .iter()
        .filter_map(|trace| trace.end)
        .fold(0.0, f32::max);
    html! {
        table class="board requests" role="table" {
            caption class="unseen" { "Requests of burst " (past.number) ", in the order of their starts" }
            thead role="rowgroup" {
                tr role="row" {
                    @for heading in ["Request", "Outcome", "First token", "Whole"] {
                        th scope="col" role="columnheader" { (heading) }
                    }
                    th scope="col" role="columnheader" { "0 to " (seconds(end)) }
                }
            }
            tbody role="rowgroup" { @for trace in &past.traces { (request(trace, end)) } }
        }
    }
}

fn request(trace: &Trace, end: f32) -> Markup {
    let class = match trace.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed(_) => "failing",
        Outcome::Invalid(_) => "unknown",
    };
    let whole = trace.start.zip(trace.end).map(|(start, end)| end - start);
    html! {
        tr class=(class) role="row" {
            th scope="row" role="rowheader" {
                (trace.number)
                @if trace.warmup { " (warm-up)" }
                @if let Some(id) = trace.id { small { code { (id) } } }
            }
            td role="cell" data-label="Outcome" {
                span class="verdict" { (trace.outcome) }
                @if matches!(trace.outcome, Outcome::Invalid(_)) { " (ours)" }
                @if let Some(status) = trace.status { small { "HTTP " (status) } }
                @if let Some(connection) = trace.connection { small { (connection.as_str()) " connection" } }
                @if let Some(detail) = &trace.detail { small { (detail) } }
            }
            td role="cell" data-label="First token" { (trace.ttft.map_or_else(|| "–".to_owned(), seconds)) }
            td role="cell" data-label="Whole" {
                (whole.map_or_else(|| "–".to_owned(), seconds))
                @if trace.output_tokens > 0 { small { (trace.output_tokens) " tokens" } }
            }
            td class="bar" role="cell" { (draw::waterfall(trace, end)) }
        }
    }
}

fn seconds(value: f32) -> String {
    Seconds::new(value.into()).to_string()
}
