//! HTTP/2 with prior knowledge and by ALPN, and TLS.

use std::{future::poll_fn, io, path::Path, sync::Arc};

use bytes::Bytes;
use llm_probe_exporter::sim::{Server, Settings, TlsFiles, monotonic_nanos};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    client::{CHAT, PATIENCE, Simulator, apis, openai, post, quick},
    support::ms,
};

/// A status, the body as it came in DATA frames with when each was read, and what broke it off: for the stream,
/// and for the connection.
type Answer = (u16, Vec<(String, u64)>, Option<(h2::Error, Option<h2::Error>)>);

async fn ask<T>(io: T, path: &str, fault: &str, body: &Value) -> Answer
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let broken = async |error: h2::Error| {
        let of_connection = timeout(ms(100), connection).await;
        Some((error, of_connection.ok().and_then(|ended| ended.unwrap().err())))
    };
    let mut send = send.ready().await.unwrap();
    let mut request = http::Request::post(format!("http://sim{path}"));
    if !fault.is_empty() {
        request = request.header("x-sim-fault", fault);
    }
    let (response, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from(body.to_string()), true).unwrap();
    let response = match timeout(PATIENCE, response).await.unwrap() {
        Ok(response) => response,
        Err(error) => return (0, Vec::new(), broken(error).await),
    };
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut frames = Vec::new();
    while let Some(data) = timeout(PATIENCE, poll_fn(|cx| body.poll_data(cx))).await.unwrap() {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                frames.push((String::from_utf8(data.to_vec()).unwrap(), monotonic_nanos()));
            }
            Err(error) => return (status, frames, broken(error).await),
        }
    }
    (status, frames, None)
}

fn text(frames: &[(String, u64)]) -> String {
    frames.iter().map(|frame| frame.0.as_str()).collect()
}

#[tokio::test]
async fn every_api_is_spoken_with_prior_knowledge() {
    let simulator = Simulator::start(quick()).await;
    for (index, (path, body)) in (0..).zip(apis(4)) {
        let io = TcpStream::connect(simulator.address).await.unwrap();
        let (status, frames, broken) = ask(io, path, "", &body).await;
        assert_eq!((status, broken.is_none()), (200, true), "{path}");
        let record = simulator.last(2 * index + 1).await;
        assert!(record.http2);
        assert_eq!(record.tokens_ns.len(), 4, "{path}");
        // Handed over before it was read. Frames may come together, so the last one is what is certain.
        assert!(record.done_ns.unwrap() < frames.last().unwrap().1, "{path}");
        let over_http1 = simulator.ask(path, &body).await;
        assert_eq!(
            text(&frames).matches("data").count(),
            over_http1.text().matches("data").count(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn streams_are_reset_and_connections_end() {
    let simulator = Simulator::start(quick()).await;
    for (fault, status, remote_reset, goaway) in [
        ("reset", 0, true, false),
        ("reset@2", 200, true, false),
        ("close@2", 200, false, false),
        ("goaway", 0, false, true),
        ("goaway@2", 200, false, true),
    ] {
        let io = TcpStream::connect(simulator.address).await.unwrap();
        let (got, _, broken) = ask(io, CHAT, fault, &openai(5)).await;
        let (broken, connection) = broken.unwrap_or_else(|| panic!("{fault} breaks it off"));
        assert_eq!(got, status, "{fault}: {broken}");
        assert_eq!(
            broken.is_reset() && broken.is_remote(),
            remote_reset,
            "{fault}: {broken:?}"
        );
        let went_away = connection.as_ref().is_some_and(h2::Error::is_go_away);
        assert_eq!(went_away, goaway, "{fault}: {connection:?}");
    }
    let io = TcpStream::connect(simulator.address).await.unwrap();
    let (_, frames, _) = ask(io, CHAT, "split=7", &openai(3)).await;
    assert!(frames.iter().all(|frame| frame.0.len() <= 7));
    assert!(text(&frames).ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn requests_share_a_connection_and_one_that_is_cancelled_frees_its_slot() {
    let simulator = Simulator::start(Settings {
        slots: Some(1),
        ..quick()
    })
    .await;
    let io = TcpStream::connect(simulator.address).await.unwrap();
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let mut start = |tokens: u64| {
        let request = http::Request::post(format!("http://sim{CHAT}")).body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        stream
            .send_data(Bytes::from(openai(tokens).to_string()), true)
            .unwrap();
        (response, stream)
    };
    let (first, mut cancel) = start(10_000);
    timeout(PATIENCE, first).await.unwrap().unwrap();
    let (second, _stream) = start(1);
    cancel.send_reset(h2::Reason::CANCEL);
    let response = timeout(PATIENCE, second).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = timeout(PATIENCE, poll_fn(|cx| body.poll_data(cx))).await.unwrap() {
        bytes.extend(data.unwrap());
    }
    assert!(bytes.ends_with(b"data: [DONE]\n\n"));
    let ends: Vec<_> = simulator.truth(2).await.iter().map(|record| record.end).collect();
    assert!(
        ends.contains(&llm_probe_exporter::sim::journal::End::Disconnected),
        "{ends:?}"
    );
}

/// A certificate for `localhost` in a folder, and what trusts it.
fn certificate(folder: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    std::fs::write(&files.cert, signed.cert.pem()).unwrap();
    std::fs::write(&files.key, signed.signing_key.serialize_pem()).unwrap();
    (files, signed.cert.der().clone())
}

async fn connect(
    simulator: &Simulator,
    trusted: &CertificateDer<'static>,
    alpn: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(simulator.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn tls_carries_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(folder.path());
    let settings = Settings {
        tls: Some(files),
        ..quick()
    };
    let simulator = Simulator::start(settings).await;

    let io = connect(&simulator, &trusted, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (status, frames, _) = ask(io, CHAT, "", &openai(3)).await;
    assert_eq!(status, 200);
    assert!(text(&frames).ends_with("data: [DONE]\n\n"));

    for alpn in [&["http/1.1"][..], &[]] {
        let mut io = connect(&simulator, &trusted, alpn).await.unwrap();
        io.write_all(&post(CHAT, "", &openai(3))).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, io.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{answer}");
    }
    // Whoever does not trust it gets no further.
    let (_, other) = certificate(tempfile::tempdir().unwrap().path());
    assert!(connect(&simulator, &other, &[]).await.is_err());
    let (_, ended) = super::client::raw(simulator.send(&post(CHAT, "", &openai(1))).await, PATIENCE).await;
    assert_ne!(
        ended,
        super::client::Ended::Silent,
        "without TLS there is no answer"
    );
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (files, _) = certificate(folder.path());
    let (other, _) = certificate(tempfile::tempdir().unwrap().path());
    let missing = folder.path().join("missing.pem");
    for (cert, key, named) in [
        (missing.clone(), files.key.clone(), "missing.pem"),
        (files.cert.clone(), missing, "missing.pem"),
        (files.key.clone(), files.key.clone(), "key.pem"),
        (files.cert.clone(), other.key, "key.pem"),
    ] {
        let settings = Settings {
            tls: Some(TlsFiles { cert, key }),
            ..quick()
        };
        let error = Server::bind("127.0.0.1:0".parse().unwrap(), settings)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(named), "{error}");
    }
}
