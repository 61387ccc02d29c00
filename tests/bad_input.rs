//! Any bytes from an endpoint: an outcome, bounded memory, short lines in the log, and none of our secrets.
//! Each endpoint here is asked by the program itself.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use llm_probe_exporter::framing::MAX_FRAME;
use process::{Exporter, run};
use support::{
    ms,
    script::{Script, chunk, head, token},
    server::{Served, Server},
};

/// The most that a request may hold, in bytes.
const HELD: usize = 8 << 20;

fn schedule(address: SocketAddr, api: &str) -> String {
    let base = if api == "openai_chat" { "/v1" } else { "" };
    format!(
        "
targets: [{{ name: hostile, url: 'http://{address}{base}', api: {api}, model: none }}]
probes: [{{ name: bold, every: 200ms, concurrency: 1 }}]
"
    )
}

/// The reason for which a request to `script` failed, and the most memory that the program had meanwhile.
fn peak(api: &str, script: Script) -> (String, usize) {
    let server = Server::playing(script);
    let exporter = Exporter::start(&schedule(server.address, api), &[]);
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

/// What an endpoint does, and the reason why it fails; `None` where that is the dialect's to say.
type Case = (&'static str, Option<&'static str>, Script);

fn without_end() -> Vec<Case> {
    let full = vec![b'x'; 1 << 16];
    let error = |status| Script::new().send(head(status, "text/html", "Transfer-Encoding: chunked"));
    let begun = || Script::new().send("HTTP/1.1 200 OK\r\n");
    let endless = |script: Script, piece: &[u8]| script.forever(chunk(piece), ms(0));
    let tokens = format!("data: {}\n\n", token("la")).repeat(1000);
    let lines = "data: x\n".repeat(5000);
    vec![
        (
            "a header",
            Some("malformed"),
            begun().send("X-Y: ").forever(&full, ms(0)),
        ),
        (
            "headers",
            Some("malformed"),
            begun().send(b"X-Y: z\r\n".repeat(1_000_000)),
        ),
        (
            "an error",
            Some("server_error"),
            endless(error("500 Oops"), &full),
        ),
        ("a page", Some("content_type"), endless(error("200 OK"), &full)),
        ("a line", Some("malformed"), endless(Script::sse(), &full)),
        (
            "data",
            Some("malformed"),
            endless(Script::sse().chunk("data: "), &full),
        ),
        (
            "a name",
            Some("malformed"),
            endless(Script::sse().chunk("event: "), &full),
        ),
        (
            "lines of data",
            Some("malformed"),
            endless(Script::sse(), lines.as_bytes()),
        ),
        (
            "tokens",
            Some("malformed"),
            endless(Script::sse(), tokens.as_bytes()),
        ),
    ]
}

/// Events as long as they may be, made to be larger when they are decoded.
fn large() -> Vec<Case> {
    let event = |before: &str, piece: &str, after: &str| {
        let times = (MAX_FRAME - 4096 - before.len()) / piece.len();
        let body = piece.repeat(times);
        format!("{before}{}{after}", body.trim_end_matches(','))
    };
    let data = |before, piece, after| Script::sse().data(&event(before, piece, after)).end();
    let named = format!("event: error\ndata: {}\n\n", event("[", "0,", "]"));
    vec![
        (
            "a long error",
            Some("api_error"),
            data(r#"{"error":{"message":""#, "x", r#""}}"#),
        ),
        (
            "an error of many values",
            Some("api_error"),
            data(r#"{"error":["#, "0,", "]}"),
        ),
        (
            "a named error of many values",
            Some("api_error"),
            Script::sse().chunk(named).end(),
        ),
        ("many choices", None, data(r#"{"choices":["#, "{},", "]}")),
        (
            "many tool calls",
            None,
            data(r#"{"choices":[{"delta":{"tool_calls":["#, "{},", "]}}]}"),
        ),
        (
            "a finish reason of many values",
            None,
            data(r#"{"choices":[{"finish_reason":["#, "0,", "]}]}"),
        ),
        (
            "text where none belongs",
            Some("malformed"),
            data(r#"{"choices":""#, "x", r#""}"#),
        ),
        ("deep lists", Some("malformed"), data("", "[", "")),
        ("deep objects", Some("malformed"), data("", r#"{"error":"#, "")),
    ]
}

fn lines() -> Vec<Case> {
    let calls = format!(
        r#"{{"message":{{"tool_calls":[{}{{}}]}}}}"#,
        "{},".repeat(600_000)
    );
    vec![
        ("a line without end", Some("malformed"), {
            Script::ndjson().forever(chunk(vec![b'x'; 1 << 16]), ms(0))
        }),
        ("many tool calls", None, Script::ndjson().line(&calls).end()),
    ]
}

#[track_caller]
fn assert_bounded(api: &str, cases: Vec<Case>) {
    let (fine, usual) = peak("openai_chat", Script::answer(20, ms(1)));
    assert_eq!(fine, "");
    let mut wrong = Vec::new();
    for (what, reason, script) in cases {
        let (failed, most) = peak(api, script);
        let held = most.saturating_sub(usual);
        println!("{what}: {failed}, {} KiB", held >> 10);
        if failed.is_empty()
            || failed == "internal"
            || reason.is_some_and(|reason| reason != failed)
            || held > HELD
        {
            wrong.push(format!("{what}: {failed}, not {reason:?}; {} KiB", held >> 10));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn without_end_costs_bounded_memory() {
    assert_bounded("openai_chat", without_end());
}

#[test]
fn made_to_grow_costs_bounded_memory() {
    assert_bounded("openai_chat", large());
}

#[test]
fn of_lines_costs_bounded_memory() {
    assert_bounded("ollama_chat", lines());
}

/// The longest line of the log, in bytes.
const LONGEST: usize = 4096;

const KEY: &str = "sk-Planted/Hidden";
const TENANT: &str = "lessee \"Quoted\"  buried";

/// What the requests to [`echo`] come to, in turn.
const ECHOED: [&str; 10] = [
    "unauthorized",
    "server_error",
    "rate_limited",
    "content_type",
    "api_error",
    "malformed",
    "malformed",
    "redirect",
    "malformed",
    "api_error",
];

/// Says in every way what it was sent.
fn echo(request: &Served) -> Script {
    let sent = &request.head;
    let authorization = request.header("authorization").unwrap();
    let tenant = request.header("x-tenant").unwrap();
    let json = serde_json::json!({ "error": { "message": format!("{sent} {tenant}") } }).to_string();
    let encoded = format!(
        "{} {} {} {} {}",
        STANDARD.encode(sent),
        STANDARD.encode(authorization),
        STANDARD.encode(tenant),
        authorization.replace('/', "%2F").replace(' ', "%20"),
        serde_json::Value::from(tenant),
    );
    let header = |header: String| head("200 OK", "", &format!("{header}\r\nContent-Length: 0"));
    match request.number % ECHOED.len() {
        0 => Script::plain(&format!("401 {authorization}"), "application/json", &json),
        1 => Script::plain("500 Oops", "text/plain", &encoded),
        2 => Script::new().send(head(
            "429 Slow",
            authorization,
            &format!("Retry-After: {authorization}\r\nContent-Length: 0"),
        )),
        3 => Script::new().send(header(format!("Content-Type: text/{authorization}"))),
        4 => Script::sse().token("a").data(&json).end(),
        5 => Script::sse()
            .data(&serde_json::json!({ "choices": format!("{sent} {encoded}") }).to_string())
            .end(),
        6 => Script::new().send(header(format!("Content-Encoding: {authorization}"))),
        7 => Script::new().send(head(
            "307 Elsewhere",
            "",
            &format!("Location: http://127.0.0.1:9/{authorization}\r\nContent-Length: 0"),
        )),
        8 => Script::new().send(format!("{authorization}\r\n\r\n")).close(),
        _ => Script::sse()
            .token("a")
            .chunk(format!("event: error\ndata: {encoded}\n\n"))
            .end(),
    }
}

/// What `once` says, on standard output and on standard error, of requests to an endpoint.
fn once(address: SocketAddr, http: &str, requests: usize, args: &[&str]) -> (String, String) {
    let config = format!(
        "
targets:
  - name: hostile
    url: http://{address}/v1
    http: '{http}'
    api: openai_chat
    model: none
    authorization: {{ credentials_file: key }}
    headers: {{ X-Tenant: {{ value: '{TENANT}' }} }}
probes: [{{ name: bold, every: 1h, requests: {requests}, protect: off }}]
"
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), KEY).unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config).unwrap();
    let config = format!("--config.file={}", file.display());
    let output = run(&[&["once", &config, "--log.level=trace"], args].concat());
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (stdout, stderr)
}

#[test]
fn echoes_no_secret_in_any_form() {
    let mut expected = BTreeMap::new();
    for reason in ECHOED {
        *expected.entry(reason.to_owned()).or_insert(0) += 1;
    }
    for args in [
        ["--output=json", "--log.format=logfmt"],
        ["--output=table", "--log.format=json"],
    ] {
        let server = Server::start(echo);
        let (stdout, stderr) = once(server.address, "1.1", ECHOED.len(), &args);
        if args[0] == "--output=json" {
            let reports: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            let failures: BTreeMap<String, u64> =
                serde_json::from_value(reports[0]["failures"].clone()).unwrap();
            assert_eq!(failures, expected, "{stderr}");
        }
        let said = stdout + &stderr;
        let small = said.to_lowercase();
        for secret in ["planted", "hidden", "lessee", "quoted", "buried"] {
            assert!(!small.contains(secret), "{secret}: {said}");
        }
        assert!(said.matches("<secret>").count() > ECHOED.len(), "{said}");
        let mut secrets = Vec::new();
        for secret in [KEY, TENANT] {
            for before in ["", "x", "xx"] {
                // The middle of the secret, wherever it begins in what is encoded.
                let encoded = STANDARD.encode(format!("{before}{secret}"));
                secrets.push(encoded.get(4..encoded.len() - 4).unwrap().to_owned());
            }
        }
        for secret in secrets {
            assert!(!said.contains(&secret), "{secret}: {said}");
        }
    }
}

#[test]
fn is_logged_in_short_lines() {
    // What becomes longer where it is quoted or escaped.
    let nasty = [
        "\"",
        "\\",
        "\u{202e}",
        "\u{7f}é",
        "\r\n\u{1b}[31m",
        "\u{2028}\"x=y ",
    ]
    .map(|piece| piece.repeat(20_000));
    for format in ["--log.format=logfmt", "--log.format=json"] {
        let texts = nasty.clone();
        let server = Server::start(move |request| {
            let text = &texts[request.number / 4 % texts.len()];
            let error = serde_json::json!({ "error": { "message": text } }).to_string();
            match request.number % 4 {
                0 => Script::plain("500 Oops", "text/plain", text),
                1 => Script::plain("200 OK", "text/html", text),
                2 => Script::sse().data(&error).end(),
                _ => Script::sse()
                    .data(&serde_json::json!({ "choices": text }).to_string())
                    .end(),
            }
        });
        let (stdout, stderr) = once(
            server.address,
            "1.1",
            nasty.len() * 4,
            &["--output=table", format],
        );
        let failed: Vec<_> = stderr
            .lines()
            .filter(|line| line.contains("detail=") || line.contains("\"detail\":"))
            .collect();
        assert_eq!(failed.len(), nasty.len() * 4, "{stderr}");
        for line in stderr.lines().chain(stdout.lines()) {
            assert!(line.len() <= LONGEST, "{} bytes: {line}", line.len());
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        let longest = failed.iter().map(|line| line.len()).max().unwrap();
        println!("{format}: {longest} bytes");
        assert!(longest > 1024, "the text of an endpoint is there");
    }
}

/// The library that speaks HTTP/2 would log whatever a GOAWAY says.
#[test]
fn of_http2_is_not_logged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let frame = |kind: u8, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
        };
        stream.write_all(&frame(4, b"")).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        let said = [&[0; 4], &2_u32.to_be_bytes()[..], KEY.as_bytes(), &[1; 16_000]].concat();
        stream.write_all(&frame(7, &said)).unwrap();
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let (stdout, stderr) = once(address, "2", 1, &["--output=json"]);
    serving.join().unwrap();
    assert!(stdout.contains("\"connection_lost\": 1"), "{stdout}");
    for line in stdout.lines().chain(stderr.lines()) {
        assert!(line.len() <= LONGEST, "{} bytes: {line}", line.len());
        assert!(!line.contains("Planted"), "{line}");
    }
}
