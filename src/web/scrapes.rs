//! The answers to scrapes. Rendering one takes a moment of a core and megabytes, so scrapes of one format at the same
//! time share a rendering, and only few of them are in memory at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::aside::aside;
use crate::metrics::{Format, Metrics};

/// Renderings in memory at once: one a format, and one that a slow scraper is still reading. More wait.
const MOST: usize = Format::ALL.len() + 1;

/// How long a scraper may take to read its answer, which is then taken away from it. Prometheus gives up earlier.
const READ_WITHIN: Duration = Duration::from_mins(1);

/// What a connection is given at once, in bytes; a copy, so that it does not hold the whole rendering.
const PIECE: usize = 64 << 10;

/// Scrapes by the format that they wait for; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Scrapes {
    metrics: Metrics,
    waiting: Arc<Mutex<HashMap<Format, Vec<oneshot::Sender<Rendering>>>>>,
    room: Arc<Semaphore>,
}

/// A rendered exposition, shared by all that asked for it while it was made.
#[derive(Clone, Debug)]
pub(super) struct Rendering {
    bytes: Bytes,
    _place: Arc<OwnedSemaphorePermit>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scrapes {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            waiting: Arc::default(),
            room: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// What is exposed now, or was when a rendering began that is still under way. `None` where it failed.
    pub(super) async fn rendering(&self, format: Format) -> Option<Rendering> {
        let (tell, told) = oneshot::channel();
        match lock(&self.waiting).entry(format) {
            Entry::Occupied(waiting) => waiting.into_mut().push(tell),
            Entry::Vacant(nobody) => {
                nobody.insert(vec![tell]);
                // On its own, because whoever began it may go away.
                tokio::spawn(self.clone().render(format));
            }
        }
        told.await.ok()
    }

    async fn render(self, format: Format) {
        let place = Arc::clone(&self.room).acquire_owned().await;
        let metrics = self.metrics.clone();
        // Rendering is long: it may not hold up the other tasks of this runtime.
        let rendered = aside(move || metrics.render(format)).await;
        let waiting = lock(&self.waiting).remove(&format).unwrap_or_default();
        let (Some(bytes), Ok(place)) = (rendered, place) else {
            tracing::error!("rendering the metrics failed");
            return;
        };
        let rendering = Rendering {
            bytes: bytes.into(),
            _place: Arc::new(place),
        };
        for tell in waiting {
            // Whoever does not listen any more has gone.
            tell.send(rendering.clone()).ok();
        }
    }
}

impl Rendering {
    /// As the body of an answer, for a minute.
    pub(super) fn into_body(self) -> Body {
        let length = self.bytes.len() as u64;
        let rest = Arc::new(Mutex::new(Some(self)));
        let taken_away = Arc::clone(&rest);
        let in_time = tokio::spawn(async move {
            tokio::time::sleep(READ_WITHIN).await;
            lock(&taken_away).take();
        });
        Body::new(Unread {
            rest,
            length,
            _in_time: AbortOnDropHandle::new(in_time),
        })
    }
}

/// The rest of an answer; `None` once it took too long.
#[derive(Debug)]
struct Unread {
    rest: Arc<Mutex<Option<Rendering>>>,
    length: u64,
    _in_time: AbortOnDropHandle<()>,
}

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match &mut *lock(&self.rest) {
            Some(rendering) => {
                let length = rendering.bytes.len().min(PIECE);
                let piece = rendering.bytes.split_to(length);
                Bytes::copy_from_slice(&piece)
            }
            None => return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
        };
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
    use crate::config::plan::Exposition;

    fn scrapes() -> Scrapes {
        Scrapes::new(Metrics::new(&[], &Exposition::default()))
    }

    #[tokio::test]
    async fn scrapes_of_one_format_at_the_same_time_share_a_rendering() {
        let scrapes = scrapes();
        let of = |format| scrapes.rendering(format);
        let (text, text_too, open_metrics) =
            tokio::join!(of(Format::Text), of(Format::Text), of(Format::OpenMetrics));
        let (text, open_metrics) = (text.unwrap(), open_metrics.unwrap());
        assert_eq!(text.bytes.as_ptr(), text_too.unwrap().bytes.as_ptr());
        assert!(open_metrics.bytes.ends_with(b"# EOF\n"));
        // A later scrape is told what is then, also where the first one gave up.
        let later = of(Format::Text).await.unwrap();
        assert_ne!(text.bytes.as_ptr(), later.bytes.as_ptr());
        drop(tokio::time::timeout(Duration::ZERO, of(Format::Text)).await);
        assert!(of(Format::Text).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn few_answers_are_in_memory_and_none_for_long() {
        let scrapes = scrapes();
        let begun = tokio::time::Instant::now();
        let mut bodies = Vec::new();
        for _ in 0..MOST {
            let rendering = scrapes.rendering(Format::Text).await.unwrap();
            bodies.push(rendering.into_body());
        }
        // Nobody reads: the next one has to wait until they are taken away.
        let next = scrapes.rendering(Format::Text).await.unwrap();
        assert_eq!(begun.elapsed(), READ_WITHIN);
        for mut body in bodies {
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            assert!(frame.unwrap().is_err());
        }
        let expected = next.bytes.clone();
        let read = axum::body::to_bytes(next.into_body(), usize::MAX).await.unwrap();
        assert_eq!(read, expected);
        // The timer of the answer is taken away after it.
        tokio::task::yield_now().await;
        assert_eq!(scrapes.room.available_permits(), MOST);
    }
}
