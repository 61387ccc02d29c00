//! What is known of a target's state: whether it sheds load, whether its server says that it is busy.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use super::lock;
use crate::{
    backoff::Circuit,
    busy::Condition,
    client::{ClientError, Scraper},
    config::plan::Target,
};

/// What is known of a target's state over all probes.
#[derive(Debug)]
pub struct Guard {
    pub target: Arc<Target>,
    pub(super) agent: String,
    pub(super) circuit: Mutex<Circuit>,
    pub(super) scraper: Option<Arc<Scraper>>,
    /// Whether the last scrape failed.
    scrape_fails: AtomicBool,
    scrape_failures: AtomicU64,
}

impl Guard {
    /// `agent` is the user agent of scrapes.
    pub(super) fn new(
        target: &Arc<Target>,
        agent: &str,
        circuit: Circuit,
        blocking: &Handle,
    ) -> Result<Self, ClientError> {
        let scraper = target
            .busy
            .as_ref()
            .map(|busy| Scraper::new(busy, target, agent, blocking))
            .transpose()?;
        Ok(Self {
            target: Arc::clone(target),
            agent: agent.to_owned(),
            circuit: Mutex::new(circuit),
            scraper: scraper.map(Arc::new),
            scrape_fails: AtomicBool::new(false),
            scrape_failures: AtomicU64::new(0),
        })
    }

    /// How much longer the target is left alone; `None`: it is not.
    pub fn backing_off(&self) -> Option<Duration> {
        lock(&self.circuit).open_for(Instant::now())
    }

    /// Scrapes that failed; `None` where nothing is scraped.
    pub fn scrape_failures(&self) -> Option<u64> {
        self.scraper.as_ref()?;
        Some(self.scrape_failures.load(Ordering::Relaxed))
    }

    /// The condition that the server satisfies, if any. A scrape that fails says nothing.
    pub(super) async fn busy(&self, blocking: &Handle, of: fn(&Scraper) -> &[Condition]) -> Option<String> {
        let scraper = Arc::clone(self.scraper.as_ref()?);
        if of(&scraper).is_empty() {
            return None;
        }
        // Reading megabytes is no work for the runtime that measures.
        let scraped = blocking.spawn(async move {
            let text = scraper.scrape().await?;
            let met = of(&scraper).iter().find(|of| of.satisfied_by(&text).is_some());
            Ok::<_, String>(met.map(ToString::to_string))
        });
        let result = scraped.await.unwrap_or_else(|error| Err(error.to_string()));
        let failed_before = self.scrape_fails.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Ok(met) => {
                if failed_before {
                    tracing::info!(target = %self.target.name, "the metrics of `busy` can be read again");
                }
                met
            }
            Err(error) => {
                self.scrape_failures.fetch_add(1, Ordering::Relaxed);
                if !failed_before {
                    tracing::warn!(target = %self.target.name, %error, "the metrics of `busy` cannot be read: probing goes on");
                }
                None
            }
        }
    }
}
