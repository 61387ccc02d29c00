//! The time of the start, arguments, logging, the two runtimes, the exit code; nothing else.

mod tee;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{anyhow, bail};
use clap::Parser;
use llm_probe_exporter::{
    cli::{Cli, LogFormat},
    clock::process_began,
    logs::Logs,
    runtime::Runtimes,
};
use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

fn main() -> ExitCode {
    process_began();
    let cli = Cli::parse();
    let logs = Logs::default();
    if let Err(error) = log_to_stderr(&cli, &logs) {
        return failed(&error, 2);
    }
    let runtimes = match Runtimes::start() {
        Ok(runtimes) => runtimes,
        Err(error) => return failed(&error.into(), 1),
    };
    let ended = cli.run(&runtimes, logs);
    runtimes.end();
    ended.unwrap_or_else(|error| failed(&error.source, error.exit_code()))
}

fn log_to_stderr(cli: &Cli, logs: &Logs) -> anyhow::Result<()> {
    let filter = log_filter(&cli.log_level)?;
    let stderr = tee::Tee(logs.clone());
    let registry = tracing_subscriber::registry().with(filter);
    match cli.log_format {
        LogFormat::Logfmt => {
            let layer = tracing_logfmt::builder()
                .with_target(false)
                .with_ansi_color(io::stderr().is_terminal());
            registry.with(layer.layer().with_writer(stderr)).init();
        }
        LogFormat::Json => {
            registry
                .with(
                    fmt::layer()
                        .json()
                        .flatten_event(true)
                        .with_target(false)
                        .with_writer(stderr),
                )
                .init();
        }
    }
    Ok(())
}

/// A level, or a filter with `=` or `,` in it. A word that is no level would be taken for the name of a module,
/// and silence everything.
fn log_filter(text: &str) -> anyhow::Result<EnvFilter> {
    let is_filter = text.contains(['=', ',']);
    if !is_filter && text.parse::<LevelFilter>().is_err() {
        bail!("--log.level={text}: write error, warn, info, debug or trace");
    }
    // h2 logs whatever an endpoint puts into a GOAWAY. Who names it in --log.level gets it.
    format!("h2=warn,{text}")
        .parse()
        .map_err(|error| anyhow!("--log.level={text}: {error}; try info or debug"))
}

/// Says what went wrong on standard error; the code tells scripts.
fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    // If standard error is gone, the code has to do.
    writeln!(io::stderr(), "llm-probe-exporter: {error:#}").ok();
    code.into()
}
