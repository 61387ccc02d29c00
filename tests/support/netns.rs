//! Two hosts of the tests' own: network namespaces with a link between them. Needs root.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Runs a command that is to succeed.
#[track_caller]
pub(crate) fn sh(command: &str) {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

/// A network namespace; it goes with this handle, also when a test fails.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
}

impl Host {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("llm-probe-{}-{number}", std::process::id());
        let host = Self { name };
        sh(&format!("ip netns add {0}; ip -n {0} link set lo up", host.name));
        host
    }

    /// Runs a command in it.
    #[track_caller]
    pub(crate) fn sh(&self, command: &str) {
        let Self { name } = self;
        sh(&format!("ip netns exec {name} sh -ec '{command}'"));
    }

    /// Runs `inside` on a thread in it. Sockets that are made there stay there, and so do threads.
    pub(crate) fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            let namespace = File::open(Path::new("/run/netns").join(&self.name)).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            inside()
        };
        thread::scope(|scope| {
            scope
                .spawn(entered)
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs a future in it.
    pub(crate) fn block_on<T: Send>(&self, inside: impl AsyncFnOnce() -> T + Send) -> T {
        self.run(|| runtime().block_on(inside()))
    }

    /// Starts a server in it, which runs until the second part is dropped.
    pub(crate) fn start<T: Send + 'static, F: Future<Output = T>>(
        &self,
        server: impl FnOnce() -> F + Send + 'static,
    ) -> (T, DropGuard) {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (started, value) = std::sync::mpsc::channel();
        self.run(|| {
            thread::spawn(move || {
                runtime().block_on(async {
                    started.send(server().await).unwrap();
                    stopped.cancelled().await;
                });
            });
        });
        (value.recv().unwrap(), stop.drop_guard())
    }

    /// A command in it that sees these files instead of those in `/etc`.
    pub(crate) fn command(&self, program: &Path, etc: &[(&str, &str)]) -> Command {
        let folder = self.etc();
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in etc {
            fs::write(folder.join(name), text).unwrap();
        }
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        Command::new("ip")
            .args(["netns", "del", &self.name])
            .status()
            .ok();
        fs::remove_dir_all(self.etc()).ok();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Two hosts with a link: [`CLIENT`] and [`SERVER`].
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Host,
    pub(crate) server: Host,
    relay: Option<Child>,
}

impl Link {
    /// A cable.
    pub(crate) fn new() -> Self {
        let link = Self {
            client: Host::new(),
            server: Host::new(),
            relay: None,
        };
        let (client, server) = (&link.client.name, &link.server.name);
        sh(&format!(
            "ip -n {client} link add wire type veth peer name wire netns {server}"
        ));
        link.addressed("wire", "wire")
    }

    /// A cable that takes `delay_ms` each way.
    pub(crate) fn delayed(delay_ms: u64) -> Self {
        let (client, server) = (Host::new(), Host::new());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tun_relay.py");
        let mut relay = Command::new("ip")
            .args(["netns", "exec", &client.name, "python3"])
            .arg(script)
            .arg(delay_ms.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(relay.stdout.take().unwrap());
        lines.read_line(&mut said).unwrap();
        let link = Self {
            client,
            server,
            relay: Some(relay),
        };
        assert_eq!(said, "ready\n", "the relay started");
        let (client, server) = (&link.client.name, &link.server.name);
        sh(&format!("ip -n {client} link set tun1 netns {server}"));
        link.addressed("tun0", "tun1")
    }

    fn addressed(self, client: &str, server: &str) -> Self {
        for (host, device, address, address6) in [
            (&self.client, client, CLIENT, "fd77::1"),
            (&self.server, server, SERVER, "fd77::2"),
        ] {
            let name = &host.name;
            sh(&format!(
                "ip -n {name} addr add {address}/24 dev {device}
                 ip -n {name} addr add {address6}/64 dev {device} nodad
                 ip -n {name} link set {device} up"
            ));
        }
        self
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(relay) = &mut self.relay {
            // Its standard input ends.
            drop(relay.stdin.take());
            relay.wait().ok();
        }
    }
}

/// A name server at port 53 of this thread's network, for as long as the process lives: it knows one name, by
/// these addresses, and says of every other that there is none.
pub(crate) fn name_server(at: Ipv4Addr, name: &'static str, addresses: &'static [std::net::IpAddr]) {
    let socket = UdpSocket::bind((at, 53)).unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length], name, addresses) {
                socket.send_to(&answer, from).ok();
            }
        }
    });
}

fn answer(query: &[u8], name: &str, addresses: &[std::net::IpAddr]) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while let length @ 1.. = usize::from(*query.get(at)?) {
        labels.push(String::from_utf8_lossy(query.get(at + 1..=at + length)?).into_owned());
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let is_known = labels.join(".").eq_ignore_ascii_case(name);
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match address {
            std::net::IpAddr::V4(address) if kind == 1 => Some(address.octets().to_vec()),
            std::net::IpAddr::V6(address) if kind == 28 => Some(address.octets().to_vec()),
            _ => None,
        })
        .filter(|_| is_known)
        .collect();
    let mut answer = query.get(..2)?.to_vec();
    // A response, recursion available; 3: there is no such name.
    answer.extend([0x81, if is_known { 0x80 } else { 0x83 }, 0, 1, 0]);
    answer.extend([u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question);
    for record in records {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0]);
        answer.push(u8::try_from(record.len()).ok()?);
        answer.extend(record);
    }
    Some(answer)
}
