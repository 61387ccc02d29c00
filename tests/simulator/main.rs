#![cfg(test)]
//! The simulated server over real sockets, spoken to in raw bytes: its APIs as the real servers frame them, its
//! faults, and the truth that it tells about itself.

mod apis;
mod client;
mod faults;
mod http2;
#[path = "../support/mod.rs"]
mod support;
mod verdicts;

use std::time::Duration;

use client::{ABORTED, CHAT, PATIENCE, RUNNING, Response, Simulator, WAITING, ollama, openai, post, quick};
use llm_probe_exporter::sim::{
    Heads, Server, Settings,
    journal::{End, Record},
    monotonic_nanos,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn openai_streams_are_framed_as_vllm_frames_them() {
    let simulator = Simulator::start(quick()).await;
    let response = simulator.ask(CHAT, &openai(5)).await;
    assert_eq!(response.status, 200);
    assert!(response.head.contains("content-type: text/event-stream"));
    let mut frames: Vec<_> = response
        .frames
        .iter()
        .map(|(frame, _)| {
            frame
                .strip_prefix("data: ")
                .unwrap()
                .strip_suffix("\n\n")
                .unwrap()
        })
        .collect();
    assert_eq!(frames.pop(), Some("[DONE]"));
    let frames: Vec<Value> = frames
        .iter()
        .map(|frame| serde_json::from_str(frame).unwrap())
        .collect();
    assert_eq!(frames.len(), 1 + 5 + 1 + 1);
    for frame in &frames {
        assert_eq!(frame["object"], "chat.completion.chunk");
        assert_eq!(frame["model"], "simulated");
        assert_eq!(frame["id"], "chatcmpl-sim-1");
    }
    assert_eq!(
        frames[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    for frame in &frames[1..6] {
        assert!(
            !frame["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap()
                .is_empty()
        );
        assert_eq!(frame["choices"][0]["finish_reason"], Value::Null);
    }
    assert_eq!(frames[6]["choices"][0]["finish_reason"], "length");
    assert_eq!(frames[7]["choices"], json!([]));
    let usage = json!({"prompt_tokens": 3 + 4 + 3, "completion_tokens": 5, "total_tokens": 15});
    assert_eq!(frames[7]["usage"], usage);

    let mut body = openai(5);
    body["stream_options"] = Value::Null;
    assert_eq!(
        simulator.ask(CHAT, &body).await.frames.len(),
        1 + 5 + 1 + 1,
        "no usage"
    );
    body["stream"] = json!(false);
    let whole = simulator.ask(CHAT, &body).await.json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["usage"], usage);
    assert!(whole["choices"][0]["message"]["content"].as_str().unwrap().len() > 5);
}

#[tokio::test]
async fn ollama_streams_are_lines_with_durations_at_the_end() {
    let simulator = Simulator::start(quick()).await;
    let sent = monotonic_nanos();
    let response = simulator.ask("/api/chat", &ollama(5)).await;
    let lasted = monotonic_nanos() - sent;
    assert_eq!(response.status, 200);
    assert!(response.head.contains("content-type: application/x-ndjson"));
    let lines: Vec<Value> = response
        .frames
        .iter()
        .map(|(line, _)| serde_json::from_str(line.strip_suffix('\n').unwrap()).unwrap())
        .collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        assert!(line["created_at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line["message"]["role"], "assistant");
    }
    assert!(
        lines[..5]
            .iter()
            .all(|line| line["done"] == false && line["message"]["content"] != "")
    );
    let last = &lines[5];
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("length"))
    );
    assert_eq!(
        (&last["prompt_eval_count"], &last["eval_count"]),
        (&json!(10), &json!(5))
    );
    let nanos = |key: &str| last[key].as_u64().unwrap();
    assert!(nanos("prompt_eval_duration") >= 5_000_000);
    assert!(nanos("load_duration") > 0);
    assert!(
        nanos("load_duration") + nanos("prompt_eval_duration") + nanos("eval_duration")
            <= nanos("total_duration")
    );
    assert!(nanos("total_duration") <= lasted);

    let mut body = ollama(5);
    body["stream"] = json!(false);
    let whole = simulator.ask("/api/chat", &body).await.json();
    assert_eq!((&whole["done"], &whole["eval_count"]), (&json!(true), &json!(5)));
    assert!(whole["eval_duration"].as_u64().unwrap() > 0);
    body["messages"] = json!([]);
    assert_eq!(
        simulator.ask("/api/chat", &body).await.json()["done_reason"],
        "load"
    );
}

#[tokio::test]
async fn the_truth_is_in_order_and_never_later_than_what_a_client_saw() {
    for heads in [Heads::Early, Heads::Late] {
        let simulator = Simulator::start(Settings { heads, ..quick() }).await;
        for (path, body) in [(CHAT, openai(8)), ("/api/chat", ollama(8))] {
            let sent = monotonic_nanos();
            let stream = simulator.send(&post(path, "X-Request-Id: mine\r\n", &body)).await;
            let response = Response::read(stream).await;
            let record = simulator.truth(1).await.pop().unwrap();
            simulator
                .send(b"DELETE /sim/requests HTTP/1.1\r\n\r\n")
                .await
                .read_u8()
                .await
                .unwrap();

            assert_eq!((record.end, record.status), (End::Completed, 200));
            assert_eq!(record.client_id.as_deref(), Some("mine"));
            assert_eq!((record.prompt_tokens, record.output_tokens), (10, 8));
            let mut wrote = Vec::new();
            wrote.extend(record.role_ns);
            wrote.extend(&record.tokens_ns);
            wrote.extend(
                [record.finish_ns, record.usage_ns, record.done_ns]
                    .into_iter()
                    .flatten(),
            );
            assert_eq!(wrote.len(), response.frames.len(), "one write per frame");
            for (wrote, (frame, read)) in wrote.iter().zip(&response.frames) {
                assert!(wrote < read, "{frame:?} was read before it was written");
            }
            assert!(wrote.is_sorted());
            let head = record.head_ns.unwrap();
            assert!(sent < record.received_ns && record.received_ns < head && head < wrote[0]);
            let ttft = record.tokens_ns[0] - record.received_ns;
            assert!(ttft >= 5_000_000, "the model takes 5 ms: {ttft}");
            if heads == Heads::Late {
                assert!(head >= record.received_ns + 5_000_000, "with the first token");
            }
        }
    }
}

#[tokio::test]
async fn a_head_comes_early_or_with_the_first_token() {
    for heads in [Heads::Early, Heads::Late] {
        let simulator = Simulator::start(Settings {
            heads,
            slots: Some(1),
            ..quick()
        })
        .await;
        let _busy = simulator.send(&post(CHAT, "", &openai(10_000))).await;
        simulator.until(RUNNING, 1.0).await;
        let mut waits = simulator.send(&post(CHAT, "", &openai(1))).await;
        simulator.until(WAITING, 1.0).await;
        match heads {
            Heads::Early => assert_eq!(timeout(PATIENCE, waits.read_u8()).await.unwrap().unwrap(), b'H'),
            Heads::Late => assert!(timeout(Duration::from_millis(50), waits.read_u8()).await.is_err()),
        }
    }
}

#[tokio::test]
async fn the_laptop_falls_over_with_fifty_users_and_its_tokens_keep_their_pace() {
    let simulator = Simulator::start(Settings {
        speed: 20.0,
        ..Settings::default()
    })
    .await;
    let ttft = |record: &Record| (record.tokens_ns[0] - record.received_ns) as f64;
    let itl = |records: &[Record]| {
        let spans = records
            .iter()
            .map(|r| (r.tokens_ns[63] - r.tokens_ns[0]) as f64 / 63.0);
        spans.sum::<f64>() / records.len() as f64
    };
    for _ in 0..3 {
        simulator.ask(CHAT, &openai(64)).await;
    }
    let alone = simulator.truth(3).await;
    let mut users = JoinSet::new();
    for _ in 0..50 {
        let stream = simulator.send(&post(CHAT, "", &openai(64))).await;
        users.spawn(Response::read(stream));
    }
    assert!(
        users
            .join_all()
            .await
            .iter()
            .all(|response| response.status == 200)
    );
    let all = simulator.truth(53).await;
    let fifty = &all[3..];
    let single = alone.iter().map(ttft).fold(f64::MAX, f64::min);
    let last = fifty.iter().map(ttft).fold(0.0, f64::max);
    println!(
        "TTFT {:.0} ms alone, {:.1} s for the last of fifty; ITL {:.1} ms and {:.1} ms",
        single * 20.0 / 1e6,
        last * 20.0 / 1e9,
        itl(&alone) * 20.0 / 1e6,
        itl(fifty) * 20.0 / 1e6
    );
    assert!(last / single > 100.0, "{last} after {single}");
    let pace = itl(fifty) / itl(&alone);
    assert!((0.5..2.0).contains(&pace), "ITL changed by {pace}");
}

#[tokio::test]
async fn a_full_queue_is_503_in_each_apis_words_while_health_stays_200() {
    let simulator = Simulator::start(Settings {
        slots: Some(1),
        queue: Some(1),
        ..quick()
    })
    .await;
    let first = simulator.send(&post(CHAT, "", &openai(10_000))).await;
    simulator.until(RUNNING, 1.0).await;
    let second = simulator.send(&post(CHAT, "", &openai(10_000))).await;
    simulator.until(WAITING, 1.0).await;

    let refused = simulator.ask(CHAT, &openai(1)).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (503, &json!(503))
    );
    let refused = simulator.ask("/api/chat", &ollama(1)).await;
    assert_eq!(refused.status, 503);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .starts_with("server busy")
    );
    assert_eq!(simulator.get("/health").await.status, 200);
    let rejections =
        r#"vllm:admission_rejections_total{engine="0",model_name="simulated",reason="max_num_queued_reqs"}"#;
    assert!((simulator.metric(rejections).await - 2.0).abs() < 1e-9);

    // Clients that go away free the slot and the place in the queue at once.
    drop((first, second));
    simulator.until(ABORTED, 2.0).await;
    assert_eq!(simulator.ask(CHAT, &openai(1)).await.status, 200);
    let ends: Vec<_> = simulator.truth(5).await.iter().map(|record| record.end).collect();
    assert_eq!(ends.iter().filter(|end| **end == End::Disconnected).count(), 2);
    assert_eq!(ends.iter().filter(|end| **end == End::Refused).count(), 2);
}

#[tokio::test]
async fn mistakes_get_the_status_of_the_real_server() {
    let simulator = Simulator::start(quick()).await;
    let mut unknown = openai(1);
    unknown["model"] = json!("gpt-oss");
    let mut long = openai(1);
    long["max_tokens"] = json!(60_000);
    for path in [CHAT, "/api/chat"] {
        assert_eq!(simulator.ask(path, &unknown).await.status, 404, "{path}");
        assert_eq!(simulator.ask(path, &json!([])).await.status, 400, "{path}");
        assert_eq!(
            simulator
                .ask(path, &json!({"model": "simulated", "messages": 7}))
                .await
                .status,
            400
        );
        assert_eq!(simulator.get(path).await.status, 405, "{path}");
    }
    assert_eq!(simulator.ask(CHAT, &long).await.status, 400);
    assert_eq!(simulator.ask("/nowhere", &unknown).await.status, 404);
    assert_eq!(simulator.get("/sim/requests?since=x").await.status, 400);
    assert_eq!(
        simulator.get("/v1/models").await.json()["data"][0]["id"],
        "simulated"
    );
    assert_eq!(
        simulator.get("/api/tags").await.json()["models"][0]["name"],
        "simulated"
    );
    for garbage in [
        "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/1.1\r\nX: \0\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
    ] {
        let response = Response::read(simulator.send(garbage.as_bytes()).await).await;
        assert_eq!(response.status, 400, "{garbage:?}");
    }
    let endless = simulator.send("x".repeat(100_000).as_bytes()).await;
    assert_eq!(Response::read(endless).await.status, 431);
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let simulator = Simulator::start(quick()).await;
    let body = openai(2).to_string();
    let plain = format!(
        "POST {CHAT} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (start, rest) = body.split_at(10);
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        start.len(),
        start,
        rest.len(),
        rest
    );
    let last = "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
    // All sent ahead: what comes while a request is answered is kept for later.
    let mut stream = simulator.send(format!("{plain}{chunked}{last}").as_bytes()).await;
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(text.matches("data: [DONE]").count(), 2);
    assert!(text.ends_with("connection: close\r\n\r\n"));

    let old = format!(
        "POST {CHAT} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = Response::read(simulator.send(old.as_bytes()).await).await;
    assert!(!response.head.contains("chunked"));
    assert!(response.text().ends_with("data: [DONE]\n\n"));

    let waiting = format!(
        "POST {CHAT} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = simulator.send(waiting.as_bytes()).await;
    let mut interim = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut interim))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[tokio::test]
async fn shutdown_ends_everything_and_frees_the_port() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), quick())
        .await
        .unwrap();
    let address = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(server.run(shutdown.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&post(CHAT, "", &openai(10_000))).await.unwrap();
    stream.read_u8().await.unwrap();
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the answer was cut off");
    assert!(TcpStream::connect(address).await.is_err());
}
