//! Each fault over raw TCP: what a client sees of it, and what the truth says about it.

use std::time::Duration;

use llm_probe_exporter::sim::{
    Profile, Settings,
    journal::{End, Record},
    profile::Costs,
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use super::{
    client::{CHAT, Ended, PATIENCE, QUICK, Simulator, apis, ollama, openai, quick, raw},
    support::ms,
};

/// Long enough for an answer of a few tokens, on a busy machine too.
const SOON: Duration = Duration::from_secs(5);
/// For what never comes.
const NEVER: Duration = ms(150);

fn tokens(text: &str) -> usize {
    text.matches(r#""content":" "#).count() + text.matches(r#""content":","#).count()
}

/// One thing that breaks off: fault, status (0: none), tokens that come, how it ends, and how the truth calls that.
type Case = (&'static str, u16, usize, Ended, End);

#[tokio::test]
async fn answers_break_off_where_they_are_told_to() {
    let cases: &[Case] = &[
        ("stall@head", 0, 0, Ended::Silent, End::Disconnected),
        ("stall", 200, 0, Ended::Silent, End::Disconnected),
        ("stall@3", 200, 3, Ended::Silent, End::Disconnected),
        ("stall@end", 200, 5, Ended::Silent, End::Disconnected),
        ("reset", 0, 0, Ended::Reset, End::Broken),
        ("reset@3", 200, 3, Ended::Reset, End::Broken),
        ("close", 0, 0, Ended::Closed, End::Broken),
        ("close@3", 200, 3, Ended::Closed, End::Broken),
        ("goaway", 0, 0, Ended::Closed, End::Broken),
        ("truncate@0", 200, 0, Ended::Closed, End::Broken),
        ("truncate@3", 200, 3, Ended::Closed, End::Broken),
        ("truncate", 200, 5, Ended::Closed, End::Broken),
        ("comments@3", 200, 3, Ended::Silent, End::Disconnected),
        ("pings@3", 200, 3, Ended::Silent, End::Disconnected),
        ("garbage@3", 200, 3, Ended::Closed, End::Broken),
        ("error", 200, 0, Ended::Closed, End::Broken),
        ("error@3", 200, 3, Ended::Closed, End::Broken),
        ("error=overloaded@end", 200, 5, Ended::Closed, End::Broken),
        ("empty", 200, 0, Ended::Closed, End::Completed),
    ];
    for (fault, status, shown, ended, end) in cases {
        let simulator = Simulator::start(quick()).await;
        let patience = if *ended == Ended::Silent { NEVER } else { SOON };
        let (text, how) = simulator.raw_with(CHAT, fault, &openai(5), patience).await;
        assert_eq!(how, *ended, "{fault}: {text}");
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(first.contains(" 200 "), *status == 200, "{fault}: {first}");
        // A reset may take with it what the client has not read yet.
        if *ended != Ended::Reset {
            assert_eq!(tokens(&text), *shown, "{fault}: {text}");
        }
        let record = simulator.last(1).await;
        assert_eq!((record.end, record.status), (*end, *status), "{fault}");
        assert_eq!(record.faults, [*fault]);
        assert_eq!(record.tokens_ns.len(), *shown, "{fault}");
        let in_order = text.ends_with("\r\n0\r\n\r\n");
        let truncated = ["truncate", "garbage", "error", "empty"];
        assert_eq!(
            in_order,
            truncated.iter().any(|name| fault.starts_with(name)),
            "{fault}: {text}"
        );
    }
}

#[tokio::test]
async fn an_error_frame_is_worded_by_each_api_and_ends_the_stream() {
    let simulator = Simulator::start(quick()).await;
    for (path, body) in apis(5) {
        for (fault, place) in [
            ("error", "first"),
            ("error@2", "middle"),
            ("error=overloaded@end", "end"),
        ] {
            let text = simulator.ask_with(path, fault, &body).await.text();
            let expected = match (path, fault) {
                ("/v1/responses", "error") => "event: error\ndata: {",
                ("/v1/responses", _) => "event: response.failed\n",
                ("/v1/messages", "error=overloaded@end") => "overloaded_error",
                ("/v1/messages", _) => "event: error\ndata: {\"error\":",
                ("/completion", _) => "\n\nerror: {\"code\":",
                ("/generate_stream", "error=overloaded@end") => "data:{\"error\":\"Model is overloaded\"",
                _ => "\"error\":",
            };
            let text = format!("\n\n{text}");
            assert!(text.contains(expected), "{path} {place}: {text}");
        }
    }
}

#[tokio::test]
async fn every_api_can_end_without_its_end_marker() {
    let simulator = Simulator::start(quick()).await;
    for (path, body) in apis(3) {
        let whole = simulator.ask(path, &body).await.text();
        let text = simulator.ask_with(path, "truncate", &body).await.text();
        let marker = match path {
            CHAT | "/v1/completions" => "[DONE]",
            "/v1/responses" => "response.incomplete",
            "/v1/messages" => "message_stop",
            "/api/chat" | "/api/generate" => r#""done":true"#,
            "/completion" => r#""stop":true"#,
            "/generate_stream" => r#""generated_text":""#,
            path if path.contains("v1beta") => "finishReason",
            _ => continue, // Triton has none
        };
        assert!(whole.contains(marker), "{path}: {whole}");
        assert!(!text.contains(marker), "{path}: {text}");
    }
}

#[tokio::test]
async fn what_comes_instead_of_an_answer() {
    let simulator = Simulator::with(&[]).await;
    for (rule, status, head, body) in [
        ("status=401", 401, "application/json", "AuthenticationError"),
        ("status=403", 403, "application/json", "PermissionDeniedError"),
        ("status=404", 404, "application/json", "NotFoundError"),
        ("status=418", 418, "I'm a teapot", "BadRequestError"),
        ("status=429", 429, "retry-after: 1\r\n", "RateLimitError"),
        (
            "status=429 retry-after=2.5",
            429,
            "retry-after: 2.5\r\n",
            "RateLimitError",
        ),
        (
            "status=503 retry-after-ms=1500",
            503,
            "retry-after-ms: 1500\r\n",
            "ServiceUnavailable",
        ),
        ("status=429 retry-date=30s", 429, " GMT\r\n", "RateLimitError"),
        (
            "status=429 reset=6m",
            429,
            "x-ratelimit-reset-requests: 6m0s\r\n",
            "RateLimitError",
        ),
        ("status=500", 500, "application/json", "InternalServerError"),
        ("status=502", 502, "text/html", "<h1>502 Bad Gateway</h1>"),
        ("status=529", 529, "529 Overloaded", "ServiceUnavailable"),
        ("redirect", 307, "location: /elsewhere\r\n", ""),
        ("redirect=301", 301, "location: /elsewhere\r\n", ""),
        ("html", 200, "text/html", "<html>"),
    ] {
        assert_eq!(
            simulator
                .faults("PUT", &json!({"faults": [rule]}).to_string())
                .await
                .status,
            200
        );
        let response = simulator.ask(CHAT, &openai(1)).await;
        let text = format!("{}\r\n", response.head);
        assert_eq!(response.status, status, "{rule}: {text}");
        assert!(text.contains(head), "{rule}: {text}");
        assert!(response.text().contains(body), "{rule}: {}", response.text());
    }
    let record = simulator.last(15).await;
    assert_eq!((record.end, record.status), (End::Refused, 200));
    assert_eq!(record.faults, ["html"]);
}

#[tokio::test]
async fn an_api_that_refuses_inside_a_200_stream() {
    let simulator = Simulator::start(Settings {
        slots: Some(1),
        queue: Some(0),
        ..quick()
    })
    .await;
    let busy = simulator
        .send(&super::client::post(CHAT, "", &openai(10_000)))
        .await;
    simulator.until(super::client::RUNNING, 1.0).await;
    let (path, body) = apis(1)
        .into_iter()
        .find(|api| api.0 == "/generate_stream")
        .unwrap();
    let refused = simulator.ask(path, &body).await;
    assert_eq!(refused.status, 200);
    assert_eq!(
        refused.text(),
        "data:{\"error\":\"Model is overloaded\",\"error_type\":\"overloaded\"}\n\n"
    );
    let refused = simulator.ask("/generate", &body).await;
    assert_eq!(refused.status, 429);
    let (path, body) = apis(1).into_iter().find(|api| api.0 == "/v1/messages").unwrap();
    let refused = simulator.ask(path, &body).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (529, &json!("overloaded_error"))
    );
    drop(busy);
}

#[tokio::test]
async fn frames_share_writes_and_writes_are_split() {
    let simulator = Simulator::start(quick()).await;
    // Role, 6 tokens, finish, usage, done.
    let response = simulator.ask_with(CHAT, "coalesce=4", &openai(6)).await;
    let per_write: Vec<_> = response
        .frames
        .iter()
        .map(|frame| frame.0.matches("data: ").count())
        .collect();
    assert_eq!(per_write, [4, 4, 2]);
    let record = simulator.last(1).await;
    let mut instants = record.tokens_ns.clone();
    instants.dedup();
    assert_eq!(
        (record.tokens_ns.len(), instants.len()),
        (6, 2),
        "tokens of one write have one instant"
    );

    let response = simulator.ask_with(CHAT, "coalesce=40ms", &openai(60)).await;
    let writes = response.frames.len();
    assert!((2..30).contains(&writes), "120 ms in writes of 40: {writes}");
    assert_eq!(response.text().matches("data: ").count(), 64);

    let response = simulator.ask_with(CHAT, "per-frame=4", &openai(10)).await;
    assert_eq!(response.frames.len(), 1 + 3 + 3, "4, 4 and 2 tokens");
    assert_eq!(simulator.last(3).await.tokens_ns.len(), 10);

    for (path, body) in apis(3) {
        let response = simulator.ask_with(path, "split=1", &body).await;
        assert_eq!(response.status, 200);
        let record = simulator.truth(1).await.pop().unwrap();
        let last = response.frames.last().unwrap();
        assert!(record.done_ns.unwrap() < last.1, "{path}");
        assert_eq!(record.tokens_ns.len(), 3);
    }
}

#[tokio::test]
async fn the_pace_is_changed() {
    let simulator = Simulator::start(quick()).await;
    let spans = |record: &Record| -> Vec<Duration> {
        let gaps = record.tokens_ns.windows(2);
        gaps.map(|pair| Duration::from_nanos(pair[1] - pair[0])).collect()
    };
    simulator.ask_with(CHAT, "drip=30ms", &openai(4)).await;
    let record = simulator.last(1).await;
    assert!(
        spans(&record).iter().all(|gap| *gap >= ms(30)),
        "{:?}",
        spans(&record)
    );
    simulator.ask_with(CHAT, "delay=60ms", &openai(1)).await;
    let record = simulator.last(2).await;
    assert!(record.head_ns.unwrap() - record.received_ns >= 60_000_000);
    simulator.ask_with(CHAT, "stall=60ms@2", &openai(4)).await;
    let record = simulator.last(3).await;
    assert_eq!(record.end, End::Completed);
    assert!(spans(&record)[1] >= ms(60), "{:?}", spans(&record));
    simulator.ask_with(CHAT, "cold=60ms", &openai(1)).await;
    let record = simulator.last(4).await;
    assert!(record.tokens_ns[0] - record.received_ns >= 65_000_000);
    simulator.ask_with(CHAT, "slow=10", &openai(4)).await;
    let record = simulator.last(5).await;
    let lasted = record.tokens_ns[3] - record.received_ns;
    assert!(lasted >= 110_000_000, "5 and 3 times 2 ms, ten times: {lasted}");
    assert_eq!(record.faults, ["slow=10"]);
    // Ollama tells what was loading.
    let text = simulator
        .ask_with("/api/chat", "cold=60ms", &ollama(1))
        .await
        .text();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert!(last["load_duration"].as_u64().unwrap() >= 55_000_000, "{last}");
}

#[tokio::test]
async fn thoughts_are_shown_or_only_counted() {
    let simulator = Simulator::start(quick()).await;
    for (fault, field) in [
        ("reasoning=3", "reasoning"),
        ("reasoning-content=3", "reasoning_content"),
    ] {
        let text = simulator.ask_with(CHAT, fault, &openai(5)).await.text();
        assert_eq!(
            text.matches(&format!(r#""delta":{{"{field}":"#)).count(),
            3,
            "{text}"
        );
        assert_eq!(tokens(&text), 2, "{text}");
        assert!(
            text.contains(r#""completion_tokens_details":{"reasoning_tokens":3}"#),
            "{text}"
        );
    }
    let record = simulator.last(2).await;
    assert_eq!((record.tokens_ns.len(), record.reasoning_tokens), (5, 3));
    assert_eq!(record.answer_ns, Some(record.tokens_ns[3]));

    let text = simulator
        .ask_with(CHAT, "hidden-reasoning=3", &openai(5))
        .await
        .text();
    assert_eq!(
        (tokens(&text), text.matches("reasoning\":").count()),
        (2, 0),
        "{text}"
    );
    assert!(text.contains(r#""reasoning_tokens":3"#) && text.contains(r#""completion_tokens":5"#));
    let record = simulator.last(3).await;
    assert_eq!((record.tokens_ns.len(), record.reasoning_tokens), (2, 3));
    assert!(
        record.tokens_ns[0] - record.received_ns >= 11_000_000,
        "after three hidden ones"
    );

    for (path, thought, count) in [
        ("/v1/messages", r#""type":"thinking_delta""#, 3),
        ("/v1/messages", "event: content_block_start", 2),
        ("/v1/messages", r#""type":"signature_delta""#, 1),
        ("/v1/responses", "event: response.reasoning_text.delta", 3),
        ("/v1/responses", "event: response.output_item.added", 2),
        ("/api/chat", r#""thinking":""#, 3),
        ("/api/generate", r#""thinking":""#, 3),
        (
            "/v1beta/models/simulated:streamGenerateContent?alt=sse",
            r#""thought":true"#,
            3,
        ),
        ("/completion", "thought", 0),
    ] {
        let (_, body) = apis(5).into_iter().find(|api| api.0 == path).unwrap();
        let text = simulator.ask_with(path, "reasoning=3", &body).await.text();
        assert_eq!(text.matches(thought).count(), count, "{path}: {text}");
    }
    // Only thoughts, never an answer: the protocol is whole all the same.
    let (path, body) = apis(3).into_iter().find(|api| api.0 == "/v1/messages").unwrap();
    let text = simulator.ask_with(path, "reasoning=9", &body).await.text();
    assert!(
        !text.contains("text_delta") && text.ends_with("data: {\"type\":\"message_stop\"}\n\n"),
        "{text}"
    );
    assert_eq!(simulator.last(13).await.answer_ns, None);
}

#[tokio::test]
async fn usage_is_told_everywhere_or_nowhere() {
    let simulator = Simulator::start(quick()).await;
    let text = simulator
        .ask_with(CHAT, "usage=continuous", &openai(3))
        .await
        .text();
    for tokens in 0..=3 {
        let usage = format!(
            r#""usage":{{"completion_tokens":{tokens},"prompt_tokens":10,"total_tokens":{}}}"#,
            10 + tokens
        );
        assert!(text.contains(&usage), "{usage} is not in {text}");
    }
    for (path, body) in apis(3) {
        let text = simulator.ask_with(path, "usage=none", &body).await.text();
        for told in [
            "completion_tokens",
            "usageMetadata",
            "timings",
            "eval_count",
            "generated_tokens",
            "input_length",
            "tokens_predicted",
            "tokens_evaluated",
            "tokens_cached",
            r#""usage":{"output_tokens"#,
        ] {
            assert!(!text.contains(told), "{path}: {text}");
        }
    }
}

#[tokio::test]
async fn a_repeated_prompt_comes_from_the_cache() {
    let profile = Profile {
        costs: Costs {
            prefill_token: 3e-3,
            ..QUICK.costs
        },
        ..QUICK
    };
    let faults = vec!["cache=10000".parse().unwrap()];
    let simulator = Simulator::start(Settings {
        profile,
        faults,
        ..Settings::default()
    })
    .await;
    let long = |end: &str| {
        let mut body = openai(1);
        body["messages"][0]["content"] = format!("{} {end}", "word ".repeat(100)).into();
        body
    };
    let mut ttfts = Vec::new();
    for (count, (end, cached)) in (1..).zip([("a b", 0), ("a b", 108), ("a c", 105), ("x", 104)]) {
        let text = simulator.ask(CHAT, &long(end)).await.text();
        let record = simulator.last(count).await;
        assert_eq!(record.cached_tokens, cached, "{end}");
        assert!(
            text.contains(&format!(
                r#""prompt_tokens_details":{{"cached_tokens":{cached}}}"#
            )),
            "{text}"
        );
        ttfts.push(record.tokens_ns[0] - record.received_ns);
    }
    assert!(ttfts[0] >= 327_000_000, "{ttfts:?}");
    assert!(ttfts[1] < 250_000_000, "{ttfts:?}");

    for (path, pointer, first, second) in [
        // What the template puts before a user's words is the same for all.
        ("/v1/messages", r#""cache_read_input_tokens":"#, "4", "9"),
        ("/v1/responses", r#""cached_tokens":"#, "4", "9"),
        ("/completion", r#""cache_n":"#, "0", "2"),
        ("/api/chat", r#""prompt_eval_count":"#, "6", "1"),
    ] {
        simulator.faults("PUT", r#"{"faults": ["cache=10000"]}"#).await;
        let (_, mut body) = apis(1).into_iter().find(|api| api.0 == path).unwrap();
        // One that no other API has asked yet.
        let text = body
            .to_string()
            .replace("Name three colours.", &format!("{path} is asked"));
        body = serde_json::from_str(&text).unwrap();
        for expected in [first, second] {
            let text = simulator.ask(path, &body).await.text();
            assert!(
                text.contains(&format!("{pointer}{expected}")),
                "{path}: {pointer}{expected} is not in {text}"
            );
        }
    }
}

#[tokio::test]
async fn a_rate_limiter_says_so_in_headers() {
    let simulator = Simulator::with(&["limit=2/1h"]).await;
    for (status, header) in [
        (200, "x-ratelimit-remaining-requests: 1\r\n"),
        (200, "x-ratelimit-limit-requests: 2\r\n"),
        (429, "x-ratelimit-remaining-requests: 0\r\n"),
        (429, "x-ratelimit-reset-requests: "),
        (429, "retry-after: 1"),
        (429, "retry-after-ms: 17"),
    ] {
        let response = simulator.ask(CHAT, &openai(1)).await;
        assert_eq!(response.status, status);
        assert!(
            format!("{}\r\n", response.head).contains(header),
            "{}",
            response.head
        );
    }
    let record = simulator.last(6).await;
    assert_eq!(
        (record.faults, record.end),
        (vec!["limit=2/1h".to_owned()], End::Refused)
    );
}

#[tokio::test]
async fn a_drifting_server_gets_slower() {
    let simulator = Simulator::with(&["drift=1000%/100ms"]).await;
    tokio::time::sleep(ms(100)).await;
    simulator.ask(CHAT, &openai(2)).await;
    let record = simulator.last(1).await;
    assert!(
        record.tokens_ns[0] - record.received_ns >= 50_000_000,
        "5 ms, more than ten times"
    );
    assert_eq!(record.faults, ["drift=1000%/100ms"]);
    simulator.faults("DELETE", "").await;
    simulator.ask(CHAT, &openai(2)).await;
    assert_eq!(simulator.last(2).await.faults, [""; 0]);
}

#[tokio::test]
async fn nobody_listens_for_a_while() {
    let simulator = Simulator::with(&["refuse from=100ms to=400ms"]).await;
    assert_eq!(simulator.get("/health").await.status, 200);
    let mut refused = 0;
    for _ in 0..100 {
        match TcpStream::connect(simulator.address).await {
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
                refused += 1;
            }
            Ok(_) if refused > 0 => break,
            Ok(_) => {}
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert!(refused > 3, "{refused}");
    assert_eq!(simulator.get("/health").await.status, 200, "and is back");
}

#[tokio::test]
async fn nobody_answers_the_door_for_a_while() {
    let simulator = Simulator::with(&[]).await;
    assert_eq!(
        simulator
            .faults("PUT", r#"{"faults": ["deaf to=800ms"]}"#)
            .await
            .status,
        200
    );
    tokio::time::sleep(ms(200)).await;
    let connect = timeout(ms(100), TcpStream::connect(simulator.address)).await;
    assert!(connect.is_err(), "no connection comes about");
    tokio::time::sleep(ms(700)).await;
    let health = timeout(PATIENCE, simulator.get("/health")).await.unwrap();
    assert_eq!(health.status, 200, "and is back");
}

#[tokio::test]
async fn faults_are_set_shown_and_ended_at_run_time() {
    let simulator = Simulator::with(&["status=500 every=2"]).await;
    assert_eq!(simulator.ask(CHAT, &openai(1)).await.status, 200);
    assert_eq!(simulator.ask(CHAT, &openai(1)).await.status, 500);
    let listed = simulator.get("/sim/faults").await.json();
    assert_eq!(
        listed,
        json!({"faults": [{"fault": "status=500 every=2", "applied": 1}]})
    );
    let set = simulator
        .faults("POST", r#"{"faults": ["status=401 times=1"]}"#)
        .await;
    assert_eq!(
        (set.status, set.json()["faults"][0]["applied"].as_u64()),
        (200, Some(0))
    );
    assert_eq!(simulator.ask(CHAT, &openai(1)).await.status, 401);
    assert_eq!(simulator.ask(CHAT, &openai(1)).await.status, 200);
    assert_eq!(simulator.get("/health").await.status, 200, "only inference fails");
    let wrong = simulator.faults("PUT", r#"{"faults": ["stal@5"]}"#).await;
    assert_eq!(wrong.status, 400);
    assert!(
        wrong.json()["error"]
            .as_str()
            .unwrap()
            .contains("did you mean `stall`?")
    );
    let wrong = simulator.ask_with(CHAT, "limit=1/1s", &openai(1)).await;
    assert_eq!(wrong.status, 400);
    assert!(
        wrong.json()["error"]
            .as_str()
            .unwrap()
            .contains("property of the server")
    );
    assert_eq!(simulator.faults("DELETE", "").await.json(), json!({"faults": []}));
    assert_eq!(simulator.faults("PATCH", "").await.status, 405);
}

#[tokio::test]
async fn a_connection_that_survives_a_fault_is_used_again() {
    let simulator = Simulator::start(quick()).await;
    let body = openai(2).to_string();
    let request = |headers: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let all = [
        request("X-Sim-Fault: truncate\r\n"),
        request("X-Sim-Fault: split=3\r\n"),
        request("Connection: close\r\n"),
    ];
    let stream = simulator.send(all.concat().as_bytes()).await;
    let (text, ended) = raw(stream, PATIENCE).await;
    assert_eq!(ended, Ended::Closed);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(text.matches("data: [DONE]").count(), 2);
    let mut stream = simulator
        .send(request("X-Sim-Fault: close@1\r\n").as_bytes())
        .await;
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}
