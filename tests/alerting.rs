//! From a queue at the endpoint to the page: simulator, exporter, both versions of Prometheus with our rules, Alertmanager
//! with our example configuration, a receiver. Everything is the shipped file; only time goes faster.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/rules.rs"]
mod rules;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/simulator.rs"]
mod simulator;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use components::{Prometheus, component, free_port};
use llm_probe_exporter::sim::Settings;
use process::{Exporter, Process, eventually, get};
use receiver::{Message, Receiver};
use simulator::Simulator;
use tempfile::TempDir;
use tokio::time::Instant;

/// A minute is a second.
const FACTOR: u32 = 60;

/// A Prometheus of one version, an Alertmanager, and who is told.
struct Watch {
    version: &'static str,
    prometheus: Prometheus,
    receiver: Receiver,
    _alertmanager: Process,
    _folder: TempDir,
}

impl Watch {
    fn start(version: &'static str, exporter: &Exporter) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let alertmanager = format!("127.0.0.1:{}", free_port());
        let file = folder.path().join("alertmanager.yml");
        let config = rules::faster(&rules::text("alertmanager.yml"), FACTOR);
        let config = config.replace("localhost:8060", &receiver.address.to_string());
        fs::write(&file, config).unwrap();
        let mut command = Command::new(component("LLM_PROBE_TEST_ALERTMANAGER"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address={alertmanager}"))
            .arg("--cluster.listen-address=");
        let process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
        eventually("Alertmanager is ready", || {
            get(&alertmanager, "/-/ready", "")
                .ok()
                .filter(|answer| answer.status == 200)
        });
        for name in ["recording.yml", "alerting.yml"] {
            let text = rules::faster(&rules::text(&format!("rules/{name}")), FACTOR);
            fs::write(folder.path().join(name), text).unwrap();
        }
        let config = rules::faster(&rules::text("prometheus.yml"), FACTOR)
            .replace("localhost:9850", &exporter.address)
            .replace("localhost:9093", &alertmanager)
            .replace(
                "rules/*.yml",
                &folder.path().join("*ing.yml").display().to_string(),
            );
        let prometheus = Prometheus::configured(version, &config, &[]);
        Self {
            version,
            prometheus,
            receiver,
            _alertmanager: process,
            _folder: folder,
        }
    }

    /// Every rule can be evaluated on what the exporter exports.
    fn rules_are_sound(&self) {
        let answer = get(&self.prometheus.address, "/api/v1/rules", "").unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let all: Vec<_> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap())
            .collect();
        assert!(all.len() > 30, "{answer}");
        for rule in all {
            assert_eq!(rule["health"], "ok", "{}: {rule}", self.version);
        }
    }

    /// The first message of this status about an alert of this name.
    fn told(&self, status: &str, alert: &str) -> Message {
        let what = format!("{}: {alert} is {status}", self.version);
        eventually(&what, || self.receiver.find(status, alert))
    }
}

/// Other users of the endpoint: each asks again as soon as it has its answer.
struct Crowd {
    leave: Arc<AtomicBool>,
    users: Vec<thread::JoinHandle<()>>,
}

impl Crowd {
    fn of(users: u32, endpoint: SocketAddr) -> Self {
        let leave = Arc::new(AtomicBool::new(false));
        let user = |_| {
            let leave = Arc::clone(&leave);
            thread::spawn(move || {
                while !leave.load(Ordering::Relaxed) {
                    ask(endpoint);
                }
            })
        };
        Self {
            users: (0..users).map(user).collect(),
            leave,
        }
    }

    fn leave(self) {
        self.leave.store(true, Ordering::Relaxed);
        for user in self.users {
            user.join().unwrap();
        }
    }
}

fn ask(endpoint: SocketAddr) {
    let body = r#"{"model": "simulated", "stream": true, "max_tokens": 128, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}"#;
    let mut stream = TcpStream::connect(endpoint).unwrap();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
#[ignore = "needs Prometheus and Alertmanager: run tests/run.sh"]
fn real_page_arrives_when_requests_queue_and_resolves_when_they_do_not() {
    // One slot, 20 times as fast: a first token takes 11 ms alone, a third of a second behind five others.
    let simulator = Simulator::start(Settings {
        speed: 20.0,
        ..Settings::default()
    });
    // Beside it a target that is well, with every kind of series that rules meet.
    let other = Simulator::start(Settings {
        speed: 100.0,
        ..Settings::default()
    });
    let config = format!(
        "
global: {{ labels: [team] }}
targets:
  - {{ name: other, url: 'http://{}/v1', api: openai_chat, model: simulated }}
  - {{ name: llama, url: 'http://{}/v1', api: openai_chat, model: simulated, labels: {{ team: chat }} }}
probes:
  - name: steps
    targets: [other]
    every: 2s
    ladder: [{{ users: 1 }}, {{ users: 4 }}]
    settle: 0s
    slo: {{ request: 1s, objective: 90%, alert: ticket }}
    budget: {{ requests: 100000, per: day }}
  - {{ name: rate, targets: [other], every: 2s, arrival: {{ kind: rate, per_second: 10 }}, requests: 4 }}
  - {{ name: chat, targets: [llama], every: 500ms, prompt: {{ tokens: 32 }}, max_tokens: 16, slo: {{ ttft: 150ms, objective: 99%, alert: page }} }}
",
        other.address, simulator.address
    );
    let exporter = Exporter::start(&config, &[]);
    let watches = ["LLM_PROBE_TEST_PROMETHEUS", "LLM_PROBE_TEST_PROMETHEUS3"]
        .map(|version| Watch::start(version, &exporter));
    // The first thirty bursts settle that, whatever they are like.
    exporter.wait_for("it is known what is usual", |samples| {
        samples.count("baseline_bursts", &["probe=\"chat\""]) >= 30
    });
    for watch in &watches {
        eventually("the share of bad requests is recorded", || {
            watch
                .prometheus
                .query("series:llm_probe_bad_requests:ratio_rate1h{probe=\"chat\"}")
        });
        assert_eq!(watch.receiver.messages(), [], "{}", watch.version);
    }

    let begun = Instant::now();
    let crowd = Crowd::of(5, simulator.address);
    exporter.wait_for("a burst missed its objective", |samples| {
        let chat = ["probe=\"chat\""];
        samples.count("slo_bursts_total", &chat) > samples.count("slo_good_bursts_total", &chat)
    });
    println!(
        "{:6.1} s: a burst missed its objective",
        begun.elapsed().as_secs_f64()
    );
    for watch in &watches {
        let page = watch.told("firing", "LLMProbeBudgetBurn");
        println!(
            "{:6.1} s: the page from {}: {}",
            (page.at - begun).as_secs_f64(),
            watch.version,
            page.alert["annotations"]["summary"]
        );
        assert_eq!(page.path, "/page");
        let labels = &page.alert["labels"];
        for (label, value) in [
            ("probe", "chat"),
            ("target", "llama"),
            ("team", "chat"),
            ("severity", "critical"),
        ] {
            assert_eq!(labels[label], value, "{labels}");
        }
        let why = watch.told("firing", "LLMProbeQueueing");
        println!(
            "{:6.1} s: the ticket that says why",
            (why.at - begun).as_secs_f64()
        );
        assert_eq!(why.path, "/ticket");
        watch.rules_are_sound();
    }
    crowd.leave();
    let ended = Instant::now();
    println!("{:6.1} s: the others have left", begun.elapsed().as_secs_f64());
    for watch in &watches {
        let resolved = watch.told("resolved", "LLMProbeBudgetBurn");
        println!(
            "{:6.1} s later: {} says that it is over",
            (resolved.at - ended).as_secs_f64(),
            watch.version
        );
        assert!(resolved.at > ended, "it was over before it was");
        let paged = watch
            .receiver
            .messages()
            .into_iter()
            .filter(|message| message.path == "/page");
        for message in paged {
            assert_eq!(message.alert["labels"]["alertname"], "LLMProbeBudgetBurn");
        }
    }
}
