//! Who may speak to the web server and how: the format of the exporter toolkit of Prometheus
//! (`docs/web-configuration.md` of prometheus/exporter-toolkit), and `exempt_paths`, which is ours.
//!
//! What the toolkit takes and this does not is an error and never silently weaker: TLS 1.0 and 1.1, cipher suites
//! without forward secrecy or with CBC, the curve P-521, verification of client certificates without `client_ca`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderName, HeaderValue};

use super::{
    ConfigError, Lines, build, directory_of,
    plan::Pem,
    problem::Problem,
    raw::{reading::Read as _, web},
    secret::Secret,
    text_of, understood,
};

#[cfg(test)]
mod tests;

/// What the file says. Without a file: everybody, in clear.
#[derive(Debug, Default)]
pub struct WebConfig {
    /// Nothing is served in clear where it is given.
    pub tls: Option<TlsServer>,
    /// Set on every response; one that the response has gives way.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Names and how their passwords are known; everybody, where there are none.
    pub users: Vec<(String, PasswordHash)>,
    pub rate_limit: Option<RateLimit>,
    /// Paths that neither a password nor the rate limit guards.
    pub exempt_paths: Vec<String>,
    /// What it was read from beside the file itself.
    pub files: Vec<PathBuf>,
    pub warnings: Vec<Problem>,
}

/// How TLS is spoken. Whether the key belongs to the certificate is seen when the server is set up.
#[derive(Debug)]
pub struct TlsServer {
    pub certificates: Pem,
    /// In PEM form.
    pub key: Secret,
    pub client_auth: ClientAuth,
    /// Always there where clients are verified.
    pub client_ca: Option<Pem>,
    /// Of which a client's certificate must have one.
    pub client_allowed_sans: Option<Vec<String>>,
    pub min_version: TlsProtocol,
    pub max_version: TlsProtocol,
    /// In the order of preference; all, where there are none. Those of TLS 1.3 are always spoken.
    pub ciphers: Vec<Cipher>,
    pub prefer_own_ciphers: bool,
    /// In the order of preference; all, where there are none.
    pub curves: Vec<Curve>,
}

/// Whether clients show a certificate, and whether it is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    #[default]
    Nobody,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl ClientAuth {
    pub fn is_mandatory(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }

    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsProtocol {
    Tls12,
    Tls13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    X25519,
    P256,
    P384,
}

/// A cipher suite, by the names of Go and of the IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Tls13Aes256Gcm,
    Tls13Aes128Gcm,
    Tls13ChaCha20,
    EcdsaAes256Gcm,
    EcdsaAes128Gcm,
    EcdsaChaCha20,
    RsaAes256Gcm,
    RsaAes128Gcm,
    RsaChaCha20,
}

impl Cipher {
    pub const ALL: &[Self] = &[
        Self::Tls13Aes256Gcm,
        Self::Tls13Aes128Gcm,
        Self::Tls13ChaCha20,
        Self::EcdsaAes256Gcm,
        Self::EcdsaAes128Gcm,
        Self::EcdsaChaCha20,
        Self::RsaAes256Gcm,
        Self::RsaAes128Gcm,
        Self::RsaChaCha20,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls13Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Self::Tls13Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Self::Tls13ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
            Self::EcdsaAes256Gcm => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            Self::EcdsaAes128Gcm => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Self::EcdsaChaCha20 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            Self::RsaAes256Gcm => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            Self::RsaAes128Gcm => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            Self::RsaChaCha20 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        }
    }

    pub const fn protocol(self) -> TlsProtocol {
        match self {
            Self::Tls13Aes256Gcm | Self::Tls13Aes128Gcm | Self::Tls13ChaCha20 => TlsProtocol::Tls13,
            _ => TlsProtocol::Tls12,
        }
    }
}

/// What bcrypt made of a password. To guess a weak one from it is possible: nothing shows it.
#[derive(Clone, Debug)]
pub struct PasswordHash {
    pub text: Secret,
    /// The binary logarithm of the work that a guess takes.
    pub cost: u32,
}

/// A token bucket over all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests at once; at least 1.
    pub burst: u32,
    /// After which there is room for one more; above zero.
    pub interval: Duration,
}

/// Reads the file that `--web.config.file` names.
pub fn load(path: &Path) -> Result<WebConfig, ConfigError> {
    let text = text_of(path, "--web.config.file")?;
    parse(&text, &path.display().to_string(), directory_of(path))
}

/// Reads its text. `path_shown` is what problems call the file; paths in it are relative to `base_dir`.
pub fn parse(text: &str, path_shown: &str, base_dir: &Path) -> Result<WebConfig, ConfigError> {
    let (config, warnings) = understood(text, path_shown, Lines::Hidden, |tree, report| {
        // The toolkit takes an empty file, too: nobody is kept out.
        let Some(tree) = tree else {
            return Some(WebConfig::default());
        };
        build::web(&web::WebFile::read(tree, web::FILE, report)?, base_dir, report)
    })?;
    Ok(WebConfig { warnings, ..config })
}
