//! The status page: the answer at a glance, for somebody who was woken up.

use std::collections::BTreeMap;

use super::words::{Way, measured, span, when};
use crate::{
    board::{Row, State},
    budget::{Budget, Unit},
    health::STARVED_IN_WORDS,
    outcome::Skip,
    pause::Holds,
    protection::{Owner, Protection},
    shard::Shard,
    summary::{Stats, Summary},
    units::Seconds,
    web::{
        App, Life, draw,
        links::{Links, path_of},
        standing::Standing,
    },
};
use maud::{Markup, html};

/// Series that are named at the top; the table has all.
const NAMED: usize = 5;

/// What the page shows.
#[derive(Debug)]
pub(super) struct View {
    rows: Vec<(Standing, Row)>,
    protection: Protection,
    life: Life,
    holds: Holds,
    is_starved: bool,
    shard: Shard,
    now: f64,
}

impl View {
    pub(super) fn of(App(app): &App, now: f64) -> Self {
        let rows = app.board.rows().into_iter();
        Self {
            rows: rows.map(|row| (Standing::of(&row), row)).collect(),
            protection: app.metrics.guarded(),
            life: *app.life.borrow(),
            holds: app.switch.pause.holds(),
            is_starved: app.health.is_starved(),
            shard: app.metrics.shard(),
            now,
        }
    }

    /// How many series stand how, the worst first.
    pub(super) fn in_short(&self) -> String {
        let mut counts: BTreeMap<Standing, usize> = BTreeMap::new();
        for (standing, _) in &self.rows {
            *counts.entry(*standing).or_default() += 1;
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(standing, count)| format!("{count} {}", standing.in_words()))
            .collect();
        counts.join(", ")
    }

    pub(super) fn render(&self, links: Links) -> Markup {
        let worst = self.rows.iter().map(|(standing, _)| *standing).min();
        let class = worst.map_or("unknown", Standing::class);
        html! {
            div id="prober" data-live {
                (paused(&self.holds, self.now))
                @if self.is_starved {
                    p class="notice failing" role="alert" {
                        strong { (STARVED_IN_WORDS) "." }
                        " Its timers were late in the last minute; requests whose verdict that could have turned are not judged."
                    }
                }
                @if !self.shard.is_alone() {
                    p class="notice" { "This is shard " (self.shard) ", counted from 0: the others fire the rest of the plan." }
                }
                @if self.life != Life::Armed {
                    p class="notice" { (life_in_words(self.life)) }
                }
                (left_alone(&self.protection))
            }
            div id="answer" data-live {
                h1 class={ "answer " (class) } {
                    @if self.rows.is_empty() { "No series" } @else { (self.in_short()) }
                    " " small { "of " (self.rows.len()) " series" }
                }
                (self.attention(links))
            }
            table class="board" role="table" {
                caption class="unseen" { "Series: how each stands, and its last bursts" }
                thead role="rowgroup" {
                    tr role="row" {
                        @for heading in ["Series", "State", "Goodput", "Time to first token", "Inter-token latency", "Failures", "Bursts"] {
                            th scope="col" role="columnheader" { (heading) }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for (standing, row) in &self.rows { (self.row(links, *standing, row)) }
                }
            }
            div id="budgets" data-live { (budgets(&self.protection)) }
        }
    }

    /// Which series somebody has to look at, and why.
    fn attention(&self, links: Links) -> Markup {
        let mut wanting: Vec<_> = self
            .rows
            .iter()
            .filter(|(standing, row)| standing.wants_attention(row))
            .collect();
        wanting.sort_by_key(|(standing, _)| *standing);
        html! {
            @if !wanting.is_empty() {
                ul class="attention" aria-label="Look at these first" {
                    @for (standing, row) in wanting.iter().take(NAMED) {
                        @let series = &row.watched.series;
                        li class=(standing.class()) {
                            strong { (standing.in_words()) ": " }
                            a href=(links.to(&path_of(series))) {
                                (series.probe.name) " at " (series.target.name) ", " (series.step.load)
                            }
                            @if let Some(why) = why(row) { span class="soft" { " " (why) } }
                        }
                    }
                    @if wanting.len() > NAMED { li { "and " (wanting.len() - NAMED) " more" } }
                }
            }
        }
    }

    fn row(&self, links: Links, standing: Standing, row: &Row) -> Markup {
        let series = &row.watched.series;
        let is_search = series.probe.capacity.is_some();
        let last = row.last.as_ref().filter(|_| !is_search);
        let summary = last.map(|last| &*last.summary);
        let searched = row.searched.as_ref().filter(|_| is_search);
        let ended = last
            .map(|last| last.ended)
            .or(searched.map(|searched| searched.ended));
        let path = path_of(series);
        let ttft = percentiles(summary.and_then(|summary| summary.ttft));
        let itl = percentiles(summary.and_then(|summary| summary.itl));
        html! {
            tr class=(standing.class()) id=(path) role="row" data-live {
                th scope="row" role="rowheader" {
                    a id={ "to/" (path) } href=(links.to(&path)) { (series.probe.name) }
                    small { (series.target.name) " · " (series.target.model) }
                    small {
                        @if is_search { "up to " }
                        (series.step.load)
                    }
                }
                td class="state" role="cell" {
                    span class="verdict" { (standing.in_words()) }
                    small { (doing(row)) }
                    @if standing != Standing::of_last(row) { small { "last burst: " (Standing::of_last(row).in_words()) } }
                    @if let Some(why) = why(row) { p { (why) } }
                    @if let Some(lengths) = summary.and_then(|summary| summary.prompt_lengths) { small { "prompts: " (lengths) } }
                }
                td role="cell" data-label="Goodput" {
                    strong { (goodput(summary)) }
                    small {
                        @if summary.is_some_and(|summary| summary.withheld > 0) { "withheld requests included; " }
                        "objective " (series.step.slo.objective)
                    }
                    (draw::goodput(&row.history))
                }
                td role="cell" data-label="Time to first token" {
                    (p50_and_p99(&ttft))
                    (draw::ttft(&row.history, series.step.slo.ttft.map(Seconds::from)))
                }
                td role="cell" data-label="Inter-token latency" {
                    (p50_and_p99(&itl))
                    @if let Some(counted_by) = summary.and_then(Summary::counted_by) { small { "tokens by " (counted_by) } }
                }
                td role="cell" data-label="Failures" { (failures(summary)) }
                td role="cell" data-label="Bursts" {
                    (row.bursts)
                    @for (reason, bursts) in &row.skipped { small { (bursts) " skipped (" (reason) ")" } }
                    small { "last " @match ended { Some(ended) => { (when(ended, Way::Ago, self.now)) }, None => "–" } }
                    small { "next " @match row.next_due { Some(due) => { (when(due, Way::In, self.now)) }, None => "–" } }
                    @if let Some(slowest) = summary.and_then(|summary| summary.slowest_request) {
                        small { "slowest request " code { (slowest) } }
                    }
                }
            }
        }
    }
}

/// Why nothing is sent, since when, and what lets it go on.
fn paused(holds: &Holds, now: f64) -> Markup {
    html! {
        @if let Some(since) = holds.since() {
            p class="notice failing" role="alert" {
                strong { "Paused: nothing is sent." }
                " Since " (super::words::time_of_day(since)) " (" (when(since, Way::Ago, now)) "), because " (holds) ". "
                @if holds.file.is_some() { "Remove the file. " }
                @if holds.post.is_some() { "Call POST /-/resume." }
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

/// Which targets are left alone.
fn left_alone(protection: &Protection) -> Markup {
    html! {
        @for guard in protection.guards() {
            @if let Some(wait) = guard.backing_off() {
                p class="notice failing" {
                    strong { "Target " (guard.target.name) " sheds load." }
                    " It is left alone for " (span(wait.as_secs_f64())) " more."
                }
            }
        }
    }
}

/// What is left of budgets.
fn budgets(protection: &Protection) -> Markup {
    html! {
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

fn percentiles(stats: Option<Stats>) -> (String, String) {
    (
        measured(stats.map(|stats| stats.p50)),
        measured(stats.map(|stats| stats.p99)),
    )
}

fn p50_and_p99((p50, p99): &(String, String)) -> Markup {
    html! {
        span class="value" { "p50 " strong { (p50) } }
        " "
        span class="value" { "p99 " strong { (p99) } }
    }
}

pub(super) fn goodput(summary: Option<&Summary>) -> String {
    let goodput = summary.and_then(|summary| summary.goodput);
    goodput.map_or_else(|| "–".to_owned(), |goodput| goodput.to_string())
}

/// Why the last burst was as it was, or what the last search found.
pub(in crate::web) fn why(row: &Row) -> Option<&str> {
    if row.watched.series.probe.capacity.is_some() {
        return row.searched.as_ref().map(|searched| &*searched.capacity.sentence);
    }
    let diagnosis = row.last.as_ref()?.summary.diagnosis.as_ref()?;
    Some(&diagnosis.sentence)
}

pub(super) fn doing(row: &Row) -> String {
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
        Some(Skip::ServerBusy) => "withheld: the server is busy",
        _ => "waiting",
    }
}

pub(super) fn failures(summary: Option<&Summary>) -> Markup {
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
