//! A diagnosis in one sentence, the same on the page, in the log and in the report.

use super::{Cause, Diagnosis, INFLATED, Inflation, Observed, Reference};
use crate::load::Load;

pub(super) fn of(load: Load, burst: &Observed, inflation: Inflation, diagnosis: &Diagnosis) -> String {
    let first = match burst.medians.ttft {
        Some(ttft) => format!("{load}: first token after {ttft}"),
        None => format!("{load}: no first token"),
    };
    let compared = diagnosis.compared_with.zip(inflation.ttft);
    [
        Some(first),
        compared.map(|(reference, ratio)| against(reference, ratio)),
        inflation.itl.map(between_tokens),
        in_words(burst, diagnosis).map(|cause| format!(": {cause}")),
        slots(diagnosis),
        clumps(diagnosis),
        replicas(diagnosis),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn against(reference: Reference, ratio: f64) -> String {
    let whose = match reference {
        Reference::LowestStep(Load::Users(1)) => "the single user's".to_owned(),
        Reference::LowestStep(load) => format!("that of {load}"),
        Reference::Baseline => "the usual".to_owned(),
        Reference::ServedFirst => "that of the request served first".to_owned(),
    };
    if is_about_the_same(ratio) {
        format!(", about {whose}")
    } else {
        format!(", {} times {whose}", times(ratio))
    }
}

fn between_tokens(ratio: f64) -> String {
    if is_about_the_same(ratio) {
        "; ITL unchanged".to_owned()
    } else if ratio > 1.0 {
        format!("; ITL {} times as long", times(ratio))
    } else {
        "; ITL shorter".to_owned()
    }
}

fn in_words(burst: &Observed, diagnosis: &Diagnosis) -> Option<String> {
    Some(match diagnosis.cause {
        Cause::None => {
            diagnosis.compared_with?;
            "nothing slows it down".into()
        }
        Cause::Queue => "requests wait in the queue".into(),
        Cause::Decode => "generating the tokens takes longer".into(),
        Cause::Network if diagnosis.held_back => "something on the way holds tokens back".into(),
        Cause::Network => "the way to the server takes longer".into(),
        Cause::Errors => format!("{} of the requests fail", burst.failed?),
    })
}

fn slots(diagnosis: &Diagnosis) -> Option<String> {
    if let Some(staircase) = diagnosis.slots {
        let (slots, seconds) = (staircase.slots, staircase.slot_seconds);
        return Some(format!(
            "; the server works on about {slots} at a time, {seconds} each"
        ));
    }
    let users = diagnosis.slots_at_least?;
    Some(format!("; the server works on at least {users} at a time"))
}

fn clumps(diagnosis: &Diagnosis) -> Option<String> {
    let tokens = diagnosis.tokens_per_arrival.filter(|_| diagnosis.coalesced)?;
    Some(format!("; {} tokens arrive at a time", times(tokens)))
}

fn replicas(diagnosis: &Diagnosis) -> Option<String> {
    let spread = diagnosis.replicas.filter(|spread| spread.unequal)?;
    let worst = spread.ttft.unwrap_or(1.0).max(spread.itl.unwrap_or(1.0));
    Some(format!(
        "; of {} replicas the slowest takes {} times as long as the fastest",
        spread.replicas,
        times(worst)
    ))
}

fn is_about_the_same(ratio: f64) -> bool {
    ratio < INFLATED && ratio > INFLATED.recip()
}

/// A ratio as people say it: 186, 2.3, 0.5.
fn times(ratio: f64) -> String {
    if ratio >= 9.95 {
        format!("{ratio:.0}")
    } else {
        format!("{ratio:.1}")
    }
}
