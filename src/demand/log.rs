//! The log of one burst, as text: the lines that the program logs of it, those of level debug included.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{Dispatch, dispatcher::with_default, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

/// Of a longer log the end is left out.
const MAX_BYTES: usize = 1 << 20;

const LEFT_OUT: &str = "the rest is left out\n";

/// A log that is kept in memory.
#[derive(Clone, Debug)]
pub(super) struct Log {
    written: Written,
    dispatch: Dispatch,
}

#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Default for Log {
    fn default() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_logfmt::builder()
            .with_target(false)
            .layer()
            .with_writer(move || writer.clone());
        // What others log at this level stays switched off.
        let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::DEBUG);
        let registry = tracing_subscriber::registry().with(own).with(layer);
        Self {
            written,
            dispatch: Dispatch::new(registry),
        }
    }
}

impl Log {
    /// Keeps what `logs` logs.
    pub(super) fn keep(&self, logs: impl FnOnce()) {
        with_default(&self.dispatch, logs);
    }

    pub(super) fn text(self) -> String {
        let written = self.written.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }
}

impl io::Write for Written {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() + line.len() <= MAX_BYTES {
            written.extend_from_slice(line);
        } else if !written.ends_with(LEFT_OUT.as_bytes()) {
            written.extend_from_slice(LEFT_OUT.as_bytes());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_logged_within_and_no_more_than_there_is_room_for() {
        let log = Log::default();
        tracing::error!("outside");
        log.keep(|| tracing::debug!(answer = 42, "inside"));
        log.keep(|| tracing::trace!("too fine"));
        let text = log.clone().text();
        assert!(text.contains("answer=42") && text.contains("inside"), "{text}");
        assert!(!text.contains("outside") && !text.contains("too fine"), "{text}");
        let long = "x".repeat(1000);
        for _ in 0..=MAX_BYTES / 1000 {
            log.keep(|| tracing::info!(long, "again"));
        }
        let text = log.text();
        assert!(text.len() <= MAX_BYTES + LEFT_OUT.len() && text.ends_with(LEFT_OUT));
    }
}
