//! Open loops: each request starts when it is due, whatever became of those before it, or waits for a place.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{Burst, Ready, Shared, begun};
use crate::{
    load::{Arrival, Load, Offsets},
    outcome::Skip,
    record::Record,
};

/// After a stop of this process a heap of requests is due at once, and nobody waited for them. No more of them start
/// than come due in this time, or one.
const HEAP: Duration = Duration::from_secs(1);

/// Requests that were never sent although the burst went on, by reason.
#[derive(Default)]
pub(super) struct Unsent(Mutex<BTreeMap<Skip, u64>>);

impl Unsent {
    fn add(&self, reason: Skip) {
        *self.lock().entry(reason).or_default() += 1;
    }

    pub(super) fn so_far(&self) -> BTreeMap<Skip, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Skip, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Burst {
    /// When the requests of an open loop start; `None` in a closed loop.
    pub(super) fn offsets(&self) -> Option<Offsets> {
        let step = &self.series.step;
        match (step.load, step.arrival) {
            (Load::Rate(rate), Arrival::Rate(process)) => {
                Some(Offsets::new(rate, process, fastrand::Rng::new()).with_one_in(step.volume))
            }
            _ => None,
        }
    }
}

/// A request that has not begun: its number, and when it is intended to start.
type Upcoming = (u32, Instant);

/// The requests of an open loop that have not begun. They are instants until they have a place, so that many of them
/// take little memory.
struct Queue<'a> {
    shared: &'a Shared,
    offsets: Offsets,
    /// The first that is not due yet.
    next: Option<Upcoming>,
    /// Those that are due, in this order.
    waiting: VecDeque<Upcoming>,
    /// So late is too late.
    heap: Duration,
}

impl<'a> Queue<'a> {
    fn of(shared: &'a Shared, offsets: Offsets) -> Self {
        let mut queue = Self {
            shared,
            heap: HEAP.max(offsets.mean_gap()),
            offsets,
            next: None,
            waiting: VecDeque::new(),
        };
        queue.next = queue.request(0);
        queue
    }

    /// The request of this number, if there is one.
    fn request(&mut self, number: u32) -> Option<Upcoming> {
        let offset = self.offsets.next()?;
        let intended = self.shared.begun.checked_add(offset)?;
        self.shared
            .volume
            .allows(number, offset)
            .then_some((number, intended))
    }

    /// It is `now`: requests come due, and those that wait for longer than a user would for a first token give up.
    /// When to look again; `None`: all have begun or never will.
    fn pass(&mut self, now: Instant) -> Option<Instant> {
        while let Some((number, intended)) = self.next
            && intended <= now
        {
            if now - intended > self.heap {
                self.shared.unsent.add(Skip::Late);
            } else {
                self.waiting.push_back((number, intended));
            }
            self.next = self.request(number + 1);
        }
        let patience = self.shared.series.probe.timeouts.first_token;
        while self
            .waiting
            .pop_front_if(|(_, intended)| *intended + patience <= now)
            .is_some()
        {
            self.shared.unsent.add(Skip::InFlight);
        }
        let gives_up = self.waiting.front().map(|(_, intended)| *intended + patience);
        let comes_due = self.next.map(|(_, intended)| intended);
        gives_up.into_iter().chain(comes_due).min()
    }

    /// There is a place.
    fn pop(&mut self) -> Option<Upcoming> {
        let first = self.waiting.pop_front();
        let is_last = self.next.is_none() && self.waiting.is_empty();
        self.shared.all_begun.store(is_last, Ordering::Relaxed);
        first
    }
}

impl Shared {
    /// Starts the requests of an open loop, and lasts until all of them have ended.
    pub(super) async fn keep_starting(
        self: Arc<Self>,
        offsets: Offsets,
        places: Arc<Semaphore>,
        deliver: UnboundedSender<Record>,
    ) {
        let mut queue = Queue::of(&self, offsets);
        let mut requests = JoinSet::new();
        // However many are due, one at a time waits in the line in which bursts of other probes wait, too.
        let line_up = || Arc::clone(&places).acquire_owned();
        let mut place = pin!(line_up());
        while let Some(look_again) = queue.pass(Instant::now()) {
            if self.brake.is_eased() {
                break;
            }
            if queue.waiting.is_empty() {
                place.set(line_up());
            }
            tokio::select! {
                biased;
                () = self.brake.pulled() => return,
                found = &mut place, if !queue.waiting.is_empty() => {
                    place.set(line_up());
                    // The semaphore is never closed.
                    if let (Ok(found), Some(due)) = (found, queue.pop()) {
                        requests.spawn(Arc::clone(&self).ask_once(due, found, deliver.clone()));
                    }
                }
                () = sleep_until(look_again) => {}
                // Also one that panicked: it cost one request.
                Some(_) = requests.join_next() => {}
            }
        }
        self.all_begun.store(true, Ordering::Relaxed);
        while requests.join_next().await.is_some() {}
    }

    async fn ask_once(
        self: Arc<Self>,
        (number, intended): Upcoming,
        _place: OwnedSemaphorePermit,
        deliver: UnboundedSender<Record>,
    ) {
        let conversation = begun(&self.series, self.asked_before, number, &self.fit);
        let ready = Ready::new(number, conversation, &self.series, &self.endpoint);
        let request = self.request(&ready, intended);
        request.run(&self.endpoint, deliver).await;
    }
}
