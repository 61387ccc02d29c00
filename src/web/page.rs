//! The status page: the answer at a glance, for somebody who was woken up.

use maud::{DOCTYPE, Markup, html};

use super::Life;
use crate::{
    board::{Row, State},
    budget::{Budget, Unit},
    capacity::Capacity,
    outcome::Skip,
    pause::Holds,
    protection::{Owner, Protection},
    shard::Shard,
    summary::{Stats, Summary},
    units::Seconds,
};

pub(super) fn render(
    rows: &[Row],
    protection: &Protection,
    shard: Shard,
    life: Life,
    holds: &Holds,
    warning: Option<&str>,
    now: f64,
) -> Markup {
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
                        @if !shard.is_alone() { " · shard " (shard) ", counted from 0" }
                    }
                }
                main id="live" {
                    @if let Some(warning) = warning {
                        p class="paused" role="alert" { strong { (warning) } }
                    }
                    (paused(holds, now))
                    @if life != Life::Armed || !holds.is_any() {
                        p role="status" { (life_in_words(life)) }
                    }
                    (table(rows, now))
                    (protected(protection))
                }
            }
        }
    }
}

/// Why nothing is sent, since when, and what lets it go on.
fn paused(holds: &Holds, now: f64) -> Markup {
    html! {
        @if let Some(since) = holds.since() {
            p class="paused" role="alert" {
                strong { "Paused: nothing is sent." }
                " Since " (time_of_day(since)) " (" (span(now - since)) " ago), because " (holds) ". "
                @if holds.file.is_some() { "Remove the file. " }
                @if holds.post.is_some() { "Call POST /-/resume." }
            }
        }
    }
}

/// What is left of budgets, and which targets are left alone.
fn protected(protection: &Protection) -> Markup {
    html! {
        @for guard in protection.guards() {
            @if let Some(wait) = guard.backing_off() {
                p class="paused" {
                    strong { "Target " (guard.target.name) " sheds load." }
                    " It is left alone for " (span(wait.as_secs_f64())) " more."
                }
            }
        }
        @if !protection.purses().is_empty() {
            h2 { "Budgets" }
            ul {
                @for purse in protection.purses() {
                    @let (budget, used) = purse.now();
                    li {
                        @match &purse.owner {
                            Owner::Probe(name) => { "Probe " (name) ": " }
                            Owner::Target(name) => { "Target " (name) ": " }
                        }
                        @for (at, (unit, limit)) in limits(&budget).enumerate() {
                            @if at > 0 { ", " }
                            (unit.shown(used.get(unit))) " of " (unit.shown(limit)) " " (unit.as_str())
                        }
                        " this " (budget.per.as_str())
                    }
                }
            }
        }
    }
}

fn limits(budget: &Budget) -> impl Iterator<Item = (Unit, f64)> + '_ {
    let limited = |unit: &Unit| Some((*unit, budget.limit(*unit)?));
    Unit::ALL.iter().filter_map(limited)
}

fn time_of_day(unix: f64) -> String {
    let since = std::time::Duration::try_from_secs_f64(unix).unwrap_or_default();
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
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
    // The probe may have searched, or may not have, before a reload.
    let is_search = series.probe.capacity.is_some();
    let last = row.last.as_ref().filter(|_| !is_search);
    let summary = last.map(|last| &*last.summary);
    let searched = row.searched.as_ref().filter(|_| is_search);
    let (class, verdict) = match searched {
        Some(searched) => verdict_of_search(&searched.capacity),
        None => verdict(summary),
    };
    let ended = last
        .map(|last| last.ended)
        .or(searched.map(|searched| searched.ended));
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
            td class="number" {
                @if is_search { "up to " }
                (series.step.load)
            }
            td {
                span class="verdict" { (verdict) } small { (doing(row)) }
                @if let Some(diagnosis) = summary.and_then(|summary| summary.diagnosis.as_ref()) {
                    small { (diagnosis.sentence) }
                }
                @if let Some(searched) = searched { small { (searched.capacity.sentence) } }
                @if let Some(lengths) = summary.and_then(|summary| summary.prompt_lengths) {
                    small { "prompts: " (lengths) }
                }
            }
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
                @for (reason, bursts) in &row.skipped { small { (bursts) " skipped (" (reason) ")" } }
            }
            td {
                @match ended { Some(ended) => { (span(now - ended)) " ago" }, None => "–" }
                @if let Some(slowest) = summary.and_then(|summary| summary.slowest_request) {
                    small { "slowest request " code { (slowest) } }
                }
            }
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

/// The same for the last search for the capacity.
fn verdict_of_search(capacity: &Capacity) -> (&'static str, &'static str) {
    match (capacity.is_known(), capacity.meets) {
        (true, Some(_)) => ("ok", "found"),
        (true, None) => ("degraded", "nothing meets"),
        (false, _) => ("unknown", "not known"),
    }
}

fn doing(row: &Row) -> String {
    match row.state {
        State::Unarmed => "not armed".into(),
        State::Waiting if row.held_by == Some(Skip::Window) => "outside its windows".into(),
        State::Waiting if row.held_by.is_some() => "paused".into(),
        State::Waiting => held_back(row).into(),
        State::Running(ended) => {
            let series = &row.watched.series;
            let most = if series.probe.capacity.is_some() {
                "at most "
            } else {
                ""
            };
            format!("running: {ended} of {most}{} requests", series.planned_requests())
        }
    }
}

/// What stands between the series and its next burst.
fn held_back(row: &Row) -> &'static str {
    match row.held_back {
        Some(Skip::Budget) if row.stretch > 1.0 => "thinned by budget",
        Some(Skip::Budget) => "over budget",
        Some(Skip::Backoff) => "left alone: the endpoint sheds load",
        Some(Skip::Auth) => "withheld: no OAuth 2 token was given",
        Some(Skip::ServerBusy) => "withheld: the server is busy",
        _ => "waiting",
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
                @if let Some(reason) = summary.cut_short { "cut short (" (reason) ") " }
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
