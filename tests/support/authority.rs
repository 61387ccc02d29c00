//! Certificates for tests: an authority with an intermediate, and whom it vouches for.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test crate uses its own part of this"
)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use llm_probe_exporter::config::{
    plan::{Identity, Pem},
    secret::Secret,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// When the intermediate ends, which is before the certificates that it vouches for: 2091-01-01.
pub(crate) const CHAIN_ENDS: u64 = 3_818_448_000;

/// When an expired certificate did: 2021-01-01.
pub(crate) const EXPIRED: u64 = 1_609_459_200;

pub(crate) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its chain, and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// Authorities of one name would be taken for one another.
static NUMBER: AtomicU32 = AtomicU32::new(0);

fn issuing(name: &str, ends: i32) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{name} {number}");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(ends, 1, 1);
    params
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(issuing("Test Root", 2100), key()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(issuing("Test Intermediate", 2091), key(), &root).unwrap();
        Self { root, intermediate }
    }

    /// The root as `tls.ca_file` has it.
    pub(crate) fn ca(&self) -> Pem {
        Pem {
            path: PathBuf::from("ca.pem"),
            text: self.root.pem(),
        }
    }

    /// For these names and addresses, until 2095.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2095)
    }

    pub(crate) fn issue_until(&self, names: &[&str], ends: i32) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(ends, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.intermediate).unwrap();
        Issued {
            chain: certificate.pem() + &self.intermediate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        Arc::new(roots)
    }
}

impl Issued {
    /// As `tls.cert_file` and `tls.key_file` have it.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            certificates: Pem {
                path: PathBuf::from("client.pem"),
                text: self.chain.clone(),
            },
            key: Secret::Inline(self.key.clone()),
        }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        chain.map(Result::unwrap).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// A server that shows this certificate. With `clients` it wants one from them, too.
    pub(crate) fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
        clients: Option<&Authority>,
    ) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder.with_single_cert(self.chain(), self.key()).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }
}
