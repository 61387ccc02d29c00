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

impl ManArgs {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let command = Cli::command().name(NAME);
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
