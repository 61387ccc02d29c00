//! The connections that are open, and which one goes when there are too many.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at the same time. At the limit the one that was idle longest goes, so that thousands that say nothing
/// keep nobody out.
const MOST: usize = 512;

/// Where all are busy, one goes whose request has been going on for so long.
const BUSY_AT_LEAST: Duration = Duration::from_secs(10);

/// All that are open; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    next: u64,
    open: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    is_busy: bool,
    /// When it became so, or idle.
    since: Instant,
    gone: CancellationToken,
}

/// One that is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    connections: Connections,
    number: u64,
    /// Cancelled when it has to make room for another.
    gone: CancellationToken,
    /// Requests so far.
    requests: AtomicU64,
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Connection>);

impl Connections {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one more; `None` where there is no room.
    pub(super) fn take_in(&self, now: Instant) -> Option<Connection> {
        let mut book = self.book();
        if book.open.len() >= MOST {
            let first = book
                .open
                .iter()
                .min_by_key(|(_, entry)| (entry.is_busy, entry.since))
                .filter(|(_, entry)| !entry.is_busy || now - entry.since >= BUSY_AT_LEAST);
            let number = *first?.0;
            if let Some(entry) = book.open.remove(&number) {
                entry.gone.cancel();
            }
        }
        let (number, gone) = (book.next, CancellationToken::new());
        book.next += 1;
        book.open.insert(
            number,
            Entry {
                is_busy: false,
                since: now,
                gone: gone.clone(),
            },
        );
        Some(Connection {
            connections: self.clone(),
            number,
            gone,
            requests: AtomicU64::new(0),
        })
    }
}

impl Connection {
    /// Until it has to make room.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// A request has arrived.
    pub(super) fn busy(self: &Arc<Self>, now: Instant) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.set(true, now);
        Busy(Arc::clone(self))
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn set(&self, is_busy: bool, now: Instant) {
        if let Some(entry) = self.connections.book().open.get_mut(&self.number) {
            (entry.is_busy, entry.since) = (is_busy, now);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.book().open.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(false, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_idle_longest_makes_room_and_who_is_busy_only_in_the_end() {
        let connections = Connections::default();
        let wait = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let mut open = Vec::new();
        for _ in 0..MOST {
            open.push(Arc::new(connections.take_in(Instant::now()).unwrap()));
        }
        let first = open[0].busy(Instant::now());
        wait(1).await;
        let newcomer = connections.take_in(Instant::now()).unwrap();
        let gone: Vec<_> = (0..MOST).filter(|at| open[*at].gone.is_cancelled()).collect();
        assert_eq!((gone.len(), open[0].gone.is_cancelled()), (1, false));
        assert_eq!(connections.book().open.len(), MOST);
        drop(newcomer);

        // All are busy: nobody goes until one has been for long.
        let busy: Vec<_> = open.iter().map(|open| open.busy(Instant::now())).collect();
        drop(connections.take_in(Instant::now()).unwrap());
        let last = connections.take_in(Instant::now()).map(Arc::new).unwrap();
        let last_busy = last.busy(Instant::now());
        assert!(connections.take_in(Instant::now()).is_none());
        wait(11).await;
        assert!(connections.take_in(Instant::now()).is_some());
        drop((first, busy, last_busy, last));
        open.clear();
        assert!(connections.book().open.is_empty());
    }
}
