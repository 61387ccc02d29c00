//! What of the metrics is exposed, and how.

use std::collections::{BTreeMap, BTreeSet};

/// By default: everything, in the usual buckets, without native histograms. It holds until the end of the process:
/// a family has one layout for all its series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    pub native_histograms: bool,
    /// Families that are left out, of [`FAMILIES`].
    pub disable: BTreeSet<String>,
    /// Upper bounds in seconds by family, of [`HISTOGRAMS`]: rising, above 0, without `+Inf`.
    pub buckets: BTreeMap<String, Vec<f64>>,
}
