//! Of a burst that somebody asked for, by the names that the blackbox exporter gives them.

use crate::{
    metrics::families::{Family, Since, answer},
    outcome::Skip,
};

pub(super) static FAMILIES: &[Family] = &[
    answer(
        "probe_success",
        &[],
        Since::Load,
        "Whether all of it was fired, and met its objective.",
        |of, rows| rows.one(f64::from(u8::from(of.succeeded))),
    ),
    answer(
        "probe_duration_seconds",
        &[],
        Since::Load,
        "How long it took, waiting for its turn and its places included.",
        |of, rows| rows.one(of.took.get()),
    ),
    answer(
        "probe_refused",
        &["reason"],
        Since::Known,
        "1 for each reason why it, or a part of it, was not fired or was cut short.",
        |of, rows| {
            for reason in &of.refused {
                rows.by(Skip::as_str(*reason), 1.0);
            }
        },
    ),
];
