//! The engine at work in real time: one task runs its iterations, any number of requests wait for their tokens.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    counters::{Counters, Load},
    engine::{Engine, Id, Refusal},
    fault::Drift,
    pace::{Pacer, monotonic, nanos},
};

/// Iterations that are late by less are caught up with, so that the average pace is right. Beyond it the
/// schedule slips, as it would on a real machine, instead of tokens coming in a rush.
const CATCH_UP: Duration = Duration::from_millis(20);

/// The engine and those who wait for it. Clones share one engine.
#[derive(Clone, Debug)]
pub(super) struct Inference(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the engine when it is idle.
    work: Notify,
    ids: AtomicU64,
}

#[derive(Debug)]
struct State {
    engine: Engine,
    mailboxes: HashMap<Id, Arc<Mailbox>>,
    /// How much the schedule has slipped so far.
    slipped: Duration,
    drift: Option<Drift>,
}

/// What a request asks of the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub prompt_tokens: u64,
    /// Those at its beginning that need no work.
    pub cached: u64,
    pub output_tokens: u64,
}

/// Where a request finds its tokens: the engine only counts them here, so that a token costs no allocation.
#[derive(Debug, Default)]
struct Mailbox {
    tokens: AtomicU64,
    /// When the request got its slot, in nanoseconds.
    admitted: AtomicU64,
    arrived: Notify,
}

/// What `/metrics` shows.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub load: Load,
    pub counters: Counters,
    pub kv_capacity: u64,
    pub slipped: Duration,
}

impl Inference {
    pub(super) fn new(engine: Engine) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                engine,
                mailboxes: HashMap::new(),
                slipped: Duration::ZERO,
                drift: None,
            }),
            work: Notify::new(),
            ids: AtomicU64::new(1),
        }))
    }

    /// An id that was never given before.
    pub(super) fn next_id(&self) -> Id {
        Id(self.0.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Puts a request into the queue, as of `received`.
    pub(super) fn submit(&self, id: Id, job: Job, received: Duration) -> Result<Generation, Refusal> {
        let Job {
            prompt_tokens,
            cached,
            output_tokens,
        } = job;
        let mailbox = Arc::new(Mailbox::default());
        {
            let mut state = self.0.lock();
            state
                .engine
                .submit_cached(id, prompt_tokens, cached, output_tokens, received)?;
            state.mailboxes.insert(id, Arc::clone(&mailbox));
        }
        self.0.work.notify_one();
        Ok(Generation {
            id,
            shared: Arc::clone(&self.0),
            mailbox,
            taken: 0,
            total: output_tokens.max(1),
        })
    }

    /// How iterations get longer from now on.
    pub(super) fn set_drift(&self, drift: Option<Drift>) {
        self.0.lock().drift = drift;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.0.lock();
        Snapshot {
            load: state.engine.load(),
            counters: state.engine.counters().clone(),
            kv_capacity: state.engine.profile().kv_capacity,
            slipped: state.slipped,
        }
    }

    /// Runs the engine's iterations for ever. `Err` only when the timer fails.
    pub(super) async fn run(&self, mut pacer: Pacer) -> io::Result<()> {
        let mut now = monotonic();
        let mut emitted = Vec::new();
        loop {
            let Some(lasts) = self.begin(&mut now) else {
                self.0.work.notified().await;
                continue;
            };
            now += lasts;
            pacer.until(now).await?;
            let late = monotonic().saturating_sub(now);
            let slip = late.saturating_sub(CATCH_UP);
            now += slip;

            let mut state = self.0.lock();
            state.slipped += slip;
            let State {
                engine, mailboxes, ..
            } = &mut *state;
            engine.complete(now, &mut emitted);
            for token in &emitted {
                let Some(mailbox) = mailboxes.get(&token.id) else {
                    continue; // cancelled while the iteration ran
                };
                mailbox.admitted.store(nanos(token.admitted), Ordering::Relaxed);
                mailbox.tokens.store(token.index + 1, Ordering::Release);
                mailbox.arrived.notify_one();
                if token.last {
                    mailboxes.remove(&token.id);
                }
            }
        }
    }

    /// An engine that was idle begins when the oldest request came, not when this task woke up for it.
    fn begin(&self, now: &mut Duration) -> Option<Duration> {
        let mut state = self.0.lock();
        if state.engine.load().running == 0 {
            *now = (*now).max(state.engine.oldest_waiting()?);
        }
        let lasts = state.engine.begin(*now)?;
        Some(match state.drift {
            None => lasts,
            Some(drift) => lasts.mul_f64(drift.factor(*now)),
        })
    }
}

impl Shared {
    /// A panic cannot leave the state half changed in a way that matters to a simulation.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in the engine. Dropping it cancels what is left of it.
#[derive(Debug)]
pub(super) struct Generation {
    id: Id,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    taken: u64,
    total: u64,
}

impl Generation {
    /// The index of the next token, when it has come; `None` after the last. Safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Option<u64> {
        if self.taken == self.total {
            return None;
        }
        while self.mailbox.tokens.load(Ordering::Acquire) <= self.taken {
            self.mailbox.arrived.notified().await;
        }
        self.taken += 1;
        Some(self.taken - 1)
    }

    /// When the request got its slot, in nanoseconds of `CLOCK_MONOTONIC`; known from the first token on.
    pub(super) fn admitted(&self) -> u64 {
        self.mailbox.admitted.load(Ordering::Relaxed)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.mailbox.tokens.load(Ordering::Acquire) < self.total {
            let mut state = self.shared.lock();
            if state.mailboxes.remove(&self.id).is_some() {
                state.engine.cancel(self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::profile::Profile;

    const fn job(prompt_tokens: u64, output_tokens: u64) -> Job {
        Job {
            prompt_tokens,
            cached: 0,
            output_tokens,
        }
    }

    fn start(profile: Profile) -> Inference {
        let inference = Inference::new(Engine::new(profile, 1));
        let running = inference.clone();
        let pacer = Pacer::new().unwrap();
        tokio::spawn(async move { running.run(pacer).await });
        inference
    }

    #[tokio::test]
    async fn tokens_arrive_in_order_and_not_before_their_time() {
        let profile = Profile {
            jitter: 0.0,
            ..Profile::LAPTOP.faster(20.0)
        };
        let inference = start(profile);
        let received = monotonic();
        let mut generation = inference
            .submit(inference.next_id(), job(50, 5), received)
            .unwrap();
        let costs = profile.costs;
        let mut due = received + Duration::from_secs_f64(costs.admission + 50.0 * costs.prefill_token);
        for index in 0..5 {
            assert_eq!(generation.next().await, Some(index));
            assert!(monotonic() >= due);
            due += Duration::from_secs_f64(costs.step);
        }
        assert_eq!(generation.next().await, None);
        assert!(generation.admitted() >= nanos(received));
        assert_eq!(inference.snapshot().counters.finished, 1);
    }

    #[tokio::test]
    async fn dropping_a_generation_frees_its_slot() {
        let inference = start(Profile::LAPTOP.faster(20.0));
        let mut first = inference
            .submit(inference.next_id(), job(50, 10_000), monotonic())
            .unwrap();
        let mut second = inference
            .submit(inference.next_id(), job(50, 2), monotonic())
            .unwrap();
        assert_eq!(first.next().await, Some(0));
        assert_eq!(inference.snapshot().load.waiting, 1);
        drop(first);
        assert_eq!(second.next().await, Some(0));
        assert_eq!(second.next().await, Some(1));
        drop(second);
        let snapshot = inference.snapshot();
        assert_eq!(snapshot.load, Load::default());
        assert_eq!((snapshot.counters.aborted, snapshot.counters.finished), (1, 1));
    }
}
