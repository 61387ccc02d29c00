//! The one table of metric families, in the order of the documentation, in five parts.

mod answer;
mod bursts;
mod capacity;
mod diagnosis;
mod program;
mod requests;

use super::families::Family;

/// Families of the answer to somebody who asks for a burst, beside those of the burst.
pub(super) fn of_an_answer() -> impl Iterator<Item = &'static Family> {
    answer::FAMILIES.iter()
}

/// Every family of /metrics.
pub fn table() -> impl Iterator<Item = &'static Family> {
    [
        requests::FAMILIES,
        bursts::FAMILIES,
        diagnosis::FAMILIES,
        capacity::FAMILIES,
        program::FAMILIES,
    ]
    .into_iter()
    .flatten()
}
