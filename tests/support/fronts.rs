//! What may stand before a scripted endpoint: TLS, proxies, a Unix socket. They run on the test's own runtime
//! and end with it.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test crate uses its own part of this"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A list that tasks add to and tests read.
#[derive(Clone, Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Seen<T> {
    pub(crate) fn push(&self, what: T) {
        self.0.lock().unwrap().push(what);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn only(&self) -> T {
        let mut all = self.all();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

/// A stream of bytes, whatever carries it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

async fn listen(address: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Hands each connection to `serve`.
pub(crate) async fn accepting<F: Future<Output = ()> + Send + 'static>(
    address: IpAddr,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let (listener, address) = listen(address).await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream));
        }
    });
    address
}

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Passes on what either side says, until one of them is gone.
async fn join(mut front: impl Stream, backend: SocketAddr) {
    if let Ok(mut back) = TcpStream::connect(backend).await {
        back.set_nodelay(true).unwrap();
        copy_bidirectional(&mut front, &mut back).await.ok();
    }
}

/// A handshake as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    pub(crate) server_name: Option<String>,
    pub(crate) version: Option<rustls::ProtocolVersion>,
    pub(crate) alpn: Option<String>,
    pub(crate) client_certificates: usize,
}

impl Handshake {
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let connection = stream.get_ref().1;
        Self {
            server_name: connection.server_name().map(str::to_owned),
            version: connection.protocol_version(),
            alpn: connection
                .alpn_protocol()
                .map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            client_certificates: connection.peer_certificates().map_or(0, <[_]>::len),
        }
    }
}

/// TLS, and behind it whatever `serve` does.
pub(crate) async fn tls_with<F: Future<Output = ()> + Send + 'static>(
    address: IpAddr,
    config: ServerConfig,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + 'static,
) -> (SocketAddr, Seen<Handshake>) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let seen = Seen::default();
    let kept = seen.clone();
    let address = accepting(address, move |stream| {
        let (acceptor, seen, serve) = (acceptor.clone(), kept.clone(), serve.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                seen.push(Handshake::of(&stream));
                serve(stream).await;
            }
        }
    })
    .await;
    (address, seen)
}

/// TLS before an endpoint that knows none.
pub(crate) async fn tls(backend: SocketAddr, config: ServerConfig) -> (SocketAddr, Seen<Handshake>) {
    tls_at(HERE, backend, config).await
}

/// The same at another address.
pub(crate) async fn tls_at(
    address: IpAddr,
    backend: SocketAddr,
    config: ServerConfig,
) -> (SocketAddr, Seen<Handshake>) {
    tls_with(address, config, move |stream| join(stream, backend)).await
}

/// A Unix socket before an endpoint.
pub(crate) fn unix(backend: SocketAddr, path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(join(stream, backend));
        }
    });
}

/// An HTTP proxy. Wherever it is asked to go, it goes to `backend`, unless it says `refusal` instead; the heads
/// that it was sent.
pub(crate) async fn http_proxy(
    backend: SocketAddr,
    refusal: Option<&'static str>,
) -> (SocketAddr, Seen<String>) {
    http_proxy_at(HERE, backend, refusal).await
}

/// The same at another address.
pub(crate) async fn http_proxy_at(
    address: IpAddr,
    backend: SocketAddr,
    refusal: Option<&'static str>,
) -> (SocketAddr, Seen<String>) {
    let seen = Seen::default();
    let kept = seen.clone();
    let address = accepting(address, move |mut stream| {
        let seen = kept.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            seen.push(head.clone());
            if let Some(refusal) = refusal {
                // `{}` is what it was sent, as some proxies repeat it.
                let body = refusal.replace("{}", &head);
                stream.write_all(body.as_bytes()).await.ok();
                stream.shutdown().await.ok();
                // Reads what is still to come: closing before would break the connection.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
                return;
            }
            let Ok(mut back) = TcpStream::connect(backend).await else {
                return;
            };
            if head.starts_with("CONNECT ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            } else {
                back.write_all(head.as_bytes()).await.unwrap();
            }
            copy_bidirectional(&mut stream, &mut back).await.ok();
        }
    })
    .await;
    (address, seen)
}

/// A SOCKS5 proxy that wants `login` and answers with `reply` (0: connected) to whatever it is asked; what it
/// was asked for.
pub(crate) async fn socks5(
    backend: SocketAddr,
    login: Option<(&'static str, &'static str)>,
    reply: u8,
) -> (SocketAddr, Seen<String>) {
    let seen = Seen::default();
    let kept = seen.clone();
    let address = accepting(HERE, move |mut stream| {
        let seen = kept.clone();
        async move {
            if negotiate(&mut stream, login, reply, &seen).await.is_ok() {
                join(stream, backend).await;
            }
        }
    })
    .await;
    (address, seen)
}

async fn negotiate(
    stream: &mut TcpStream,
    login: Option<(&str, &str)>,
    reply: u8,
    seen: &Seen<String>,
) -> std::io::Result<()> {
    let refused = || std::io::ErrorKind::PermissionDenied;
    stream.read_u8().await?;
    text(stream).await?; // the methods
    stream
        .write_all(&[5, if login.is_some() { 2 } else { 0 }])
        .await?;
    if let Some((user, password)) = login {
        stream.read_u8().await?;
        let right = text(stream).await? == user && text(stream).await? == password;
        stream.write_all(&[1, u8::from(!right)]).await?;
        if !right {
            return Err(refused().into());
        }
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let host = match head[3] {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        3 => text(stream).await?,
        4 => std::net::Ipv6Addr::from(stream.read_u128().await?).to_string(),
        other => panic!("address type {other}"),
    };
    let port = stream.read_u16().await?;
    seen.push(format!("{host}:{port}"));
    stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    if reply == 0 { Ok(()) } else { Err(refused().into()) }
}

/// A length and so many bytes.
async fn text(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
