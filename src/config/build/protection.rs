//! What protects an endpoint: budgets, when a burst is cut short, and where a server says that it is busy.

use std::time::Duration;

use url::Url;

use super::require;
use crate::{
    backoff::Protect,
    budget::Budget,
    busy::Condition,
    config::{
        plan::{Busy, Probe, Step},
        positions::NodeId,
        problem::shown,
        raw::{
            items,
            reading::{At, Field},
        },
        report::Report,
    },
    load::{Arrival, Process, Volume},
};

pub(super) const PRICE: &str =
    "add `price: { input_per_million: …, output_per_million: … }` to the target, or remove `dollars`";

const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// `None` when none is given, or it cannot be built; its problems are reported.
pub(super) fn budget(field: &Field<items::Budget>, report: &Report<'_>) -> Option<Budget> {
    let given = field.given()?;
    let item = &given.value;
    require(&item.per, given, "per", "add `per: hour` or `per: day`", report);
    let limits = [&item.requests, &item.input_tokens, &item.output_tokens];
    if limits.iter().all(|limit| limit.is_absent()) && item.dollars.is_absent() {
        let what = format!("{} limits nothing", given.thing);
        let mend = "add `requests`, `input_tokens`, `output_tokens` or `dollars`, or remove it";
        report.problem(given.key, what, mend);
    }
    let dollars = item.dollars.given();
    if let Some(none) = dollars.filter(|dollars| dollars.value.0 <= 0.0) {
        report.problem(
            none.id,
            format!("{} is 0, so that nothing would be sent", none.thing),
            "write more, or remove the probe",
        );
    }
    Some(Budget {
        requests: item.requests.value().map(|limit| limit.get()),
        input_tokens: item.input_tokens.value().map(|limit| limit.get()),
        output_tokens: item.output_tokens.value().map(|limit| limit.get()),
        dollars: dollars.map(|dollars| dollars.value.0),
        per: *item.per.value()?,
    })
}

/// Whether one round of the probe, which messages call `of`, fits its own budget and those of its targets.
pub(super) fn fits(probe: &Probe, of: &str, place: NodeId, own: Option<NodeId>, report: &Report<'_>) {
    for target in &probe.targets {
        let of_target = target
            .budget
            .map(|budget| (budget, place, "its target's `budget`"));
        let own = probe
            .budget
            .zip(own)
            .map(|(budget, key)| (budget, key, "its `budget`"));
        for (budget, place, whose) in own.into_iter().chain(of_target) {
            // At a constant rate it is known how many they are.
            let is_open_ended = |step: &Step| {
                matches!(step.volume, Volume::Lasting(_)) && step.arrival != Arrival::Rate(Process::Constant)
            };
            if probe.steps.iter().any(|step| is_open_ended(step)) {
                let what =
                    format!("{of} sends for a `duration`, so that nobody knows whether a burst fits {whose}");
                report.problem(
                    place,
                    what,
                    "write `requests: …` in place of `duration`, or ask at a constant rate",
                );
                return;
            }
            if budget.dollars.is_some() && target.price.is_none() {
                let what = format!(
                    "{of} has a budget of dollars, but target `{}` has no `price`",
                    target.name
                );
                report.problem(place, what, PRICE);
                return;
            }
            let input = probe.prompt.most_tokens(probe.max_tokens);
            let most = probe.most(probe.requests_of_a_round(), input, target);
            if let Some(unit) = budget.exceeded_by(&most) {
                let what = format!(
                    "one burst of {of} may use {} {}, more than the {} of {whose} a{} {}",
                    unit.shown(most.get(unit)),
                    unit.as_str(),
                    unit.shown(budget.limit(unit).unwrap_or_default()),
                    if budget.per == crate::budget::Per::Hour {
                        "n"
                    } else {
                        ""
                    },
                    budget.per.as_str(),
                );
                report.problem(place, what, "raise the budget, or make the burst smaller");
                return;
            }
        }
    }
}

/// When a burst is cut short; what is left out is as by default.
pub(super) fn protect(field: &Field<items::Protect>, report: &Report<'_>) -> Option<Protect> {
    let usual = Protect::default();
    let limits = match field.value() {
        None => return Some(usual),
        Some(items::Protect::Off) => return None,
        Some(items::Protect::Limits(limits)) => limits,
    };
    if let Some(over) = limits.abort_over.given()
        && over.value.0.get() <= 0.0
    {
        let what = format!("{} is 0 %, which every burst reaches", over.thing);
        report.problem(over.id, what, "write more, such as `50%`");
    }
    Some(Protect {
        abort_over: limits.abort_over.value().map_or(usual.abort_over, |over| over.0),
        after: limits.after.value().map_or(usual.after, |after| after.get()),
    })
}

/// `None` when none is given, or it cannot be built; its problems are reported.
pub(super) fn busy(field: &Field<items::Busy>, report: &Report<'_>) -> Option<Busy> {
    let given = field.given()?;
    let item = &given.value;
    let add = "add the address of its metrics, such as `url: http://localhost:8000/metrics`";
    require(&item.url, given, "url", add, report);
    let (skip_when, abort_when) = (
        conditions(&item.skip_when, report),
        conditions(&item.abort_when, report),
    );
    if item.skip_when.is_absent() && item.abort_when.is_absent() {
        let what = format!("{} has no condition", given.thing);
        let mend = "add `skip_when: [\"vllm:num_requests_waiting > 5\"]` or `abort_when: […]`";
        report.problem(given.key, what, mend);
    }
    Some(Busy {
        url: url(item.url.given()?, "http://localhost:8000/metrics", report)?,
        skip_when,
        abort_when,
        timeout: item.timeout.value().map_or(BUSY_TIMEOUT, |wait| wait.0),
    })
}

fn conditions(field: &Field<Vec<At<String>>>, report: &Report<'_>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for text in field.value().into_iter().flatten() {
        match Condition::parse(&text.value) {
            Ok(condition) => conditions.push(condition),
            Err(what) => report.problem(
                text.id,
                format!("{} is {}, which {what}", text.thing, shown(&text.value)),
                "write it like `vllm:num_requests_waiting > 5` or `name{label=\"value\"} >= 0.95`",
            ),
        }
    }
    conditions
}

/// An address that is used as it is.
pub(super) fn url(given: &At<String>, like: &str, report: &Report<'_>) -> Option<Url> {
    let url = Url::parse(&given.value).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if url.is_none() {
        let what = format!("{} is no http or https URL without credentials", given.thing);
        report.problem(given.id, what, format!("write it like `{like}`"));
    }
    url
}
