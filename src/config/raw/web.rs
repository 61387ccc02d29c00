//! The mappings of the web server's file and their keys: those of the exporter toolkit, and `exempt_paths`.

use super::{
    Entry, Node,
    leaves::{Hidden, Reference, Rest},
    reading::{At, Field, Item, Named, Read, entries, field, item},
};
use crate::config::{
    report::Report,
    web::{Cipher, ClientAuth, Curve, TlsProtocol},
};

/// What messages call the outermost mapping.
pub(in crate::config) const FILE: &str = "the web configuration";

const OTHER_FILE: &str =
    "this is the file of --web.config.file; what is probed stands in that of --config.file";

item! {
    /// The whole file.
    WebFile {
        tls_server_config: TlsServer,
        http_server_config: HttpServer,
        basic_auth_users: Named<Hidden>,
        rate_limit: RateLimit,
        exempt_paths: Vec<At<String>>,
    }
    hints {
        "tls_config" => "write `tls_server_config: { … }`",
        "auth_excluded_paths" => "write `exempt_paths: [ … ]`",
        "targets" => OTHER_FILE,
        "probes" => OTHER_FILE,
    }
}

item! {
    TlsServer {
        cert: Hidden,
        key: Hidden,
        client_ca: Hidden,
        cert_file: Reference,
        key_file: Reference,
        client_ca_file: Reference,
        client_auth_type: ClientAuth,
        client_allowed_sans: Vec<At<String>>,
        min_version: TlsProtocol,
        max_version: TlsProtocol,
        cipher_suites: Vec<At<Cipher>>,
        prefer_server_cipher_suites: bool,
        curve_preferences: Vec<At<Curve>>,
    }
    hints {
        "client_auth" => "write `client_auth_type: RequireAndVerifyClientCert`",
    }
}

item! {
    HttpServer {
        http2: bool,
        headers: Named<String>,
    }
}

item! {
    RateLimit {
        burst: u32,
        interval: Rest,
    }
}
