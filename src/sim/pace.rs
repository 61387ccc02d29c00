//! Time for the simulated server: nanoseconds of `CLOCK_MONOTONIC`, which processes on one machine share, and
//! a timer that is finer than tokio's, which ticks in milliseconds.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// `CLOCK_MONOTONIC` now. Another process on this machine that reads the same clock reads the same time.
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // The kernel counts up from the boot and keeps the nanoseconds below 10⁹.
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// [`monotonic`] in nanoseconds, as the instants of `/sim/requests` are given.
pub fn monotonic_nanos() -> u64 {
    nanos(monotonic())
}

/// Whole nanoseconds; enough for 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Waits for absolute instants, so that lateness at one does not shift the next.
#[derive(Debug)]
pub(super) struct Pacer {
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    /// Within a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that may change their descriptor; an OwnedFd does not"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer })
    }

    /// Returns when [`monotonic`] has reached `at`. Gives others their turn also when that is in the past.
    pub(super) async fn until(&mut self, at: Duration) -> io::Result<()> {
        if at <= monotonic() {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: never,
            it_value: Timespec {
                tv_sec: at.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: at.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?));
            match read {
                Ok(result) => return result.map(|_| ()),
                Err(_not_yet) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pace_does_not_drift() {
        let mut pacer = Pacer::new().unwrap();
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = monotonic();
            for step in 1..=200 {
                let due = start + Duration::from_micros(250) * step;
                pacer.until(due).await.unwrap();
                assert!(monotonic() >= due, "never early");
            }
            best = best.min(monotonic().saturating_sub(start));
        }
        // Two hundred waits of 250 µs, each rounded up to a millisecond, would be 200 ms and more.
        assert!(best < Duration::from_millis(150), "{best:?}");
    }

    #[tokio::test]
    async fn a_wait_that_was_dropped_does_not_disturb_the_next() {
        let mut pacer = Pacer::new().unwrap();
        let soon = monotonic() + Duration::from_millis(300);
        let dropped = tokio::time::timeout(Duration::from_millis(1), pacer.until(soon)).await;
        assert!(dropped.is_err());
        tokio::time::sleep(Duration::from_millis(310)).await;
        let later = monotonic() + Duration::from_millis(5);
        pacer.until(later).await.unwrap();
        assert!(monotonic() >= later);
    }
}
