//! Everything goes wrong at once, and at random: faults of the servers, signals, the clock, the disk, the network,
//! reloads. What must hold all the while is checked all the while. A run is told by its seed:
//!
//! ```sh
//! LLM_PROBE_CHAOS_SEED=7 LLM_PROBE_CHAOS_SECONDS=600 cargo nextest run --run-ignored all --no-capture -E 'test(real_chaos)'
//! ```
#![cfg(test)]

mod books;
#[path = "../support/components.rs"]
#[expect(dead_code, reason = "other test files use the rest")]
mod components;
mod health;
#[path = "../support/netns.rs"]
#[expect(dead_code, reason = "other test files use the rest")]
mod netns;
mod plan;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "other test files use the rest")]
mod process;
mod punctual;
mod stage;
mod truth;

use std::{
    collections::{BTreeMap, HashMap},
    env, thread,
    time::Duration,
};

use books::Books;
use fastrand::Rng;
use health::Health;
use llm_probe_exporter::{
    clock::unix_now,
    outcome::{Failure, Invalid},
    sim::journal::Record,
};
use plan::{Deed, Reload, SHEDDER, Timed, plan};
use process::{Answer, Samples, get};
use punctual::Punctual;
use stage::{COMING, INTERVAL, Stage, TARGETS};
use tokio::time::Instant;
use truth::{Verdict, contradiction};

/// A machine that is busy with other tests may hold up anything so long.
const SLACK: Duration = Duration::from_millis(1500);

/// How long a scrape may take.
const SCRAPE: Duration = Duration::from_secs(1);

/// The exporter gives up after a multiple of it.
const PATIENCE_NS: u64 = 1_000_000_000;

const FORMATS: [&str; 5] = [
    "Accept: text/plain\r\n",
    "Accept: application/openmetrics-text;version=1.0.0\r\n",
    "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n",
    "Accept: text/plain\r\nAccept-Encoding: gzip\r\n",
    "",
];

#[test]
#[ignore = "needs root for network namespaces, and libfaketime: run tests/run.sh"]
fn real_chaos() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seconds = number("LLM_PROBE_CHAOS_SECONDS").unwrap_or(40);
    let seeds = number("LLM_PROBE_CHAOS_SEED").map_or(vec![1, 2, 3], |seed| vec![seed]);
    for seed in seeds {
        let wrong = Run::new(seed, Duration::from_secs(seconds)).played();
        assert!(wrong.is_empty(), "seed {seed}, {seconds} s: {wrong:#?}");
    }
}

/// How many want each core of this machine, at least 1: so much longer may take what is rendered at a low priority.
fn crowd() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let wanted: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let cores = thread::available_parallelism().unwrap().get();
    (wanted / cores as f64).max(1.0)
}

/// Where the counters of the probe that no reload touches are not what its verdicts come to.
fn counted_otherwise(samples: &Samples, verdicts: &HashMap<String, Verdict>) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let of_steady = |verdict: &&Verdict| verdict.is_measured && verdict.probe == "steady";
    for verdict in verdicts.values().filter(of_steady) {
        *counts.entry((&verdict.target, &verdict.outcome)).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for target in TARGETS {
        let of_target = format!("target=\"{target}\"");
        let count =
            |family: &str, reason: &str| samples.count(family, &["probe=\"steady\"", &of_target, reason]);
        let mut compare = |what: &str, counted: u64| {
            let told = counts.get(&(target, what)).copied().unwrap_or(0);
            if counted != told {
                wrong.push(format!(
                    "{counted} {what} of {target} are counted, and {told} told"
                ));
            }
        };
        compare("ok", count("request_duration_seconds_count", ""));
        for failure in Failure::ALL {
            let reason = format!("reason=\"{failure}\"");
            compare(failure.as_str(), count("request_failures_total", &reason));
        }
        for invalid in Invalid::ALL {
            let reason = format!("reason=\"{invalid}\"");
            compare(invalid.as_str(), count("invalid_requests_total", &reason));
        }
    }
    wrong
}

/// Where a lane of the plan is.
struct Lane {
    deeds: std::iter::Peekable<std::vec::IntoIter<Timed>>,
    under_way: Option<Timed>,
}

struct Run {
    seed: u64,
    length: Duration,
    stage: Stage,
    lanes: Vec<Lane>,
    begun: Instant,
    rng: Rng,
    books: Books,
    punctual: Punctual,
    /// How often what was done, and what was seen.
    done: BTreeMap<String, u64>,
    slowest: Duration,
    wrong: Vec<String>,
    /// Since when the exporter's clock has its step.
    stepped: Instant,
}

impl Run {
    fn new(seed: u64, length: Duration) -> Self {
        let lanes: Vec<_> = plan(seed, length)
            .into_iter()
            .map(|deeds| Lane {
                deeds: deeds.into_iter().peekable(),
                under_way: None,
            })
            .collect();
        Self {
            seed,
            length,
            stage: Stage::new(seed, lanes.len()),
            lanes,
            begun: Instant::now(),
            rng: Rng::with_seed(seed),
            books: Books::default(),
            punctual: Punctual::default(),
            done: BTreeMap::new(),
            slowest: Duration::ZERO,
            wrong: Vec::new(),
            stepped: Instant::now(),
        }
    }

    /// What was wrong.
    fn played(mut self) -> Vec<String> {
        println!("seed {}, {:?}", self.seed, self.length);
        // Quiet at first, to see what it takes of the machine.
        self.quiet(Duration::from_secs(4));
        let before = self.health();
        self.begun = Instant::now();
        self.punctual.excuse(Duration::ZERO);
        while self.begun.elapsed() < self.length {
            let tick = Instant::now();
            for lane in 0..self.lanes.len() {
                self.go_on(lane);
            }
            if !self.stage.stopped {
                self.scrape();
            }
            thread::sleep(Duration::from_millis(100).saturating_sub(tick.elapsed()));
        }
        for lane in 0..self.lanes.len() {
            if let Some(timed) = self.lanes[lane].under_way.take() {
                self.mend(lane, &timed.deed);
            }
        }
        self.heals();
        self.is_no_larger(before);
        self.verdicts();
        self.ends();
        self.summary(before);
        self.wrong
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.done.entry(what.into()).or_default() += 1;
    }

    fn check(&mut self, what: &str, wrong: impl IntoIterator<Item = String>) {
        let at = self.begun.elapsed();
        for wrong in wrong {
            if self.wrong.len() < 30 {
                self.wrong.push(format!("{what} at {at:.1?}: {wrong}"));
            }
        }
    }

    /// Mends and begins what is due.
    fn go_on(&mut self, lane: usize) {
        let now = self.begun.elapsed();
        if let Some(timed) = self.lanes[lane].under_way.take_if(|timed| timed.to <= now) {
            self.mend(lane, &timed.deed);
        }
        let is_free = self.lanes[lane].under_way.is_none();
        let next = self.lanes[lane]
            .deeds
            .next_if(|timed| is_free && timed.from <= now);
        if let Some(timed) = next {
            self.count(timed.deed.kind());
            self.stage.begin(lane, &timed.deed);
            match timed.deed {
                Deed::Reload(Reload::Churn) => self.books.leave(COMING),
                Deed::Step(_) => self.stepped = Instant::now(),
                _ => {}
            }
            self.lanes[lane].under_way = Some(timed);
        }
    }

    fn mend(&mut self, lane: usize, deed: &Deed) {
        self.stage.mend(lane, deed);
        if *deed == Deed::StopExporter {
            self.punctual.excuse(self.begun.elapsed());
        }
    }

    fn get(&mut self, path: &str, headers: &str) -> (Answer, Duration) {
        let asked = Instant::now();
        let address = &self.stage.exporter.address;
        let answer = self.stage.beside_the_exporter(|| get(address, path, headers));
        let took = asked.elapsed();
        (answer.unwrap_or_else(|error| panic!("{path}: {error}")), took)
    }

    fn scrape(&mut self) {
        let which = self.rng.usize(..FORMATS.len() * 2);
        let headers = FORMATS.get(which).copied().unwrap_or(FORMATS[0]);
        let is_plain = which == 0 || which >= FORMATS.len() - 1;
        let (answer, took) = self.get("/metrics", headers);
        let (healthy, usual) = self.get("/-/healthy", "");
        self.count("scrape");
        self.slowest = self.slowest.max(took);
        if took > SCRAPE.mul_f64(crowd()) + usual * 3 {
            self.check("scrape", [format!("took {took:?}, and /-/healthy {usual:?}")]);
        }
        if (answer.status, healthy.status) != (200, 200) {
            self.check("scrape", [format!("{} and {}", answer.status, healthy.status)]);
        }
        if which == 1 && !answer.body.ends_with("# EOF\n") {
            self.check("scrape", ["OpenMetrics has no end".to_owned()]);
        }
        if is_plain {
            let wrong = self.books.read(&answer.body);
            self.check("books", wrong);
            let samples = Samples::parse(&answer.body);
            let late = self
                .punctual
                .read(&samples, self.begun.elapsed(), INTERVAL + SLACK.mul_f64(crowd()));
            self.check("punctual", late);
            self.look_at_the_clock(&samples);
        }
        match self.stage.kept() {
            Some(true) => self.count("state file read"),
            Some(false) => self.check("state", ["the file is not whole".to_owned()]),
            None => {}
        }
    }

    /// Whether the exporter's clock is where it was set, which it must be for a step to be one.
    fn look_at_the_clock(&mut self, samples: &Samples) {
        let starts = samples.find("burst_last_start_timestamp_seconds", &["target=\"numbered\""]);
        let last = starts.map(|(_, at)| at).fold(f64::MIN, f64::max);
        let off = last - unix_now();
        let step = self.stage.step as f64;
        let is_there = (off - step).abs() < 2.5;
        let since = self.stepped.elapsed();
        // A second of the preloaded library's cache, and an interval.
        if step != 0.0 && is_there {
            self.count("clock seen where it was set");
        } else if !is_there && since > Duration::from_secs(1) + INTERVAL + SLACK && last > 0.0 {
            self.count("clock not seen where it was set");
        }
    }

    /// Lets time pass, and scrapes.
    fn quiet(&mut self, length: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < length {
            self.scrape();
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn health(&self) -> Health {
        Health::of(self.stage.exporter.process.child.id())
    }

    /// All is mended: who does not shed load has good answers again.
    fn heals(&mut self) {
        // Who waits for a connection tries it again after 3 s; and a request may take 5 s.
        let limit = Duration::from_secs(12);
        let goods = |samples: &Samples| {
            TARGETS.map(|target| {
                let labels = [
                    &*format!("target=\"{target}\""),
                    "probe=\"steady\"",
                    "slo=\"success\"",
                ];
                samples.count("slo_good_requests_total", &labels)
            })
        };
        let (first, _) = self.get("/metrics", "");
        let before = goods(&Samples::parse(&first.body));
        let healed = Instant::now();
        loop {
            self.scrape();
            let (page, _) = self.get("/metrics", "");
            let now = goods(&Samples::parse(&page.body));
            if (0..SHEDDER).all(|target| now[target] > before[target]) {
                self.count("healed");
                return;
            }
            if healed.elapsed() > limit {
                self.check("heals", [format!("{now:?} good after {before:?}")]);
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_no_larger(&mut self, before: Health) {
        // Threads that have nothing to do end after ten seconds.
        let begun = Instant::now();
        loop {
            let grown = self.health().grown(before);
            if grown.is_none() || begun.elapsed() > Duration::from_secs(20) {
                self.check("growth", grown);
                return;
            }
            self.quiet(Duration::from_secs(1));
        }
    }

    /// Stops probing, and compares each verdict with what was done.
    fn verdicts(&mut self) {
        let exporter = &self.stage.exporter;
        let (broken_off, samples) = self.stage.beside_the_exporter(|| {
            // No reload of others, no stop and no step of the clock is a reason to break off a request.
            let before = exporter.metrics();
            let broken_off = before.count("invalid_requests_total", &["probe=\"steady\""]);
            // The switch is one.
            exporter.post("/-/pause");
            exporter.wait_for("nothing is under way", |samples| {
                samples.count("requests_in_flight", &[]) == 0
            });
            // The simulators notice who left, and the books are kept by others than those who ask.
            thread::sleep(Duration::from_secs(2));
            (broken_off, exporter.metrics())
        });
        let log = exporter.process.log();
        let mut verdicts: HashMap<String, Verdict> = HashMap::new();
        let mut wrong = Vec::new();
        for verdict in log.lines().filter_map(Verdict::of_line) {
            if let Some(twice) = verdicts.insert(verdict.id.clone(), verdict) {
                wrong.push(format!("two verdicts on one request: {twice:?}"));
            }
        }
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        let (mut disturbed, mut met) = (0, 0);
        for (index, target) in TARGETS.iter().enumerate() {
            let journal = self.stage.journal(index);
            assert_eq!(journal.forgotten, 0, "the journal is complete");
            let mut truths: HashMap<&str, &Record> = HashMap::new();
            for truth in &journal.requests {
                if let Some(id) = &truth.client_id {
                    truths.insert(id, truth);
                    if !verdicts.contains_key(id) {
                        wrong.push(format!("no verdict on {truth:?}"));
                    }
                }
            }
            for verdict in verdicts.values().filter(|verdict| verdict.target == *target) {
                let truth = truths.get(&*verdict.id).copied();
                let is_disturbed = truth.is_none_or(|truth| {
                    let (from, to) = (truth.received_ns.saturating_sub(PATIENCE_NS), truth.ended_ns);
                    (self.stage.disturbances.iter()).any(|disturbance| disturbance.touches(index, from, to))
                });
                met += u64::from(truth.is_some());
                disturbed += u64::from(is_disturbed);
                *outcomes.entry(verdict.outcome.clone()).or_default() += 1;
                // A probe that changed or went; `counted_otherwise` sees to the one that does not.
                let lasts = verdict.outcome != "cancelled";
                if let Some(odd) =
                    contradiction(&verdict.outcome, truth, is_disturbed, PATIENCE_NS).filter(|_| lasts)
                {
                    wrong.push(format!("{verdict:?}: {odd}"));
                }
            }
        }
        wrong.extend(counted_otherwise(&samples, &verdicts));
        wrong.extend((broken_off > 0).then(|| format!("{broken_off} requests were broken off")));
        for (what, count) in [
            ("verdicts", verdicts.len() as u64),
            ("verdicts on requests that a simulator knows", met),
            ("verdicts beside a disturbance", disturbed),
        ] {
            self.done.insert(what.to_owned(), count);
        }
        for (outcome, count) in outcomes {
            self.done.insert(format!("verdict {outcome}"), count);
        }
        self.check("verdicts", wrong);
    }

    fn ends(&mut self) {
        self.stage.exporter.process.signal(rustix::process::Signal::TERM);
        let status = self.stage.exporter.process.wait();
        let of = |what: &str| self.done.get(what).copied().unwrap_or(0);
        if of("clock stepped") > 2 && of("clock seen where it was set") == 0 {
            self.check("clock", ["the library does not move it".to_owned()]);
        }
        let log = self.stage.exporter.process.log();
        let panics = log
            .lines()
            .filter(|line| line.contains("panicked"))
            .map(ToOwned::to_owned);
        self.check("log", panics.collect::<Vec<_>>());
        if !status.success() {
            self.check("end", [format!("{status}")]);
        }
        for (what, text) in [
            ("state not saved", "the state cannot be saved"),
            ("state saved again", "the state is saved again"),
            ("configuration refused", "the configuration is not reloaded"),
            ("configuration reloaded", "configuration reloaded"),
        ] {
            let count = log.lines().filter(|line| line.contains(text)).count();
            self.done.insert(format!("log: {what}"), count as u64);
        }
    }

    /// A table of what was done and what was checked how often.
    fn summary(&self, before: Health) {
        println!(
            "\n| seed {} over {:?} | times |\n|---|---|",
            self.seed, self.length
        );
        let checked = [
            ("checked: a counter did not fall".to_owned(), self.books.steps),
            (
                "checked: counts follow from one another".to_owned(),
                self.books.sums,
            ),
            ("checked: a histogram is whole".to_owned(), self.books.histograms),
            ("checked: a burst is due".to_owned(), self.punctual.checked),
        ];
        for (what, count) in self
            .done
            .iter()
            .map(|(what, count)| (what.clone(), *count))
            .chain(checked)
        {
            println!("| {what} | {count} |");
        }
        println!(
            "slowest scrape {:.0?}; longest without a due burst {:.2?}; before: {before:?}; wrong: {}",
            self.slowest,
            self.punctual.longest,
            self.wrong.len()
        );
    }
}
