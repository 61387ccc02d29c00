//! What a package has beside the binary: completions and manual pages.

use std::{io, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, CliError, print};

const NAME: &str = "llm-probe-exporter";

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell that is to know the options.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), NAME, &mut script);
        Ok(print(&String::from_utf8_lossy(&script))?)
    }
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// A directory that gets a page for the program and one for each command. Without it, the page of the program is printed.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What is read of the environment beside the options that name a variable of theirs.
const ENVIRONMENT: &str = "\
Environment:
  NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC, LISTEN_PID, LISTEN_FDS
      what systemd tells a service (sd_notify(3), sd_listen_fds(3))
  SSL_CERT_FILE, SSL_CERT_DIR
      the authorities that are believed, in place of those of the system
  Whatever a configuration names by a key that ends in _env.";

/// The program, each of whose commands tells also of the variables of its options.
fn described() -> clap::Command {
    let program = Cli::command().name(NAME);
    let commands: Vec<_> = program
        .get_subcommands()
        .map(|of| of.get_name().to_owned())
        .collect();
    let program = with_environment(program);
    commands.into_iter().fold(program, |program, name| {
        program.mut_subcommand(name, with_environment)
    })
}

fn with_environment(command: clap::Command) -> clap::Command {
    let mut text = command
        .get_after_help()
        .map(|help| format!("{help}\n\n"))
        .unwrap_or_default();
    text += ENVIRONMENT;
    for argument in command.get_arguments() {
        if let (Some(variable), Some(option)) = (argument.get_env(), argument.get_long()) {
            let variable = variable.to_string_lossy();
            text.extend(["\n  ", &variable, "\n      the same as --", option]);
        }
    }
    command.after_long_help(text)
}

impl ManArgs {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let command = described();
        if let Some(directory) = &self.directory {
            clap_mangen::generate_to(command, directory)
                .with_context(|| format!("{} cannot be written to", directory.display()))
                .map_err(CliError::usage)?;
            return Ok(());
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(io::Error::other)?;
        Ok(print(&String::from_utf8_lossy(&page))?)
    }
}
