//! Targets that are listed elsewhere: lists are looked at again and again, and one that has changed asks for the
//! configuration to be read again, with it.
//!
//! What is wrong with a list changes nothing: the targets stay those of the last good one.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinHandle, time::sleep};

use crate::{
    client::Lister,
    config::{
        self, listing,
        plan::{HttpList, ListSource, Listing, Lists, Plan},
    },
    metrics::Metrics,
    reload::{Answer, Reloader},
    rhythm::fnv1a,
    units::Name,
};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What lists say that are asked for over HTTP. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Lists>>);

impl Known {
    /// What they say now.
    pub fn lists(&self) -> Lists {
        self.lock().clone()
    }

    /// Asks for all of a plan's, once and at the same time. One that cannot be had, or is none, is left out, and `failed`
    /// is told.
    pub async fn ask(&self, plan: &Plan, blocking: &Handle, failed: impl Fn(&Name, &str)) {
        let asked = plan.listings().iter().filter_map(|listing| {
            let ListSource::Http(list) = &listing.source else {
                return None;
            };
            let (list, user_agent) = (list.clone(), plan.global().user_agent.clone());
            let blocking = blocking.clone();
            let url = list.url.clone();
            let got = tokio::spawn(async move {
                let lister = Lister::new(&list, &user_agent, &blocking).map_err(|error| error.to_string())?;
                good(lister.get().await?)
            });
            Some((&listing.name, url, got))
        });
        let asked: Vec<_> = asked.collect();
        for (name, url, got) in asked {
            match got.await.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(text) => {
                    self.lock().put(&url, Some(text));
                }
                Err(error) => failed(name, &error),
            }
        }
    }

    /// Forgets them; whether there were any.
    pub fn forget(&self) -> bool {
        !std::mem::take(&mut *self.lock()).is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text, if it is a list.
fn good(text: String) -> Result<String, String> {
    match config::check_list(&text) {
        Ok(()) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks at the lists of the plan that is in force.
#[derive(Debug)]
pub struct Discovery {
    known: Known,
    reloader: Reloader,
    metrics: Metrics,
    runtime: Handle,
    looking: Vec<Looking>,
}

/// A list that is looked at; no longer once this is gone.
#[derive(Debug)]
struct Looking {
    listing: Listing,
    user_agent: String,
    task: JoinHandle<()>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Discovery {
    pub fn new(known: Known, reloader: Reloader, metrics: Metrics, runtime: &Handle) -> Self {
        Self {
            known,
            reloader,
            metrics,
            runtime: runtime.clone(),
            looking: Vec::new(),
        }
    }

    pub fn known(&self) -> &Known {
        &self.known
    }

    /// This plan is in force: its lists are looked at from now on, and no others.
    pub fn follow(&mut self, plan: &Plan) {
        self.metrics.listed(plan.listings());
        let user_agent = &plan.global().user_agent;
        let mut before = std::mem::take(&mut self.looking);
        for listing in plan.listings() {
            let is_same = |looking: &Looking| {
                looking.listing.name == listing.name
                    && looking.listing.source == listing.source
                    && looking.user_agent == *user_agent
            };
            let looking = match before.iter().position(is_same) {
                Some(at) => before.swap_remove(at),
                None => Looking {
                    listing: listing.clone(),
                    user_agent: user_agent.clone(),
                    task: self.look(listing, user_agent),
                },
            };
            self.looking.push(looking);
        }
    }

    fn look(&self, listing: &Listing, user_agent: &str) -> JoinHandle<()> {
        let watch = Watch {
            name: listing.name.clone(),
            reloader: self.reloader.clone(),
            metrics: self.metrics.clone(),
        };
        match &listing.source {
            ListSource::Files(patterns) => self.runtime.spawn(watch.files(patterns.clone())),
            ListSource::Http(list) => {
                let (known, list, user_agent) = (self.known.clone(), list.clone(), user_agent.to_owned());
                let blocking = self.runtime.clone();
                self.runtime.spawn(async move {
                    match Lister::new(&list, &user_agent, &blocking) {
                        Ok(lister) => watch.http(&list, &lister, &known).await,
                        Err(error) => watch.failed(&error.to_string()),
                    }
                })
            }
        }
    }
}

/// Looks at one list.
struct Watch {
    name: Name,
    reloader: Reloader,
    metrics: Metrics,
}

impl Watch {
    async fn files(self, patterns: Vec<PathBuf>) {
        let mut before = seen(&patterns).await;
        loop {
            sleep(LOOK).await;
            let now = seen(&patterns).await;
            if now != before {
                before = now;
                if let Answer::Rejected(_) = self.reload().await {
                    // What is wrong is in the log.
                    self.metrics.list_failed(&self.name);
                }
            }
        }
    }

    async fn http(self, list: &HttpList, lister: &Lister, known: &Known) {
        // A list that is new in the configuration was not asked for yet.
        let mut was_asked = known.lock().get(&list.url).is_some();
        loop {
            if was_asked {
                sleep(list.every).await;
            }
            was_asked = true;
            match lister.get().await.and_then(good) {
                Err(error) => self.failed(&error),
                Ok(text) => self.take(list, text, known).await,
            }
        }
    }

    /// Lets a list come into force that has changed. One that makes no plan is forgotten again, or it would stand in the
    /// way of every reload.
    async fn take(&self, list: &HttpList, text: String, known: &Known) {
        if known.lock().get(&list.url) == Some(&text) {
            return;
        }
        let before = known.lock().put(&list.url, Some(text));
        if let Answer::Rejected(_) = self.reload().await {
            known.lock().put(&list.url, before);
            self.metrics.list_failed(&self.name);
        }
    }

    async fn reload(&self) -> Answer {
        self.reloader.ask("a list of targets, which changed").await
    }

    fn failed(&self, error: &str) {
        self.metrics.list_failed(&self.name);
        tracing::warn!(list = %self.name, error, "the targets stay those of the last good list");
    }
}

/// What the files say, as a hash.
async fn seen(patterns: &[PathBuf]) -> Option<u64> {
    let patterns = patterns.to_vec();
    let look = move || {
        let mut parts = Vec::new();
        for pattern in &patterns {
            for file in listing::files(pattern).unwrap_or_default() {
                // One that cannot be read differs from one that is empty.
                let text = listing::text_of(&file).map_err(|_| ());
                parts.push(fnv1a(format!("{}\0{text:?}", file.display()).bytes()));
            }
        }
        fnv1a(parts.into_iter().flat_map(u64::to_le_bytes))
    };
    tokio::task::spawn_blocking(look).await.ok()
}
