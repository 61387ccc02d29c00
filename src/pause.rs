//! The kill switch: while it is on, nothing is sent. Two hands are on it, a file and an HTTP request, and nothing
//! is sent until both let go.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    task::JoinHandle,
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
    /// The look that is under way, or hangs.
    looking: Mutex<Option<JoinHandle<io::Result<()>>>>,
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
        Self(Arc::new(Inner {
            file,
            ..Inner::default()
        }))
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
        self.look_with(blocking, |file| fs::symlink_metadata(file).map(drop))
            .await;
    }

    async fn look_with(
        &self,
        blocking: &Handle,
        find: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) {
        let Some(file) = &self.0.file else {
            return;
        };
        match timeout(PATIENCE, self.find_with(file, blocking, find)).await {
            Ok(Ok(())) => self.change(|holds| {
                holds.file.get_or_insert_with(|| (file.clone(), unix_now()));
            }),
            Ok(Err(error)) if is_absent(&error) => self.change(|holds| holds.file = None),
            // It may be there or not: what was known last holds.
            Ok(Err(error)) => {
                tracing::warn!(file = %file.display(), %error, "cannot look for the pause file");
            }
            Err(_) => tracing::warn!("the file system of the pause file does not answer"),
        }
    }

    /// However often it is looked, a file system that hangs holds one thread.
    async fn find_with(
        &self,
        file: &Path,
        blocking: &Handle,
        find: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let mut looking = self.0.looking.lock().await;
        if let Some(hung) = looking.as_mut() {
            // What it found is old.
            hung.await.ok();
        }
        let file = file.to_owned();
        let look = looking.insert(blocking.spawn_blocking(move || find(&file)));
        let found = look.await;
        *looking = None;
        found.map_err(io::Error::other).flatten()
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
    use std::sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    };

    use super::*;

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_one_thread() {
        let switch = PauseSwitch::with_file(Some("/hangs/pause".into()));
        let looks = Arc::new(AtomicU32::new(0));
        let (answer, answers) = mpsc::channel::<()>();
        let answers = Arc::new(std::sync::Mutex::new(answers));
        let look = async || {
            let (looks, answers) = (Arc::clone(&looks), Arc::clone(&answers));
            let find = move |_: &Path| {
                looks.fetch_add(1, Ordering::Relaxed);
                answers.lock().unwrap().recv().map_err(io::Error::other)
            };
            switch.look_with(&Handle::current(), find).await;
        };
        for _ in 0..2 {
            tokio::join!(look(), look(), look());
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        assert!(!switch.is_on());
        // Once it answers, what it says counts again: of a look that begins then.
        answer.send(()).unwrap();
        answer.send(()).unwrap();
        look().await;
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        assert!(switch.is_on());
    }

    #[tokio::test]
    async fn it_is_on_until_both_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pause");
        let switch = PauseSwitch::with_file(Some(file.clone()));
        let look = async || switch.look(&Handle::current()).await;
        look().await;
        assert!(!switch.is_on());
        fs::write(&file, "").unwrap();
        look().await;
        assert!(switch.is_on());
        let since = switch.holds().since();
        switch.post(true);
        look().await;
        assert_eq!(switch.holds().since(), since);
        assert!(switch.holds().to_string().contains("exists, and POST"));
        fs::remove_file(&file).unwrap();
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
