//! The processes, the network between them, and each thing that can go wrong with them.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use llm_probe_exporter::sim::{journal, monotonic_nanos};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    components::component,
    netns::{Link, SERVER, name_server, sh},
    plan::{Deed, Reload, SIMULATORS},
    process::{Exporter, Process, ask, eventually, program},
};

/// Between two bursts of each probe.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// What the targets are called, in the order of the simulators.
pub(crate) const TARGETS: [&str; SIMULATORS] = ["numbered", "named", "shedder"];

/// A probe that comes and goes.
pub(crate) const COMING: &str = "probe=\"coming\"";

/// When a target, or all, did not work as the faults alone would have it; in nanoseconds of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Disturbance {
    target: Option<usize>,
    from: u64,
    to: u64,
}

impl Disturbance {
    pub(crate) fn touches(&self, target: usize, from: u64, to: u64) -> bool {
        self.target.is_none_or(|own| own == target) && from <= self.to && self.from <= to
    }
}

/// A file system of its own, so small that it can be filled.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn new(folder: &Path) -> Self {
        let disk = Self(folder.join("disk"));
        fs::create_dir(&disk.0).unwrap();
        sh(&format!("mount -t tmpfs -o size=256k none {}", disk.0.display()));
        disk
    }

    fn fill(&self) {
        // The error is that it is full.
        fs::write(self.0.join("filler"), vec![0; 512 << 10]).unwrap_err();
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status()
            .ok();
    }
}

#[derive(Debug)]
struct Simulator {
    process: Process,
    address: String,
}

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) exporter: Exporter,
    simulators: Vec<Simulator>,
    disk: Disk,
    folder: TempDir,
    /// Seconds by which the exporter's clock is off.
    pub(crate) step: i64,
    pub(crate) stopped: bool,
    changed: bool,
    came: bool,
    pub(crate) disturbances: Vec<Disturbance>,
    /// When what goes on now began, by lane.
    since: Vec<u64>,
    // The processes in it end before.
    link: Link,
}

impl Stage {
    pub(crate) fn new(seed: u64, lanes: usize) -> Self {
        const ADDRESSES: &[IpAddr] = &[IpAddr::V4(SERVER)];
        let link = Link::new();
        link.server.run(|| name_server(SERVER, "llm.test", ADDRESSES));
        let program = program();
        let simulators: Vec<_> = (0..SIMULATORS)
            .map(|index| {
                let mut command = link.server.command(Path::new(program.get_program()), &[]);
                command.args(["simulate", "--speed=20", "--slots=64"]);
                command.arg(format!("--listen-address={SERVER}:0"));
                command.arg(format!("--seed={}", seed + index as u64));
                let process = Process::spawn(&mut command);
                let address = eventually("a simulator listens", || {
                    let log = process.log();
                    let port = log.split_once(&format!("{SERVER}:"))?.1;
                    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                    Some(format!("{SERVER}:{port}"))
                });
                Simulator { process, address }
            })
            .collect();

        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        fs::write(folder.path().join("clock"), "+0").unwrap();
        let configured = tempfile::tempdir().unwrap();
        let file = configured.path().join("probes.yaml");
        fs::write(&file, config(&simulators, false, false)).unwrap();
        let resolver = "nameserver 10.77.0.2\noptions timeout:1 attempts:1\n";
        let mut command = link
            .client
            .command(Path::new(program.get_program()), &[("resolv.conf", resolver)]);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", disk.0.display()))
            .args(["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"])
            .args(["--log.format=json", "--log.level=debug"])
            .env("LD_PRELOAD", component("LLM_PROBE_TEST_FAKETIME"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock"))
            .env("FAKETIME_CACHE_DURATION", "1")
            .stdout(Stdio::null());
        let exporter = Exporter::spawn(&mut command, configured);
        Self {
            exporter,
            simulators,
            disk,
            folder,
            step: 0,
            stopped: false,
            changed: false,
            came: false,
            disturbances: Vec::new(),
            since: vec![0; lanes],
            link,
        }
    }

    /// A place in the network from where the exporter is seen.
    pub(crate) fn beside_the_exporter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        self.link.client.run(inside)
    }

    fn tell(&self, simulator: usize, method: &str, rules: &[&str]) {
        let Simulator { process, address } = &self.simulators[simulator];
        let body = if method == "PUT" {
            json!({ "faults": rules }).to_string()
        } else {
            String::new()
        };
        let length = format!("Content-Length: {}\r\n", body.len());
        let answer = self.link.server.run(|| {
            eventually("the simulator is told", || {
                ask(method, address, "/sim/faults", &length, &body).ok()
            })
        });
        assert_eq!(answer.status, 200, "{rules:?}: {} {}", answer.body, process.log());
    }

    /// Everything that a simulator remembers.
    pub(crate) fn journal(&self, simulator: usize) -> journal::Page {
        let address = &self.simulators[simulator].address;
        let answer = self
            .link
            .server
            .run(|| ask("GET", address, "/sim/requests", "", "").unwrap());
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(crate) fn begin(&mut self, lane: usize, deed: &Deed) {
        self.since[lane] = monotonic_nanos();
        match deed {
            Deed::Fault(simulator, rule) => self.tell(*simulator, "PUT", &[rule]),
            Deed::StopSimulator(simulator) => self.simulators[*simulator].process.signal(Signal::STOP),
            Deed::StopExporter => {
                self.stopped = true;
                self.exporter.process.signal(Signal::STOP);
            }
            Deed::Step(seconds) => self.set_clock(*seconds),
            Deed::Reload(reload) => self.reload(*reload),
            Deed::FullDisk => self.disk.fill(),
            Deed::NoNames => self.link.server.sh("iptables -I INPUT -p udp --dport 53 -j DROP"),
            Deed::Loss => self.link.server.sh("iptables -I INPUT -i wire -j DROP"),
            Deed::Cut => self.link.client.sh("ip link set wire down"),
        }
    }

    pub(crate) fn mend(&mut self, lane: usize, deed: &Deed) {
        // For how long after it some requests may still suffer: connections are tried again after 1 s and 3 s.
        let (target, tail) = match deed {
            Deed::Fault(simulator, rule) => {
                self.tell(*simulator, "DELETE", &[]);
                let (is_of_the_door, tail) = (rule.ends_with("to=2s"), Duration::from_secs(3));
                (Some(*simulator), is_of_the_door.then_some(tail))
            }
            Deed::StopSimulator(simulator) => {
                self.simulators[*simulator].process.signal(Signal::CONT);
                (Some(*simulator), Some(Duration::from_millis(500)))
            }
            Deed::StopExporter => {
                self.exporter.process.signal(Signal::CONT);
                self.stopped = false;
                (None, Some(Duration::from_millis(500)))
            }
            Deed::Step(_) | Deed::Reload(_) => (None, None),
            Deed::FullDisk => {
                self.disk.clear();
                (None, None)
            }
            Deed::NoNames => {
                self.link.server.sh("iptables -D INPUT -p udp --dport 53 -j DROP");
                (Some(1), Some(Duration::from_secs(2)))
            }
            Deed::Loss => {
                self.link.server.sh("iptables -D INPUT -i wire -j DROP");
                (None, Some(Duration::from_secs(3)))
            }
            Deed::Cut => {
                self.link.client.sh("ip link set wire up");
                (None, Some(Duration::from_secs(3)))
            }
        };
        if let Some(tail) = tail {
            let to = monotonic_nanos() + u64::try_from(tail.as_nanos()).unwrap();
            let from = self.since[lane];
            self.disturbances.push(Disturbance { target, from, to });
        }
    }

    fn set_clock(&mut self, seconds: i64) {
        self.step = seconds;
        let file = self.folder.path().join("clock");
        // At once, as a reader is to see all of it.
        fs::write(file.with_extension("new"), format!("{seconds:+}")).unwrap();
        fs::rename(file.with_extension("new"), file).unwrap();
    }

    fn reload(&mut self, reload: Reload) {
        match reload {
            Reload::Changed => self.changed ^= true,
            Reload::Churn => self.came ^= true,
            Reload::Unchanged | Reload::Bad { .. } | Reload::Signal => {}
        }
        let good = config(&self.simulators, self.changed, self.came);
        let is_bad = matches!(reload, Reload::Bad { .. });
        self.exporter.configure(&if is_bad {
            good.replace("probes:", "probs:")
        } else {
            good.clone()
        });
        if matches!(reload, Reload::Bad { signal: true } | Reload::Signal) {
            self.exporter.process.signal(Signal::HUP);
        } else {
            let answer = self.beside_the_exporter(|| self.exporter.post("/-/reload"));
            assert_eq!(answer.status == 200, !is_bad, "{reload:?}: {}", answer.body);
        }
        if is_bad {
            // For a while, in which a signal is heard.
            thread::sleep(Duration::from_millis(50));
            self.exporter.configure(&good);
        }
    }

    /// The state file is whole, or not there yet.
    pub(crate) fn kept(&self) -> Option<bool> {
        let text = fs::read(self.disk.0.join("state.json")).ok()?;
        Some(llm_probe_exporter::state::State::understood(&text).is_ok())
    }
}

fn config(simulators: &[Simulator], changed: bool, came: bool) -> String {
    let at = |index: usize| simulators[index].address.clone();
    let named = at(1).replace(&SERVER.to_string(), "llm.test");
    let (tokens, coming) = (
        if changed { 12 } else { 14 },
        "  - { name: coming, targets: [numbered, named] }\n",
    );
    format!(
        "targets:
  - {{ name: numbered, url: 'http://{}/v1', api: openai_chat, model: simulated, share: true }}
  - {{ name: named, url: 'http://{named}', api: ollama_chat, model: simulated, share: true, connection: reuse }}
  - {{ name: shedder, url: 'http://{}/v1', api: anthropic_messages, model: simulated, share: true }}
defaults:
  every: {}ms
  max_tokens: 16
  prompt: {{ text: Say something }}
  timeouts: {{ connect: 1s, first_token: 2s, stall: 1500ms, total: 5s }}
  slo: {{ ttft: 500ms, itl: 100ms, objective: 90% }}
probes:
  - {{ name: steady, concurrency: 3 }}
  - {{ name: changing, max_tokens: {tokens} }}
{}",
        at(0),
        at(2),
        INTERVAL.as_millis(),
        if came { coming } else { "" }
    )
}
