//! What survives restarts, in one small file under `--storage.path`. Each part of it belongs to the module that
//! knows what it means.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{backoff::Kept, baseline::Baseline, budget::Used, calibration::Calibration};

/// The form of the file. Another one is set aside.
const VERSION: u32 = 1;

/// Larger files are not ours.
const MAX_BYTES: u64 = 64 << 20;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    #[serde(default)]
    pub budgets: BTreeMap<String, Used>,
    /// Endpoints that are left alone.
    #[serde(default)]
    pub backoffs: BTreeMap<String, Kept>,
    #[serde(default)]
    pub baselines: BTreeMap<String, Baseline>,
    #[serde(default)]
    pub calibrations: BTreeMap<String, Calibration>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<S> {
    version: u32,
    #[serde(flatten)]
    state: S,
}

impl State {
    /// What a file holds; else what is wrong with it.
    pub fn understood(bytes: &[u8]) -> Result<Self, String> {
        let file: Versioned<Value> =
            serde_json::from_slice(bytes).map_err(|error| format!("cannot be understood ({error})"))?;
        if file.version != VERSION {
            return Err(format!("is of version {} and not {VERSION}", file.version));
        }
        serde_json::from_value(file.state).map_err(|error| format!("cannot be understood ({error})"))
    }

    /// What a file is to hold.
    pub fn written(&self) -> io::Result<Vec<u8>> {
        let versioned = Versioned {
            version: VERSION,
            state: self,
        };
        Ok(serde_json::to_vec(&versioned)?)
    }
}

/// The directory in which the state is kept.
#[derive(Clone, Debug)]
pub struct Storage {
    path: PathBuf,
    /// Locked for as long as the process lives: two would overwrite what the other one keeps.
    _lock: Arc<File>,
}

impl Storage {
    /// The storage in `directory`, which must be there and writable, and what is kept there. A file that cannot be
    /// understood is renamed, with a warning. A directory that another process uses is an error.
    pub fn open(directory: &Path) -> io::Result<(Self, State)> {
        let storage = Self {
            _lock: Arc::new(lock(&directory.join("lock"))?),
            path: directory.join("state.json"),
        };
        let state = match fs::metadata(&storage.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error),
            Ok(found) if found.len() > MAX_BYTES => storage.set_aside("is larger than 64 MiB")?,
            Ok(_) => match State::understood(&fs::read(&storage.path)?) {
                Ok(state) => state,
                Err(why) => storage.set_aside(&why)?,
            },
        };
        // Says now and not in the middle of the night whether it can be written.
        storage.save(&state)?;
        Ok((storage, state))
    }

    /// Replaces what is kept: a reader sees the old file or the new one, also after a crash.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let text = state.written()?;
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }

    fn set_aside(&self, why: &str) -> io::Result<State> {
        let aside = self.path.with_extension("json.unreadable");
        fs::rename(&self.path, &aside)?;
        tracing::warn!(
            file = %self.path.display(),
            now = %aside.display(),
            "the state file {why}: it is set aside, and budgets, baselines and calibrations begin anew"
        );
        Ok(State::default())
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "another process keeps its state there and holds {}: give each replica a directory of its own",
                    path.display()
                ),
            ));
        }
        Err(TryLockError::Error(error)) => tracing::warn!(
            file = %path.display(),
            %error,
            "cannot be locked: see to it that no other process has the same --storage.path"
        ),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Amounts, Per};

    fn state() -> State {
        let used = Used {
            per: Per::Day,
            since: 86_400.0,
            used: Amounts {
                requests: 3.0,
                dollars: 0.1,
                ..Amounts::default()
            },
        };
        State {
            budgets: BTreeMap::from([("probe/a b".to_owned(), used)]),
            backoffs: BTreeMap::new(),
            baselines: BTreeMap::new(),
            calibrations: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_saved_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (storage, found) = Storage::open(folder.path()).unwrap();
        assert_eq!(found, State::default());
        storage.save(&state()).unwrap();
        drop(storage);
        let (_, found) = Storage::open(folder.path()).unwrap();
        assert_eq!(found, state());
    }

    #[test]
    fn what_cannot_be_understood_is_set_aside() {
        for text in [
            "",
            "{",
            "[]",
            "{\"version\":2,\"budgets\":{}}",
            "{\"version\":1,\"budgets\":[]}",
            "{\"version\":1,\"budgets\":{\"probe/a\":{\"per\":\"week\"}}}",
            "\u{0}\u{0}",
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("state.json"), text).unwrap();
            let (_, found) = Storage::open(folder.path()).unwrap();
            assert_eq!(found, State::default(), "{text:?}");
            let aside = fs::read_to_string(folder.path().join("state.json.unreadable")).unwrap();
            assert_eq!(aside, text);
        }
    }

    #[test]
    fn a_directory_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = Storage::open(folder.path()).unwrap();
        let clone = first.clone();
        drop(first);
        let refused = Storage::open(folder.path()).unwrap_err();
        assert!(
            refused.to_string().contains("give each replica a directory"),
            "{refused}"
        );
        clone.save(&state()).unwrap();
        drop(clone);
        assert_eq!(Storage::open(folder.path()).unwrap().1, state());
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(Storage::open(Path::new("/nonexistent/directory")).is_err());
    }
}
