//! `check`: what would the configuration do?

use std::{fmt::Write, process::ExitCode, time::Duration};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use tokio::sync::mpsc::unbounded_channel;

use super::{CliError, ConfigArgs, print, serve::within_limit};
use crate::{
    config::plan::{Plan, Probe, Series},
    gate::Gate,
    lag::Lag,
    load::Volume,
    metrics::Metrics,
    runtime::Runtimes,
    supervisor::{Shared, Supervisor},
};

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

impl CheckArgs {
    pub(super) fn run(self, runtimes: &Runtimes) -> Result<ExitCode, CliError> {
        let plan = self.config.load()?;
        let metrics = Metrics::new(&plan.global().labels);
        let (events, _) = unbounded_channel();
        // Sets up what `serve` would, which says whether certificates and keys are fit for use.
        Supervisor::new(
            &plan,
            &Shared {
                metrics: metrics.clone(),
                lag: Lag::default(),
                gate: Gate::default(),
                blocking: runtimes.service.handle().clone(),
                events,
            },
        )?;
        let acquired: Vec<_> = plan
            .series()
            .map(|series| metrics.acquire(&series, None))
            .collect();
        let samples = metrics.samples();
        print(&format!(
            "{}\n{}",
            table(&plan),
            totals(&plan, acquired.len(), samples)
        ))?;
        for warning in misfits(&plan) {
            print(&format!("warning: {warning}\n"))?;
        }
        within_limit(samples, self.config.limit_series)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a series costs, at most.
struct Cost {
    requests_per_second: f64,
    output_tokens_per_second: f64,
}

impl Cost {
    /// `None` where a burst lasts for a time: then the endpoint's speed decides.
    fn of(series: &Series) -> Option<Self> {
        let requests = f64::from(series.step.volume.requests()? + series.probe.warmup);
        let requests_per_second = requests / series.probe.every.as_secs_f64();
        let output_tokens_per_second = requests_per_second * series.probe.max_tokens.0 as f64;
        Some(Self {
            requests_per_second,
            output_tokens_per_second,
        })
    }
}

fn table(plan: &Plan) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "PROBE",
        "TARGET",
        "USERS",
        "EVERY",
        "BURSTS/H",
        "REQUESTS/H",
        "OUTPUT TOKENS/DAY",
    ]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for series in plan.series() {
        let every = series.probe.every;
        let cost = Cost::of(&series);
        let count =
            |value: Option<f64>| value.map_or("as the target allows".into(), |value| format!("{value:.0}"));
        table.add_row([
            series.probe.name.to_string(),
            series.target.name.to_string(),
            series.step.users.to_string(),
            humantime::format_duration(every).to_string(),
            format!("{:.0}", HOUR / every.as_secs_f64()),
            count(cost.as_ref().map(|cost| cost.requests_per_second * HOUR)),
            count(cost.as_ref().map(|cost| cost.output_tokens_per_second * DAY)),
        ]);
    }
    table
}

fn totals(plan: &Plan, series: usize, samples: usize) -> String {
    let costs: Vec<_> = plan.series().map(|series| Cost::of(&series)).collect();
    let open = costs.iter().any(Option::is_none);
    let sum = |of: fn(&Cost) -> f64| costs.iter().flatten().map(of).sum::<f64>();
    let bursts: f64 = plan
        .series()
        .map(|series| HOUR / series.probe.every.as_secs_f64())
        .sum();
    let at_least = if open { "at least " } else { "" };
    let at_most = if open { "at least " } else { "at most " };
    let mut text = String::new();
    for line in [
        format!("{bursts:.0} bursts an hour"),
        format!(
            "{at_least}{:.0} requests an hour",
            sum(|cost| cost.requests_per_second) * HOUR
        ),
        format!(
            "{at_most}{:.0} output tokens a day",
            sum(|cost| cost.output_tokens_per_second) * DAY
        ),
        format!("{series} series, {samples} samples on /metrics"),
    ] {
        writeln!(text, "{line}").expect("writing to a string does not fail");
    }
    let dollars: Option<f64> = plan.series().map(|series| dollars_per_day(&series)).sum();
    if let Some(dollars) = dollars.filter(|&dollars| dollars > 0.0) {
        writeln!(text, "at most {dollars:.2} dollars a day for output tokens").expect("as above");
    }
    text
}

/// `None` where it cannot be known, zero where no price is given.
fn dollars_per_day(series: &Series) -> Option<f64> {
    match series.target.price {
        None => Some(0.0),
        Some(price) => {
            Some(Cost::of(series)?.output_tokens_per_second * DAY / 1e6 * price.output_per_million)
        }
    }
}

/// Where the bursts at a target do not fit: those that take turns need more time than there is.
fn misfits(plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    for target in plan.targets() {
        let probes: Vec<_> = plan
            .probes()
            .iter()
            .filter(|probe| probe.targets.iter().any(|probed| probed.name == target.name))
            .collect();
        let busy: f64 = probes
            .iter()
            .map(|probe| round_at_least(probe) / probe.every.as_secs_f64())
            .sum();
        if busy > 1.0 && !target.share {
            let names: Vec<_> = probes.iter().map(|probe| format!("`{}`", probe.name)).collect();
            warnings.push(format!(
                "target `{}` would be busy {:.0} % of the time when all objectives are just met: bursts of {} will be skipped (target_busy, overlap); raise `every`, shorten the bursts, or let them run at once with `share: true`",
                target.name,
                busy * 100.0,
                names.join(", "),
            ));
        }
    }
    for probe in plan.probes() {
        if let Some(text) = overlap_at_worst(probe) {
            warnings.push(text);
        }
    }
    warnings
}

/// Seconds that a round of a probe takes when it just meets its objectives; parts that are unknown count as 0.
fn round_at_least(probe: &Probe) -> f64 {
    let steps = probe.steps.iter().map(|step| {
        let requests = match step.volume {
            Volume::Lasting(duration) => return duration.as_secs_f64(),
            Volume::Requests(requests) => requests,
        };
        let slo = &step.slo;
        let tokens = u32::try_from(probe.max_tokens.0).unwrap_or(u32::MAX);
        let decode = slo
            .itl
            .map_or(Duration::ZERO, |itl| itl.saturating_mul(tokens.saturating_sub(1)));
        let one = slo.request.unwrap_or(slo.ttft.unwrap_or_default() + decode);
        one.as_secs_f64() * f64::from(requests.div_ceil(step.users))
    });
    let pauses = probe.settle.as_secs_f64() * probe.steps.len().saturating_sub(1) as f64;
    steps.sum::<f64>() + pauses
}

/// A burst that lasts longer than its interval makes the next one skip, and a skipped one counts as missed.
fn overlap_at_worst(probe: &Probe) -> Option<String> {
    let lasts = probe.steps.iter().filter_map(|step| match step.volume {
        Volume::Lasting(duration) => Some(duration),
        Volume::Requests(_) => None,
    });
    let lasts: Duration = lasts.sum();
    (lasts >= probe.every).then(|| {
        format!(
            "probe `{}`: its bursts last {} of every {}: each one will be running when the next is due (overlap); raise `every` or shorten `duration`",
            probe.name,
            humantime::format_duration(lasts),
            humantime::format_duration(probe.every),
        )
    })
}
