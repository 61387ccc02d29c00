//! The answers to scrapes. Rendering and compressing one takes a moment of a core and megabytes, so scrapes that want
//! the same at the same time share a rendering, and only few of them are in memory at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{self, Write},
    sync::{Arc, Mutex},
};

use flate2::{Compression, write::GzEncoder};
use tokio::sync::oneshot;

use super::lending::{Lending, Lent, lock};
use crate::metrics::{Format, Metrics};

/// Renderings in memory at once: one a format, and one that a slow scraper is still reading. More wait.
const MOST: usize = Format::ALL.len() + 1;

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
    waiting: Arc<Mutex<HashMap<Wish, Vec<oneshot::Sender<Lent>>>>>,
    lending: Lending,
}

impl Scrapes {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            waiting: Arc::default(),
            lending: Lending::new(MOST),
        }
    }

    /// What is exposed now, or was when a rendering began that is still under way. `None` where it failed.
    pub(super) async fn rendering(&self, wish: Wish) -> Option<Lent> {
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
        let metrics = self.metrics.clone();
        // Rendering is long: it may not hold up the other tasks of this runtime.
        let rendered = self.lending.make("render", move || wish.grant(&metrics)).await;
        let waiting = lock(&self.waiting).remove(&wish).unwrap_or_default();
        let rendering = match rendered {
            Ok(rendering) => rendering,
            Err(error) => {
                tracing::error!(%error, "rendering the metrics failed");
                return;
            }
        };
        for tell in waiting {
            // Whoever does not listen any more has gone.
            tell.send(rendering.clone()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Duration};

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
        assert_eq!(text.bytes().as_ptr(), text_too.unwrap().bytes().as_ptr());
        assert!(open_metrics.bytes().ends_with(b"# EOF\n"));
        // A later scrape is told what is then, also where the first one gave up.
        let later = of(Format::Text).await.unwrap();
        assert_ne!(text.bytes().as_ptr(), later.bytes().as_ptr());
        drop(tokio::time::timeout(Duration::ZERO, of(Format::Text)).await);
        assert!(of(Format::Text).await.is_some());
    }

    #[tokio::test]
    async fn what_is_compressed_is_what_is_rendered() {
        let scrapes = scrapes();
        let packed = scrapes.rendering(Wish { gzip: true, ..TEXT }).await.unwrap();
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&*packed.bytes())
            .read_to_string(&mut unpacked)
            .unwrap();
        let plain = scrapes.rendering(TEXT).await.unwrap();
        let names = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with('#'))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(names(&unpacked), names(&String::from_utf8_lossy(&plain.bytes())));
        assert!(packed.bytes().len() * 2 < plain.bytes().len());
    }
}
