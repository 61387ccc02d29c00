//! Writes a recording, on a thread of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use serde::Serialize;
use tokio::time::Instant;

use super::{FORMAT, VERSION, line::Line, secrets::Secrets};
use crate::{clock::unix_now, config::plan::Series, summary::Judged};

/// A recording that is being written.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    ended: Sender<(Series, Box<Judged>)>,
    writing: JoinHandle<Written>,
}

/// How many requests are in the file, and what kept the others from it.
type Written = (u64, io::Result<()>);

/// Why a recording is not, or not all, in its file.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    #[error("--record={}: the file exists, and a recording overwrites nothing; remove it or name another", .0.display())]
    Exists(PathBuf),
    #[error("--record={}: {}", .0.display(), .1)]
    Create(PathBuf, io::Error),
    #[error("--record={path}: {source}; the file has the first {requests} requests", path = .path.display())]
    Write {
        path: PathBuf,
        source: io::Error,
        requests: u64,
    },
}

#[derive(Serialize)]
struct Header {
    format: &'static str,
    version: u32,
    program: &'static str,
    recorded_unix_seconds: f64,
}

impl Recorder {
    /// Creates the file, readable by its owner alone. Requests will count their time from `began`.
    pub fn create(path: &Path, began: Instant) -> Result<Self, RecorderError> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => RecorderError::Exists(path.into()),
            _ => RecorderError::Create(path.into(), error),
        };
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(refused)?;
        let header = Header {
            format: FORMAT,
            version: VERSION,
            program: env!("CARGO_PKG_VERSION"),
            recorded_unix_seconds: unix_now(),
        };
        write_line(&mut file, &header).map_err(refused)?;
        let (ended, requests) = channel();
        let thread = thread::Builder::new().name("record".into());
        let writing = thread.spawn(move || write(file, &requests, began));
        Ok(Self {
            path: path.into(),
            ended,
            writing: writing.map_err(refused)?,
        })
    }

    /// Writes an ended request. It returns at once.
    pub fn write(&self, series: &Series, judged: Box<Judged>) {
        // The thread listens until the last sender is gone.
        self.ended.send((series.clone(), judged)).ok();
    }

    /// Waits until all is written; the number of requests.
    pub fn finish(self) -> Result<u64, RecorderError> {
        drop(self.ended);
        let panicked = |_| (0, Err(io::Error::other("the recorder panicked")));
        match self.writing.join().unwrap_or_else(panicked) {
            (requests, Ok(())) => Ok(requests),
            (requests, Err(source)) => Err(RecorderError::Write {
                path: self.path,
                source,
                requests,
            }),
        }
    }
}

/// Writes each request as it comes. After a failure the rest is only taken, so that no memory fills up.
fn write(mut file: File, ended: &Receiver<(Series, Box<Judged>)>, began: Instant) -> Written {
    let (mut requests, mut written) = (0, Ok(()));
    let mut whole = file.metadata().map_or(0, |file| file.len());
    for (series, judged) in ended {
        if written.is_err() {
            continue;
        }
        let secrets = judged.record.tape.as_deref().map(Secrets::of);
        let secrets = secrets.unwrap_or_default();
        let Some(line) = Line::of(&series, &judged, began, &secrets) else {
            continue;
        };
        match write_line(&mut file, &line) {
            Ok(length) => {
                requests += 1;
                whole += length;
            }
            Err(error) => {
                tracing::error!(%error, "recording stopped");
                // What came of half a line only makes the file unreadable.
                file.set_len(whole).ok();
                written = Err(error);
            }
        }
        if line.masked {
            tell_if_different(line, &series, began);
        }
    }
    (requests, written)
}

/// Writes a line with its end in one go, so that whoever reads meanwhile sees whole lines.
fn write_line(file: &mut File, line: &impl Serialize) -> io::Result<u64> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    Ok(text.len() as u64)
}

/// A secret that is a word of the protocol cannot be taken out without a trace.
fn tell_if_different(line: Line, series: &Series, epoch: Instant) {
    let Ok(recorded) = line.checked(epoch) else { return };
    let judged = recorded.judge(&recorded.slo);
    if let Some(difference) = recorded.difference(&judged) {
        tracing::warn!(
            probe = %series.probe.name, target = %series.target.name, request = recorded.number(), difference,
            "this request does not replay as it was: a secret had to be taken out of it"
        );
    }
}
