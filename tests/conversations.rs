//! Conversations: every turn carries what was said before, to the letter, and nothing else is asked twice.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "support/simulator.rs"]
mod simulator;
mod support;

use std::{collections::HashMap, fs};

use llm_probe_exporter::{
    config::plan::{Probe, Target},
    expect::Expect,
    load::Volume,
    outcome::{Failure, Outcome},
    prompt::{Cache, Prompt, Script as Prompted, Scripts, Source},
    sim::Settings,
    summary::Judged,
    units::Name,
};
use process::{Exporter, eventually, run};
use serde_json::Value;
use simulator::Simulator;
use support::{
    engine::{burst, fire, probe, step, target},
    ms,
    script::Script,
    server::{Served, Server},
};

fn chat(target: Target, turns: &[&str], cache: Cache) -> Probe {
    let script = Prompted {
        name: Some(Name::new("trip").unwrap()),
        turns: turns.iter().map(ToString::to_string).collect(),
        ..Prompted::default()
    };
    Probe {
        prompt: Prompt {
            prefix: None,
            source: Source::Written(Scripts::only(script)),
            system: None,
            cache,
        },
        ..probe(target)
    }
}

/// An answer that nobody else gets, after a thought.
fn answer(number: usize) -> Script {
    let thought = r#"{"choices":[{"index":0,"delta":{"reasoning_content":"Hm. "},"finish_reason":null}]}"#;
    Script::sse()
        .data(thought)
        .token(&format!(" It's \"{number}\""))
        .wait(ms(5))
        .token(".\n")
        .ending()
}

fn text_of_answer(number: usize) -> String {
    format!(" It's \"{number}\".\n")
}

/// Role and content of each message.
fn messages(served: &Served) -> Vec<(String, String)> {
    let body = served.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = body["messages"].as_array().unwrap().iter();
    messages
        .map(|message| (text(&message["role"]), text(&message["content"])))
        .collect()
}

/// Which turn each record says it was, by its number.
fn turns(all: &[Judged]) -> Vec<u32> {
    let mut turns: Vec<_> = all
        .iter()
        .filter(|judged| !judged.record.warmup)
        .map(|judged| (judged.record.number, judged.record.asked.turn.get()))
        .collect();
    turns.sort_unstable();
    turns.into_iter().map(|(_, turn)| turn).collect()
}

/// Each turn follows another whose messages it repeats, with the real answer to that and the next turn behind
/// them. Returns how many there were of each.
fn follow(served: &[Served], said: &[&str]) -> Vec<usize> {
    let mut counts = vec![0; said.len()];
    let by_messages: HashMap<_, _> = served.iter().map(|one| (messages(one), one)).collect();
    assert_eq!(by_messages.len(), served.len(), "two requests are alike");
    for one in served {
        let all = messages(one);
        let turn = all.len() / 2;
        counts[turn] += 1;
        let (role, asked) = all.last().unwrap();
        assert_eq!(role, "user");
        if turn == 0 {
            assert!(asked.ends_with(said[0]) && asked.starts_with('['), "{asked}");
            continue;
        }
        assert_eq!(asked, said[turn]);
        let before = by_messages[&all[..all.len() - 2]];
        let answered = &all[all.len() - 2];
        assert_eq!(answered, &("assistant".to_owned(), text_of_answer(before.number)));
        assert!(before.last_write() < one.received, "asked before it was answered");
    }
    counts
}

#[tokio::test]
async fn each_turn_carries_the_real_answers() {
    let server = Server::start(|request| answer(request.number));
    let said = ["Where to?", "How?", "When?"];
    let mut asking = chat(target(server.address), &said, Cache::Bust);
    asking.warmup = 2;
    let (all, summary) = fire(burst(asking, step(2, Volume::Requests(7)))).await;
    assert_eq!(summary.successes, 7, "{:?}", summary.first_failure);
    let counts = follow(&server.served(), &said);
    // The warm-up asked two first turns; of the others each user came to the end, and one began anew.
    assert_eq!(counts, [2 + 3, 2, 2]);
    let mut turns = turns(&all);
    assert_eq!(turns[..2], [1, 1]);
    turns.sort_unstable();
    assert_eq!(turns, [1, 1, 1, 2, 2, 3, 3]);
    let warm: Vec<_> = all.iter().filter(|judged| judged.record.warmup).collect();
    assert!(warm.iter().all(|judged| judged.record.asked.is_first_turn()));
    // What was handed back is not kept with the records.
    assert!(all.iter().all(|judged| judged.record.text.is_none()));
}

/// What one user is slow with is not asked by another: the last turns come from whom they belong to.
#[tokio::test]
async fn a_fast_user_leaves_the_others_their_turns() {
    for (users, requests, expected) in [
        (3, 9, [3, 3, 3]),
        (3, 3, [3, 0, 0]),
        (3, 8, [3, 3, 2]),
        (2, 7, [3, 2, 2]),
    ] {
        let first = std::sync::atomic::AtomicBool::new(true);
        let server = Server::start(move |request| {
            let is_first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            let slow = Script::sse().wait(ms(150)).token(&text_of_answer(request.number));
            if is_first {
                slow.ending()
            } else {
                answer(request.number)
            }
        });
        let said = ["a", "b", "c"];
        let asking = chat(target(server.address), &said, Cache::Bust);
        let (_, summary) = fire(burst(asking, step(users, Volume::Requests(requests)))).await;
        assert_eq!(
            summary.successes,
            u64::from(requests),
            "{:?}",
            summary.first_failure
        );
        assert_eq!(
            follow(&server.served(), &said),
            expected,
            "{users} users, {requests} requests"
        );
    }
}

#[tokio::test]
async fn answers_are_also_compared_with_what_is_expected() {
    let server = Server::start(|request| answer(request.number));
    let said = ["Where to?", "How?"];
    let mut asking = chat(target(server.address), &said, Cache::Bust);
    asking.expect = Some(Expect {
        contains: Some("It's".into()),
        ..Expect::default()
    });
    let (all, summary) = fire(burst(asking, step(1, Volume::Requests(4)))).await;
    assert_eq!(summary.successes, 4, "{:?}", summary.first_failure);
    assert_eq!(follow(&server.served(), &said), [2, 2]);
    assert_eq!(turns(&all), [1, 2, 1, 2]);
}

#[tokio::test]
async fn a_turn_that_fails_ends_the_conversation() {
    // The third request is a second turn, and fails; so does the fourth, which is a first one.
    let server = Server::start(|request| match request.number {
        2 | 3 => Script::plain("500 Internal Server Error", "text/plain", "no"),
        number => answer(number),
    });
    let asking = chat(target(server.address), &["a", "b", "c"], Cache::Bust);
    let (all, summary) = fire(burst(asking, step(1, Volume::Requests(8)))).await;
    assert_eq!((summary.requests, summary.successes), (8, 6));
    assert_eq!(turns(&all), [1, 2, 3, 1, 1, 2, 3, 1]);
    let failed: Vec<_> = all
        .iter()
        .filter(|judged| judged.record.outcome != Outcome::Ok)
        .collect();
    let failure = Outcome::Failed(Failure::ServerError);
    let first = summary.first_failure.unwrap();
    assert!(first.contains(", prompt trip): HTTP 500"), "{first}");
    assert!(
        failed.iter().all(|judged| judged.record.outcome == failure),
        "{failed:?}"
    );
}

#[tokio::test]
async fn an_answer_without_text_ends_the_conversation() {
    let thought = r#"{"choices":[{"index":0,"delta":{"reasoning_content":"Hm"},"finish_reason":null}]}"#;
    let server = Server::playing(Script::sse().data(thought).data(thought).ending());
    let asking = chat(target(server.address), &["a", "b"], Cache::Bust);
    let (all, _) = fire(burst(asking, step(1, Volume::Requests(3)))).await;
    assert_eq!(turns(&all), [1, 1, 1]);
}

/// A request at once to an endpoint that says what it was asked.
#[test]
fn the_next_burst_goes_on_with_the_next_conversation() {
    let server = Server::start(|request| answer(request.number));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talks.jsonl");
    let talk = |name: &str| format!(r#"{{"turns": ["{name}1", "{name}2"], "name": "{name}"}}"#);
    fs::write(&file, ["a", "b", "c"].map(talk).join("\n")).unwrap();
    let config = format!(
        "targets: [{{ name: scripted, url: 'http://{}/v1', api: openai_chat, model: m }}]\n\
         probes: [{{ name: talks, every: 100ms, prompt: {{ file: '{}', cache: share }} }}]\n",
        server.address,
        file.display(),
    );
    let exporter = Exporter::start(&config, &["--log.level=debug"]);
    // Which arms the schedule.
    exporter.metrics();
    let served = eventually("four bursts", || {
        Some(server.served()).filter(|served| served.len() >= 8)
    });
    let asked: Vec<_> = served.iter().map(|one| messages(one).pop().unwrap().1).collect();
    assert_eq!(asked[..8], ["a1", "a2", "b1", "b2", "c1", "c2", "a1", "a2"]);
    let log = exporter.process.log();
    assert!(log.contains("prompt=b turn=2"), "{log}");
}

/// A trial, after the endpoint shed load.
#[tokio::test]
async fn one_request_alone_is_a_first_turn() {
    let server = Server::start(|request| answer(request.number));
    let asking = chat(target(server.address), &["a", "b"], Cache::Bust);
    let judged = burst(asking, step(4, Volume::Requests(8)))
        .try_one()
        .await
        .unwrap();
    assert_eq!(
        (judged.record.outcome, judged.record.asked.is_first_turn()),
        (Outcome::Ok, true)
    );
    assert_eq!(messages(&server.only()).len(), 1);
}

/// So much faster than a real one that nobody waits for it.
fn quick() -> Settings {
    Settings {
        speed: 10.0,
        slots: Some(64),
        faults: vec!["cache=100000".parse().unwrap()],
        ..Settings::default()
    }
}

#[test]
fn a_budget_counts_prompts_that_grow() {
    let simulator = Simulator::start(quick());
    let config = format!(
        "targets: [{{ name: target, url: 'http://{}/v1', api: openai_chat, model: simulated }}]\n\
         probes: [{{ name: chat, every: 100ms, concurrency: 2, max_tokens: 20, \
         prompt: {{ turns: ['{}', two, three] }}, budget: {{ input_tokens: 2500, per: day }} }}]\n",
        simulator.address,
        "and so on ".repeat(10),
    );
    let exporter = Exporter::start(&config, &[]);
    let samples = exporter.wait_for("bursts are passed over", |samples| {
        samples.count("bursts_skipped_total", &["reason=\"budget\""]) >= 5
    });
    let used = samples.count("budget_used", &["unit=\"input_tokens\""]);
    let requests = simulator.requests();
    assert_eq!(used, requests.iter().map(|one| one.prompt_tokens).sum::<u64>());
    assert!(used > 0 && used <= 2500, "{used} of 2500");
    assert_eq!(requests.len() % 6, 0, "whole conversations");
}

#[test]
fn later_turns_are_expected_to_be_warm() {
    let simulator = Simulator::start(quick());
    let config = format!(
        "targets: [{{ name: target, url: 'http://{}/v1', api: openai_chat, model: simulated }}]\n\
         probes: [{{ name: chat, every: 200ms, concurrency: 2, warmup: 1, max_tokens: 5, \
         prompt: {{ turns: ['one {}', 'two', 'three'] }} }}]\n",
        simulator.address,
        "and so on ".repeat(20),
    );
    let exporter = Exporter::start(&config, &[]);
    let cache = "prompt_cache_requests_total";
    let samples = exporter.wait_for("three bursts", |samples| {
        samples.count("requests_total", &[]) >= 18
    });
    // All but the warm-up, whose request is counted nowhere here.
    let requests = samples.count("requests_total", &[]);
    let of = |expected: &str, found: &str| {
        let label = |name: &str, value: &str| format!("{name}=\"{value}\"");
        samples.count(cache, &[&label("expected", expected), &label("found", found)])
    };
    assert_eq!(of("cold", "miss") + of("warm", "hit"), requests);
    assert!(of("cold", "miss") >= 6 && of("warm", "hit") >= 12);
    assert!(!exporter.process.log().contains("meant to be new to it"));

    // What the server had is the prompt of the turn before, and no more than that.
    let requests = simulator.requests();
    let hits: Vec<_> = requests.iter().filter(|one| one.cached_tokens > 60).collect();
    assert!(hits.len() >= 12);
    for hit in hits {
        let is_before = |one: &&std::sync::Arc<llm_probe_exporter::sim::journal::Record>| {
            // Its own opening of the answer is not in the next prompt.
            one.prompt_tokens - 3 == hit.cached_tokens && one.ended_ns < hit.received_ns
        };
        assert!(requests.iter().any(|one| is_before(&one)), "{hit:?}");
    }
}

#[test]
fn a_recorded_conversation_shows_its_answers_and_is_replayed() {
    let simulator = Simulator::start(Settings {
        speed: 10.0,
        ..Settings::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(
        path("talks.jsonl"),
        r#"{"turns": ["Where to?", "How?", "When?"], "name": "trip", "system": "Be brief."}"#,
    )
    .unwrap();
    let config = format!(
        "targets: [{{ name: target, url: 'http://{}/v1', api: openai_responses, model: simulated }}]\n\
         probes: [{{ name: chat, max_tokens: 7, prompt: {{ file: talks.jsonl }} }}]\n",
        simulator.address
    );
    fs::write(path("probes.yaml"), config).unwrap();
    let (config, file) = (
        format!("--config.file={}", path("probes.yaml")),
        path("talk.recording"),
    );
    let once = |more: &str| {
        let output = run(&["once", &config, "--output=json", more]);
        assert!(output.status.success(), "{output:?}");
        let mut reports: Value = serde_json::from_slice(&output.stdout).unwrap();
        reports[0].take()
    };
    let live = once(&format!("--record={file}"));
    assert_eq!(live["requests"], 3);
    assert_eq!(live["slowest_prompt"], "trip");
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (mut said_before, mut systems) = (Vec::new(), Vec::new());
    for (line, turn) in lines.iter().zip(1_u64..) {
        assert_eq!(line["prompt"], "trip");
        assert_eq!(line["turn"].as_u64().unwrap_or(1), turn);
        let body: Value = serde_json::from_str(line["body"].as_str().unwrap()).unwrap();
        let input = body["input"].as_array().unwrap();
        assert_eq!(input.len() as u64, 2 * turn - 1);
        let answers = input.iter().filter(|item| item["role"] == "assistant");
        let answers: Vec<_> = answers
            .map(|item| item["content"][0]["text"].as_str().unwrap())
            .collect();
        assert_eq!(answers, said_before);
        said_before.push(streamed(line));
        systems.push(body["instructions"].as_str().unwrap().to_owned());
    }
    assert!(systems[0].ends_with("] Be brief."), "{systems:?}");
    assert!(systems.iter().all(|system| *system == systems[0]), "{systems:?}");
    assert_eq!(once(&format!("--replay={file}")), live);
}

/// The text that a recorded stream of the Responses API carries.
fn streamed(line: &Value) -> String {
    let chunks = line["chunks"].as_array().unwrap().iter();
    let body: String = chunks.map(|chunk| chunk[1].as_str().unwrap()).collect();
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    events
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| event["delta"].as_str().unwrap().to_owned())
        .collect()
}
