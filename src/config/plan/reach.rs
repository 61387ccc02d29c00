//! How a target is reached beside its URL: TLS, a proxy, a Unix socket.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
};

use url::Url;

use super::Addresses;
use crate::config::secret::Secret;

/// The way to a target. By default: straight there, trusting the system's roots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    pub tls: Tls,
    /// Never together with a Unix socket or [`Tls::server_name`].
    pub proxy: Option<Proxy>,
    /// Connected to in place of the URL's host and port; short enough for the kernel.
    pub unix_socket: Option<PathBuf>,
    /// Neither a proxy nor a Unix socket where it is not any: then nobody would see the address.
    pub addresses: Addresses,
}

/// What is asked of TLS. All defaults on an `http` URL.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Trusted instead of the system's roots.
    pub ca: Option<Pem>,
    /// Shown when the server asks for a certificate.
    pub identity: Option<Identity>,
    /// A DNS name: asked for (SNI) and verified in place of the URL's host.
    pub server_name: Option<String>,
    /// Any certificate will do.
    pub insecure_skip_verify: bool,
    pub min_version: TlsVersion,
}

/// Larger files hold no certificates: the roots of a whole system are a fourth of a megabyte.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// The text of a file that holds at least one certificate in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    pub path: PathBuf,
    pub text: String,
}

impl Pem {
    /// The text of a file; the error is in words and does not repeat the path.
    pub fn read(path: &Path) -> Result<String, String> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > MAX_PEM_BYTES {
            return Err("is larger than 4 MiB".to_owned());
        }
        // In DER form it is no text, and then it holds nothing in PEM form.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pem({})", self.path.display())
    }
}

/// A client certificate, as it is on file: whether the key belongs to it is seen when the client is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub certificates: Pem,
    /// In PEM form.
    pub key: Secret,
}

/// The oldest version of TLS that is spoken; the newest is always 1.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    #[default]
    Tls12,
    Tls13,
}

impl TlsVersion {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// Who connects for us.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// `http`, `socks5` (names are resolved here) or `socks5h` (there); a host, and nothing else but a port.
    pub url: Url,
    pub login: Option<Login>,
}

/// Basic authentication at an HTTP proxy, user name and password at a SOCKS proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    pub username: String,
    pub password: Secret,
}
