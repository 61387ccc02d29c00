//! TLS for the targets: ring, the system's roots, and ALPN by the HTTP version that is asked for.

use std::sync::{Arc, LazyLock};

use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};

use super::phases::MarkTls;
use crate::config::plan::HttpVersion;

/// The roots of the system, read when the first `https` target is built. None at all is not fatal here: the
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

pub(super) fn config(https: bool, http: HttpVersion) -> Result<ClientConfig, rustls::Error> {
    let roots = if https {
        Arc::clone(&SYSTEM_ROOTS)
    } else {
        Arc::new(RootCertStore::empty())
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::store(Arc::new(MarkTls));
    config.alpn_protocols = match http {
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersion::Http2 => vec![b"h2".to_vec()],
        HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}
