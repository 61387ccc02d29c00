//! Names become addresses, and it is marked how long that took.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{runtime::Handle, time::Instant};
use url::Host;

use super::phases::{Way, current};

/// Resolves names with the system's resolver, on threads of the runtime that does not measure.
#[derive(Debug)]
pub(super) struct MarkingResolver {
    pub(super) runtime: Handle,
    /// Resolved in place of every name: where the URL carries the name that TLS is to verify.
    pub(super) instead: Option<Host<String>>,
}

impl Resolve for MarkingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = match &self.instead {
            Some(host) => host.to_string(),
            None => name.as_str().to_owned(),
        };
        // A SOCKS connector asks for addresses, too; those of version 6 stand in brackets.
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let addresses: Addrs = Box::new(std::iter::once(SocketAddr::new(address, 0)));
            return Box::pin(std::future::ready(Ok(addresses)));
        }
        let runtime = self.runtime.clone();
        Box::pin(async move {
            let marks = current();
            let mark = |set: &dyn Fn(&mut Way)| {
                if let Some(marks) = &marks {
                    marks.mark(set);
                }
            };
            let began = Instant::now();
            mark(&|way| way.is_resolving = true);
            let resolved = runtime
                .spawn_blocking(move || Ok((host.as_str(), 0).to_socket_addrs()?.collect()))
                .await?;
            let took = began.elapsed();
            mark(&|way| {
                way.is_resolving = false;
                way.dns_failed = resolved.is_err();
            });
            let addresses: Vec<SocketAddr> = resolved.map_err(|error: std::io::Error| error)?;
            mark(&|way| {
                way.dns = Some(way.dns.unwrap_or_default() + took);
                way.addresses = addresses.iter().map(SocketAddr::ip).collect();
            });
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
