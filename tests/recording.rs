//! What `once --record` writes, `once --replay` judges as it was judged live; and a user's strange stream is a
//! test case.
#![cfg(test)]

#[allow(
    dead_code,
    clippy::allow_attributes,
    reason = "only running it to its end is needed here"
)]
#[path = "support/process.rs"]
mod process;
mod support;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use llm_probe_exporter::{
    burst::Burst,
    config::{
        plan::{Authorization, Header, Slo, Step, Target, Timeouts},
        secret::Secret,
    },
    load::Volume,
    outcome::{Failure, Invalid, Outcome, Skip},
    recording::{Recorded, Recorder, Replay, Requests, replay},
    request::Endpoint,
    summary::Judged,
    tape::Room,
};
use process::{program, run};
use support::{
    engine::{PATIENT, SHORT, burst, fire, ollama, probe, step, target},
    ms,
    script::{Script, head, token},
    server::{Server, closed_port},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Objectives of which some are met and some are missed.
fn objectives() -> Slo {
    Slo {
        ttft: Some(ms(25)),
        ttfo: Some(Duration::from_secs(5)),
        itl: Some(ms(15)),
        gap: Some(Duration::from_secs(5)),
        ..Slo::default()
    }
}

/// A burst whose responses are kept.
fn kept(target: Target, timeouts: Timeouts, step: Step) -> Burst {
    let mut probe = probe(target);
    probe.timeouts = timeouts;
    let mut burst = burst(probe, step);
    let Ok(endpoint) = Arc::try_unwrap(burst.endpoint) else {
        panic!("nobody else has the endpoint yet");
    };
    burst.endpoint = Arc::new(Endpoint {
        recording: Some(Room::default()),
        ..endpoint
    });
    burst
}

/// Requests as they were judged live, and the file that they were written to.
struct Recording {
    live: Vec<Judged>,
    folder: TempDir,
}

impl Recording {
    /// Records one burst, with objectives.
    async fn of(target: Target, timeouts: Timeouts, users: u32, requests: u32) -> Self {
        let mut step = step(users, Volume::Requests(requests));
        step.slo = objectives();
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&folder.path().join("file"), Instant::now()).unwrap();
        let burst = kept(target, timeouts, step);
        let series = burst.series.clone();
        let (live, _) = fire(burst).await;
        for judged in &live {
            recorder.write(&series, Box::new(judged.clone()));
        }
        assert_eq!(recorder.finish().unwrap(), live.len() as u64);
        Self { live, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn requests(&self) -> Vec<Recorded> {
        requests(&self.path())
    }

    /// Asserts that each request is judged as it was live, to the last bit.
    fn replays_as_it_was(&self, what: &str) {
        let requests = self.requests();
        assert_eq!(requests.len(), self.live.len(), "{what}");
        for (recorded, live) in requests.iter().zip(&self.live) {
            let again = recorded.judge(&recorded.slo);
            assert_eq!(recorded.difference(&again), None, "{what}");
            assert_eq!(again.record.outcome, live.record.outcome, "{what}");
            assert_eq!(again.record.detail, live.record.detail, "{what}");
            assert_eq!(again.measured, live.measured, "{what}");
            assert_eq!(again.verdicts, live.verdicts, "{what}");
            assert_eq!(again.bounds, live.bounds, "{what}");
            assert_eq!(again.record.usage, live.record.usage, "{what}");
            assert_eq!(again.record.server_phases, live.record.server_phases, "{what}");
            assert_eq!(again.record.status, live.record.status, "{what}");
            assert_eq!(again.record.connection, live.record.connection, "{what}");
            assert_eq!(again.record.timeline.gaps, live.record.timeline.gaps, "{what}");
            assert_eq!(again.record.elapsed(), live.record.elapsed(), "{what}");
        }
    }
}

fn requests(path: &Path) -> Vec<Recorded> {
    let input = BufReader::new(File::open(path).unwrap());
    let requests = Requests::open(input, Instant::now()).unwrap();
    requests.map(|request| request.unwrap().1).collect()
}

fn replayed(path: &Path) -> Replay {
    let input = BufReader::new(File::open(path).unwrap());
    let requests = Requests::open(input, Instant::now()).unwrap();
    replay(requests, |recorded| Some(recorded.slo.clone())).unwrap()
}

/// Text in places where no server should cut, an answer after a thought, usage where nobody looks for it.
fn strange() -> Script {
    let bytes = format!(
        ": hello\r\n\r\ndata:{}\r\n\r\nid: 7\r\ndata: {}\r\n\r\n",
        r#"{"choices":[{"delta":{"reasoning_content":"Hm 🦀"}}]}"#,
        token("né \"quoted\" \\ / \u{7f}")
    )
    .into_bytes();
    let crab = bytes.windows(4).position(|four| four == "🦀".as_bytes()).unwrap();
    let usage = r#"{"choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#;
    Script::sse()
        .wait(ms(20))
        .chunk(&bytes[..=crab])
        .wait(ms(5))
        .chunk(&bytes[crab + 1..bytes.len() - 3])
        .wait(ms(20))
        .chunk(&bytes[bytes.len() - 3..])
        .wait(ms(10))
        .chunk(format!("data: {usage}\n\ndata: [DO"))
        .wait(ms(3))
        .chunk("NE]\n\n")
        .end()
}

mod judged_as_it_was {
    use super::*;

    #[tokio::test]
    async fn whatever_an_endpoint_does() {
        let error = r#"{"error":{"message":"too\nmany \"users\"","type":"rate_limit"}}"#;
        let cases = [
            ("a usual answer", Script::answer(5, ms(5)), "ok"),
            ("a strange stream", strange(), "ok"),
            ("byte by byte", strange().dribbling(), "ok"),
            ("one token", Script::answer(1, ms(5)), "ok"),
            (
                "a body after the end",
                Script::sse().token("a").finish_reason().hold(),
                "ok",
            ),
            ("a role alone", Script::sse().role().ending(), "empty"),
            ("no end marker", Script::sse().token("a").end(), "truncated"),
            (
                "no end of the frame",
                Script::sse().chunk("data: {\"cho").end(),
                "truncated",
            ),
            ("a reset", Script::sse().token("a").reset(), "connection_lost"),
            (
                "a reset after the end",
                Script::sse().token("a").finish_reason().reset(),
                "ok",
            ),
            (
                "no frame",
                Script::sse().token("a").data("nonsense").hold(),
                "malformed",
            ),
            (
                "an error frame",
                Script::sse().token("a").data(error).hold(),
                "api_error",
            ),
            (
                "an error at last",
                Script::sse().token("a").finish_reason().data(error).hold(),
                "api_error",
            ),
            ("a stall", Script::sse().token("a").hold(), "stall_timeout"),
            ("silence", Script::sse().role().hold(), "first_token_timeout"),
            ("no head", Script::new().hold(), "headers_timeout"),
            ("nothing", Script::new().close(), "connection_lost"),
            (
                "noise",
                Script::new().send("\0\u{1}\u{2} noise\r\n\r\n").close(),
                "malformed",
            ),
            (
                "too many",
                Script::plain("429 Too Many Requests", "application/json", error),
                "rate_limited",
            ),
            (
                "HTML",
                Script::plain("502 Bad Gateway", "text/html", "<h1>é</h1>"),
                "server_error",
            ),
            (
                "a page",
                Script::plain("200 OK", "text/html", "<h1>Log in</h1>"),
                "content_type",
            ),
            ("no type", Script::plain("200 OK", "", ""), "content_type"),
            (
                "an error as JSON",
                Script::plain("200 OK", "application/json", error),
                "api_error",
            ),
            (
                "compressed",
                Script::new().send(head(
                    "200 OK",
                    "text/event-stream",
                    "Content-Encoding: gzip\r\nContent-Length: 0",
                )),
                "malformed",
            ),
        ];
        for (what, script, outcome) in cases {
            let server = Server::playing(script);
            let recording = Recording::of(target(server.address), SHORT, 1, 2).await;
            assert_eq!(recording.live[0].record.outcome.as_str(), outcome, "{what}");
            recording.replays_as_it_was(what);
        }
    }

    #[tokio::test]
    async fn lines_of_json_and_nobody_there() {
        let script = Script::ndjson()
            .line(r#"{"message":{"content":"","thinking":"Hm"},"done":false}"#)
            .wait(ms(10))
            .line(r#"{"message":{"content":"So"},"done":false}"#)
            .line(r#"{"message":{"content":""},"done":true,"load_duration":1000001,"prompt_eval_count":7,"eval_count":2}"#)
            .end();
        let server = Server::playing(script);
        let recording = Recording::of(ollama(server.address), PATIENT, 1, 1).await;
        assert!(recording.live[0].record.server_phases.load.is_some());
        recording.replays_as_it_was("lines");

        let recording = Recording::of(target(closed_port()), PATIENT, 1, 1).await;
        let refused = Outcome::Failed(Failure::ConnectRefused);
        assert_eq!(recording.live[0].record.outcome, refused);
        recording.replays_as_it_was("nobody there");
    }

    #[tokio::test]
    async fn a_burst_of_many_and_one_that_is_cancelled() {
        let server = Server::start(|request| match request.number % 3 {
            0 => strange(),
            1 => Script::answer(4, ms(10)),
            _ => Script::sse().token("a").end(),
        });
        let recording = Recording::of(target(server.address), PATIENT, 8, 24).await;
        recording.replays_as_it_was("a burst");
        // One request of it is a recording too.
        let text = recording.text();
        let one: String = [0, 7]
            .map(|at| text.lines().nth(at).unwrap().to_owned() + "\n")
            .concat();
        let path = recording.folder.path().join("one");
        fs::write(&path, one).unwrap();
        let again = &requests(&path)[0];
        assert_eq!(again.number(), recording.live[6].record.number);
        assert_eq!(again.judge(&again.slo).measured, recording.live[6].measured);

        let server = Server::playing(Script::sse().token("a").wait(ms(5)).token("b").hold());
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&folder.path().join("file"), Instant::now()).unwrap();
        let burst = kept(target(server.address), PATIENT, step(1, Volume::Requests(1)));
        let (series, brake) = (burst.series.clone(), Arc::clone(&burst.brake));
        let aborting = async {
            server
                .sees(|served| served.first().is_some_and(|first| first.writes.len() == 3))
                .await;
            sleep(ms(50)).await;
            brake.pull(Skip::Drain);
        };
        let ((live, _), ()) = tokio::join!(fire(burst), aborting);
        assert_eq!(live[0].record.outcome, Outcome::Invalid(Invalid::Cancelled));
        assert_eq!(live[0].record.timeline.deltas, 2);
        recorder.write(&series, Box::new(live[0].clone()));
        recorder.finish().unwrap();
        Recording { live, folder }.replays_as_it_was("a cancelled request");
    }
}

mod secrets {
    use super::*;

    const KEY: &str = "sk-very/hush\"key\"";

    fn guarded(address: std::net::SocketAddr) -> Target {
        Target {
            authorization: Some(Authorization {
                scheme: Some("Bearer".into()),
                credentials: Secret::Inline(KEY.into()),
            }),
            headers: vec![Header {
                name: "X-Team".into(),
                value: Secret::Inline("team-rocket".into()),
            }],
            model: "tuned-for-team-rocket".into(),
            body: serde_json::json!({ "user": "team-rocket" })
                .as_object()
                .unwrap()
                .clone(),
            ..target(address)
        }
    }

    #[tokio::test]
    async fn are_nowhere_in_the_file() {
        let echo = format!("you sent {KEY}, dear team-rocket");
        let json = serde_json::json!({ "error": { "message": echo } }).to_string();
        let php = json.replace('/', "\\/");
        let frames = format!("data: {}\n\n", token(&echo));
        let (one, two) = frames.split_at(frames.find("hush").unwrap() + 3);
        let torn = format!("data: {{\"x\":\"{}", KEY.split_at(12).0);
        let cases = [
            ("plain", Script::plain("401 Unauthorized", "text/plain", &echo)),
            ("in JSON", Script::plain("500 Oh", "application/json", &json)),
            (
                "with escaped slashes",
                Script::plain("500 Oh", "application/json", &php),
            ),
            (
                "across chunks",
                Script::sse().chunk(one).wait(ms(10)).chunk(two).ending(),
            ),
            ("byte by byte", Script::sse().chunk(&frames).ending().dribbling()),
            ("breaking off", Script::sse().token("a").chunk(&torn).reset()),
            ("as a type", Script::plain("200 OK", "text/team-rocket", "no")),
            (
                "beside bytes that are no text",
                Script::sse()
                    .chunk([&b": \xff\xfe"[..], echo.as_bytes(), b"\n\n"].concat())
                    .ending(),
            ),
        ];
        for (what, script) in cases {
            let server = Server::playing(script);
            let recording = Recording::of(guarded(server.address), PATIENT, 1, 1).await;
            let text = recording.text();
            assert!(text.contains("\"masked\":true"), "{what}: {text}");
            let mut decoded = text.clone();
            // What is base64 in the file is looked at in clear.
            for recorded in recording.requests() {
                for (_, bytes) in recorded.chunks() {
                    decoded.push_str(&String::from_utf8_lossy(bytes));
                }
            }
            for secret in ["rocket", "sk-very", "hush", "key\\\"", "ery/s", "ery\\/s"] {
                assert!(!decoded.contains(secret), "{what}: {secret} is in {decoded}");
            }
            let recorded = recording.requests().remove(0);
            let again = recorded.judge(&recorded.slo);
            assert_eq!(recorded.difference(&again), None, "{what}");
        }
    }

    #[tokio::test]
    async fn that_are_words_of_the_protocol_are_taken_out_all_the_same() {
        let server = Server::playing(Script::answer(2, ms(1)));
        let mut target = target(server.address);
        target.headers = vec![Header {
            name: "X-Kind".into(),
            value: Secret::Inline("delta".into()),
        }];
        let recording = Recording::of(target, PATIENT, 1, 1).await;
        assert!(!recording.text().contains("delta\\\":"));
        let recorded = recording.requests().remove(0);
        // It cannot be what it was, and that is told.
        assert!(recorded.difference(&recorded.judge(&recorded.slo)).is_some());
    }
}

mod the_file {
    use super::*;

    #[tokio::test]
    async fn is_private_and_overwrites_nothing() {
        let server = Server::playing(Script::answer(1, ms(1)));
        let recording = Recording::of(target(server.address), PATIENT, 1, 1).await;
        let mode = fs::metadata(recording.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = recording.text();
        let refused = Recorder::create(&recording.path(), Instant::now()).unwrap_err();
        assert!(refused.to_string().contains("the file exists"), "{refused}");
        assert_eq!(recording.text(), before);
    }

    #[tokio::test]
    async fn has_a_bounded_part_of_a_flood() {
        let comment = [b": ", vec![b'x'; 1 << 20].as_slice(), b"\n\n"].concat();
        let flood = (0..10).fold(Script::sse().token("a"), |script, _| script.chunk(&comment));
        let server = Server::in_turn(vec![flood.ending(), Script::answer(2, ms(1))]);
        let recording = Recording::of(target(server.address), PATIENT, 1, 2).await;
        assert!(
            recording
                .live
                .iter()
                .all(|judged| judged.record.outcome == Outcome::Ok)
        );
        let size = fs::metadata(recording.path()).unwrap().len();
        assert!((4 << 20..9 << 20).contains(&size), "{size}");
        let replay = replayed(&recording.path());
        assert_eq!(
            (replay.truncated, replay.different, replay.reports.len()),
            (1, 0, 1)
        );
    }
}

/// Streams that were recorded once: the file, and what became of its requests.
const CASES: &[(&str, &[&str])] = &[
    ("strange_stream", &["ok", "ok"]),
    ("error_after_the_end", &["api_error"]),
];

#[test]
fn recorded_streams_keep_their_verdicts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
    for (name, outcomes) in CASES {
        let path = folder.join(name).with_extension("jsonl");
        let requests = requests(&path);
        assert_eq!(requests.len(), outcomes.len(), "{name}");
        for (recorded, outcome) in requests.iter().zip(*outcomes) {
            let judged = recorded.judge(&recorded.slo);
            assert_eq!(judged.record.outcome.as_str(), *outcome, "{name}");
            assert_eq!(recorded.difference(&judged), None, "{name}");
            let verdicts: BTreeMap<_, _> = judged
                .verdicts
                .each()
                .map(|(of, verdict)| (of.as_str(), verdict.as_str()))
                .collect();
            let recorded = recorded
                .verdicts
                .iter()
                .map(|(of, verdict)| (of.as_str(), verdict.as_str()));
            assert_eq!(verdicts, recorded.collect(), "{name}");
        }
    }
    let files = fs::read_dir(folder).unwrap().count();
    assert_eq!(files, CASES.len(), "each file has its row");
}

#[test]
fn a_strange_stream_means_what_its_server_meant() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records/strange_stream.jsonl");
    for recorded in requests(&path) {
        let measured = recorded.judge(&recorded.slo).measured;
        // 9 tokens by usage; the thought was 20 ms before the answer.
        assert_eq!(measured.output_tokens.0, 9);
        let (thought, answer) = (measured.ttft.unwrap(), measured.ttfo.unwrap());
        assert!((answer - thought).get() >= 0.02, "{thought} {answer}");
    }
}

/// The program as a user runs it.
mod once {
    use super::*;

    struct Case {
        folder: TempDir,
        _server: Server,
    }

    impl Case {
        fn new(script: Script) -> Self {
            let server = Server::playing(script);
            let folder = tempfile::tempdir().unwrap();
            let config = format!(
                "targets: [{{ name: scripted, url: 'http://{}/v1', api: openai_chat, model: m }}]\n\
                 probes:\n  - {{ name: one, requests: 4, warmup: 1, slo: {{ ttft: 25ms, itl: 1s, objective: 50% }} }}\n  \
                 - {{ name: many, ladder: [{{ users: 2 }}, {{ users: 5 }}], settle: 10ms, slo: {{ ttft: 5s }} }}\n",
                server.address
            );
            fs::write(folder.path().join("probes.yaml"), config).unwrap();
            Self {
                folder,
                _server: server,
            }
        }

        fn path(&self, name: &str) -> String {
            self.folder.path().join(name).to_str().unwrap().to_owned()
        }

        fn once(&self, args: &[&str]) -> (Option<i32>, String, String) {
            let config = format!("--config.file={}", self.path("probes.yaml"));
            let output = run(&[&["once", &config], args].concat());
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.code(), text(output.stdout), text(output.stderr))
        }
    }

    #[test]
    fn replays_what_it_recorded() {
        let case = Case::new(strange());
        let file = case.path("odd.jsonl");
        let (code, live, log) = case.once(&["--output=json", &format!("--record={file}")]);
        assert!(log.contains("recorded") && log.contains("requests=12"), "{log}");
        let by_name = |json: &str| {
            let reports: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
            let named = reports.into_iter().map(|report| {
                (
                    report["probe"].to_string() + &report["concurrency"].to_string(),
                    report,
                )
            });
            named.collect::<BTreeMap<_, _>>()
        };
        let replay = format!("--replay={file}");
        let (again, replayed, log) = case.once(&["--output=json", &replay]);
        assert_eq!(again, code);
        assert!(!log.contains("WARN") && !log.contains("level=warn"), "{log}");
        let reports = by_name(&replayed);
        assert_eq!(reports.len(), 3);
        assert_eq!(reports, by_name(&live));

        // A table, of one probe.
        let (_, table, _) = case.once(&[&replay, "many"]);
        assert!(
            table.contains("probe many") && !table.contains("probe one"),
            "{table}"
        );
        let (code, _, log) = case.once(&[&replay, "none"]);
        assert_eq!(code, Some(2));
        assert!(log.contains("no request of a probe `none`"), "{log}");

        // The file again is refused before anything is sent.
        let (code, out, log) = case.once(&[&format!("--record={file}")]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{log}");
        assert!(log.contains("the file exists"), "{log}");
    }

    #[test]
    fn judges_by_other_objectives() {
        let case = Case::new(Script::answer(2, ms(30)));
        let file = case.path("slow.jsonl");
        let replay = format!("--replay={file}");
        let (code, ..) = case.once(&["one", &format!("--record={file}")]);
        assert_eq!(code, Some(3), "30 ms are more than 25");
        // The objectives are those of the file, also without a configuration.
        assert_eq!(run(&["once", &replay]).status.code(), Some(3));
        let config = fs::read_to_string(case.path("probes.yaml")).unwrap();
        fs::write(
            case.path("probes.yaml"),
            config.replace("ttft: 25ms", "ttft: 60s"),
        )
        .unwrap();
        assert_eq!(case.once(&[&replay]).0, Some(3));
        assert_eq!(case.once(&[&replay, "--rejudge"]).0, Some(0));
    }

    #[test]
    fn tells_what_is_wrong_with_a_recording() {
        let case = Case::new(Script::answer(1, ms(1)));
        let file = case.path("odd.jsonl");
        case.once(&["one", &format!("--record={file}")]);
        let whole = fs::read_to_string(&file).unwrap();
        let cut = whole.trim_end().len() - 20;
        for (text, expected) in [
            (
                whole.replace("\"version\":1", "\"version\":9"),
                "line 1: recorded in version 9",
            ),
            (whole.split_at(cut).0.to_owned(), "line 6: the line is cut off"),
            (whole.replace("\"number\":2", "\"number\":-2"), "integer `-2`"),
        ] {
            let changed = case.path("changed.jsonl");
            fs::write(&changed, text).unwrap();
            let (code, out, log) = case.once(&[&format!("--replay={changed}")]);
            assert_eq!((code, out.as_str()), (Some(2), ""), "{log}");
            assert!(log.contains(expected), "{log}");
        }
        let changed = case.path("changed.jsonl");
        fs::write(
            &changed,
            whole.replace("\"outcome\":", "\"truncated\":true,\"outcome\":"),
        )
        .unwrap();
        for (args, expected) in [
            (&[][..], "no request to be judged; 5 left out, since not all"),
            (&["one"], "no request of a probe `one` to be judged; 5 left out"),
        ] {
            let (code, _, log) = case.once(&[&[&*format!("--replay={changed}")], args].concat());
            assert!(code == Some(2) && log.contains(expected), "{log}");
        }
        let (code, _, log) = case.once(&["--replay=/nowhere/odd.jsonl"]);
        assert!(
            code == Some(2) && log.contains("--replay=/nowhere/odd.jsonl: No such file"),
            "{log}"
        );
        let (code, _, log) = case.once(&["--record=/nowhere/odd.jsonl"]);
        assert!(
            code == Some(2) && log.contains("--record=/nowhere/odd.jsonl: No such file"),
            "{log}"
        );
    }

    #[test]
    fn reports_also_where_the_recording_finds_no_room() {
        let case = Case::new(Script::answer(3, ms(1)));
        let file = case.path("full.jsonl");
        // No file may grow beyond 8 KiB: what a full disk does, without filling one. Ten requests need more.
        let program = program();
        let output = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"])
            .arg(program.get_program())
            .args(["once", "--output=json"])
            .arg(format!("--config.file={}", case.path("probes.yaml")))
            .arg(format!("--record={file}"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(
            log.contains("File too large") && log.contains("the file has the first"),
            "{log}"
        );
        let reports: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(reports.len(), 3);
        // What is there is whole.
        let recorded = requests(Path::new(&file)).len();
        assert!((1..11).contains(&recorded), "{recorded}: {log}");
    }
}
