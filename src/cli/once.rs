//! `once`: the probes, now, as a table; or a search for their capacity; or a recording of them.

mod told;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use self::told::Told;
use super::{
    CliError, ConfigArgs, print,
    replay::replayed,
    serve::{shutdown_signal, watch_lag},
    warn_of,
};
use crate::{
    board::{log_request, log_skip},
    config::plan::{Plan, Wished},
    discovery::Known,
    outcome::Skip,
    recording::Recorder,
    report::{Report, SearchReport},
    runner::{Event, What},
    runtime::Runtimes,
    supervisor::{Shared, Supervisor},
    tape::Room,
};

/// Goodput below the objective.
pub(super) const BELOW_OBJECTIVE: u8 = 3;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Every probe of llm-probe-exporter.yaml, one burst of each of its steps
  llm-probe-exporter once

  # This probe alone
  llm-probe-exporter once fifty-users

  # For scripts
  llm-probe-exporter once --output=json | jq '.[].goodput'

  # How many users does it bear? Doubles them until goodput misses the objective, then halves the distance
  llm-probe-exporter once --find-capacity --capacity.max=32 --capacity.requests=300 fifty-users

  # Each response byte for byte in a file, then decoded and judged again:
  # no network, no configuration
  llm-probe-exporter once --record=odd.jsonl
  llm-probe-exporter once --replay=odd.jsonl

  # One request of it, as a test case
  sed -n '1p;7p' odd.jsonl > case.jsonl

Exit codes:
  0 every objective met   3 goodput below an objective; of a search: even at the lowest load
  1 failed at run time    2 bad usage or configuration")]
pub(super) struct OnceArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The probes to run; all without a name. One with `cache: pair` stands for both that it makes.
    #[arg(value_name = "PROBE")]
    probes: Vec<String>,

    /// What is printed on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Output,

    /// Also write each request to a new file, as JSON lines: what was asked, the bytes of the response as they
    /// were read, and when. Credentials and header values are overwritten with `*`, prompts and answers are
    /// not; only you can read the file. At most 8 MiB a request.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,

    /// Send nothing: decode, measure and judge the requests of a recording again, by the objectives in the
    /// file. What is read otherwise than it was live is logged.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    /// With --replay: judge by the objectives of the configuration instead.
    #[arg(long, requires = "replay")]
    rejudge: bool,

    /// Search for the highest load at which goodput meets the objective: users, from one on, or a rate, from that of a
    /// probe with `arrival: rate` on. The probe needs an `slo`. No load is more than twice one that met it; a search is
    /// over at once when the endpoint sheds load. What is left out below is as the probe's `capacity` says.
    #[arg(long, conflicts_with_all = ["replay", "record"])]
    find_capacity: bool,

    /// The highest load that is tried: users [default: 64], or requests a second [default: 64 times the first]
    #[arg(long = "capacity.max", value_name = "N", requires = "find_capacity")]
    capacity_max: Option<f64>,

    /// Most requests in all [default: 500]
    #[arg(long = "capacity.requests", value_name = "N", requires = "find_capacity")]
    capacity_requests: Option<u32>,

    /// Most bursts of a load, more than half of which are to meet the objective [default: 3]
    #[arg(long = "capacity.repeats", value_name = "N", requires = "find_capacity")]
    capacity_repeats: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For scripts; durations in seconds.
    Json,
}

impl OnceArgs {
    pub(super) fn run(self, runtimes: &Runtimes) -> Result<ExitCode, CliError> {
        let Some(recording) = &self.replay else {
            return self.measured(runtimes);
        };
        let plan = self.rejudge.then(|| self.read(runtimes)).transpose()?;
        let reports = replayed(recording, &self.probes, plan.as_ref())?;
        if self.output == Output::Table {
            for report in &reports {
                print(&format!("{}\n", report.text()))?;
            }
        }
        let told: Vec<_> = reports.into_iter().map(Told::from).collect();
        self.print_json(&told)?;
        verdict(&told, told.len())
    }

    fn read(&self, runtimes: &Runtimes) -> Result<Plan, CliError> {
        let plan = self.config.read(&Known::default(), runtimes)?;
        warn_of(&plan);
        Ok(plan)
    }

    /// The plan of what is to be run.
    fn plan(&self, runtimes: &Runtimes) -> Result<Plan, CliError> {
        let usage = |what: String| CliError::usage(anyhow!("{what}"));
        let plan = self.read(runtimes)?.only(&self.probes).map_err(usage)?;
        let wished = Wished {
            max: self.capacity_max,
            requests: self.capacity_requests,
            repeats: self.capacity_repeats,
            resolution: None,
        };
        let plan = if self.find_capacity {
            plan.searching(wished).map_err(usage)?
        } else {
            plan
        };
        let searches = plan.probes().iter().find(|probe| probe.capacity.is_some());
        if let (Some(_), Some(probe)) = (&self.record, searches) {
            return Err(usage(format!(
                "probe `{}` searches for the capacity, which cannot be recorded; name other probes",
                probe.name
            )));
        }
        Ok(plan)
    }

    /// Runs the probes.
    fn measured(&self, runtimes: &Runtimes) -> Result<ExitCode, CliError> {
        let plan = self.plan(runtimes)?;
        let (mut shared, told) = Shared::new(&plan, runtimes.service.handle());
        shared.recording = self.record.as_ref().map(|_| Room::default());
        let (lag, metrics) = (shared.lag.clone(), shared.metrics.clone());
        let supervisor = Supervisor::new(&plan, shared)?;
        runtimes
            .measure_first(plan.global().realtime, |_| ())
            .map_err(CliError::usage)?;
        let create = |path| Recorder::create(path, Instant::now());
        let recorder = self.record.as_deref().map(create).transpose();
        let recorder = recorder.map_err(CliError::usage)?;
        let beating = runtimes.measure.spawn(watch_lag(lag, metrics));
        let progress = progress(&plan);
        let output = self.output;
        let (reports, left_out, recorder) = runtimes.service.block_on(async {
            let stop = shutdown_signal()?;
            let reporting = tokio::spawn(collect(told, progress, output, recorder));
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
        self.print_json(&reports)?;
        // The report comes first: a full disk costs the recording alone.
        if let Some(recorder) = recorder {
            let requests = recorder.finish().map_err(anyhow::Error::from)?;
            tracing::info!(requests, "recorded");
        }
        // Steps that were left out by the rule of their ladder are no defect of the run.
        verdict(&reports, plan.series().count() - left_out)
    }

    fn print_json(&self, reports: &[Told]) -> Result<(), CliError> {
        if self.output == Output::Json {
            let json = serde_json::to_string_pretty(reports).map_err(anyhow::Error::from)?;
            print(&(json + "\n"))?;
        }
        Ok(())
    }
}

/// The exit code, where all bursts that were planned count.
fn verdict(reports: &[Told], planned: usize) -> Result<ExitCode, CliError> {
    let sound = reports.iter().filter(|told| told.is_sound()).count();
    if sound < planned {
        return Err(anyhow!(
            "no verdict: {} of {planned} bursts did not run, were cut short, or had requests that failed by our own doing",
            planned - sound
        )
        .into());
    }
    let met = reports.iter().all(Told::objective_met);
    Ok(if met {
        ExitCode::SUCCESS
    } else {
        BELOW_OBJECTIVE.into()
    })
}

/// Shows each burst as it ends, and the requests as they do; the reports, and how many steps were left out.
async fn collect(
    mut told: UnboundedReceiver<Event>,
    progress: ProgressBar,
    output: Output,
    recorder: Option<Recorder>,
) -> Result<(Vec<Told>, usize, Option<Recorder>), CliError> {
    let (mut reports, mut left_out) = (Vec::new(), 0);
    while let Some(Event { watched, what }) = told.recv().await {
        match what {
            What::Begun(_) => {
                let key = watched.series.key();
                progress.set_message(format!("{} at {}, {}", key.probe, key.target, key.load));
            }
            What::Request(judged) => {
                progress.inc(1);
                log_request(&watched, &judged);
                if let Some(recorder) = &recorder {
                    recorder.write(&watched.series, judged);
                }
            }
            What::Ended(summary, _) => {
                let report = Report::new(&watched.series, Arc::unwrap_or_clone(summary));
                if output == Output::Table {
                    progress.suspend(|| print(&format!("{}\n", report.text())))?;
                }
                reports.push(report.into());
            }
            What::Tries(load) => {
                let key = watched.series.key();
                progress.set_message(format!("{} at {}, tries {load}", key.probe, key.target));
            }
            What::Searched(capacity, _) => {
                let report = SearchReport::new(&watched.series, capacity);
                if output == Output::Table {
                    progress.suspend(|| print(&format!("{}\n", report.text())))?;
                }
                reports.push(report.into());
            }
            What::Skipped(skip, bursts) => {
                log_skip(&watched, skip, bursts);
                if skip == Skip::Ladder {
                    left_out += 1;
                    if output == Output::Table {
                        progress.suspend(|| print(&format!("{}\n", Report::of_left_out(&watched.series))))?;
                    }
                }
            }
            What::RequestsSkipped(..)
            | What::Spent(_)
            | What::Stretched(_)
            | What::Armed
            | What::Disarmed(_)
            | What::NextDue(..)
            | What::Restarted => {}
        }
    }
    progress.finish_and_clear();
    Ok((reports, left_out, recorder))
}

/// A bar on a terminal, nothing elsewhere.
fn progress(plan: &Plan) -> ProgressBar {
    let requests = plan
        .series()
        .map(|series| series.probe.requests_of(&series.step))
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
