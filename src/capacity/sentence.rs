//! What a search found in one sentence, the same on the page, in the log and in the report.

use super::{Capacity, End, Point};
use crate::{config::plan::Slo, load::Load, outcome::Skip, slo::Objective, units::Seconds};

pub(super) fn of(capacity: &Capacity, slo: &Slo) -> String {
    let wanted = format!("{} ({})", slo.objective, limits(slo));
    let found = match (capacity.meets, capacity.misses) {
        (Some(meets), _) if capacity.ended == End::AtLeast => {
            format!(
                "meets {wanted} up to {meets}, the highest load that was tried: the capacity is at least that"
            )
        }
        (Some(meets), Some(misses)) => {
            format!("meets {wanted} up to {meets}; at {}", missed(capacity, misses))
        }
        (Some(meets), None) => format!("meets {wanted} at {meets}; more was not tried"),
        (None, Some(misses)) => format!(
            "does not meet {wanted} even at the lowest load: at {}",
            missed(capacity, misses)
        ),
        (None, None) => format!("it is not known at which load it meets {wanted}"),
    };
    let parts = [Some(found), disagreement(capacity), ending(capacity)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What is asked of a request.
fn limits(slo: &Slo) -> String {
    let limits = Objective::ALL.iter().filter_map(|objective| {
        let limit = Seconds::from(objective.limit(slo)?);
        Some(format!("{} ≤ {limit}", objective.as_str()))
    });
    let limits: Vec<_> = limits.collect();
    if limits.is_empty() {
        Objective::Success.as_str().to_owned()
    } else {
        limits.join(", ")
    }
}

fn missed(capacity: &Capacity, load: Load) -> String {
    let Some(point) = at(capacity, load) else {
        return load.to_string();
    };
    let goodput = match point.goodput {
        Some(goodput) => format!("{load} goodput was {goodput}"),
        None => format!("{load} nothing was judged"),
    };
    match point.limited_by {
        Some(cause) => format!("{goodput}, limited by {}", cause.as_str()),
        None => goodput,
    }
}

fn at(capacity: &Capacity, load: Load) -> Option<&Point> {
    capacity.curve.iter().find(|point| point.load == load)
}

/// Where the bursts of a load at the edge did not agree.
fn disagreement(capacity: &Capacity) -> Option<String> {
    let loads = [capacity.meets, capacity.misses].into_iter().flatten();
    let split: Vec<_> = loads
        .filter_map(|load| at(capacity, load))
        .filter(|point| 0 < point.bursts_met && point.bursts_met < point.bursts)
        .map(|point| {
            let Point {
                load,
                bursts,
                bursts_met,
                ..
            } = point;
            let goodput = point
                .goodput
                .map_or_else(String::new, |goodput| format!(", in all {goodput}"));
            format!("{bursts_met} of {bursts} bursts met it at {load}{goodput}")
        })
        .collect();
    (!split.is_empty()).then(|| format!("the edge is not sharp: {}", split.join("; ")))
}

fn ending(capacity: &Capacity) -> Option<String> {
    Some(match capacity.ended {
        End::Found | End::AtLeast | End::Nothing => return None,
        End::Requests => "what is left of its requests suffices for no further verdict".to_owned(),
        End::NotJudged => "over because nothing could be judged in several bursts".to_owned(),
        End::Stopped(Skip::Backoff) => "over at once because the endpoint shed load or failed".to_owned(),
        End::Stopped(skip) => format!("over early ({skip})"),
    })
}
