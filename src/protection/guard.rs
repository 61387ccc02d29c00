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
    access::Renewal,
    backoff::Circuit,
    busy::Condition,
    client::{ClientError, Scraper},
    config::plan::Target,
    rhythm::fnv1a,
};

/// What is known of a target's state over all probes.
#[derive(Debug)]
pub struct Guard {
    pub target: Arc<Target>,
    pub(super) agent: String,
    pub(super) circuit: Mutex<Circuit>,
    /// Whether the state file is to be written.
    pub(super) changed: AtomicBool,
    /// Built anew with other secrets.
    scraper: Mutex<Option<Arc<Scraper>>>,
    /// Whether secrets could not be renewed when that was tried last, and how often not.
    renewal_fails: AtomicBool,
    renewal_failures: AtomicU64,
    blocking: Handle,
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
        let scraper = scraper(target, agent, blocking)?;
        Ok(Self {
            target: Arc::clone(target),
            agent: agent.to_owned(),
            circuit: Mutex::new(circuit),
            changed: AtomicBool::new(false),
            scraper: Mutex::new(scraper),
            renewal_fails: AtomicBool::new(false),
            renewal_failures: AtomicU64::new(0),
            blocking: blocking.clone(),
            scrape_fails: AtomicBool::new(false),
            scrape_failures: AtomicU64::new(0),
        })
    }

    /// The state file is to be written.
    pub(super) fn has_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Its name in the state file: another address is another endpoint. An address is no secret to keep there in clear.
    pub(super) fn key(&self) -> String {
        let Target { name, url, .. } = &*self.target;
        format!("{name} {:016x}", fnv1a(url.as_str().bytes()))
    }

    /// How much longer the target is left alone; `None`: it is not.
    pub fn backing_off(&self) -> Option<Duration> {
        lock(&self.circuit).open_for(Instant::now())
    }

    /// Scrapes that failed; `None` where nothing is scraped.
    pub fn scrape_failures(&self) -> Option<u64> {
        self.target.busy.as_ref()?;
        Some(self.scrape_failures.load(Ordering::Relaxed))
    }

    /// Renewals of secrets that failed; `None` where there is nothing to renew.
    pub fn renewal_failures(&self) -> Option<u64> {
        let may_change = self.target.has_files() || self.target.oauth2.is_some();
        may_change.then(|| self.renewal_failures.load(Ordering::Relaxed))
    }

    /// Secrets of the target were renewed, or not.
    pub(super) fn renewed(&self, renewal: &Renewal) {
        let mut problems = renewal.problems.clone();
        if let Some(target) = &renewal.target {
            match scraper(target, &self.agent, &self.blocking) {
                Ok(scraper) => *lock(&self.scraper) = scraper,
                Err(error) => problems.push(error.to_string()),
            }
            tracing::info!(target = %self.target.name, "the target's secrets were renewed");
        }
        let has_failed = !problems.is_empty();
        let failed_before = self.renewal_fails.swap(has_failed, Ordering::Relaxed);
        if has_failed {
            self.renewal_failures.fetch_add(1, Ordering::Relaxed);
            if !failed_before {
                let problems = problems.join("; ");
                tracing::warn!(target = %self.target.name, problems, "secrets cannot be renewed: those known are used on");
            }
        } else if failed_before {
            tracing::info!(target = %self.target.name, "secrets can be renewed again");
        }
    }

    /// The condition that the server satisfies, if any. A scrape that fails says nothing.
    pub(super) async fn busy(&self, blocking: &Handle, of: fn(&Scraper) -> &[Condition]) -> Option<String> {
        let scraper = lock(&self.scraper).clone()?;
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

fn scraper(target: &Target, agent: &str, blocking: &Handle) -> Result<Option<Arc<Scraper>>, ClientError> {
    let build = |busy| Scraper::new(busy, target, agent, blocking).map(Arc::new);
    target.busy.as_ref().map(build).transpose()
}
