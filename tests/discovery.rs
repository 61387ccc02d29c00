//! Targets that are listed in files and over HTTP: the program follows the lists while it probes.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/simulator.rs"]
mod simulator;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use llm_probe_exporter::sim::Settings;
use process::{Exporter, Samples, eventually, run};
use simulator::Simulator;
use tempfile::TempDir;

fn simulator() -> Simulator {
    Simulator::start(Settings {
        slots: Some(64),
        ..Settings::default()
    })
}

/// A list with as many targets as there are names, all of which are the same server.
fn list(simulator: &Simulator, names: &[&str]) -> String {
    let group = |name: &&str| {
        format!(
            r#"{{"targets": ["{}"], "labels": {{"called": "{name}"}}}}"#,
            simulator.address
        )
    };
    let groups: Vec<_> = names.iter().map(group).collect();
    format!("[{}]", groups.join(", "))
}

fn config(source: &str) -> String {
    format!(
        "discover:\n  - name: fleet\n    {source}\n    \
         target: {{ name: '${{called}}', url: 'http://${{address}}/v1', api: openai_chat, model: simulated, share: true }}\n\
         probes: [{{ name: p, every: 500ms, max_tokens: 2, prompt: {{ text: Say something }} }}]\n"
    )
}

fn probed(samples: &Samples) -> Vec<String> {
    let name = |series: &str| Some(series.split_once("target=\"")?.1.split_once('"')?.0.to_owned());
    let mut names: Vec<_> = samples
        .find("requests_total", &[])
        .filter_map(|(series, _)| name(series))
        .collect();
    names.sort();
    names
}

fn failures(samples: &Samples) -> u64 {
    samples.count("exporter_list_failures_total", &["list=\"fleet\""])
}

#[test]
fn files_are_followed_and_a_bad_one_changes_nothing() {
    let (simulator, lists) = (simulator(), TempDir::new().unwrap());
    let write = |name: &str, text: &str| fs::write(lists.path().join(name), text).unwrap();
    write("one.json", &list(&simulator, &["a"]));
    let source = format!("files: ['{}/*.json']", lists.path().display());
    let exporter = Exporter::start(&config(&source), &["--web.enable-lifecycle"]);
    let before = exporter.wait_for("the first target is probed", |samples| {
        samples.count("requests_total", &["target=\"a\""]) >= 2
    });
    assert_eq!(probed(&before), ["a"]);
    assert_eq!(
        (failures(&before), before.count("exporter_list_targets", &[])),
        (0, 1)
    );

    write("two.json", &list(&simulator, &["b", "c"]));
    let all = exporter.wait_for("the others are probed", |samples| {
        samples.count("requests_total", &["target=\"b\""]) >= 1
            && samples.count("requests_total", &["target=\"c\""]) >= 1
    });
    assert_eq!(probed(&all), ["a", "b", "c"]);
    assert_eq!(all.count("exporter_list_targets", &[]), 3);
    let armed = |samples: &Samples| samples.sum("burst_armed_timestamp_seconds", &["target=\"a\""]);
    assert!(
        (armed(&all) - armed(&before)).abs() < 1e-3,
        "what was there goes on"
    );

    for bad in ["[{\"targets\": [80]}]", "[{\"targets\": [\"x:1\"]}]", ""] {
        let told = failures(&exporter.metrics());
        write("two.json", bad);
        let samples = exporter.wait_for("the bad file is told", |samples| failures(samples) > told);
        assert_eq!(probed(&samples), ["a", "b", "c"], "{bad}");
        // The configuration is not wrong.
        assert_eq!(samples.count("exporter_config_last_reload_successful", &[]), 1);
        let answer = exporter.post("/-/reload");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let log = exporter.process.log();
    assert!(log.contains("two.json:1:15: entry 1 of `targets`"), "{log}");

    fs::remove_file(lists.path().join("two.json")).unwrap();
    let samples = exporter.wait_for("the others are gone", |samples| probed(samples) == ["a"]);
    assert_eq!(samples.count("exporter_config_last_reload_successful", &[]), 1);
}

#[test]
fn a_bad_file_does_not_stop_the_start() {
    let (simulator, lists) = (simulator(), TempDir::new().unwrap());
    let write = |name: &str, text: &str| fs::write(lists.path().join(name), text).unwrap();
    write("good.json", &list(&simulator, &["a"]));
    write("bad.json", "[{\"targets\": [80]}]");
    let file = |name: &str| lists.path().join(name).display().to_string();
    // One of its targets is named by a probe, which asks nobody for now.
    let text = config(&format!("files: ['{}']", file("bad.json"))).replace(
        "probes: [",
        &format!(
            "  - name: others\n    files: ['{}']\n    \
             target: {{ name: '${{called}}', url: 'http://${{address}}/v1', api: openai_chat, model: simulated, share: true }}\n\
             probes: [{{ name: of-b, targets: [b], max_tokens: 2, every: 500ms, prompt: {{ text: Say something }} }}, ",
            file("good.json")
        ),
    );
    let exporter = Exporter::start(&text, &["--web.enable-lifecycle"]);
    let samples = exporter.wait_for("the good one is probed", |samples| {
        samples.count("requests_total", &["target=\"a\""]) >= 1
    });
    assert_eq!((failures(&samples), probed(&samples)), (1, vec!["a".to_owned()]));
    let log = exporter.process.log();
    assert!(log.contains("bad.json:1:15: entry 1 of `targets`"), "{log}");

    write("good.json", &list(&simulator, &["a", "c"]));
    exporter.wait_for("the good one is followed", |samples| {
        probed(samples) == ["a", "c"]
    });
    write("bad.json", &list(&simulator, &["b"]));
    exporter.wait_for("the bad one is mended", |samples| {
        samples.count("requests_total", &["target=\"b\"", "probe=\"of-b\""]) >= 1
    });
}

/// A server that answers everything as it is told.
struct Inventory {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<String>>,
}

impl Inventory {
    fn start(status: u16, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answer = Arc::new(Mutex::new((status, body.to_owned())));
        let asked = Arc::new(Mutex::new(String::new()));
        let url = format!("http://{}/targets", listener.local_addr().unwrap());
        let (told, heard) = (Arc::clone(&answer), Arc::clone(&asked));
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                *heard.lock().unwrap() = String::from_utf8_lossy(&head).into_owned();
                let (status, body) = told.lock().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // Who asked may not want all of it.
                stream.write_all((head + &body).as_bytes()).ok();
            }
        });
        Self { url, answer, asked }
    }

    fn say(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }
}

#[test]
fn a_url_is_followed_and_its_last_good_list_stays() {
    let (simulator, secrets) = (simulator(), TempDir::new().unwrap());
    let inventory = Inventory::start(500, "");
    let token = secrets.path().join("token");
    fs::write(&token, "planted-secret-of-the-inventory").unwrap();
    let source = format!(
        "http: {{ url: '{}', every: 1s, authorization: {{ credentials_file: '{}' }} }}",
        inventory.url,
        token.display()
    );
    let text = config(&source);
    let exporter = Exporter::start(&text, &["--web.enable-lifecycle", "--log.level=trace"]);
    let none = exporter.wait_for("a failure is counted", |samples| failures(samples) >= 1);
    assert_eq!(probed(&none), [""; 0]);
    let asked = inventory.asked.lock().unwrap().clone();
    assert!(
        asked.contains("Bearer planted-secret-of-the-inventory"),
        "{asked}"
    );

    inventory.say(200, &list(&simulator, &["a", "b"]));
    exporter.wait_for("both are probed", |samples| {
        samples.count("requests_total", &["target=\"a\""]) >= 1
            && samples.count("requests_total", &["target=\"b\""]) >= 1
    });
    let large = format!("[{}]", " ".repeat(5 << 20));
    for (status, body) in [
        (404, "gone"),
        (301, ""),
        (200, "<html>planted-secret-of-the-inventory</html>"),
        (200, "[{\"targets\": [\"no-label:1\"]}]"),
        (
            200,
            "[{\"targets\": [\"user:word@x\"], \"labels\": {\"called\": \"c\"}}]",
        ),
        (200, &large),
    ] {
        let before = failures(&exporter.metrics());
        inventory.say(status, body);
        let samples = exporter.wait_for("it is told again and again", |samples| {
            failures(samples) >= before + 2
        });
        assert_eq!(probed(&samples), ["a", "b"], "{status} {body:.40}");
    }
    // What is wrong there does not stand in the way of the configuration.
    exporter.configure(&text.replace("max_tokens: 2", "max_tokens: 3"));
    let answer = exporter.post("/-/reload");
    assert!(answer.body.contains("2 changed"), "{}", answer.body);

    // What it is asked with is what is on file now.
    fs::write(&token, "planted-secret-that-is-another").unwrap();
    eventually("the other one is sent", || {
        let asked = inventory.asked.lock().unwrap().clone();
        asked
            .contains("Bearer planted-secret-that-is-another")
            .then_some(())
    });
    inventory.say(200, &list(&simulator, &["b"]));
    exporter.wait_for("one is gone", |samples| probed(samples) == ["b"]);
    inventory.say(200, "[]");
    exporter.wait_for("both are gone", |samples| probed(samples).is_empty());
    assert!(!exporter.process.log().contains("planted-secret"));
}

#[test]
fn a_check_asks_for_the_list() {
    let (simulator, folder) = (simulator(), TempDir::new().unwrap());
    let inventory = Inventory::start(200, &list(&simulator, &["a", "b"]));
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config(&format!("http: {{ url: '{}' }}", inventory.url))).unwrap();
    let file = format!("--config.file={}", file.display());
    let checked = run(&["check", &file]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("2 series"), "{said}");

    inventory.say(200, "[{\"targets\": [\"no-label:1\"]}]");
    let checked = run(&["check", &file]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2), "{said}");
    assert!(said.contains("wants a label `called`"), "{said}");
}
