//! What of the metrics is exposed: families by name, and their buckets.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{
    plan::{Exposition, FAMILIES, HISTOGRAMS},
    problem::{meant, shown},
    raw::{
        items,
        leaves::Amount,
        reading::{At, Field},
    },
    report::Report,
};

/// Each is a sample of every series at every scrape.
const MOST_BOUNDS: usize = 60;

pub(super) fn exposition(raw: &Field<items::Metrics>, report: &Report<'_>) -> Exposition {
    let Some(item) = raw.value() else {
        return Exposition::default();
    };
    let mut disable = BTreeSet::new();
    for family in item.disable.value().into_iter().flatten() {
        match known(&family.value, FAMILIES) {
            Ok(()) => {
                disable.insert(family.value.clone());
            }
            Err(mend) => {
                let what = format!("{} is {}, which is no family", family.thing, shown(&family.value));
                report.problem(family.id, what, mend);
            }
        }
    }
    let mut buckets = BTreeMap::new();
    for (family, given) in item.buckets.value().map_or(&[][..], |named| &named.0) {
        if let Err(mend) = known(family, HISTOGRAMS) {
            let what = format!("`buckets` names {}, which is no histogram", shown(family));
            report.problem(given.key, what, mend);
        } else if let Some(bounds) = bounds(given, report) {
            buckets.insert(family.clone(), bounds);
        }
    }
    Exposition {
        native_histograms: item.native_histograms.value().copied().unwrap_or_default(),
        disable,
        buckets,
    }
}

/// The error is the mend.
fn known(family: &str, families: &[&str]) -> Result<(), String> {
    if families.contains(&family) {
        return Ok(());
    }
    Err(match meant(family, families) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`llm-probe-exporter metrics` lists them".to_owned(),
    })
}

fn bounds(given: &At<Vec<At<Amount>>>, report: &Report<'_>) -> Option<Vec<f64>> {
    let bounds: Vec<_> = given.value.iter().map(|bound| bound.value.0).collect();
    let what = if bounds.is_empty() && report.is_empty_list(given.id) {
        "has no bounds".to_owned()
    } else if bounds.len() > MOST_BOUNDS {
        format!("has {} bounds", bounds.len())
    } else if let Some(first) = bounds.first().filter(|first| **first <= 0.0) {
        format!("begins with {first}")
    } else if let Some([low, high]) = bounds.array_windows().find(|[low, high]| low >= high) {
        format!("has {high} after {low}")
    } else {
        return Some(bounds);
    };
    let mend = format!(
        "write 1 to {MOST_BOUNDS} numbers of seconds, rising from above 0, such as `[0.1, 0.5, 1, 5]`; `+Inf` is implied"
    );
    report.problem(given.id, format!("{} {what}", given.thing), mend);
    None
}
