//! Certificates: the server's own, which rotate, and those of clients.

use std::{io::Write, net::TcpStream};

use rustls::{CipherSuite, crypto::ring, version::TLS12};

use super::*;
use crate::{
    authority::{Authority, Issued},
    process::{eventually, run},
    tls_client::{BOTH, TlsClient},
};

impl WebFile {
    /// Serves this certificate, with more keys of `tls_server_config`.
    fn tls(server: &Issued, clients: &Authority, keys: &str) -> Self {
        let file = Self::new(&tls_text(keys));
        file.serves(server);
        file.write("client-ca.crt", &clients.ca().text);
        file
    }

    fn serves(&self, server: &Issued) {
        self.write("server.crt", &server.chain);
        self.write("server.key", &server.key);
    }
}

fn tls_text(keys: &str) -> String {
    format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  {keys}\n")
}

#[test]
fn a_certificate_rotates_without_a_restart() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    let file = WebFile::tls(&old, &authority, "");
    let exporter = file.start(&[]);
    let client = TlsClient::plain(&authority);
    let first = client.get(&exporter.address, "/metrics").unwrap();
    assert_eq!(first.status, 200);
    // The key comes later than the certificate: until then, the old ones hold.
    file.write("server.crt", &new.chain);
    file.write("server.key", &new.key);
    let second = eventually("the new certificate is shown", || {
        let said = client.get(&exporter.address, "/-/healthy").unwrap();
        assert_eq!(said.status, 200);
        (said.certificate != first.certificate).then_some(said)
    });
    assert!(!second.certificate.is_empty());

    // A key that does not belong to it changes nothing.
    file.write("server.key", &old.key);
    eventually("it is told", || {
        exporter
            .process
            .log()
            .contains("does not belong to the first certificate")
            .then_some(())
    });
    assert_eq!(
        client.get(&exporter.address, "/-/healthy").unwrap().certificate,
        second.certificate
    );
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["check", &config_in(folder.path()), &file.option()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("does not belong")
    );
}

#[test]
fn what_a_file_names_may_come_later_and_old_connections_end() {
    let authority = Authority::new();
    let server = authority.issue(&["localhost"]);
    let file = WebFile::new("");
    let exporter = file.start(&[]);
    let went_by_it = || {
        exporter
            .metrics()
            .count("exporter_web_config_last_reload_successful", &[])
    };
    assert_eq!(went_by_it(), 1);
    let mut open = TcpStream::connect(&exporter.address).unwrap();
    let mut ask_again = || {
        write!(open, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut bytes = [0; 512];
        std::io::Read::read(&mut open, &mut bytes)
    };
    assert!(ask_again().unwrap() > 0);

    file.says(&tls_text(""));
    eventually("it is told", || (went_by_it() == 0).then_some(()));
    assert!(ask_again().unwrap() > 0);
    file.serves(&server);
    let client = TlsClient::plain(&authority);
    eventually("it is gone by", || {
        client.get(&exporter.address, "/-/healthy").ok()
    });
    let said = exporter.process.log();
    assert_eq!(said.matches("is not read again").count(), 1, "{said}");
    eventually("whoever came without TLS is gone", || {
        (!matches!(ask_again(), Ok(1..))).then_some(())
    });
}

#[test]
fn who_does_not_speak_tls_gets_nothing() {
    let authority = Authority::new();
    let file = WebFile::tls(&authority.issue(&["localhost"]), &authority, "min_version: TLS13");
    let exporter = file.start(&[]);
    assert!(get(&exporter.address, "/metrics", "").is_err());
    for bytes in [
        &[0_u8; 5000][..],
        b"\x16\x03\x01\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ] {
        let mut stream = TcpStream::connect(&exporter.address).unwrap();
        stream.write_all(bytes).ok();
    }
    let old = TlsClient::new(&authority, None, &[&TLS12], ring::default_provider());
    assert!(old.get(&exporter.address, "/metrics").is_err());
    let stranger = TlsClient::plain(&Authority::new());
    assert!(stranger.get(&exporter.address, "/metrics").is_err());
    assert_eq!(
        TlsClient::plain(&authority)
            .get(&exporter.address, "/metrics")
            .unwrap()
            .status,
        200
    );
    assert!(!exporter.process.log().contains("panicked"));
}

#[test]
fn the_server_decides_on_the_cipher() {
    let authority = Authority::new();
    let wanted = "max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  curve_preferences: [CurveP384]";
    let file = WebFile::tls(&authority.issue(&["localhost"]), &authority, wanted);
    let exporter = file.start(&[]);
    let said = TlsClient::plain(&authority)
        .get(&exporter.address, "/metrics")
        .unwrap();
    assert_eq!(
        said.cipher,
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)
    );
    let mut provider = ring::default_provider();
    provider
        .kx_groups
        .retain(|group| group.name() == rustls::NamedGroup::X25519);
    let other_curve = TlsClient::new(&authority, None, BOTH, provider);
    assert!(other_curve.get(&exporter.address, "/metrics").is_err());
}

#[test]
fn clients_are_let_in_as_their_certificates_say() {
    let (authority, strangers) = (Authority::new(), Authority::new());
    let server = authority.issue(&["localhost"]);
    let clients = Authority::new();
    let (known, unknown) = (
        clients.issue(&["prometheus.example"]),
        strangers.issue(&["prometheus.example"]),
    );
    let expired = clients.issue_until(&["prometheus.example"], 2021);
    let other = clients.issue(&["other.example", "192.0.2.7"]);
    let ca = "client_ca_file: client-ca.crt";
    let allowed = |sans: &str| {
        format!("client_auth_type: RequireAndVerifyClientCert\n  {ca}\n  client_allowed_sans: [{sans}]")
    };
    // Without a certificate, with a known, an unknown, an expired one, and one for another name.
    for (keys, expected) in [
        (
            "client_auth_type: NoClientCert".to_owned(),
            [true, true, true, true, true],
        ),
        (
            "client_auth_type: RequestClientCert".to_owned(),
            [true, true, true, true, true],
        ),
        (
            "client_auth_type: RequireAnyClientCert".to_owned(),
            [false, true, true, true, true],
        ),
        (
            format!("client_auth_type: VerifyClientCertIfGiven\n  {ca}"),
            [true, true, false, false, true],
        ),
        (
            format!("client_auth_type: RequireAndVerifyClientCert\n  {ca}"),
            [false, true, false, false, true],
        ),
        (allowed("prometheus.example"), [false, true, false, false, false]),
        (allowed("192.0.2.7"), [false, false, false, false, true]),
        (allowed("example"), [false; 5]),
        (
            "client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [other.example]".to_owned(),
            [false, false, false, false, true],
        ),
    ] {
        let file = WebFile::tls(&server, &clients, &keys);
        let exporter = file.start(&[]);
        let shown = [None, Some(&known), Some(&unknown), Some(&expired), Some(&other)];
        let let_in = shown.map(|identity| {
            let client = match identity {
                None => TlsClient::plain(&authority),
                Some(identity) => TlsClient::showing(&authority, identity),
            };
            client
                .get(&exporter.address, "/-/healthy")
                .is_ok_and(|said| said.status == 200)
        });
        assert_eq!(let_in, expected, "{keys}");
    }
}
