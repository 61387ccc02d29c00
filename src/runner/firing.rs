//! When a probe fires at a target: follows its schedule, and the kill switch.

use std::sync::Arc;

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

use super::{Runner, What, waits::Waits};
use crate::{
    clock::unix_now,
    outcome::Skip,
    pause::Holds,
    rhythm::phase,
    schedule::{Due, Now, Schedule, Step, Timing},
};

/// The schedule of a probe at a target. It outlives the task that follows it, which may die of a defect: what comes due
/// until another one goes on is skipped, and counted.
#[derive(Clone, Debug, Default)]
pub struct Armed(Arc<Mutex<Option<Schedule>>>);

impl Runner {
    /// Fires bursts for as long as it is let. With `at_once` the first one is due when the schedule is armed. A schedule
    /// that is armed already goes on.
    pub async fn keep_firing(self: Arc<Self>, at_once: bool, armed: Armed) {
        let mut armed = armed.0.lock().await;
        let schedule =
            armed.get_or_insert_with(|| Schedule::new(self.timing(), now(), at_once, fastrand::f64()));
        let mut announced = None;
        let mut paused = self.pause.watch();
        // Why due times passed of which nothing was told when they came.
        let mut missed_by = Skip::Late;
        loop {
            let holds = paused.borrow_and_update().is_any();
            let step = schedule.step(now(), holds, missed_by, fastrand::f64());
            self.announce(schedule, now(), &mut announced);
            match step {
                Step::Wait(until) => tokio::select! {
                    biased;
                    () = self.drain.cancelled() => return,
                    _ = paused.changed() => {}
                    () = sleep_until(until) => {}
                },
                Step::Fire(due) => {
                    missed_by = self.fire(due, schedule, &mut announced).await;
                    if self.drain.is_cancelled() {
                        return;
                    }
                }
                step => self.told(step),
            }
        }
    }

    fn timing(&self) -> Timing {
        let probe = &self.probe;
        Timing {
            every: probe.every,
            jitter: probe.jitter,
            cron: probe.cron.clone(),
            calendar: probe.calendar.clone(),
            replica: self.replica,
            phase: phase(&probe.name, &self.target.name, probe.every),
        }
    }

    /// Tells what the schedule does beside firing and waiting.
    fn told(&self, step: Step) {
        match step {
            Step::Open => self.tell_all(|| What::Armed),
            Step::Close(skip) => self.tell_all(|| What::Disarmed(skip)),
            Step::Skip(skip, bursts) => self.skip_round(skip, bursts),
            Step::Fire(_) | Step::Wait(_) => {}
        }
    }

    /// Fires a round that is due, unless it waits too long for its turn or somebody holds it back, and lets the
    /// schedule go on meanwhile. Says for what the next ones missed their time, if they did.
    async fn fire(&self, due: Due, schedule: &mut Schedule, announced: &mut Option<Announced>) -> Skip {
        // The file may have come since it was looked for last.
        self.pause.look(&self.blocking).await;
        let cancel = self.abort.child_token();
        let turn = match self.turn(Some(due.at + self.probe.every), &cancel).await {
            Ok(_) if self.pause.is_on() => {
                self.skip_round(Skip::Paused, 1);
                return Skip::Paused;
            }
            // It may have waited for its turn until its window closed.
            Ok(_) if !self.probe.calendar.is_open(unix_now()) => {
                self.skip_round(Skip::Window, 1);
                return Skip::Window;
            }
            Ok(turn) => turn,
            Err(skip) => {
                self.skip_round(skip, 1);
                return skip;
            }
        };
        self.announce(schedule, now(), announced);
        let waits = Waits::since(due.at);
        let mut paused = self.pause.watch();
        let mut round = std::pin::pin!(self.round(due.at, turn, Some(&waits), &cancel));
        loop {
            let holds = paused.borrow_and_update().is_any();
            if holds {
                // Requests that are dropped close their connections at once.
                cancel.cancel();
            }
            // A burst that is due finds the last one running by the endpoint's doing only if that one
            // would still be running had it not waited for its turn and its places.
            let now = now();
            let waited = waits.so_far();
            let until = match schedule.step(now.before(waited), holds, Skip::Late, fastrand::f64()) {
                Step::Wait(until) => until + waited,
                Step::Fire(_) => {
                    // Nothing is due any more in a drain.
                    if !self.drain.is_cancelled() {
                        self.skip_round(Skip::Overlap, 1);
                    }
                    now.instant
                }
                step => {
                    if !self.drain.is_cancelled() {
                        self.told(step);
                    }
                    now.instant
                }
            };
            self.announce(schedule, now.before(waited), announced);
            tokio::select! {
                biased;
                () = &mut round => break,
                () = self.drain.cancelled() => {
                    let mut paused = self.pause.watch();
                    tokio::select! {
                        biased;
                        () = round.as_mut() => return Skip::Drain,
                        // A kill switch kills in a drain, too.
                        _ = paused.wait_for(Holds::is_any) => {}
                    }
                    cancel.cancel();
                    round.await;
                    return Skip::Drain;
                }
                _ = paused.changed() => {}
                () = sleep_until(until) => {}
            }
        }
        if waits.so_far() >= self.probe.every {
            waits.reason()
        } else {
            Skip::Late
        }
    }

    /// Tells when the next burst is due and which interval is in force, where that has changed.
    fn announce(&self, schedule: &Schedule, now: Now, announced: &mut Option<Announced>) {
        let next = Announced {
            burst: schedule.next_number(),
            is_paused: self.pause.is_on(),
        };
        if *announced == Some(next) {
            return;
        }
        *announced = Some(next);
        let due = schedule.next_fired(now, next.is_paused);
        let interval = schedule.interval(now);
        self.tell_all(|| What::NextDue(due, interval));
    }
}

/// The clocks now.
fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix: unix_now(),
    }
}

/// Of what the next due time was told last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Announced {
    burst: Option<u64>,
    is_paused: bool,
}
