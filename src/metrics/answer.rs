//! What is exposed of a burst that somebody asked for.

use std::collections::BTreeSet;

use crate::{outcome::Skip, units::Seconds};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// Whether every burst of the round ran whole and met its objective.
    pub succeeded: bool,
    pub took: Seconds,
    /// Why bursts were not fired, or were cut short.
    pub refused: BTreeSet<Skip>,
}
