//! Every way to fail, told apart: a table of what endpoints do, which is done to real requests, and of the
//! verdicts that come of it. README.md shows the table as this test prints it:
//!
//! ```sh
//! cargo nextest run --no-capture -E 'test(prints_the_table)'
//! ```
#![cfg(test)]

mod elsewhere;
mod http2;
mod rows;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeSet, time::Duration};

use llm_probe_exporter::{
    load::Volume,
    outcome::{Failure, Invalid, Outcome},
    record::Record,
    report::Report,
    units::Seconds,
};
use rows::{Endpoint, rows};
use support::{
    LOOSE,
    engine::{PATIENT, SHORT, ask, burst, fire, ollama, probe, step, target},
    ms,
    script::{Script, Step, head},
    server::{Server, closed_port},
};

#[test]
fn every_reason_is_in_the_table() {
    let found: BTreeSet<_> = rows().iter().map(|row| row.verdict.as_str()).collect();
    let all: BTreeSet<_> = Failure::ALL
        .iter()
        .map(|failure| failure.as_str())
        .chain(Invalid::ALL.iter().map(|invalid| invalid.as_str()))
        .chain([Outcome::Ok.as_str()])
        .collect();
    assert_eq!(found, all);
}

#[tokio::test]
async fn prints_the_table() {
    let mut table = vec![
        "| the server | verdict | AIPerf 0.13 |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    let mut wrong = Vec::new();
    for row in rows() {
        let mut verdict = None;
        for case in row.cases {
            let what = format!("{}: {}", row.behaviour, case.what);
            let record = played(row.verdict, case.endpoint).await;
            let said = record.detail.as_deref().unwrap_or_default();
            if record.outcome != row.verdict || !said.contains(case.says) {
                wrong.push(format!(
                    "{what}: {}, {said}, instead of {}, {}",
                    record.outcome, row.verdict, case.says
                ));
                continue;
            }
            assert_consistent(&record, &what);
            (case.check)(&record);
            verdict = Some(record.outcome);
        }
        let verdict = verdict.map_or("", Outcome::as_str);
        table.push(format!("| {} | `{verdict}` | {} |", row.behaviour, row.aiperf));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let all_fail = when_all_fail().await;
    table.push(format!("| fails every request | {all_fail} | nothing exported |"));
    let table = table.join("\n") + "\n";
    println!("{table}");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let shown = readme
        .split_once("<!-- failures -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /failures -->"));
    assert_eq!(
        shown.map(|(table, _)| table),
        Some(table.as_str()),
        "README.md is not up to date: paste what this test prints"
    );
}

/// What comes of one request. Deadlines are short only where one is to be missed.
async fn played(verdict: Outcome, endpoint: Endpoint) -> Record {
    let timeouts = match verdict {
        Outcome::Failed(Failure::HeadersTimeout | Failure::FirstTokenTimeout | Failure::StallTimeout) => {
            SHORT
        }
        _ => PATIENT,
    };
    match endpoint {
        Endpoint::Chat(script) => {
            let server = Server::playing(script);
            ask(&target(server.address), timeouts).await
        }
        Endpoint::Ollama(script) => {
            let server = Server::playing(script);
            ask(&ollama(server.address), timeouts).await
        }
        Endpoint::Own(asking) => asking.await,
    }
}

/// What holds for every record with this verdict.
fn assert_consistent(record: &Record, what: &str) {
    let line = &record.timeline;
    // By its deadline, and not much later.
    let took = |limit, elapsed| {
        assert!(
            elapsed >= limit && elapsed < limit + LOOSE,
            "{what}: {elapsed:?} of {limit:?}"
        );
    };
    let elapsed = || record.ended.unwrap() - line.start.unwrap();
    if let Outcome::Failed(failure) = record.outcome {
        match failure {
            Failure::ConnectTimeout => took(SHORT.connect, elapsed()),
            Failure::HeadersTimeout | Failure::FirstTokenTimeout => {
                took(SHORT.first_token, elapsed());
                assert_eq!(record.waited_in_vain(), record.elapsed(), "{what}");
                let has_head = failure == Failure::FirstTokenTimeout;
                assert_eq!((line.headers.is_some(), line.first), (has_head, None), "{what}");
            }
            Failure::StallTimeout => took(SHORT.stall, record.ended.unwrap() - line.last.unwrap()),
            _ => {}
        }
        let connected = !matches!(
            failure,
            Failure::Dns
                | Failure::ConnectRefused
                | Failure::ConnectTimeout
                | Failure::ConnectError
                | Failure::Tls
        );
        assert_eq!(
            (line.connected.is_some(), record.connection.is_some()),
            (connected, connected),
            "{what}"
        );
    }
    if record.outcome == Outcome::Ok {
        assert_eq!(line.deltas, 2, "{what}");
    }
    let status = record
        .detail
        .as_deref()
        .and_then(|said| said.strip_prefix("HTTP "));
    if let Some(status) = status.and_then(|said| said.get(..3)) {
        assert_eq!(
            record.status.map(|code| code.to_string()).as_deref(),
            Some(status),
            "{what}"
        );
        assert!(line.headers.is_some() && line.first.is_none(), "{what}");
    }
}

/// A burst of which every request fails counts for what it is.
async fn when_all_fail() -> String {
    let (_, summary) = fire(burst(probe(target(closed_port())), step(3, Volume::Requests(3)))).await;
    let failures: Vec<_> = summary
        .failures
        .iter()
        .map(|(reason, count)| format!("{count} `{reason}`"))
        .collect();
    format!("{}, goodput {}", failures.join(", "), summary.goodput.unwrap())
}

/// The longest wait that was asked for is the burst's.
#[tokio::test]
async fn the_wait_that_is_asked_for_is_told() {
    let server = Server::start(|request| {
        let wait = head(
            "429 Slow",
            "",
            &format!("Retry-After: {}\r\nContent-Length: 0", 20 - request.number),
        );
        Script::new().send(wait)
    });
    let burst = burst(probe(target(server.address)), step(3, Volume::Requests(3)));
    let series = burst.series.clone();
    let (all, summary) = fire(burst).await;
    let mut waits: Vec<_> = all
        .iter()
        .filter_map(|judged| judged.record.retry_after)
        .collect();
    waits.sort_unstable();
    assert_eq!(waits, [18, 19, 20].map(Duration::from_secs));
    assert_eq!(summary.retry_after, Some(Seconds::new(20.0)));
    let text = Report::new(&series, summary).text();
    assert!(text.ends_with("\nthe endpoint asks to wait 20 s\n"), "{text}");
}

/// Answers that are damaged in every way: there is an outcome, and it is none of ours.
#[tokio::test]
async fn any_bytes_have_an_outcome() {
    let whole = Script::answer(3, ms(0))
        .steps
        .into_iter()
        .filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes),
            _ => None,
        });
    let whole = whole.collect::<Vec<_>>().concat();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut reasons = BTreeSet::new();
    for _ in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..6) {
            if bytes.is_empty() {
                break;
            }
            let at = random.usize(..bytes.len());
            let end = (at + random.usize(..40)).min(bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let more = random.usize(..40);
                    let more: Vec<_> = std::iter::repeat_with(|| random.u8(..)).take(more).collect();
                    drop(bytes.splice(at..at, more));
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
        let server = Server::playing(Script::new().send(bytes).close());
        let record = ask(&target(server.address), PATIENT).await;
        assert!(!matches!(record.outcome, Outcome::Invalid(_)), "{record:?}");
        reasons.insert(record.outcome.as_str());
    }
    assert!(reasons.len() > 3, "{reasons:?}");
}
