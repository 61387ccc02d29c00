//! How late this process is: the bound on its own error.
//!
//! A heartbeat on the measuring runtime waits for a timer through the same reactor that waits for sockets, so
//! what it is late is what a byte's stamp could have been late at that time. `start` and the stamp that ends a
//! measurement each may be off by that.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{io::unix::AsyncFd, time::Instant};

use crate::{measure::Measurement, slo::ErrorBounds, timeline::Timeline, units::Seconds};

/// Time between heartbeats.
const BEAT: Duration = Duration::from_millis(10);

/// Lateness that is not worth remembering; every stamp counts as uncertain by this much.
const FLOOR: Duration = Duration::from_micros(250);

/// Lateness that counts as too little CPU: twice this, at the start and at the first token, is 8 % of a limit of 500 ms.
const TOO_LATE: Duration = Duration::from_millis(20);

/// How far back spells of lateness are remembered, which is longer than a request may take by default.
const MEMORY: usize = 1 << 16;

/// A spell in which the measuring runtime was late.
#[derive(Clone, Copy, Debug)]
struct Spell {
    due: Instant,
    ran: Instant,
}

/// What the heartbeat has seen. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    seen: Arc<Mutex<Seen>>,
    pulse: Arc<Pulse>,
}

/// What others look at, without making the heartbeat wait for them.
#[derive(Debug, Default)]
struct Pulse {
    /// None yet, or no longer: 0.
    beats: AtomicU64,
    /// In all, in microseconds.
    late: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    spells: VecDeque<Spell>,
    /// When the next beat is due; `None` before the heartbeat runs.
    next: Option<Instant>,
}

impl Lag {
    /// Beats for ever, on the runtime that it is to watch. `on_beat` is given the lateness of each beat.
    ///
    /// # Errors
    /// When the kernel gives no timer. Then there is no heartbeat.
    pub async fn watch(self, on_beat: impl FnMut(Seconds)) -> io::Result<()> {
        let ended = self.beat(on_beat).await;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).next = None;
        self.pulse.beats.store(0, Ordering::Relaxed);
        ended
    }

    async fn beat(&self, mut on_beat: impl FnMut(Seconds)) -> io::Result<()> {
        let (timer, begun) = interval_timer()?;
        let mut next = begun + BEAT;
        loop {
            self.expect(next);
            let mut ready = timer.readable().await?;
            let mut expirations = [0; 8];
            match rustix::io::read(timer.get_ref(), &mut expirations) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let ran = Instant::now();
            ready.clear_ready();
            self.ran(next, ran);
            on_beat(Seconds::between(next, ran));
            // Beats that a stopped process missed belong to the one spell.
            let missed = u32::try_from(u64::from_ne_bytes(expirations)).unwrap_or(u32::MAX);
            next += BEAT * missed.max(1);
        }
    }

    fn expect(&self, next: Instant) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).next = Some(next);
    }

    /// The beat that was due at `due` ran.
    pub(crate) fn ran(&self, due: Instant, ran: Instant) {
        let late = ran.saturating_duration_since(due);
        self.pulse.beats.fetch_add(1, Ordering::Relaxed);
        if late > TOO_LATE {
            let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            self.pulse.late.fetch_add(micros, Ordering::Relaxed);
        }
        if late > FLOOR {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.spells.len() == MEMORY {
                seen.spells.pop_front();
            }
            seen.spells.push_back(Spell { due, ran });
        }
    }

    /// Beats so far; `None` while there is no heartbeat.
    pub fn beats(&self) -> Option<u64> {
        let beats = self.pulse.beats.load(Ordering::Relaxed);
        (beats > 0).then_some(beats)
    }

    /// For how long in all the heartbeat was too late.
    pub fn late(&self) -> Duration {
        Duration::from_micros(self.pulse.late.load(Ordering::Relaxed))
    }

    /// By how much our own lag may have lengthened each measurement of a request that ended just now.
    pub fn bounds(&self, timeline: &Timeline, measured: &Measurement) -> ErrorBounds {
        let Some(start) = timeline.start else {
            return ErrorBounds::default();
        };
        let now = Instant::now();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |instant: Option<Instant>| instant.map_or(Seconds::ZERO, |at| seen.late(at, at, now));
        let [start, connected, first] =
            [Some(start), timeline.connected.or(Some(start)), timeline.first].map(at);
        let last = at(timeline.last);
        ErrorBounds {
            ttft: start + first,
            ttft_after_connect: connected + first,
            ttfo: start + at(timeline.answer),
            itl: Seconds::new((first + last).get() / measured.intervals.max(1) as f64),
            gap: match timeline.first.zip(timeline.last) {
                Some((first, last)) => seen.late(first, last, now),
                None => Seconds::ZERO,
            },
            request: start + last,
        }
    }
}

impl Seen {
    /// The spell that is not over yet.
    fn overdue(&self, now: Instant) -> Option<Spell> {
        let due = self.next.filter(|&due| now > due)?;
        Some(Spell { due, ran: now })
    }

    /// The greatest lateness from `from` to `to`, a beat before and after included: a stamp and the heartbeat
    /// next to it may run in either order.
    fn late(&self, from: Instant, to: Instant, now: Instant) -> Seconds {
        let (from, to) = (from.checked_sub(BEAT).unwrap_or(from), to + BEAT);
        let overdue = self.overdue(now);
        // Spells follow one another, so both their ends are in order.
        let first = self.spells.partition_point(|spell| spell.ran < from);
        self.spells
            .range(first..)
            .take_while(|spell| spell.due <= to)
            .chain(overdue.as_ref().filter(|spell| spell.due <= to))
            .map(|spell| spell.ran - spell.due)
            .fold(FLOOR, Duration::max)
            .into()
    }
}

/// A timer that expires every [`BEAT`] from the instant that is returned with it.
fn interval_timer() -> io::Result<(AsyncFd<OwnedFd>, Instant)> {
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let beat = Timespec {
        tv_sec: 0,
        tv_nsec: BEAT.subsec_nanos().into(),
    };
    let begun = Instant::now();
    timerfd_settime(
        &timer,
        TimerfdTimerFlags::empty(),
        &Itimerspec {
            it_interval: beat,
            it_value: beat,
        },
    )?;
    #[expect(
        deprecated,
        reason = "an OwnedFd keeps its descriptor, which is what the unsafe successor asks for"
    )]
    let timer = AsyncFd::new(timer)?;
    Ok((timer, begun))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[tokio::test]
    async fn a_blocked_runtime_is_noticed() {
        let lag = Lag::default();
        let (beats, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let watching = tokio::spawn(lag.clone().watch(move |late| {
            beats.send(late).ok();
        }));
        seen.recv().await.unwrap();
        let before = Instant::now();
        // The test blocks the runtime on purpose.
        std::thread::sleep(ms(200));
        let blocked = before.elapsed();
        while seen.recv().await.unwrap().get() < 0.18 {}

        let mut record = Record::new(0, false, before);
        record.timeline.start = Some(before - ms(100));
        record.timeline.output(Instant::now(), true);
        let bounds = lag.bounds(&record.timeline, &Measurement::of(&record));
        assert!(bounds.ttft.get() >= 0.18, "{bounds:?} after {blocked:?}");
        watching.abort();
    }

    #[test]
    fn lateness_counts_where_a_stamp_is_and_not_between() {
        let t0 = Instant::now();
        let lag = Lag::default();
        lag.expect(t0 + Duration::from_hours(1));
        lag.ran(t0 + ms(500), t0 + ms(540));
        let mut record = Record::new(0, false, t0);
        record.timeline.start = Some(t0);
        record.timeline.output(t0 + ms(1000), true);
        record.timeline.output(t0 + ms(1100), true);
        let bounds = lag.bounds(&record.timeline, &Measurement::of(&record));
        assert_eq!(bounds.ttft, Seconds::from(FLOOR * 2));

        lag.ran(t0 + ms(995), t0 + ms(1005));
        let bounds = lag.bounds(&record.timeline, &Measurement::of(&record));
        assert_eq!(bounds.ttft, Seconds::from(FLOOR) + Seconds::from(ms(10)));
        assert_eq!(bounds.gap, Seconds::from(ms(10)));
    }

    #[test]
    fn a_heartbeat_that_is_overdue_counts_already() {
        let now = Instant::now();
        let lag = Lag::default();
        lag.expect(now - ms(300));
        let mut record = Record::new(0, false, now - ms(400));
        record.timeline.start = Some(now - ms(400));
        record.timeline.output(now, true);
        assert!(lag.bounds(&record.timeline, &Measurement::of(&record)).ttft.get() >= 0.3);
    }
}
