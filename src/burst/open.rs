//! Open loops: each request starts when it is due, whatever became of those before it, and waits singly for a place.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Burst, Places, Ready, Shared, begun};
use crate::{
    load::{Arrival, Load, Offsets, Volume},
    outcome::Skip,
    record::Record,
};

/// Requests that were never sent, by reason.
#[derive(Default)]
pub(super) struct Unsent(Mutex<BTreeMap<Skip, u64>>);

impl Unsent {
    pub(super) fn add(&self, reason: Skip, requests: u64) {
        if requests > 0 {
            *self.lock().entry(reason).or_default() += requests;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Skip, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is still to be sent of an open loop. Only the next request is prepared, so that a long burst takes no more
/// memory than a short one.
pub(super) struct Upcoming {
    offsets: Offsets,
    places: Arc<Semaphore>,
    ready: Ready,
    intended: Instant,
}

impl Upcoming {
    /// `None` in a closed loop.
    pub(super) fn of(burst: &Burst, shared: &Shared) -> Option<Self> {
        let step = &burst.series.step;
        let (Load::Rate(rate), Arrival::Rate(process)) = (step.load, step.arrival) else {
            return None;
        };
        let offsets = Offsets::new(rate, process, fastrand::Rng::new());
        Self::after(0, offsets, Arc::clone(&burst.places), shared)
    }

    /// The request of this number, if there is one.
    fn after(number: u32, mut offsets: Offsets, places: Arc<Semaphore>, shared: &Shared) -> Option<Self> {
        let offset = offsets.next()?;
        let intended = shared.begun.checked_add(offset)?;
        shared.volume.allows(number, offset).then(|| {
            let conversation = begun(&shared.series, shared.asked_before, number, &shared.fit);
            Self {
                offsets,
                places,
                ready: Ready::new(number, conversation, &shared.series, &shared.endpoint),
                intended,
            }
        })
    }

    /// Waits until the next request is due; for ever where there is none.
    pub(super) async fn due(upcoming: Option<&Self>) {
        match upcoming {
            Some(next) => sleep_until(next.intended).await,
            None => std::future::pending().await,
        }
    }

    /// How many requests are not due yet.
    pub(super) fn left(self, volume: Volume) -> u64 {
        let begun = self.ready.number;
        match volume {
            Volume::Requests(requests) => requests.saturating_sub(begun).into(),
            Volume::Lasting(_) => {
                let later = (begun + 1..).zip(self.offsets);
                1 + later
                    .take_while(|(number, offset)| volume.allows(*number, *offset))
                    .count() as u64
            }
        }
    }
}

impl Places {
    /// Starts the request that is due, and prepares the next one.
    pub(super) fn start_due(&mut self) {
        let (Some(due), Some(deliver)) = (self.upcoming.take(), self.deliver.clone()) else {
            return;
        };
        let Upcoming {
            offsets,
            places,
            ready,
            intended,
        } = due;
        let number = ready.number;
        let place = Arc::clone(&places);
        let asking = Arc::clone(&self.shared).ask_once(ready, intended, place, deliver);
        self.tasks.spawn(asking);
        self.upcoming = Upcoming::after(number + 1, offsets, places, &self.shared);
    }

    /// Nothing is under way, and the next request is not due yet.
    pub(super) fn waits_for_the_next(&self) -> bool {
        self.upcoming.is_some() && self.tasks.is_empty()
    }

    /// What was never sent, by reason.
    pub(super) async fn unsent(&mut self) -> BTreeMap<Skip, u64> {
        // Those that an abort ends count themselves when they are gone.
        while self.tasks.join_next().await.is_some() {}
        self.shared.unsent.lock().clone()
    }
}

impl Shared {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.series.step.load, Load::Rate(_))
    }

    /// One request of an open loop. It waits for its place no longer than a user would for a first token.
    fn ask_once(
        self: Arc<Self>,
        ready: Ready,
        intended: Instant,
        places: Arc<Semaphore>,
        deliver: UnboundedSender<Record>,
    ) -> impl Future<Output = ()> + Send {
        // Not in the future's own code, which runs only when it is polled.
        let mut waiting = Waiting {
            shared: self,
            ends_as: Some(Skip::Drain),
        };
        async move {
            let until = intended + waiting.shared.series.probe.timeouts.first_token;
            let Some(_place) = waiting.place(places, until).await else {
                return;
            };
            let shared = &waiting.shared;
            let request = shared.request(&ready, intended);
            request.run(&shared.endpoint, deliver).await;
        }
    }
}

/// A request that waits for its place. One that gets none was never sent.
struct Waiting {
    shared: Arc<Shared>,
    /// Why it was not sent, if it ends now; `None` once it has its place.
    ends_as: Option<Skip>,
}

impl Waiting {
    async fn place(&mut self, places: Arc<Semaphore>, until: Instant) -> Option<OwnedSemaphorePermit> {
        // After a stop of this process there would be a heap of them, and nobody waited.
        if Instant::now() > until {
            self.ends_as = Some(Skip::Late);
            return None;
        }
        // The semaphore is never closed.
        let place = timeout_at(until, places.acquire_owned())
            .await
            .ok()
            .and_then(Result::ok);
        self.ends_as = place.is_none().then_some(Skip::InFlight);
        place
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(reason) = self.ends_as {
            self.shared.unsent.add(reason, 1);
        }
    }
}
