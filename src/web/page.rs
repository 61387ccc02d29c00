//! The status page: the answer at a glance, for somebody who was woken up.

use maud::{DOCTYPE, Markup, html};

use super::Life;
use crate::{
    board::{Row, State},
    summary::{Stats, Summary},
    units::Seconds,
};

pub(super) fn render(rows: &[Row], life: Life, now: f64) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "llm-probe-exporter" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="static/page.css";
                noscript { meta http-equiv="refresh" content="5"; }
                script src="static/page.js" defer {}
            }
            body {
                header {
                    h1 { "llm-probe-exporter" }
                    p {
                        "What users of these inference endpoints would have felt. "
                        a href="metrics" { "Metrics" }
                        " · version " (env!("CARGO_PKG_VERSION"))
                    }
                }
                main id="live" {
                    p role="status" { (life_in_words(life)) }
                    (table(rows, now))
                }
            }
        }
    }
}

fn life_in_words(life: Life) -> &'static str {
    match life {
        Life::Starting => "Waiting for the first scrape of /metrics, at most 30 s, before the first burst.",
        Life::Armed => "Probing.",
        Life::Draining => "Draining: no new bursts.",
    }
}

fn table(rows: &[Row], now: f64) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Series" {
            table {
                thead {
                    tr {
                        th scope="col" { "Probe" }
                        th scope="col" { "Target" }
                        th scope="col" class="number" { "Load" }
                        th scope="col" { "State" }
                        th scope="col" class="number" { "Goodput" }
                        th scope="col" class="number" { "TTFT p50" }
                        th scope="col" class="number" { "p99" }
                        th scope="col" class="number" { "ITL p50" }
                        th scope="col" class="number" { "p99" }
                        th scope="col" { "Failures" }
                        th scope="col" class="number" { "Bursts" }
                        th scope="col" { "Last" }
                        th scope="col" { "Next" }
                    }
                }
                tbody { @for row in rows { (table_row(row, now)) } }
            }
        }
    }
}

fn table_row(row: &Row, now: f64) -> Markup {
    let series = &row.watched.series;
    let last = row.last.as_ref();
    let summary = last.map(|last| &*last.summary);
    let (class, verdict) = verdict(summary);
    let percentiles = |of: fn(&Summary) -> Option<Stats>| {
        let stats = summary.and_then(of);
        let show = |value: Option<Seconds>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
        (
            show(stats.map(|stats| stats.p50)),
            show(stats.map(|stats| stats.p99)),
        )
    };
    let ((ttft_p50, ttft_p99), (itl_p50, itl_p99)) = (
        percentiles(|summary| summary.ttft),
        percentiles(|summary| summary.itl),
    );
    html! {
        tr class=(class) {
            th scope="row" { (series.probe.name) }
            td { (series.target.name) small { (series.target.model) } }
            td class="number" { (series.step.load) }
            td { span class="verdict" { (verdict) } small { (doing(row)) } }
            td class="number" {
                @match summary.and_then(|summary| summary.goodput) {
                    Some(goodput) => (goodput),
                    None => "–",
                }
                small { "of " (series.step.slo.objective) }
            }
            td class="number" { (ttft_p50) }
            td class="number" { (ttft_p99) }
            td class="number" {
                (itl_p50)
                @if let Some(counted_by) = summary.and_then(Summary::counted_by) {
                    small { "tokens by " (counted_by) }
                }
            }
            td class="number" { (itl_p99) }
            td { (failures(summary)) }
            td class="number" {
                (row.bursts)
                @if row.skipped > 0 { small { (row.skipped) " skipped" } }
            }
            td { @match last { Some(last) => { (span(now - last.ended)) " ago" }, None => "–" } }
            td { @match row.next_due { Some(due) => { "in " (span(due - now)) }, None => "–" } }
        }
    }
}

/// Class and word for the last burst.
fn verdict(summary: Option<&Summary>) -> (&'static str, &'static str) {
    match summary {
        None => ("unknown", "no burst yet"),
        Some(summary) if summary.successes == 0 && summary.requests > 0 => ("failing", "failing"),
        Some(summary) => match summary.objective_met {
            Some(true) => ("ok", "ok"),
            Some(false) => ("degraded", "degraded"),
            None => ("unknown", "not judged"),
        },
    }
}

fn doing(row: &Row) -> String {
    match row.state {
        State::Unarmed => "not armed".into(),
        State::Waiting => "waiting".into(),
        State::Running(ended) => {
            format!(
                "running: {ended} of {} requests",
                row.watched.series.planned_requests()
            )
        }
    }
}

fn failures(summary: Option<&Summary>) -> Markup {
    html! {
        @match summary {
            None => "–",
            Some(summary) if summary.failures.is_empty() && summary.invalid.is_empty() && summary.unsent.is_empty() => "none",
            Some(summary) => {
                @for (reason, count) in &summary.failures { (count) " " (reason) " " }
                @for (reason, count) in &summary.invalid { (count) " " (reason) " (ours) " }
                @for (reason, count) in &summary.unsent { (count) " never sent (" (reason) ") " }
                @if let Some(first) = &summary.first_failure { small { (first) } }
            }
        }
    }
}

/// A span of time to the second.
fn span(seconds: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
    humantime::format_duration(seconds).to_string()
}
