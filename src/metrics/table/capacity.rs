//! Of the last search for the capacity; see [`crate::capacity`]. Only probes that search have these.

use crate::{
    capacity::{Capacity, End},
    load::{Load, Rate},
    metrics::{
        collector::Reading,
        exposition::Rows,
        families::{Family, Since, gauge},
    },
    units::Ratio,
};

/// NaN without a search that says something.
fn of_last(reading: &Reading, rows: &mut Rows<'_>, value: impl FnOnce(&Capacity) -> Option<f64>) {
    if reading.numbers.plan.probe.capacity.is_some() {
        rows.one(reading.search.as_deref().and_then(value).unwrap_or(f64::NAN));
    }
}

/// The load, where those that are searched are of the kind that `amount` has a number for.
fn load(
    reading: &Reading,
    rows: &mut Rows<'_>,
    amount: fn(Load) -> Option<f64>,
    of: fn(&Capacity) -> Option<Load>,
    otherwise: f64,
) {
    if amount(reading.numbers.plan.step.load).is_some() {
        of_last(reading, rows, |capacity| match of(capacity) {
            Some(load) => amount(load),
            None => Some(otherwise),
        });
    }
}

fn users(load: Load) -> Option<f64> {
    load.concurrency().map(f64::from)
}

fn per_second(load: Load) -> Option<f64> {
    load.rate().map(Rate::per_second)
}

pub(super) static FAMILIES: &[Family] = &[
    gauge(
        "llm_probe_capacity_concurrency",
        &[],
        Since::Search,
        "The highest number of users at which goodput met the objective in the last search; 0 where not even the lowest did.",
        |of, rows| load(of, rows, users, |capacity| capacity.meets, 0.0),
    ),
    gauge(
        "llm_probe_capacity_requests_per_second",
        &[],
        Since::Search,
        "The highest rate at which goodput met the objective in the last search; 0 where not even the lowest did.",
        |of, rows| load(of, rows, per_second, |capacity| capacity.meets, 0.0),
    ),
    gauge(
        "llm_probe_capacity_missed_concurrency",
        &[],
        Since::Search,
        "The lowest number of users at which goodput missed the objective in the last search; +Inf where none did.",
        |of, rows| load(of, rows, users, |capacity| capacity.misses, f64::INFINITY),
    ),
    gauge(
        "llm_probe_capacity_missed_requests_per_second",
        &[],
        Since::Search,
        "The lowest rate at which goodput missed the objective in the last search; +Inf where none did.",
        |of, rows| load(of, rows, per_second, |capacity| capacity.misses, f64::INFINITY),
    ),
    gauge(
        "llm_probe_capacity_found",
        &[],
        Since::Search,
        "1 where the last search came as close to the capacity as it was to; 0 where it ended before: the capacity lies between the met and the missed.",
        |of, rows| {
            of_last(of, rows, |capacity| {
                Some(f64::from(u8::from(capacity.ended == End::Found)))
            });
        },
    ),
    gauge(
        "llm_probe_capacity_confidence_ratio",
        &[],
        Since::Search,
        "The share of the bursts that agreed on whether their load meets the objective: that of the highest load that met or of the lowest that missed, whichever is less.",
        |of, rows| of_last(of, rows, |capacity| capacity.confidence.map(Ratio::get)),
    ),
];
