//! When bursts are fired, in which order, and what becomes of those that are not: the program against
//! simulated servers that know when each request really came.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use llm_probe_exporter::sim::{
    Settings,
    journal::{End, Record},
};
use process::Exporter;
use rustix::process::Signal;
use simulator::Simulator;

/// The laptop, so much faster that a request of `n` tokens takes `n` ms and a bit.
fn quick() -> Settings {
    Settings {
        speed: 10.0,
        ..Settings::default()
    }
}

/// A target at `address` and probes of it. A probe's `max_tokens` tells its requests from others' at the server.
fn config(address: SocketAddr, target: &str, probes: &str) -> String {
    format!(
        "targets: [{{ name: target, url: 'http://{address}/v1', api: openai_chat, model: simulated{target} }}]\n\
         defaults: {{ prompt: {{ text: Say something }} }}\nprobes:\n{probes}"
    )
}

/// First request received and last request ended of each burst of the probe whose requests have so many
/// tokens, taking requests in bursts of `size`.
fn bursts(requests: &[Arc<Record>], tokens: u64, size: usize) -> Vec<(u64, u64)> {
    let own: Vec<_> = requests
        .iter()
        .filter(|request| request.output_tokens == tokens)
        .collect();
    own.chunks_exact(size)
        .map(|burst| {
            let first = burst.iter().map(|request| request.received_ns).min().unwrap();
            (first, burst.iter().map(|request| request.ended_ns).max().unwrap())
        })
        .collect()
}

fn overlaps(left: &[(u64, u64)], right: &[(u64, u64)]) -> usize {
    left.iter()
        .flat_map(|a| right.iter().filter(move |b| a.0 < b.1 && b.0 < a.1))
        .count()
}

#[test]
fn a_burst_that_is_due_while_the_last_one_runs_is_skipped_counted_and_missed() {
    // A server that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let probe = "  - { name: waits, every: 300ms, concurrency: 2, timeouts: { total: 1s } }\n";
    let exporter = Exporter::start(&config(silent.local_addr().unwrap(), "", probe), &[]);
    let samples = exporter.wait_for("three bursts", |samples| samples.count("bursts_total", &[]) >= 3);
    let (bursts, skipped) = (
        samples.count("bursts_total", &[]),
        samples.count("bursts_skipped_total", &["reason=\"overlap\""]),
    );
    assert!(skipped >= 2 * (bursts - 1), "{bursts} bursts, {skipped} skipped");
    let judged = samples.count("slo_bursts_total", &[]);
    assert!(
        judged >= skipped,
        "{judged} bursts were judged, {skipped} skipped"
    );
    assert_eq!(samples.count("slo_good_bursts_total", &[]), 0);
    // What was withheld is judged and missed: two requests a burst.
    let requests = samples.count("requests_total", &[]);
    assert_eq!(
        samples.count("slo_requests_total", &["slo=\"goodput\""]),
        requests + 2 * skipped
    );
}

#[test]
fn bursts_of_several_probes_take_turns_at_a_target() {
    for (share, target) in [(false, ""), (true, ", share: true")] {
        let simulator = Simulator::start(Settings {
            slots: Some(64),
            ..quick()
        });
        let probes = "  - { name: a, every: 500ms, concurrency: 4, max_tokens: 90, jitter: 20% }\n  - { name: b, every: 500ms, concurrency: 2, max_tokens: 80 }\n  - { name: c, every: 500ms, max_tokens: 70 }\n";
        let exporter = Exporter::start(&config(simulator.address, target, probes), &[]);
        exporter.wait_for("bursts of all", |samples| {
            ["\"a\"", "\"b\"", "\"c\""]
                .iter()
                .all(|probe| samples.count("bursts_total", &[&format!("probe={probe}")]) >= 6)
        });
        drop(exporter);
        let requests = simulator.requests();
        let [a, b, c] = [(90, 4), (80, 2), (70, 1)].map(|(tokens, size)| bursts(&requests, tokens, size));
        let at_once = overlaps(&a, &b) + overlaps(&b, &c) + overlaps(&a, &c);
        if share {
            assert!(at_once > 0, "nothing overlapped, although they share");
        } else {
            assert_eq!(at_once, 0, "{a:?} {b:?} {c:?}");
        }
    }
}

#[test]
fn a_burst_that_waited_for_its_turn_for_a_whole_interval_is_skipped() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let probes = "  - { name: hog, every: 5s, timeouts: { total: 2s } }\n  - { name: waits, every: 300ms, timeouts: { total: 100ms } }\n";
    let exporter = Exporter::start(&config(silent.local_addr().unwrap(), "", probes), &[]);
    let samples = exporter.wait_for("it was skipped", |samples| {
        samples.count(
            "bursts_skipped_total",
            &["probe=\"waits\"", "reason=\"target_busy\""],
        ) >= 3
    });
    // Another probe's burst is no fault of the endpoint: nothing is judged.
    let waits = "probe=\"waits\"";
    assert_eq!(
        samples.count("slo_requests_total", &[waits, "slo=\"goodput\""]),
        samples.count("requests_total", &[waits])
    );
    assert!(samples.sum("schedule_lag_seconds_sum", &[waits]) > 0.0);
}

#[test]
fn a_burst_takes_all_its_places_or_waits() {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..quick()
    });
    let address = simulator.address;
    let config = format!(
        "
global: {{ max_in_flight: 4 }}
targets:
  - {{ name: one, url: 'http://{address}/v1', api: openai_chat, model: simulated }}
  - {{ name: two, url: 'http://{address}/v1', api: openai_chat, model: simulated }}
defaults: {{ prompt: {{ tokens: 8 }}, every: 500ms, max_tokens: 80 }}
probes:
  - {{ name: four, concurrency: 4 }}
  - {{ name: three, concurrency: 3, max_tokens: 60 }}
"
    );
    let exporter = Exporter::start(&config, &[]);
    exporter.wait_for("bursts of all", |samples| {
        ["\"three\"", "\"four\""]
            .iter()
            .all(|probe| samples.count("bursts_total", &[&format!("probe={probe}")]) >= 6)
    });
    drop(exporter);
    // More than four at once would mean that places were given twice.
    let requests = simulator.requests();
    let under_way = |at: u64| {
        requests
            .iter()
            .filter(|other| other.received_ns <= at && at < other.ended_ns)
            .count()
    };
    let most = requests
        .iter()
        .map(|request| under_way(request.received_ns))
        .max();
    assert_eq!(most, Some(4));
}

#[test]
fn the_rate_is_fixed_however_long_a_burst_takes() {
    let simulator = Simulator::start(quick());
    // About 300 ms of work in every 400 ms.
    let probe = "  - { name: steady, every: 400ms, max_tokens: 250 }\n";
    let exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    exporter.wait_for("ten bursts", |samples| samples.count("bursts_total", &[]) >= 10);
    drop(exporter);
    let starts: Vec<u64> = simulator
        .requests()
        .iter()
        .map(|request| request.received_ns)
        .collect();
    let whole = Duration::from_nanos(starts.last().unwrap() - starts.first().unwrap()).as_secs_f64() / 0.4;
    // Skipped bursts leave a gap of a whole interval; a drift of the length of a burst would not.
    assert!(
        (whole - whole.round()).abs() < 0.25,
        "{whole} intervals between the first and the last burst"
    );
}

#[test]
fn the_steps_of_a_ladder_follow_one_another_and_are_series_of_their_own() {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..quick()
    });
    let probe = "  - { name: climbs, every: 2s, settle: 100ms, max_tokens: 50, ladder: [{ users: 1, requests: 2 }, { users: 3 }, { users: 5, slo: { ttft: 1us } }] }\n";
    let exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    let samples = exporter.wait_for("two rounds", |samples| {
        samples.count("requests_total", &["concurrency=\"5\""]) == 10
    });
    drop(exporter);
    for (users, requests) in [(1, 2), (3, 3), (5, 5)] {
        let label = format!("concurrency=\"{users}\"");
        let bursts = samples.count("bursts_total", &[&label]);
        assert_eq!(
            samples.count("requests_total", &[&label]),
            bursts * requests,
            "{users} users"
        );
    }
    assert_eq!(samples.count("slo_limit_seconds", &["concurrency=\"1\""]), 0);
    let round: Vec<_> = simulator.requests().into_iter().take(10).collect();
    let steps = [&round[..2], &round[2..5], &round[5..]];
    for pair in steps.windows(2) {
        let (ended, began) = (
            pair[0].iter().map(|r| r.ended_ns).max().unwrap(),
            pair[1].iter().map(|r| r.received_ns).min().unwrap(),
        );
        assert!(
            began >= ended + 90_000_000,
            "a step began {began} before the last one had settled {ended}"
        );
    }
}

#[test]
fn warm_up_and_duration_shape_a_burst() {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..quick()
    });
    let probe =
        "  - { name: lasts, every: 3s, concurrency: 2, duration: 500ms, warmup: 3, max_tokens: 50 }\n";
    let exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    let settled = exporter.wait_for("the burst has ended", |samples| {
        !samples.sum("burst_peak_in_flight", &[]).is_nan()
    });
    let answered = simulator.requests().len() as u64;
    assert_eq!(
        settled.count("requests_total", &[]) + 3,
        answered,
        "warm-up requests are sent and not counted"
    );
    assert_eq!(
        settled.count("output_tokens_total", &[]),
        answered * 50,
        "but their tokens are"
    );
    assert_eq!(settled.count("burst_peak_in_flight", &[]), 2);
}

#[test]
fn a_drain_lets_running_bursts_end_and_begins_none() {
    let simulator = Simulator::start(quick());
    let probe = "  - { name: long, every: 1s, max_tokens: 1500 }\n";
    let mut exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    exporter.wait_for("a request is under way", |samples| {
        samples.count("requests_in_flight", &[]) == 1
    });
    exporter.process.signal(Signal::TERM);
    assert_eq!(exporter.process.wait().code(), Some(0));
    let requests = simulator.requests();
    assert_eq!(
        requests.iter().map(|request| request.end).collect::<Vec<_>>(),
        [End::Completed]
    );
    assert!(
        exporter.process.log().contains("ok=1"),
        "{}",
        exporter.process.log()
    );
}

#[test]
fn what_does_not_end_in_its_grace_is_cut() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let probe = "  - { name: waits, every: 500ms, concurrency: 2 }\n";
    let mut exporter = Exporter::start(&config(silent.local_addr().unwrap(), "", probe), &[]);
    exporter.wait_for("requests are under way", |samples| {
        samples.count("requests_in_flight", &[]) == 2
    });
    exporter.process.signal(Signal::TERM);
    assert_eq!(exporter.process.wait().code(), Some(0));
    let log = exporter.process.log();
    assert!(
        log.contains("cancelled=true") && log.contains("invalid=2"),
        "{log}"
    );
}

#[test]
fn a_burst_that_waited_for_its_turn_does_not_make_the_next_one_missed() {
    let simulator = Simulator::start(quick());
    // The hog holds the one turn for about 700 ms of every 1.5 s; the quick one is due three times meanwhile.
    let probes = "  - { name: hog, every: 1500ms, max_tokens: 600 }\n  - { name: quick, every: 200ms, max_tokens: 5 }\n";
    let exporter = Exporter::start(&config(simulator.address, "", probes), &[]);
    let quick = "probe=\"quick\"";
    let samples = exporter.wait_for("it had to wait", |samples| {
        samples.count("bursts_skipped_total", &[quick, "reason=\"target_busy\""]) >= 6
    });
    assert_eq!(
        samples.count("bursts_skipped_total", &[quick, "reason=\"overlap\""]),
        0
    );
    assert_eq!(
        samples.count("slo_requests_total", &[quick, "slo=\"goodput\""]),
        samples.count("slo_good_requests_total", &[quick, "slo=\"goodput\""])
    );
}

#[test]
fn a_burst_that_waited_for_its_places_does_not_make_the_next_one_missed() {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..quick()
    });
    let address = simulator.address;
    let config = format!(
        "
global: {{ max_in_flight: 4 }}
targets:
  - {{ name: one, url: 'http://{address}/v1', api: openai_chat, model: simulated }}
  - {{ name: two, url: 'http://{address}/v1', api: openai_chat, model: simulated }}
defaults: {{ prompt: {{ text: Say something }} }}
probes:
  - {{ name: hog, targets: [one], every: 1500ms, concurrency: 4, max_tokens: 600 }}
  - {{ name: quick, targets: [two], every: 200ms, jitter: 50%, max_tokens: 5 }}
"
    );
    let exporter = Exporter::start(&config, &[]);
    let quick = "probe=\"quick\"";
    let samples = exporter.wait_for("it had to wait", |samples| {
        samples.count("bursts_skipped_total", &[quick, "reason=\"in_flight\""]) >= 3
    });
    assert_eq!(
        samples.count("bursts_skipped_total", &[quick, "reason=\"overlap\""]),
        0
    );
    assert_eq!(
        samples.count("slo_requests_total", &[quick, "slo=\"goodput\""]),
        samples.count("slo_good_requests_total", &[quick, "slo=\"goodput\""])
    );
}

#[test]
fn what_came_due_while_the_process_was_stopped_is_counted_and_not_judged() {
    let simulator = Simulator::start(quick());
    let probe = "  - { name: stopped, every: 300ms, max_tokens: 5 }\n";
    let exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    exporter.wait_for("a burst", |samples| samples.count("requests_total", &[]) >= 1);
    exporter.process.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(3));
    exporter.process.signal(Signal::CONT);
    let samples = exporter.wait_for("it goes on", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"late\""]) >= 8
    });
    assert!(
        samples.count("bursts_skipped_total", &["reason=\"overlap\""]) <= 1,
        "at most the one that was cut in two"
    );
    let overlap = samples.count("bursts_skipped_total", &["reason=\"overlap\""]);
    assert_eq!(
        samples.count("slo_requests_total", &["slo=\"goodput\""]),
        samples.count("requests_total", &[]) + overlap
    );
}

#[test]
fn a_drain_withholds_nothing() {
    let simulator = Simulator::start(quick());
    let probe = "  - { name: long, every: 1s, max_tokens: 2500 }\n";
    let mut exporter = Exporter::start(&config(simulator.address, "", probe), &[]);
    exporter.wait_for("a request is under way", |samples| {
        samples.count("requests_in_flight", &[]) == 1
    });
    exporter.process.signal(Signal::TERM);
    assert_eq!(exporter.process.wait().code(), Some(0));
    let log = exporter.process.log();
    let (_, draining) = log.split_once("message=draining").unwrap();
    assert!(
        draining.contains("ok=1") && !draining.contains("reason=overlap"),
        "{log}"
    );
}

#[test]
fn a_burst_that_lasts_does_not_hammer_an_endpoint_that_fails_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let probe = "  - { name: lasts, every: 4s, concurrency: 2, duration: 2s }\n";
    let exporter = Exporter::start(&config(nobody, "", probe), &[]);
    let samples = exporter.wait_for("the burst has ended", |samples| {
        !samples.sum("burst_peak_in_flight", &[]).is_nan()
    });
    // 0, 100, 300, 700, 1500 ms: five each; thousands without a pause.
    let requests = samples.count("requests_total", &[]);
    assert!((4..=12).contains(&requests), "{requests} requests");
}

#[test]
fn a_ladder_stops_where_goodput_is_lost() {
    let simulator = Simulator::start(Settings {
        slots: Some(64),
        ..quick()
    });
    let ladder = "ladder: [{ users: 1 }, { users: 2, slo: { ttft: 1us } }, { users: 3 }, { users: 4 }]";
    for (stop, fired) in [("", 4), (", ladder_stop: 50%", 2)] {
        let probe = format!("  - {{ name: climbs, every: 1s, settle: 0s, max_tokens: 5{stop}, {ladder} }}\n");
        let exporter = Exporter::start(&config(simulator.address, "", &probe), &[]);
        let samples = exporter.wait_for("two rounds", |samples| {
            let bursts = samples.count("bursts_total", &["concurrency=\"2\""]);
            let left_out = samples.count(
                "bursts_skipped_total",
                &["concurrency=\"4\"", "reason=\"ladder\""],
            );
            bursts >= 2 && (fired == 4 || left_out >= 2)
        });
        for users in 3..=4 {
            let label = format!("concurrency=\"{users}\"");
            let left_out = samples.count("bursts_skipped_total", &[&label, "reason=\"ladder\""]);
            let sent = samples.count("requests_total", &[&label]);
            assert_eq!((left_out > 0, sent > 0), (fired < 4, fired == 4), "{users} users");
            // What is left out by the rule is not judged.
            let judged = samples.count("slo_requests_total", &[&label, "slo=\"goodput\""]);
            assert_eq!(judged, sent);
        }
    }
}

#[test]
fn an_open_loop_is_a_series_by_its_rate_and_requests_without_a_place_are_missed() {
    // A server that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let probe = "  - { name: traffic, every: 2s, arrival: { kind: rate, per_second: 40, process: constant }, requests: 20, protect: off, timeouts: { first_token: 600ms, total: 5s } }\n";
    let config = format!("global: {{ max_in_flight: 4 }}\n{}", config(address, "", probe));
    let exporter = Exporter::start(&config, &[]);
    let samples = exporter.wait_for("a burst has ended", |samples| {
        !samples.sum("burst_peak_in_flight", &["rate=\"40\""]).is_nan()
            && samples.count("slo_bursts_total", &["rate=\"40\""]) >= 1
    });
    assert_eq!(samples.find("requests_total", &["concurrency="]).count(), 0);
    let sent = samples.count("requests_total", &[]);
    let unsent = samples.count("requests_skipped_total", &["reason=\"in_flight\""]);
    assert!(unsent > 0, "{sent} sent");
    let judged = samples.count("slo_requests_total", &["slo=\"goodput\""]);
    assert_eq!(judged, sent + unsent);
}

#[test]
fn once_says_which_steps_were_left_out() {
    let simulator = Simulator::start(quick());
    let probe = "  - { name: climbs, settle: 0s, max_tokens: 5, ladder_stop: 50%, ladder: [{ users: 1, slo: { ttft: 1us } }, { users: 3 }] }\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.yaml");
    std::fs::write(&file, config(simulator.address, "", probe)).unwrap();
    let output = process::run(&["once", &format!("--config.file={}", file.display())]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(said.contains("3 users · not run"), "{said}");
}
