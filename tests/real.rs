//! The release binary against a real llama.cpp server, scraped by a real Prometheus. Run by `tests/run.sh`.
#![cfg(test)]

#[path = "support/components.rs"]
mod components;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use components::{Llama, Prometheus, component};
use process::{Exporter, Samples, eventually, program};
use rustix::process::Signal;

fn schedule(port: u16) -> String {
    format!(
        "
targets:
  - name: llama
    url: http://127.0.0.1:{port}/v1
    api: openai_chat
    model: smollm2
    body: {{ temperature: 0, ignore_eos: true }}
defaults: {{ prompt: {{ tokens: 24 }}, max_tokens: 12 }}
probes:
  - {{ name: one, every: 8s, requests: 2, slo: {{ ttft: 10s, objective: 90% }} }}
  - {{ name: eight, every: 8s, concurrency: 8, slo: {{ ttft: 1ms, objective: 90% }} }}
"
    )
}

/// The exporter's metrics and the server's own at a moment when nothing is under way.
fn settled(exporter: &Exporter, llama: &Llama) -> (Samples, Samples) {
    eventually("nothing is under way", || {
        let before = exporter.metrics();
        let server = llama.metrics();
        let after = exporter.metrics();
        let bursts = |samples: &Samples| samples.count("bursts_total", &[]);
        let idle = |samples: &Samples| samples.count("requests_in_flight", &[]) == 0;
        (idle(&before) && idle(&after) && bursts(&before) == bursts(&after)).then_some((after, server))
    })
}

/// The mean of a histogram of one probe.
fn mean(samples: &Samples, family: &str, probe: &str) -> f64 {
    samples.sum(&format!("{family}_sum"), &[probe]) / samples.sum(&format!("{family}_count"), &[probe])
}

#[test]
#[ignore = "needs llama.cpp and Prometheus: run tests/run.sh"]
fn real_counts_agree_between_server_exporter_and_prometheus() {
    let llama = Llama::start(0, 1);
    let exporter = Exporter::start(&schedule(llama.port), &[]);
    let prometheus = Prometheus::start(&exporter.address);
    // Prometheus' scrape is to be the first.
    eventually("the schedule is armed", || {
        exporter.process.log().contains("schedule armed").then_some(())
    });
    let (one, eight) = ("probe=\"one\"", "probe=\"eight\"");
    exporter.wait_for("two intervals have passed", |samples| {
        samples.count("bursts_total", &[one]) >= 3 && samples.count("bursts_total", &[eight]) >= 3
    });
    let (samples, server) = settled(&exporter, &llama);
    let count = |family: &str, labels: &[&str]| samples.count(family, labels);

    // Every request was one of the server's, token by token.
    let requests = count("requests_total", &[]);
    assert!(requests >= 30, "{requests}");
    assert_eq!(
        count("request_failures_total", &[]) + count("invalid_requests_total", &[]),
        0
    );
    assert_eq!(count("token_counts_total", &["source=\"usage\""]), requests + 2);
    assert_eq!(
        count("output_tokens_total", &[]),
        server.count("llamacpp:tokens_predicted_total", &[])
    );
    // Two requests of one token each showed how long its words are.
    assert_eq!(count("output_tokens_total", &[]), requests * 12 + 2);
    let prompt = [
        "llamacpp:prompt_tokens_total",
        "llamacpp:prompt_tokens_cached_total",
    ];
    let prompt: u64 = prompt.iter().map(|counter| server.count(counter, &[])).sum();
    assert_eq!(count("prompt_tokens_total", &[]), prompt);
    for histogram in ["time_to_first_token", "inter_token_latency", "request_duration"] {
        assert_eq!(
            count(&format!("{histogram}_seconds_count"), &[]),
            requests,
            "{histogram}"
        );
    }

    // One slot: eight users wait for one another.
    let [alone, crowded] = [one, eight].map(|probe| mean(&samples, "time_to_first_token_seconds", probe));
    assert!(crowded > 2.0 * alone, "TTFT of one {alone}, of eight {crowded}");
    let good = |probe| count("slo_good_requests_total", &[probe, "slo=\"goodput\""]);
    assert_eq!(good(one), count("requests_total", &[one]));
    assert_eq!(good(eight), 0);

    // Prometheus stored the same numbers, and saw the first burst rise from zero.
    for family in [
        "requests_total",
        "output_tokens_total",
        "time_to_first_token_seconds_count",
    ] {
        eventually(family, || {
            let stored = prometheus.query(&format!("sum(llm_probe_{family})"))?.to_string();
            (stored == exporter.metrics().count(family, &[]).to_string()).then_some(())
        });
    }
    let number = |promql| prometheus.query(promql).map(|number| number.to_string());
    assert_eq!(number("up{job=\"llm-probe-exporter\"}").as_deref(), Some("1"));
    assert_eq!(
        number("min_over_time(sum(llm_probe_requests_total)[5m:1s])").as_deref(),
        Some("0")
    );
}

#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_server_dies_in_mid_stream_and_comes_back() {
    let mut llama = Llama::start(0, 4);
    let port = llama.port;
    let config = format!(
        "
targets:
  - {{ name: llama, url: 'http://127.0.0.1:{port}/v1', api: openai_chat, model: smollm2, body: {{ ignore_eos: true }} }}
probes:
  - {{ name: long, every: 3s, concurrency: 4, prompt: {{ tokens: 16 }}, max_tokens: 600 }}
"
    );
    let exporter = Exporter::start(&config, &[]);
    let pid = exporter
        .metrics()
        .sum("process_start_time_seconds", &[])
        .to_bits();
    exporter.wait_for("requests are under way", |samples| {
        samples.count("requests_in_flight", &[]) == 4
    });
    eventually("the server generates for all four", || {
        (llama.metrics().count("llamacpp:requests_processing", &[]) == 4).then_some(())
    });
    // Into the stream: four prompts of 16 tokens take far less than this, also on a busy machine; 600 tokens take more.
    std::thread::sleep(std::time::Duration::from_secs(5));
    llama.process.signal(Signal::KILL);
    llama.process.wait();
    let failures = |samples: &Samples, reason: &str| samples.count("request_failures_total", &[reason]);
    let lost = exporter.wait_for("the loss is noticed", |samples| failures(samples, "reason=") >= 4);
    assert_eq!(failures(&lost, "reason=\"connection_lost\""), 4);
    assert_eq!(
        lost.count("time_to_first_token_seconds_count", &[]),
        4,
        "they had their first token"
    );
    exporter.wait_for("nobody listens", |samples| {
        failures(samples, "reason=\"connect_refused\"") >= 4
    });

    let _again = Llama::start(port, 4);
    let back = exporter.wait_for("it is back", |samples| {
        samples.count("request_duration_seconds_count", &[]) >= 4
    });
    assert_eq!(
        back.count("requests_total", &[]),
        back.count("request_failures_total", &[]) + back.count("request_duration_seconds_count", &[])
    );
    assert_eq!(
        back.sum("process_start_time_seconds", &[]).to_bits(),
        pid,
        "without a restart"
    );
}

/// What the kill switch cuts off, nobody generates any more.
#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_cancelled_requests_free_the_slot() {
    const ASKED: u64 = 4 * 1500;
    let llama = Llama::start(0, 4);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pause");
    let config = format!(
        "
targets:
  - {{ name: llama, url: 'http://127.0.0.1:{}/v1', api: openai_chat, model: smollm2, body: {{ ignore_eos: true }} }}
probes:
  - {{ name: long, every: 1s, concurrency: 4, prompt: {{ tokens: 16 }}, max_tokens: 1500 }}
",
        llama.port
    );
    let exporter = Exporter::start(&config, &[&format!("--pause.file={}", file.display())]);
    let server = |family: &str| llama.metrics().count(&format!("llamacpp:{family}"), &[]);
    exporter.wait_for("requests are under way", |samples| {
        samples.count("requests_in_flight", &[]) == 4
    });
    eventually("the server generates for all four", || {
        (server("requests_processing") == 4).then_some(())
    });
    fs::write(&file, "").unwrap();
    eventually("the slots are free", || {
        (server("requests_processing") == 0).then_some(())
    });
    let generated = server("tokens_predicted_total");
    assert!(generated < ASKED / 2, "{generated} of {ASKED} tokens");
    let samples = exporter.wait_for("the burst is over", |samples| {
        samples.count("requests_in_flight", &[]) == 0
    });
    assert_eq!(
        samples.count("invalid_requests_total", &["reason=\"cancelled\""]),
        4
    );
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(server("tokens_predicted_total"), generated, "it goes on");
}

#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_once_prints_a_table() {
    let llama = Llama::start(0, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, schedule(llama.port)).unwrap();
    let config = format!("--config.file={}", file.display());
    let output = process::run(&["once", &config]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    // The eight have an objective that nobody meets.
    assert_eq!(
        output.status.code(),
        Some(3),
        "{table}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for expected in [
        "time to first token",
        "inter-token latency",
        "goodput: 100 %",
        "goodput: 0 %",
        "8 users",
        "MISSED",
    ] {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
    assert_eq!(process::run(&["once", &config, "one"]).status.code(), Some(0));
}

#[test]
#[ignore = "needs promtool, and the machine for itself: run tests/run.sh"]
fn real_demo_tells_its_story_and_promtool_has_no_finding() {
    let mut demo = program();
    demo.args(["demo", "--web.listen-address=127.0.0.1:0"])
        .stdout(Stdio::null());
    let exporter = Exporter::spawn(&mut demo, tempfile::tempdir().unwrap());
    let (single, fifty) = ("probe=\"single-user\"", "probe=\"fifty-users-judged\"");
    // Those that nobody judges may end a moment later.
    let samples = exporter.wait_for("fifty users have been served, twice", |samples| {
        samples
            .find("goodput_ratio", &["probe=\"fifty-users"])
            .all(|(_, goodput)| !goodput.is_nan())
    });
    let last = |family, probe, stat| samples.sum(family, &[probe, stat]);
    let alone = last("burst_time_to_first_token_seconds", single, "stat=\"p50\"");
    let longest = last("burst_time_to_first_token_seconds", fifty, "stat=\"max\"");
    assert!(
        longest > 100.0 * alone,
        "TTFT of one {alone}, the last of fifty {longest}"
    );
    let itl = |probe| last("burst_inter_token_latency_seconds", probe, "stat=\"p50\"");
    assert!(
        (itl(fifty) / itl(single) - 1.0).abs() < 0.3,
        "ITL of one {}, of fifty {}",
        itl(single),
        itl(fifty)
    );
    assert!(samples.sum("goodput_ratio", &[fifty]) <= 0.04);
    assert_eq!(samples.count("goodput_ratio", &[single]), 1);
    assert_eq!(samples.count("goodput_ratio", &["probe=\"fifty-users\""]), 1);

    let mut promtool = Command::new(component("LLM_PROBE_TEST_PROMTOOL"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(exporter.get("/metrics").body.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

/// The APIs of the llama.cpp server, and the path of the base URL of each.
const APIS: [(&str, &str); 5] = [
    ("openai_chat", "/v1"),
    ("openai_completions", "/v1"),
    ("openai_responses", "/v1"),
    ("anthropic_messages", "/v1"),
    ("llamacpp_completion", ""),
];

/// For each API a probe of its name, one whose prompt does not fit, and one at a path that the server does not
/// know.
fn all_apis(port: u16) -> String {
    let targets = APIS.map(|(api, base)| {
        let fields = format!("api: {api}, model: smollm2, body: {{ temperature: 0, ignore_eos: true }}");
        format!(
            "
  - {{ name: {api}, url: 'http://127.0.0.1:{port}{base}', {fields} }}
  - {{ name: {api}-lost, url: 'http://127.0.0.1:{port}/nowhere{base}', {fields} }}"
        )
    });
    // Nobody learns first how long its words are, as with a prompt of so many tokens.
    let long = "word ".repeat(9000);
    let probes = APIS.map(|(api, _)| {
        format!(
            "
  - {{ name: {api}, targets: [{api}], requests: 3 }}
  - {{ name: {api}-long, targets: [{api}], prompt: {{ text: '{long}' }} }}
  - {{ name: {api}-lost, targets: [{api}-lost] }}"
        )
    });
    format!(
        "
targets:{}
defaults: {{ every: 4s, prompt: {{ text: How does a lighthouse work?, cache: share }}, max_tokens: 12 }}
probes:{}
",
        targets.concat(),
        probes.concat()
    )
}

/// The one burst of a probe, as `once` prints it.
fn once(config: &str, probe: &str, code: i32) -> serde_json::Value {
    let output = process::run(&["once", "--output=json", config, probe]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{probe}: {said}");
    let bursts: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let [burst] = <[_; 1]>::try_from(bursts).unwrap();
    burst
}

#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_server_is_asked_by_each_of_its_apis() {
    let llama = Llama::start(0, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    fs::write(&file, all_apis(llama.port)).unwrap();
    let config = format!("--config.file={}", file.display());
    let mut predicted = 0;
    for (api, _) in APIS {
        let burst = once(&config, api, 0);
        predicted += burst["output_tokens"].as_u64().unwrap();
        assert_eq!(burst["output_tokens"], 36, "{burst}");
        assert_eq!(
            burst["token_sources"],
            serde_json::json!({ "usage": 3 }),
            "{burst}"
        );
        assert_eq!(burst["successes"], 3, "{burst}");
        assert_eq!(
            llama.metrics().count("llamacpp:tokens_predicted_total", &[]),
            predicted,
            "{api}"
        );
    }
    // What is refused generates nothing.
    for (api, _) in APIS {
        for (probe, detail) in [("long", "HTTP 400"), ("lost", "HTTP 404")] {
            let burst = once(&config, &format!("{api}-{probe}"), 3);
            assert_eq!(
                burst["failures"],
                serde_json::json!({ "client_error": 1 }),
                "{burst}"
            );
            assert!(
                burst["first_failure"].as_str().unwrap().contains(detail),
                "{burst}"
            );
        }
    }
    assert_eq!(
        llama.metrics().count("llamacpp:tokens_predicted_total", &[]),
        predicted
    );
}

#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_server_counts_and_times_as_each_of_its_apis_says() {
    let llama = Llama::start(0, 1);
    let exporter = Exporter::start(&all_apis(llama.port), &[]);
    exporter.wait_for("each API was asked", |samples| {
        let asked = |(api, _)| samples.count("bursts_total", &[&format!("probe=\"{api}\"")]) > 0;
        APIS.into_iter().all(asked)
    });
    let (samples, server) = settled(&exporter, &llama);
    let count = |family: &str, labels: &[&str]| samples.count(family, labels);
    let llamas = |counter: &str| server.count(&format!("llamacpp:{counter}_total"), &[]);
    let (predicted, cached) = (llamas("tokens_predicted"), llamas("prompt_tokens_cached"));
    assert_eq!(count("output_tokens_total", &[]), predicted);
    assert_eq!(count("cached_prompt_tokens_total", &[]), cached);
    assert_eq!(
        count("prompt_tokens_total", &[]),
        llamas("prompt_tokens") + cached
    );
    for (api, _) in APIS {
        let probe = format!("probe=\"{api}\"");
        let count = |family: &str, label: &str| count(family, &[&probe, label]);
        let requests = count("requests_total", "");
        assert_eq!(count("request_failures_total", ""), 0, "{api}");
        assert_eq!(count("token_counts_total", "source=\"usage\""), requests, "{api}");
        assert_eq!(count("output_tokens_total", ""), 12 * requests, "{api}");
        // The same text for all; the chats put the model's template around it.
        let prompt = match api {
            "openai_completions" | "llamacpp_completion" => 6,
            _ => 36,
        };
        assert_eq!(count("prompt_tokens_total", ""), prompt * requests, "{api}");
        // llama.cpp says in all its APIs but Anthropic's what it spent.
        let timed = if api == "anthropic_messages" { 0 } else { requests };
        for phase in ["phase=\"prompt\"", "phase=\"decode\""] {
            assert_eq!(count("server_phase_seconds_count", phase), timed, "{api} {phase}");
        }
        // The rest is transport, and waiting for the others in the server's only slot.
        let duration = samples.sum("request_duration_seconds_sum", &[&probe]);
        let spent = samples.sum("server_phase_seconds_sum", &[&probe]);
        assert!(
            spent <= duration && (spent > 0.0) == (timed > 0),
            "{api}: {spent} of {duration}"
        );
    }
}

#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_slots_are_counted() {
    for slots in [1, 4] {
        let llama = Llama::start(0, slots);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("probes.yaml");
        let text = format!(
            "
targets:
  - name: llama
    url: http://127.0.0.1:{}/v1
    api: openai_chat
    model: smollm2
    body: {{ temperature: 0, ignore_eos: true }}
probes:
  - name: ladder
    ladder: [{{ users: 1, requests: 3 }}, {{ users: 50 }}]
    prompt: {{ tokens: 24 }}
    max_tokens: 16
",
            llama.port
        );
        fs::write(&file, text).unwrap();
        let config = format!("--config.file={}", file.display());
        let output = process::run(&["once", "--output=json", &config]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let bursts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let diagnosis = &bursts[1]["diagnosis"];
        println!("{}", diagnosis["sentence"]);
        assert_eq!(diagnosis["cause"], "queue", "{diagnosis}");
        let found = diagnosis["slots"]["slots"].as_u64().unwrap();
        assert!(
            found.abs_diff(slots.into()) <= u64::from(slots > 1),
            "{diagnosis}"
        );
    }
}

#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_server_finds_what_was_said_in_its_cache() {
    let llama = Llama::start(0, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    // More than a hundred tokens.
    let question = "Which of these two lighthouses is older? ".repeat(15);
    let (targets, probes): (Vec<_>, Vec<_>) = APIS
        .iter()
        .map(|(api, base)| {
            let url = format!("http://127.0.0.1:{}{base}", llama.port);
            let fields = format!("api: {api}, model: smollm2, body: {{ temperature: 0, ignore_eos: true }}");
            (
                format!("  - {{ name: {api}, url: '{url}', {fields} }}\n"),
                format!("  - {{ name: {api}, targets: [{api}] }}\n"),
            )
        })
        .unzip();
    let prompt = format!("prompt: {{ turns: ['{question}', 'And why?'] }}, max_tokens: 12");
    let text = format!(
        "targets:\n{}defaults: {{ {prompt} }}\nprobes:\n{}",
        targets.concat(),
        probes.concat()
    );
    fs::write(&file, text).unwrap();
    let config = format!("--config.file={}", file.display());
    for (api, _) in APIS {
        let cached = || llama.metrics().count("llamacpp:prompt_tokens_cached_total", &[]);
        let before = cached();
        let burst = once(&config, api, 0);
        let found = serde_json::json!({ "hit": 1, "miss": 1 });
        assert_eq!(burst["found_in_cache"], found, "{api}: {burst}");
        let (cached, answer) = (cached() - before, burst["output_tokens"].as_u64().unwrap());
        println!("{api}: {cached} cached, answers of {answer} tokens");
        assert!(cached > 100, "{api}: {cached}");
    }
}

/// On a machine that also does the serving, nobody knows how many users it bears; but what is said of it fits together.
#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_capacity_lies_where_the_curve_says() {
    for slots in [1, 4] {
        let llama = Llama::start(0, slots);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("probes.yaml");
        let config = format!("--config.file={}", file.display());
        let once = |slo: &str, args: &[&str]| {
            let probe = format!(
                "{{ name: some, max_tokens: 24, warmup: 1, settle: 100ms, slo: {{ {slo}, objective: 90% }} }}"
            );
            let target = format!(
                "{{ name: llama, url: 'http://127.0.0.1:{}/v1', api: openai_chat, model: smollm2, body: {{ ignore_eos: true }} }}",
                llama.port
            );
            let text =
                format!("targets: [{target}]\ndefaults: {{ prompt: {{ tokens: 24 }} }}\nprobes: [{probe}]\n");
            fs::write(&file, text).unwrap();
            let output = process::run(&[&["once", "--output=json", &config], args].concat());
            let reports: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
                panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
            });
            (output.status.code(), reports[0].clone())
        };
        let (_, alone) = once("ttft: 1m", &[]);
        // Several times what one user waits, so that one is borne and thirty-two that wait for one another are not.
        let limit = (alone["request_duration"]["p50"].as_f64().unwrap() * 3000.0).ceil();
        let args = ["--find-capacity", "--capacity.max=32", "--capacity.requests=300"];
        let (code, found) = once(&format!("ttft: {limit}ms"), &args);
        assert_eq!(code, Some(0), "{found}");
        let ended = found["ended"].as_str().unwrap();
        assert!(["found", "at_least", "requests"].contains(&ended), "{found}");
        assert!(found["requests"].as_u64().unwrap() <= 300, "{found}");
        let users = |value: &serde_json::Value| value["concurrency"].as_u64();
        let meets = users(&found["meets"]).unwrap();
        let misses = users(&found["misses"]).unwrap_or(u64::MAX);
        assert!(meets < misses, "{found}");
        for point in found["curve"].as_array().unwrap() {
            let load = users(point).unwrap();
            match point["met"].as_bool() {
                Some(true) => assert!(load <= meets, "{found}"),
                Some(false) => {
                    assert!(load >= misses, "{found}");
                    assert!(point["good"].as_u64() < point["judged"].as_u64(), "{found}");
                }
                None => assert_eq!(ended, "requests", "{found}"),
            }
        }
    }
}

#[test]
#[ignore = "needs llama.cpp: run tests/run.sh"]
fn real_prompts_are_as_long_as_they_are_to_be() {
    let llama = Llama::start(0, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    let port = llama.port;
    let config = format!(
        "
targets:
  - {{ name: llama, url: 'http://127.0.0.1:{port}/v1', api: openai_chat, model: smollm2 }}
probes:
  - {{ name: made-up, requests: 4, prompt: {{ tokens: 300 }}, max_tokens: 4 }}
"
    );
    fs::write(&file, config).unwrap();
    let once = process::run(&[
        "once",
        "--output=json",
        &format!("--config.file={}", file.display()),
    ]);
    let reports: serde_json::Value = serde_json::from_slice(&once.stdout).unwrap();
    let lengths = &reports[0]["prompt_lengths"];
    assert_eq!(lengths["asked"], serde_json::json!({ "min": 300, "max": 300 }));
    for end in ["min", "max"] {
        let counted = lengths["counted"][end].as_u64().unwrap();
        assert!((294..=306).contains(&counted), "{lengths}");
    }
}
