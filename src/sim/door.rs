//! The listening socket, which a fault may shut or stop answering.

use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use super::fault::Doorway;

/// Connections that may wait to be accepted, as far as the kernel allows (`net.core.somaxconn`): a burst of a thousand
/// finds this process busy with those before, and who finds the queue full tries again only after a second, or is
/// turned away.
const BACKLOG: u32 = 4096;
/// Longer than it takes to connect to oneself.
const CONNECTS_AT_ONCE: Duration = Duration::from_millis(50);
/// Connections that fill a queue of length 0, with some to spare.
const FILLERS: usize = 8;

/// Where connections come in.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    listener: Option<TcpListener>,
    doorway: Doorway,
    /// Our own connections, which keep the queue full of a listener that never accepts.
    fillers: Vec<TcpStream>,
}

impl Door {
    /// Port 0 takes a free one, and keeps it.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = socket(address)?.listen(BACKLOG)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            doorway: Doorway::Open,
            fillers: Vec::new(),
        })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes over. After an error the door is shut, and this may be tried again.
    pub(super) async fn turn(&mut self, doorway: Doorway) -> io::Result<()> {
        if doorway == self.doorway {
            return Ok(());
        }
        self.listener = None;
        self.fillers.clear();
        self.doorway = Doorway::Refuse;
        match doorway {
            Doorway::Refuse => {}
            Doorway::Open => self.listener = Some(socket(self.address)?.listen(BACKLOG)?),
            Doorway::Deaf => {
                // The kernel accepts for us until the queue is full: it is made as short as can be, and filled.
                self.listener = Some(socket(self.address)?.listen(0)?);
                let own = reachable(self.address);
                while self.fillers.len() < FILLERS
                    && let Ok(connected) = timeout(CONNECTS_AT_ONCE, TcpStream::connect(own)).await
                {
                    self.fillers.push(connected?);
                }
            }
        }
        self.doorway = doorway;
        Ok(())
    }

    /// Never returns unless the door is open. Safe to drop.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        match &self.listener {
            Some(listener) if self.doorway == Doorway::Open => Ok(listener.accept().await?.0),
            _ => pending().await,
        }
    }
}

/// Bound, also where connections of the listener before it linger.
fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// From this machine.
const fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
