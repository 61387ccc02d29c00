//! Objectives: what a series is judged by.
//!
//! A step of a ladder takes what its own `slo` leaves out from that of its probe, key by key. A step above the
//! lowest that has no `slo` of its own is judged by the probe's and alerts nobody: that fifty users miss the limits
//! of one is information, not a page.

use crate::{
    config::{
        plan::{Alert, Slo, Timeouts, TtftFrom, Withheld},
        raw::{
            items,
            leaves::Wait,
            reading::{At, Field},
        },
        report::Report,
    },
    outcome::Failure,
    units::Ratio,
};

/// What one step is judged by.
pub(super) fn slo(
    of_probe: &Field<items::Slo>,
    of_step: &Field<items::Slo>,
    is_lowest: bool,
    report: &Report<'_>,
) -> Slo {
    let raw = of_step.merged(of_probe);
    let Some(given) = raw.given() else {
        return Slo::default();
    };
    let raw = &given.value;
    let usual = Slo::default();
    let limit = |field: &Field<Wait>| field.value().map(|wait| wait.0);
    let own_alert = raw.alert.value().copied().unwrap_or(Alert::Page);
    if let (Some(from), true) = (raw.ttft_from.given(), raw.ttft.is_absent()) {
        report.problem(
            from.key,
            format!("{} says nothing without `ttft`", from.thing),
            "add `ttft`, or remove it",
        );
    }
    Slo {
        ttft: limit(&raw.ttft),
        ttft_from: raw.ttft_from.value().copied().unwrap_or(TtftFrom::Start),
        ttfo: limit(&raw.ttfo),
        itl: limit(&raw.itl),
        gap: limit(&raw.gap),
        request: limit(&raw.request),
        objective: objective(raw, report).unwrap_or(usual.objective),
        alert: if is_lowest || !of_step.is_absent() {
            own_alert
        } else {
            Alert::None
        },
        excuse: raw.excuse.value().map_or(usual.excuse, |excuse| excused(excuse)),
        withheld: raw.withheld.value().copied().unwrap_or(Withheld::Missed),
    }
}

fn excused(excuse: &[At<Failure>]) -> Vec<Failure> {
    let mut failures: Vec<Failure> = excuse.iter().map(|failure| failure.value).collect();
    failures.sort_unstable();
    failures.dedup();
    failures
}

fn objective(raw: &items::Slo, report: &Report<'_>) -> Option<Ratio> {
    let given = raw.objective.given()?;
    let share = given.value.0;
    if share.get() <= 0.0 {
        report.problem(
            given.id,
            format!("{} is 0 %, which is always met", given.thing),
            "write more, such as `99%`",
        );
    } else if share.get() >= 1.0 {
        let what = format!(
            "{} is 100 %, which leaves no budget of errors to alert on",
            given.thing
        );
        report.problem(given.id, what, "write less, such as `99.9%`");
    }
    Some(share)
}

/// Limits that no success can miss, and limits that nothing is measured for.
pub(super) fn warn_of_unreachable(item: &items::Probe, timeouts: &Timeouts, report: &Report<'_>) {
    let steps = item
        .ladder
        .value()
        .into_iter()
        .flatten()
        .map(|step| &step.value.slo);
    for slo in std::iter::once(&item.slo).chain(steps).filter_map(Field::value) {
        for (field, deadline, name) in [
            (&slo.ttft, timeouts.first_token, "first_token"),
            (&slo.gap, timeouts.stall, "stall"),
            (&slo.request, timeouts.total, "total"),
        ] {
            if let Some(limit) = field.given().filter(|limit| limit.value.0 > deadline) {
                let deadline = humantime::format_duration(deadline);
                let what = format!(
                    "{} is longer than the deadline `timeouts.{name}`, {deadline}",
                    limit.thing
                );
                report.warning(limit.id, what, "lower the limit, or raise the deadline");
            }
        }
        let one_token = item.max_tokens.value().is_some_and(|tokens| tokens.get() == 1);
        for limit in [&slo.itl, &slo.gap]
            .into_iter()
            .filter_map(Field::given)
            .filter(|_| one_token)
        {
            let what = format!("{} is never judged, as `max_tokens` is 1", limit.thing);
            report.warning(limit.id, what, "raise `max_tokens`, or remove the limit");
        }
    }
}
