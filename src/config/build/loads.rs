//! How much load a probe is, and how its requests arrive.
//!
//! A step is a closed loop of so many users, or an open loop at a rate; the steps of a ladder are all of one kind.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{Context, slos};
use crate::{
    config::{
        plan::Step,
        positions::NodeId,
        raw::{
            choices::{ArrivalKind, ProcessKind},
            items,
            leaves::{Amount, Wait},
            reading::{At, Field},
        },
        report::Report,
    },
    load::{Arrival, Load, Process, Rate, Volume},
    units::Ratio,
};

/// More requests in one burst of an open loop are a mistake.
const MOST_REQUESTS: f64 = 1_000_000.0;

/// Below it nearly all requests come at once, above it they are as good as evenly spread.
const BURSTINESS: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// The steps of the ladder, or the one step that a concurrency or a rate is. Conversations have at most `turns`
/// turns.
pub(super) fn steps(
    item: &items::Probe,
    turns: u32,
    of: &str,
    context: &Context<'_>,
) -> Option<Vec<Arc<Step>>> {
    let report = context.report;
    let arrival = arrival(item, report)?;
    let is_open = matches!(arrival, Arrival::Rate(_));
    if let (true, Some(users)) = (is_open, item.concurrency.given()) {
        let what = format!(
            "{} says nothing at a rate: requests do not wait for one another",
            users.thing
        );
        report.problem(users.key, what, "remove it, or the `arrival`");
    }
    let Some(ladder) = item.ladder.given() else {
        let per_second = item.arrival.value().map_or(&Field::Absent, |raw| &raw.per_second);
        let load = if is_open {
            Load::Rate(rate(per_second.given()?, report)?)
        } else {
            if let Some(given) = item.concurrency.given() {
                within_in_flight(given, of, context);
            }
            Load::Users(item.concurrency.value().map_or(1, |users| users.get()))
        };
        let volume = volume(&item.requests, &item.duration, (load, turns), of, item, report)?;
        fits_ramp(arrival, volume, item, report);
        let slo = slos::slo(&item.slo, &Field::Absent, true, report);
        return Some(vec![Arc::new(Step {
            load,
            arrival,
            volume,
            slo,
        })]);
    };
    if report.is_empty_list(ladder.id) {
        let mend = "add steps, such as `ladder: [{ users: 1 }, { users: 50 }]`";
        report.problem(ladder.key, format!("{} has no steps", ladder.thing), mend);
        return None;
    }
    let mut steps: Vec<Arc<Step>> = Vec::new();
    for (at, step) in ladder.value.iter().enumerate() {
        let Some((load, place)) = load_of_step(step, of, context) else {
            continue;
        };
        rises(steps.last().map(|step| step.load), load, place, report);
        let arrival = match (load, arrival) {
            (Load::Rate(_), Arrival::Rate(process)) => Arrival::Rate(process),
            (Load::Rate(_), _) if item.arrival.is_absent() => Arrival::Rate(Process::Poisson),
            (Load::Users(_), Arrival::Together | Arrival::Ramp { .. }) => arrival,
            _ => {
                let (kinds, mend) = match load {
                    Load::Rate(_) => (
                        format!("is a rate, but `arrival` of {of} is not"),
                        "write `arrival: { kind: rate }`, or `users: …` in the steps",
                    ),
                    Load::Users(_) => (
                        format!("is no rate, but `arrival` of {of} is"),
                        "write `rate: …` in the steps, or another `arrival`",
                    ),
                };
                report.problem(place.0, format!("{} {kinds}", place.1), mend);
                continue;
            }
        };
        let (requests, duration) = volume_of_step(step, item, report);
        let Some(volume) = volume(
            &requests,
            &duration,
            (load, turns),
            &format!("{of} with {load}"),
            item,
            report,
        ) else {
            continue;
        };
        fits_ramp(arrival, volume, item, report);
        let slo = slos::slo(&item.slo, &step.value.slo, at == 0, report);
        steps.push(Arc::new(Step {
            load,
            arrival,
            volume,
            slo,
        }));
    }
    (!steps.is_empty()).then_some(steps)
}

/// From which loss on a ladder is stopped.
pub(super) fn ladder_stop(item: &items::Probe, report: &Report<'_>) -> Option<Ratio> {
    let given = item.ladder_stop.given()?;
    if item.ladder.is_absent() {
        let what = format!("{} says nothing without a `ladder`", given.thing);
        report.problem(given.key, what, "add a `ladder`, or remove it");
    }
    if given.value.0.get() >= 1.0 {
        let what = format!("{} is 100 %, more than which no step can lose", given.thing);
        report.problem(given.id, what, "write less, such as `50%`, or remove it");
    }
    Some(given.value.0)
}

/// How requests arrive; `None` when it makes no sense, which is reported.
pub(super) fn arrival(item: &items::Probe, report: &Report<'_>) -> Option<Arrival> {
    let Some(given) = item.arrival.given() else {
        return Some(Arrival::Together);
    };
    let raw = &given.value;
    super::require(
        &raw.kind,
        given,
        "kind",
        "add `kind: together`, `ramp` or `rate`",
        report,
    );
    let kind = *raw.kind.value()?;
    let idle = |key: Option<Place<'_>>, of: &str| {
        if let Some((key, thing)) = key {
            report.problem(
                key,
                format!("{thing} says nothing without `{of}`"),
                "remove it, or add that",
            );
        }
    };
    idle(key(&raw.over, kind != ArrivalKind::Ramp), "kind: ramp");
    idle(key(&raw.per_second, kind != ArrivalKind::Rate), "kind: rate");
    idle(key(&raw.process, kind != ArrivalKind::Rate), "kind: rate");
    let is_gamma = raw.process.value() == Some(&ProcessKind::Gamma);
    idle(
        key(&raw.burstiness, kind != ArrivalKind::Rate || !is_gamma),
        "process: gamma",
    );
    match kind {
        ArrivalKind::Together => Some(Arrival::Together),
        ArrivalKind::Ramp => {
            super::require(
                &raw.over,
                given,
                "over",
                "add `over: 10s`: how long until all users have started",
                report,
            );
            Some(Arrival::Ramp {
                over: raw.over.value()?.0,
            })
        }
        ArrivalKind::Rate => {
            match (raw.per_second.given(), item.ladder.is_absent()) {
                (Some(rate), false) => {
                    let what = format!(
                        "{} contradicts `ladder`, whose steps have a rate each",
                        rate.thing
                    );
                    report.problem(rate.key, what, "remove one");
                }
                (None, true) => super::require(
                    &raw.per_second,
                    given,
                    "per_second",
                    "add `per_second: 5`",
                    report,
                ),
                _ => {}
            }
            Some(Arrival::Rate(process(given, report)?))
        }
    }
}

/// The key of what is given and says nothing, and what messages call it.
fn key<T>(field: &Field<T>, is_idle: bool) -> Option<Place<'_>> {
    let given = field.given().filter(|_| is_idle)?;
    Some((given.key, &given.thing))
}

fn process(arrival: &At<items::Arrival>, report: &Report<'_>) -> Option<Process> {
    let raw = &arrival.value;
    match (&raw.process, raw.process.value()) {
        (Field::Bad, _) => None,
        (_, None | Some(ProcessKind::Poisson)) => Some(Process::Poisson),
        (_, Some(ProcessKind::Constant)) => Some(Process::Constant),
        (_, Some(ProcessKind::Gamma)) => {
            let mend = "add `burstiness: 0.5`: less than 1 comes in heaps, 1 is `process: poisson`, more is more even";
            super::require(&raw.burstiness, arrival, "burstiness", mend, report);
            let given = raw.burstiness.given()?;
            let burstiness = given.value.0;
            if !BURSTINESS.contains(&burstiness) {
                let what = format!("{} is {burstiness}", given.thing);
                let mend = format!(
                    "write a number from {} to {}",
                    BURSTINESS.start(),
                    BURSTINESS.end()
                );
                report.problem(given.id, what, mend);
            }
            Some(Process::Gamma { burstiness })
        }
    }
}

pub(super) fn rate(given: &At<Amount>, report: &Report<'_>) -> Option<Rate> {
    let rate = Rate::new(given.value.0);
    if rate.is_none() {
        let what = format!("{} is {} requests a second", given.thing, given.value.0);
        let mend = format!("write a number from {} to {}", Rate::LEAST, Rate::MOST);
        report.problem(given.id, what, mend);
    }
    rate
}

/// Where a load stands, and what messages call it.
type Place<'a> = (NodeId, &'a str);

fn load_of_step<'a>(step: &'a At<items::Step>, of: &str, context: &Context<'_>) -> Option<(Load, Place<'a>)> {
    let report = context.report;
    match (step.value.users.given(), step.value.rate.given()) {
        (Some(users), Some(rate)) => {
            let what = format!("{} has both `users` and `rate`", step.thing);
            report.problem(rate.key, what, "remove one");
            Some((Load::Users(users.value.get()), (users.id, &users.thing)))
        }
        (Some(users), None) => {
            within_in_flight(users, of, context);
            Some((Load::Users(users.value.get()), (users.id, &users.thing)))
        }
        (None, Some(given)) => Some((Load::Rate(rate(given, report)?), (given.id, &given.thing))),
        (None, None) => {
            if step.value.rate.is_absent() {
                super::require(&step.value.users, step, "users", "add `users: …`", report);
            }
            None
        }
    }
}

/// Reports a step that is not above the one below.
fn rises(below: Option<Load>, load: Load, (id, thing): Place<'_>, report: &Report<'_>) {
    match (below, load) {
        (Some(Load::Users(below)), Load::Users(users)) if users <= below => {
            let what = format!("{thing} is {users} and follows {below}");
            report.problem(id, what, "order the steps by rising `users`, each number once");
        }
        (Some(Load::Rate(below)), Load::Rate(rate)) if rate <= below => {
            let what = format!("{thing} is {rate} and follows {below}");
            report.problem(id, what, "order the steps by rising `rate`, each number once");
        }
        (Some(Load::Users(_)), Load::Rate(_)) | (Some(Load::Rate(_)), Load::Users(_)) => {
            let what = format!("{thing} follows a step of the other kind");
            report.problem(id, what, "write `users` in all steps, or `rate` in all");
        }
        _ => {}
    }
}

fn within_in_flight(users: &At<NonZeroU32>, of: &str, context: &Context<'_>) {
    let (count, most) = (users.value.get(), context.global.max_in_flight);
    if count > most {
        let what = format!("{of} wants {count} requests at once, but `global.max_in_flight` is {most}");
        let mend = format!("write `global: {{ max_in_flight: {count} }}`, or fewer users");
        context.report.problem(users.id, what, mend);
    }
}

/// The step's own `requests` or `duration`, else the probe's.
fn volume_of_step(
    step: &At<items::Step>,
    item: &items::Probe,
    report: &Report<'_>,
) -> (Field<NonZeroU32>, Field<Wait>) {
    let (requests, duration) = (&step.value.requests, &step.value.duration);
    match (requests.is_absent(), duration.is_absent()) {
        (true, true) => (item.requests.clone(), item.duration.clone()),
        (false, false) => {
            report.problem(
                step.id,
                format!("{} has both `requests` and `duration`", step.thing),
                "remove one",
            );
            (Field::Absent, Field::Absent)
        }
        _ => (requests.clone(), duration.clone()),
    }
}

pub(super) fn volume(
    requests: &Field<NonZeroU32>,
    duration: &Field<Wait>,
    (load, turns): (Load, u32),
    of: &str,
    item: &items::Probe,
    report: &Report<'_>,
) -> Option<Volume> {
    match (requests.given(), duration.given(), load) {
        (Some(requests), _, load) => {
            let (count, users) = (requests.value.get(), load.users());
            if count < users {
                let what = format!("{of} sends {count} requests, too few to have {users} under way at once");
                let usual = users.saturating_mul(turns);
                let mend = format!("write `requests: {users}` or more, or leave it out: it is {usual} then");
                report.problem(requests.id, what, mend);
            }
            if matches!(load, Load::Rate(_)) && f64::from(count) > MOST_REQUESTS {
                report.problem(
                    requests.id,
                    format!("{of} sends {count} requests"),
                    "write at most `1000000`",
                );
            }
            Some(Volume::Requests(count))
        }
        (None, Some(duration), load) => {
            if let Load::Rate(rate) = load {
                let count = rate.per_second() * duration.value.0.as_secs_f64();
                if count > MOST_REQUESTS {
                    let what = format!("{of} sends about {count:.0} requests");
                    let mend = "lower the rate or shorten the `duration`: at most 1000000 requests a burst";
                    report.problem(duration.id, what, mend);
                }
            }
            Some(Volume::Lasting(duration.value.0))
        }
        (None, None, Load::Users(users)) => Some(Volume::Requests(users.saturating_mul(turns))),
        (None, None, Load::Rate(_)) => {
            if requests.is_absent() && duration.is_absent() {
                let at = item.arrival.given().map(|arrival| arrival.key);
                let at = at.or(item.ladder.given().map(|ladder| ladder.key));
                let what = format!("{of} has a rate, but neither `duration` nor `requests`");
                report.problem(
                    at.unwrap_or(report.root()),
                    what,
                    "add `duration: 1m`, or `requests: 100`",
                );
            }
            None
        }
    }
}

/// Reports a ramp that is longer than the burst.
fn fits_ramp(arrival: Arrival, volume: Volume, item: &items::Probe, report: &Report<'_>) {
    let over = item.arrival.value().and_then(|arrival| arrival.over.given());
    if let (Arrival::Ramp { over: ramp }, Volume::Lasting(duration), Some(over)) = (arrival, volume, over)
        && ramp >= duration
    {
        let [ramp, duration] = [ramp, duration].map(|time: Duration| humantime::format_duration(time));
        let what = format!("{} is {ramp}, but the burst lasts {duration}", over.thing);
        report.problem(
            over.id,
            what,
            format!("write less than `{duration}`, or a longer `duration`"),
        );
    }
}
