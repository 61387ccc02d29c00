//! The ways to a target: TLS, HTTP/2, proxies, Unix sockets; who is believed, which phases there are, and what
//! each way to fail is called.
#![cfg(test)]

#[path = "support/process.rs"]
#[expect(dead_code, reason = "other test files use the rest")]
mod process;
mod support;

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use llm_probe_exporter::{
    client::{Client, Scraper},
    config::{
        plan::{Busy, Connection, HttpVersion, Login, Pem, Proxy, Reach, Target, Tls, TlsVersion},
        secret::Secret,
    },
    outcome::{Failure, Outcome},
    record::{ConnectionState, Record},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::{
    ProtocolVersion, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use support::{
    authority::{Authority, CHAIN_ENDS, EXPIRED, Issued},
    engine::{PATIENT, SHORT, USER_AGENT, ask, ask_again, endpoint, fails, target},
    fronts::{self, HERE, accepting},
    http2::{self, Plot},
    ms,
    script::Script,
    server::{Server, black_hole, closed_port},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// A target behind TLS at `localhost`, which trusts `authority`.
fn https(address: SocketAddr, authority: &Authority) -> Target {
    let tls = Tls {
        ca: Some(authority.ca()),
        ..Tls::default()
    };
    trusting(address, tls)
}

fn trusting(address: SocketAddr, tls: Tls) -> Target {
    Target {
        url: format!("https://localhost:{}/v1", address.port())
            .parse()
            .unwrap(),
        reach: Reach {
            tls,
            ..Reach::default()
        },
        ..target(address)
    }
}

fn answering() -> Server {
    Server::playing(Script::answer(3, ms(5)))
}

/// Succeeds on a connection of its own, with all phases but those that it says it has not.
#[track_caller]
fn assert_new(record: &Record, dns: bool, tls: bool) {
    assert_eq!(record.outcome, Outcome::Ok, "{:?}", record.detail);
    assert_eq!(record.connection, Some(ConnectionState::New));
    let line = &record.timeline;
    let phases = (line.dns.is_some(), line.connect.is_some(), line.tls.is_some());
    assert_eq!(phases, (dns, true, tls));
    let sum = line.dns.unwrap_or_default() + line.connect.unwrap() + line.tls.unwrap_or_default();
    // Before the connector begins, nothing happens but our own code.
    assert!(sum <= line.connected.unwrap() - line.start.unwrap());
}

#[track_caller]
fn assert_failed((failure, record): &(Failure, Record), expected: Failure, detail: &str) {
    let said = record.detail.as_deref().unwrap_or_default();
    assert_eq!(*failure, expected, "{said}");
    assert!(said.contains(detail), "{said:?} does not say {detail:?}");
}

mod trust {
    use super::*;

    #[tokio::test]
    async fn an_own_authority() {
        let (authority, server) = (Authority::new(), answering());
        let config = authority.issue(&["localhost"]).server(BOTH, &[], None);
        let (address, handshakes) = fronts::tls(server.address, config).await;
        let record = ask(&https(address, &authority), PATIENT).await;
        assert_new(&record, true, true);
        assert_eq!(record.peer, Some(address));
        assert_eq!(
            record.certificate_expires,
            Some(CHAIN_ENDS),
            "the first of the chain that ends"
        );
        let handshake = handshakes.only();
        assert_eq!(handshake.server_name.as_deref(), Some("localhost"));
        assert_eq!(handshake.version, Some(ProtocolVersion::TLSv1_3));
    }

    #[tokio::test]
    async fn nobody_else() {
        let (authority, server) = (Authority::new(), answering());
        let fails_with = async |issued: Issued, tls: Tls| {
            let (address, _) = fronts::tls(server.address, issued.server(BOTH, &[], None)).await;
            let failed = fails(&trusting(address, tls), PATIENT).await;
            // It connected, and the handshake was the last that happened.
            let line = &failed.1.timeline;
            assert!(line.connect.is_some() && line.connected.is_none());
            failed
        };
        let trusted = || Tls {
            ca: Some(authority.ca()),
            ..Tls::default()
        };
        // An authority in place of another, and in place of the system's.
        let mine = authority.issue(&["localhost"]);
        for tls in [
            Tls::default(),
            Tls {
                ca: Some(Authority::new().ca()),
                ..Tls::default()
            },
        ] {
            let failed = fails_with(mine.clone(), tls).await;
            assert_failed(&failed, Failure::Tls, "UnknownIssuer");
            assert_eq!(failed.1.certificate_expires, Some(CHAIN_ENDS));
        }
        let failed = fails_with(authority.issue(&["llm.internal"]), trusted()).await;
        assert_failed(&failed, Failure::Tls, "not valid for name");
        let failed = fails_with(authority.issue_until(&["localhost"], 2021), trusted()).await;
        assert_failed(&failed, Failure::Tls, "expired");
        assert_eq!(failed.1.certificate_expires, Some(EXPIRED));
        assert!(server.served().is_empty(), "nothing was sent");
    }

    #[tokio::test]
    async fn no_authority_as_the_server_itself() {
        let server = answering();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let text = params.self_signed(&key).unwrap().pem();
        let shown = Issued {
            chain: text.clone(),
            key: key.serialize_pem(),
        };
        let (address, _) = fronts::tls(server.address, shown.server(BOTH, &[], None)).await;
        let tls = Tls {
            ca: Some(Pem {
                path: PathBuf::from("ca.pem"),
                text,
            }),
            ..Tls::default()
        };
        let failed = fails(&trusting(address, tls), PATIENT).await;
        assert_failed(
            &failed,
            Failure::Tls,
            "shows a CA certificate as its own; issue one",
        );
    }

    #[tokio::test]
    async fn anybody_if_told_so() {
        let server = answering();
        let expired = Authority::new().issue_until(&["llm.internal"], 2021);
        let (address, _) = fronts::tls(server.address, expired.server(BOTH, &[], None)).await;
        let tls = Tls {
            insecure_skip_verify: true,
            ..Tls::default()
        };
        let record = ask(&trusting(address, tls), PATIENT).await;
        assert_new(&record, true, true);
        assert_eq!(record.certificate_expires, Some(EXPIRED));
    }

    #[tokio::test]
    async fn a_name_other_than_the_hosts() {
        let (authority, server) = (Authority::new(), answering());
        let config = authority.issue(&["llm.internal"]).server(BOTH, &[], None);
        let (address, handshakes) = fronts::tls(server.address, config).await;
        let mut target = https(address, &authority);
        target.reach.tls.server_name = Some("llm.internal".into());
        for (host, dns) in [("localhost", true), ("127.0.0.1", false)] {
            target.url.set_host(Some(host)).unwrap();
            let record = ask(&target, PATIENT).await;
            assert_new(&record, dns, true);
            assert_eq!(
                record.peer,
                Some(address),
                "the name is for TLS, and not resolved"
            );
        }
        for handshake in handshakes.all() {
            assert_eq!(handshake.server_name.as_deref(), Some("llm.internal"));
        }
        let hosts: Vec<_> = server
            .served()
            .iter()
            .map(|served| served.header("host").unwrap().to_owned())
            .collect();
        assert_eq!(
            hosts,
            [format!("localhost:{}", address.port()), address.to_string()]
        );
    }

    /// A server's own metrics are where its requests go.
    #[tokio::test]
    async fn a_name_other_than_the_hosts_where_the_server_says_that_it_is_busy() {
        let (authority, said) = (Authority::new(), "requests 3\n");
        let server = Server::playing(Script::plain("200 OK", "text/plain", said));
        let config = authority.issue(&["llm.internal"]).server(BOTH, &[], None);
        let (address, handshakes) = fronts::tls(server.address, config).await;
        let mut target = https(address, &authority);
        target.reach.tls.server_name = Some("llm.internal".into());
        let busy = Busy {
            url: target.url.join("/metrics").unwrap(),
            skip_when: Vec::new(),
            abort_when: Vec::new(),
            timeout: PATIENT.connect,
        };
        let scraper = Scraper::new(&busy, &target, USER_AGENT, &Handle::current()).unwrap();
        assert_eq!(scraper.scrape().await.as_deref(), Ok(said));
        assert_eq!(handshakes.only().server_name.as_deref(), Some("llm.internal"));
        let host = format!("localhost:{}", address.port());
        assert_eq!(server.served()[0].header("host"), Some(host.as_str()));
    }

    #[tokio::test]
    async fn addresses_of_both_versions() {
        let authority = Authority::new();
        let server = answering();
        let issued = authority.issue(&["127.0.0.1", "::1"]);
        for (host, address) in [("127.0.0.1", HERE), ("[::1]", IpAddr::V6(Ipv6Addr::LOCALHOST))] {
            let backend = server.address;
            let config = issued.server(BOTH, &[], None);
            let (address, handshakes) = fronts::tls_with(address, config, move |mut stream| async move {
                let mut back = tokio::net::TcpStream::connect(backend).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut back).await.ok();
            })
            .await;
            let mut target = https(address, &authority);
            target.url.set_host(Some(host)).unwrap();
            let record = ask(&target, PATIENT).await;
            assert_new(&record, false, true);
            assert_eq!(record.peer, Some(address));
            assert_eq!(handshakes.only().server_name, None, "an address is no name");
        }
    }
}

mod versions {
    use super::*;

    #[tokio::test]
    async fn of_tls() {
        let (authority, server) = (Authority::new(), answering());
        let issued = authority.issue(&["localhost"]);
        for (offered, version) in [
            (&TLS12, ProtocolVersion::TLSv1_2),
            (&TLS13, ProtocolVersion::TLSv1_3),
        ] {
            let config = issued.server(&[offered], &[], None);
            let (address, handshakes) = fronts::tls(server.address, config).await;
            let mut target = https(address, &authority);
            let record = ask(&target, PATIENT).await;
            assert_new(&record, true, true);
            assert_eq!(record.certificate_expires, Some(CHAIN_ENDS));
            assert_eq!(handshakes.only().version, Some(version));

            target.reach.tls.min_version = TlsVersion::Tls13;
            if version == ProtocolVersion::TLSv1_2 {
                let failed = fails(&target, PATIENT).await;
                assert_failed(&failed, Failure::Tls, "ProtocolVersion");
            } else {
                assert_new(&ask(&target, PATIENT).await, true, true);
            }
        }
    }

    #[tokio::test]
    async fn that_are_none() {
        let authority = Authority::new();
        let plain = accepting(HERE, |mut stream| async move {
            stream.read_buf(&mut Vec::new()).await.ok();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok();
        })
        .await;
        let failed = fails(&https(plain, &authority), PATIENT).await;
        assert_failed(&failed, Failure::Tls, "in the TLS handshake");
        // The other way round.
        let config = authority.issue(&["localhost"]).server(BOTH, &[], None);
        let (address, _) = fronts::tls(plain, config).await;
        assert_failed(&fails(&target(address), PATIENT).await, Failure::Malformed, "");
        let hangs_up = accepting(HERE, |stream| async move { drop(stream) }).await;
        assert_failed(
            &fails(&https(hangs_up, &authority), PATIENT).await,
            Failure::Tls,
            "",
        );
    }

    #[tokio::test]
    async fn of_a_server_that_never_ends_its_handshake() {
        let silent = accepting(HERE, |mut stream| async move {
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        })
        .await;
        let failed = fails(&https(silent, &Authority::new()), SHORT).await;
        assert_failed(&failed, Failure::ConnectTimeout, "in the TLS handshake");
        assert!(failed.1.timeline.connect.is_some() && failed.1.timeline.tls.is_none());
    }
}

mod client_certificates {
    use super::*;

    #[tokio::test]
    async fn are_shown_to_who_asks() {
        let (authority, clients) = (Authority::new(), Authority::new());
        let server = answering();
        let issued = authority.issue(&["localhost"]);
        let identity = clients.issue(&["prober"]).identity();
        for version in BOTH {
            let config = issued.server(&[version], &[], Some(&clients));
            let (address, handshakes) = fronts::tls(server.address, config).await;
            let mut target = https(address, &authority);
            target.reach.tls.identity = Some(identity.clone());
            assert_new(&ask(&target, PATIENT).await, true, true);
            assert_eq!(handshakes.only().client_certificates, 2, "with the intermediate");
        }
    }

    #[tokio::test]
    async fn that_are_refused_or_missing_are_tls() {
        let (authority, clients) = (Authority::new(), Authority::new());
        let server = answering();
        let issued = authority.issue(&["localhost"]);
        let stranger = Authority::new().issue(&["prober"]).identity();
        for version in BOTH {
            let config = issued.server(&[version], &[], Some(&clients));
            let (address, _) = fronts::tls(server.address, config).await;
            let mut target = https(address, &authority);
            // With TLS 1.3 the client has its connection before the server says no: many tries, as that is a race.
            for _ in 0..10 {
                target.reach.tls.identity = None;
                let failed = fails(&target, PATIENT).await;
                assert_failed(&failed, Failure::Tls, "CertificateRequired");
                target.reach.tls.identity = Some(stranger.clone());
                assert_failed(&fails(&target, PATIENT).await, Failure::Tls, "");
            }
        }
        assert!(server.served().is_empty());
    }

    #[tokio::test]
    async fn with_another_key_are_told_when_the_client_is_built() {
        let authority = Authority::new();
        let (one, other) = (authority.issue(&["one"]), authority.issue(&["other"]));
        let mut identity = one.identity();
        identity.key = other.identity().key;
        let mut target = https(closed_port(), &authority);
        target.reach.tls.identity = Some(identity);
        let error = Client::new(&target, USER_AGENT, &Handle::current()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("does not belong to"), "{said}");
        assert!(!said.contains("BEGIN"), "{said}");
    }
}

mod http2_ {
    use super::*;

    const ANSWER: Plot = Plot::Answer { tokens: 4, bytes: 3 };

    fn speaking(http: HttpVersion, target: Target) -> Target {
        Target { http, ..target }
    }

    #[tokio::test]
    async fn is_agreed_on_by_alpn() {
        let authority = Authority::new();
        let issued = authority.issue(&["localhost"]);
        let server = answering();
        for http in [HttpVersion::Http2, HttpVersion::Auto] {
            let config = issued.server(BOTH, &["h2", "http/1.1"], None);
            let (address, asked, handshakes) = http2::behind_tls(ANSWER, config).await;
            let target = speaking(http, https(address, &authority));
            let record = ask(&target, PATIENT).await;
            assert_new(&record, true, true);
            assert_eq!(record.timeline.deltas, 4);
            assert_eq!(handshakes.only().alpn.as_deref(), Some("h2"));
            let uri = asked.only().uri.to_string();
            assert_eq!(uri, format!("{}/chat/completions", target.url));
        }
        let only_old = || issued.server(BOTH, &["http/1.1"], None);
        let (address, handshakes) = fronts::tls(server.address, only_old()).await;
        let target = speaking(HttpVersion::Auto, https(address, &authority));
        assert_new(&ask(&target, PATIENT).await, true, true);
        assert_eq!(handshakes.only().alpn.as_deref(), Some("http/1.1"));
        let target = speaking(HttpVersion::Http2, https(address, &authority));
        let failed = fails(&target, PATIENT).await;
        assert_failed(&failed, Failure::Tls, "NoApplicationProtocol");
    }

    #[tokio::test]
    async fn is_known_before_without_tls() {
        let (address, asked) = http2::plain(ANSWER).await;
        let record = ask(&speaking(HttpVersion::Http2, target(address)), PATIENT).await;
        assert_new(&record, false, false);
        assert_eq!(record.peer, Some(address));
        assert_eq!(asked.only().headers["user-agent"], USER_AGENT);
    }

    #[tokio::test]
    async fn takes_large_answers_and_pings() {
        let plot = Plot::Answer {
            tokens: 200,
            bytes: 4000,
        };
        let (address, _) = http2::plain(plot).await;
        let record = ask(&speaking(HttpVersion::Http2, target(address)), PATIENT).await;
        assert_new(&record, false, false);
        assert_eq!(record.timeline.deltas, 200);
    }

    #[tokio::test]
    async fn shares_a_connection_only_if_told_so() {
        for (connection, expected) in [(Connection::New, 5), (Connection::Reuse, 1)] {
            let (address, asked) = http2::plain(ANSWER).await;
            let target = Target {
                connection,
                ..speaking(HttpVersion::Http2, target(address))
            };
            let endpoint = endpoint(&target);
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..5 {
                let (endpoint, target) = (
                    endpoint.clone(),
                    Target {
                        labels: target.labels.clone(),
                        connection,
                        ..speaking(HttpVersion::Http2, support::engine::target(address))
                    },
                );
                asking.spawn(async move { ask_again(&endpoint, &target, PATIENT).await });
            }
            let records = asking.join_all().await;
            for record in &records {
                assert_eq!(record.outcome, Outcome::Ok, "{:?}", record.detail);
                let line = &record.timeline;
                let is_new = record.connection == Some(ConnectionState::New);
                assert_eq!(line.connected.is_some(), is_new);
                assert_eq!(line.connect.is_some(), is_new);
                assert_eq!(record.peer, Some(address));
            }
            let new = records
                .iter()
                .filter(|record| record.connection == Some(ConnectionState::New));
            assert_eq!(new.count(), expected);
            let mut connections: Vec<_> = asked.all().iter().map(|asked| asked.connection).collect();
            connections.sort_unstable();
            connections.dedup();
            assert_eq!(connections.len(), expected);
        }
    }

    #[tokio::test]
    async fn streams_that_break_are_lost_connections() {
        use h2::Reason;
        for plot in [
            Plot::Reset(Reason::INTERNAL_ERROR),
            Plot::Reset(Reason::CANCEL),
            Plot::Reset(Reason::ENHANCE_YOUR_CALM),
            Plot::ResetBeforeTheHead(Reason::REFUSED_STREAM),
            Plot::GoAway(Reason::INTERNAL_ERROR),
            Plot::GoAway(Reason::ENHANCE_YOUR_CALM),
            Plot::Vanish,
        ] {
            let (address, asked) = http2::plain(plot).await;
            let target = speaking(HttpVersion::Http2, target(address));
            let (failure, record) = fails(&target, PATIENT).await;
            assert_eq!(failure, Failure::ConnectionLost, "{plot:?}: {:?}", record.detail);
            let has_head = !matches!(plot, Plot::ResetBeforeTheHead(_));
            assert_eq!(record.timeline.first.is_some(), has_head, "{plot:?}");
            assert_eq!(asked.all().len(), 1, "nothing is tried again: {plot:?}");
        }
    }

    /// Those that wait for the connection which another request opens end as that one does.
    #[tokio::test]
    async fn a_shared_connection_that_never_comes_is_the_same_for_all() {
        let (hole, _kept) = black_hole().await;
        for (address, expected) in [
            (hole, Failure::ConnectTimeout),
            (closed_port(), Failure::ConnectRefused),
        ] {
            let shared = || Target {
                connection: Connection::Reuse,
                ..speaking(HttpVersion::Http2, target(address))
            };
            let endpoint = endpoint(&shared());
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..5 {
                let (endpoint, target) = (endpoint.clone(), shared());
                asking.spawn(async move { ask_again(&endpoint, &target, SHORT).await });
            }
            for record in asking.join_all().await {
                assert_eq!(record.outcome, Outcome::Failed(expected), "{:?}", record.detail);
                assert_eq!(record.connection, None);
            }
        }
    }

    #[tokio::test]
    async fn that_is_none_is_malformed() {
        let server = answering();
        let target = speaking(HttpVersion::Http2, target(server.address));
        let failed = fails(&target, PATIENT).await;
        assert_failed(&failed, Failure::Malformed, "");
    }

    #[tokio::test]
    async fn a_shared_connection_that_ended_is_opened_anew() {
        let (address, asked) = http2::plain(Plot::Vanish).await;
        let target = Target {
            connection: Connection::Reuse,
            ..speaking(HttpVersion::Http2, target(address))
        };
        let endpoint = endpoint(&target);
        for expected in 1..=3 {
            let record = ask_again(&endpoint, &target, PATIENT).await;
            assert_eq!(record.outcome, Outcome::Failed(Failure::ConnectionLost));
            assert_ne!(record.connection, Some(ConnectionState::Reused));
            assert_eq!(asked.all().len(), expected, "each request was sent once");
        }
    }
}

mod proxies {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    const PASSWORD: &str = "hunter2:and@more/";

    /// A name that nobody here can resolve.
    const ELSEWHERE: &str = "llm.invalid";

    fn by(scheme: &str, proxy: SocketAddr, mut target: Target) -> Target {
        target.reach.proxy = Some(Proxy {
            url: format!("{scheme}://{proxy}").parse().unwrap(),
            login: None,
        });
        target
    }

    fn with_login(mut target: Target) -> Target {
        if let Some(proxy) = &mut target.reach.proxy {
            proxy.login = Some(Login {
                username: "me".into(),
                password: Secret::Inline(PASSWORD.into()),
            });
        }
        target
    }

    fn at(host: &str, mut target: Target) -> Target {
        target.url.set_host(Some(host)).unwrap();
        target
    }

    /// What a proxy is told of user and password.
    fn basic() -> String {
        format!("Basic {}", credentials())
    }

    fn credentials() -> String {
        BASE64_STANDARD.encode(format!("me:{PASSWORD}"))
    }

    #[tokio::test]
    async fn make_tunnels_for_tls() {
        let (authority, server) = (Authority::new(), answering());
        let issued = authority.issue(&[ELSEWHERE]);
        for http in [HttpVersion::Http1, HttpVersion::Http2] {
            let config = issued.server(BOTH, &["h2", "http/1.1"], None);
            let address = if http == HttpVersion::Http2 {
                let plot = Plot::Answer { tokens: 2, bytes: 3 };
                http2::behind_tls(plot, config).await.0
            } else {
                fronts::tls(server.address, config).await.0
            };
            let (proxy, heads) = fronts::http_proxy(address, None).await;
            let target = at(ELSEWHERE, https(address, &authority));
            let target = with_login(by("http", proxy, Target { http, ..target }));
            let record = ask(&target, PATIENT).await;
            assert_new(&record, false, true);
            assert_eq!(record.peer, Some(proxy));
            assert_eq!(record.certificate_expires, Some(CHAIN_ENDS));
            let head = heads.only();
            let to = format!("CONNECT {ELSEWHERE}:{} HTTP/1.1\r\n", address.port());
            assert!(head.starts_with(&to), "{head}");
            assert!(head.contains(&basic()), "{head}");
        }
        let served = server.only();
        assert!(served.head.starts_with("POST /v1/chat/completions "));
        assert_eq!(served.header("proxy-authorization"), None);
    }

    #[tokio::test]
    async fn are_told_whole_urls_without_tls() {
        let server = answering();
        let (proxy, _) = fronts::http_proxy(server.address, None).await;
        let target = at(ELSEWHERE, target(server.address));
        let record = ask(&with_login(by("http", proxy, target)), PATIENT).await;
        assert_new(&record, false, false);
        let served = server.only();
        let line = format!(
            "POST http://{ELSEWHERE}:{}/v1/chat/completions ",
            server.address.port()
        );
        assert!(served.head.starts_with(&line), "{}", served.head);
        assert_eq!(served.header("proxy-authorization"), Some(basic().as_str()));
    }

    #[tokio::test]
    async fn that_refuse_are_no_way_to_the_endpoint() {
        let authority = Authority::new();
        for (refusal, https_says, http_says) in [
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
                Failure::ConnectError,
                Failure::ConnectError,
            ),
            // Without a tunnel it cannot be told who says so.
            (
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
                Failure::ConnectError,
                Failure::ServerError,
            ),
            (
                "HTTP/1.1 403 Forbidden\r\n\r\nYou said: {}",
                Failure::ConnectError,
                Failure::Unauthorized,
            ),
        ] {
            let (proxy, _) = fronts::http_proxy(closed_port(), Some(refusal)).await;
            for (scheme, expected) in [("https", https_says), ("http", http_says)] {
                let mut target = https(closed_port(), &authority);
                if scheme == "http" {
                    target.url = "http://localhost:9/v1".parse().unwrap();
                }
                let (failure, record) = fails(&with_login(by("http", proxy, target)), PATIENT).await;
                let said = record.detail.unwrap();
                assert_eq!(failure, expected, "{refusal}: {said}");
                let leaks = said.contains(PASSWORD) || said.contains(&credentials());
                assert!(!leaks, "{said}");
            }
        }
    }

    #[tokio::test]
    async fn that_are_not_there_are_told_like_targets() {
        let authority = Authority::new();
        let target = || https(closed_port(), &authority);
        for scheme in ["http", "socks5", "socks5h"] {
            // The HTTP client does not pass on why a SOCKS proxy could not be reached.
            let expected = match scheme {
                "http" => Failure::ConnectRefused,
                _ => Failure::ConnectError,
            };
            let failed = fails(&by(scheme, closed_port(), target()), PATIENT).await;
            assert_failed(&failed, expected, "");
            let mut proxied = by(scheme, closed_port(), target());
            if let Some(proxy) = &mut proxied.reach.proxy {
                proxy.url.set_host(Some("proxy.invalid")).unwrap();
            }
            assert_failed(&fails(&proxied, PATIENT).await, Failure::Dns, "");
        }
        let silent = accepting(HERE, |mut stream| async move {
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        })
        .await;
        for scheme in ["http", "socks5", "socks5h"] {
            let failed = fails(&by(scheme, silent, target()), SHORT).await;
            assert_failed(&failed, Failure::ConnectTimeout, "");
        }
    }

    #[tokio::test]
    async fn of_socks5_resolve_names_or_not() {
        let (authority, server) = (Authority::new(), answering());
        let config = authority.issue(&["localhost", ELSEWHERE]).server(BOTH, &[], None);
        let (address, _) = fronts::tls(server.address, config).await;
        let (proxy, asked) = fronts::socks5(address, None, 0).await;
        let (locked, _) = fronts::socks5(address, Some(("me", PASSWORD)), 0).await;
        // The proxy is an address, so that the only lookup is that of the target.
        let record = ask(&by("socks5", proxy, https(address, &authority)), PATIENT).await;
        assert_new(&record, true, true);
        assert_eq!(record.peer, Some(proxy));
        let there = at(ELSEWHERE, https(address, &authority));
        assert_new(&ask(&by("socks5h", proxy, there), PATIENT).await, false, true);
        let there = at(ELSEWHERE, https(address, &authority));
        let failed = fails(&by("socks5", proxy, there), PATIENT).await;
        assert_failed(&failed, Failure::Dns, "");
        let port = address.port();
        assert_eq!(
            asked.all(),
            [format!("127.0.0.1:{port}"), format!("{ELSEWHERE}:{port}")]
        );
        let (proxy, asked) = fronts::socks5(server.address, None, 0).await;
        let plain = by("socks5", proxy, target(server.address));
        assert_new(&ask(&plain, PATIENT).await, false, false);
        assert_eq!(asked.only(), server.address.to_string());
        let target = || by("socks5h", locked, https(address, &authority));
        assert_new(&ask(&with_login(target()), PATIENT).await, false, true);
        let failed = fails(&target(), PATIENT).await;
        assert_failed(&failed, Failure::ConnectError, "");
    }

    #[tokio::test]
    async fn of_socks5_that_get_nowhere_are_connect_errors() {
        let authority = Authority::new();
        for reply in [1, 2, 3, 4, 5] {
            let (proxy, _) = fronts::socks5(closed_port(), None, reply).await;
            let failed = fails(&by("socks5h", proxy, https(closed_port(), &authority)), PATIENT).await;
            assert_failed(&failed, Failure::ConnectError, "");
        }
    }

    #[tokio::test]
    async fn keep_their_password() {
        let target = with_login(by("http", closed_port(), target(closed_port())));
        let client = Client::new(&target, USER_AGENT, &Handle::current()).unwrap();
        for shown in [format!("{target:?}"), format!("{client:?}")] {
            assert!(
                !shown.contains("hunter2") && !shown.contains(&credentials()),
                "{shown}"
            );
        }
    }
}

mod unix_sockets {
    use super::*;

    fn by(socket: PathBuf, mut target: Target) -> Target {
        target.reach.unix_socket = Some(socket);
        target
    }

    #[tokio::test]
    async fn lead_to_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let server = answering();
        let socket = folder.path().join("llm.sock");
        fronts::unix(server.address, &socket);
        // Neither is the host resolved nor the port asked.
        let mut target = target(closed_port());
        target.url.set_host(Some("llm.invalid")).unwrap();
        let target = by(socket, target);
        let record = ask(&target, PATIENT).await;
        assert_new(&record, false, false);
        assert_eq!(record.peer, None);
        let host = format!("llm.invalid:{}", target.url.port().unwrap());
        assert_eq!(server.only().header("host"), Some(host.as_str()));

        let target = Target {
            connection: Connection::Reuse,
            ..target
        };
        let endpoint = endpoint(&target);
        let mut states = Vec::new();
        for _ in 0..3 {
            let record = ask_again(&endpoint, &target, PATIENT).await;
            assert_eq!(record.outcome, Outcome::Ok);
            states.push(record.connection.unwrap());
        }
        let (new, reused) = (ConnectionState::New, ConnectionState::Reused);
        assert_eq!(states, [new, reused, reused]);
    }

    #[tokio::test]
    async fn carry_tls_too() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, server) = (Authority::new(), answering());
        let config = authority.issue(&["localhost"]).server(BOTH, &[], None);
        let (address, _) = fronts::tls(server.address, config).await;
        let socket = folder.path().join("llm.sock");
        fronts::unix(address, &socket);
        let record = ask(&by(socket, https(closed_port(), &authority)), PATIENT).await;
        assert_new(&record, false, true);
        assert_eq!(record.certificate_expires, Some(CHAIN_ENDS));
    }

    #[tokio::test]
    async fn where_nobody_listens_refuse() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.sock");
        let left = folder.path().join("left.sock");
        drop(tokio::net::UnixListener::bind(&left).unwrap());
        for socket in [missing, left] {
            let failed = fails(&by(socket, target(closed_port())), PATIENT).await;
            assert_failed(&failed, Failure::ConnectRefused, "");
        }
        let locked = folder.path().to_owned();
        let (failure, _) = fails(&by(locked, target(closed_port())), PATIENT).await;
        assert!(matches!(failure, Failure::ConnectRefused | Failure::ConnectError));
    }
}

/// Reused connections over TLS have neither phases nor a certificate of their own.
#[tokio::test]
async fn reused_connections_have_no_phases() {
    let (authority, server) = (Authority::new(), answering());
    let config = authority.issue(&["localhost"]).server(BOTH, &[], None);
    let (address, handshakes) = fronts::tls(server.address, config).await;
    let target = Target {
        connection: Connection::Reuse,
        ..https(address, &authority)
    };
    let endpoint = endpoint(&target);
    assert_new(&ask_again(&endpoint, &target, PATIENT).await, true, true);
    for _ in 0..3 {
        let record = ask_again(&endpoint, &target, PATIENT).await;
        assert_eq!(record.outcome, Outcome::Ok);
        assert_eq!(record.connection, Some(ConnectionState::Reused));
        let line = &record.timeline;
        assert_eq!(
            (line.dns, line.connect, line.tls, line.connected),
            (None, None, None, None)
        );
        assert_eq!(record.certificate_expires, None);
        assert_eq!(record.peer, Some(address));
    }
    assert_eq!(handshakes.all().len(), 1);
}

/// Every new connection shakes hands in full, as a new user's does.
#[tokio::test]
async fn sessions_are_not_resumed() {
    let (authority, server) = (Authority::new(), answering());
    for version in BOTH {
        let config = authority.issue(&["localhost"]).server(&[version], &[], None);
        let (address, _) = fronts::tls(server.address, config).await;
        let target = https(address, &authority);
        let endpoint = endpoint(&target);
        for _ in 0..3 {
            let record = ask_again(&endpoint, &target, PATIENT).await;
            assert_new(&record, true, true);
            assert_eq!(
                record.certificate_expires,
                Some(CHAIN_ENDS),
                "a resumed session shows no certificate"
            );
        }
    }
}

mod the_program {
    use std::path::Path;

    use super::*;
    use crate::process::{Exporter, run};

    fn config(address: SocketAddr, more: &str) -> String {
        format!(
            "targets: [{{ name: behind-tls, url: 'https://localhost:{}/v1', api: openai_chat, model: m, {more} }}]\n\
             probes: [{{ name: p, every: 200ms }}]\n",
            address.port()
        )
    }

    fn write(folder: &Path, name: &str, text: &str) -> String {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn exposes_when_certificates_end_and_logs_who_answered() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, server) = (Authority::new(), answering());
        let tls = authority.issue(&["localhost"]).server(BOTH, &[], None);
        let (address, _) = fronts::tls(server.address, tls).await;
        let ca = write(folder.path(), "ca.pem", &authority.ca().text);
        let exporter = Exporter::start(
            &config(address, &format!("tls: {{ ca_file: {ca} }}")),
            &["--log.level=debug"],
        );
        let expiry = "tls_certificate_expiry_timestamp_seconds";
        let first = exporter.metrics();
        assert_eq!(first.find(expiry, &[]).count(), 0, "absent until seen");
        let later = exporter.wait_for("a request succeeded", |samples| {
            samples.count("slo_good_requests_total", &["slo=\"goodput\""]) >= 1
        });
        let found: Vec<_> = later.find(expiry, &[]).collect();
        let series = format!("llm_probe_{expiry}{{target=\"behind-tls\"}}");
        assert_eq!(found, [(series.as_str(), CHAIN_ENDS as f64)]);
        let log = exporter.process.log();
        let peer = format!("peer={address}");
        assert!(
            log.lines()
                .any(|line| line.contains("outcome=ok") && line.contains(&peer)),
            "{log}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn warns_at_each_start_that_it_verifies_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let server = answering();
        let tls = Authority::new().issue(&["elsewhere"]).server(BOTH, &[], None);
        let (address, _) = fronts::tls(server.address, tls).await;
        let text = config(address, "tls: { insecure_skip_verify: true }");
        let file = write(folder.path(), "probes.yaml", &text);
        for command in ["check", "once"] {
            let output = run(&[command, &format!("--config.file={file}")]);
            // `check` prints warnings, the others log them.
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(output.status.success(), "{said}");
            assert!(
                said.contains("warning") && said.contains("`behind-tls` is not verified"),
                "{said}"
            );
        }
    }

    #[test]
    fn refuses_a_key_of_another_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let cert = write(folder.path(), "client.pem", &authority.issue(&["one"]).chain);
        let key = write(folder.path(), "client.key", &authority.issue(&["other"]).key);
        let garbled = write(
            folder.path(),
            "garbled.pem",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        );
        for (tls, says) in [
            (
                format!("cert_file: {cert}, key_file: {key}"),
                "does not belong to the first certificate",
            ),
            (format!("ca_file: {garbled}"), "certificate 1 cannot be used"),
        ] {
            let text = config(closed_port(), &format!("tls: {{ {tls} }}"));
            let file = write(folder.path(), "probes.yaml", &text);
            for command in ["check", "once", "serve"] {
                let output = run(&[command, &format!("--config.file={file}")]);
                let log = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{command}: {log}");
                assert!(log.contains("behind-tls") && log.contains(says), "{log}");
            }
        }
    }
}
