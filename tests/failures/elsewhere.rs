//! What goes wrong outside the answer: on the way to the endpoint, and with us.

use std::{future::Future, sync::Arc};

use llm_probe_exporter::{
    config::{
        plan::{Authorization, Probe, Target, Timeouts},
        secret::Secret,
    },
    expect::Expect,
    load::Volume,
    outcome::{Invalid, Outcome},
    record::Record,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::unbounded_channel,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::support::{
    engine::{
        NO_CLOCK_CAN_HOLD, PATIENT, SHORT, ask, ask_again, burst, endpoint, fire, probe, request, step,
        target,
    },
    ms,
    script::{Script, head},
    server::{Server, black_hole, closed_port},
};

pub(crate) async fn name_that_does_not_resolve() -> Record {
    let mut nowhere = target(closed_port());
    nowhere.url = "http://nobody.invalid/v1".parse().unwrap();
    ask(&nowhere, PATIENT).await
}

/// A burst of one: what is expected belongs to the probe.
pub(crate) async fn not_as_expected(expect: Expect) -> Record {
    let server = Server::playing(Script::answer(2, ms(0)));
    let probe = Probe {
        expect: Some(expect),
        ..probe(target(server.address))
    };
    let (judged, _) = fire(burst(probe, step(1, Volume::Requests(1)))).await;
    judged[0].record.clone()
}

pub(crate) async fn nobody_listens() -> Record {
    ask(&target(closed_port()), PATIENT).await
}

pub(crate) async fn full_queue() -> Record {
    let (address, _keep) = black_hole().await;
    ask(&target(address), SHORT).await
}

/// Nothing can be connected to a multicast address: no packet is sent.
pub(crate) async fn unreachable() -> Record {
    ask(&target("224.0.0.1:9".parse().unwrap()), PATIENT).await
}

/// A request over TLS to whatever `serve` does with the connection.
async fn over_tls<F: Future<Output = ()> + Send + 'static>(
    timeouts: Timeouts,
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> Record {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    let target = Target {
        url: format!("https://{address}/v1").parse().unwrap(),
        ..target(address)
    };
    let record = ask(&target, timeouts).await;
    serving.abort();
    record
}

pub(crate) async fn certificate_that_nobody_signed() -> Record {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    over_tls(PATIENT, |stream| async move {
        let refused = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        assert!(refused.is_err(), "the client refuses");
    })
    .await
}

pub(crate) async fn no_tls() -> Record {
    over_tls(PATIENT, |mut stream| async move {
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    })
    .await
}

pub(crate) async fn closed_in_the_handshake() -> Record {
    over_tls(PATIENT, |mut stream| async move {
        stream.read_u8().await.unwrap();
    })
    .await
}

pub(crate) async fn silent_in_the_handshake() -> Record {
    over_tls(SHORT, |mut stream| async move {
        stream.read_to_end(&mut Vec::new()).await.ok();
    })
    .await
}

/// Nothing is asked where a redirect points to, least of all with our credentials.
pub(crate) async fn redirected(status: &'static str) -> Record {
    let elsewhere = Server::playing(Script::answer(2, ms(0)));
    let location = format!(
        "Location: http://{}/v1/chat/completions\r\nContent-Length: 0",
        elsewhere.address
    );
    let server = Server::playing(Script::new().send(head(status, "", &location)));
    let target = Target {
        authorization: Some(Authorization {
            scheme: Some("Bearer".into()),
            credentials: Secret::Inline("sk-secret".into()),
        }),
        ..target(server.address)
    };
    let record = ask(&target, PATIENT).await;
    assert!(elsewhere.served().is_empty());
    assert_eq!(server.only().header("authorization"), Some("Bearer sk-secret"));
    record
}

pub(crate) async fn tokens_without_end(script: Script) -> Record {
    let server = Server::playing(script);
    let total = ms(400);
    let record = ask(&target(server.address), Timeouts { total, ..PATIENT }).await;
    assert!(record.elapsed().unwrap() >= total.into());
    assert!(record.timeline.deltas > 1);
    let served = server.sees(|served| served[0].gone.is_some()).await;
    assert_eq!(served.len(), 1);
    record
}

pub(crate) async fn dropped() -> Record {
    let server = Server::playing(Script::sse().token("a").hold());
    let target = target(server.address);
    let endpoint = endpoint(&target);
    let (deliver, mut records) = unbounded_channel();
    let running = request(&endpoint, &target, PATIENT).run(&endpoint, deliver);
    assert!(timeout(ms(100), running).await.is_err());
    records.recv().await.unwrap()
}

pub(crate) async fn panicking() -> Record {
    let server = Server::playing(Script::answer(2, ms(0)));
    let target = target(server.address);
    let endpoint = endpoint(&target);
    let (deliver, mut records) = unbounded_channel();
    let request = request(&endpoint, &target, NO_CLOCK_CAN_HOLD);
    let running = tokio::spawn(async move { request.run(&endpoint, deliver).await });
    assert!(running.await.unwrap_err().is_panic());
    records.recv().await.unwrap()
}

const CHILD: &str = "LLM_PROBE_TEST_CHILD";

/// The limit of open files holds for a whole process, so this runs a test of this file in another one.
pub(crate) fn without_a_descriptor() -> Record {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "elsewhere::asks_without_a_descriptor", "--ignored"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    Record {
        outcome: Outcome::Invalid(Invalid::Local),
        ..Record::new(0, false, Instant::now())
    }
}

#[tokio::test]
#[ignore = "leaves its process without file descriptors: `without_a_descriptor` runs it"]
async fn asks_without_a_descriptor() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // Its queue takes the connection: an endpoint that runs needs descriptors of its own.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap());
    let endpoint = endpoint(&target);
    let limit = rustix::process::Rlimit {
        current: Some(40),
        ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let _all: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let record = ask_again(&endpoint, &target, PATIENT).await;
    assert_eq!(record.outcome, Outcome::Invalid(Invalid::Local), "{record:?}");
}
