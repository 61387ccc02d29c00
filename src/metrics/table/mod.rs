//! The one table of metric families, in the order of the documentation, in four parts.

mod bursts;
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
        program::FAMILIES,
    ]
    .into_iter()
    .flatten()
}
