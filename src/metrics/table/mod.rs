//! The one table of metric families, in the order of the documentation, in five parts.

mod bursts;
mod capacity;
mod diagnosis;
mod program;
mod requests;

use super::families::Family;

/// Every family.
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
