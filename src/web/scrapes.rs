//! The answers to scrapes. Rendering and compressing one takes a moment of a core and megabytes, so scrapes that want
//! the same at the same time share a rendering, and only few of them are in memory at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{self, Write},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::aside::aside;
use crate::metrics::{Format, Metrics};

/// Renderings in memory at once: one a format, and one that a slow scraper is still reading. More wait.
const MOST: usize = Format::ALL.len() + 1;

/// How long a scraper may take to read its answer, which is then taken away from it: a little longer than Prometheus
/// waits for all of it unless told otherwise, so that those who stall do not keep it waiting for theirs.
const READ_WITHIN: Duration = Duration::from_secs(15);

/// What a connection is given at once, in bytes; a copy, so that it does not hold the whole rendering.
const PIECE: usize = 64 << 10;

/// What a scraper is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) format: Format,
    pub(super) gzip: bool,
}

impl Wish {
    fn grant(self, metrics: &Metrics) -> io::Result<Vec<u8>> {
        let rendered = metrics.render(self.format);
        if !self.gzip {
            return Ok(rendered);
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&rendered)?;
        encoder.finish()
    }
}

/// Scrapes by what they wait for; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Scrapes {
    metrics: Metrics,
    waiting: Arc<Mutex<HashMap<Wish, Vec<oneshot::Sender<Rendering>>>>>,
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
    pub(super) async fn rendering(&self, wish: Wish) -> Option<Rendering> {
        let (tell, told) = oneshot::channel();
        match lock(&self.waiting).entry(wish) {
            Entry::Occupied(waiting) => waiting.into_mut().push(tell),
            Entry::Vacant(nobody) => {
                nobody.insert(vec![tell]);
                // On its own, because whoever began it may go away.
                tokio::spawn(self.clone().render(wish));
            }
        }
        told.await.ok()
    }

    async fn render(self, wish: Wish) {
        let place = Arc::clone(&self.room).acquire_owned().await;
        let metrics = self.metrics.clone();
        // Rendering is long: it may not hold up the other tasks of this runtime.
        let rendered = aside("render", move || wish.grant(&metrics)).await.flatten();
        let waiting = lock(&self.waiting).remove(&wish).unwrap_or_default();
        let (bytes, place) = match (rendered, place) {
            (Ok(bytes), Ok(place)) => (bytes, place),
            (rendered, _) => {
                tracing::error!(error = ?rendered.err(), "rendering the metrics failed");
                return;
            }
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
    /// As the body of an answer, for [`READ_WITHIN`].
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
    use std::io::Read;

    use http_body::Body as _;

    use super::*;
    use crate::config::plan::Exposition;

    const TEXT: Wish = Wish {
        format: Format::Text,
        gzip: false,
    };

    fn scrapes() -> Scrapes {
        Scrapes::new(Metrics::new(&[], &Exposition::default()))
    }

    #[tokio::test]
    async fn scrapes_of_one_format_at_the_same_time_share_a_rendering() {
        let scrapes = scrapes();
        let of = |format| scrapes.rendering(Wish { format, gzip: false });
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

    #[tokio::test]
    async fn what_is_compressed_is_what_is_rendered() {
        let scrapes = scrapes();
        let packed = scrapes.rendering(Wish { gzip: true, ..TEXT }).await.unwrap();
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&*packed.bytes)
            .read_to_string(&mut unpacked)
            .unwrap();
        let plain = scrapes.rendering(TEXT).await.unwrap();
        let names = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with('#'))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(names(&unpacked), names(&String::from_utf8_lossy(&plain.bytes)));
        assert!(packed.bytes.len() * 2 < plain.bytes.len());
    }

    #[tokio::test(start_paused = true)]
    async fn few_answers_are_in_memory_and_none_for_long() {
        let scrapes = scrapes();
        let begun = tokio::time::Instant::now();
        let mut bodies = Vec::new();
        for _ in 0..MOST {
            let rendering = scrapes.rendering(TEXT).await.unwrap();
            bodies.push(rendering.into_body());
        }
        // Nobody reads: the next one has to wait until they are taken away.
        let next = scrapes.rendering(TEXT).await.unwrap();
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
