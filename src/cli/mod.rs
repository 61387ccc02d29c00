//! The command line, as Prometheus exporters have it.

mod calibrate;
mod check;
mod demo;
mod descriptors;
mod handout;
mod hang_up;
mod listen;
mod once;
mod pausing;
mod probing;
mod reload;
mod replay;
mod seldom;
mod serve;
mod shard;
mod web;

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::{
        self, ConfigError,
        plan::{Lists, Plan},
    },
    discovery::{self, Got},
    logs::Logs,
    metrics,
    runtime::Runtimes,
    sim,
    supervisor::TargetError,
    version,
};

/// Probes LLM inference endpoints with bursts of concurrent streaming requests, and tells Prometheus what a
/// user would have felt: time to first token, inter-token latency, goodput against objectives.
#[derive(Debug, Parser)]
#[command(version = version::described(), max_term_width = 110, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: serve::ServeArgs,

    /// What is logged: error, warn, info, debug (each request), trace, or a filter like
    /// `info,llm_probe_exporter=debug`.
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        default_value = "info",
        global = true,
        display_order = AFTER_ALL
    )]
    pub log_level: String,

    /// How it is logged, on standard error.
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        default_value = "logfmt",
        global = true,
        display_order = AFTER_ALL + 1
    )]
    pub log_format: LogFormat,
}

/// A global argument keeps its position among the arguments of the program in each subcommand, amid those of that one.
const AFTER_ALL: usize = 100;

const EXAMPLES: &str = "\
Examples:
  # See it work, on simulated servers
  llm-probe-exporter demo

  # Run the exporter on :9850
  llm-probe-exporter --config.file=probes.yaml

  # What would it send, and what would that cost?
  llm-probe-exporter check --config.file=probes.yaml

  # One burst of one probe, now, as a table; exit code 3 below the objective
  llm-probe-exporter once --config.file=probes.yaml fifty-users

  # An inference server to try things on
  llm-probe-exporter simulate --profile=laptop

Exit codes:
  0 done or drained   1 failed at run time   2 bad usage or configuration
  3 goodput below the objective (once)";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the exporter (the default).
    Serve(serve::ServeArgs),
    /// Validate the configuration and print the plan: bursts, requests, tokens, series.
    Check(check::CheckArgs),
    /// Run the probes once, now, and print a table per burst.
    Once(once::OnceArgs),
    /// Find out how many concurrent requests this machine can be trusted to measure; takes 20 s.
    Calibrate(calibrate::CalibrateArgs),
    /// Run a simulated inference server.
    Simulate(Box<sim::SimulateArgs>),
    /// Show what the exporter does: three probes at three simulated servers.
    Demo(demo::DemoArgs),
    /// Print every metric family: name, type, labels, meaning.
    Metrics(MetricsArgs),
    /// Print what lets a shell complete commands and options.
    Completions(handout::CompletionsArgs),
    /// Print the manual page, or write all of them.
    Man(handout::ManArgs),
}

#[derive(Args, Debug)]
struct MetricsArgs {
    /// How the table is printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: TableFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TableFormat {
    Text,
    Markdown,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// Where the configuration is.
#[derive(Args, Clone, Debug)]
struct ConfigArgs {
    /// The probe schedule.
    #[arg(
        long = "config.file",
        value_name = "FILE",
        env = "LLM_PROBE_CONFIG_FILE",
        default_value = "llm-probe-exporter.yaml"
    )]
    config_file: PathBuf,
}

/// How much the exporter may export.
#[derive(Args, Clone, Copy, Debug)]
struct LimitArgs {
    /// The most samples that /metrics may have; a plan that makes more is refused.
    #[arg(long = "limit.series", value_name = "N", default_value_t = 250_000)]
    limit_series: usize,
}

impl LimitArgs {
    fn check(self, samples: usize) -> Result<(), CliError> {
        let limit = self.limit_series;
        if samples <= limit {
            return Ok(());
        }
        Err(CliError::usage(anyhow!(
            "the plan makes {samples} samples, more than --limit.series={limit}; use fewer targets, steps or labels, or raise the limit"
        )))
    }
}

impl ConfigArgs {
    /// Reads it once, with the lists of targets that it names. One that is wrong is an error; one that no server gives is
    /// left out.
    fn read(&self, runtimes: &Runtimes) -> Result<Plan, CliError> {
        let mut lists = Lists::default();
        // Where it is wrong by itself, all is told that is.
        if let Ok(bare) = self.load(&Lists::only_known()) {
            let service = &runtimes.service;
            for Got { name, source, said } in service.block_on(discovery::ask(&bare, service.handle())) {
                match said {
                    Ok(said) => lists.put(&name, &source, said),
                    Err(error) => tracing::warn!(list = %name, error, "the list of targets cannot be had"),
                }
            }
        }
        self.load(&lists)
    }

    /// Reads it with what is known of its lists.
    fn load(&self, lists: &Lists) -> Result<Plan, CliError> {
        Ok(config::load(&self.config_file, lists)?)
    }
}

fn warn_of(plan: &Plan) {
    for warning in plan.warnings() {
        tracing::warn!("{}", warning.in_one_line());
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct CliError {
    pub source: anyhow::Error,
    is_usage: bool,
}

impl CliError {
    /// 2 for what the user has to mend in arguments or configuration, else 1.
    pub fn exit_code(&self) -> u8 {
        if self.is_usage { 2 } else { 1 }
    }

    fn usage(source: impl Into<anyhow::Error>) -> Self {
        Self {
            source: source.into(),
            is_usage: true,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#}", self.source)
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<TargetError> for CliError {
    fn from(error: TargetError) -> Self {
        Self::usage(error)
    }
}

impl From<anyhow::Error> for CliError {
    fn from(source: anyhow::Error) -> Self {
        Self {
            source,
            is_usage: false,
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::from(anyhow::Error::from(error))
    }
}

impl Cli {
    /// Does what the command line asks for; `logs` has the last lines of the log.
    pub fn run(self, runtimes: &Runtimes, logs: Logs) -> Result<ExitCode, CliError> {
        match self.command.unwrap_or(Command::Serve(self.serve)) {
            Command::Serve(args) => args.run(runtimes, logs),
            Command::Check(args) => args.run(runtimes),
            Command::Once(args) => args.run(runtimes),
            Command::Calibrate(args) => args.run(runtimes),
            Command::Simulate(args) => {
                let _runtime = runtimes.service.enter();
                runtimes
                    .service
                    .block_on(sim::simulate(*args, serve::shutdown_signal()?))
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::InvalidInput => CliError::usage(error), // a certificate or key
                        _ => error.into(),
                    })?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Demo(args) => args.run(runtimes, logs),
            Command::Completions(args) => {
                args.run()?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Man(args) => {
                args.run()?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Metrics(args) => {
                let table = match args.format {
                    TableFormat::Text => metrics::aligned_table(),
                    TableFormat::Markdown => metrics::markdown_table(),
                };
                print(&table)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Prints to standard output; a reader that has gone (`| head`) is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn what_holds_for_all_commands_stands_behind_what_is_their_own() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands_mut() {
            let help = command.render_help().to_string();
            let options: Vec<_> = help
                .lines()
                .filter_map(|line| line.trim_start().strip_prefix("--"))
                .map(|line| line.split(' ').next().unwrap())
                .filter(|option| *option != "help")
                .collect();
            if command.get_name() != "help" {
                assert!(options.ends_with(&["log.level", "log.format"]), "{options:?}");
            }
        }
    }
}
