//! Arguments, logging, the two runtimes, the exit code; nothing else.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use llm_probe_exporter::{
    cli::{Cli, LogFormat},
    runtime::Runtimes,
};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = log_to_stderr(&cli) {
        return failed(&error, 2);
    }
    let runtimes = match Runtimes::start() {
        Ok(runtimes) => runtimes,
        Err(error) => return failed(&error.into(), 1),
    };
    match cli.run(&runtimes) {
        Ok(code) => code,
        Err(error) => failed(&error.source, error.exit_code()),
    }
}

fn log_to_stderr(cli: &Cli) -> anyhow::Result<()> {
    // h2 logs whatever an endpoint puts into a GOAWAY. Who names it in --log.level gets it.
    let filter: EnvFilter = format!("h2=warn,{}", cli.log_level)
        .parse()
        .map_err(|error| anyhow::anyhow!("--log.level={}: {error}; try info or debug", cli.log_level))?;
    let registry = tracing_subscriber::registry().with(filter);
    match cli.log_format {
        LogFormat::Logfmt => {
            let layer = tracing_logfmt::builder()
                .with_target(false)
                .with_ansi_color(io::stderr().is_terminal());
            registry.with(layer.layer().with_writer(io::stderr)).init();
        }
        LogFormat::Json => {
            registry
                .with(
                    fmt::layer()
                        .json()
                        .flatten_event(true)
                        .with_target(false)
                        .with_writer(io::stderr),
                )
                .init();
        }
    }
    Ok(())
}

/// Says what went wrong on standard error; the code tells scripts.
fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    // If standard error is gone, the code has to do.
    writeln!(io::stderr(), "llm-probe-exporter: {error:#}").ok();
    code.into()
}
