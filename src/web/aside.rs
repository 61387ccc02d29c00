//! Work that is long, done where it takes no core away from a thread that measures.

use std::{io, thread};

/// Of a thread that does it: on a busy core it gets a tenth of what one that measures gets, and is still done in time.
const NICENESS: i32 = 10;

/// Does `work` on a thread of its own, because one that has stepped back cannot step forward again, and names are
/// resolved on those of the runtime. One of those waits for it, as a paused clock waits for nothing else. Fails where
/// there is no thread to be had, or it panicked.
pub(super) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let thread = thread::Builder::new().name(name.to_owned());
    let done = tokio::task::spawn_blocking(move || {
        thread.spawn(|| stepping_back(work)).map(thread::JoinHandle::join)
    });
    match done.await {
        Ok(Ok(Ok(made))) => Ok(made),
        Ok(Err(error)) => Err(error),
        Ok(Ok(Err(_))) | Err(_) => Err(io::ErrorKind::Other.into()),
    }
}

fn stepping_back<T>(work: impl FnOnce() -> T) -> T {
    // Of this thread alone. Where it is refused, the work is done all the same.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "work of the web server competes with measuring");
    }
    work()
}
