//! What several pages say in the same way.

use std::time::{Duration, UNIX_EPOCH};

use maud::{Markup, html};

use crate::units::Seconds;

/// Whether an instant lies in the past or in the future.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Ago,
    In,
}

/// How long ago, or in how long, as of `now`; a script keeps it right without asking.
pub(super) fn when(unix: f64, way: Way, now: f64) -> Markup {
    let (class, text) = match way {
        Way::Ago => ("ago", format!("{} ago", span(now - unix))),
        Way::In if unix <= now => ("in", "now".to_owned()),
        Way::In => ("in", format!("in {}", span(unix - now))),
    };
    html! { time class=(class) datetime=(time_of_day(unix)) title=(time_of_day(unix)) data-unix=(format!("{unix:.3}")) { (text) } }
}

/// UTC, to the second.
pub(super) fn time_of_day(unix: f64) -> String {
    let since = Duration::try_from_secs_f64(unix).unwrap_or_default();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// A span of time to the second.
pub(super) fn span(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
    humantime::format_duration(seconds).to_string()
}

/// A measurement, or a dash where it is not known.
pub(super) fn measured(value: Option<Seconds>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}
