//! When a probe's bursts are due and may be fired: cron expression, windows, pauses.

use std::time::Duration;

use crate::{
    calendar::{Calendar, Days, Hours, Pause, Window, Zone},
    clock::unix_now,
    config::{
        problem::{meant, shown},
        raw::{
            items,
            reading::{At, Field},
        },
        report::Report,
    },
    cron::Cron,
};

const YEAR: f64 = 366.0 * 24.0 * 3600.0;

/// Openings are looked at over so many seconds: four weeks.
const WEEKS: f64 = 4.0 * 7.0 * 24.0 * 3600.0;

/// Occurrences that are compared for the shortest distance: as many as a day has at most.
const A_DAY: usize = 24 * 60;

pub(super) fn calendar(item: &items::Probe, of: &str, report: &Report<'_>) -> Calendar {
    let zone = item.timezone.given().map_or_else(Zone::default, |given| {
        Zone::named(&given.value).unwrap_or_else(|| {
            let names = Zone::names();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mend = match meant(&given.value, &names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "write an IANA name such as `Europe/Paris` or `UTC`".to_owned(),
            };
            let what = format!(
                "{} is {}, which is no time zone",
                given.thing,
                shown(&given.value)
            );
            report.problem(given.id, what, mend);
            Zone::default()
        })
    });
    let is_empty = |key: crate::config::positions::NodeId| report.is_empty_list(key);
    if let Some(windows) = item.windows.given().filter(|windows| is_empty(windows.id)) {
        let what = format!("`windows` of {of} is empty");
        report.problem(
            windows.key,
            what,
            "add one, or remove `windows` to fire at any time",
        );
    }
    let listed = |field: &Field<Vec<At<items::Window>>>| field.value().cloned().unwrap_or_default();
    Calendar {
        zone,
        windows: listed(&item.windows)
            .iter()
            .filter_map(|raw| window(raw, report))
            .collect(),
        pauses: item
            .pauses
            .value()
            .into_iter()
            .flatten()
            .filter_map(|raw| pause(raw, report))
            .collect(),
    }
}

fn window(raw: &At<items::Window>, report: &Report<'_>) -> Option<Window> {
    let item = &raw.value;
    if item.days.is_absent() && item.hours.is_absent() && !report.has_unknown_keys(raw.id) {
        let what = format!("{} has neither `days` nor `hours`", raw.thing);
        report.problem(raw.id, what, "write `{ days: Mon-Fri, hours: \"08:00-18:00\" }`");
    }
    let days = match item.days.given() {
        None => Days::ALL,
        Some(given) => Days::parse(&given.value)
            .map_err(|part| {
                let what = format!("{} has {}, which is no day", given.thing, shown(&part));
                let mend = "write days like `Mon-Fri` or `Sat, Sun`: Mon, Tue, Wed, Thu, Fri, Sat, Sun";
                report.problem(given.id, what, mend);
            })
            .ok()?,
    };
    let hours = match item.hours.given() {
        None => Hours::ALL,
        Some(given) => {
            let hours = Hours::parse(&given.value);
            let (what, mend) = match hours {
                Some(hours) if !hours.is_empty() => return Some(Window { days, hours }),
                Some(_) => ("ends when it begins", "write `00:00-24:00` for the whole day"),
                None => (
                    "is no span of a day",
                    "write it like `\"08:00-18:00\"`, or `\"22:00-06:00\"` over midnight",
                ),
            };
            report.problem(
                given.id,
                format!("{} is {}, which {what}", given.thing, shown(&given.value)),
                mend,
            );
            return None;
        }
    };
    Some(Window { days, hours })
}

fn pause(raw: &At<items::Pause>, report: &Report<'_>) -> Option<Pause> {
    let item = &raw.value;
    let wall = |field: &Field<String>, key: &str| {
        super::require(field, raw, key, &format!("add `{key}: 2026-12-24T00:00`"), report);
        let given = field.given()?;
        let read = Pause::parse(&given.value);
        if read.is_none() {
            let what = format!("{} is {}, which is no time", given.thing, shown(&given.value));
            let mend = "write what the clock on the wall of `timezone` shows, like `2026-12-24T08:00` or `2026-12-24`";
            report.problem(given.id, what, mend);
        }
        read
    };
    let (from, to) = (wall(&item.from, "from"), wall(&item.to, "to"));
    let pause = Pause { from: from?, to: to? };
    if pause.to <= pause.from {
        let what = format!("{} ends before it begins", raw.thing);
        report.problem(raw.id, what, "write a `to` after `from`");
        return None;
    }
    Some(pause)
}

pub(super) fn cron(item: &items::Probe, calendar: &Calendar, report: &Report<'_>) -> Option<Cron> {
    let given = item.cron.given()?;
    Cron::new(&given.value, calendar.zone.clone())
        .map_err(|what| {
            let mend = "write five fields, such as `\"*/5 8-18 * * Mon-Fri\"`: every five minutes, 8 to 18 h, on weekdays";
            report.problem(given.id, format!("{} {what}", given.thing), mend);
        })
        .ok()
}

/// The shortest distance of the occurrences of an expression. It is a minute at least, as there are no seconds.
pub(super) fn shortest_distance(cron: &Cron) -> Duration {
    let now = unix_now();
    let occurrences: Vec<f64> = std::iter::successors(cron.after(now), |unix| cron.after(*unix))
        .take(A_DAY)
        .take_while(|unix| *unix < now + 2.0 * YEAR)
        .collect();
    let distances = occurrences.windows(2).filter_map(|pair| match pair {
        [first, second] => Duration::try_from_secs_f64(second - first).ok(),
        _ => None,
    });
    distances.min().unwrap_or(Duration::from_hours(366 * 24))
}

/// Reports a probe whose bursts are never due where they may be fired.
pub(super) fn never_due(
    item: &items::Probe,
    every: Duration,
    cron: Option<&Cron>,
    calendar: &Calendar,
    of: &str,
    report: &Report<'_>,
) {
    let now = unix_now();
    let windows = item.windows.given().map(|windows| windows.key);
    let pauses = item.pauses.given().map(|pauses| pauses.key);
    let closing = windows.or(pauses);
    let by_cron = cron.zip(item.cron.given());
    let is_never = |cron: &Cron| cron.after(now).is_none_or(|first| first > now + YEAR);
    if let Some((_, given)) = by_cron.filter(|(cron, _)| is_never(cron)) {
        let what = format!(
            "{} is {}, which does not occur within a year",
            given.thing,
            shown(&given.value)
        );
        report.problem(given.id, what, "write days that there are each year");
        return;
    }
    let Some(closing) = closing else {
        return;
    };
    if calendar.next_open(now).is_none() {
        let what = format!("the windows of {of} do not open within a year");
        let mend = if pauses.is_some() {
            "widen `windows`, or shorten the `pauses`"
        } else {
            "widen `windows`"
        };
        report.problem(closing, what, mend);
        return;
    }
    if let Some((cron, given)) = by_cron {
        let is_ever = calendar
            .openings(now, now + YEAR)
            .any(|(from, to)| cron.after(from - 1.0).is_some_and(|due| due < to));
        if !is_ever {
            let what = format!("{} never occurs inside the windows of {of}", given.thing);
            report.problem(given.id, what, "change the expression, or widen `windows`");
        }
        return;
    }
    let longest = calendar
        .openings(now, now + WEEKS)
        .map(|(from, to)| to - from)
        .fold(0.0, f64::max);
    if windows.is_some() && longest > 0.0 && every.as_secs_f64() > longest {
        let longest = Duration::try_from_secs_f64(longest).unwrap_or_default();
        let [every, longest] = [every, longest].map(humantime::format_duration);
        let what = format!(
            "{of} fires every {every}, but its windows are open for {longest} at most: its bursts may all be due outside"
        );
        report.problem(
            closing,
            what,
            "write `cron: …` with times inside, shorten `every`, or widen `windows`",
        );
    }
}
