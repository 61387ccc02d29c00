//! How models are to generate: what a target can be told, and what a probe wants.

use std::sync::Arc;

use crate::{
    config::{
        plan::{Dialect, Generation, Reasoning, Target},
        problem::list,
        raw::{
            items,
            reading::{At, Field},
        },
        report::Report,
    },
    units::Tokens,
};

/// How the target is told whether to think, where that fits its API.
pub(super) fn reasoning(
    field: &Field<Reasoning>,
    api: Option<Dialect>,
    report: &Report<'_>,
) -> Option<Reasoning> {
    let given = field.given()?;
    let api = api?;
    if given.value.fits(api) {
        return Some(given.value);
    }
    let what = format!(
        "{} is `{}`, which `{}` has no field for",
        given.thing,
        given.value.as_str(),
        api.as_str()
    );
    let fitting: Vec<_> = Reasoning::ALL
        .iter()
        .filter(|reasoning| reasoning.fits(api))
        .map(|reasoning| reasoning.as_str())
        .collect();
    let mend = match fitting.as_slice() {
        [] => "remove it".to_owned(),
        fitting => format!("write one that fits: {}", list(fitting)),
    };
    report.problem(given.id, what, mend);
    None
}

/// What the probe wants; what one of its targets cannot be told is a problem.
pub(super) fn generation(
    item: &items::Probe,
    max_tokens: Tokens,
    targets: &[Arc<Target>],
    report: &Report<'_>,
) -> Generation {
    let min_tokens = item.min_tokens.given();
    if let Some(given) = min_tokens {
        if given.value.get() > max_tokens.0 {
            let what = format!(
                "{} is {}, more than `max_tokens`, which is {}",
                given.thing, given.value, max_tokens.0
            );
            report.problem(given.id, what, "lower it, or raise `max_tokens`");
        }
        unsupported(given, targets, Dialect::has_min_tokens, report);
    }
    let ignore_eos = item.ignore_eos.given().filter(|given| given.value);
    if let Some(given) = ignore_eos {
        unsupported(given, targets, Dialect::has_ignore_eos, report);
    }
    if let Some(given) = item.thinking.given()
        && !targets.is_empty()
        && targets.iter().all(|target| target.reasoning.is_none())
    {
        let what = format!(
            "{} does nothing: no target of it declares `reasoning`",
            given.thing
        );
        let mend = "say in the target how it is told, such as `reasoning: chat_template`, or remove it";
        report.problem(given.key, what, mend);
    }
    Generation {
        min_tokens: min_tokens.map(|given| Tokens(given.value.get())),
        ignore_eos: ignore_eos.is_some(),
        thinking: item.thinking.value().copied().unwrap_or_default(),
    }
}

fn unsupported<T>(given: &At<T>, targets: &[Arc<Target>], has: fn(Dialect) -> bool, report: &Report<'_>) {
    if let Some(target) = targets.iter().find(|target| !has(target.api)) {
        let what = format!(
            "{} cannot be asked of target `{}`: `{}` has no field for it",
            given.thing,
            target.name,
            target.api.as_str()
        );
        let mend = "remove it, or name only `targets` of another API";
        report.problem(given.key, what, mend);
    }
}
