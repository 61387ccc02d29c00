//! Probes: what they inherit, whom they ask, how often and how much.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    Context, Targets, calendars, capacities, expects, generations, labels, loads, pairs,
    prompts::{self, Pair, Prompts},
    protection, slos,
};
use crate::{
    config::{
        plan::{Probe, Target, Timeouts},
        problem::{list, meant, shown},
        raw::{
            choices::ArrivalKind,
            items,
            leaves::Wait,
            reading::{At, Field, Item as _},
        },
        report::Report,
    },
    prompt::Prompt,
    units::{Name, Ratio, Tokens},
};

const EVERY: Duration = Duration::from_mins(1);
const LEAST_EVERY: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_secs(2);
const MAX_TOKENS: u64 = 64;

/// The probe, or the two that it stands for; none when it cannot be built. Its problems are reported. `names` are
/// those of all probes.
pub(super) fn probes(
    raw: &At<items::Probe>,
    name: Option<Name>,
    names: &[Option<Name>],
    defaults: &items::Probe,
    targets: &Targets<'_>,
    context: &Context<'_>,
) -> Vec<Probe> {
    let (report, of) = (context.report, raw.thing.as_str());
    let item = inherit(&raw.value, defaults, of, report);
    let every = item.every.given().map_or(EVERY, |every| {
        if every.value.0 < LEAST_EVERY {
            let what = format!("{} is {}", every.thing, humantime::format_duration(every.value.0));
            report.problem(every.id, what, "write `100ms` or more");
        }
        every.value.0
    });
    let no_jitter = Ratio::new(0.0).expect("nothing is a share");
    let jitter = item.jitter.given().map_or(no_jitter, |jitter| {
        if jitter.value.0.get() > 0.5 {
            let what = format!("{} is {}, more than a half", jitter.thing, jitter.value.0);
            report.problem(jitter.id, what, "write `50%` or less");
        }
        jitter.value.0
    });
    let calendar = calendars::calendar(&item, of, report);
    let cron = calendars::cron(&item, &calendar, report);
    let every = match &cron {
        Some(cron) => calendars::shortest_distance(cron),
        None => every,
    };
    calendars::never_due(&item, every, cron.as_ref(), &calendar, of, report);
    let prompts = prompts::prompts(&item.prompt, name.as_ref().map_or("", Name::as_str), context);
    let prompt = prompts.as_ref().map(Prompts::first);
    let turns = prompt.map_or(1, Prompt::most_turns);
    let (steps, capacity) = match item.capacity.given() {
        Some(given) => capacities::search(given, &item, turns, of, context).unzip(),
        None => (loads::steps(&item, turns, of, context), None),
    };
    let is_open = (steps.iter().flatten()).any(|step| step.load.rate().is_some());
    prompts::waits_for_answers(&item.prompt, prompt, is_open, of, report);
    let targets = asked(&raw.value.targets, of, targets, report);
    let timeouts = timeouts(&item.timeouts, of, report);
    slos::warn_of_unreachable(&item, &timeouts, report);
    let max_tokens = Tokens(item.max_tokens.value().map_or(MAX_TOKENS, |tokens| tokens.get()));
    let generation = generations::generation(&item, max_tokens, &targets, report);
    let expect = expects::expect(&item.expect, max_tokens, report);
    let budget = protection::budget(&item.budget, report);
    let labels = labels::values(&raw.value.labels, of, context);
    let ladder_stop = loads::ladder_stop(&item, report);
    let protect = protection::protect(&item.protect, report);
    let (Some(name), Some(steps), Some(prompts)) = (name, steps, prompts) else {
        return Vec::new();
    };
    let (prompt, pair) = match prompts {
        Prompts::One(prompt) => (prompt, None),
        Prompts::Pair(Pair { cold, warm, at }) => (cold, Some((warm, at))),
    };
    let probe = Probe {
        name,
        targets,
        every,
        cron,
        calendar,
        jitter,
        steps,
        capacity,
        ladder_stop,
        settle: item.settle.value().map_or(SETTLE, |settle| settle.0),
        warmup: item.warmup.value().copied().unwrap_or(0),
        prompt,
        max_tokens,
        generation,
        timeouts,
        expect,
        budget,
        protect,
        labels,
    };
    let probes = match pair {
        None => vec![probe],
        Some((warm, at)) => pairs::pair(probe, warm, at, names, report),
    };
    for probe in &probes {
        let own = item.budget.given().map(|given| given.key);
        protection::fits(probe, of, raw.id, own, report);
    }
    probes
}

/// The probe with what it leaves out taken from `defaults`; of keys that exclude one another the probe's own stands.
fn inherit(own: &items::Probe, defaults: &items::Probe, of: &str, report: &Report<'_>) -> items::Probe {
    let at = |given: Option<crate::config::positions::NodeId>, one: &str, other: &str| {
        if let Some(key) = given {
            report.problem(key, format!("{of} has both `{one}` and `{other}`"), "remove one");
        }
    };
    let cron = own.cron.given().map(|cron| cron.key);
    at(cron.filter(|_| !own.every.is_absent()), "every", "cron");
    let ladder = own.ladder.given().map(|ladder| ladder.key);
    at(
        ladder.filter(|_| !own.concurrency.is_absent()),
        "concurrency",
        "ladder",
    );
    let duration = own.duration.given().map(|duration| duration.key);
    at(
        duration.filter(|_| !own.requests.is_absent()),
        "requests",
        "duration",
    );

    let mut item = own.merged(defaults);
    item.timeouts = own.timeouts.merged(&defaults.timeouts);
    item.expect = own.expect.merged(&defaults.expect);
    item.slo = own.slo.merged(&defaults.slo);
    item.prompt = prompts::inherit(&own.prompt, &defaults.prompt);
    if !own.every.is_absent() {
        item.cron = own.cron.clone();
    } else if !own.cron.is_absent() {
        item.every = Field::Absent;
    }
    let is_open = |arrival: &Field<items::Arrival>| {
        let kind = arrival.value().and_then(|arrival| arrival.kind.value());
        kind == Some(&ArrivalKind::Rate)
    };
    if is_open(&own.arrival) && own.concurrency.is_absent() {
        item.concurrency = Field::Absent;
    } else if own.arrival.is_absent() && is_open(&defaults.arrival) && !own.concurrency.is_absent() {
        item.arrival = Field::Absent;
    }
    if !own.concurrency.is_absent() {
        item.ladder = own.ladder.clone();
    } else if !own.ladder.is_absent() {
        item.concurrency = Field::Absent;
    }
    if !own.requests.is_absent() {
        item.duration = own.duration.clone();
    } else if !own.duration.is_absent() {
        item.requests = Field::Absent;
    }
    if !own.capacity.is_absent() {
        item.ladder = own.ladder.clone();
        item.concurrency = own.concurrency.clone();
    } else if !own.ladder.is_absent() || !own.concurrency.is_absent() {
        item.capacity = Field::Absent;
    }
    item
}

/// The targets that a probe asks: all, unless it names some.
fn asked(
    names: &Field<Vec<At<String>>>,
    of: &str,
    targets: &Targets<'_>,
    report: &Report<'_>,
) -> Vec<Arc<Target>> {
    let Some(given) = names.given() else {
        return targets.built.clone();
    };
    if report.is_empty_list(given.id) {
        report.problem(
            given.key,
            format!("{of} asks no target"),
            "name one, or remove `targets` to ask all",
        );
    }
    let mut seen = HashSet::new();
    let mut asked = Vec::new();
    for name in &given.value {
        let listed = targets.lists.iter().find(|(list, _)| *list == name.value);
        let is_target = targets.names.contains(&name.value.as_str());
        if is_target && listed.is_some() {
            let what = format!("{of} names {}, which is a target and a list", shown(&name.value));
            report.problem(name.id, what, "give one of them another name");
        } else if !is_target && listed.is_none() && !targets.may_be_more {
            let what = format!("{of} names target {}, which there is not", shown(&name.value));
            let lists = targets.lists.iter().map(|(list, _)| *list);
            let known: Vec<_> = targets.names.iter().copied().chain(lists).collect();
            let mend = match meant(&name.value, &known) {
                Some(target) => format!("did you mean `{target}`?"),
                None => format!("the targets are {}", list(&known)),
            };
            report.problem(name.id, what, mend);
        } else if !seen.insert(name.value.as_str()) {
            report.problem(
                name.id,
                format!("{of} names target {} twice", shown(&name.value)),
                "remove one",
            );
        }
        let is_meant = |target: &&Arc<Target>| {
            let target = target.name.as_str();
            target == name.value || listed.is_some_and(|(_, names)| names.contains(&target))
        };
        for target in targets.built.iter().filter(is_meant) {
            if !asked.contains(target) {
                asked.push(Arc::clone(target));
            }
        }
    }
    asked
}

/// What is given, and the defaults for the rest, shortened to what is given.
fn timeouts(raw: &Field<items::Timeouts>, of: &str, report: &Report<'_>) -> Timeouts {
    let no_timeouts = items::Timeouts::default();
    let raw = raw.value().unwrap_or(&no_timeouts);
    let usual = Timeouts::default();
    let given = |field: &Field<Wait>| field.value().map(|wait| wait.0);
    let total = given(&raw.total).unwrap_or_else(|| {
        let longest = [&raw.connect, &raw.first_token, &raw.stall]
            .into_iter()
            .filter_map(given)
            .max();
        usual.total.max(longest.unwrap_or_default())
    });
    let first_token = given(&raw.first_token).unwrap_or_else(|| {
        usual
            .first_token
            .max(given(&raw.connect).unwrap_or_default())
            .min(total)
    });
    let timeouts = Timeouts {
        connect: given(&raw.connect).unwrap_or(usual.connect.min(first_token)),
        first_token,
        stall: given(&raw.stall).unwrap_or(usual.stall.min(total)),
        total,
    };
    let order = [
        (
            "connect",
            &raw.connect,
            timeouts.connect,
            if raw.first_token.is_absent() {
                "total"
            } else {
                "first_token"
            },
            first_token,
        ),
        ("first_token", &raw.first_token, first_token, "total", total),
    ];
    for (name, field, shorter, other, longer) in order {
        if let (Some(given), true) = (field.given(), shorter > longer) {
            let [shorter, longer] = [shorter, longer].map(humantime::format_duration);
            let what = format!(
                "`timeouts` of {of}: `{name}` is {shorter}, but `{other}`, which contains it, is {longer}"
            );
            report.problem(
                given.id,
                what,
                format!("write at most `{longer}`, or raise `{other}`"),
            );
        }
    }
    timeouts
}
