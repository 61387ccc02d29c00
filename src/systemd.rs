//! What systemd is told of this process where it is its service manager (`Type=notify-reload`, `WatchdogSec=`): the
//! protocol of `sd_notify(3)`. Without `NOTIFY_SOCKET` nothing is said.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{linux::net::SocketAddrExt as _, unix::ffi::OsStrExt as _, unix::net},
    time::Duration,
};

use sd_notify::{NotifyState, watchdog_enabled};
use tokio::{net::UnixDatagram, time::timeout};

/// Nobody waits longer for a service manager that does not read what it is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// It is up, and does this.
pub async fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]).await;
}

/// What it does now.
pub async fn status(status: &str) {
    tell(&[NotifyState::Status(status)]).await;
}

/// It reads its configuration again; [`ready`] ends that.
pub async fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => {
            let status = NotifyState::Status("reading the configuration again");
            tell(&[NotifyState::Reloading, now, status]).await;
        }
        Err(error) => untold(&error),
    }
}

/// It is about to end.
pub async fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]).await;
}

/// It makes progress: to be said within each [`watchdog`] interval.
pub async fn alive() {
    if watchdog().is_some() {
        tell(&[NotifyState::Watchdog]).await;
    }
}

/// How long the service manager waits for a sign of life before it starts the process anew; `None`: it does not.
pub fn watchdog() -> Option<Duration> {
    watchdog_enabled().filter(|limit| !limit.is_zero())
}

async fn tell(states: &[NotifyState<'_>]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
    let message = lines.join("\n") + "\n";
    match timeout(PATIENCE, send(&socket, message.as_bytes())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => untold(&error),
        Err(_) => tracing::warn!("the service manager does not read what it is told (NOTIFY_SOCKET)"),
    }
}

fn untold(error: &io::Error) {
    tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
}

/// Takes no thread that may block: where a file system does not answer there may be none left, and a process that gives no
/// sign of life is killed.
async fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name)?,
        None => net::SocketAddr::from_pathname(socket)?,
    };
    let sender = net::UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.connect_addr(&address)?;
    UnixDatagram::from_std(sender)?.send(message).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_thread_that_is_blocked_keeps_nothing_from_being_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = net::UnixDatagram::bind(&path).unwrap();
        let mut building = Builder::new_multi_thread();
        let runtime = building.worker_threads(1).max_blocking_threads(1).enable_all();
        let runtime = runtime.build().unwrap();
        let (end, blocks) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || blocks.recv());
        let telling = async { timeout(PATIENCE * 10, send(path.as_os_str(), b"WATCHDOG=1\n")).await };
        runtime.block_on(telling).unwrap().unwrap();
        let mut bytes = [0; 32];
        let length = listening.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"WATCHDOG=1\n");
        drop(end);
    }

    #[tokio::test]
    async fn a_socket_may_have_an_abstract_name() {
        let name = format!("llm-probe-exporter-test-{}", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let listening = net::UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), b"READY=1\n").await.unwrap();
        assert_eq!(listening.recv(&mut [0; 32]).unwrap(), 8);
    }

    /// What nobody reads is given up.
    #[tokio::test(start_paused = true)]
    async fn a_service_manager_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _listening = net::UnixDatagram::bind(&path).unwrap();
        let full = async {
            loop {
                send(path.as_os_str(), b"STATUS=again\n").await.unwrap();
            }
        };
        timeout(PATIENCE, full).await.unwrap_err();
    }
}
