//! What systemd is told of this process where it is its service manager (`Type=notify-reload`, `WatchdogSec=`): the
//! protocol of `sd_notify(3)`. Without `NOTIFY_SOCKET` nothing is said.

use std::{env, io, time::Duration};

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::timeout;

/// Nobody waits longer for a service manager that does not read what it is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// It is up, and does this.
pub async fn ready(status: String) {
    tell(move || notify(&[NotifyState::Ready, NotifyState::Status(&status)])).await;
}

/// What it does now.
pub async fn status(status: String) {
    tell(move || notify(&[NotifyState::Status(&status)])).await;
}

/// It reads its configuration again; [`ready`] ends that.
pub async fn reloading() {
    tell(|| {
        notify(&[
            NotifyState::Reloading,
            NotifyState::monotonic_usec_now()?,
            NotifyState::Status("reading the configuration again"),
        ])
    })
    .await;
}

/// It is about to end.
pub async fn stopping() {
    tell(|| notify(&[NotifyState::Stopping, NotifyState::Status("draining")])).await;
}

/// It makes progress: to be said within each [`watchdog`] interval.
pub async fn alive() {
    if watchdog().is_some() {
        tell(|| notify(&[NotifyState::Watchdog])).await;
    }
}

/// How long the service manager waits for a sign of life before it starts the process anew; `None`: it does not.
pub fn watchdog() -> Option<Duration> {
    watchdog_enabled().filter(|limit| !limit.is_zero())
}

async fn tell(send: impl FnOnce() -> io::Result<()> + Send + 'static) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    match timeout(PATIENCE, tokio::task::spawn_blocking(send)).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)"),
        Ok(Err(error)) => tracing::error!(%error, "the service manager was not told"),
        Err(_) => tracing::warn!("the service manager does not read what it is told (NOTIFY_SOCKET)"),
    }
}
