//! Where the kill switch is.

use std::path::PathBuf;

use clap::Args;

use crate::pause::PauseSwitch;

#[derive(Args, Clone, Debug)]
pub(super) struct PauseArgs {
    /// The kill switch: while this file exists, nothing is sent.
    #[arg(long = "pause.file", value_name = "PATH", env = "LLM_PROBE_PAUSE_FILE")]
    pause_file: Option<PathBuf>,
}

impl PauseArgs {
    pub(super) fn switch(&self) -> PauseSwitch {
        PauseSwitch::with_file(self.pause_file.clone())
    }
}
