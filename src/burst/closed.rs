//! Closed loops: each user waits for an answer before it asks again, turn by turn and conversation by conversation.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep, sleep_until},
};

use super::{Ready, Shared, begun};
use crate::{load::Volume, outcome::Outcome, prompt::Conversation, record::Record};

/// What the users of a burst share.
pub(super) struct Loop {
    volume: Volume,
    /// Requests sent.
    pub(super) started: AtomicU32,
    /// Requests that were sent, or that a conversation under way is still to send.
    rationed: AtomicU32,
    /// Conversations begun in this burst.
    conversations: AtomicU32,
}

impl Loop {
    /// The loop of a burst that sends so much, begun by so many users.
    pub(super) fn new(volume: Volume, first: u32) -> Self {
        Self {
            volume,
            started: AtomicU32::new(first),
            rationed: AtomicU32::new(0),
            conversations: AtomicU32::new(first),
        }
    }

    /// Up to `wanted` of the requests that are nobody's yet.
    fn take(&self, wanted: u32) -> u32 {
        let most = self.volume.requests().unwrap_or(u32::MAX);
        let taken = |rationed: u32| wanted.min(most.saturating_sub(rationed));
        let before = self
            .rationed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rationed| {
                Some(rationed + taken(rationed))
            });
        before.map_or(0, taken)
    }
}

/// The requests that a conversation may still send. No more conversations begin in a burst of so many requests than
/// it can bring to their end, so that each burst has as many of each turn; what a conversation that fails leaves goes
/// back.
pub(super) struct Ration {
    shared: Arc<Shared>,
    left: u32,
}

impl Ration {
    /// Of up to `wanted` requests; `None` when no request is left.
    fn new(shared: &Arc<Shared>, wanted: u32) -> Option<Self> {
        let left = shared.closed.take(wanted);
        (left > 0).then(|| Self {
            shared: Arc::clone(shared),
            left,
        })
    }

    /// For user `number` of the `first`, who all begin at once and get the same share where there are fewer requests
    /// than their conversations have turns.
    pub(super) fn of_user(number: u32, first: u32, shared: &Arc<Shared>, turns: u32) -> Option<Self> {
        let share = shared.volume.requests().map_or(turns, |requests| {
            requests / first + u32::from(number < requests % first)
        });
        let mut ration = Self::new(shared, turns.min(share))?;
        // The one that is ready.
        ration.left -= 1;
        Some(ration)
    }
}

impl Drop for Ration {
    fn drop(&mut self) {
        self.shared
            .closed
            .rationed
            .fetch_sub(self.left, Ordering::Relaxed);
    }
}

impl Shared {
    /// One user: the request that is ready, then one after the other for as long as the volume allows.
    pub(super) async fn keep_asking(
        self: Arc<Self>,
        mut next: Option<(Ready, Ration)>,
        deliver: UnboundedSender<Record>,
    ) {
        // The first request is intended to start with the burst, each other one when the last one ended.
        let mut intended = match &next {
            Some((ready, _)) if !self.warmup => {
                let step = &self.series.step;
                self.begun + step.arrival.start(ready.number, step.load.users())
            }
            Some(_) => self.begun,
            None => Instant::now(),
        };
        // A timer that is due already may still take a millisecond.
        if intended > Instant::now() {
            sleep_until(intended).await;
            if self.brake.is_eased() {
                return;
            }
        }
        let mut failures: u32 = 0;
        loop {
            let Some((ready, ration)) = next.take().or_else(|| self.begin()) else {
                return;
            };
            let request = self.request(&ready, intended);
            let (outcome, answer) = request.run(&self.endpoint, deliver.clone()).await;
            match outcome {
                Outcome::Ok => failures = 0,
                Outcome::Failed(_) | Outcome::Invalid(_) => failures += 1,
            }
            // Nobody goes on after a turn that failed.
            next = answer
                .and_then(|answer| ready.conversation.answered(answer))
                .and_then(|conversation| self.go_on(conversation, ration));
            sleep(self.volume.pause(failures)).await;
            intended = Instant::now();
        }
    }

    /// The turns that are asked of a conversation: a warm-up asks nothing but first ones.
    pub(super) fn turns_of(&self, conversation: &Conversation) -> u32 {
        if self.warmup { 1 } else { conversation.turns_left() }
    }

    /// The first turn of another conversation.
    fn begin(self: &Arc<Self>) -> Option<(Ready, Ration)> {
        let mut ration = Ration::new(self, 1)?;
        let before = self.closed.conversations.fetch_add(1, Ordering::Relaxed);
        let conversation = begun(&self.series, self.asked_before, before, &self.fit);
        ration.left += self.closed.take(self.turns_of(&conversation) - 1);
        self.go_on(conversation, ration)
    }

    fn go_on(&self, conversation: Conversation, mut ration: Ration) -> Option<(Ready, Ration)> {
        if self.brake.is_eased() {
            return None;
        }
        ration.left = ration.left.checked_sub(1)?;
        let elapsed = self.begun.elapsed();
        let next = |started| self.volume.allows(started, elapsed).then_some(started + 1);
        let number = self
            .closed
            .started
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .ok()?;
        let ready = Ready::new(number, conversation, &self.series, &self.endpoint);
        Some((ready, ration))
    }
}
