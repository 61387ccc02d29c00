//! Bursts of 200 streams at the simulator, in turns with and without somebody who scrapes all the while. What is
//! compared is by how much the p99 is measured too high: the simulator says when it really wrote the first tokens, and
//! takes up to 20 ms longer for one burst than for another.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use llm_probe_exporter::{
    quantile::{median, percentile},
    sim::journal,
};

use crate::configuration;

/// The p99 may be measured higher by so much, in seconds.
const MOST: f64 = 0.001;

/// Bursts with scrapes, and as many without.
const ROUNDS: usize = 20;

const USERS: u32 = 200;

/// A line of the exporter's log.
#[derive(serde::Deserialize)]
struct Line {
    message: String,
    ok: Option<u32>,
    ttft_p99_seconds: Option<f64>,
}

/// Runs until it is dropped.
#[derive(Debug)]
struct Running {
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
}

impl Running {
    /// The program with `args`, once it says where it listens.
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-probe-exporter"));
        let command = command.args(args).args(["--log.format=json"]);
        let mut process = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = process.stderr.take().expect("it is piped");
        let mut log = BufReader::new(log).lines();
        let address = log.find_map(|line| {
            let line = line.ok()?;
            let (_, rest) = line.split_once("listening")?.1.split_once("127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
        });
        Self {
            process,
            log,
            address: address.expect("it says where it listens"),
        }
    }

    /// The next burst's p99 of the time to first token, in seconds.
    fn next_p99(&mut self) -> f64 {
        let p99 = self.log.find_map(|line| {
            let line: Line = serde_json::from_str(&line.ok()?).ok()?;
            let is_whole = line.message == "burst" && line.ok == Some(USERS);
            line.ttft_p99_seconds.filter(|_| is_whole)
        });
        p99.expect("bursts go on")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Prints the table.
pub(crate) fn is_in_bounds() -> bool {
    let simulator = Running::start(&["simulate", "--listen-address=127.0.0.1:0", "--profile=8b-h100"]);
    // Nothing else is ever due.
    let probes = format!(
        "  - {{ name: busy, url: 'http://{}/v1', api: openai_chat, model: simulated }}\nprobes:\n  - {{ name: many, targets: [busy], every: 3s, concurrency: {USERS}, max_tokens: 64 }}\n  - name: all\n    cron: '0 0 1 1 *'\n",
        simulator.address
    );
    let folder = tempfile::tempdir().expect("there is room for a file");
    let file = folder.path().join("probes.yaml");
    std::fs::write(&file, configuration("http://127.0.0.1:9", &probes)).expect("there is room for a file");
    let file = format!("--config.file={}", file.display());
    let mut exporter = Running::start(&[&file, "--web.listen-address=127.0.0.1:0", "--limit.series=500000"]);
    let address = exporter.address;
    let bytes = answer(address, "/metrics").len();

    let (scrapes, scraping, done) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if scraping.load(Ordering::Relaxed) {
                    answer(address, "/metrics");
                    scrapes.fetch_add(1, Ordering::Relaxed);
                } else {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        let mut seen = 0;
        // The first one warms up.
        exporter.next_p99();
        true_p99(simulator.address, &mut seen);
        for round in 0..2 * ROUNDS {
            let scraped = round % 2 == 1;
            scraping.store(scraped, Ordering::Relaxed);
            let p99 = exporter.next_p99();
            let error = p99 - true_p99(simulator.address, &mut seen);
            if scraped { &mut with } else { &mut without }.push(error);
        }
        done.store(true, Ordering::Relaxed);
    });
    let [with, without] = [with, without].map(|errors| median(errors).unwrap_or(f64::NAN));
    println!("\nTTFT p99 of {USERS} streams above the truth, median of {ROUNDS} bursts each");
    println!("{:<34}{:>9.2} ms", "without scrapes", without * 1e3);
    println!(
        "{:<34}{:>9.2} ms   {} scrapes of {bytes} bytes",
        "scraped all the while",
        with * 1e3,
        scrapes.load(Ordering::Relaxed)
    );
    println!("{:<34}{:>9.2} ms", "difference", (with - without) * 1e3);
    with - without < MOST
}

/// The body of the answer to `GET path`.
fn answer(address: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    answer.split_off(head.expect("a head ends") + 4)
}

/// How long the first tokens of the requests since `seen` really took, p99 in seconds.
fn true_p99(simulator: SocketAddr, seen: &mut u64) -> f64 {
    let page = answer(simulator, &format!("/sim/requests?limit=20000&since={seen}"));
    let page: journal::Page = serde_json::from_slice(&page).expect("the journal is JSON");
    *seen = page.next;
    let took = page.requests.iter().filter_map(|request| {
        let first = request.tokens_ns.first()?;
        Some(Duration::from_nanos(first.saturating_sub(request.received_ns)).as_secs_f64())
    });
    let mut took: Vec<_> = took.collect();
    took.sort_unstable_by(f64::total_cmp);
    percentile(&took, 99).expect("there was a burst")
}
