//! Any bytes from an endpoint: an outcome, bounded memory, short lines in the log, and none of our secrets.
//! Each endpoint here is asked by the program itself.
#![cfg(test)]

#[path = "support/process.rs"]
mod process;
mod support;

use std::{fs, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use process::{Exporter, run};
use support::{
    ms,
    script::{Script, chunk, head, token},
    server::{Served, Server},
};

/// The most that a request may hold, in bytes.
const HELD: usize = 8 << 20;

/// A probe at `address` that asks as often as this says.
fn schedule(address: SocketAddr, api: &str, rest: &str) -> String {
    let base = if api == "openai_chat" { "/v1" } else { "" };
    format!(
        "
targets: [{{ name: hostile, url: 'http://{address}{base}', api: {api}, model: none{rest} }}]
probes: [{{ name: bold, every: 200ms, concurrency: 1 }}]
"
    )
}

/// The reason for which a request to `script` failed, and the most memory that the program had meanwhile.
fn peak(api: &str, script: Script) -> (String, usize) {
    let server = Server::playing(script);
    let exporter = Exporter::start(&schedule(server.address, api, ""), &[]);
    let samples = exporter.wait_for("the burst ends", |samples| {
        samples.count("requests_total", &[]) >= 1
    });
    let failed: Vec<_> = samples
        .find("request_failures_total", &[])
        .filter(|(_, count)| *count > 0.0)
        .map(|(series, _)| {
            series
                .split_once("reason=\"")
                .unwrap()
                .1
                .split_once('"')
                .unwrap()
                .0
                .to_owned()
        })
        .collect();
    let status = fs::read_to_string(format!("/proc/{}/status", exporter.process.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (failed.join(" "), kilobytes << 10)
}

/// JSON of some bytes short of the longest event: `before`, `piece` over and over, `after`.
fn large(before: &str, piece: &str, after: &str) -> String {
    let times = ((2 << 20) - 4096 - before.len()) / piece.len();
    let body = piece.repeat(times);
    format!("{before}{}{after}", body.trim_end_matches(','))
}

#[test]
fn costs_bounded_memory() {
    let (fine, usual) = peak("openai_chat", Script::answer(20, ms(1)));
    assert_eq!(fine, "");
    let full = vec![b'x'; 1 << 16];
    let error = |status| Script::new().send(head(status, "text/html", "Transfer-Encoding: chunked"));
    let begun = || Script::new().send("HTTP/1.1 200 OK\r\n");
    let cases = [
        (
            "a header without end",
            "malformed",
            begun().send("X-Y: ").forever(&full, ms(0)),
        ),
        (
            "a million headers",
            "malformed",
            begun().send(b"X-Y: z\r\n".repeat(1_000_000)),
        ),
        (
            "an error without end",
            "server_error",
            error("500 Oops").forever(chunk(&full), ms(0)),
        ),
        (
            "a page without end",
            "content_type",
            error("200 OK").forever(chunk(&full), ms(0)),
        ),
        (
            "a line without end",
            "malformed",
            Script::sse().forever(chunk(&full), ms(0)),
        ),
        (
            "data without end",
            "malformed",
            Script::sse().chunk("data: ").forever(chunk(&full), ms(0)),
        ),
        (
            "lines of data without end",
            "malformed",
            Script::sse().forever(chunk("data: x\n".repeat(5000)), ms(0)),
        ),
        ("tokens without end", "malformed", {
            Script::sse().forever(chunk(format!("data: {}\n\n", token("la")).repeat(1000)), ms(0))
        }),
        (
            "an error of 2 MB",
            "api_error",
            Script::sse()
                .data(&large("{\"error\":{\"message\":\"", "x", "\"}}"))
                .end(),
        ),
        (
            "an error of many values",
            "api_error",
            Script::sse().data(&large("{\"error\":[", "0,", "]}")).end(),
        ),
        ("a named error of many values", "api_error", {
            Script::sse()
                .chunk(format!("event: error\ndata: {}\n\n", large("[", "0,", "]")))
                .end()
        }),
        (
            "a million choices",
            "truncated",
            Script::sse().data(&large("{\"choices\":[", "{},", "]}")).end(),
        ),
        ("a million tool calls", "truncated", {
            Script::sse()
                .data(&large(
                    "{\"choices\":[{\"delta\":{\"tool_calls\":[",
                    "0,",
                    "]}}]}",
                ))
                .end()
        }),
        ("a finish reason of many values", "empty", {
            Script::sse()
                .data(&large("{\"choices\":[{\"finish_reason\":[", "0,", "]}]}"))
                .end()
        }),
        (
            "text where none belongs",
            "malformed",
            Script::sse().data(&large("{\"choices\":\"", "x", "\"}")).end(),
        ),
        (
            "deep nesting",
            "malformed",
            Script::sse().data(&"[".repeat(2_000_000)).end(),
        ),
        (
            "a deep object",
            "malformed",
            Script::sse().data(&"{\"error\":".repeat(200_000)).end(),
        ),
    ]
    .map(|(what, reason, script)| (what, reason, "openai_chat", script))
    .into_iter()
    .chain(
        [
            (
                "a line without end",
                "malformed",
                Script::ndjson().forever(chunk(&full), ms(0)),
            ),
            (
                "an error of many values",
                "api_error",
                Script::ndjson().line(&large("{\"error\":[", "0,", "]}")).end(),
            ),
            ("a million tool calls", "truncated", {
                Script::ndjson()
                    .line(&large("{\"message\":{\"tool_calls\":[", "{},", "]}}"))
                    .end()
            }),
        ]
        .map(|(what, reason, script)| (what, reason, "ollama_chat", script)),
    );
    let mut wrong = Vec::new();
    for (what, reason, api, script) in cases {
        let (failed, most) = peak(api, script);
        let held = most.saturating_sub(usual);
        println!("{api}: {what}: {failed}, {} KiB", held >> 10);
        if failed != reason || held > HELD {
            wrong.push(format!(
                "{api}: {what}: {failed}, not {reason}; {} KiB",
                held >> 10
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
