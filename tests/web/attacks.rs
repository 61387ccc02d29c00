//! What strangers may try, all at once, while Prometheus scrapes and bursts are fired.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use llm_probe_exporter::sim::Settings;

use super::*;
use crate::{process::eventually, simulator::Simulator};

/// What the process holds in memory, in bytes.
fn memory(exporter: &Exporter) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", exporter.process.child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Sends `bytes` on a connection of its own and gives what comes back, as far as it comes.
fn send(address: &str, bytes: &[u8]) -> String {
    let mut stream = connect(address).unwrap();
    // The server may hang up before it has read all.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn hostile_requests_get_an_error_and_nothing_else() {
    let exporter = Exporter::start(QUIET, &[]);
    let address = &exporter.address;
    let headers =
        |line: &str, count: usize| format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", line.repeat(count));
    let large = headers(&format!("X: {}\r\n", "a".repeat(1000)), 10_000);
    for (what, bytes, expected) in [
        ("ten megabytes of headers", large.as_bytes(), &["431", ""][..]),
        ("a thousand headers", headers("X: y\r\n", 1000).as_bytes(), &["431"]),
        ("a path of a megabyte", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).as_bytes(), &["414", "431", ""]),
        ("an encoded path upwards", b"GET /static/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404"]),
        ("a path upwards", b"GET /static/../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404"]),
        ("encoded newlines", b"GET /metrics%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404"]),
        ("encoded newlines before the prefix", b"GET /%0d%0aLocation:%20//evil/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404"]),
        ("a body of a gigabyte", b"POST /-/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", &["413"]),
        ("a length that is none", b"POST /-/pause HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", &["400"]),
        ("two lengths", b"POST /-/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", &["400"]),
        ("a length and chunks", b"POST /-/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", &["400", "403"]),
        ("no HTTP", &[0xff_u8; 4096], &["400", ""]),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &["400", ""]),
        ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &["400", "505", ""]),
        ("a null in a header", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", &["400"]),
        ("another method", b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["405"]),
        ("a proxy's request", b"CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n", &["404", "405", "400"]),
        ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["404", "405"]),
    ] {
        let answer = send(address, bytes);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(expected.contains(&status), "{what}: {answer}");
        assert!(!answer.contains("root:") && !answer.to_ascii_lowercase().contains("\r\nlocation"), "{what}: {answer}");
        assert_eq!(exporter.get("/-/healthy").status, 200, "{what}");
    }
    // Requests without waiting for answers get them in order.
    let answer = send(
        address,
        format!(
            "{}GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000)
        )
        .as_bytes(),
    );
    assert_eq!(answer.matches("HTTP/1.1 404").count(), 1000);
    assert!(answer.ends_with("healthy\n"));
    assert!(!exporter.process.log().contains("panicked"));
}

/// Lays siege to `address` again and again, with the connections that are held, until told to end.
fn besiege(address: &str, on: &AtomicBool, tried: &AtomicUsize, siege: impl Fn(&mut Vec<TcpStream>, &str)) {
    let mut held = Vec::new();
    while on.load(Ordering::Relaxed) {
        siege(&mut held, address);
        tried.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn scrapes_are_answered_and_bursts_fired_while_all_attack() {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..Settings::default()
    });
    let config = format!(
        "targets: [{{ name: target, url: 'http://{}/v1', api: openai_chat, model: simulated }}]\n\
         probes: [{{ name: steady, every: 500ms, max_tokens: 4, prompt: {{ text: Say something }} }}]\n",
        simulator.address
    );
    // A guess takes a moment also where nothing is optimised.
    let hash = bcrypt::hash("right", 8).unwrap();
    let file = WebFile::new(&format!("basic_auth_users: {{ ann: '{hash}' }}\n"));
    let exporter = Exporter::start(&config, &[&file.option()]);
    let scrape = || get(&exporter.address, "/metrics", &basic("ann:right"));
    eventually("the first scrape", || {
        scrape().is_ok_and(|answer| answer.status == 200).then_some(())
    });
    let bursts = |answer: &Answer| process::Samples::parse(&answer.body).count("bursts_total", &[]);
    let before = memory(&exporter);
    let first = eventually("bursts are fired", || {
        let count = bursts(&scrape().ok()?);
        (count >= 2).then_some(count)
    });

    let (on, tried) = (AtomicBool::new(true), [const { AtomicUsize::new(0) }; 5]);
    let address = exporter.address.as_str();
    thread::scope(|scope| {
        // Idle connections, thousands in all; each thread holds on to those it has.
        scope.spawn(|| {
            besiege(address, &on, &tried[0], |held, address| {
                if held.len() < 2500 {
                    held.extend(connect(address));
                } else {
                    thread::sleep(Duration::from_millis(20));
                }
            });
        });
        // Heads that never end, a byte at a time.
        scope.spawn(|| {
            besiege(address, &on, &tried[1], |held, address| {
                if held.len() < 700 {
                    held.extend(connect(address));
                }
                held.retain_mut(|stream| stream.write_all(b"G").is_ok());
                thread::sleep(Duration::from_millis(20));
            });
        });
        // Who asks for everything and reads nothing.
        scope.spawn(|| {
            besiege(address, &on, &tried[2], |held, address| {
                held.truncate(100);
                if let Ok(mut stream) = connect(address) {
                    let ask = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", basic("ann:right"));
                    stream.write_all(ask.repeat(20).as_bytes()).ok();
                    held.insert(0, stream);
                }
                thread::sleep(Duration::from_millis(50));
            });
        });
        // Large heads.
        scope.spawn(|| {
            let head = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(10 << 20));
            besiege(address, &on, &tried[3], |_, address| {
                send(address, head.as_bytes());
            });
        });
        // Guessed passwords.
        scope.spawn(|| {
            besiege(address, &on, &tried[4], |held, address| {
                held.truncate(50);
                if let Ok(mut stream) = connect(address) {
                    let guess = basic(&format!("ann:{}", held.len()));
                    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n{guess}\r\n").ok();
                    held.insert(0, stream);
                }
                thread::sleep(Duration::from_millis(5));
            });
        });
        // They end also when an assertion fails.
        let end = EndOfSiege(&on);
        eventually("the siege is on", || {
            (tried[0].load(Ordering::Relaxed) >= 2000 && tried[1].load(Ordering::Relaxed) >= 100)
                .then_some(())
        });
        let mut answered = 0;
        let last = eventually("twenty more bursts", || {
            let answer = scrape().unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
            answered += 1;
            let count = bursts(&answer);
            (count >= first + 20).then_some(answer)
        });
        let after = memory(&exporter);
        assert!(
            after < before + (128 << 20),
            "{before} bytes before, {after} after"
        );
        let samples = process::Samples::parse(&last.body);
        assert_eq!(samples.count("request_failures_total", &[]), 0);
        let tried: Vec<_> = tried.iter().map(|tried| tried.load(Ordering::Relaxed)).collect();
        println!("{answered} scrapes answered under {tried:?} tries; memory {before} → {after} bytes");
        drop(end);
    });
    assert!(!exporter.process.log().contains("panicked"));
}

struct EndOfSiege<'a>(&'a AtomicBool);

impl Drop for EndOfSiege<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
