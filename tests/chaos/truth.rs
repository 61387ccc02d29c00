//! Verdict for verdict: what the exporter said of a request against what the simulator did to it.

use llm_probe_exporter::sim::journal::{End, Record};
use serde_json::Value;

/// What the exporter said of one request.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) probe: String,
    pub(crate) target: String,
    pub(crate) id: String,
    pub(crate) outcome: String,
    pub(crate) is_measured: bool,
}

impl Verdict {
    /// From a line of the log at level debug.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
        (text("message")? == "request").then_some(())?;
        Some(Self {
            is_measured: !line.get("warmup")?.as_bool()?,
            probe: text("probe")?,
            target: text("target")?,
            id: text("request_id")?,
            outcome: text("outcome")?,
        })
    }
}

/// What a network, or a process that stands still, may make of any request.
const OF_THE_WAY: &[&str] = &[
    "dns",
    "connect_refused",
    "connect_timeout",
    "connect_error",
    "connection_lost",
    "headers_timeout",
    "first_token_timeout",
    "stall_timeout",
    "total_timeout",
    "truncated",
];

/// What may be said of a request that met what this record tells; nothing where that would depend on the moment.
fn rightly(truth: &Record) -> &'static [&'static str] {
    match truth.status {
        401 | 403 => return &["unauthorized"],
        429 => return &["rate_limited"],
        503 | 529 => return &["overloaded"],
        300..400 => return &["redirect"],
        400..500 => return &["client_error"],
        500..600 => return &["server_error"],
        _ => {}
    }
    for fault in &truth.faults {
        let (fault, place) = fault.split_once('@').unwrap_or((fault, ""));
        let (name, value) = fault.split_once('=').unwrap_or((fault, ""));
        let at_once = matches!(place, "" | "0");
        return match (name, value) {
            ("html" | "content-type", _) => &["content_type"],
            ("empty", _) => &["empty"],
            ("stall", "") if place == "head" => &["headers_timeout"],
            ("stall", "") | ("comments" | "pings", _) if at_once => &["first_token_timeout"],
            ("stall", "") | ("comments" | "pings", _) => &["stall_timeout"],
            ("reset" | "close" | "goaway", _) => &["connection_lost"],
            ("truncate", _) => &["truncated"],
            ("error", "overloaded") => &["overloaded"],
            ("error", _) => &["api_error"],
            ("garbage", _) => &["malformed"],
            ("delay", "3s") => &["headers_timeout"],
            // What is left of the loading may be short.
            ("cold", "3s") => &["headers_timeout", "ok"],
            ("drip", "600ms") => &["total_timeout"],
            ("slow", "900") => &["first_token_timeout"],
            _ => continue,
        };
    }
    if truth.end == End::Completed && !truth.tokens_ns.is_empty() {
        &["ok"]
    } else {
        &[]
    }
}

/// What is wrong with a verdict. `disturbed`: the network or a process stood still meanwhile. `patience_ns`: the server
/// itself took longer than this to its first token, or from one to the next, so that the exporter may have given up.
pub(crate) fn contradiction(
    outcome: &str,
    truth: Option<&Record>,
    disturbed: bool,
    patience_ns: u64,
) -> Option<String> {
    let Some(truth) = truth else {
        // It never got there.
        return (!OF_THE_WAY.contains(&outcome))
            .then(|| format!("{outcome}, of which the server knows nothing"));
    };
    let right = rightly(truth);
    let mut before = truth.received_ns;
    let slow = truth.tokens_ns.iter().any(|at| {
        let waited = at.saturating_sub(before);
        before = *at;
        waited > patience_ns
    });
    let excused = (disturbed || slow) && OF_THE_WAY.contains(&outcome);
    let holds = right.contains(&outcome) || excused || right.is_empty() && outcome != "ok" && disturbed;
    (!holds).then(|| format!("{outcome} instead of {right:?}: {truth:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(faults: &[&str], status: u16, end: &str, tokens: &[u64]) -> Record {
        serde_json::from_value(json!({
            "seq": 1, "id": 1, "client_id": "x", "api": "openai_chat", "http2": false, "faults": faults, "status": status,
            "end": end, "prompt_tokens": 1, "cached_tokens": 0, "output_tokens": 2, "reasoning_tokens": 0, "stream": true,
            "received_ns": 100, "admitted_ns": null, "head_ns": null, "role_ns": null, "tokens_ns": tokens,
            "answer_ns": null, "finish_ns": null, "usage_ns": null, "done_ns": null, "ended_ns": 900,
        }))
        .unwrap()
    }

    fn wrong(outcome: &str, truth: &Record, disturbed: bool) -> bool {
        contradiction(outcome, Some(truth), disturbed, 500).is_some()
    }

    #[test]
    fn right_and_wrong_verdicts_are_told_apart() {
        let well = record(&["split=1"], 200, "completed", &[200, 300]);
        let slow = record(&[], 200, "completed", &[200, 800]);
        let refused = record(&["status=529"], 529, "refused", &[]);
        let stalled = record(&["stall@1"], 200, "disconnected", &[200]);
        let silent = record(&["stall@head"], 0, "disconnected", &[]);
        let left = record(&[], 200, "disconnected", &[200]);
        for (outcome, truth, disturbed, is_wrong) in [
            ("ok", &well, false, false),
            ("ok", &well, true, false),
            ("truncated", &well, false, true),
            ("truncated", &well, true, false),
            ("malformed", &well, true, true),
            ("internal", &well, true, true),
            ("stall_timeout", &slow, false, false),
            ("malformed", &slow, false, true),
            ("overloaded", &refused, false, false),
            ("ok", &refused, true, true),
            ("server_error", &refused, false, true),
            ("stall_timeout", &stalled, false, false),
            ("ok", &stalled, true, true),
            ("first_token_timeout", &stalled, false, true),
            ("headers_timeout", &silent, false, false),
            ("first_token_timeout", &silent, false, true),
            ("ok", &left, true, true),
            ("connection_lost", &left, false, true),
            ("connection_lost", &left, true, false),
        ] {
            assert_eq!(
                wrong(outcome, truth, disturbed),
                is_wrong,
                "{outcome} {disturbed} {truth:?}"
            );
        }
        assert!(contradiction("ok", None, true, 500).is_some());
        assert!(contradiction("server_error", None, true, 500).is_some());
        assert!(contradiction("connect_refused", None, true, 500).is_none());
    }

    #[test]
    fn verdicts_are_read_from_the_log() {
        let line = r#"{"level":"DEBUG","message":"request","probe":"p","target":"t","request_id":"a-b","outcome":"ok","warmup":false}"#;
        let verdict = Verdict::of_line(line).unwrap();
        assert_eq!(
            (&*verdict.target, &*verdict.id, &*verdict.outcome),
            ("t", "a-b", "ok")
        );
        assert!(Verdict::of_line(&line.replace("request\",", "burst\",")).is_none());
        assert!(Verdict::of_line("no JSON").is_none());
    }
}
