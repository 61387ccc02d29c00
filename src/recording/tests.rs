use std::time::Duration;

use proptest::{prelude::*, sample::Index};
use tokio::time::Instant;

use super::*;
use crate::outcome::{Failure, Outcome};

const HEADER: &str = r#"{"format":"llm-probe-exporter recording","version":1,"program":"0.1.0"}"#;

/// A request whose second token comes 20 ms after the first, with whatever a test changes.
fn line(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let ms = |n: u64| n * 1_000_000;
    let token = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let mut line = serde_json::json!({
        "probe": "p", "target": "t", "api": "openai_chat", "model": "m", "concurrency": 2, "number": 1, "warmup": false,
        "timeouts": { "connect_ns": ms(5000), "first_token_ns": ms(10_000), "stall_ns": ms(10_000), "total_ns": u64::MAX },
        "slo": { "ttft_ns": ms(50), "ttft_from": "start", "objective": 0.99, "excuse": ["unauthorized"] },
        "body": "{}", "body_bytes": 2,
        "intended_ns": ms(1), "start_ns": ms(2), "connection": "new", "connect_ns": ms(1), "connected_ns": ms(1),
        "head": { "at_ns": ms(3), "unix_seconds": 1_767_225_600.5, "status": 200, "headers": [["content-type", "text/event-stream"]] },
        "chunks": [[ms(40), token("a")], [ms(60), token("b")], [ms(61), "data: [DO"], [ms(62), "NE]\n\n"]],
        "end": { "at_ns": ms(63), "how": "end" },
        "ended_ns": ms(63),
        "outcome": "ok",
        "measured": {
            "ttft": 0.04, "ttft_after_connect": 0.039, "ttfo": 0.04, "ttst": 0.02, "itl": 0.02, "longest_gap": 0.02,
            "duration": 0.06, "send_lag": 0.001, "output_tokens": 2, "token_source": "deltas", "intervals": 1,
            "phases": { "dns": null, "connect": 0.001, "tls": null, "headers": 0.002, "first_token": 0.037, "decode": 0.02 },
        },
        "bounds": { "ttft": 0.0005, "ttfo": 0.0005, "itl": 0.0005, "gap": 0.0, "request": 0.0005 },
        "verdicts": [["ttft", "met"], ["success", "met"], ["goodput", "met"]],
    });
    change(&mut line);
    line.to_string()
}

fn replayed(text: &[u8]) -> Result<Replay, Problem> {
    let requests = Requests::open(text, Instant::now())?;
    replay(requests, |recorded| Some(recorded.slo.clone()))
}

fn file(lines: &[&str]) -> String {
    lines.iter().flat_map(|line| [*line, "\n"]).collect()
}

fn only(line: &str) -> Recorded {
    let text = file(&[HEADER, line]);
    let mut requests = Requests::open(text.as_bytes(), Instant::now()).unwrap();
    let (_, recorded) = requests.next().unwrap().unwrap();
    assert!(requests.next().is_none());
    recorded
}

#[test]
fn a_request_is_judged_again() {
    let recorded = only(&line(|_| {}));
    let judged = recorded.judge(&recorded.slo);
    assert_eq!(recorded.difference(&judged), None);
    let verdicts: Vec<_> = judged
        .verdicts
        .each()
        .map(|(objective, verdict)| (objective.as_str().to_owned(), verdict.as_str().to_owned()))
        .collect();
    assert_eq!(verdicts, recorded.verdicts);

    let mut strict = recorded.slo.clone();
    strict.ttft = Some(Duration::from_millis(10));
    let missed = crate::slo::Verdict::Missed;
    assert_eq!(
        recorded
            .judge(&strict)
            .verdicts
            .get(crate::slo::Objective::Goodput),
        Some(missed)
    );
}

#[test]
fn what_is_read_otherwise_is_told() {
    let text = file(&[
        HEADER,
        &line(|_| {}),
        &line(|line| line["outcome"] = "truncated".into()),
        &line(|line| line["measured"]["ttft"] = 0.05.into()),
    ]);
    let replay = replayed(text.as_bytes()).unwrap();
    assert_eq!((replay.different, replay.reports.len()), (2, 1));
    assert!(
        replay.differences[0].starts_with("line 3: was truncated, is ok"),
        "{:?}",
        replay.differences
    );
    assert!(
        replay.differences[1].starts_with("line 4: ok, but measured otherwise"),
        "{:?}",
        replay.differences
    );
}

#[test]
fn where_a_recording_ends_the_request_does() {
    // Live, this frame was malformed: nothing more was read.
    let torn = only(&line(|line| {
        line["chunks"].as_array_mut().unwrap().truncate(1);
        line["end"] = serde_json::Value::Null;
        line["outcome"] = "malformed".into();
    }));
    let judged = torn.judge(&torn.slo);
    assert_eq!(judged.record.outcome, Outcome::Failed(Failure::Truncated));
    assert!(judged.record.detail.unwrap().contains("recording ends"));

    // Without a head there is nothing to decode.
    let refused = only(&line(|line| {
        line["head"] = serde_json::Value::Null;
        line["end"] = serde_json::Value::Null;
        line["chunks"] = serde_json::json!([]);
        line["outcome"] = "connect_refused".into();
        line["detail"] = "nobody there".into();
    }));
    let judged = refused.judge(&refused.slo);
    assert_eq!(judged.record.outcome, Outcome::Failed(Failure::ConnectRefused));
    assert_eq!(judged.record.detail.as_deref(), Some("nobody there"));
}

#[test]
fn what_is_no_recording_is_refused_with_its_place() {
    let good = line(|_| {});
    let change = |path: &'static str, value: serde_json::Value| {
        line(move |line| *line.pointer_mut(path).expect("a key of the line") = value)
    };
    let with = |line: &str| file(&[HEADER, &good, line]);
    let deep = "[".repeat(100_000);
    let cases = [
        (String::new(), "line 1: the file is empty"),
        ("{}\n".into(), "line 1: this is no recording"),
        ("probes:\n".into(), "line 1: this is no recording"),
        (HEADER.into(), "line 1: the line is cut off"),
        (
            HEADER.replace("\"version\":1", "\"version\":2") + "\n",
            "line 1: recorded in version 2 of the format, by program version \"0.1.0\"; this program,",
        ),
        (with(HEADER), "line 3: a second header"),
        (with(""), "line 3: column 0: EOF while parsing"),
        (with(&deep), "line 3: column"),
        (with(&format!("{{\"probe\":{deep}")), "line 3: column"),
        (
            with(&good.replace("\"probe\":", "\"prone\":")),
            "unknown field `prone`",
        ),
        (
            with(&change("/start_ns", (-1).into())),
            "invalid value: integer `-1`",
        ),
        (with(&change("/start_ns", u64::MAX.into())), "longer than a year"),
        (with(&change("/ended_ns", 1.into())), "ended_ns comes before"),
        (
            with(&change("/head/at_ns", 50_000_000.into())),
            "a chunk comes before",
        ),
        (
            with(&change("/head", serde_json::Value::Null)),
            "a body, but no head",
        ),
        (
            with(&change("/start_ns", serde_json::Value::Null)),
            "a response, but no start",
        ),
        (with(&change("/head/status", 99.into())), "99 is no status"),
        (with(&change("/concurrency", 0.into())), "a concurrency of 0"),
        (with(&change("/probe", "a\nb".into())), "control characters"),
        (with(&change("/model", "\u{1b}[2J".into())), "control characters"),
        (with(&change("/api", "smoke".into())), "there is no api \"smoke\""),
        (
            with(&change("/outcome", "fine".into())),
            "there is no outcome \"fine\"",
        ),
        (
            with(&line(|line| line["counted"] = u64::MAX.into())),
            "18446744073709551615 counted tokens are more than any answer has",
        ),
        (with(&change("/slo/objective", 2.into())), "no share"),
        (
            with(&change("/slo/excuse", vec!["x"; 1000].into())),
            "a list of at most 64",
        ),
        (with(&change("/end/how", "broke".into())), "an end has an outcome"),
        (
            with(&change("/bounds/itl", (-0.1).into())),
            "a duration may not be negative",
        ),
    ];
    for (text, expected) in cases {
        let problem = replayed(text.as_bytes()).unwrap_err().to_string();
        assert!(
            problem.contains(expected),
            "{problem:?} does not say {expected:?}"
        );
        assert!(problem.len() < 400, "{problem}");
    }
}

#[test]
fn an_endless_line_takes_bounded_memory() {
    let endless = std::io::Read::chain(
        HEADER.as_bytes(),
        std::io::Read::chain(&b"\n"[..], std::io::repeat(b' ')),
    );
    let requests = Requests::open(std::io::BufReader::new(endless), Instant::now()).unwrap();
    let problem = replay(requests, |recorded| Some(recorded.slo.clone())).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "line 2: the line is longer than 32 MiB, which no recording has"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_replayed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        replayed(&bytes).ok();
        replayed(&[HEADER.as_bytes(), b"\n", &bytes].concat()).ok();
    }

    #[test]
    fn so_are_damaged_recordings(
        damage in prop::collection::vec((any::<Index>(), prop_oneof![any::<u8>(), Just(b'9'), Just(b'-')]), 1..6),
    ) {
        let mut bytes = file(&[HEADER, &line(|_| {})]).into_bytes();
        let header = HEADER.len() + 1;
        for (place, byte) in damage {
            let at = header + place.index(bytes.len() - header);
            bytes[at] = byte;
        }
        replayed(&bytes).ok();
    }

    #[test]
    fn so_are_recordings_of_any_values(
        times in prop::collection::vec(any::<u64>(), 8),
        chunks in prop::collection::vec((any::<u32>(), ".{0,12}"), 0..6),
        how in prop_oneof![Just("end"), Just("late"), Just("broke")],
        bounds in any::<f64>(),
    ) {
        let mut at = 0_u64;
        let chunks: Vec<_> = chunks
            .into_iter()
            .map(|(gap, text)| { at += u64::from(gap); (at, text) })
            .collect();
        let text = line(|line| {
            line["chunks"] = serde_json::to_value(&chunks).unwrap();
            line["end"] = serde_json::json!({ "at_ns": at, "how": how });
            if how == "broke" {
                line["end"]["outcome"] = "connection_lost".into();
            }
            line["head"]["at_ns"] = 0.into();
            line["ended_ns"] = at.into();
            line["intended_ns"] = (times[0] >> 10).into();
            line["connected_ns"] = (times[1] >> 10).into();
            line["timeouts"]["first_token_ns"] = times[2].into();
            line["timeouts"]["stall_ns"] = times[3].into();
            line["timeouts"]["total_ns"] = times[4].into();
            line["slo"]["ttft_ns"] = times[5].into();
            line["dns_ns"] = (times[6] >> 16).into();
            line["bounds"]["ttft"] = bounds.into();
        });
        replayed(file(&[HEADER, &text]).as_bytes()).ok();
    }
}
