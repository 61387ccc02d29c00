//! Whether bursts may be asked for over HTTP.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::CliError;

#[derive(Args, Debug)]
pub(super) struct ProbeArgs {
    /// Let GET /probe?target=NAME&probe=NAME fire one burst now, and answer with its metrics alone.
    #[arg(long = "web.enable-probe")]
    enable: bool,

    /// By how many seconds such a burst is over before the scraper's patience is.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    timeout_offset: f64,
}

impl ProbeArgs {
    /// The offset; `None` where nobody may ask.
    pub(super) fn offset(&self) -> Result<Option<Duration>, CliError> {
        let offset = Duration::try_from_secs_f64(self.timeout_offset).map_err(|error| {
            CliError::usage(anyhow!(
                "--timeout-offset={}: {error}; write seconds, such as 0.5",
                self.timeout_offset
            ))
        })?;
        Ok(self.enable.then_some(offset))
    }
}
