//! Other tools, as their users run them, and what they say of each request.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    case::{Order, Tool},
    support::machine::{cpu_seconds, family_memory},
    told::{Request, Told},
};

/// A run answers so many times as many requests as one that tells what start-up takes.
const LONGER: u32 = 4;

/// Where they are installed.
#[derive(Debug)]
pub(crate) struct Peers {
    aiperf: PathBuf,
    guidellm: PathBuf,
    /// For what they write, and the tokenizer that both want to have.
    folder: TempDir,
}

/// Words are tokens. Neither tool goes without one, and nothing depends on what it says.
const TOKENIZER: [(&str, &str); 3] = [
    (
        "tokenizer.json",
        r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"[UNK]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"[UNK]":0,"the":1,"of":2,"and":3,"to":4,"in":5,"is":6},"unk_token":"[UNK]"}}"#,
    ),
    (
        "tokenizer_config.json",
        r#"{"tokenizer_class":"PreTrainedTokenizerFast","unk_token":"[UNK]"}"#,
    ),
    ("config.json", r#"{"architectures":[],"model_type":"gpt2"}"#),
];

/// One run.
struct Run {
    cpu_seconds: f64,
    peak_memory: f64,
    requests: Vec<Request>,
}

impl Peers {
    /// The error says what is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let find = |name: &str| {
            let mut places = env::split_paths(&path).map(|folder| folder.join(name));
            places.find(|place| place.is_file()).ok_or_else(|| {
                format!("--peers: `{name}` is not on PATH; README.md of the benches says how to install it")
            })
        };
        let folder = tempfile::tempdir().expect("there is room for files");
        let tokenizer = folder.path().join("tokenizer");
        fs::create_dir(&tokenizer).expect("there is room for files");
        for (name, text) in TOKENIZER {
            fs::write(tokenizer.join(name), text).expect("there is room for files");
        }
        Ok(Self {
            aiperf: find("aiperf")?,
            guidellm: find("guidellm")?,
            folder,
        })
    }

    pub(crate) fn measure(&self, order: &Order) -> Told {
        let few = order.users * order.requests_each();
        let start_up = self.run(order, few);
        let Run {
            cpu_seconds,
            peak_memory,
            requests,
        } = self.run(order, few * LONGER);
        Told {
            realtime: false,
            cpu_seconds: (cpu_seconds - start_up.cpu_seconds).max(0.0),
            share: 1.0 - 1.0 / f64::from(LONGER),
            peak_memory,
            requests,
        }
    }

    /// Until so many requests are answered.
    fn run(&self, order: &Order, requests: u32) -> Run {
        let written = tempfile::tempdir_in(self.folder.path()).expect("there is room for files");
        let tokenizer = self.folder.path().join("tokenizer");
        let (address, users, tokens) = (order.address, order.users, order.tokens());
        let (mut command, read): (_, fn(&Path) -> Vec<Request>) = if order.tool == Tool::AiPerf {
            let mut command = Command::new(&self.aiperf);
            command
                .args([
                    "profile",
                    "--model=simulated",
                    "--endpoint-type=chat",
                    "--streaming",
                    "--ui=none",
                    "--isl=16",
                ])
                .arg(format!("--url=http://{address}"))
                .arg(format!("--concurrency={users}"))
                .arg(format!("--request-count={requests}"))
                .arg(format!("--osl={tokens}"))
                .arg(format!("--tokenizer={}", tokenizer.display()))
                .arg(format!("--artifact-dir={}", written.path().display()));
            (command, aiperf)
        } else {
            let mut command = Command::new(&self.guidellm);
            command
                .args(["run", "--disable-console"])
                .arg(format!(
                    "--backend=kind=openai_http,target=http://{address},model=simulated"
                ))
                .arg(format!("--profile=kind=concurrent,streams={users}"))
                .arg(format!("--constraint=kind=max_requests,count={requests}"))
                .arg(format!("--tokenizer=kind=hf_auto,model={}", tokenizer.display()))
                .arg(format!(
                    "--data=kind=synthetic_text,prompt_tokens=16,output_tokens={tokens}"
                ))
                .arg(format!(
                    "--output=kind=json,path={}",
                    written.path().join("guidellm.json").display()
                ));
            (command, guidellm)
        };
        let log = written.path().join("log");
        let file = || File::create_new(&log).or_else(|_| File::options().append(true).open(&log));
        // Offline they take no tokenizer from a folder.
        command
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("TRANSFORMERS_OFFLINE");
        command.stdin(Stdio::null());
        command.stdout(file().expect("there is room for files"));
        command.stderr(file().expect("there is room for files"));
        let before = cpu_seconds("self");
        let mut process = command.spawn().expect("it starts");
        let mut peak_memory = 0.0_f64;
        let ended = loop {
            thread::sleep(Duration::from_millis(500));
            match process.try_wait().expect("it is our child") {
                Some(ended) => break ended,
                None => peak_memory = peak_memory.max(family_memory(process.id())),
            }
        };
        assert!(
            ended.success(),
            "{} failed: {ended}\n{}",
            order.tool.name(),
            fs::read_to_string(&log).unwrap_or_default()
        );
        let mut requests = read(written.path());
        for request in requests.iter_mut().take(users.try_into().unwrap_or(usize::MAX)) {
            request.burst = Some(1);
        }
        Run {
            cpu_seconds: cpu_seconds("self") - before,
            peak_memory,
            requests,
        }
    }
}

/// A number with a unit, of AIPerf.
#[derive(Debug, Deserialize)]
struct Value<T> {
    value: T,
}

#[derive(Debug, Deserialize)]
struct Line {
    metadata: Metadata,
    metrics: Option<Metrics>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    x_request_id: String,
    request_start_ns: u64,
}

/// In ms.
#[derive(Debug, Deserialize)]
struct Metrics {
    time_to_first_token: Option<Value<f64>>,
    inter_token_latency: Option<Value<f64>>,
    inter_chunk_latency: Option<Value<Vec<f64>>>,
}

/// Its requests in the order in which they started.
fn aiperf(written: &Path) -> Vec<Request> {
    let text = fs::read_to_string(written.join("profile_export.jsonl")).expect("AIPerf writes it");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).expect("it is as AIPerf documents it"));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by_key(|line| line.metadata.request_start_ns);
    let request = |line: Line| {
        let (ttft, itl, gaps) = line.metrics.map_or((None, None, None), |metrics| {
            (
                metrics.time_to_first_token,
                metrics.inter_token_latency,
                metrics.inter_chunk_latency,
            )
        });
        let seconds = |ms: f64| ms / 1e3;
        Request {
            id: line.metadata.x_request_id,
            ttft: ttft.map(|ttft| seconds(ttft.value)),
            itl: itl.map(|itl| seconds(itl.value)),
            gaps: gaps.map_or_else(Vec::new, |gaps| gaps.value.into_iter().map(seconds).collect()),
            ..Request::default()
        }
    };
    lines.into_iter().map(request).collect()
}

#[derive(Debug, Deserialize)]
struct Report {
    benchmarks: Vec<Benchmark>,
}

#[derive(Debug, Deserialize)]
struct Benchmark {
    requests: Requests,
}

#[derive(Debug, Deserialize)]
struct Requests {
    successful: Vec<Successful>,
    errored: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Successful {
    response_id: Option<String>,
    request_start_time: f64,
    time_to_first_token_ms: Option<f64>,
    inter_token_latency_ms: Option<f64>,
}

/// Its requests in the order in which they started.
fn guidellm(written: &Path) -> Vec<Request> {
    let text = fs::read(written.join("guidellm.json")).expect("GuideLLM writes it");
    let report: Report = serde_json::from_slice(&text).expect("it is as GuideLLM documents it");
    let mut requests = Vec::new();
    for Benchmark { requests: all } in report.benchmarks {
        let mut successful = all.successful;
        successful.sort_by(|a, b| a.request_start_time.total_cmp(&b.request_start_time));
        requests.extend(successful.into_iter().map(|request| Request {
            id: request.response_id.unwrap_or_default(),
            ttft: request.time_to_first_token_ms.map(|ms| ms / 1e3),
            itl: request.inter_token_latency_ms.map(|ms| ms / 1e3),
            ..Request::default()
        }));
        requests.extend(all.errored.iter().map(|_| Request::default()));
    }
    requests
}
