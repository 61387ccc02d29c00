//! Whether this process makes progress, and whether it gets the CPU that it needs.
//!
//! It is stuck when the runtime that measures has made no progress for a minute: then a restart mends it, and nothing
//! else does. What a restart would not mend, an endpoint that is dead or a machine that is busy, is none of its
//! matter: whoever looks at the heartbeat counts only the time in which it could look itself, so that a process that
//! was stopped, or did not get the CPU, is not stuck. The runtime that serves needs no looking after: where that stands
//! still, nobody is answered and no watchdog is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{lag::Lag, systemd};

/// No progress for this long.
const STUCK: Duration = Duration::from_mins(1);

/// How often the heartbeat is looked at, and the most that counts of the time between two looks.
const LOOK: Duration = Duration::from_secs(1);
const LONG_LOOK: Duration = Duration::from_secs(2);

/// Starved: of a minute, the heartbeat was late for this long in all. It is over below the second.
const MEMORY: Duration = Duration::from_mins(1);
const STARVED: Duration = Duration::from_millis(600);
const FED: Duration = Duration::from_millis(300);

/// What the log, the page and `once` say.
pub const STARVED_IN_WORDS: &str = "the prober is starved: its numbers can't be trusted";

/// How this process is. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    lag: Lag,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    looked: Option<Instant>,
    beats: Option<u64>,
    /// For how long the heartbeat has stood still under our eyes.
    still: Duration,
    /// When was looked, and how late the heartbeat had been by then in all.
    late: VecDeque<(Instant, Duration)>,
    is_starved: bool,
}

impl Health {
    pub fn new(lag: Lag) -> Self {
        Self {
            lag,
            seen: Arc::default(),
        }
    }

    /// Looks for ever, and tells the service manager's watchdog that there is progress. Not on the runtime that
    /// measures.
    pub async fn keep_looking(self) {
        let every = systemd::watchdog().map_or(LOOK, |limit| LOOK.min(limit / 2));
        loop {
            self.look(Instant::now());
            if !self.is_stuck() {
                systemd::alive().await;
            }
            sleep(every).await;
        }
    }

    /// Whether only a restart can mend it.
    pub fn is_stuck(&self) -> bool {
        self.lock().still >= STUCK
    }

    /// Whether it gets so little CPU that its numbers are not to be believed.
    pub fn is_starved(&self) -> bool {
        self.lock().is_starved
    }

    fn look(&self, now: Instant) {
        let (beats, late) = (self.lag.beats(), self.lag.late());
        let mut seen = self.lock();
        let elapsed = seen
            .looked
            .replace(now)
            .map_or(Duration::ZERO, |before| now - before);
        if beats.is_none() || beats != seen.beats {
            seen.still = Duration::ZERO;
        } else {
            seen.still += elapsed.min(LONG_LOOK);
        }
        seen.beats = beats;

        seen.late.push_back((now, late));
        while seen.late.len() > 1 && seen.late.front().is_some_and(|(at, _)| *at + MEMORY < now) {
            seen.late.pop_front();
        }
        let before = seen.late.front().map_or(late, |(_, late)| *late);
        let of_a_minute = late.saturating_sub(before);
        let was_starved = seen.is_starved;
        seen.is_starved = of_a_minute >= if was_starved { FED } else { STARVED };
        let is_starved = seen.is_starved;
        drop(seen);
        let late_seconds = of_a_minute.as_secs_f64();
        match (was_starved, is_starved) {
            (false, true) => tracing::warn!(
                late_seconds,
                "{STARVED_IN_WORDS} (how late its timers were in the last minute)"
            ),
            (true, false) => tracing::info!(late_seconds, "the prober gets its CPU again"),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks every second for so long.
    fn look_for(health: &Health, now: &mut Instant, seconds: u32, mut each: impl FnMut(Instant)) {
        for _ in 0..seconds {
            *now += SECOND;
            each(*now);
            health.look(*now);
        }
    }

    #[test]
    fn a_minute_without_a_beat_is_stuck_and_one_beat_ends_that() {
        let lag = Lag::default();
        let health = Health::new(lag.clone());
        let mut now = Instant::now();
        look_for(&health, &mut now, 120, |_| {});
        assert!(!health.is_stuck(), "without a heartbeat nothing is known");
        lag.ran(now, now);
        look_for(&health, &mut now, 60, |_| {});
        assert!(!health.is_stuck());
        look_for(&health, &mut now, 1, |_| {});
        assert!(health.is_stuck());
        lag.ran(now, now);
        look_for(&health, &mut now, 1, |_| {});
        assert!(!health.is_stuck());
    }

    #[test]
    fn a_process_that_was_stopped_or_starved_itself_is_not_stuck() {
        let lag = Lag::default();
        let health = Health::new(lag.clone());
        let mut now = Instant::now();
        lag.ran(now, now);
        health.look(now);
        // A day in a frozen container, and looks that come half a minute late: nobody was there to see a beat.
        for gap in [SECOND * 86_400, SECOND * 30, SECOND * 30, SECOND * 30] {
            now += gap;
            health.look(now);
            assert!(!health.is_stuck());
        }
        lag.ran(now, now);
        look_for(&health, &mut now, 60, |_| {});
        assert!(!health.is_stuck());
    }

    #[test]
    fn a_heartbeat_that_is_late_for_a_hundredth_of_the_time_is_starved() {
        let lag = Lag::default();
        let health = Health::new(lag.clone());
        let mut now = Instant::now();
        let late = |by: u64| {
            let lag = lag.clone();
            move |now| lag.ran(now, now + Duration::from_millis(by))
        };
        // What is late by less than a timer's own grain is no matter, however often.
        look_for(&health, &mut now, 200, late(20));
        assert!(!health.is_starved());
        look_for(&health, &mut now, 11, late(50));
        assert!(!health.is_starved());
        look_for(&health, &mut now, 2, late(50));
        assert!(health.is_starved());
        look_for(&health, &mut now, 30, late(0));
        assert!(health.is_starved(), "it was, within the last minute");
        look_for(&health, &mut now, 35, late(0));
        assert!(!health.is_starved());
    }
}
