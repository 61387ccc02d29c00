//! Why nothing is even tried for somebody who asks for a burst. None of it tells what an endpoint answered.

use std::{collections::BTreeSet, fmt::Display};

use crate::client::ClientError;

#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("no probe is named `{0}`; there are {1}")]
    Probe(String, String),
    #[error("probe `{0}` does not ask a target `{1}`; it asks {2}")]
    Target(String, String, String),
    #[error("`target` is no URL that can be asked for: {0}")]
    Url(&'static str),
    #[error("no entry of `on_demand` in the configuration allows {0}")]
    NotAllowed(String),
    #[error("entry `{0}` of `on_demand` does not let probe `{1}` be asked for; it lets {2}")]
    NotThisProbe(String, String, String),
    #[error("{0} is not asked, as its host has no public address (`private: refuse`)")]
    NotPublic(String),
    #[error("the endpoint cannot be asked: {0}")]
    Client(#[from] ClientError),
    #[error("so many bursts are asked for already: ask again later")]
    Busy,
    #[error("the exporter ends")]
    Ending,
    #[error("the burst was lost, which is a defect of this program")]
    Lost,
}

/// Each name once.
pub(super) fn listed(names: impl Iterator<Item = impl Display>) -> String {
    let names: BTreeSet<_> = names.map(|name| format!("`{name}`")).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}
