//! Real components: Prometheus and a llama.cpp server, as `tests/run.sh` installed them.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use tempfile::TempDir;

use crate::process::{Process, Samples, eventually, get};

/// The path that a variable of `tests/run.sh` names.
pub(crate) fn component(variable: &str) -> PathBuf {
    env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run tests/run.sh, or eval \"$(tests/run.sh env)\""))
        .into()
}

/// A real llama.cpp server.
#[derive(Debug)]
pub(crate) struct Llama {
    pub(crate) process: Process,
    pub(crate) port: u16,
    _stdin: ChildStdin,
}

impl Llama {
    /// `port` 0 takes a free one.
    pub(crate) fn start(port: u16, slots: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/llama_server.py");
        let mut command = Command::new(component("LLM_PROBE_TEST_LLAMA_PYTHON"));
        command
            .arg(script)
            .arg("--model")
            .arg(component("LLM_PROBE_TEST_GGUF"));
        command.args([
            format!("--port={port}"),
            format!("--parallel={slots}"),
            "--ctx=8192".into(),
        ]);
        let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = process.child.stdin.take().unwrap();
        let mut said = String::new();
        BufReader::new(process.child.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let port = said
            .strip_prefix("ready ")
            .and_then(|port| port.trim().parse().ok());
        let port = port.unwrap_or_else(|| panic!("llama.cpp did not start: {said:?}\n{}", process.log()));
        Self {
            process,
            port,
            _stdin: stdin,
        }
    }

    /// Its own counters.
    pub(crate) fn metrics(&self) -> Samples {
        Samples::parse(
            &get(&format!("127.0.0.1:{}", self.port), "/metrics", "")
                .unwrap()
                .body,
        )
    }
}

/// A port that was free a moment ago, for a program that does not say which one it took.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A real Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    _process: Process,
    pub(crate) address: String,
    _folder: TempDir,
}

impl Prometheus {
    /// The one of Debian, scraping one address every second.
    pub(crate) fn start(scraped: &str) -> Self {
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: llm-probe-exporter\n    static_configs: [{{ targets: ['{scraped}'] }}]\n"
        );
        Self::configured("LLM_PROBE_TEST_PROMETHEUS", &config, &[])
    }

    /// The one whose path a variable of `tests/run.sh` names.
    pub(crate) fn configured(variable: &str, config: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(component(variable));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args(args);
        let process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
        eventually("Prometheus is ready", || {
            get(&address, "/-/ready", "")
                .ok()
                .filter(|answer| answer.status == 200)
        });
        Self {
            _process: process,
            address,
            _folder: folder,
        }
    }

    /// The value of an instant query that gives one number; `None` while it gives nothing.
    pub(crate) fn query(&self, promql: &str) -> Option<f64> {
        let encoded: String = url::form_urlencoded::byte_serialize(promql.as_bytes()).collect();
        let answer = get(&self.address, &format!("/api/v1/query?query={encoded}"), "").unwrap();
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(json["status"], "success", "{promql}: {json}");
        json["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}
