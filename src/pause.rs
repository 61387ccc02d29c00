//! The kill switch: while it is on, nothing is sent. Two hands are on it, a file and an HTTP request, and nothing
//! is sent until both let go.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};

use crate::clock::unix_now;

/// How often the file is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// A file system that does not answer in this time has told nothing new.
const PATIENCE: Duration = Duration::from_secs(1);

/// The switch. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct PauseSwitch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    file: Option<PathBuf>,
    holds: watch::Sender<Holds>,
}

/// Who holds all bursts back, and since when, in seconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holds {
    /// A file that exists.
    pub file: Option<(PathBuf, f64)>,
    /// `POST /-/pause`.
    pub post: Option<f64>,
}

impl Holds {
    pub fn is_any(&self) -> bool {
        self.file.is_some() || self.post.is_some()
    }

    /// Since when nothing is sent.
    pub fn since(&self) -> Option<f64> {
        let file = self.file.as_ref().map(|(_, since)| *since);
        file.into_iter().chain(self.post).reduce(f64::min)
    }
}

/// Why nothing is sent, and how it will be.
impl fmt::Display for Holds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, _)) = &self.file {
            write!(out, "the file {} exists", file.display())?;
        }
        if self.file.is_some() && self.post.is_some() {
            out.write_str(", and ")?;
        }
        if self.post.is_some() {
            out.write_str("POST /-/pause was called")?;
        }
        Ok(())
    }
}

impl PauseSwitch {
    /// A switch that is on while `file` exists, too.
    pub fn with_file(file: Option<PathBuf>) -> Self {
        let holds = watch::Sender::default();
        Self(Arc::new(Inner { file, holds }))
    }

    pub fn is_on(&self) -> bool {
        self.0.holds.borrow().is_any()
    }

    pub fn holds(&self) -> Holds {
        self.0.holds.borrow().clone()
    }

    /// What [`Self::holds`] tells, as it changes.
    pub fn watch(&self) -> watch::Receiver<Holds> {
        self.0.holds.subscribe()
    }

    /// Holds all bursts back by request, or no longer does.
    pub fn post(&self, hold: bool) {
        self.change(|holds| {
            holds.post = hold.then(|| holds.post.unwrap_or_else(unix_now));
        });
    }

    /// Looks for the file, on a thread that may block.
    pub async fn look(&self, blocking: &Handle) {
        let Some(file) = self.0.file.clone() else {
            return;
        };
        let looked = blocking.spawn_blocking(move || (std::fs::symlink_metadata(&file).map(|_| ()), file));
        match timeout(PATIENCE, looked).await {
            Ok(Ok((Ok(()), file))) => self.change(|holds| {
                holds.file.get_or_insert_with(|| (file, unix_now()));
            }),
            Ok(Ok((Err(error), _))) if is_absent(&error) => self.change(|holds| holds.file = None),
            // It may be there or not: what was known last holds.
            Ok(Ok((Err(error), file))) => {
                tracing::warn!(file = %file.display(), %error, "cannot look for the pause file");
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot look for the pause file"),
            Err(_) => tracing::warn!("the file system of the pause file does not answer"),
        }
    }

    /// Keeps looking for the file, if there is one to look for.
    pub async fn keep_looking(self, blocking: Handle) {
        while self.0.file.is_some() {
            self.look(&blocking).await;
            sleep(LOOK).await;
        }
    }

    /// Says so where anything changed.
    fn change(&self, change: impl FnOnce(&mut Holds)) {
        let (mut before, mut after) = (Holds::default(), Holds::default());
        self.0.holds.send_if_modified(|holds| {
            before = holds.clone();
            change(holds);
            after = holds.clone();
            before != after
        });
        match (before.is_any(), after.is_any()) {
            (false, true) => tracing::warn!(why = %after, "paused: nothing is sent"),
            (true, false) => tracing::info!("resumed"),
            (true, true) if before != after => tracing::warn!(why = %after, "still paused"),
            _ => {}
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_on_until_both_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pause");
        let switch = PauseSwitch::with_file(Some(file.clone()));
        let look = async || switch.look(&Handle::current()).await;
        look().await;
        assert!(!switch.is_on());
        std::fs::write(&file, "").unwrap();
        look().await;
        assert!(switch.is_on());
        let since = switch.holds().since();
        switch.post(true);
        look().await;
        assert_eq!(switch.holds().since(), since);
        assert!(switch.holds().to_string().contains("exists, and POST"));
        std::fs::remove_file(&file).unwrap();
        look().await;
        assert!(switch.is_on() && switch.holds().file.is_none());
        switch.post(false);
        assert_eq!(switch.holds(), Holds::default());
        // A path below a file is no file that exists.
        let below = PauseSwitch::with_file(Some("/dev/null/pause".into()));
        below.look(&Handle::current()).await;
        assert!(!below.is_on());
    }
}
