//! A simulator that runs for a test, and a client that speaks to it in raw bytes.

use std::{net::SocketAddr, time::Duration};

use llm_probe_exporter::sim::{
    Server, Settings,
    journal::{Page, Record},
    monotonic_nanos,
    profile::{Costs, Profile},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// 5 ms to the first token, 2 ms to each further one.
pub(crate) const QUICK: Profile = Profile {
    name: "quick",
    about: "",
    slots: 4,
    queue: 100,
    token_budget: 1000,
    kv_capacity: 100_000,
    tokenizes: false,
    context: 50_000,
    costs: Costs {
        step: 2e-3,
        admission: 3e-3,
        prefill_token: 0.0,
        decode: 0.0,
        kv_token: 0.0,
    },
    jitter: 0.0,
};

pub(crate) fn quick() -> Settings {
    Settings {
        profile: QUICK,
        ..Settings::default()
    }
}

/// A simulator that runs until this is dropped.
pub(crate) struct Simulator {
    pub(crate) address: SocketAddr,
    _running: DropGuard,
}

impl Simulator {
    pub(crate) async fn start(settings: Settings) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), settings)
            .await
            .unwrap();
        let address = server.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(server.run(shutdown.clone()));
        Self {
            address,
            _running: shutdown.drop_guard(),
        }
    }

    pub(crate) async fn send(&self, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(request).await.unwrap();
        stream
    }

    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Response {
        Response::read(self.send(&post(path, "", body)).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
        Response::read(self.send(request.as_bytes()).await).await
    }

    /// The records of the requests that have ended, when there are `count`.
    pub(crate) async fn truth(&self, count: usize) -> Vec<Record> {
        for _ in 0..500 {
            let page: Page = serde_json::from_str(&self.get("/sim/requests").await.text()).unwrap();
            assert_eq!(page.clock, "CLOCK_MONOTONIC");
            if page.requests.len() >= count {
                return page.requests.iter().map(|record| (**record).clone()).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are no {count} records");
    }

    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} in {text}"))
            .parse()
            .unwrap()
    }

    /// Until the metric has this value.
    pub(crate) async fn until(&self, series: &str, value: f64) {
        for _ in 0..500 {
            if (self.metric(series).await - value).abs() < 1e-9 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{series} is {} and not {value}", self.metric(series).await);
    }
}

pub(crate) const RUNNING: &str = r#"vllm:num_requests_running{engine="0",model_name="simulated"}"#;
pub(crate) const WAITING: &str = r#"vllm:num_requests_waiting{engine="0",model_name="simulated"}"#;
pub(crate) const ABORTED: &str =
    r#"vllm:request_success_total{engine="0",model_name="simulated",finished_reason="abort"}"#;

pub(crate) fn post(path: &str, headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn openai(tokens: u64) -> Value {
    json!({
        "model": "simulated", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": tokens,
        "messages": [{"role": "user", "content": "Name three colours."}],
    })
}

pub(crate) fn ollama(tokens: u64) -> Value {
    json!({
        "model": "simulated", "options": {"num_predict": tokens},
        "messages": [{"role": "user", "content": "Name three colours."}],
    })
}

/// All that came until the server closed.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// Each chunk of the body (or the whole body) with the instant at which the read that ended it returned.
    pub(crate) frames: Vec<(String, u64)>,
}

impl Response {
    pub(crate) async fn read(mut stream: TcpStream) -> Self {
        let (mut bytes, mut reads) = (Vec::new(), Vec::new());
        while timeout(PATIENCE, stream.read_buf(&mut bytes))
            .await
            .unwrap()
            .unwrap()
            > 0
        {
            reads.push((bytes.len(), monotonic_nanos()));
        }
        let stamp = |end: usize| reads.iter().find(|read| read.0 >= end).unwrap().1;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut frames = Vec::new();
        if head.contains("transfer-encoding: chunked") {
            let mut rest = body;
            loop {
                let (size, after) = rest.split_once("\r\n").expect("a chunk");
                let (frame, after) = after.split_at(usize::from_str_radix(size, 16).unwrap());
                rest = after.strip_prefix("\r\n").expect("the end of a chunk");
                if frame.is_empty() {
                    assert_eq!(rest, "", "the body ends there");
                    break;
                }
                frames.push((frame.to_owned(), stamp(text.len() - after.len())));
            }
        } else {
            frames.push((body.to_owned(), stamp(text.len())));
        }
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            frames,
        }
    }

    pub(crate) fn text(&self) -> String {
        self.frames.iter().map(|frame| frame.0.as_str()).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }
}

/// How a connection ended, as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Closed,
    Reset,
    /// Not at all, for a while.
    Silent,
}

/// All that came, and how it ended.
pub(crate) async fn raw(mut stream: TcpStream, patience: Duration) -> (String, Ended) {
    let mut bytes = Vec::new();
    let deadline = tokio::time::Instant::now() + patience;
    let ended = loop {
        match tokio::time::timeout_at(deadline, stream.read_buf(&mut bytes)).await {
            Ok(Ok(0)) => break Ended::Closed,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => break Ended::Reset,
            Err(_) => break Ended::Silent,
        }
    };
    (String::from_utf8(bytes).unwrap(), ended)
}

impl Simulator {
    pub(crate) async fn with(faults: &[&str]) -> Self {
        let faults = faults.iter().map(|rule| rule.parse().unwrap()).collect();
        Self::start(Settings { faults, ..quick() }).await
    }

    pub(crate) async fn ask_with(&self, path: &str, fault: &str, body: &Value) -> Response {
        let request = post(path, &format!("X-Sim-Fault: {fault}\r\n"), body);
        Response::read(self.send(&request).await).await
    }

    /// What comes of a request with this fault, at most for `patience`.
    pub(crate) async fn raw_with(
        &self,
        path: &str,
        fault: &str,
        body: &Value,
        patience: Duration,
    ) -> (String, Ended) {
        let request = post(path, &format!("X-Sim-Fault: {fault}\r\n"), body);
        raw(self.send(&request).await, patience).await
    }

    /// The last record, when there are `count`.
    pub(crate) async fn last(&self, count: usize) -> Record {
        self.truth(count).await.pop().unwrap()
    }

    /// `/sim/faults`.
    pub(crate) async fn faults(&self, method: &str, body: &str) -> Response {
        let request = format!(
            "{method} /sim/faults HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Response::read(self.send(request.as_bytes()).await).await
    }
}

/// The streaming APIs: path, and a body that asks for so many tokens.
pub(crate) fn apis(tokens: u64) -> [(&'static str, Value); 10] {
    let messages = json!([{"role": "user", "content": "Name three colours."}]);
    [
        (CHAT, openai(tokens)),
        (
            "/v1/completions",
            json!({
                "model": "simulated", "prompt": "Name three colours.", "max_tokens": tokens, "stream": true,
                "stream_options": {"include_usage": true},
            }),
        ),
        (
            "/v1/responses",
            json!({"model": "simulated", "input": "Name three colours.", "max_output_tokens": tokens, "stream": true}),
        ),
        (
            "/v1/messages",
            json!({"model": "simulated", "messages": messages, "max_tokens": tokens, "stream": true}),
        ),
        ("/api/chat", ollama(tokens)),
        (
            "/api/generate",
            json!({"model": "simulated", "prompt": "Name three colours.", "options": {"num_predict": tokens}}),
        ),
        (
            "/completion",
            json!({"prompt": "Name three colours.", "n_predict": tokens, "stream": true}),
        ),
        (
            "/generate_stream",
            json!({"inputs": "Name three colours.", "parameters": {"max_new_tokens": tokens, "details": true}}),
        ),
        (
            "/v2/models/simulated/generate_stream",
            json!({"text_input": "Name three colours.", "parameters": {"stream": true, "max_tokens": tokens}}),
        ),
        (
            "/v1beta/models/simulated:streamGenerateContent?alt=sse",
            json!({
                "contents": [{"role": "user", "parts": [{"text": "Name three colours."}]}],
                "generationConfig": {"maxOutputTokens": tokens},
            }),
        ),
    ]
}
