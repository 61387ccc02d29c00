//! Work that is long, done where it takes no core away from a thread that measures.

/// Of a thread that does it: on a busy core it gets a tenth of what one that measures gets, and is still done in time.
const NICENESS: i32 = 10;

/// Does `work` on a thread of its own, because one that has stepped back cannot step forward again, and names are
/// resolved on those of the runtime. `None` where it panicked, or the runtime ends.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| scope.spawn(|| stepping_back(work)).join().ok())
    });
    done.await.ok().flatten()
}

fn stepping_back<T>(work: impl FnOnce() -> T) -> T {
    // Of this thread alone. Where it is refused, the work is done all the same.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "work of the web server competes with measuring");
    }
    work()
}
