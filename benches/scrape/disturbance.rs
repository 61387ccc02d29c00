//! Bursts of 200 streams at the simulator, in turns without a scrape, with one, and with somebody who scrapes all the
//! while. What is compared is by how much the p99 is measured too high: the simulator says when it really wrote the
//! first tokens, and takes up to 20 ms longer for one burst than for another.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use llm_probe_exporter::{
    quantile::{median, percentile},
    sim::journal,
};

use tokio::time::Instant;

use crate::{
    configuration,
    support::process::{Running, answer},
};

/// One scrape may move the p99 by so much, in seconds.
const MOST: f64 = 0.001;

/// Bursts of each kind.
const ROUNDS: u32 = 60;

const USERS: u32 = 200;

/// From the start of a burst to that of the next.
const EVERY: Duration = Duration::from_secs(2);

/// What the scraper does in a burst.
#[derive(Clone, Copy, Debug)]
enum Scraping {
    /// Nothing.
    No,
    /// It begins one scrape after so long.
    Once(Duration),
    /// It begins after so long, and the next when it has read one, until all first tokens are there.
    AllTheWhile(Duration, Duration),
}

/// A line of the exporter's log.
#[derive(serde::Deserialize)]
struct Line {
    message: String,
    ok: Option<u32>,
    ttft_p99_seconds: Option<f64>,
}

/// The next burst's p99 of the time to first token, in seconds.
fn next_p99(exporter: &mut Running) -> f64 {
    let p99 = exporter.next(|line| {
        let line: Line = serde_json::from_str(line).ok()?;
        let is_whole = line.message == "burst" && line.ok == Some(USERS);
        line.ttft_p99_seconds.filter(|_| is_whole)
    });
    p99.expect("bursts go on")
}

/// Prints the table.
pub(crate) fn is_in_bounds() -> bool {
    let simulator = Running::start(&["simulate", "--listen-address=127.0.0.1:0", "--profile=8b-h100"]);
    // Nothing else is ever due.
    let probes = format!(
        "  - {{ name: busy, url: 'http://{}/v1', api: openai_chat, model: simulated }}\nprobes:\n  - {{ name: many, targets: [busy], every: {}s, concurrency: {USERS}, max_tokens: 64 }}\n  - name: all\n    cron: '0 0 1 1 *'\n",
        simulator.address,
        EVERY.as_secs()
    );
    let folder = tempfile::tempdir().expect("there is room for a file");
    let file = folder.path().join("probes.yaml");
    std::fs::write(&file, configuration("http://127.0.0.1:9", &probes)).expect("there is room for a file");
    let file = format!("--config.file={}", file.display());
    let mut exporter = Running::start(&[&file, "--web.listen-address=127.0.0.1:0", "--limit.series=500000"]);
    let address = exporter.address;
    let (plain, bytes) = (answer(address, "/metrics", "").len(), scraped(address).len());

    // The first one warms up.
    next_p99(&mut exporter);
    let mut truth = Truth::of_the_last_burst(simulator.address, 0);
    let (tell, told) = mpsc::channel();
    let mut errors = [const { Vec::new() }; 3];
    let scrapes = std::thread::scope(|scope| {
        let scraper = scope.spawn(move || {
            // Prometheus reads on cores of its own; here it takes none of those of the simulator and the exporter.
            rustix::process::setpriority_process(None, 19).expect("one's own thread may step back");
            told.iter()
                .map(|scraping| follow(scraping, || drop(scraped(address))))
                .sum::<u32>()
        });
        for round in 0..ROUNDS {
            // Scrapes begin at all times from the first request to the last first token.
            let into_it = truth.took.mul_f64(f64::from(round) / f64::from(ROUNDS));
            let kinds = [
                |_, _, _| Scraping::No,
                |start, into_it, _| Scraping::Once(start + into_it),
                |start, _, took| Scraping::AllTheWhile(start, took),
            ];
            for (kind, errors) in kinds.into_iter().zip(&mut errors) {
                let scraping: Scraping = kind(truth.next_starts_in, into_it, truth.took);
                tell.send(scraping).expect("the scraper listens");
                let p99 = next_p99(&mut exporter);
                truth = Truth::of_the_last_burst(simulator.address, truth.seen);
                errors.push(p99 - truth.p99);
            }
        }
        drop(tell);
        scraper.join().expect("the exporter answers")
    });
    let [without, once, all_the_while] = errors.map(|errors| median(errors).unwrap_or(f64::NAN));
    println!("\nTTFT p99 of {USERS} streams above the truth, median of {ROUNDS} bursts each");
    let row = |what, error: f64| {
        let more = (error - without) * 1e3;
        println!("{what:<34}{:>9.2} ms {more:>+9.2} ms", error * 1e3);
    };
    row("without scrapes", without);
    row("one scrape", once);
    row("scraped all the while", all_the_while);
    println!("{scrapes} scrapes of {bytes} bytes, {plain} before they were compressed");
    once - without < MOST
}

/// Scrapes; how often.
fn follow(scraping: Scraping, scrape: impl Fn()) -> u32 {
    match scraping {
        Scraping::No => 0,
        Scraping::Once(after) => {
            std::thread::sleep(after);
            scrape();
            1
        }
        Scraping::AllTheWhile(after, lasting) => {
            std::thread::sleep(after);
            let begun = Instant::now();
            let mut scrapes = 0;
            while begun.elapsed() < lasting {
                scrape();
                scrapes += 1;
            }
            scrapes
        }
    }
}

/// What Prometheus would get: it always asks for gzip.
fn scraped(address: SocketAddr) -> Vec<u8> {
    answer(address, "/metrics", "Accept-Encoding: gzip\r\n")
}

/// What the simulator knows of a burst that has just ended.
#[derive(Debug)]
struct Truth {
    /// p99 of the time to first token, in seconds.
    p99: f64,
    /// From its first request to its last first token.
    took: Duration,
    next_starts_in: Duration,
    /// Up to where the journal has been read.
    seen: u64,
}

impl Truth {
    fn of_the_last_burst(simulator: SocketAddr, seen: u64) -> Self {
        let page = answer(simulator, &format!("/sim/requests?limit=20000&since={seen}"), "");
        let page: journal::Page = serde_json::from_slice(&page).expect("the journal is JSON");
        let first_tokens = page
            .requests
            .iter()
            .filter_map(|request| Some((request.received_ns, *request.tokens_ns.first()?)));
        let first_tokens: Vec<_> = first_tokens.collect();
        let start = first_tokens.iter().map(|(received, _)| *received).min();
        let end = first_tokens.iter().map(|(_, token)| *token).max();
        let (start, end) = start.zip(end).expect("there was a burst");
        let after = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
        let mut took: Vec<_> = first_tokens
            .iter()
            .map(|(received, token)| after(*received, *token).as_secs_f64())
            .collect();
        took.sort_unstable_by(f64::total_cmp);
        Self {
            p99: percentile(&took, 99).expect("there was a burst"),
            took: after(start, end),
            next_starts_in: EVERY.saturating_sub(after(start, page.now_ns)),
            seen: page.next,
        }
    }
}
