//! The two runtimes: one measures, the other does everything else, so that rendering a page or resolving a
//! name never delays the stamp of a byte.

use std::{io, thread::available_parallelism};

use rustix::process::Resource;
use tokio::runtime::{Builder, Runtime};

/// Both runtimes of the process.
#[derive(Debug)]
pub struct Runtimes {
    /// Schedule, bursts, client. Nothing that blocks runs on it.
    pub measure: Runtime,
    /// Web, rendering, name resolution, the books.
    pub service: Runtime,
}

impl Runtimes {
    /// Also lets the process have as many file descriptors as the system allows: each request takes one.
    pub fn start() -> io::Result<Self> {
        raise_file_limit();
        let cores = available_parallelism().map_or(1, usize::from);
        let measure = Builder::new_multi_thread()
            .worker_threads(cores.min(4))
            .thread_name("measure")
            .enable_all()
            .build()?;
        let service = Builder::new_multi_thread()
            .worker_threads(cores.min(2))
            .thread_name("service")
            .enable_all()
            .build()?;
        Ok(Self { measure, service })
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
