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

use std::collections::BTreeSet;

use llm_probe_exporter::{
    load::Volume,
    outcome::{Failure, Invalid, Outcome},
    record::Record,
};
use rows::{Endpoint, rows};
use support::{
    LOOSE,
    engine::{PATIENT, SHORT, ask, burst, fire, ollama, probe, step, target},
    server::{Server, closed_port},
};

/// Reasons that no endpoint of this table gives: `expect` is tested with the configuration of it.
const ELSEWHERE: &[Failure] = &[Failure::UnexpectedOutput];

#[test]
fn every_reason_is_in_the_table() {
    let found: BTreeSet<_> = rows().iter().map(|row| row.verdict.as_str()).collect();
    let failures = Failure::ALL.iter().filter(|failure| !ELSEWHERE.contains(failure));
    let all: BTreeSet<_> = failures
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
    if record.outcome.is_ok() {
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
