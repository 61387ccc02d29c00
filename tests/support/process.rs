//! The program under test as a user runs it. Each process ends with its handle.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;

/// How long something may take that is expected to happen; far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The program under test: the release binary where `tests/run.sh` names it, else the one cargo built.
pub(crate) fn program() -> Command {
    let built = env!("CARGO_BIN_EXE_llm-probe-exporter");
    Command::new(env::var_os("LLM_PROBE_TEST_BIN").unwrap_or_else(|| built.into()))
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    program().args(args).stdin(Stdio::null()).output().unwrap()
}

/// Waits until `check` gives something.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A child process whose standard error is kept; it is killed with its handle.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let reader = Some(reader);
        Self { child, log, reader }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end, and for its last line.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("--- log of {:?} ---\n{}", self.child.id(), self.log());
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// `GET path` with `headers`, on a connection of its own.
pub(crate) fn get(address: &str, path: &str, headers: &str) -> io::Result<Answer> {
    ask("GET", address, path, headers, "")
}

/// Any request; its `headers` end with their lines and say how long the body is.
pub(crate) fn ask(method: &str, address: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { dechunk(body) } else { body.to_vec() };
    Ok(Answer {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&body[..end]), 16).unwrap_or(0);
        let Some(chunk) = body
            .get(end + 2..end + 2 + size)
            .filter(|chunk| !chunk.is_empty())
        else {
            break;
        };
        whole.extend_from_slice(chunk);
        body = body.get(end + size + 4..).unwrap_or_default();
    }
    whole
}

/// The exporter, running.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) process: Process,
    pub(crate) address: String,
    folder: TempDir,
}

impl Exporter {
    /// Starts it with `config` on a free port of this machine.
    pub(crate) fn start(config: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("probes.yaml");
        fs::write(&file, config).unwrap();
        let mut command = program();
        command
            .arg(format!("--config.file={}", file.display()))
            .arg("--web.listen-address=127.0.0.1:0");
        Self::spawn(command.args(args), folder)
    }

    /// Starts a command that serves HTTP and logs where.
    pub(crate) fn spawn(command: &mut Command, folder: TempDir) -> Self {
        let mut process = Process::spawn(command.stdin(Stdio::null()));
        let address = eventually("the exporter listens", || {
            let log = process.log();
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("the exporter ended ({status}): {log}");
            }
            let line = log.lines().find(|line| line.contains("listening"))?;
            let address = line.split_once("127.0.0.1:")?.1;
            let port: String = address.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("127.0.0.1:{port}"))
        });
        Self {
            process,
            address,
            folder,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        get(&self.address, path, "").unwrap()
    }

    pub(crate) fn post(&self, path: &str) -> Answer {
        ask("POST", &self.address, path, "Content-Length: 0\r\n", "").unwrap()
    }

    /// Writes another configuration in the place of its own.
    pub(crate) fn configure(&self, config: &str) {
        fs::write(self.folder.path().join("probes.yaml"), config).unwrap();
    }

    pub(crate) fn metrics(&self) -> Samples {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Samples::parse(&answer.body)
    }

    /// Waits until `check` holds of the metrics.
    pub(crate) fn wait_for(&self, what: &str, check: impl Fn(&Samples) -> bool) -> Samples {
        eventually(what, || Some(self.metrics()).filter(&check))
    }
}

/// The samples of an exposition, by name and labels as they are written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(
            lines
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    (series.to_owned(), value.replace("Inf", "inf").parse().unwrap())
                })
                .collect(),
        )
    }

    /// The sum over the series of `name` (without prefix) that carry all of `labels` (as `key="value"`).
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.find(name, labels).map(|(_, value)| value).sum()
    }

    /// The same of counters, which are whole numbers.
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        // Rust's sum of nothing is -0.
        (self.sum(name, labels) + 0.0).to_string().parse().unwrap()
    }

    pub(crate) fn find<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(series, value)| {
            let (own, tags) = series.split_once('{').unwrap_or((series, ""));
            let fits = own.strip_prefix("llm_probe_").unwrap_or(own) == name
                && labels.iter().all(|label| tags.contains(label));
            fits.then_some((series.as_str(), *value))
        })
    }
}
