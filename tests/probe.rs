//! Bursts on demand, as the blackbox exporter answers them, at a simulated server that knows what it was asked.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::{fs, io::Write, net::TcpStream, thread};

use components::Prometheus;
use llm_probe_exporter::sim::{Settings, journal::End};
use process::{Answer, Exporter, Samples, eventually, get};
use simulator::Simulator;

/// Bursts that the schedule fires only at New Year.
fn config(simulator: &Simulator, probes: &str) -> String {
    format!(
        "targets: [{{ name: target, url: 'http://{}/v1', api: openai_chat, model: simulated, \
         price: {{ input_per_million: 1, output_per_million: 1 }} }}]\n\
         defaults: {{ prompt: {{ text: Say something }}, max_tokens: 4, cron: '0 0 1 1 *' }}\nprobes:\n{probes}",
        simulator.address
    )
}

fn simulator() -> Simulator {
    Simulator::start(Settings {
        slots: Some(64),
        ..Settings::default()
    })
}

fn start(config: &str) -> Exporter {
    Exporter::start(config, &["--web.enable-probe", "--web.enable-lifecycle"])
}

fn ask(exporter: &Exporter, probe: &str) -> Answer {
    exporter.get(&format!("/probe?target=target&probe={probe}"))
}

/// Asks with a scraper's patience of so many seconds.
fn ask_patiently(exporter: &Exporter, probe: &str, seconds: &str) -> Answer {
    let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {seconds}\r\n");
    get(
        &exporter.address,
        &format!("/probe?target=target&probe={probe}"),
        &header,
    )
    .unwrap()
}

fn samples(answer: &Answer) -> Samples {
    assert_eq!(answer.status, 200, "{}", answer.body);
    Samples::parse(&answer.body)
}

/// Asserts that it was refused for this reason.
#[track_caller]
fn refused(answer: &Answer, reason: &str) {
    let samples = samples(answer);
    let label = format!("reason=\"{reason}\"");
    assert_eq!(samples.count("probe_success", &[]), 0);
    assert_eq!(samples.count("probe_refused", &[&*label]), 1, "{}", answer.body);
}

/// Requests that the server is working on.
fn running(simulator: &Simulator) -> u64 {
    let exposition = get(&simulator.address.to_string(), "/metrics", "").unwrap();
    Samples::parse(&exposition.body).count("vllm:num_requests_running", &[])
}

#[test]
fn an_answer_is_of_one_burst_and_only_what_it_used_is_in_the_books() {
    let simulator = simulator();
    let probes = "  - { name: three, requests: 3, warmup: 1, budget: { requests: 100, per: day } }\n";
    let exporter = start(&config(&simulator, probes));
    for bursts in 1..=2 {
        let answer = ask(&exporter, "three");
        assert!(
            answer.head.contains("text/plain; version=0.0.4"),
            "{}",
            answer.head
        );
        let burst = samples(&answer);
        assert_eq!(burst.count("probe_success", &[]), 1, "{}", answer.body);
        assert!(burst.sum("probe_duration_seconds", &[]) > 0.0);
        assert_eq!(burst.find("probe_refused", &[]).count(), 0);
        assert_eq!(burst.count("requests_total", &["probe=\"three\""]), 3);
        assert_eq!(burst.count("time_to_first_token_seconds_count", &[]), 3);
        assert!(burst.sum("goodput_ratio", &[]) > 0.99);
        assert!(burst.find("process_open_fds", &[]).next().is_none());

        let standing = exporter.metrics();
        for untouched in [
            "requests_total",
            "bursts_total",
            "time_to_first_token_seconds_count",
            "slo_requests_total",
        ] {
            assert_eq!(standing.count(untouched, &[]), 0, "{untouched}");
        }
        let tokens = eventually("what it used is in the books", || {
            let standing = exporter.metrics();
            let tokens = standing.count("output_tokens_total", &[]);
            (tokens == bursts * burst.count("output_tokens_total", &[])).then_some(tokens)
        });
        assert_eq!(tokens, bursts * 4 * 4);
        let standing = exporter.metrics();
        assert!(standing.sum("cost_dollars_total", &[]) > 0.0);
        let used = standing.count("budget_used", &["probe=\"three\"", "unit=\"requests\""]);
        assert_eq!(used, bursts * 4);
    }
    assert_eq!(simulator.requests().len(), 8);
}

#[test]
fn it_answers_in_every_format() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, "  - { name: one }\n"));
    let path = "/probe?target=target&probe=one";
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    let answer = get(&exporter.address, path, accept).unwrap();
    assert!(
        answer.head.contains("application/openmetrics-text"),
        "{}",
        answer.head
    );
    assert!(
        answer.body.contains("\nprobe_success 1\n") && answer.body.ends_with("# EOF\n"),
        "{}",
        answer.body
    );
    let head = "HEAD /probe?target=target&probe=one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(&exporter.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.contains(" 405 "), "{answer}");
    assert_eq!(simulator.requests().len(), 1);
}

#[test]
fn what_misses_its_objective_is_no_success() {
    let simulator = simulator();
    let slow = "  - { name: slow, requests: 2, slo: { ttft: 1us, objective: 50% } }\n";
    let exporter = start(&config(&simulator, slow));
    let answer = ask(&exporter, "slow");
    let burst = samples(&answer);
    assert_eq!(burst.count("probe_success", &[]), 0);
    assert_eq!(burst.find("probe_refused", &[]).count(), 0, "{}", answer.body);
    assert_eq!(burst.count("slo_requests_total", &["slo=\"ttft\""]), 2);
}

#[test]
fn it_obeys_budgets_the_kill_switch_and_places() {
    let simulator = simulator();
    let probes = "  - { name: thrifty, requests: 2, budget: { requests: 3, per: day } }\n\
                  \x20 - { name: long, concurrency: 2, max_tokens: 6000 }\n";
    let exporter = start(&config(&simulator, probes));
    assert_eq!(samples(&ask(&exporter, "thrifty")).count("probe_success", &[]), 1);
    refused(&ask(&exporter, "thrifty"), "budget");
    assert_eq!(simulator.requests().len(), 2);

    assert_eq!(exporter.post("/-/pause").status, 200);
    refused(&ask(&exporter, "long"), "paused");
    assert_eq!(exporter.post("/-/resume").status, 200);

    // It is cut by the kill switch, and others wait for their turn only as long as they may.
    thread::scope(|scope| {
        let long = scope.spawn(|| ask(&exporter, "long"));
        eventually("the long one runs", || (running(&simulator) == 2).then_some(()));
        refused(&ask_patiently(&exporter, "thrifty", "1"), "target_busy");
        assert_eq!(exporter.post("/-/pause").status, 200);
        refused(&long.join().unwrap(), "paused");
    });
    let cut =
        |record: &&std::sync::Arc<llm_probe_exporter::sim::journal::Record>| record.end == End::Disconnected;
    eventually("the server saw them go", || {
        (simulator.requests().iter().filter(cut).count() == 2).then_some(())
    });
}

#[test]
fn a_burst_ends_with_the_patience_of_the_scraper_and_when_it_has_gone() {
    let simulator = simulator();
    let exporter = start(&config(
        &simulator,
        "  - { name: long, concurrency: 2, max_tokens: 6000 }\n",
    ));
    let gone = |count: usize| {
        eventually("the server saw them go", || {
            let requests = simulator.requests();
            let gone = requests.iter().filter(|request| request.end == End::Disconnected);
            (gone.count() == count).then_some(())
        });
    };
    let answer = ask_patiently(&exporter, "long", "2");
    refused(&answer, "deadline");
    assert!(samples(&answer).sum("probe_duration_seconds", &[]) >= 1.5);
    assert_eq!(
        samples(&answer).count("invalid_requests_total", &["reason=\"cancelled\""]),
        2,
        "{}",
        answer.body
    );
    gone(2);

    let mut stream = TcpStream::connect(&exporter.address).unwrap();
    write!(
        stream,
        "GET /probe?target=target&probe=long HTTP/1.1\r\nHost: {}\r\n\r\n",
        exporter.address
    )
    .unwrap();
    eventually("it runs", || (running(&simulator) == 2).then_some(()));
    drop(stream);
    gone(4);
}

#[test]
fn more_than_a_few_at_once_are_asked_to_come_again() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, "  - { name: long, max_tokens: 6000 }\n"));
    let answers: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| ask_patiently(&exporter, "long", "4")))
            .collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let too_many: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(too_many.len(), 4);
    assert!(
        too_many
            .iter()
            .all(|answer| answer.head.contains("retry-after: "))
    );
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 16);
}

#[test]
fn nothing_is_sent_for_whoever_asks_for_what_is_not_configured() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, "  - { name: one }\n"));
    for (query, said) in [
        ("", "`probe=NAME`"),
        ("?probe=one", "`target=NAME`"),
        ("?target=target", "`probe=NAME`"),
        ("?target=target&probe=two", "there are `one`"),
        ("?target=other&probe=one", "it asks `target`"),
        ("?target=target&target=target&probe=one", "given twice"),
        ("?target=target%0d%0aHost:+evil&probe=one", "does not ask"),
        ("?target=target&probe=one&debug=1", "`debug`"),
    ] {
        let answer = exporter.get(&format!("/probe{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(said), "{query}: {}", answer.body);
    }
    for patience in ["ten", "-1", "NaN", "0.5"] {
        assert_eq!(
            ask_patiently(&exporter, "one", patience).status,
            400,
            "{patience}"
        );
    }
    let off = Exporter::start(&config(&simulator, "  - { name: one }\n"), &[]);
    let answer = ask(&off, "one");
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("--web.enable-probe"), "{}", answer.body);
    assert_eq!(simulator.requests().len(), 0);
}

/// An allow list: the simulator by its address and as `localhost`, which may be near or not; and everything of a name that
/// nobody has.
fn allowing(simulator: &Simulator, near: &str) -> String {
    let port = simulator.address.port();
    let entry = |name: &str, url: &str, private: &str| {
        format!(
            "  - {{ name: {name}, url: '{url}', private: {private}, probes: [one, ladder], target: {{ api: openai_chat, \
             model: simulated, price: {{ input_per_million: 1, output_per_million: 1 }}, \
             budget: {{ requests: 20, per: day }} }} }}\n"
        )
    };
    format!(
        "{}on_demand:\n{}{}{}",
        config(
            simulator,
            "  - { name: one, requests: 2 }\n  - { name: ladder, ladder: [{ users: 1 }, { users: 2 }], settle: 10ms }\n  - { name: other }\n"
        ),
        entry("here", &format!("http://127.0.0.1:{port}/v1"), "allow"),
        entry("named", &format!("http://localhost:{port}/v1"), near),
        entry("far", "https://*.probes.invalid/v1", "refuse"),
    )
}

fn at(exporter: &Exporter, url: &str, probe: &str) -> Answer {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    exporter.get(&format!("/probe?target={url}&probe={probe}"))
}

#[test]
fn urls_that_the_configuration_allows_are_asked_and_leave_no_series() {
    let simulator = simulator();
    let exporter = start(&allowing(&simulator, "allow"));
    let before = exporter.metrics();
    let url = format!("http://127.0.0.1:{}/v1", simulator.address.port());
    let answer = at(&exporter, &url, "one");
    let burst = samples(&answer);
    assert_eq!(burst.count("probe_success", &[]), 1, "{}", answer.body);
    let target = format!("target=\"{url}\"");
    assert_eq!(burst.count("requests_total", &[&*target, "probe=\"one\""]), 2);
    let named = format!("http://localhost:{}/v1/", simulator.address.port());
    assert_eq!(
        samples(&at(&exporter, &named, "ladder")).count("probe_success", &[]),
        1
    );
    assert_eq!(simulator.requests().len(), 5);

    let used = |samples: &Samples, entry: &str, unit: &str| {
        let labels = [format!("entry=\"{entry}\""), format!("unit=\"{unit}\"")];
        let labels = labels.each_ref().map(String::as_str);
        samples.sum("on_demand_used_total", &labels)
    };
    let after = exporter.wait_for("what it used is counted", |samples| {
        used(samples, "named", "requests") > 2.5
    });
    assert_eq!(used(&before, "here", "requests").to_string(), "0");
    assert_eq!(used(&after, "here", "requests").to_string(), "2");
    assert_eq!(used(&after, "here", "output_tokens").to_string(), "8");
    assert!(used(&after, "here", "dollars") > 0.0);
    assert_eq!(
        after.count("budget_used", &["target=\"here\"", "unit=\"requests\""]),
        2
    );
    assert_eq!(after.find("requests_total", &[&*target]).count(), 0);
    assert_eq!(
        after.find("requests_total", &[]).count(),
        before.find("requests_total", &[]).count()
    );

    // Its budget is one, whichever URL is asked for.
    let mut deeper = 0;
    let last = loop {
        deeper += 1;
        let answer = at(&exporter, &format!("{url}/{deeper}"), "one");
        if samples(&answer)
            .find("probe_refused", &["reason=\"budget\""])
            .count()
            > 0
        {
            break answer;
        }
    };
    refused(&last, "budget");
    assert_eq!(deeper, 10);

    assert_eq!(exporter.post("/-/pause").status, 200);
    refused(&at(&exporter, &named, "one"), "paused");
}

#[test]
fn no_url_is_asked_that_is_not_allowed_nor_one_that_leads_near() {
    let simulator = simulator();
    let exporter = start(&allowing(&simulator, "refuse"));
    let port = simulator.address.port();
    for (url, status, said) in [
        (format!("http://localhost:{port}/v1"), 403, "no public address"),
        (format!("http://127.0.0.1:{port}"), 403, "no entry of `on_demand`"),
        (
            format!("http://127.0.0.1:{port}/v10"),
            403,
            "no entry of `on_demand`",
        ),
        (
            format!("https://127.0.0.1:{port}/v1"),
            403,
            "no entry of `on_demand`",
        ),
        (
            format!("http://127.0.0.2:{port}/v1"),
            403,
            "no entry of `on_demand`",
        ),
        (format!("http://[::1]:{port}/v1"), 403, "no entry of `on_demand`"),
        (
            "http://169.254.169.254/latest/meta-data".to_owned(),
            403,
            "no entry",
        ),
        (format!("http://127.0.0.1:{port}/v1/../admin"), 400, "`.` or `..`"),
        (format!("http://127.0.0.1:{port}/v1/%2e%2e/admin"), 400, "encoded"),
        (format!("http://127.0.0.1:{port}/v1?x=1"), 400, "query"),
        (format!("http://user@127.0.0.1:{port}/v1"), 400, "user"),
        (format!("http://127.0.0.1:{port}@evil.test/v1"), 400, "user"),
        (format!("http://127.0.0.1:{port}/v1\r\nX: y"), 400, "letters"),
        ("file:///etc/passwd".to_owned(), 400, "neither http nor https"),
        (
            format!("http://127.0.0.1:{port}/v1/{}", "a".repeat(200)),
            400,
            "128",
        ),
    ] {
        let answer = at(&exporter, &url, "one");
        assert_eq!(answer.status, status, "{url}: {}", answer.body);
        assert!(answer.body.contains(said), "{url}: {}", answer.body);
    }
    let here = format!("http://127.0.0.1:{port}/v1");
    for (probe, said) in [
        ("other", "it lets `ladder`, `one`"),
        ("none", "it lets `ladder`, `one`"),
    ] {
        let answer = at(&exporter, &here, probe);
        assert_eq!(
            (answer.status, answer.body.contains(said)),
            (403, true),
            "{}",
            answer.body
        );
    }
    // A name that nobody has is a failure like any other.
    let answer = at(&exporter, "https://a.probes.invalid/v1", "one");
    assert_eq!(
        samples(&answer).count("request_failures_total", &["reason=\"dns\""]),
        2,
        "{}",
        answer.body
    );
    assert_eq!(simulator.requests().len(), 0);

    // A reload takes an entry away, and with it what runs.
    exporter.configure(&config(&simulator, "  - { name: one }\n"));
    assert_eq!(exporter.post("/-/reload").status, 200);
    assert_eq!(at(&exporter, &here, "one").status, 403);
}

#[test]
fn its_log_is_shown_to_whoever_wants_it() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, "  - { name: two, requests: 2 }\n"));
    let answer = exporter.get("/probe?target=target&probe=two&debug=true");
    let requests = answer
        .body
        .lines()
        .filter(|line| line.contains("message=request"));
    assert_eq!(requests.count(), 2, "{}", answer.body);
    assert!(
        answer.body.contains("ttft_p50_seconds=") && answer.body.contains("\nprobe_success 1\n"),
        "{}",
        answer.body
    );
}

#[test]
fn what_a_reload_brings_can_be_asked_for_and_what_it_takes_cannot() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, "  - { name: long, max_tokens: 6000 }\n"));
    thread::scope(|scope| {
        let long = scope.spawn(|| ask(&exporter, "long"));
        eventually("it runs", || (running(&simulator) == 1).then_some(()));
        exporter.configure(&config(&simulator, "  - { name: new }\n"));
        assert_eq!(exporter.post("/-/reload").status, 200);
        refused(&long.join().unwrap(), "drain");
    });
    assert_eq!(ask(&exporter, "long").status, 400);
    assert_eq!(samples(&ask(&exporter, "new")).count("probe_success", &[]), 1);
}

#[test]
#[ignore = "needs Prometheus"]
fn real_prometheus_scrapes_bursts_by_relabelling() {
    let simulator = simulator();
    let exporter = start(&config(&simulator, "  - { name: one }\n"));
    let shipped = fs::read_to_string("config/prometheus/on-demand.yml").unwrap();
    let scrapes = shipped.split_once("scrape_configs:\n").unwrap().1;
    let scrapes = scrapes
        .replace("localhost:9850", &exporter.address)
        .replace("granite", "target")
        .replace("single-user", "one")
        .replace("scrape_interval: 5m", "scrape_interval: 2s")
        .replace("scrape_timeout: 2m", "scrape_timeout: 2s");
    let config = format!("scrape_configs:\n{scrapes}");
    for variable in ["LLM_PROBE_TEST_PROMETHEUS", "LLM_PROBE_TEST_PROMETHEUS3"] {
        let prometheus = Prometheus::configured(variable, &config, &[]);
        eventually("bursts are scraped", || {
            prometheus.query("probe_success{target=\"target\", probe=\"one\"} == 1")
        });
        let query = "llm_probe_requests_total{target=\"target\", instance=\"target\"}";
        assert_eq!(prometheus.query(query), Some(1.0));
    }
}
