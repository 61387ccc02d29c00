//! Standard error, of which the last lines are also kept for the page.

use std::io::{self, Write as _};

use llm_probe_exporter::logs::Logs;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Makes a writer for each event.
pub(crate) struct Tee(pub(crate) Logs);

/// What is written of one event.
pub(crate) struct Event<'a> {
    logs: &'a Logs,
    level: Level,
    written: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Tee {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        self.of(Level::INFO)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Event<'a> {
        self.of(*event.level())
    }
}

impl Tee {
    fn of(&self, level: Level) -> Event<'_> {
        Event {
            logs: &self.0,
            level,
            written: Vec::new(),
        }
    }
}

impl io::Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        self.logs.keep(self.level, &self.written);
        // If standard error is gone, there is nobody to tell.
        io::stderr().write_all(&self.written).ok();
    }
}
