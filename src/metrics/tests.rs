//! The exposition as a whole: what is in it, when, and under which rules.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use prometheus::core::Collector;
use tokio::time::Instant;

use super::{exposition::Value, *};
use crate::{
    baseline::{Baseline, Medians},
    calendar::Calendar,
    capacity::{Capacity, End},
    config::plan::{
        Alert, Bounds, Connection, Dialect, FAMILIES, Generation, HISTOGRAMS, HttpVersion, ListSource,
        Listing, Price, Probe, Reach, Slo, Step, Target, TextMode, Timeouts, Wished, Withheld,
    },
    diagnose::diagnose,
    identity::RequestId,
    load::{Arrival, Load, Rate, Volume},
    measure::Measurement,
    outcome::{Failure, Invalid, Outcome, Skip},
    prompt::{Cache, Prompt, Script, Scripts, Source},
    record::{ConnectionState, Record},
    slo::{ErrorBounds, Verdicts, judge},
    summary::{Judged, Summary, Tally},
    units::{Name, Ratio, Tokens},
    usage::{ServerPhases, Usage},
};

mod formats;

const NOON: f64 = 1_753_100_000.5;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A probe at a target every ten seconds, judged by success alone, but for what `edit` changes.
fn edited(
    (probe, target, users): (&str, &str, u32),
    edit: impl FnOnce(&mut Probe, &mut Target, &mut Step),
) -> Series {
    let mut target = Target {
        oauth2: None,
        name: Name::new(target).unwrap(),
        url: "http://gpu-1.example:8000/v1".parse().unwrap(),
        api: Dialect::OpenaiChat,
        model: "granite4:350m".into(),
        authorization: None,
        headers: Vec::new(),
        connection: Connection::New,
        http: HttpVersion::Http1,
        reach: Reach::default(),
        max_tokens_field: "max_tokens",
        reasoning: None,
        body: serde_json::Map::new(),
        text_mode: TextMode::Auto,
        replica_header: None,
        tokenizer: None,
        price: None,
        budget: None,
        busy: None,
        labels: BTreeMap::new(),
        share: false,
    };
    let mut step = Step {
        load: Load::Users(users),
        arrival: Arrival::Together,
        volume: Volume::Requests(users),
        slo: Slo::default(),
    };
    let mut probe = Probe {
        name: Name::new(probe).unwrap(),
        targets: Vec::new(),
        every: Duration::from_secs(10),
        cron: None,
        calendar: Calendar::default(),
        jitter: Ratio::new(0.0).unwrap(),
        steps: Vec::new(),
        capacity: None,
        ladder_stop: None,
        settle: Duration::ZERO,
        warmup: 0,
        prompt: Prompt {
            prefix: None,
            source: Source::Written(Scripts::only(Script::of_text("Hello"))),
            system: None,
            cache: Cache::Bust,
        },
        max_tokens: Tokens(64),
        generation: Generation::default(),
        timeouts: Timeouts::default(),
        expect: None,
        budget: None,
        protect: None,
        labels: BTreeMap::new(),
    };
    edit(&mut probe, &mut target, &mut step);
    Series {
        probe: Arc::new(probe),
        target: Arc::new(target),
        step: Arc::new(step),
    }
}

fn plain(probe: &str, target: &str, users: u32) -> Series {
    edited((probe, target, users), |_, _, _| {})
}

/// With everything that adds families: a price, every limit, an API that reports its phases.
fn rich(probe: &str, target: &str, users: u32) -> Series {
    edited((probe, target, users), |_, target, step| {
        target.api = Dialect::OllamaChat;
        target.price = Some(Price {
            input_per_million: 1.0,
            output_per_million: 2.0,
        });
        step.slo = Slo {
            ttft: Some(ms(500)),
            ttfo: Some(ms(500)),
            itl: Some(ms(25)),
            gap: Some(Duration::from_secs(2)),
            request: Some(Duration::from_secs(5)),
            alert: Alert::Page,
            ..Slo::default()
        };
    })
}

/// Started 1 ms late, first token after `ttft`, `deltas` of them 10 ms apart, 100 prompt tokens, and one output
/// token per delta.
fn record(outcome: Outcome, ttft: u64, deltas: u64) -> Record {
    let t0 = Instant::now();
    let mut record = Record::new(0, false, t0);
    record.id = Some(RequestId::new(ttft.into()));
    let line = &mut record.timeline;
    let start = t0 + ms(1);
    line.start = Some(start);
    line.dns = Some(ms(2));
    line.connect = Some(ms(4));
    line.connected = Some(start + ms(6));
    line.headers = Some(start + ms(20));
    for n in 0..deltas {
        line.output(start + ms(ttft + 10 * n), true);
    }
    record.ended = Some(start + ms(ttft + 10 * deltas));
    record.outcome = outcome;
    record.status = Some(200);
    record.connection = Some(ConnectionState::New);
    if outcome == Outcome::Ok {
        record.usage = Usage {
            prompt: Some(Tokens(100)),
            cached_prompt: Some(Tokens(10)),
            output: Some(Tokens(deltas)),
            reasoning: Some(Tokens(0)),
        };
        record.server_phases = ServerPhases {
            load: Some(Seconds::new(0.001)),
            prompt: Some(Seconds::new(0.01)),
            decode: Some(Seconds::new(0.1)),
        };
    }
    record
}

fn judged(series: &Series, record: Record) -> Judged {
    let measured = Measurement::of(&record);
    let bounds = ErrorBounds::default();
    let verdicts = if record.warmup {
        Verdicts::default()
    } else {
        judge(&series.step.slo, record.outcome, &measured, &bounds)
    };
    Judged {
        record,
        measured,
        verdicts,
        bounds,
    }
}

/// One burst of the records, from its beginning to its end.
fn burst(
    metrics: &SeriesMetrics,
    series: &Series,
    records: impl IntoIterator<Item = Record>,
) -> Arc<Summary> {
    metrics.burst_begun(NOON, Seconds::new(0.002));
    let mut tally = Tally::default();
    for record in records {
        let judged = judged(series, record);
        metrics.request(&judged, NOON + 1.0);
        tally.add(&judged, true);
    }
    let mut summary = tally.finish(series.step.slo.objective);
    let mut baseline = Baseline::default();
    let usual = Medians {
        ttft: Some(Seconds::new(0.3)),
        itl: Some(Seconds::new(0.01)),
        ..Medians::default()
    };
    for _ in 0..10 {
        baseline.learn(usual, NOON);
    }
    let load = series.step.load;
    summary.diagnosis = Some(diagnose(load, &summary.observed, None, true, &baseline));
    let summary = Arc::new(summary);
    metrics.burst_ended(&summary, Instant::now());
    summary
}

fn new_metrics(label_names: &[&str]) -> Metrics {
    let names: Vec<_> = label_names.iter().map(|name| (*name).to_owned()).collect();
    Metrics::new(&names, &Exposition::default())
}

fn armed(metrics: &Metrics, series: &Series, unix: f64) -> SeriesMetrics {
    let handle = metrics.acquire(series);
    handle.armed(unix);
    handle
}

/// Uses everything that there is.
fn exercise(metrics: &Metrics, series: &Series) -> SeriesMetrics {
    let handle = armed(metrics, series, NOON - 60.0);
    let mut warmup = record(Outcome::Ok, 5000, 5);
    warmup.warmup = true;
    warmup.certificate_expires = Some(1_784_635_200);
    let records = [
        warmup,
        record(Outcome::Ok, 200, 11),
        record(Outcome::Ok, 600, 11),
        record(Outcome::Failed(Failure::Truncated), 300, 2),
        record(Outcome::Failed(Failure::FirstTokenTimeout), 120_000, 0),
        record(Outcome::Failed(Failure::Unauthorized), 10, 0),
        record(Outcome::Invalid(Invalid::Cancelled), 50, 3),
    ];
    burst(&handle, series, records);
    handle.skipped(Skip::Overlap, 1);
    handle.next_due(Some(NOON + 10.0), series.probe.every);
    handle.in_flight().fetch_add(1, Ordering::Relaxed);
    metrics.config_loaded(NOON - 61.0);
    metrics.paused(Some(NOON - 5.0));
    metrics.runtime_lag(Seconds::new(0.0007));
    metrics.task_restarted();
    metrics.realtime(true);
    handle
}

fn scrape(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render(Format::Text)).unwrap()
}

/// The value of the only sample of this name and labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (inside, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let all = labels.iter().all(|label| inside.contains(label));
        all.then(|| value.parse().unwrap())
    });
    let first = values.next();
    assert_eq!(values.next(), None, "more than one {name} {labels:?}");
    first
}

fn sum(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    samples
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum()
}

#[track_caller]
fn check(text: &str, expected: &[(&str, &[&str], f64)]) {
    for (name, labels, expected) in expected {
        let name = format!("llm_probe_{name}");
        let found = value(text, &name, labels);
        let close = found.is_some_and(|found| (found - expected).abs() < 1e-9);
        assert!(close, "{name} {labels:?}: {found:?}, not {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_whole_exposition() {
    let metrics = new_metrics(&["team", "region"]);
    let loaded = edited(("fifty \"users\"", "granite", 50), |probe, target, _| {
        probe.labels.insert("team".into(), "chat".into());
        target
            .labels
            .insert("team".into(), "hidden by the probe's".into());
        target.labels.insert("region".into(), "eu\\1\n🦀".into());
    });
    let rich = rich("single", "ollama", 1);
    let held = (exercise(&metrics, &rich), metrics.acquire(&loaded));
    let ours: String = scrape(&metrics)
        .split_inclusive('\n')
        .filter(|line| !line.contains("process_") && !line.contains("build_info{"))
        .collect();
    insta::assert_snapshot!(ours);
    drop(held);
}

#[test]
fn counters_and_histograms_are_at_0_from_the_start() {
    let metrics = new_metrics(&[]);
    let held = metrics.acquire(&rich("p", "t", 1));
    let text = scrape(&metrics);
    let families: Vec<_> = table()
        .filter(|family| {
            matches!(
                family.scope,
                families::Scope::Series(_) | families::Scope::Probe(_)
            )
        })
        .filter(|family| family.kind != Kind::Gauge)
        .collect();
    for family in &families {
        let samples: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with(family.name))
            .collect();
        assert!(!samples.is_empty(), "{}", family.name);
        assert!(samples.iter().all(|line| line.ends_with(" 0")), "{samples:?}");
    }
    for reason in Failure::ALL {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(
            value(&text, "llm_probe_request_failures_total", &[&label]),
            Some(0.0)
        );
    }
    let limits = |name| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(limits("llm_probe_slo_requests_total{"), 7);
    assert_eq!(limits("llm_probe_slo_limit_seconds{"), 5);
    drop(held);
}

#[test]
fn only_what_is_configured_is_judged_and_priced() {
    let metrics = new_metrics(&[]);
    let held = metrics.acquire(&plain("p", "t", 1));
    let text = scrape(&metrics);
    assert!(!text.contains("slo_limit_seconds"));
    assert!(!text.contains("cost_dollars"));
    assert!(!text.contains("server_phase"));
    let judged: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("llm_probe_slo_requests_total{"))
        .collect();
    assert!(judged.len() == 2 && judged[0].contains("success") && judged[1].contains("goodput"));
    // What is not known is absent, not 0.
    for unknown in ["armed", "last_start", "next_due"] {
        assert!(!text.contains(&format!("burst_{unknown}_timestamp")), "{unknown}");
    }
    held.armed(NOON);
    check(
        &scrape(&metrics),
        &[
            ("burst_armed_timestamp_seconds", &[], NOON),
            ("request_last_success_timestamp_seconds", &[], NOON),
        ],
    );
}

#[test]
fn what_counts_for_what() {
    let metrics = new_metrics(&[]);
    let held = exercise(&metrics, &rich("p", "t", 1));
    let text = scrape(&metrics);
    check(
        &text,
        &[
            // The warm-up request is in tokens and cost alone; the invalid one is counted, and in no histogram.
            ("requests_total", &[], 6.0),
            ("invalid_requests_total", &["cancelled"], 1.0),
            ("request_failures_total", &["truncated"], 1.0),
            ("request_failures_total", &["unauthorized"], 1.0),
            ("prompt_tokens_total", &[], 300.0),
            ("cached_prompt_tokens_total", &[], 30.0),
            // 5 of the warm-up, 2 × 11, and by deltas 2 of the truncated and 3 of the invalid one.
            ("output_tokens_total", &[], 32.0),
            ("token_counts_total", &["usage"], 3.0),
            ("token_counts_total", &["deltas"], 2.0),
            ("cost_dollars_total", &[], 0.000_364),
            // Two successes, the truncated one, and the timeout with what it waited; not the 401.
            ("time_to_first_token_seconds_count", &[], 4.0),
            ("time_to_first_token_seconds_bucket", &["le=\"0.2\""], 1.0),
            ("time_to_first_token_seconds_bucket", &["le=\"0.3\""], 2.0),
            ("time_to_first_token_seconds_bucket", &["le=\"60.0\""], 3.0),
            ("time_to_first_token_seconds_bucket", &["le=\"120.0\""], 4.0),
            ("time_to_first_token_seconds_sum", &[], 121.1),
            // Successes only.
            ("time_to_first_token_after_connect_seconds_count", &[], 2.0),
            ("inter_token_latency_seconds_count", &[], 2.0),
            ("inter_chunk_latency_seconds_count", &[], 20.0),
            ("request_duration_seconds_count", &[], 2.0),
            ("request_phase_seconds_count", &["dns"], 2.0),
            ("request_phase_seconds_count", &["tls"], 0.0),
            ("server_phase_seconds_count", &["load"], 2.0),
            ("failed_request_duration_seconds_count", &[], 3.0),
            ("http_responses_total", &["200"], 5.0),
            ("connections_total", &["new"], 5.0),
            ("send_lag_seconds_count", &[], 5.0),
            // 2 + 2 judged, of which one was too slow; then 2 withheld.
            ("slo_requests_total", &["ttft"], 5.0),
            ("slo_good_requests_total", &["ttft"], 1.0),
            ("slo_good_requests_total", &["success"], 2.0),
            ("slo_unjudged_requests_total", &["invalid"], 1.0),
            ("slo_unjudged_requests_total", &["excused"], 1.0),
            ("slo_unjudged_requests_total", &["lag"], 0.0),
            ("slo_bursts_total", &[], 2.0),
            ("slo_good_bursts_total", &[], 0.0),
            ("bursts_total", &[], 1.0),
            ("bursts_skipped_total", &["overlap"], 1.0),
            ("requests_in_flight", &[], 1.0),
            ("goodput_ratio", &[], 0.25),
            ("burst_last_start_timestamp_seconds", &[], NOON),
            ("burst_next_due_timestamp_seconds", &[], NOON + 10.0),
            ("request_last_success_timestamp_seconds", &[], NOON + 1.0),
            ("request_last_failure_timestamp_seconds", &[], NOON + 1.0),
            ("exporter_config_last_reload_successful", &[], 1.0),
        ],
    );
    drop(held);
}

#[test]
fn withheld_bursts_are_missed_unless_ignored() {
    let metrics = new_metrics(&[]);
    let missed = rich("p", "t", 8);
    let ignored = edited(("q", "t", 8), |_, _, step| step.slo.withheld = Withheld::Ignore);
    let held = [&missed, &ignored].map(|series| metrics.acquire(series));
    for series in &held {
        series.skipped(Skip::Overlap, 1);
    }
    let text = scrape(&metrics);
    for slo in ["ttft", "ttfo", "itl", "gap", "request", "success", "goodput"] {
        let labels = ["probe=\"p\"", &format!("slo=\"{slo}\"")];
        assert_eq!(
            value(&text, "llm_probe_slo_requests_total", &labels),
            Some(8.0),
            "{slo}"
        );
        assert_eq!(
            value(&text, "llm_probe_slo_good_requests_total", &labels),
            Some(0.0),
            "{slo}"
        );
    }
    check(
        &text,
        &[
            ("slo_bursts_total", &["probe=\"p\""], 1.0),
            ("slo_good_bursts_total", &["probe=\"p\""], 0.0),
            ("requests_total", &["probe=\"p\""], 0.0),
            ("slo_bursts_total", &["probe=\"q\""], 0.0),
            ("slo_requests_total", &["probe=\"q\"", "goodput"], 0.0),
        ],
    );
}

#[test]
fn a_good_burst_counts_and_an_unjudged_one_does_not() {
    let metrics = new_metrics(&[]);
    let series = plain("p", "t", 1);
    let held = metrics.acquire(&series);
    burst(&held, &series, [record(Outcome::Ok, 200, 3)]);
    burst(&held, &series, [record(Outcome::Invalid(Invalid::Local), 200, 0)]);
    check(
        &scrape(&metrics),
        &[
            ("bursts_total", &[], 2.0),
            ("slo_bursts_total", &[], 1.0),
            ("slo_good_bursts_total", &[], 1.0),
        ],
    );
}

/// A probe that searches up to a load.
fn searching(most: Load) -> Series {
    let lowest = most.like(1.0).unwrap();
    let bounds = Bounds::new(lowest, Volume::Requests(1), 0, 64, Wished::default()).unwrap();
    edited(("p", "t", 8), |probe, _, step| {
        probe.capacity = Some(bounds);
        step.load = most;
    })
}

fn found(meets: Option<u32>, misses: Option<u32>, ended: End) -> Arc<Capacity> {
    Arc::new(Capacity {
        meets: meets.map(Load::Users),
        misses: misses.map(Load::Users),
        ended,
        confidence: Ratio::new(0.75),
        requests: 40,
        sentence: String::new(),
        curve: Vec::new(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_search_is_exported_until_it_is_stale_and_counts_for_no_objective() {
    let metrics = new_metrics(&[]);
    let series = searching(Load::Users(8));
    let held = metrics.acquire(&series);
    let of = |name: &str| {
        let text = scrape(&metrics);
        value(&text, &format!("llm_probe_capacity_{name}"), &["search"]).unwrap()
    };
    assert!(of("concurrency").is_nan() && of("found").is_nan());
    for (capacity, concurrency, missed, is_found) in [
        (found(Some(12), Some(13), End::Found), 12.0, 13.0, 1.0),
        (found(Some(64), None, End::AtLeast), 64.0, f64::INFINITY, 0.0),
        (found(None, Some(1), End::Nothing), 0.0, 1.0, 0.0),
        (
            found(Some(4), Some(8), End::Stopped(Skip::Backoff)),
            4.0,
            8.0,
            0.0,
        ),
        // That one says nothing: what was known stays.
        (found(Some(2), None, End::Stopped(Skip::Drain)), 4.0, 8.0, 0.0),
    ] {
        held.searched(&capacity, Instant::now());
        let told = [of("concurrency"), of("missed_concurrency"), of("found")];
        assert!(
            told.iter()
                .zip([concurrency, missed, is_found])
                .all(|(told, right)| told.total_cmp(&right).is_eq()),
            "{told:?}"
        );
    }
    assert!((of("confidence_ratio") - 0.75).abs() < 1e-9);

    held.request(&judged(&series, record(Outcome::Ok, 200, 3)), 1.0);
    held.request(
        &judged(&series, record(Outcome::Failed(Failure::Truncated), 200, 3)),
        2.0,
    );
    held.skipped(Skip::Overlap, 3);
    let text = scrape(&metrics);
    assert!(text.contains("llm_probe_requests_total{"), "{text}");
    let judged = text
        .lines()
        .filter(|line| line.starts_with("llm_probe_slo_") && line.contains("_total{"));
    assert!(
        judged.clone().count() > 3 && judged.clone().all(|line| line.ends_with(" 0")),
        "{text}"
    );

    tokio::time::advance(series.probe.every * 3 + Duration::from_millis(1)).await;
    assert!(of("concurrency").is_nan());
}

#[tokio::test(start_paused = true)]
async fn the_last_burst_goes_stale_after_three_intervals() {
    let metrics = new_metrics(&[]);
    let series = plain("p", "t", 1);
    let held = metrics.acquire(&series);
    let of_burst: Vec<_> = table().filter(|family| family.since == Since::Burst).collect();
    assert_eq!(of_burst.len(), 22);
    let all_nan = || {
        let text = scrape(&metrics);
        of_burst.iter().all(|family| {
            let mut samples = text
                .lines()
                .filter(|line| line.starts_with(&format!("{}{{", family.name)));
            samples.all(|line| line.ends_with(" NaN"))
        })
    };
    let ttft = || {
        value(
            &scrape(&metrics),
            "llm_probe_burst_time_to_first_token_seconds",
            &["p50"],
        )
        .unwrap()
    };
    assert!(all_nan());
    burst(&held, &series, [record(Outcome::Ok, 200, 3)]);
    assert!((ttft() - 0.2).abs() < 1e-9);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!((ttft() - 0.2).abs() < 1e-9);
    tokio::time::advance(ms(1)).await;
    assert!(all_nan());
}

#[test]
fn a_new_plan_that_acquires_before_the_old_one_lets_go_keeps_the_counts() {
    let metrics = new_metrics(&["team"]);
    let old = plain("p", "t", 1);
    let old_held = armed(&metrics, &old, NOON);
    let gone = armed(&metrics, &plain("gone", "t2", 1), NOON);
    burst(&old_held, &old, [record(Outcome::Ok, 200, 3)]);
    let new = edited(("p", "t", 1), |probe, target, step| {
        probe.every = Duration::from_mins(1);
        target.url = "https://other.example/v1".parse().unwrap();
        step.slo.ttft = Some(ms(500));
    });
    let new_held = metrics.acquire(&new);
    burst(&old_held, &old, [record(Outcome::Ok, 200, 3)]);
    drop((old_held, gone));
    let text_now = scrape(&metrics);
    check(
        &text_now,
        &[
            ("requests_total", &[], 2.0),
            ("bursts_total", &[], 2.0),
            ("schedule_lag_seconds_count", &[], 2.0),
            ("interval_seconds", &[], 60.0),
            ("slo_limit_seconds", &["ttft"], 0.5),
            ("burst_armed_timestamp_seconds", &[], NOON),
            ("target_info", &["host=\"other.example\""], 1.0),
        ],
    );
    assert!(!text_now.contains("gone") && !text_now.contains("t2"));

    let in_flight = new_held.in_flight();
    drop(new_held);
    in_flight.fetch_add(1, Ordering::Relaxed);
    let nothing = scrape(&metrics);
    assert!(
        !nothing.contains("probe=") && !nothing.contains("target="),
        "{nothing}"
    );
    let again = metrics.acquire(&new);
    check(
        &scrape(&metrics),
        &[("requests_total", &[], 0.0), ("requests_in_flight", &[], 0.0)],
    );
    drop(again);
}

#[test]
fn names_that_join_to_the_same_text_are_different_series() {
    let metrics = new_metrics(&[]);
    let (left, right) = (plain("ab", "c", 1), plain("a", "bc", 1));
    let held = [&left, &right].map(|series| metrics.acquire(series));
    burst(&held[0], &left, [record(Outcome::Ok, 200, 3)]);
    check(
        &scrape(&metrics),
        &[
            ("requests_total", &["probe=\"ab\""], 1.0),
            ("requests_total", &["probe=\"a\""], 0.0),
        ],
    );
}

#[test]
fn a_scrape_never_sees_half_a_request() {
    let metrics = new_metrics(&[]);
    let series = plain("p", "t", 1);
    let held = metrics.acquire(&series);
    let outcomes = [
        Outcome::Ok,
        Outcome::Failed(Failure::Truncated),
        Outcome::Invalid(Invalid::Cancelled),
    ];
    let requests = outcomes.map(|outcome| judged(&series, record(outcome, 200, 3)));
    std::thread::scope(|scope| {
        for request in &requests {
            let held = held.clone();
            scope.spawn(move || (0..20_000).for_each(|_| held.request(request, NOON)));
        }
        let mut seen = 0.0;
        while seen < 60_000.0 {
            let text = scrape(&metrics);
            let [all, failed, invalid] = [
                "requests_total",
                "request_failures_total",
                "invalid_requests_total",
            ]
            .map(|name| sum(&text, &format!("llm_probe_{name}")));
            let ok = value(&text, "llm_probe_request_duration_seconds_count", &[]).unwrap();
            seen = all;
            assert_eq!(all.to_bits(), (ok + failed + invalid).to_bits());
            let succeeded = value(&text, "llm_probe_slo_good_requests_total", &["success"]).unwrap();
            assert_eq!(ok.to_bits(), succeeded.to_bits());
            let ttft = |suffix, labels: &[&str]| {
                value(
                    &text,
                    &format!("llm_probe_time_to_first_token_seconds_{suffix}"),
                    labels,
                )
                .unwrap()
            };
            assert_eq!(ttft("bucket", &["+Inf"]).to_bits(), ttft("count", &[]).to_bits());
        }
    });
    check(&scrape(&metrics), &[("requests_total", &[], 60_000.0)]);
}

#[tokio::test]
async fn the_table_is_what_is_exported() {
    let metrics = new_metrics(&["team"]);
    let guarded = "targets: [{ name: t, url: 'http://a/v1', api: openai_chat, model: m, oauth2: { client_id: i, client_secret_env: PATH, token_url: 'http://a/token' }, budget: { requests: 9, per: day }, busy: { url: 'http://a/metrics', skip_when: ['a > 1'] } }]\nprobes: [{ name: p }]\non_demand: [{ name: o, url: 'http://b.test/v1', probes: [p], target: { api: openai_chat, model: m } }]\n";
    let plan = crate::config::parse(guarded, "probes.yaml", std::path::Path::new("")).unwrap();
    metrics.guarded_by(
        Protection::default()
            .next(&plan, &tokio::runtime::Handle::current())
            .unwrap(),
    );
    metrics.allowed(plan.on_demand());
    metrics.web_config_read(true);
    metrics.listed(&[Listing {
        name: Name::new("fleet").unwrap(),
        source: ListSource::Files(Vec::new()),
        targets: 1,
    }]);
    let held = exercise(&metrics, &rich("p", "t", 1));
    let mut last = Arc::unwrap_or_clone(burst(&held, &rich("p", "t", 1), [record(Outcome::Ok, 200, 11)]));
    let usual = Medians {
        ttft: Some(Seconds::new(0.2)),
        itl: Some(Seconds::new(0.01)),
        ..Medians::default()
    };
    let mut baseline = Baseline::default();
    for hour in 0..24 {
        baseline.learn(usual, f64::from(hour) * 3600.0);
    }
    last.diagnosis = Some(diagnose(Load::Users(1), &last.observed, None, true, &baseline));
    held.burst_ended(&Arc::new(last), Instant::now());
    let mut searches = Vec::new();
    for load in [Load::Users(8), Load::Rate(Rate::new(8.0).unwrap())] {
        let series = searching(load);
        let searching = metrics.acquire(&series);
        let capacity = Capacity {
            meets: Some(load),
            misses: Some(load),
            ..Arc::unwrap_or_clone(found(None, None, End::Found))
        };
        searching.searched(&Arc::new(capacity), Instant::now());
        searches.push(searching);
    }
    let collected = metrics.collected();
    for family in table() {
        let exposed = collected.family(family);
        assert!(!exposed.samples.is_empty(), "{}", family.name);
        let scope: Vec<_> = match family.scope_labels() {
            Some(labels) => labels.to_vec(),
            None => SERIES_LABELS
                .iter()
                .copied()
                .filter(|label| *label != "rate")
                .chain(["team"])
                .collect(),
        };
        let expected: Vec<_> = scope.into_iter().chain(family.labels.iter().copied()).collect();
        for sample in &exposed.samples {
            let of_load = |name| if name == "rate" { "concurrency" } else { name };
            let labels: Vec<_> = sample.labels().map(|(name, _)| of_load(name)).collect();
            assert_eq!(labels, expected, "{}", family.name);
            match (family.kind, sample.value) {
                (Kind::Histogram(bounds), Value::Histogram(histogram)) => {
                    assert_eq!(histogram.bounds(), bounds, "{}", family.name);
                }
                (Kind::Counter | Kind::Gauge, Value::Number(_)) => {}
                (kind, value) => panic!("{}: {kind:?} {value:?}", family.name),
            }
        }
    }
    drop((held, searches));
}

#[test]
fn the_process_is_described_by_the_crate_prometheus() {
    let mut theirs = ProcessCollector::for_self().collect();
    // It reads that where a service may not.
    theirs.retain(|family| family.name() != "process_start_time_seconds");
    let ours = table().filter(|family| matches!(family.scope, families::Scope::Process));
    let ours: BTreeMap<_, _> = ours.map(|family| (family.name, family)).collect();
    assert_eq!(ours.len(), theirs.len());
    for family in theirs {
        let ours = ours[family.name()];
        assert_eq!(family.help(), ours.help);
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        assert_eq!(kind, ours.kind.as_str(), "{}", ours.name);
    }
}

/// What `promtool check metrics` finds fault with.
#[test]
fn names_follow_the_rules_of_prometheus() {
    for family in table() {
        let name = family.name;
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        for reserved in [
            "_bucket",
            "_count",
            "_sum",
            "_info_total",
            "_gauge",
            "_counter",
            "_histogram",
            "_created",
        ] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        for unit in [
            "milliseconds",
            "minutes",
            "hours",
            "percent",
            "kilobytes",
            "ms",
            "sec",
            "usd",
        ] {
            assert!(
                !name.split('_').any(|word| word == unit),
                "{name}: not a base unit"
            );
        }
        if matches!(family.kind, Kind::Histogram(_)) || name.contains("timestamp") {
            assert!(name.ends_with("_seconds"), "{name}");
        }
        let own = name.strip_prefix("llm_probe_").is_some() != name.starts_with("process_");
        assert!(own, "{name}");
        assert!(
            family.help.ends_with('.') && !family.help.contains('\n'),
            "{name}"
        );
        assert!(
            family
                .labels
                .iter()
                .all(|label| !["le", "quantile", "job", "instance"].contains(label)),
            "{name}"
        );
    }
}

#[test]
fn the_table_is_listed_for_people() {
    let markdown = markdown_table();
    assert_eq!(markdown.lines().count(), table().count() + 2);
    assert!(
        markdown.lines().all(|line| line.matches('|').count() == 6),
        "{markdown}"
    );
    let aligned = aligned_table();
    let start = aligned.lines().next().unwrap().find("help").unwrap();
    for (line, family) in aligned.lines().skip(1).zip(table()) {
        assert_eq!(line.split_at(start).1, family.help);
    }
    let reserved: Vec<_> = reserved_labels().collect();
    for label in ["probe", "le", "reason", "phase", "slo", "alert", "stat", "code"] {
        assert!(reserved.contains(&label), "{label}");
    }
}

#[test]
fn the_configuration_knows_every_family() {
    let names = |of: fn(&&Family) -> bool| {
        let mut names: Vec<_> = table().filter(of).map(|family| family.name).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(|_| true), FAMILIES);
    assert_eq!(
        names(|family| matches!(family.kind, Kind::Histogram(_))),
        HISTOGRAMS
    );
}

#[test]
fn families_are_left_out_and_have_other_buckets() {
    const TTFT: &str = "llm_probe_time_to_first_token_seconds";
    let exposition = Exposition {
        disable: [
            "llm_probe_request_phase_seconds".into(),
            "process_open_fds".into(),
        ]
        .into(),
        buckets: [(TTFT.to_owned(), vec![0.5, 2.0])].into(),
        ..Exposition::default()
    };
    let metrics = Metrics::new(&[], &exposition);
    let held = exercise(&metrics, &rich("p", "t", 1));
    let text = scrape(&metrics);
    assert!(!text.contains("request_phase") && !text.contains("process_open_fds"));
    let buckets = text.lines().filter_map(|line| {
        let (labels, count) = line
            .strip_prefix(TTFT)?
            .strip_prefix("_bucket")?
            .split_once("le=")?
            .1
            .split_once("} ")?;
        Some((labels, count))
    });
    // 200, 300 and 600 ms, and two minutes.
    let expected = [("\"0.5\"", "2"), ("\"2.0\"", "3"), ("\"+Inf\"", "4")];
    assert_eq!(buckets.collect::<Vec<_>>(), expected);
    let all = new_metrics(&[]);
    let also_held = exercise(&all, &rich("p", "t", 1));
    // Six phases of ten samples, one gauge, and 25 bounds.
    assert_eq!(all.samples() - metrics.samples(), 60 + 1 + 25);
    drop((held, also_held));
}

#[test]
fn the_configuration_reserves_every_label_of_the_families() {
    let mut missing: Vec<_> = reserved_labels()
        .filter(|label| !crate::config::plan::RESERVED_LABELS.contains(label))
        .collect();
    missing.dedup();
    assert!(missing.is_empty(), "{missing:?}");
}
