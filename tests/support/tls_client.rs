//! A client that speaks HTTP over TLS, on a connection of its own each time.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};

use crate::authority::{Authority, Issued};

pub(crate) const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
}

/// What came of a request: the status and the certificate that the server showed.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) certificate: Vec<u8>,
    pub(crate) cipher: Option<rustls::CipherSuite>,
}

impl TlsClient {
    /// Trusts `authority`, and shows `identity`.
    pub(crate) fn new(
        authority: &Authority,
        identity: Option<&Issued>,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.ca().text.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                let chain = chain.map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self {
            config: Arc::new(config),
        }
    }

    pub(crate) fn plain(authority: &Authority) -> Self {
        Self::new(authority, None, BOTH, ring::default_provider())
    }

    pub(crate) fn showing(authority: &Authority, identity: &Issued) -> Self {
        Self::new(authority, Some(identity), BOTH, ring::default_provider())
    }

    pub(crate) fn get(&self, address: &str, path: &str) -> io::Result<Said> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => return Err(error),
            _ => {}
        }
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
        Ok(Said {
            status: status.ok_or(io::ErrorKind::UnexpectedEof)?,
            certificate: shown.map(|shown| shown.to_vec()).unwrap_or_default(),
            cipher: stream.conn.negotiated_cipher_suite().map(|suite| suite.suite()),
        })
    }
}
