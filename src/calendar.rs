//! When bursts may be fired at all: windows of the week and pauses, by the wall clock of a time zone.
//!
//! Pure: a time is passed in as seconds since the Unix epoch. What counts is what a clock on the wall shows, so
//! that 08:00 stays 08:00 in summer and winter; an hour that the clock shows twice is inside a window twice.

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};

/// Whether it opens at all is asked about this many days.
const HORIZON_DAYS: i64 = 366;

const DAY_MINUTES: u16 = 24 * 60;

/// A time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Zone {
    /// The zone of this IANA name.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// The IANA names that there are.
    pub fn names() -> Vec<String> {
        jiff::tz::db().available().map(|name| name.to_string()).collect()
    }

    pub(crate) fn zoned(&self, unix: f64) -> jiff::Zoned {
        timestamp(unix).to_zoned(self.0.clone())
    }

    /// What a clock on the wall shows.
    pub(crate) fn local(&self, unix: f64) -> DateTime {
        self.0.to_datetime(timestamp(unix))
    }

    /// When a clock on the wall shows this: twice where it is turned back, never where it is turned forward.
    fn instants(&self, local: DateTime) -> impl Iterator<Item = f64> {
        let offsets = match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
            AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
            AmbiguousOffset::Gap { .. } => [None, None],
        };
        let instants = offsets.into_iter().flatten();
        instants.filter_map(move |offset| Some(offset.to_timestamp(local).ok()?.as_second() as f64))
    }

    /// When the clock is turned on this day, if it is.
    fn turns(&self, day: Date) -> Option<f64> {
        let midnight = |day: Date| self.0.to_timestamp(day.at(0, 0, 0, 0)).ok();
        let (from, to) = (midnight(day)?, midnight(day.tomorrow().ok()?)?);
        let turn = self.0.following(from).next()?.timestamp();
        (turn < to).then(|| turn.as_second() as f64)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a time of day that no clock shows is clamped"
)]
fn timestamp(unix: f64) -> Timestamp {
    Timestamp::from_second(unix.floor() as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Days of the week, from Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days([bool; 7]);

const DAY_NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Days {
    pub const ALL: Self = Self([true; 7]);

    /// `Mon`, `Mon-Fri`, `Sat, Sun` and the like; a range may pass the end of the week. The error is the part
    /// that is no day.
    pub fn parse(text: &str) -> Result<Self, String> {
        let day = |name: &str| {
            let name = name.trim();
            let known = DAY_NAMES.iter().position(|day| day.eq_ignore_ascii_case(name));
            known.ok_or_else(|| name.to_owned())
        };
        let mut days = [false; 7];
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (day(from)?, day(to)?);
            let length = (to + 7 - from) % 7;
            for at in from..=from + length {
                if let Some(day) = days.get_mut(at % 7) {
                    *day = true;
                }
            }
        }
        Ok(Self(days))
    }

    fn contains(self, day: Weekday) -> bool {
        let at = usize::try_from(day.to_monday_zero_offset()).unwrap_or_default();
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// A span of the day, in minutes since midnight; it passes midnight where `to` is not after `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    to: u16,
}

impl Hours {
    pub const ALL: Self = Self {
        from: 0,
        to: DAY_MINUTES,
    };

    /// `08:00-18:00`, `22:00-06:00`, `00:00-24:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let minutes = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = |text: &str| text.parse::<u16>().ok().filter(|_| is_number(text));
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            let sum = hours * 60 + minutes;
            (minutes < 60 && sum <= DAY_MINUTES).then_some(sum)
        };
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minutes(from)?, minutes(to)?);
        (from < DAY_MINUTES).then_some(Self { from, to })
    }

    /// Whether nothing is inside: it ends when it begins.
    pub const fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// A window of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins.
    pub days: Days,
    pub hours: Hours,
}

impl Window {
    fn contains(self, local: DateTime) -> bool {
        let Hours { from, to } = self.hours;
        let minute = minute_of_day(local);
        let is_day = self.days.contains(local.date().weekday());
        if from < to {
            return is_day && (from..to).contains(&minute);
        }
        let began_yesterday = self.days.contains(local.date().weekday().previous());
        (is_day && minute >= from) || (began_yesterday && minute < to)
    }
}

pub(crate) fn minute_of_day(local: DateTime) -> u16 {
    let part = |number: i8| u16::try_from(number).unwrap_or_default();
    part(local.hour()) * 60 + part(local.minute())
}

/// From one time on the wall to another, which is no longer in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub from: DateTime,
    pub to: DateTime,
}

impl Pause {
    /// A time on the wall: `2026-12-24T08:00`, or `2026-12-24` for the beginning of the day.
    pub fn parse(text: &str) -> Option<DateTime> {
        let text = text.trim();
        let is_plain = text.chars().all(|c| c.is_ascii_digit() || "-:T".contains(c));
        text.parse().ok().filter(|_| is_plain)
    }
}

/// When bursts may be fired: inside any window (always, if there is none) and outside every pause.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calendar {
    pub zone: Zone,
    pub windows: Vec<Window>,
    pub pauses: Vec<Pause>,
}

impl Calendar {
    pub fn is_always_open(&self) -> bool {
        self.windows.is_empty() && self.pauses.is_empty()
    }

    pub fn is_open(&self, unix: f64) -> bool {
        if self.is_always_open() {
            return true;
        }
        let local = self.zone.local(unix);
        let inside = self.windows.is_empty() || self.windows.iter().any(|window| window.contains(local));
        let paused = |pause: &Pause| pause.from <= local && local < pause.to;
        inside && !self.pauses.iter().any(paused)
    }

    /// When it opens or closes next; `None` where it does neither within a year.
    pub fn next_change(&self, unix: f64) -> Option<f64> {
        if self.is_always_open() {
            return None;
        }
        let open = self.is_open(unix);
        let today = self.zone.local(unix).date();
        (-1..=HORIZON_DAYS).find_map(|ahead| {
            let day = today.checked_add(ahead.days()).ok()?;
            let changes = |at: &f64| *at > unix && self.is_open(*at) != open;
            self.boundaries(day).into_iter().find(changes)
        })
    }

    /// When it is open next: now, if it is.
    pub fn next_open(&self, unix: f64) -> Option<f64> {
        if self.is_open(unix) {
            Some(unix)
        } else {
            self.next_change(unix)
        }
    }

    /// From when to when it is open, from `unix` until `until`.
    pub fn openings(&self, unix: f64, until: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
        let mut at = Some(unix);
        std::iter::from_fn(move || {
            let from = self.next_open(at?).filter(|from| *from < until)?;
            at = self.next_change(from);
            Some((from, at.unwrap_or(until).min(until)))
        })
    }

    /// Where it may open or close on a day, in order.
    fn boundaries(&self, day: Date) -> Vec<f64> {
        let minutes = |minutes: u16| {
            let midnight = day.at(0, 0, 0, 0);
            midnight.checked_add(i64::from(minutes).minutes()).ok()
        };
        let of_windows = self
            .windows
            .iter()
            .flat_map(|window| [window.hours.from, window.hours.to])
            .filter_map(minutes);
        let of_pauses = self.pauses.iter().flat_map(|pause| [pause.from, pause.to]);
        let mut boundaries: Vec<f64> = of_windows
            .chain(of_pauses.filter(|local| local.date() == day))
            .flat_map(|local| self.zone.instants(local))
            .chain(self.zone.turns(day))
            .collect();
        boundaries.sort_unstable_by(f64::total_cmp);
        boundaries
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `2026-03-27T08:00+01:00[Europe/Paris]` and the like, in seconds since the epoch.
    pub(crate) fn at(text: &str) -> f64 {
        text.parse::<Timestamp>().unwrap().as_second() as f64
    }

    pub(crate) fn paris() -> Zone {
        Zone::named("Europe/Paris").unwrap()
    }

    pub(crate) fn window(days: &str, hours: &str) -> Window {
        Window {
            days: Days::parse(days).unwrap(),
            hours: Hours::parse(hours).unwrap(),
        }
    }

    fn pause(from: &str, to: &str) -> Pause {
        let [from, to] = [from, to].map(|text| Pause::parse(text).unwrap());
        Pause { from, to }
    }

    fn calendar(windows: &[Window], pauses: &[Pause]) -> Calendar {
        Calendar {
            zone: paris(),
            windows: windows.to_vec(),
            pauses: pauses.to_vec(),
        }
    }

    fn openings(calendar: &Calendar, from: &str, until: &str) -> Vec<(String, String)> {
        let shown = |unix: f64| {
            let local = calendar.zone.zoned(unix);
            local.strftime("%d %H:%M%:z").to_string()
        };
        calendar
            .openings(at(from), at(until))
            .map(|(from, to)| (shown(from), shown(to)))
            .collect()
    }

    #[track_caller]
    fn check(calendar: &Calendar, from: &str, until: &str, expected: &[(&str, &str)]) {
        let found = openings(calendar, from, until);
        let found: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn days_and_hours_are_read() {
        let days = |text| Days::parse(text).map(|days| days.0.map(u8::from));
        assert_eq!(days("Mon-Fri"), Ok([1, 1, 1, 1, 1, 0, 0]));
        assert_eq!(days("sat,SUN"), Ok([0, 0, 0, 0, 0, 1, 1]));
        assert_eq!(days("Fri-Mon, Wed"), Ok([1, 0, 1, 0, 1, 1, 1]));
        assert_eq!(days("Mon-Mon"), Ok([1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(days("Mon-Freitag"), Err("Freitag".into()));
        assert_eq!(days(""), Err(String::new()));
        let hours = |text| Hours::parse(text).map(|hours| (hours.from, hours.to));
        assert_eq!(hours("08:00-18:30"), Some((480, 1110)));
        assert_eq!(hours("22:00 - 06:00"), Some((1320, 360)));
        assert_eq!(hours("00:00-24:00"), Some((0, 1440)));
        for wrong in [
            "8-18",
            "08:00",
            "08:60-09:00",
            "24:00-01:00",
            "08:00-24:01",
            "-",
            "+8:00-09:00",
        ] {
            assert_eq!(hours(wrong), None, "{wrong}");
        }
        assert!(Pause::parse("2026-12-24").is_some());
        assert!(Pause::parse("2026-12-24T08:30").is_some());
        for wrong in [
            "24.12.2026",
            "2026-13-01",
            "2026-12-24T08:30Z",
            "2026-12-24T08:30+01:00",
        ] {
            assert_eq!(Pause::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn it_is_open_inside_any_window_and_outside_every_pause() {
        let office = calendar(
            &[window("Mon-Fri", "08:00-18:00"), window("Sat", "10:00-12:00")],
            &[pause("2026-11-26", "2026-11-27T09:30")],
        );
        check(
            &office,
            "2026-11-24T12:00+01:00",
            "2026-12-01T09:00+01:00",
            &[
                ("24 12:00+01:00", "24 18:00+01:00"),
                ("25 08:00+01:00", "25 18:00+01:00"),
                ("27 09:30+01:00", "27 18:00+01:00"),
                ("28 10:00+01:00", "28 12:00+01:00"),
                ("30 08:00+01:00", "30 18:00+01:00"),
                ("01 08:00+01:00", "01 09:00+01:00"),
            ],
        );
        assert!(office.is_open(at("2026-11-24T17:59:59+01:00")));
        assert!(!office.is_open(at("2026-11-24T18:00:00+01:00")));
    }

    #[test]
    fn windows_that_touch_or_overlap_are_one() {
        let touching = calendar(
            &[
                window("Mon", "08:00-12:00"),
                window("Mon", "11:00-13:00"),
                window("Mon", "13:00-14:00"),
            ],
            &[],
        );
        check(
            &touching,
            "2026-11-23T00:00+01:00",
            "2026-11-29T00:00+01:00",
            &[("23 08:00+01:00", "23 14:00+01:00")],
        );
    }

    #[test]
    fn hours_may_pass_midnight() {
        let night = calendar(&[window("Fri", "22:00-06:00")], &[]);
        check(
            &night,
            "2026-11-23T00:00+01:00",
            "2026-12-01T00:00+01:00",
            &[("27 22:00+01:00", "28 06:00+01:00")],
        );
        assert!(
            !night.is_open(at("2026-11-27T05:00+01:00")),
            "it begins on Friday"
        );
    }

    #[test]
    fn clocks_that_are_turned_keep_the_hours_of_the_wall() {
        let office = calendar(&[window("Mon-Sun", "08:00-18:00")], &[]);
        check(
            &office,
            "2026-03-28T00:00+01:00",
            "2026-03-30T00:00+02:00",
            &[
                ("28 08:00+01:00", "28 18:00+01:00"),
                ("29 08:00+02:00", "29 18:00+02:00"),
            ],
        );
        // Spring: 02:00 to 03:00 is not there. A window in it does not open, one that reaches into it is cut.
        let gap = calendar(&[window("Sun", "02:10-02:50")], &[]);
        check(&gap, "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00", &[]);
        let into = calendar(&[window("Sun", "01:30-02:30")], &[]);
        check(
            &into,
            "2026-03-29T00:00+01:00",
            "2026-03-30T00:00+02:00",
            &[("29 01:30+01:00", "29 03:00+02:00")],
        );
        let out_of = calendar(&[window("Sun", "02:30-04:00")], &[]);
        check(
            &out_of,
            "2026-03-29T00:00+01:00",
            "2026-03-30T00:00+02:00",
            &[("29 03:00+02:00", "29 04:00+02:00")],
        );
        // Autumn: 02:00 to 03:00 is there twice.
        let fold = calendar(&[window("Sun", "02:10-02:50")], &[]);
        check(
            &fold,
            "2026-10-25T00:00+02:00",
            "2026-10-26T00:00+01:00",
            &[
                ("25 02:10+02:00", "25 02:50+02:00"),
                ("25 02:10+01:00", "25 02:50+01:00"),
            ],
        );
        let whole = calendar(&[window("Sun", "01:00-04:00")], &[]);
        check(
            &whole,
            "2026-10-25T00:00+02:00",
            "2026-10-26T00:00+01:00",
            &[("25 01:00+02:00", "25 04:00+01:00")],
        );
    }

    #[test]
    fn the_change_that_is_found_is_the_next_one() {
        let calendars = [
            calendar(
                &[window("Mon-Fri", "08:00-18:00")],
                &[pause("2026-10-22T12:00", "2026-10-25T02:30")],
            ),
            calendar(
                &[window("Sat-Mon", "23:30-02:15"), window("Wed", "00:00-24:00")],
                &[],
            ),
        ];
        for calendar in &calendars {
            for (from, until) in [
                ("2026-10-20T00:00Z", "2026-10-28T00:00Z"),
                ("2026-03-26T00:00Z", "2026-04-02T00:00Z"),
            ] {
                let (mut minute, until) = (at(from), at(until));
                let mut change = calendar.next_change(minute);
                let mut open = calendar.is_open(minute);
                while minute < until {
                    minute += 60.0;
                    let changed = calendar.is_open(minute) != open;
                    assert_eq!(changed, Some(minute) == change, "{}", calendar.zone.zoned(minute));
                    if changed {
                        open = !open;
                        change = calendar.next_change(minute);
                    }
                }
            }
        }
    }

    #[test]
    fn what_never_opens_says_so() {
        let never = calendar(
            &[window("Mon", "08:00-09:00")],
            &[pause("2020-01-01", "2100-01-01")],
        );
        assert_eq!(never.next_open(at("2026-11-24T00:00Z")), None);
        assert_eq!(Calendar::default().next_change(at("2026-11-24T00:00Z")), None);
        assert!(Calendar::default().is_open(0.0));
    }

    #[test]
    fn zones_are_in_the_binary() {
        assert!(Zone::named("Europe/Pariss").is_none());
        assert!(Zone::names().iter().any(|name| name == "America/New_York"));
        assert_eq!(Zone::default(), Zone::named("UTC").unwrap());
    }
}
