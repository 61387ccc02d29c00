//! Answers that take memory and a moment of a core to make: made where that disturbs nobody, few at once, and lent out to
//! be read. Whoever reads too slowly has it taken away, and all the sooner where somebody waits.

use std::{
    collections::VecDeque,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};

use super::aside::aside;

/// How long an answer may be read: a little longer than Prometheus waits for all of it unless told otherwise.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(15);

/// After how long it is taken away where somebody waits for its place.
pub(super) const ENOUGH: Duration = Duration::from_secs(2);

/// How often is looked whether an answer was lent out, where all places are taken by those that are being made.
const LOOK: Duration = Duration::from_millis(100);

/// What a connection is given at once, in bytes; a copy, so that it does not hold the whole answer.
const PIECE: usize = 64 << 10;

/// Places for answers. Cheap to clone; clones have the same places.
#[derive(Clone, Debug)]
pub(super) struct Lending(Arc<Places>);

#[derive(Debug)]
struct Places {
    room: Arc<Semaphore>,
    /// The oldest first.
    lent: Mutex<VecDeque<(Instant, Weak<Shelf>)>>,
}

/// An answer and its place, until it is taken away.
type Shelf = Mutex<Option<(Bytes, OwnedSemaphorePermit)>>;

/// An answer that was made. Clones are read each from the beginning.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    shelf: Arc<Shelf>,
    length: u64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lending {
    /// For so many answers at once; more wait.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Places {
            room: Arc::new(Semaphore::new(most)),
            lent: Mutex::default(),
        }))
    }

    /// Makes an answer as soon as there is a place for it.
    pub(super) async fn make(
        &self,
        name: &str,
        work: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
    ) -> io::Result<Lent> {
        let place = self.place().await?;
        let bytes = aside(name, work).await.flatten()?;
        Ok(self.lend(bytes.into(), place))
    }

    /// Waits for a place. One whose answer was read for [`ENOUGH`] becomes free, the oldest first.
    pub(super) async fn place(&self) -> io::Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.0.room);
        if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
            return Ok(place);
        }
        let mut place = pin!(room.acquire_owned());
        loop {
            let again = self.take_back(Instant::now());
            tokio::select! {
                biased;
                place = &mut place => return place.map_err(io::Error::other),
                () = sleep_until(again) => {}
            }
        }
    }

    /// Lends out what was made for this place.
    pub(super) fn lend(&self, bytes: Bytes, place: OwnedSemaphorePermit) -> Lent {
        let length = bytes.len() as u64;
        let shelf = Arc::new(Mutex::new(Some((bytes, place))));
        let of_it = Arc::downgrade(&shelf);
        let mut lent = lock(&self.0.lent);
        lent.retain(|(_, shelf)| shelf.strong_count() > 0);
        lent.push_back((Instant::now(), Weak::clone(&of_it)));
        drop(lent);
        tokio::spawn(async move {
            sleep(READ_WITHIN).await;
            take_away(&of_it);
        });
        Lent { shelf, length }
    }

    /// Takes the oldest answer away if it is old enough; when to look again.
    fn take_back(&self, now: Instant) -> Instant {
        let mut lent = lock(&self.0.lent);
        loop {
            match lent.front() {
                None => return now + LOOK,
                Some((at, shelf)) if shelf.strong_count() > 0 && *at + ENOUGH > now => return *at + ENOUGH,
                Some(_) => {}
            }
            if let Some((_, shelf)) = lent.pop_front()
                && take_away(&shelf)
            {
                return now + ENOUGH;
            }
        }
    }
}

/// Whether it was still there.
fn take_away(shelf: &Weak<Shelf>) -> bool {
    shelf.upgrade().is_some_and(|shelf| lock(&shelf).take().is_some())
}

impl Lent {
    pub(super) fn into_body(self) -> Body {
        Body::new(Unread {
            shelf: self.shelf,
            from: 0,
            length: self.length,
        })
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> Bytes {
        let kept = lock(&self.shelf);
        kept.as_ref().map(|(bytes, _)| bytes.clone()).unwrap_or_default()
    }
}

/// The rest of an answer.
#[derive(Debug)]
struct Unread {
    shelf: Arc<Shelf>,
    from: usize,
    /// Of the rest.
    length: u64,
}

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match &*lock(&self.shelf) {
            Some((bytes, _)) => {
                let rest = bytes.get(self.from..).unwrap_or_default();
                Bytes::copy_from_slice(rest.get(..PIECE).unwrap_or(rest))
            }
            None => return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
        };
        self.from += piece.len();
        self.length -= piece.len() as u64;
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    async fn made(lending: &Lending, size: usize) -> Lent {
        lending.make("test", move || Ok(vec![b'x'; size])).await.unwrap()
    }

    async fn next(body: &mut Body) -> Option<Result<usize, axum::Error>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap().len()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_does_not_wait_for_the_slowest_reader() {
        let lending = Lending::new(2);
        let begun = Instant::now();
        let mut bodies = Vec::new();
        for _ in 0..2 {
            bodies.push(made(&lending, PIECE + 1).await.into_body());
        }
        let mut first = bodies.remove(0);
        assert_eq!(next(&mut first).await.unwrap().unwrap(), PIECE);
        let third = made(&lending, 3).await;
        assert_eq!(begun.elapsed(), ENOUGH);
        assert!(next(&mut first).await.unwrap().is_err());
        // Only one had to go.
        assert_eq!(next(&mut bodies[0]).await.unwrap().unwrap(), PIECE);
        assert_eq!(next(&mut bodies[0]).await.unwrap().unwrap(), 1);
        assert!(next(&mut bodies[0]).await.is_none());
        let read = axum::body::to_bytes(third.into_body(), 9).await.unwrap();
        assert_eq!(&*read, b"xxx");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_reads_forever() {
        let lending = Lending::new(2);
        let lent = made(&lending, 9).await;
        let mut bodies = [lent.clone().into_body(), lent.into_body()];
        sleep(READ_WITHIN).await;
        tokio::task::yield_now().await;
        for body in &mut bodies {
            assert!(next(body).await.unwrap().is_err());
        }
        assert_eq!(lending.0.room.available_permits(), 2);
        drop(made(&lending, 9).await);
        assert_eq!(lending.0.room.available_permits(), 2);
    }
}
