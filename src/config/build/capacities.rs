//! Searches for the capacity: a load that is looked for takes the place of one that is given.

use std::sync::Arc;

use super::{Context, loads, slos};
use crate::{
    config::{
        plan::{Bounds, Key, Step, Unfit, Wished},
        raw::{
            items,
            reading::{At, Field},
        },
    },
    load::{Arrival, Load, Volume},
};

/// The only step of the probe, and how far its search may go; `None` when it cannot be built, which is reported.
pub(super) fn search(
    given: &At<items::Capacity>,
    item: &items::Probe,
    turns: u32,
    of: &str,
    context: &Context<'_>,
) -> Option<(Vec<Arc<Step>>, Bounds)> {
    let report = context.report;
    let contradictions = [
        (
            item.ladder.given().map(|given| (given.key, &given.thing)),
            "which has loads of its own",
        ),
        (
            item.concurrency.given().map(|given| (given.key, &given.thing)),
            "which finds the number of users",
        ),
    ];
    for (key, why) in contradictions {
        if let Some((key, thing)) = key {
            let what = format!("{thing} contradicts `capacity`, {why}");
            report.problem(key, what, "remove one");
        }
    }
    if turns > 1 {
        let what = format!(
            "{of} has conversations of {turns} turns, of which a search would not send as many at each load"
        );
        report.problem(given.key, what, "remove `capacity`, or ask single questions");
        return None;
    }
    if item.slo.is_absent() {
        let what = format!("{of} searches for the highest load that meets its `slo`, but has none");
        report.problem(
            given.key,
            what,
            "add one, such as `slo: { ttft: 500ms, objective: 99% }`",
        );
    }
    let arrival = loads::arrival(item, report)?;
    let lowest = match arrival {
        Arrival::Together | Arrival::Ramp { .. } => Load::Users(1),
        Arrival::Rate(_) => {
            let per_second = item.arrival.value().map_or(&Field::Absent, |raw| &raw.per_second);
            Load::Rate(loads::rate(per_second.given()?, report)?)
        }
    };
    let volume = match (lowest, item.duration.given()) {
        (Load::Users(_), Some(duration)) => {
            let what = format!(
                "{} contradicts `capacity`, which has to know how many requests a burst sends",
                duration.thing
            );
            report.problem(duration.key, what, "remove it, or write `requests: …`");
            return None;
        }
        (Load::Users(_), None) => {
            Volume::Requests(item.requests.value().map_or(1, |requests| requests.get()))
        }
        (Load::Rate(_), _) => loads::volume(&item.requests, &item.duration, (lowest, 1), of, item, report)?,
    };
    let raw = &given.value;
    let wished = Wished {
        max: raw.max.value().map(|max| max.0),
        requests: raw.requests.value().map(|requests| requests.get()),
        repeats: raw.repeats.value().map(|repeats| repeats.get()),
        resolution: raw.resolution.value().map(|resolution| resolution.0),
    };
    let warmup = item.warmup.value().copied().unwrap_or(0);
    match Bounds::new(lowest, volume, warmup, context.global.max_in_flight, wished) {
        Ok(bounds) => {
            let step = Step {
                load: lowest,
                arrival,
                volume: Volume::Requests(bounds.requests),
                slo: slos::slo(&item.slo, &Field::Absent, true, report),
            };
            Some((vec![Arc::new(bounds.as_step(&step))], bounds))
        }
        Err(Unfit { key, what, mend }) => {
            let place = match key {
                Key::Max => raw.max.given().map(|max| max.id),
                Key::Requests => raw.requests.given().map(|requests| requests.id),
                Key::Repeats => raw.repeats.given().map(|repeats| repeats.id),
                Key::Resolution => raw.resolution.given().map(|resolution| resolution.id),
            };
            let what = format!("`{}` of {} {what}", key.as_str(), given.thing);
            report.problem(place.unwrap_or(given.key), what, mend);
            None
        }
    }
}
