//! Where `serve` and `demo` listen.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

use anyhow::Context;
use tokio::net::TcpListener;

/// Where to listen: `:9850` (every address), `127.0.0.1:9850`, `[::1]:9850`, `localhost:9850`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListenAddress(String);

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let is_address = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        if port.parse::<u16>().is_err() || !is_address {
            return Err("write [HOST]:PORT, for example :9850, 127.0.0.1:9850 or [::1]:9850");
        }
        let host = if host.is_empty() { "[::]" } else { host };
        Ok(Self(format!("{host}:{port}")))
    }
}

/// Listens on every address, or on none.
pub(super) async fn listen(addresses: &[ListenAddress]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(bind(address).await?);
    }
    Ok(listeners)
}

async fn bind(ListenAddress(address): &ListenAddress) -> anyhow::Result<TcpListener> {
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
