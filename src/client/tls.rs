//! TLS for the targets: ring, the roots that are trusted, the certificate that is shown, ALPN by the HTTP
//! version that is asked for, and when the certificates that came end.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    version::{TLS12, TLS13},
};
use x509_cert::{Certificate, der::Decode};

use super::phases::{MarkTls, mark_certificate};
use crate::config::plan::{self, HttpVersion, Identity, Pem, TlsVersion};

/// The roots of the system, read when the first target needs them. None at all is not fatal here: the
/// handshake then fails with an error that says so.
static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a root certificate");
    }
    let mut roots = RootCertStore::empty();
    let (added, unusable) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, unusable, "read the system's root certificates");
    Arc::new(roots)
});

/// What is wrong with the certificates of a target.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`tls.ca_file`: {}: certificate {number} cannot be used: {source}", path.display())]
    Root {
        path: PathBuf,
        /// From 1.
        number: usize,
        source: rustls::Error,
    },
    #[error("`tls.{key}`: {} is no PEM that can be read: {source}", path.display())]
    Pem {
        key: &'static str,
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error(
        "`tls.key_file` holds no private key that can be read; write it as PKCS#8, PKCS#1 or SEC1 in PEM form"
    )]
    Key,
    #[error(
        "the private key in `tls.key_file` does not belong to the first certificate in `tls.cert_file` ({}); name the two that were issued together, the target's own certificate first", .0.display()
    )]
    Mismatch(PathBuf),
    #[error("`tls.cert_file` and `tls.key_file`: {0}")]
    Identity(rustls::Error),
    #[error(transparent)]
    Other(#[from] rustls::Error),
}

/// `https`: whether there is to be TLS at all; without, nothing is read.
pub(super) fn config(https: bool, http: HttpVersion, tls: &plan::Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match tls.min_version {
        TlsVersion::Tls12 => &[&TLS12, &TLS13],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let trust = match &tls.ca {
        _ if !https => Trust::Nobody,
        _ if tls.insecure_skip_verify => Trust::Anybody,
        Some(pem) => Trust::of(roots(pem)?, &provider),
        None => Trust::of(Arc::clone(&SYSTEM_ROOTS), &provider),
    };
    let verifier = Arc::new(Verifier {
        trust,
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.identity {
        Some(identity) => {
            let (certificates, key) = read(identity)?;
            let built = builder.with_client_auth_cert(certificates, key);
            built.map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::Mismatch(identity.certificates.path.clone()),
                other => TlsError::Identity(other),
            })?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::store(Arc::new(MarkTls));
    config.alpn_protocols = match http {
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersion::Http2 => vec![b"h2".to_vec()],
        HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn roots(pem: &Pem) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in certificates(pem, "ca_file")?.into_iter().enumerate() {
        roots.add(certificate).map_err(|source| TlsError::Root {
            path: pem.path.clone(),
            number: at + 1,
            source,
        })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(pem: &Pem, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem {
            key,
            path: pem.path.clone(),
            source,
        })
}

type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(identity: &Identity) -> Result<Shown, TlsError> {
    let certificates = certificates(&identity.certificates, "cert_file")?;
    // The error of the parser may repeat what it could not read.
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).map_err(|_| TlsError::Key)?;
    Ok((certificates, key))
}

/// Who is believed to be the target.
#[derive(Debug)]
enum Trust {
    Roots(Arc<WebPkiServerVerifier>),
    /// There are no roots.
    Nobody,
    Anybody,
}

impl Trust {
    fn of(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Self {
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_or(Self::Nobody, Self::Roots)
    }
}

/// Verifies as rustls does, and marks when the certificates that came end, whether they are believed or not.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(unix) = earliest_end(end_entity, intermediates) {
            mark_certificate(unix);
        }
        match &self.trust {
            Trust::Roots(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            Trust::Nobody => Err(CertificateError::UnknownIssuer.into()),
            Trust::Anybody => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// When the first of the certificates that the server showed ends, in seconds since the Unix epoch: what
/// `probe_ssl_earliest_cert_expiry` of the blackbox exporter says. One that cannot be read says nothing.
fn earliest_end(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<u64> {
    let end = |certificate: &CertificateDer<'_>| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let validity = certificate.tbs_certificate().validity();
        Some(validity.not_after.to_unix_duration().as_secs())
    };
    std::iter::once(end_entity)
        .chain(intermediates)
        .filter_map(end)
        .min()
}
