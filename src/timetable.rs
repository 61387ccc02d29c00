//! How many bursts are due in a span of time. Pure: times are seconds since the Unix epoch.

use std::time::Duration;

use crate::{calendar::Calendar, cron::Cron};

/// When bursts of a probe are due, as far as it takes to count them.
#[derive(Clone, Debug)]
pub struct Timetable {
    pub every: Duration,
    /// In place of `every`, if given.
    pub cron: Option<Cron>,
    pub calendar: Calendar,
    /// How many exporters share them.
    pub replicas: u32,
}

impl Timetable {
    /// How many bursts of each replica are due from `from` until `until`, on average over where they begin.
    pub fn due(&self, from: f64, until: f64) -> f64 {
        let of_opening = |(from, to): (f64, f64)| match &self.cron {
            None => (to - from) / self.every.as_secs_f64(),
            Some(cron) => {
                let due = std::iter::successors(cron.after(from - 1.0), |due| cron.after(*due));
                due.take_while(|due| *due < to).count() as f64
            }
        };
        let of_all: f64 = self.calendar.openings(from, until).map(of_opening).sum();
        of_all / f64::from(self.replicas.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Zone;

    #[test]
    fn what_is_due_is_counted_inside_windows_and_shared_by_replicas() {
        const HOUR: f64 = 3600.0;
        let plain = Timetable {
            every: Duration::from_mins(5),
            cron: None,
            calendar: Calendar::default(),
            replicas: 1,
        };
        assert!((plain.due(0.0, HOUR) - 12.0).abs() < 1e-9);
        let shared = Timetable {
            replicas: 2,
            ..plain.clone()
        };
        assert!((shared.due(0.0, HOUR) - 6.0).abs() < 1e-9);
        let zone = Zone::named("UTC").unwrap();
        let cron = Timetable {
            cron: Some(Cron::new("*/20 * * * *", zone).unwrap()),
            ..plain
        };
        assert!((cron.due(0.0, HOUR) - 3.0).abs() < 1e-9);
        assert!((cron.due(1.0, HOUR) - 2.0).abs() < 1e-9);
    }
}
