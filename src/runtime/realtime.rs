//! The threads that measure go before all others of the machine, where the process may: then a byte is stamped when it
//! comes, and not when a neighbour lets go of the core. With four busy loops on two cores the error of a TTFT was 8 ms
//! without and 0.4 ms with it.
//!
//! Such a thread that spins would keep its core from everybody else. So it has the lowest of the real-time priorities;
//! the kernel leaves others a twentieth of the time (unless `kernel.sched_rt_runtime_us` is turned off); and a thread
//! that has not waited for anything for [`SPINS`] makes all of them ordinary again, for as long as the process lives.
//! Should nobody get to do that, the kernel ends the process after [`KILLED`].
//!
//! A thread that one of them begins would be like it: all but the workers make themselves ordinary at their start.

use std::{io, time::Duration};

use rustix::process::{Resource, Rlimit, Signal, getpriority_process, getrlimit, setrlimit};
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadId, ThreadPriority, ThreadPriorityValue,
    ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};
use tokio::signal::unix::{SignalKind, signal};

use super::Runtimes;
use crate::config::plan::Realtime;

/// A worker that has a thousand streams to read may be busy for a second.
const SPINS: Duration = Duration::from_secs(2);
const KILLED: Duration = Duration::from_secs(10);

const FIFO: ThreadSchedulePolicy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
const ORDINARY: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);

/// Threads that live as long as their runtime.
#[derive(Clone, Debug)]
pub(super) struct Workers(pub(super) Vec<ThreadId>);

impl Workers {
    fn go_first(&self) -> Result<(), thread_priority::Error> {
        let each = self.0.iter();
        let lowest = ThreadPriority::Min;
        let done = each
            .copied()
            .try_for_each(|id| set_thread_priority_and_policy(id, lowest, FIFO));
        if done.is_err() {
            self.become_ordinary();
        }
        done
    }

    fn become_ordinary(&self) {
        for &worker in &self.0 {
            become_ordinary(worker);
        }
    }
}

/// Why the threads that measure do not go first.
#[derive(Debug, thiserror::Error)]
#[error(
    "`measure.realtime: require` cannot be: {0}; give the process CAP_SYS_NICE or a limit of real-time priorities \
     (systemd: LimitRTPRIO=1), or write `realtime: auto`"
)]
pub struct NotRealtime(String);

impl Runtimes {
    /// Lets the threads that measure go first, as far as it is wished for and may be, and says in the log whether they
    /// do; `in_force` is told that, and once more should it end.
    ///
    /// # Errors
    /// When it is required and may not be.
    pub fn measure_first(
        &self,
        wish: Realtime,
        in_force: impl Fn(bool) + Send + 'static,
    ) -> Result<(), NotRealtime> {
        if wish == Realtime::Off {
            return Ok(());
        }
        match self.go_first() {
            Ok(mut spins) => {
                in_force(true);
                tracing::info!("the threads that measure are real-time threads (SCHED_FIFO)");
                let workers = self.workers.clone();
                self.service.spawn(async move {
                    spins.recv().await;
                    workers.become_ordinary();
                    in_force(false);
                    tracing::error!(
                        seconds = SPINS.as_secs(),
                        "a thread that measures did not wait for anything for too long: none is a real-time thread any more"
                    );
                    // What comes until the workers have run as ordinary ones ends nobody.
                    while spins.recv().await.is_some() {}
                });
                Ok(())
            }
            Err(reason) if wish == Realtime::Require => Err(NotRealtime(reason)),
            Err(reason) => {
                tracing::info!(
                    reason,
                    "the threads that measure are ordinary ones: on a busy machine numbers are less exact; give the \
                     process CAP_SYS_NICE, or write `measure: {{ realtime: off }}`"
                );
                Ok(())
            }
        }
    }

    /// What tells of a thread that spins.
    fn go_first(&self) -> Result<tokio::signal::unix::Signal, String> {
        let _runtime = self.service.enter();
        // Before the limit is set: by default the signal ends the process.
        let spins = signal(SignalKind::from_raw(Signal::XCPU.as_raw()));
        let spins = spins.map_err(|error| format!("SIGXCPU: {error}"))?;
        limit_spinning().map_err(|error| format!("RLIMIT_RTTIME: {error}"))?;
        self.workers
            .go_first()
            .map_err(|error| format!("SCHED_FIFO: {}", in_words(&error)))?;
        Ok(spins)
    }
}

fn in_words(error: &thread_priority::Error) -> String {
    match error {
        thread_priority::Error::OS(code) => io::Error::from_raw_os_error(*code).to_string(),
        other => format!("{other:?}"),
    }
}

/// Keeps limits that are tighter already.
fn limit_spinning() -> io::Result<()> {
    let before = getrlimit(Resource::Rttime);
    let at_most = |limit: Option<u64>, ours: Duration| {
        let ours = u64::try_from(ours.as_micros()).unwrap_or(u64::MAX);
        Some(limit.map_or(ours, |limit| limit.min(ours)))
    };
    let limit = Rlimit {
        current: at_most(before.current, SPINS),
        maximum: at_most(before.maximum, KILLED),
    };
    Ok(setrlimit(Resource::Rttime, limit)?)
}

/// Makes this thread an ordinary one, where a real-time thread has begun it.
pub(super) fn become_ordinary_here() {
    if matches!(thread_schedule_policy(), Ok(ThreadSchedulePolicy::Realtime(_))) {
        become_ordinary(thread_native_id());
    }
}

/// Anybody may make a thread ordinary.
fn become_ordinary(thread: ThreadId) {
    let as_nice_as_before = getpriority_process(None).ok().and_then(priority_of);
    if let Some(priority) = as_nice_as_before
        && let Err(error) = set_thread_priority_and_policy(thread, priority, ORDINARY)
    {
        tracing::error!(error = in_words(&error), "a thread stays a real-time thread");
    }
}

/// What the crate `thread-priority` calls this niceness, from -20 to 19, which it sets together with the policy.
fn priority_of(nice: i32) -> Option<ThreadPriority> {
    let values = 0..=*ThreadPriorityValue::MAX;
    values
        .filter_map(|value| Some(ThreadPriority::Crossplatform(value.try_into().ok()?)))
        .find(|priority| priority.to_posix(ORDINARY) == Ok(nice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_niceness_stays_what_it_is() {
        for nice in -20..=19 {
            assert_eq!(priority_of(nice).unwrap().to_posix(ORDINARY), Ok(nice), "{nice}");
        }
    }
}
