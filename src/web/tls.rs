//! TLS as the web server's file wants it: ring, full handshakes only, and which clients are believed.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider,
        ring::{self, cipher_suite, kx_group},
        verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::config::{
    plan::Pem,
    web::{Cipher, ClientAuth, Curve, TlsProtocol, TlsServer},
};

/// What is wrong with the certificates of the web server.
#[derive(Debug, thiserror::Error)]
pub enum WebTlsError {
    #[error("tls_server_config: `{key}`: {} is no PEM that can be read: {source}", path.display())]
    Pem {
        key: &'static str,
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error(
        "tls_server_config: `key_file` holds no private key that can be read; write it as PKCS#8, PKCS#1 or SEC1 in PEM form"
    )]
    Key,
    #[error("tls_server_config: the private key in `key_file` does not belong to the first certificate in `cert_file` ({}); name the two that were issued together, the server's own certificate first", .0.display())]
    Mismatch(PathBuf),
    #[error("tls_server_config: `client_ca_file`: certificate {number} cannot be used: {source}")]
    ClientCa {
        /// From 1.
        number: usize,
        source: rustls::Error,
    },
    #[error("tls_server_config: `client_ca_file`: {0}")]
    Clients(#[from] rustls::server::VerifierBuilderError),
    #[error("tls_server_config: {0}")]
    Other(#[from] rustls::Error),
}

pub(super) fn config(tls: &TlsServer) -> Result<ServerConfig, WebTlsError> {
    let mut provider = ring::default_provider();
    if !tls.ciphers.is_empty() {
        // As in Go, the list is of TLS 1.2; of 1.3 all are spoken.
        let others = provider.cipher_suites.iter().copied().filter(|suite| {
            suite.version() == &TLS13 && !tls.ciphers.iter().any(|cipher| suite_of(*cipher) == *suite)
        });
        let listed = tls.ciphers.iter().map(|cipher| suite_of(*cipher));
        provider.cipher_suites = listed.chain(others).collect();
    }
    if !tls.curves.is_empty() {
        let group = |curve: &Curve| match curve {
            Curve::X25519 => kx_group::X25519,
            Curve::P256 => kx_group::SECP256R1,
            Curve::P384 => kx_group::SECP384R1,
        };
        provider.kx_groups = tls.curves.iter().map(group).collect();
    }
    let provider = Arc::new(provider);
    let versions: &[_] = match (tls.min_version, tls.max_version) {
        (TlsProtocol::Tls12, TlsProtocol::Tls13) => &[&TLS12, &TLS13],
        (_, TlsProtocol::Tls12) => &[&TLS12],
        (TlsProtocol::Tls13, TlsProtocol::Tls13) => &[&TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let builder = match Clients::new(tls, &provider)? {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
        None => builder.with_no_client_auth(),
    };
    let chain = certificates(&tls.certificates, "cert_file")?;
    // The error of the parser may repeat what it could not read.
    let key = PrivateKeyDer::from_pem_slice(tls.key.expose().as_bytes()).map_err(|_| WebTlsError::Key)?;
    let built = builder.with_single_cert(chain, key);
    let mut config = built.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => WebTlsError::Mismatch(tls.certificates.path.clone()),
        other => WebTlsError::Other(other),
    })?;
    config.ignore_client_order = tls.prefer_own_ciphers;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Whoever was believed once is not believed again without being looked at.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn suite_of(cipher: Cipher) -> SupportedCipherSuite {
    match cipher {
        Cipher::Tls13Aes256Gcm => cipher_suite::TLS13_AES_256_GCM_SHA384,
        Cipher::Tls13Aes128Gcm => cipher_suite::TLS13_AES_128_GCM_SHA256,
        Cipher::Tls13ChaCha20 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        Cipher::EcdsaAes256Gcm => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Cipher::EcdsaAes128Gcm => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Cipher::EcdsaChaCha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Cipher::RsaAes256Gcm => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Cipher::RsaAes128Gcm => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        Cipher::RsaChaCha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn certificates(pem: &Pem, key: &'static str) -> Result<Vec<CertificateDer<'static>>, WebTlsError> {
    CertificateDer::pem_slice_iter(pem.text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| WebTlsError::Pem {
            key,
            path: pem.path.clone(),
            source,
        })
}

/// Which clients are believed.
#[derive(Debug)]
struct Clients {
    is_mandatory: bool,
    /// `None`: any certificate will do.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Of which a certificate must have one.
    allowed: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

impl Clients {
    /// `None` where no certificate is asked for.
    fn new(tls: &TlsServer, provider: &Arc<CryptoProvider>) -> Result<Option<Self>, WebTlsError> {
        if tls.client_auth == ClientAuth::Nobody {
            return Ok(None);
        }
        let verifier = match &tls.client_ca {
            Some(ca) if tls.client_auth.verifies() => {
                let mut roots = RootCertStore::empty();
                for (number, certificate) in (1..).zip(certificates(ca, "client_ca_file")?) {
                    roots
                        .add(certificate)
                        .map_err(|source| WebTlsError::ClientCa { number, source })?;
                }
                let (roots, provider) = (Arc::new(roots), Arc::clone(provider));
                Some(WebPkiClientVerifier::builder_with_provider(roots, provider).build()?)
            }
            _ => None,
        };
        Ok(Some(Self {
            is_mandatory: tls.client_auth.is_mandatory(),
            verifier,
            allowed: tls.client_allowed_sans.clone(),
            provider: Arc::clone(provider),
        }))
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let verifier = self.verifier.as_ref();
        verifier.map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(verifier) = &self.verifier {
            verifier.verify_client_cert(end_entity, intermediates, now)?;
        }
        let is_allowed = self.allowed.as_ref().is_none_or(|allowed| {
            let names = names(end_entity).unwrap_or_default();
            names.iter().any(|name| allowed.contains(name))
        });
        if is_allowed {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
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

/// The subject's alternative names, as `client_allowed_sans` writes them. `None` where there are none that can be read.
fn names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let (_, SubjectAltName(names)) = found.ok()??;
    let name = |name: &GeneralName| match name {
        GeneralName::DnsName(text)
        | GeneralName::Rfc822Name(text)
        | GeneralName::UniformResourceIdentifier(text) => Some(text.to_string()),
        GeneralName::IpAddress(address) => {
            let bytes = address.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string()))
                .ok()
        }
        _ => None,
    };
    Some(names.iter().filter_map(name).collect())
}
