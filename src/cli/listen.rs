//! Where `serve` and `demo` listen.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context, bail};
use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use crate::web::Listener;

/// The owner and the group may connect: a proxy or an agent of another user has to be of the group.
const SOCKET_MODE: u32 = 0o660;

/// Where to listen: `:9850` (every address), `127.0.0.1:9850`, `[::1]:9850`, `localhost:9850`, `unix:/run/llm.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListenAddress {
    Tcp(String),
    Unix { path: PathBuf, mode: u32 },
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(socket) = text.strip_prefix("unix:") {
            let (path, mode) = socket.split_once("?mode=").unwrap_or((socket, ""));
            let mode = match mode {
                "" if !socket.contains('?') => Some(SOCKET_MODE),
                digits => u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777),
            };
            return match (path, mode) {
                ("", _) | (_, None) => {
                    Err("write unix:PATH or unix:PATH?mode=0660, for example unix:/run/llm-probe.sock")
                }
                (path, Some(mode)) => Ok(Self::Unix {
                    path: path.into(),
                    mode,
                }),
            };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let is_address = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        if port.parse::<u16>().is_err() || !is_address {
            return Err("write [HOST]:PORT, for example :9850, 127.0.0.1:9850 or [::1]:9850, or unix:PATH");
        }
        let host = if host.is_empty() { "[::]" } else { host };
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

/// Listens on every address, or on none.
pub(super) async fn listen(addresses: &[ListenAddress]) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(match address {
            ListenAddress::Tcp(address) => Listener::Tcp(bind(address).await?),
            ListenAddress::Unix { path, mode } => Listener::unix(path, *mode)
                .with_context(|| format!("cannot listen on unix:{}", path.display()))?,
        });
    }
    Ok(listeners)
}

/// Takes over the sockets that systemd has opened. Call it on a runtime, once.
pub(super) fn from_systemd() -> anyhow::Result<Vec<Listener>> {
    let mut handed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for at in 0..handed.len() {
        if let Ok(Some(listener)) = handed.take_tcp_listener(at) {
            listener.set_nonblocking(true)?;
            listeners.push(Listener::Tcp(TcpListener::from_std(listener)?));
        } else if let Some(listener) = handed
            .take_unix_listener(at)
            .with_context(|| format!("socket {at} is neither a TCP nor a Unix stream socket; write `ListenStream=` in the socket unit"))?
        {
            listener.set_nonblocking(true)?;
            // systemd made its file, and removes it.
            listeners.push(Listener::Unix(UnixListener::from_std(listener)?, None));
        }
    }
    if listeners.is_empty() {
        bail!(
            "no sockets were handed over (LISTEN_FDS); start the exporter by a socket unit, or leave the option out"
        );
    }
    Ok(listeners)
}

async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        // A kernel without IPv6 has no "every address" of it.
        Err(error) if error.kind() == io::ErrorKind::Unsupported || is_no_ipv6(&error) => {
            let port = address.strip_prefix("[::]:").and_then(|port| port.parse().ok());
            match port {
                Some(port) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
                None => Err(error),
            }
        }
        bound => bound,
    };
    bound.with_context(|| format!("cannot listen on {address}"))
}

fn is_no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}
