//! What `once` prints of a burst, or of a search: a table for people, JSON for scripts.

mod search;

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

pub use self::search::SearchReport;
use crate::{
    config::plan::{Series, SeriesKey, Slo},
    load::Load,
    outcome::{Invalid, Skip},
    slo::Objective,
    summary::{Stats, Summary},
    units::{Name, Seconds},
};

/// One burst, named.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    probe: Name,
    target: Name,
    model: String,
    #[serde(flatten)]
    load: Load,
    /// Share of requests that are to be good.
    objective: f64,
    /// The limits that make a request good, in seconds.
    limits: BTreeMap<&'static str, Seconds>,
    #[serde(flatten)]
    summary: Summary,
}

impl Report {
    pub fn new(series: &Series, summary: Summary) -> Self {
        Self::of(
            series.key(),
            series.target.model.clone(),
            &series.step.slo,
            summary,
        )
    }

    /// The same of a series of which no more is known.
    pub fn of(key: SeriesKey, model: String, slo: &Slo, summary: Summary) -> Self {
        let limits = Objective::ALL
            .iter()
            .filter_map(|objective| Some((objective.as_str(), objective.limit(slo)?.into())));
        Self {
            probe: key.probe,
            target: key.target,
            model,
            load: key.load,
            objective: slo.objective.get(),
            limits: limits.collect(),
            summary,
        }
    }

    pub fn probe(&self) -> &Name {
        &self.probe
    }

    /// Whether every request counts: none was invalid by our own doing.
    /// Those that were cancelled because the endpoint failed most others leave no doubt.
    pub fn is_sound(&self) -> bool {
        let invalid = &self.summary.invalid;
        let is_cut = self.summary.cut_short == Some(Skip::Backoff);
        invalid.is_empty() || is_cut && invalid.keys().all(|invalid| *invalid == Invalid::Cancelled)
    }

    /// Whether goodput reached the objective; a burst of which nothing could be judged did not.
    pub fn objective_met(&self) -> bool {
        self.summary.objective_met == Some(true)
    }

    /// What is said of a step that was left out.
    pub fn of_left_out(series: &Series) -> String {
        format!(
            "probe {} · target {} ({}) · {} · not run: a step below lost more than {} of its goodput, or was not run\n",
            series.probe.name,
            series.target.name,
            series.target.model,
            series.step.load,
            series
                .probe
                .ladder_stop
                .map_or_else(String::new, |stop| stop.to_string()),
        )
    }

    /// For people.
    pub fn text(&self) -> String {
        let summary = &self.summary;
        let mut lines = vec![format!(
            "probe {} · target {} ({}) · {} · {} requests",
            self.probe, self.target, self.model, self.load, summary.requests
        )];
        lines.push(self.latencies().to_string());
        lines.extend(self.throughput());
        lines.extend(self.prompts());
        lines.extend(self.cache());
        lines.push(self.goodput());
        lines.extend(
            summary
                .diagnosis
                .as_ref()
                .map(|diagnosis| diagnosis.sentence.clone()),
        );
        lines.extend(self.failures());
        lines.join("\n") + "\n"
    }

    fn latencies(&self) -> Table {
        let summary = &self.summary;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["", "avg", "min", "p50", "p90", "p99", "max", "of"]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for (name, stats) in [
            ("time to first token", summary.ttft),
            ("  after connect", summary.ttft_after_connect),
            ("time to first output", summary.ttfo),
            ("time to second token", summary.ttst),
            ("inter-token latency", summary.itl),
            ("longest gap", summary.longest_gap),
            ("request duration", summary.request_duration),
            ("send lag", summary.send_lag),
        ] {
            let Some(Stats {
                count,
                avg,
                min,
                p50,
                p90,
                p99,
                max,
            }) = stats
            else {
                continue;
            };
            let values = [avg, min, p50, p90, p99, max].map(|value| value.to_string());
            table.add_row(
                [name.to_owned()]
                    .into_iter()
                    .chain(values)
                    .chain([count.to_string()]),
            );
        }
        table
    }

    fn throughput(&self) -> Option<String> {
        let summary = &self.summary;
        let rate = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.2}"));
        Some(format!(
            "{} · {} requests/s · {} output tokens/s · {} output tokens/s per user · {} output tokens, counted by {}",
            summary.duration?,
            rate(summary.requests_per_second),
            rate(summary.output_tokens_per_second),
            rate(summary.output_tokens_per_second_per_user),
            summary.output_tokens,
            summary.counted_by()?,
        ))
    }

    fn prompts(&self) -> Option<String> {
        let lengths = self.summary.prompt_lengths?;
        Some(format!("prompts: {lengths}"))
    }

    fn cache(&self) -> Option<String> {
        let (hits, all) = (self.summary.served_from_cache(), self.summary.successes);
        (hits > 0).then(|| format!("{hits} of {all} prompts came from the server's prefix cache"))
    }

    fn goodput(&self) -> String {
        let summary = &self.summary;
        let limits: Vec<_> = self
            .limits
            .iter()
            .map(|(name, limit)| format!("{name} ≤ {limit}"))
            .collect();
        let good = if limits.is_empty() {
            "success".into()
        } else {
            limits.join(", ")
        };
        match summary.goodput {
            None => format!("goodput: nothing could be judged ({good})"),
            Some(goodput) => {
                let met = if self.objective_met() { "met" } else { "MISSED" };
                let objective = self.objective * 100.0;
                format!(
                    "goodput: {goodput} ({} of {}: {good}); objective {objective} % {met}",
                    summary.good, summary.judged
                )
            }
        }
    }

    fn failures(&self) -> Vec<String> {
        let summary = &self.summary;
        let mut lines = Vec::new();
        let failures = summary
            .failures
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"));
        let invalid = summary
            .invalid
            .iter()
            .map(|(reason, count)| format!("{count} {reason} (our own doing)"));
        let all: Vec<_> = failures.chain(invalid).collect();
        if !all.is_empty() {
            lines.push(format!("not ok: {}", all.join(", ")));
        }
        let unsent: Vec<_> = summary
            .unsent
            .iter()
            .filter(|(reason, _)| summary.cut_short != Some(**reason))
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        if !unsent.is_empty() {
            lines.push(format!("never sent: {}", unsent.join(", ")));
        }
        for (what, first) in [
            ("first failure", &summary.first_failure),
            ("first of our own doing", &summary.first_invalid),
        ] {
            lines.extend(first.as_ref().map(|first| format!("{what}: {first}")));
        }
        lines.extend(summary.cut_short.map(|reason| {
            let never_sent = summary.unsent.get(&reason).copied().unwrap_or_default();
            format!("cut short ({reason}): {never_sent} requests were never sent")
        }));
        // As the endpoint says it: 20 s, not 20.0 s.
        lines.extend(
            summary
                .retry_after
                .map(|wait| format!("the endpoint asks to wait {} s", wait.get())),
        );
        lines
    }
}
