//! Targets that are listed elsewhere: lists are looked at again and again, and one that has changed asks for the
//! configuration to be read again, with it.
//!
//! What is wrong with a list changes nothing: the targets stay those of the last good one.

mod known;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

pub use self::known::{Got, Known, Settled, Wrong};
use crate::{
    client::Lister,
    config::{
        self, listing,
        plan::{HttpList, ListSource, Listing, Plan, Said},
    },
    metrics::Metrics,
    reload::{Answer, Reloader},
    restart,
    units::Name,
};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// All files of a list together are kept in memory.
const MAX_BYTES: usize = 8 << 20;

/// What the lists of a plan say that are in files. It blocks.
pub fn read_files(plan: &Plan) -> Vec<Got> {
    let of = |listing: &Listing| match &listing.source {
        ListSource::Files(patterns) => Some(of_files(&listing.name, patterns)),
        ListSource::Http(_) => None,
    };
    plan.listings().iter().filter_map(of).collect()
}

/// Asks for all lists of a plan that are asked for over HTTP, once and at the same time.
pub async fn ask(plan: &Plan, blocking: &Handle) -> Vec<Got> {
    let asked = plan.listings().iter().filter_map(|listing| {
        let ListSource::Http(list) = &listing.source else {
            return None;
        };
        let (list, user_agent) = (list.clone(), plan.global().user_agent.clone());
        let blocking = blocking.clone();
        let got = tokio::spawn(async move {
            let lister = Lister::new(&list, &user_agent, &blocking).map_err(|error| error.to_string())?;
            answer(lister.get().await?)
        });
        Some((listing, got))
    });
    let asked: Vec<_> = asked.collect();
    let mut all = Vec::new();
    for (listing, got) in asked {
        all.push(Got {
            name: listing.name.clone(),
            source: listing.source.clone(),
            said: got.await.unwrap_or_else(|error| Err(error.to_string())),
        });
    }
    all
}

/// The text, if it is a list.
fn answer(text: String) -> Result<Said, String> {
    match config::check_list(&text, "the answer") {
        Ok(()) => Ok(Said::Answer(text)),
        Err(error) => Err(error.to_string()),
    }
}

fn of_files(name: &Name, patterns: &[PathBuf]) -> Got {
    Got {
        name: name.clone(),
        source: ListSource::Files(patterns.to_vec()),
        said: texts(patterns),
    }
}

fn texts(patterns: &[impl AsRef<Path>]) -> Result<Said, String> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for pattern in patterns.iter().map(AsRef::as_ref) {
        for (file, text) in listing::texts(pattern, &pattern.display().to_string())? {
            config::check_list(&text, &file.display().to_string()).map_err(|error| error.to_string())?;
            bytes += text.len();
            if bytes > MAX_BYTES {
                return Err(format!(
                    "its files hold more than 8 MiB, {} among them; make several lists of it",
                    file.display()
                ));
            }
            files.push((file, text));
        }
    }
    Ok(Said::Files(files))
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

    /// This plan is in force: its lists are looked at from now on, and no others. What is wrong with some is told.
    pub fn follow(&mut self, Settled { plan, wrong }: &Settled) {
        self.metrics.listed(plan.listings());
        for Wrong { list, what } in wrong {
            failed(&self.metrics, list, what);
        }
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
            known: self.known.clone(),
            reloader: self.reloader.clone(),
            metrics: self.metrics.clone(),
            user_agent: user_agent.to_owned(),
            blocking: self.runtime.clone(),
        };
        let (runtime, metrics) = (&self.runtime, &self.metrics);
        match listing.source.clone() {
            ListSource::Files(patterns) => {
                let look = move || watch.clone().files(patterns.clone());
                restart::spawn(runtime, "list in files", metrics, look)
            }
            ListSource::Http(list) => {
                let look = move || watch.clone().http(list.clone());
                restart::spawn(runtime, "list over HTTP", metrics, look)
            }
        }
    }
}

/// Looks at one list.
#[derive(Clone, Debug)]
struct Watch {
    name: Name,
    known: Known,
    reloader: Reloader,
    metrics: Metrics,
    user_agent: String,
    blocking: Handle,
}

impl Watch {
    async fn files(self, patterns: Vec<PathBuf>) {
        // What was asked to be taken up last: with a configuration that is wrong it is not even tried.
        let mut asked = None;
        loop {
            sleep(LOOK).await;
            let (name, patterns) = (self.name.clone(), patterns.clone());
            let Ok(now) = spawn_blocking(move || of_files(&name, &patterns)).await else {
                continue;
            };
            if !self.known.has_tried(&now) && asked != Some(now.hash()) && self.reload().await {
                asked = Some(now.hash());
            }
        }
    }

    async fn http(self, mut list: HttpList) {
        let source = ListSource::Http(list.clone());
        // A list that is new in the configuration was not asked for yet.
        let mut was_asked = self.known.good(&self.name, &source).is_some();
        let mut lister = None;
        loop {
            if was_asked {
                sleep(list.every).await;
            }
            was_asked = true;
            let mut read = list.clone();
            let reading = spawn_blocking(move || {
                let changed = read.reread();
                (read, changed)
            });
            let Ok((read, changed)) = reading.await else {
                continue;
            };
            list = read;
            match changed {
                Ok(false) => {}
                Ok(true) => lister = None,
                Err(what) => self.failed(&what),
            }
            match self.get(&list, &mut lister).await {
                Err(error) => self.failed(&error),
                Ok(said) => {
                    if self.known.good(&self.name, &source).as_ref() != Some(&said) {
                        self.known.offer(Got {
                            name: self.name.clone(),
                            source: source.clone(),
                            said: Ok(said),
                        });
                        // One that is refused is offered again the next time.
                        self.reload().await;
                    }
                }
            }
        }
    }

    async fn get(&self, list: &HttpList, lister: &mut Option<Lister>) -> Result<Said, String> {
        let asks = match lister.take() {
            Some(lister) => lister,
            None => Lister::new(list, &self.user_agent, &self.blocking).map_err(|error| error.to_string())?,
        };
        let got = lister.insert(asks).get().await;
        got.and_then(answer)
    }

    /// Whether anybody listened.
    async fn reload(&self) -> bool {
        let answer = self.reloader.ask("a list of targets, which changed").await;
        answer != Answer::Refused
    }

    fn failed(&self, error: &str) {
        failed(&self.metrics, &self.name, error);
    }
}

fn failed(metrics: &Metrics, list: &Name, error: &str) {
    metrics.list_failed(list);
    tracing::warn!(%list, error, "the targets stay those of the last good list, if there was one");
}
