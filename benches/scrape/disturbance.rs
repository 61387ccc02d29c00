//! Bursts of 200 streams at the simulator, in turns with and without somebody who scrapes all the while.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use crate::configuration;

/// The median of the bursts' p99 may rise by so much, in seconds.
const MOST: f64 = 0.001;

/// Bursts with scrapes, and as many without.
const ROUNDS: usize = 20;

const USERS: u32 = 200;

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
            let line: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            let is_whole = line["message"] == "burst" && line["ok"] == USERS;
            is_whole.then(|| line["ttft_p99_seconds"].as_f64()).flatten()
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
    let bytes = scrape(address);

    let (scrapes, scraping, done) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if scraping.load(Ordering::Relaxed) {
                    scrape(address);
                    scrapes.fetch_add(1, Ordering::Relaxed);
                } else {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        // The first one warms up.
        exporter.next_p99();
        for round in 0..2 * ROUNDS {
            let scraped = round % 2 == 1;
            scraping.store(scraped, Ordering::Relaxed);
            let p99 = exporter.next_p99();
            if scraped { &mut with } else { &mut without }.push(p99);
        }
        done.store(true, Ordering::Relaxed);
    });
    let [with, without] = [with, without].map(median);
    println!("\nTTFT p99 of {USERS} streams, median of {ROUNDS} bursts each");
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

/// Reads `/metrics` as Prometheus does, and tells how many bytes it was.
fn scrape(address: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(address).expect("the exporter listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: exporter\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the exporter reads");
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer).expect("the exporter answers") {
            0 => return bytes,
            read => bytes += read,
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
