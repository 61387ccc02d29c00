//! The two runtimes: one measures, the other does everything else, so that rendering a page or resolving a
//! name never delays the stamp of a byte.

mod realtime;

use std::{io, sync::mpsc, thread::available_parallelism};

use rustix::process::Resource;
use thread_priority::thread_native_id;
use tokio::runtime::{Builder, Runtime};

pub use self::realtime::NotRealtime;
use self::realtime::{Workers, become_ordinary_here};

/// Both runtimes of the process.
#[derive(Debug)]
pub struct Runtimes {
    /// Schedule, bursts, client. Nothing that blocks runs on it.
    pub measure: Runtime,
    /// Web, rendering, name resolution, the books.
    pub service: Runtime,
    /// The threads of `measure`.
    workers: Workers,
}

impl Runtimes {
    /// Also lets the process have as many file descriptors as the system allows: each request takes one.
    pub fn start() -> io::Result<Self> {
        // Where it was begun as a real-time thread, it is not the one that measures.
        become_ordinary_here();
        raise_file_limit();
        let cores = available_parallelism().map_or(1, usize::from);
        let measuring = cores.min(4);
        let (tell, started) = mpsc::channel();
        let measure = Builder::new_multi_thread()
            .worker_threads(measuring)
            .thread_name("measure")
            .on_thread_start(move || {
                if tell.send(thread_native_id()).is_err() {
                    // All workers have started: this is another one.
                    become_ordinary_here();
                }
            })
            .enable_all()
            .build()?;
        let workers = Workers(started.iter().take(measuring).collect());
        drop(started);
        let service = Builder::new_multi_thread()
            .worker_threads(cores.min(2))
            .thread_name("service")
            .on_thread_start(become_ordinary_here)
            .enable_all()
            .build()?;
        Ok(Self {
            measure,
            service,
            workers,
        })
    }

    /// Ends both without waiting for threads that block: a name that is still being resolved may take a minute.
    pub fn end(self) {
        self.measure.shutdown_background();
        self.service.shutdown_background();
    }
}

/// The soft limit is 1,024 nearly everywhere, for the sake of `select`, which nobody here calls.
fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
