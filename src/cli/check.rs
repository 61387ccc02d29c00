//! `check`: what would the configuration do?

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::{
    CliError, ConfigArgs, LimitArgs, descriptors, print, seldom::too_seldom, shard::ShardArgs,
    web::WebConfigArgs,
};
use crate::{
    clock::unix_now,
    config::plan::{Plan, Probe, Series},
    load::{Load, Volume},
    prompt::Source,
    runtime::Runtimes,
    supervisor::{Shared, Supervisor},
    units::Seconds,
};

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    limit: LimitArgs,

    #[command(flatten)]
    shard: ShardArgs,

    #[command(flatten)]
    web: WebConfigArgs,
}

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

impl CheckArgs {
    pub(super) fn run(self, runtimes: &Runtimes) -> Result<ExitCode, CliError> {
        let plan = self.config.read(runtimes)?.of_shard(self.shard.shard()?);
        let rules = self.web.read()?;
        let (shared, _) = Shared::new(&plan, runtimes.service.handle());
        // Sets up what `serve` would, which says whether certificates and keys are fit for use.
        let metrics = shared.metrics.clone();
        let supervisor = Supervisor::new(&plan, shared)?;
        let samples = metrics.samples();
        print(&format!(
            "{}\n{}",
            table(&plan),
            totals(&plan, supervisor.watched().count(), samples)
        ))?;
        for warning in plan.warnings() {
            print(&format!("{warning}\n"))?;
        }
        for warning in &rules.warnings {
            print(&format!("{warning}\n"))?;
        }
        if plan.has_budgets() {
            print("note: budgets survive restarts only where `serve` is given --storage.path\n")?;
        }
        for warning in misfits(&plan)
            .into_iter()
            .chain(too_seldom(&plan))
            .chain(descriptors::shortage(&plan))
        {
            print(&format!("warning: {warning}\n"))?;
        }
        self.limit.check(samples)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What the bursts of a series cost a second, at most.
#[derive(PartialEq)]
struct Cost {
    requests: f64,
    output_tokens: f64,
    /// On average; `None` where nobody knows how many tokens the prompt has.
    input_tokens: Option<f64>,
    /// `None` where no price is given, or the tokens are not known.
    dollars: Option<f64>,
}

impl Cost {
    /// `None` where users ask for a time: then the endpoint's speed decides.
    fn of(series: &Series) -> Option<Self> {
        let (probe, step) = (&series.probe, &series.step);
        if let (Volume::Lasting(_), Load::Users(_)) = (step.volume, step.load) {
            return None;
        }
        let requests = probe.requests_of(step) as f64 * probe.bursts_per_second(unix_now());
        let output_tokens = requests * probe.max_tokens.0 as f64;
        let input_tokens = match probe.prompt.source {
            Source::Synthetic(length) => Some(requests * length.mean()),
            Source::Written(_) => None,
        };
        let dollars = series
            .target
            .price
            .zip(input_tokens)
            .map(|(price, input_tokens)| price.of(input_tokens, output_tokens));
        Some(Self {
            requests,
            output_tokens,
            input_tokens,
            dollars,
        })
    }
}

fn table(plan: &Plan) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "PROBE",
        "TARGET",
        "LOAD",
        "EVERY",
        "BURSTS/H",
        "REQUESTS/H",
        "INPUT TOKENS/DAY",
        "OUTPUT TOKENS/DAY",
    ]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for series in plan.series() {
        let probe = &series.probe;
        let every = probe.cron.as_ref().map_or_else(
            || humantime::format_duration(probe.every).to_string(),
            |cron| cron.as_str().to_owned(),
        );
        let cost = Cost::of(&series);
        let count = |value: Option<f64>| value.map_or("?".into(), |value| format!("{value:.0}"));
        table.add_row([
            series.probe.name.to_string(),
            series.target.name.to_string(),
            if probe.capacity.is_some() {
                format!("up to {}", series.step.load)
            } else {
                series.step.load.to_string()
            },
            every,
            format!("{:.0}", HOUR * probe.bursts_per_second(unix_now())),
            count(cost.as_ref().map(|cost| cost.requests * HOUR)),
            count(
                cost.as_ref()
                    .and_then(|cost| cost.input_tokens)
                    .map(|tokens| tokens * DAY),
            ),
            count(cost.as_ref().map(|cost| cost.output_tokens * DAY)),
        ]);
    }
    table
}

fn totals(plan: &Plan, series: usize, samples: usize) -> String {
    let costs: Vec<_> = plan.series().map(|series| Cost::of(&series)).collect();
    // A sum of which a part is not known is a lower bound.
    let sum = |of: fn(&Cost) -> Option<f64>| {
        let parts: Vec<_> = costs.iter().map(|cost| cost.as_ref().and_then(of)).collect();
        let bound = if parts.contains(&None) {
            "at least"
        } else {
            "at most"
        };
        // The sum of nothing is -0.
        (bound, parts.into_iter().flatten().sum::<f64>() + 0.0)
    };
    let bursts: f64 = plan
        .series()
        .map(|series| HOUR * series.probe.bursts_per_second(unix_now()))
        .sum();
    let (_, requests) = sum(|cost| Some(cost.requests));
    let exact = if costs.contains(&None) { "at least " } else { "" };
    let (most_input, input) = sum(|cost| cost.input_tokens);
    let (most_output, output) = sum(|cost| Some(cost.output_tokens));
    let mut lines = vec![
        format!("{bursts:.0} bursts an hour"),
        format!("{exact}{:.0} requests an hour", requests * HOUR),
        format!(
            "{most_input} {:.0} input tokens a day, without what chat templates add",
            input * DAY
        ),
        format!("{most_output} {:.0} output tokens a day", output * DAY),
        format!("{series} series, {samples} samples on /metrics"),
    ];
    if plan.targets().iter().any(|target| target.price.is_some()) {
        let (bound, dollars) = sum(|cost| cost.dollars);
        lines.push(format!(
            "{bound} {:.2} dollars a day at the targets with a price",
            dollars * DAY
        ));
    }
    lines.join("\n") + "\n"
}

/// Where bursts do not fit: into the interval of their probe, or beside those of others that take turns at a
/// target, or under `max_in_flight`. A burst is taken to last as long as it may while it just meets its objectives; parts that nobody
/// knows count as nothing.
fn misfits(plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    for probe in plan.probes() {
        let (round, every) = (round_at_least(probe), probe.every.as_secs_f64());
        if round >= every {
            warnings.push(format!(
                "probe `{}`: its bursts last at least {} of every {} when its objectives are just met: some will be running when the next is due (overlap); raise `every` or make the bursts smaller",
                probe.name,
                Seconds::new(round),
                Seconds::new(every),
            ));
        }
    }
    for probe in plan.probes() {
        let patience = probe.timeouts.first_token;
        let most = plan.global().max_in_flight;
        let heaviest = probe.steps.iter().filter_map(|step| step.load.rate()).max();
        let waiting = heaviest.map(|rate| (rate, rate.requests_within(patience)));
        if let Some((rate, waiting)) = waiting.filter(|(_, waiting)| *waiting > u64::from(most)) {
            warnings.push(format!(
                "probe `{}`: at {rate} requests a second, {waiting} wait for their first tokens where the endpoint hangs (timeouts.first_token is {}), more than the {most} of max_in_flight: some will not be sent (in_flight), and other probes wait meanwhile; lower the rate or the timeout, or raise max_in_flight",
                probe.name,
                humantime::format_duration(patience),
            ));
        }
    }
    for target in plan.targets().iter().filter(|target| !target.share) {
        let here = |probe: &&Arc<Probe>| probe.targets.iter().any(|probed| probed.name == target.name);
        let probes: Vec<_> = plan.probes().iter().filter(here).collect();
        let busy: f64 = probes
            .iter()
            .map(|probe| round_at_least(probe) / probe.every.as_secs_f64())
            .sum();
        if busy >= 1.0 && probes.len() > 1 {
            let names: Vec<_> = probes.iter().map(|probe| format!("`{}`", probe.name)).collect();
            warnings.push(format!(
                "target `{}` is busy at least {:.0} % of the time when all objectives are just met: bursts of {} will wait for their turn and be skipped (target_busy); raise `every`, make the bursts smaller, or let them run at once with `share: true`",
                target.name,
                busy * 100.0,
                names.join(", "),
            ));
        }
    }
    warnings
}

/// Seconds that a round of a probe takes when it just meets its objectives.
fn round_at_least(probe: &Probe) -> f64 {
    if probe.capacity.is_some() {
        // It may end with the lowest load.
        return 0.0;
    }
    let steps = probe.steps.iter().map(|step| {
        let slo = &step.slo;
        let tokens = u32::try_from(probe.max_tokens.0).unwrap_or(u32::MAX);
        let decode = slo
            .itl
            .map_or(Duration::ZERO, |itl| itl.saturating_mul(tokens.saturating_sub(1)));
        let one = slo
            .request
            .unwrap_or(slo.ttft.unwrap_or_default() + decode)
            .as_secs_f64();
        let users = step.load.users().max(1);
        let of = |requests: u32| one * f64::from(requests.div_ceil(users));
        let measured = match (step.volume, step.load) {
            (Volume::Lasting(duration), _) => duration.as_secs_f64(),
            (Volume::Requests(requests), Load::Users(_)) => of(requests),
            (Volume::Requests(requests), Load::Rate(rate)) => f64::from(requests) / rate.per_second() + one,
        };
        let ramp = step.arrival.start(users, users).as_secs_f64();
        of(probe.warmup) + ramp + measured
    });
    let pauses = probe.settle.as_secs_f64() * probe.steps.len().saturating_sub(1) as f64;
    steps.sum::<f64>() + pauses
}
