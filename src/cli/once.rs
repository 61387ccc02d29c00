//! `once`: the probes, now, as a table.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    CliError, ConfigArgs, print,
    serve::{shutdown_signal, watch_lag},
};
use crate::{
    config::plan::Plan,
    gate::Gate,
    lag::Lag,
    metrics::Metrics,
    report::Report,
    runtime::Runtimes,
    supervisor::{Event, Shared, Supervisor, What},
};

/// Goodput below the objective.
const BELOW_OBJECTIVE: u8 = 3;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-probe-exporter once                         every probe of llm-probe-exporter.yaml, one burst each
  llm-probe-exporter once fifty-users             this probe alone
  llm-probe-exporter once --output=json | jq .    for scripts

Exit codes: 0 every objective met, 3 goodput below an objective, 1 failed, 2 bad usage or configuration")]
pub(super) struct OnceArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The probes to run; all without a name.
    #[arg(value_name = "PROBE")]
    probes: Vec<String>,

    /// What is printed on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table per burst.
    Table,
    /// One JSON array with an object per burst; durations in seconds.
    Json,
}

impl OnceArgs {
    pub(super) fn run(self, runtimes: &Runtimes) -> Result<ExitCode, CliError> {
        let plan = self
            .config
            .load()?
            .only(&self.probes)
            .map_err(|unknown| CliError::usage(anyhow!("{unknown}")))?;
        let metrics = Metrics::new(&plan.global().labels);
        let (events, told) = unbounded_channel();
        let shared = Shared {
            metrics: metrics.clone(),
            lag: Lag::default(),
            gate: Gate::default(),
            blocking: runtimes.service.handle().clone(),
            events,
        };
        let supervisor = Supervisor::new(&plan, &shared)?;
        let beating = runtimes.measure.spawn(watch_lag(shared.lag.clone(), metrics));
        drop(shared);
        let progress = progress(&plan);
        let output = self.output;
        let reports = runtimes.service.block_on(async {
            let stop = shutdown_signal()?;
            let reporting = tokio::spawn(collect(told, progress, output));
            let measuring = runtimes.measure.spawn(async move {
                tokio::select! {
                    () = supervisor.run_once() => {}
                    () = stop.cancelled() => {
                        supervisor.abort();
                        supervisor.drain(Duration::ZERO).await;
                    }
                }
            });
            measuring.await.map_err(anyhow::Error::from)?;
            reporting.await.map_err(anyhow::Error::from)?
        })?;
        beating.abort();
        if output == Output::Json {
            let json = serde_json::to_string_pretty(&reports).map_err(anyhow::Error::from)?;
            print(&(json + "\n"))?;
        }
        let met = !reports.is_empty() && reports.iter().all(Report::objective_met);
        Ok(if met {
            ExitCode::SUCCESS
        } else {
            BELOW_OBJECTIVE.into()
        })
    }
}

/// Shows each burst as it ends, and the requests as they do.
async fn collect(
    mut told: UnboundedReceiver<Event>,
    progress: ProgressBar,
    output: Output,
) -> Result<Vec<Report>, CliError> {
    let mut reports = Vec::new();
    while let Some(Event { watched, what }) = told.recv().await {
        match what {
            What::Begun(_) => {
                let key = watched.series.key();
                progress.set_message(format!(
                    "{} at {}, {} users",
                    key.probe, key.target, key.concurrency
                ));
            }
            What::Request(judged) => {
                progress.inc(1);
                if let Some(detail) = &judged.record.detail {
                    let retry_after_seconds = judged.record.retry_after.map(|wait| wait.as_secs_f64());
                    let outcome = judged.record.outcome.as_str();
                    tracing::debug!(outcome, retry_after_seconds, detail, "request failed");
                }
            }
            What::Ended(summary, _) => {
                let report = Report::new(&watched.series, *summary);
                if output == Output::Table {
                    progress.suspend(|| print(&format!("{}\n", report.text())))?;
                }
                reports.push(report);
            }
            What::Skipped(skip) => {
                tracing::warn!(probe = %watched.series.probe.name, reason = skip.as_str(), "burst skipped");
            }
            What::Armed | What::NextDue(_) => {}
        }
    }
    progress.finish_and_clear();
    Ok(reports)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(plan: &Plan) -> ProgressBar {
    let requests = plan
        .series()
        .map(|series| series.planned_requests() + u64::from(series.probe.warmup))
        .sum();
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(requests), target);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} requests, {elapsed}, ETA {eta}  {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
