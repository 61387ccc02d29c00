//! Asking for the configuration to be read again: over HTTP, by a signal, or because its file has changed.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Orders that may wait; they are carried out one after the other.
const WAITING: usize = 16;

/// Larger files are no configurations: that is told when it is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Whoever may ask. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<Order>);

/// To read the configuration again.
#[derive(Debug)]
pub struct Order {
    /// Who asks, for the log.
    pub by: &'static str,
    answer: oneshot::Sender<Answer>,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What has changed, in words.
    Done(String),
    /// What is wrong with the configuration. The one before is still in force.
    Rejected(String),
    /// The exporter ends, or too many have asked.
    Refused,
}

impl Reloader {
    /// And where orders arrive.
    pub fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders, arriving) = mpsc::channel(WAITING);
        (Self(orders), arriving)
    }

    /// Asks, and waits for what becomes of it.
    pub async fn ask(&self, by: &'static str) -> Answer {
        let (answer, answered) = oneshot::channel();
        match self.0.try_send(Order { by, answer }) {
            Ok(()) => answered.await.unwrap_or(Answer::Refused),
            Err(_) => Answer::Refused,
        }
    }

    /// Asks whenever the file has changed. A file that is replaced, or mounted anew by Kubernetes, counts as changed;
    /// one that was only touched does not.
    pub async fn keep_watching(self, file: PathBuf) {
        let mut before = seen(&file).await;
        loop {
            sleep(LOOK).await;
            let now = seen(&file).await;
            // A file that is just being replaced may be gone for a moment.
            if now.is_some() && now != before {
                before = now;
                self.ask("the file, which changed").await;
            }
        }
    }
}

impl Order {
    /// Tells who asked what became of it.
    pub fn answer(self, answer: Answer) {
        // Who asked may have gone.
        self.answer.send(answer).ok();
    }
}

/// Where the file is in the end, and what it says; `None` where it cannot be read.
pub async fn seen(file: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let file = file.to_owned();
    let look = move || -> std::io::Result<_> {
        // Kubernetes mounts by a link to a new directory each time, also when another file of it has changed.
        let real = file.canonicalize()?;
        let mut bytes = Vec::new();
        std::fs::File::open(&real)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)?;
        Ok((real, bytes))
    };
    tokio::task::spawn_blocking(look).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[tokio::test]
    async fn who_asks_hears_what_became_of_it() {
        let (reloader, mut orders) = Reloader::new();
        let asking = tokio::spawn(async move { reloader.ask("a test").await });
        let order = orders.recv().await.unwrap();
        assert_eq!(order.by, "a test");
        order.answer(Answer::Done("nothing".into()));
        assert_eq!(asking.await.unwrap(), Answer::Done("nothing".into()));
    }

    #[tokio::test]
    async fn an_exporter_that_ends_refuses() {
        let (reloader, orders) = Reloader::new();
        drop(orders);
        assert_eq!(reloader.ask("a test").await, Answer::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_has_changed_when_it_says_something_else_or_is_mounted_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // As Kubernetes does it: file → ..data/file, ..data → ..2026_1.
        for data in ["..2026_1", "..2026_2"] {
            fs::create_dir(path(data)).unwrap();
            fs::write(path(data).join("probes.yaml"), "same").unwrap();
        }
        symlink("..2026_1", path("..data")).unwrap();
        symlink("..data/probes.yaml", path("probes.yaml")).unwrap();
        let first = seen(&path("probes.yaml")).await;
        assert!(first.is_some());
        assert_eq!(seen(&path("probes.yaml")).await, first);

        symlink("..2026_2", path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
        let second = seen(&path("probes.yaml")).await;
        assert_ne!(second, first);

        fs::write(path("probes.yaml"), "other").unwrap();
        assert_ne!(seen(&path("probes.yaml")).await, second);
        fs::remove_file(path("..2026_2").join("probes.yaml")).unwrap();
        assert_eq!(seen(&path("probes.yaml")).await, None);
    }
}
