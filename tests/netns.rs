//! What a network does to requests: names that do not resolve, hosts that are not there, packets that are lost or
//! take their time. Between network namespaces that each test makes for itself.
#![cfg(test)]

#[path = "support/netns.rs"]
mod netns;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "other test files use the rest")]
mod process;
mod support;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use llm_probe_exporter::{
    config::plan::{Connection, Probe, Reach, Target, Timeouts, Tls},
    gate::Gate,
    load::Volume,
    measure::Measurement,
    outcome::{Failure, Outcome},
    record::{ConnectionState, Record},
};
use netns::{Link, SERVER, name_server};
use rustls::version::{TLS12, TLS13};
use support::{
    authority::Authority,
    engine::{
        PATIENT, SHORT, ask, ask_again, burst, endpoint, endpoint_behind, fails, fire, probe, step, target,
    },
    fronts, ms,
    script::Script,
    server::Server,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Deadlines for networks that lose packets: a connection gives up its first two SYNs after 3 s.
const ENDURING: Timeouts = Timeouts {
    connect: Duration::from_secs(25),
    first_token: Duration::from_secs(40),
    stall: Duration::from_secs(40),
    total: Duration::from_mins(1),
};

/// The scripted endpoint on the other host.
fn serving(link: &Link, script: Script) -> Server {
    link.server.run(|| Server::at(SERVER, move |_| script.clone()))
}

/// One request from one host to a port of the other fails.
fn failing(link: &Link, address: impl Into<SocketAddr>, timeouts: Timeouts) -> (Failure, Record) {
    let address = address.into();
    link.client
        .block_on(async move || fails(&target(address), timeouts).await)
}

fn elapsed(record: &Record) -> Duration {
    record.ended.unwrap() - record.timeline.start.unwrap()
}

/// The program's words on one burst at `http://llm.test`, and its log.
fn once(link: &Link, etc: &[(&str, &str)], port: u16, timeouts: &str) -> (serde_json::Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("probes.yaml");
    let text = format!(
        "targets: [{{ name: far, url: 'http://llm.test:{port}/v1', api: openai_chat, model: m }}]\n\
         probes: [{{ name: p, timeouts: {{ {timeouts} }} }}]\n"
    );
    fs::write(&config, text).unwrap();
    let program = process::program();
    let mut command = link.client.command(Path::new(program.get_program()), etc);
    command
        .args(["once", "--output=json", "--log.level=debug"])
        .arg(format!("--config.file={}", config.display()));
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {log}"));
    (said, log)
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_names_that_do_not_resolve() {
    let link = Link::new();
    link.server.run(|| name_server(SERVER, "other.test", &[]));
    let failed = |resolver: &str, timeouts: &str| {
        let (said, log) = once(&link, &[("resolv.conf", resolver)], 80, timeouts);
        assert_eq!(said[0]["failures"]["dns"], 1, "{resolver}: {said}\n{log}");
        log
    };
    // There is no such name; there is nobody who could know; whoever could know says nothing.
    failed("nameserver 10.77.0.2\n", "connect: 30s");
    failed(
        "nameserver 10.99.0.1\noptions timeout:1 attempts:1\n",
        "connect: 30s",
    );
    link.server.sh("iptables -A INPUT -p udp -j DROP");
    let begun = Instant::now();
    let log = failed(
        "nameserver 10.77.0.2\noptions timeout:30 attempts:1\n",
        "connect: 300ms",
    );
    assert!(log.contains("did not resolve within 300ms"), "{log}");
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "the end of the program waited for the resolver"
    );
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_name_servers_that_say_nothing_cost_a_thread_a_name() {
    let link = Link::new();
    link.server.sh("iptables -A INPUT -p udp -j DROP");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("probes.yaml");
    let text = "targets: [{ name: far, url: 'http://llm.test/v1', api: openai_chat, model: m }]\n\
                probes: [{ name: p, concurrency: 100, timeouts: { connect: 4s } }]\n";
    fs::write(&config, text).unwrap();
    let program = process::program();
    let resolver = [(
        "resolv.conf",
        "nameserver 10.77.0.2\noptions timeout:30 attempts:1\n",
    )];
    let mut command = link.client.command(Path::new(program.get_program()), &resolver);
    command
        .arg("once")
        .arg(format!("--config.file={}", config.display()));
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    // All hundred have asked long before their deadline.
    std::thread::sleep(Duration::from_secs(2));
    let threads = fs::read_dir(format!("/proc/{}/task", child.id()))
        .unwrap()
        .count();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(threads < 50, "{threads} threads");
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_names_with_several_addresses() {
    const TWO: &[IpAddr] = &[
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3)),
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)),
    ];
    const DUAL: &[IpAddr] = &[
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2)),
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)),
    ];
    const DEAD: &[IpAddr] = &[
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3)),
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 4)),
    ];
    let etc = [("resolv.conf", "nameserver 10.77.0.2\n")];
    for (addresses, answered) in [(TWO, true), (DUAL, true), (DEAD, false)] {
        let link = Link::new();
        // Nobody listens at these addresses of the server, and what comes by IPv6 is swallowed.
        link.server
            .sh("ip addr add 10.77.0.3/24 dev wire; ip addr add 10.77.0.4/24 dev wire");
        link.server.sh("ip6tables -A INPUT -p tcp -j DROP");
        link.server.run(|| name_server(SERVER, "llm.test", addresses));
        let server = serving(&link, Script::answer(3, ms(5)));
        let (said, log) = once(&link, &etc, server.address.port(), "connect: 20s");
        if answered {
            assert_eq!(said[0]["successes"], 1, "{addresses:?}: {said}\n{log}");
            assert!(log.contains(&format!("peer={}", server.address)), "{log}");
        } else {
            assert_eq!(said[0]["failures"]["connect_refused"], 1, "{said}\n{log}");
            assert!(log.contains("10.77.0.3") && log.contains("10.77.0.4"), "{log}");
        }
        if addresses == DUAL {
            // The other version is tried after 300 ms.
            let first_token = said[0]["ttft"]["p50"].as_f64().unwrap();
            assert!(first_token >= 0.3, "{said}");
        }
    }
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_hosts_that_are_not_there() {
    let link = Link::new();
    let server = serving(&link, Script::answer(3, ms(5)));
    let failed = |address: [u8; 4], timeouts, expected, detail: &str| {
        let (failure, record) = failing(&link, (address, server.address.port()), timeouts);
        let said = record.detail.as_deref().unwrap();
        assert_eq!(failure, expected, "{address:?}: {said}");
        assert!(said.contains(detail), "{address:?}: {said}");
        assert!(record.timeline.connected.is_none());
        record
    };
    // No way there; a router says so; the neighbour does not answer (Linux asks three times, a second each).
    failed(
        [10, 99, 0, 1],
        PATIENT,
        Failure::ConnectError,
        "Network is unreachable",
    );
    link.client.sh("ip route add unreachable 10.98.0.0/24");
    failed([10, 98, 0, 1], PATIENT, Failure::ConnectError, "No route to host");
    failed(
        [10, 77, 0, 77],
        ENDURING,
        Failure::ConnectError,
        "No route to host",
    );
    let reject = "iptables -A INPUT -p tcp -j REJECT --reject-with";
    for (with, expected) in [
        ("icmp-host-unreachable", Failure::ConnectError),
        ("icmp-admin-prohibited", Failure::ConnectError),
        ("tcp-reset", Failure::ConnectRefused),
    ] {
        link.server.sh(&format!("iptables -F; {reject} {with}"));
        failed(SERVER.octets(), PATIENT, expected, "");
    }
    // A packet filter that says nothing.
    link.server.sh("iptables -F; iptables -A INPUT -p tcp -j DROP");
    let record = failed(SERVER.octets(), SHORT, Failure::ConnectTimeout, "within 200ms");
    assert!(elapsed(&record) >= SHORT.connect);
    link.server.sh("iptables -F");
    let record = link
        .client
        .block_on(async || ask(&target(server.address), PATIENT).await);
    assert_eq!(record.outcome, Outcome::Ok);
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_cables_that_are_pulled() {
    let link = Link::new();
    let (said, never) = (CancellationToken::new(), CancellationToken::new());
    let script = Script::sse()
        .token("a")
        .fire(&said)
        .until(&never)
        .token("b")
        .ending();
    let server = serving(&link, script);
    let timeouts = Timeouts {
        stall: ms(600),
        ..PATIENT
    };
    let record = link.client.block_on(async || {
        let target = target(server.address);
        let pulled = async {
            said.cancelled().await;
            // So that the token is there before the cable is gone.
            tokio::time::sleep(ms(100)).await;
            link.server.sh("ip link set wire down");
        };
        tokio::join!(ask(&target, timeouts), pulled).0
    });
    assert_eq!(record.outcome, Outcome::Failed(Failure::StallTimeout));
    assert_eq!(record.timeline.deltas, 1);
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_loss_is_waiting_and_no_failure() {
    const USERS: u32 = 20;
    let link = Link::new();
    let server = serving(&link, Script::answer(10, ms(5)));
    // Every fourth SYN, and of everything else, both ways, a tenth at random.
    let random = "-p tcp -m statistic --mode random --probability 0.1 -j DROP";
    link.server.sh(&format!(
        "iptables -A INPUT -p tcp --syn -m statistic --mode nth --every 4 --packet 0 -j DROP
         iptables -A INPUT -p tcp --syn -j ACCEPT
         iptables -A INPUT {random}"
    ));
    link.client.sh(&format!(
        "iptables -A INPUT -p tcp --syn -j ACCEPT; iptables -A INPUT {random}"
    ));
    let (all, summary) = link.client.block_on(async || {
        let probe = Probe {
            timeouts: ENDURING,
            ..probe(target(server.address))
        };
        fire(burst(probe, step(USERS, Volume::Requests(USERS)))).await
    });
    assert_eq!(summary.successes, u64::from(USERS), "{:?}", summary.failures);
    // A lost SYN is sent again after a second: by then a quarter of the users waits.
    let waited = all.iter().filter(|judged| {
        let connect = judged.record.timeline.connect.unwrap();
        connect >= ms(950)
    });
    let waited = waited.count();
    assert!(waited >= 5, "{waited} waited for their connection");
    for judged in &all {
        let measured = judged.measured.ttft.unwrap().get();
        assert!(measured >= judged.record.timeline.connect.unwrap().as_secs_f64());
    }
    assert_eq!(server.served().len(), USERS as usize, "each was sent once");
}

/// Half of the round trip between two hosts, in ms.
const ONE_WAY: u64 = 50;
const ROUND_TRIP: Duration = ms(2 * ONE_WAY);

/// The least of a duration over many requests: what a busy machine added to the others is not in it.
fn least(records: &[Record], of: impl Fn(&Record) -> Option<Duration>) -> Duration {
    records.iter().map(|record| of(record).unwrap()).min().unwrap()
}

/// So many round trips, never less; and not one more in the best case.
#[track_caller]
fn assert_round_trips(what: &str, count: u32, records: &[Record], of: impl Fn(&Record) -> Option<Duration>) {
    let least = least(records, of);
    assert!(least >= ROUND_TRIP * count, "{what}: {least:?}");
    assert!(least < ROUND_TRIP * (count + 1), "{what}: {least:?}");
}

async fn several(target: &Target) -> Vec<Record> {
    let endpoint = endpoint(target);
    let mut records = Vec::new();
    for _ in 0..8 {
        records.push(ask_again(&endpoint, target, PATIENT).await);
    }
    for record in &records {
        assert_eq!(record.outcome, Outcome::Ok, "{:?}", record.detail);
    }
    records
}

fn to_head(record: &Record) -> Option<Duration> {
    Some(record.timeline.headers? - record.timeline.connected?)
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_delay_is_in_the_phase_that_waits_for_it() {
    let link = Link::delayed(ONE_WAY);
    let server = serving(&link, Script::answer(3, ms(20)));
    let records = link
        .client
        .block_on(async || several(&target(server.address)).await);
    assert_round_trips("TCP", 1, &records, |record| record.timeline.connect);
    assert_round_trips("head", 1, &records, to_head);
    for (record, served) in records.iter().zip(server.served()) {
        let line = &record.timeline;
        // A round trip to connect and one way for the request; one way for the token.
        assert!(served.received - line.start.unwrap() >= ROUND_TRIP + ms(ONE_WAY));
        assert!(line.first.unwrap() - served.wrote(2) >= ms(ONE_WAY));
        let (ttft, after) = (
            Measurement::of(record).ttft,
            Measurement::of(record).ttft_after_connect,
        );
        assert!(ttft.unwrap().get() >= after.unwrap().get() + ROUND_TRIP.as_secs_f64());
    }
    // What flows does not wait for round trips.
    let gap = least(&records, |record| record.timeline.gaps.iter().min().copied());
    assert!(gap < ROUND_TRIP, "{gap:?}");
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_delay_of_tls_is_two_round_trips_or_one() {
    let link = Link::delayed(ONE_WAY);
    let server = serving(&link, Script::answer(3, ms(5)));
    let authority = Authority::new();
    for (version, round_trips) in [(&TLS12, 2), (&TLS13, 1)] {
        let config = authority
            .issue(&[&SERVER.to_string()])
            .server(&[version], &[], None);
        let backend = server.address;
        let ((address, _), _running) = link
            .server
            .start(move || fronts::tls_at(SERVER.into(), backend, config));
        let tls = Tls {
            ca: Some(authority.ca()),
            ..Tls::default()
        };
        let https = Target {
            url: format!("https://{address}/v1").parse().unwrap(),
            reach: Reach {
                tls,
                ..Reach::default()
            },
            ..target(address)
        };
        let records = link.client.block_on(async || several(&https).await);
        assert_round_trips("TCP", 1, &records, |record| record.timeline.connect);
        assert_round_trips("TLS", round_trips, &records, |record| record.timeline.tls);
        assert_round_trips("head", 1, &records, to_head);
    }
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_delay_through_a_proxy_and_over_a_pool() {
    let link = Link::delayed(ONE_WAY);
    let server = serving(&link, Script::answer(3, ms(5)));
    let authority = Authority::new();
    let config = authority
        .issue(&[&SERVER.to_string()])
        .server(&[&TLS13], &[], None);
    let backend = server.address;
    let ((address, _), _running) = link
        .server
        .start(move || fronts::tls_at(SERVER.into(), backend, config));
    let ((proxy, _), _proxying) = link
        .server
        .start(move || fronts::http_proxy_at(SERVER.into(), address, None));
    let mut https = Target {
        url: format!("https://{address}/v1").parse().unwrap(),
        ..target(address)
    };
    https.reach.tls.ca = Some(authority.ca());
    https.reach.proxy = Some(llm_probe_exporter::config::plan::Proxy {
        url: format!("http://{proxy}").parse().unwrap(),
        login: None,
    });
    let records = link.client.block_on(async || several(&https).await);
    assert_round_trips("TCP and CONNECT", 2, &records, |record| record.timeline.connect);
    assert_round_trips("TLS", 1, &records, |record| record.timeline.tls);

    https.reach.proxy = None;
    https.connection = Connection::Reuse;
    let records = link.client.block_on(async || several(&https).await);
    let (first, reused) = records.split_first().unwrap();
    assert_eq!(first.connection, Some(ConnectionState::New));
    assert!(first.timeline.tls.unwrap() >= ROUND_TRIP);
    for record in reused {
        assert_eq!(record.connection, Some(ConnectionState::Reused));
        assert_eq!((record.timeline.connect, record.timeline.tls), (None, None));
    }
    assert_round_trips("head on a reused connection", 1, reused, |record| {
        Some(record.timeline.headers? - record.timeline.start?)
    });
}

#[test]
#[ignore = "needs root for network namespaces: run tests/run.sh"]
fn real_bursts_over_a_long_way_start_together() {
    const USERS: u32 = 50;
    let link = Link::delayed(ONE_WAY);
    let server = serving(&link, Script::answer(5, ms(10)));
    let spread = |starts: Vec<Instant>| *starts.iter().max().unwrap() - *starts.iter().min().unwrap();
    let (cold, warm, ungated) = link.client.block_on(async || {
        let first = burst(
            probe(target(server.address)),
            step(USERS, Volume::Requests(USERS)),
        );
        let mut second = burst(
            probe(target(server.address)),
            step(USERS, Volume::Requests(USERS)),
        );
        second.endpoint = Arc::clone(&first.endpoint);
        let mut spreads = Vec::new();
        for burst in [first, second] {
            let (all, summary) = fire(burst).await;
            assert_eq!(summary.successes, u64::from(USERS), "{:?}", summary.failures);
            let records: Vec<_> = all.into_iter().map(|judged| judged.record).collect();
            // On a busy machine all of them are late together.
            assert!(least(&records, |record| record.timeline.connect) >= ROUND_TRIP);
            assert!(least(&records, to_head) >= ROUND_TRIP);
            spreads.push(spread(
                records
                    .iter()
                    .map(|record| record.timeline.start.unwrap())
                    .collect(),
            ));
        }
        // Each with a gate of its own, which is none.
        let mut asking = tokio::task::JoinSet::new();
        let target = Arc::new(target(server.address));
        let endpoints: Vec<_> = (0..USERS)
            .map(|_| endpoint_behind(&target, Gate::default()))
            .collect();
        for endpoint in endpoints {
            let target = Arc::clone(&target);
            asking.spawn(async move { ask_again(&endpoint, &target, PATIENT).await });
        }
        let records = asking.join_all().await;
        let ungated = spread(
            records
                .iter()
                .map(|record| record.timeline.start.unwrap())
                .collect(),
        );
        (spreads[0], spreads[1], ungated)
    });
    println!("start spread of {USERS}: {cold:?} cold, {warm:?} warm, {ungated:?} without a gate");
    // Had each waited for the one before it to connect, it would be 50 round trips: 5 s.
    for gated in [cold, warm] {
        assert!(
            gated < ROUND_TRIP * USERS / 5,
            "{gated:?}, {ungated:?} without a gate"
        );
    }
}
