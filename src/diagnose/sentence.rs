//! A diagnosis in one sentence, the same on the page, in the log and in the report.

use super::{Cause, Diagnosis, INFLATED, Inflation, Observed, Reference};
use crate::load::Load;

pub(super) fn of(load: Load, burst: &Observed, inflation: Inflation, diagnosis: &Diagnosis) -> String {
    let mut sentence = load.to_string();
    match burst.medians.ttft {
        Some(ttft) => sentence += &format!(": first token after {ttft}"),
        None => sentence += ": no first token",
    }
    if let Some((reference, ratio)) = diagnosis.compared_with.zip(inflation.ttft) {
        sentence += &compared(ratio, reference);
    }
    if let Some(ratio) = inflation.itl {
        sentence += "; ITL ";
        sentence += &match ratio {
            ratio if ratio >= INFLATED => format!("{} times as long", times(ratio)),
            ratio if ratio <= INFLATED.recip() => "shorter".to_owned(),
            _ => "unchanged".to_owned(),
        };
    }
    if let Some(cause) = in_words(burst, diagnosis) {
        sentence += &format!(": {cause}");
    }
    sentence += &remarks(diagnosis);
    sentence
}

fn compared(ratio: f64, reference: Reference) -> String {
    let whose = match reference {
        Reference::LowestStep(Load::Users(1)) => "the single user's".to_owned(),
        Reference::LowestStep(load) => format!("that of {load}"),
        Reference::Baseline => "the usual".to_owned(),
        Reference::ServedFirst => "that of the request served first".to_owned(),
    };
    if (INFLATED.recip()..INFLATED).contains(&ratio) {
        format!(", about {whose}")
    } else {
        format!(", {} times {whose}", times(ratio))
    }
}

fn in_words(burst: &Observed, diagnosis: &Diagnosis) -> Option<String> {
    Some(match diagnosis.cause {
        Cause::None if diagnosis.compared_with.is_none() => return None,
        Cause::None => "nothing slows it down".into(),
        Cause::Queue => "requests wait in the queue".into(),
        Cause::Decode => "generating the tokens takes longer".into(),
        Cause::Network if diagnosis.coalesced => "something on the way holds tokens back".into(),
        Cause::Network => "the way to the server takes longer".into(),
        Cause::Errors => {
            let failed = burst.failed.map(|failed| failed.to_string()).unwrap_or_default();
            format!("{failed} of the requests fail")
        }
    })
}

fn remarks(diagnosis: &Diagnosis) -> String {
    let mut remarks = String::new();
    match (diagnosis.slots, diagnosis.slots_at_least) {
        (Some(staircase), _) => {
            remarks += &format!(
                "; the server works on about {} at a time, {} each",
                staircase.slots, staircase.slot_seconds
            );
        }
        (None, Some(users)) => remarks += &format!("; the server works on at least {users} at a time"),
        (None, None) => {}
    }
    if let Some(tokens) = diagnosis.tokens_per_arrival.filter(|_| diagnosis.coalesced) {
        remarks += &format!("; {} tokens arrive at a time", times(tokens));
    }
    if let Some(spread) = diagnosis.replicas.filter(|spread| spread.unequal) {
        let worst = spread.ttft.unwrap_or(1.0).max(spread.itl.unwrap_or(1.0));
        remarks += &format!(
            "; of {} replicas the slowest takes {} times as long as the fastest",
            spread.replicas,
            times(worst)
        );
    }
    remarks
}

/// A ratio as people say it: 186, 2.3, 0.5.
fn times(ratio: f64) -> String {
    if ratio >= 9.95 {
        format!("{ratio:.0}")
    } else {
        format!("{ratio:.1}")
    }
}
