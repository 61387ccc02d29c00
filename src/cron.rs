//! Cron expressions of five fields: when they occur by the wall clock of a time zone.
//!
//! Pure: a time is passed in as seconds since the Unix epoch. Where a clock is turned forward, an expression with
//! a fixed hour occurs as soon as the missing hour is over; where it is turned back, it occurs once.

use std::sync::OnceLock;

use croner::parser::{CronParser, Seconds, Year};
use jiff::{Zoned, civil::Date};

use crate::calendar::{Zone, minute_of_day};

const FIELDS: [&str; 5] = ["minute", "hour", "day of the month", "month", "day of the week"];

/// Occurrences are numbered from the first of these years to the last.
const NUMBERED_YEARS: (i16, i16) = (2020, 2070);

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    zone: Zone,
    parsed: croner::Cron,
    numbering: OnceLock<Numbering>,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.zone) == (&other.text, &other.zone)
    }
}

impl Cron {
    /// The error says what is wrong with which field.
    pub fn new(text: &str, zone: Zone) -> Result<Self, String> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let parsed = parser.parse(&text).map_err(|_| complaint(&text, parser))?;
        Ok(Self {
            text,
            zone,
            parsed,
            numbering: OnceLock::new(),
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first occurrence after `unix`; `None` when there is none for thousands of years.
    pub fn after(&self, unix: f64) -> Option<f64> {
        let found = self.parsed.find_next_occurrence(&self.zone.zoned(unix), false);
        found.ok().as_ref().map(seconds)
    }

    /// The last occurrence that is not after `unix`.
    pub fn not_after(&self, unix: f64) -> Option<f64> {
        let found = self.parsed.find_previous_occurrence(&self.zone.zoned(unix), true);
        found.ok().as_ref().map(seconds)
    }

    /// Numbers the occurrences: successive ones get successive numbers, the same on every machine. What counts
    /// is what the clock on the wall shows: an hour that it shows twice repeats its numbers.
    pub fn number(&self, unix: f64) -> i64 {
        let numbering = self.numbering.get_or_init(|| Numbering::of(&self.parsed));
        let local = self.zone.local(unix);
        let days = numbering.days.partition_point(|day| *day < local.date());
        let times = numbering
            .minutes
            .partition_point(|minute| *minute < minute_of_day(local));
        i64::try_from(days * numbering.minutes.len() + times).unwrap_or(i64::MAX)
    }
}

fn seconds(zoned: &Zoned) -> f64 {
    zoned.timestamp().as_second() as f64
}

/// What is wrong with an expression.
fn complaint(text: &str, parser: CronParser) -> String {
    let fields: Vec<_> = text.split(' ').collect();
    if text.starts_with('@') {
        return "is no expression that there is".to_owned();
    }
    if fields.len() != FIELDS.len() || text.is_empty() {
        let count = if text.is_empty() { 0 } else { fields.len() };
        return format!(
            "has {count} fields and not five: minute, hour, day of the month, month, day of the week"
        );
    }
    for (at, (field, name)) in fields.iter().zip(FIELDS).enumerate() {
        let mut alone = ["*"; FIELDS.len()];
        if let Some(place) = alone.get_mut(at) {
            *place = field;
        }
        if parser.parse(&alone.join(" ")).is_err() {
            return format!("has `{field}` as its {name}, which is none");
        }
    }
    "is no cron expression".to_owned()
}

/// On which days and at which minutes of them an expression occurs.
#[derive(Clone, Debug)]
struct Numbering {
    days: Vec<Date>,
    minutes: Vec<u16>,
}

impl Numbering {
    fn of(parsed: &croner::Cron) -> Self {
        let pattern = &parsed.pattern;
        let hours = (0..24_u16).filter(|hour| pattern.hour_match((*hour).into()).unwrap_or(false));
        let of_hour = |hour| {
            let minutes =
                (0..60_u16).filter(|minute| pattern.minute_match((*minute).into()).unwrap_or(false));
            minutes.map(move |minute| hour * 60 + minute)
        };
        let minutes: Vec<u16> = hours.flat_map(of_hour).collect();
        let first = i8::try_from(minutes.first().copied().unwrap_or_default() / 60).unwrap_or_default();
        let of_first = i8::try_from(minutes.first().copied().unwrap_or_default() % 60).unwrap_or_default();
        let (from, to) = NUMBERED_YEARS;
        let days = Date::constant(from, 1, 1)
            .series(jiff::Span::new().days(1))
            .take_while(|day| day.year() <= to)
            .filter(|day| {
                let local = day.at(first, of_first, 0, 0);
                parsed.is_time_matching(&local).unwrap_or(false)
            })
            .collect();
        Self { days, minutes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::tests::{at, paris};

    fn occurrences(text: &str, from: &str, count: usize) -> Vec<String> {
        let cron = Cron::new(text, paris()).unwrap();
        let mut unix = at(from);
        let mut next = || {
            unix = cron.after(unix)?;
            assert_eq!(cron.not_after(unix), Some(unix));
            Some(paris().zoned(unix).strftime("%a %d %H:%M%:z").to_string())
        };
        (0..count).map_while(|_| next()).collect()
    }

    #[test]
    fn it_occurs_when_the_clock_on_the_wall_says_so() {
        assert_eq!(
            occurrences("*/5 8-18 * * Mon-Fri", "2026-11-27T18:45+01:00", 4),
            [
                "Fri 27 18:50+01:00",
                "Fri 27 18:55+01:00",
                "Mon 30 08:00+01:00",
                "Mon 30 08:05+01:00"
            ]
        );
        assert_eq!(
            occurrences("0 9 * * *", "2026-03-28T00:00+01:00", 3),
            ["Sat 28 09:00+01:00", "Sun 29 09:00+02:00", "Mon 30 09:00+02:00"]
        );
    }

    #[test]
    fn clocks_that_are_turned() {
        // Spring: 02:30 is not there.
        assert_eq!(
            occurrences("30 2 * * *", "2026-03-28T12:00+01:00", 2),
            ["Sun 29 03:00+02:00", "Mon 30 02:30+02:00"]
        );
        assert_eq!(
            occurrences("*/30 * * * *", "2026-03-29T01:00+01:00", 3),
            ["Sun 29 01:30+01:00", "Sun 29 03:00+02:00", "Sun 29 03:30+02:00"]
        );
        // Autumn: 02:30 is there twice.
        assert_eq!(
            occurrences("30 2 * * *", "2026-10-24T12:00+02:00", 2),
            ["Sun 25 02:30+02:00", "Mon 26 02:30+01:00"]
        );
        assert_eq!(
            occurrences("*/30 * * * *", "2026-10-25T01:30+02:00", 5),
            [
                "Sun 25 02:00+02:00",
                "Sun 25 02:30+02:00",
                "Sun 25 02:00+01:00",
                "Sun 25 02:30+01:00",
                "Sun 25 03:00+01:00",
            ]
        );
    }

    #[test]
    fn successive_occurrences_have_successive_numbers() {
        for text in [
            "*/5 8-18 * * Mon-Fri",
            "0 9 * * *",
            "17 */7 1,15 * *",
            "0 0 1 1 *",
            "30 12 * * Fri#1",
        ] {
            let cron = Cron::new(text, paris()).unwrap();
            let mut unix = at("2026-04-01T00:00Z");
            let mut last = cron.after(unix).map(|unix| cron.number(unix)).unwrap() - 1;
            for _ in 0..500 {
                let Some(next) = cron.after(unix).filter(|next| *next < at("2060-01-01T00:00Z")) else {
                    break;
                };
                let turned = paris().zoned(next).offset() != paris().zoned(unix).offset();
                let number = cron.number(next);
                assert!(number == last + 1 || turned, "{text}: {number} after {last}");
                (unix, last) = (next, number);
            }
        }
    }

    #[test]
    fn what_never_occurs() {
        assert_eq!(occurrences("0 0 30 2 *", "2026-01-01T00:00Z", 1), [""; 0]);
    }

    #[test]
    fn complaints_name_the_field() {
        let complaint = |text| Cron::new(text, Zone::default()).unwrap_err();
        assert_eq!(complaint("*/5 25 * * *"), "has `25` as its hour, which is none");
        assert_eq!(complaint("61 * * * *"), "has `61` as its minute, which is none");
        assert_eq!(
            complaint("* * * * Funday"),
            "has `Funday` as its day of the week, which is none"
        );
        assert_eq!(
            complaint("* * 0 * *"),
            "has `0` as its day of the month, which is none"
        );
        assert!(complaint("* * * *").starts_with("has 4 fields and not five"));
        assert!(complaint("0 * * * * *").starts_with("has 6 fields"));
        assert!(complaint("").starts_with("has 0 fields"));
        assert!(Cron::new("@daily", Zone::default()).is_ok());
    }
}
