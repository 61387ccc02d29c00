//! Golden reports on the web server's file, the exporter toolkit's own kinds of bad files among them.

use std::{fmt::Write as _, fs, path::Path};

use proptest::prelude::*;
use rcgen::KeyPair;
use tempfile::TempDir;

use super::*;
use crate::config::raw::reading::Item as _;

const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

/// A directory with a certificate and its key.
fn scratch() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    fs::write(folder.path().join("server.crt"), &certificate).unwrap();
    fs::write(folder.path().join("client-ca.crt"), certificate).unwrap();
    fs::write(folder.path().join("server.key"), key.serialize_pem()).unwrap();
    fs::write(folder.path().join("junk.pem"), "hunter2\n").unwrap();
    folder
}

fn read(text: &str) -> Result<WebConfig, ConfigError> {
    parse(text, "web.yml", scratch().path())
}

/// With a certificate, and more keys.
fn tls(keys: &str) -> String {
    format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  {keys}\n")
}

fn golden(name: &str, cases: &[(&str, String)]) {
    let scratch = scratch();
    let mut all = String::new();
    for (title, text) in cases {
        let report = match parse(text, "web.yml", scratch.path()) {
            Err(error) => error.to_string(),
            Ok(config) => {
                assert!(!config.warnings.is_empty(), "{title}: it loads");
                let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
                warnings.join("\n")
            }
        };
        let report = report.replace(&scratch.path().display().to_string(), "/etc/llm-probe-exporter");
        writeln!(all, "# {title}\n{report}\n").unwrap();
    }
    assert!(
        !all.contains("hunter2") && !all.contains("$2y$"),
        "a secret is shown:\n{all}"
    );
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../golden", omit_expression => true }, {
        insta::assert_snapshot!(name, all);
    });
}

#[test]
fn what_the_toolkit_refuses() {
    golden(
        "web_toolkit",
        &[
            ("invalid structure", "hunter2\n".into()),
            (
                "invalid key",
                "tls_server_confi:\n  cert_file: server.crt\n".into(),
            ),
            (
                "cert path empty",
                "tls_server_config:\n  cert_file: ''\n  key_file: server.key\n".into(),
            ),
            (
                "cert missing",
                "tls_server_config:\n  key_file: server.key\n".into(),
            ),
            (
                "cert empty",
                "tls_server_config:\n  cert: ''\n  key_file: server.key\n".into(),
            ),
            (
                "key path empty",
                "tls_server_config:\n  cert_file: server.crt\n  key_file: ''\n".into(),
            ),
            (
                "key empty",
                "tls_server_config:\n  cert_file: server.crt\n  key: ''\n".into(),
            ),
            ("cert path and key path missing", "tls_server_config: {}\n".into()),
            (
                "cert path invalid",
                "tls_server_config: { cert_file: somefile.crt, key_file: server.key }\n".into(),
            ),
            (
                "key path invalid",
                "tls_server_config: { cert_file: server.crt, key_file: somefile.key }\n".into(),
            ),
            (
                "cert path and key path invalid",
                "tls_server_config: { cert_file: somefile.crt, key_file: somefile.key }\n".into(),
            ),
            ("client CA without a policy", tls("client_ca_file: client-ca.crt")),
            (
                "client CA text without a policy",
                tls("client_ca: '-----BEGIN CERTIFICATE-----'"),
            ),
            (
                "client CA's path invalid",
                tls("client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: somefile.crt"),
            ),
            ("invalid ClientAuth", tls("client_auth_type: RequireClient")),
            ("user list invalid", "basic_auth_users:\n  john: hunter2\n".into()),
            (
                "invented ciphers",
                tls("cipher_suites:\n  - TLS_ECDHE_RSA_WITH_AES_2048_GCM_SHA256"),
            ),
            ("invented curves", tls("curve_preferences:\n  - CurveP257")),
            ("wrong TLS version", tls("min_version: TLS111")),
            (
                "sans without certificates",
                tls("client_allowed_sans: [a.example]"),
            ),
            (
                "sans with optional certificates",
                tls(
                    "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: client-ca.crt\n  client_allowed_sans: [a.example]",
                ),
            ),
            (
                "header that cannot be set",
                "http_server_config: { headers: { X-Frame-Option: deny, Server: x } }\n".into(),
            ),
            (
                "invalid X-Content-Type-Options",
                "http_server_config: { headers: { X-Content-Type-Options: sniff } }\n".into(),
            ),
            (
                "invalid X-Frame-Options",
                "http_server_config: { headers: { X-Frame-Options: allow } }\n".into(),
            ),
        ],
    );
}

#[test]
fn what_is_refused_besides() {
    let hashed = |hash: &str| format!("basic_auth_users: {{ ann: '{hash}' }}\n");
    golden(
        "web",
        &[
            ("the other file", "targets: []\nprobes: []\n".into()),
            ("key of the other file", "max_in_flight: 5\n".into()),
            ("no YAML", "basic_auth_users:\n  ann: 'hunter2\n".into()),
            ("key given twice", format!("{0}{0}", hashed(HASH))),
            (
                "tls of another tool",
                "tls_config: { cert_file: server.crt }\n".into(),
            ),
            (
                "text and file",
                tls("cert: '-----BEGIN CERTIFICATE-----'\n  key: hunter2"),
            ),
            (
                "no PEM",
                "tls_server_config: { cert_file: junk.pem, key_file: junk.pem }\n".into(),
            ),
            (
                "verifies by nobody",
                tls("client_auth_type: RequireAndVerifyClientCert"),
            ),
            ("lets anybody in", tls("client_auth_type: RequireAnyClientCert")),
            (
                "no sans",
                tls(
                    "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client-ca.crt\n  client_allowed_sans: []",
                ),
            ),
            ("old TLS", tls("min_version: TLS10\n  max_version: TLS11")),
            (
                "versions the wrong way round",
                tls("min_version: TLS13\n  max_version: TLS12"),
            ),
            (
                "nothing to encrypt with",
                tls("max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]"),
            ),
            (
                "cipher with CBC",
                tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]"),
            ),
            ("HTTP/2", "http_server_config: { http2: true }\n".into()),
            (
                "header with a newline",
                "http_server_config: { headers: { Content-Security-Policy: \"a\\nb\" } }\n".into(),
            ),
            ("no users", "basic_auth_users: {}\n".into()),
            ("users as a list", format!("basic_auth_users: ['{HASH}']\n")),
            (
                "user without a password",
                "basic_auth_users:\n  hunter2:\n".into(),
            ),
            (
                "name with a colon",
                format!("basic_auth_users: {{ 'a:b': '{HASH}' }}\n"),
            ),
            ("dear hash", hashed(&HASH.replace("$10$", "$31$"))),
            ("cut hash", hashed(HASH.trim_end_matches('G'))),
            (
                "different costs",
                format!(
                    "basic_auth_users: {{ ann: '{HASH}', bob: '{}' }}\n",
                    HASH.replace("$10$", "$12$")
                ),
            ),
            ("no interval", "rate_limit: { burst: 1 }\n".into()),
            ("no burst", "rate_limit: { interval: 1s }\n".into()),
            (
                "burst of nothing",
                "rate_limit: { burst: 0, interval: 1s }\n".into(),
            ),
            (
                "interval without a unit",
                "rate_limit: { burst: 1, interval: 1 }\n".into(),
            ),
            ("exempt pattern", "exempt_paths: [/-/*, -/ready, '/a?b']\n".into()),
            ("exempt path alone", "exempt_paths: /-/healthy\n".into()),
        ],
    );
}

#[test]
fn a_file_that_is_not_there_is_named_with_its_option() {
    let error = load(Path::new("/nowhere/web.yml")).unwrap_err().to_string();
    assert!(
        error.contains("/nowhere/web.yml") && error.contains("--web.config.file"),
        "{error}"
    );
}

#[test]
fn what_is_left_out_is_as_the_toolkit_has_it() {
    for text in ["", "# nothing\n", "rate_limit: { burst: 3, interval: 0 }\n"] {
        let config = read(text).unwrap();
        assert!(
            config.tls.is_none() && config.users.is_empty() && config.rate_limit.is_none(),
            "{text}"
        );
    }
    let config = read(&tls("client_auth_type: NoClientCert")).unwrap();
    assert_eq!(config.files.len(), 2);
    let tls = config.tls.unwrap();
    assert_eq!(
        (tls.min_version, tls.max_version),
        (TlsProtocol::Tls12, TlsProtocol::Tls13)
    );
    assert!(tls.prefer_own_ciphers && tls.ciphers.is_empty() && tls.curves.is_empty());
    assert_eq!(tls.client_auth, ClientAuth::Nobody);
    let config = read("http_server_config: { headers: { X-XSS-Protection: '' } }\n").unwrap();
    assert!(config.headers.is_empty());
}

#[test]
fn text_stands_for_a_file() {
    let scratch = scratch();
    let text = |name: &str| {
        let text = fs::read_to_string(scratch.path().join(name)).unwrap();
        format!("|\n    {}", text.trim_end().replace('\n', "\n    "))
    };
    let yaml = format!(
        "tls_server_config:\n  cert: {}\n  key: {}\n",
        text("server.crt"),
        text("server.key")
    );
    let config = parse(&yaml, "web.yml", scratch.path()).unwrap();
    assert!(config.files.is_empty());
    assert!(config.tls.unwrap().key.expose().contains("PRIVATE KEY"));
}

#[test]
fn nothing_shows_a_hash_or_a_key() {
    let config =
        read(&(tls("min_version: TLS13") + &format!("basic_auth_users: {{ ann: '{HASH}' }}\n"))).unwrap();
    let shown = format!("{config:?} {config:#?}");
    assert!(
        !shown.contains("$2y$") && !shown.contains("PRIVATE") && !shown.contains("BEGIN"),
        "{shown}"
    );
}

#[test]
fn the_example_holds_every_key_and_loads() {
    let text = include_str!("../../../config/web.yaml");
    let config = read(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.warnings, []);
    for keys in [
        web::WebFile::KEYS,
        web::TlsServer::KEYS,
        web::HttpServer::KEYS,
        web::RateLimit::KEYS,
    ] {
        for key in keys {
            assert!(text.contains(&format!("{key}:")), "{key} is missing");
        }
    }
    assert_eq!(config.headers.len(), 5);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([ \\n:{}\\[\\]'\"&*!|>#-]|[a-z_]{1,8}|tls_server_config|basic_auth_users|rate_limit|burst|interval|headers|http_server_config|\\$2b\\$10\\$|é){0,40}") {
        let _read = parse(&text, "web.yml", Path::new("/nowhere"));
    }
}
