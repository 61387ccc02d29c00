//! Names become addresses, and it is marked how long that took.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{runtime::Handle, sync::watch, time::Instant};
use url::Host;

use super::phases::{Way, current};
use crate::config::plan::Addresses;

/// Resolves names with the system's resolver, on threads of the runtime that does not measure. Requests that ask
/// for a name that is being looked up wait for that look-up: a name server that does not answer holds one
/// thread a name, not one a request.
#[derive(Debug)]
pub(super) struct MarkingResolver {
    runtime: Handle,
    /// Resolved in place of every name: where the URL carries the name that TLS is to verify.
    instead: Option<Host<String>>,
    /// Others are as if they did not exist. It is looked at here because from here the connection goes to what was looked
    /// at, whatever the name means a moment later.
    addresses: Addresses,
    under_way: Arc<Mutex<HashMap<String, watch::Receiver<Option<Found>>>>>,
}

pub(super) const NOT_PUBLIC: &str = "none of the addresses of this host is public";

/// What a look-up found.
type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

impl MarkingResolver {
    pub(super) fn new(runtime: Handle, instead: Option<Host<String>>, addresses: Addresses) -> Self {
        Self {
            runtime,
            instead,
            addresses,
            under_way: Arc::default(),
        }
    }

    fn look_up(&self, host: String) -> watch::Receiver<Option<Found>> {
        let mut under_way = lock(&self.under_way);
        if let Some(found) = under_way.get(&host) {
            return found.clone();
        }
        let (tell, found) = watch::channel(None);
        under_way.insert(host.clone(), found.clone());
        let under_way = Arc::clone(&self.under_way);
        self.runtime.spawn_blocking(move || {
            let addresses = (host.as_str(), 0).to_socket_addrs();
            lock(&under_way).remove(&host);
            tell.send_replace(Some(addresses.map(Iterator::collect).map_err(Arc::new)));
        });
        found
    }
}

/// Those that may be connected to. The error does not tell the others.
pub(super) fn admitted(found: Vec<SocketAddr>, addresses: Addresses) -> io::Result<Vec<SocketAddr>> {
    let admitted: Vec<_> = found
        .into_iter()
        .filter(|address| addresses.admit(address.ip()))
        .collect();
    if admitted.is_empty() && addresses == Addresses::Public {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, NOT_PUBLIC));
    }
    Ok(admitted)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resolve for MarkingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = match &self.instead {
            Some(host) => host.to_string(),
            None => name.as_str().to_owned(),
        };
        // A SOCKS connector asks for addresses, too; those of version 6 stand in brackets.
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let addresses = admitted(vec![SocketAddr::new(address, 0)], self.addresses);
            let addresses = addresses.map(|addresses| Box::new(addresses.into_iter()) as Addrs);
            return Box::pin(std::future::ready(addresses.map_err(Into::into)));
        }
        let (mut look_up, addresses) = (self.look_up(host), self.addresses);
        Box::pin(async move {
            let marks = current();
            let mark = |set: &dyn Fn(&mut Way)| {
                if let Some(marks) = &marks {
                    marks.mark(set);
                }
            };
            let began = Instant::now();
            mark(&|way| way.is_resolving = true);
            let found = look_up.wait_for(Option::is_some).await;
            let resolved = match found.ok().and_then(|found| (*found).clone()) {
                Some(found) => found.map_err(|error| io::Error::new(error.kind(), error.to_string())),
                None => Err(io::Error::other("the look-up was given up")),
            };
            let resolved = resolved.and_then(|found| admitted(found, addresses));
            let took = began.elapsed();
            mark(&|way| {
                way.is_resolving = false;
                way.dns_failed = resolved.is_err();
            });
            let addresses = resolved?;
            mark(&|way| {
                way.dns = Some(way.dns.unwrap_or_default() + took);
                way.addresses = addresses.iter().map(SocketAddr::ip).collect();
            });
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_name_with_addresses_near_and_far_only_those_far_are_connected_to() {
        let found = |texts: &[&str]| -> Vec<SocketAddr> {
            texts
                .iter()
                .map(|text| SocketAddr::new(text.parse().unwrap(), 0))
                .collect()
        };
        let both = found(&["10.0.0.1", "8.8.8.8", "::1", "2600::1", "169.254.169.254"]);
        assert_eq!(
            admitted(both.clone(), Addresses::Public).unwrap(),
            found(&["8.8.8.8", "2600::1"])
        );
        assert_eq!(admitted(both.clone(), Addresses::Any).unwrap(), both);
        let error = admitted(found(&["10.0.0.1", "fd00::1"]), Addresses::Public).unwrap_err();
        assert_eq!(error.to_string(), NOT_PUBLIC);
    }
}
