//! SIGHUP: read the configuration again.

use std::{io, sync::Arc};

use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};

use crate::reload::Reloader;

/// What comes of it while nobody listens yet is heard then. Clones hear the same.
#[derive(Clone, Debug)]
pub(super) struct HangUps(Arc<Mutex<Signal>>);

impl HangUps {
    /// From now on the signal does not end the process: to be called before anything that takes its time.
    pub(super) fn new(runtime: &Handle) -> io::Result<Self> {
        let _runtime = runtime.enter();
        Ok(Self(Arc::new(Mutex::new(signal(SignalKind::hangup())?))))
    }

    /// Asks for a reload at each.
    pub(super) async fn reload_at_each(self, reloader: Reloader) {
        let mut hang_ups = self.0.lock().await;
        while hang_ups.recv().await.is_some() {
            reloader.ask("SIGHUP").await;
        }
    }
}
