//! `once --replay`: a recording instead of the probes.

use std::{collections::HashMap, fmt::Display, fs::File, io::BufReader, path::Path};

use anyhow::anyhow;
use tokio::time::Instant;

use super::CliError;
use crate::{
    config::plan::{Plan, SeriesKey, Slo},
    recording::{Recorded, Replay, Requests, replay},
    report::Report,
};

/// The reports of a recording: of these probes, of all without a name; by the objectives of `plan`, else by
/// those in the file. What is odd about it is logged.
pub(super) fn replayed(
    recording: &Path,
    probes: &[String],
    plan: Option<&Plan>,
) -> Result<Vec<Report>, CliError> {
    let wrong = |what: &dyn Display| CliError::usage(anyhow!("--replay={}: {what}", recording.display()));
    let series: Option<HashMap<SeriesKey, Slo>> = plan.map(|plan| {
        plan.series()
            .map(|series| (series.key(), series.step.slo.clone()))
            .collect()
    });
    let is_wanted = |recorded: &Recorded| {
        let probe = recorded.key.probe.as_str();
        probes.is_empty() || probes.iter().any(|name| name == probe)
    };
    let objectives = |recorded: &Recorded| match &series {
        _ if !is_wanted(recorded) => None,
        None => Some(recorded.slo.clone()),
        Some(series) => series.get(&recorded.key).cloned(),
    };
    let file = File::open(recording).map_err(|error| wrong(&error))?;
    let requests = Requests::open(BufReader::new(file), Instant::now()).map_err(|problem| wrong(&problem))?;
    let replay = replay(requests, objectives).map_err(|problem| wrong(&problem))?;

    let is_there = |name: &String| {
        replay
            .reports
            .iter()
            .any(|report| report.probe().as_str() == name)
    };
    let left_out = match replay.truncated {
        0 => String::new(),
        truncated => format!("; {truncated} left out, since not all of their bytes were recorded"),
    };
    if let Some(missing) = probes.iter().find(|name| !is_there(name)) {
        return Err(wrong(&format!(
            "no request of a probe `{missing}` to be judged{left_out}"
        )));
    }
    if replay.reports.is_empty() {
        return Err(wrong(&format!("no request to be judged{left_out}")));
    }
    if series.is_some() && probes.is_empty() && replay.passed_over > 0 {
        tracing::warn!(
            requests = replay.passed_over,
            "left out: the configuration does not have their probe, target and load"
        );
    }
    tell(&replay);
    Ok(replay.reports)
}

fn tell(replay: &Replay) {
    for difference in &replay.differences {
        tracing::warn!("{difference}");
    }
    if replay.different > 0 {
        tracing::warn!(requests = replay.different, "read otherwise than they were live");
    }
    if replay.truncated > 0 {
        tracing::warn!(
            requests = replay.truncated,
            "left out: not all of their bytes were recorded"
        );
    }
}
