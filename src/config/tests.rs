//! Golden reports: every kind of mistake with the whole message that its author gets. The snapshots are in
//! `golden/`, one file per part of the configuration.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    items, load, parse,
    plan::{
        Addresses, Alert, Connection, Dialect, Exposition, Generation, HttpVersion, Lists, Pem, Plan, Reach,
        Realtime, Reasoning, Said, Series, Thinking, Timeouts, TlsVersion, TtftFrom, Withheld,
    },
    problem::Severity,
    raw::reading::Item,
};
use crate::{
    backoff::Protect,
    load::{Load, Volume},
    outcome::Failure,
    prompt::{Cache, Length, Message, Role, Script, Scripts, Source},
    units::{Name, Tokens},
};

const BASE: &str = "\
targets:
  - name: granite
    url: http://localhost:11434/v1
    api: openai_chat
    model: granite4:350m
probes:
  - name: single-user
    every: 1m
";

/// A directory of files for one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("llm-probe-exporter-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The report on a text, with the errors or the warnings in it.
fn report_in(text: &str, scratch: &Scratch) -> String {
    let report = match parse(text, "probes.yaml", &scratch.0) {
        Err(error) => error.to_string(),
        Ok(plan) if plan.warnings().is_empty() => "(loads)".to_owned(),
        Ok(plan) => {
            let warnings: Vec<_> = plan.warnings().iter().map(ToString::to_string).collect();
            warnings.join("\n")
        }
    };
    report.replace(&scratch.0.display().to_string(), "/etc/llm-probe-exporter")
}

fn plan(text: &str) -> Plan {
    parse(text, "probes.yaml", &Scratch::new().0).unwrap_or_else(|error| panic!("{error}"))
}

/// `BASE` with one line replaced by others of the same indentation.
fn with(line: &str, others: &str) -> String {
    let found = BASE
        .lines()
        .find(|candidate| candidate.trim_start_matches([' ', '-']) == line);
    let found = found.unwrap_or_else(|| panic!("`{line}` is no line of the base"));
    let indent = " ".repeat(found.len() - line.len());
    let (first, rest) = others.split_once('\n').unwrap_or((others, ""));
    let mut lines = vec![found.replace(line, first)];
    lines.extend(rest.lines().map(|line| format!("{indent}{line}")));
    BASE.replace(found, &lines.join("\n"))
}

fn target(keys: &str) -> String {
    with("model: granite4:350m", &format!("model: granite4:350m\n{keys}"))
}

fn probe(keys: &str) -> String {
    with("every: 1m", keys)
}

fn top(keys: &str) -> String {
    format!("{BASE}{keys}\n")
}

/// Lines that are no prompts.
const SHAPES: &str = r#"17
{"prompt": "a", "turns": ["b"]}
{"name": "nothing"}
{"prompt": "a", "promt": "b"}
{"prompt": "a", "prompt": "b"}
{"prompt": ["a"]}
{"prompt": "a"
{"turns": []}
{"turns": ["a", " "]}
{"prompt": "a", "system": ""}
"#;

const MESSAGES: &str = r#"{"messages": []}
{"messages": [{"role": "tool", "content": "a"}]}
{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
{"messages": [{"role": "user"}]}
{"messages": [{"role": "user", "content": "a", "name": "b"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}
{"messages": [{"role": "system", "content": "a"}]}
{"system": "a", "messages": [{"role": "user", "content": "b"}]}
"#;

const WEIGHTS: &str = r#"{"prompt": "a", "weight": 0}
{"prompt": "a", "weight": -1}
{"prompt": "a", "weight": 1e300}
{"prompt": "a", "weight": 1e999}
{"prompt": "a", "weight": NaN}
{"prompt": "a", "weight": "2"}
{"prompt": "a", "name": "one"}
{"prompt": "a", "name": "one"}
{"prompt": "a", "name": ""}
"#;

/// Compares the reports on several mistakes with the snapshot `name`.
fn golden(name: &str, cases: &[(&str, String)]) {
    let scratch = Scratch::new();
    scratch.write("empty", "\n");
    scratch.write("latin1", b"k\xe9y");
    scratch.write("two-lines", "one\ntwo\n");
    scratch.write(
        "cert.pem",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    );
    scratch.write("client.key", "-----BEGIN PRIVATE KEY-----\nMIIB\n");
    scratch.write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n");
    scratch.write("blank.jsonl", "\n\n");
    scratch.write("bad.jsonl", "\"fine\"\n{\"text\": \"no prompt\"}\n");
    scratch.write("hollow.jsonl", "\"\"\n");
    scratch.write("shapes.jsonl", SHAPES);
    scratch.write("messages.jsonl", MESSAGES);
    scratch.write("weights.jsonl", WEIGHTS);
    scratch.write("many.jsonl", "5\n".repeat(50));
    scratch.write(
        "long.jsonl",
        format!("{{\"turns\": [\"a\"{}]}}\n", ", \"a\"".repeat(100)),
    );
    scratch.write(
        "two.list",
        r#"[{"targets": ["a:1", "b:2"], "labels": {"zone": "x"}}]"#,
    );
    scratch.write(
        "wrong.list",
        "[{\"target\": \"a:1\"},\n {\"targets\": [80, \"a b\"]}]\n",
    );
    let many: Vec<_> = (0..1001).map(|port| format!("'a:{port}'")).collect();
    scratch.write("large.list", format!("[{{targets: [{}]}}]", many.join(",")));
    scratch.write("talk.jsonl", "\"one\"\n{\"turns\": [\"one\", \"two\"]}\n");
    let mut all = String::new();
    for (title, text) in cases {
        let report = report_in(text, &scratch);
        assert_ne!(report, "(loads)", "{title}");
        writeln!(all, "# {title}\n{report}\n").unwrap();
    }
    assert!(!all.contains("hunter2"), "a secret is shown:\n{all}");
    snapshot(name, &all);
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "golden", omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn text_that_is_no_configuration() {
    golden(
        "yaml",
        &[
            ("empty file", String::new()),
            ("comments only", "# soon\n".into()),
            ("a scalar", "probes\n".into()),
            ("a list", "- name: x\n".into()),
            ("tab", BASE.replace("    url", "\turl")),
            ("indentation", BASE.replace("    api", "   api")),
            (
                "colon in a value",
                with("model: granite4:350m", "model: granite4: 350m"),
            ),
            ("no colon", BASE.replace("probes:", "probes")),
            (
                "open quote",
                with("model: granite4:350m", "model: \"granite4:350m"),
            ),
            ("open bracket", probe("targets: [granite")),
            ("unknown alias", probe("every: *minute")),
            ("alias of itself", top("x-all: &all [*all]")),
            ("tag", with("model: granite4:350m", "model: !env MODEL")),
            ("two documents", format!("{BASE}---\n{BASE}")),
            ("control character", BASE.replace("granite4", "gran\u{7}ite4")),
            ("nested too deeply", format!("x-deep: {}\n", "[".repeat(60))),
            ("merge of a text", probe("<<: granite")),
            ("key that is no text", probe("[every]: 1m")),
        ],
    );
}

#[test]
fn lists_of_targets() {
    const TARGET: &str = "target: { url: 'http://${address}/v1', api: openai_chat, model: m }";
    let list = |keys: &str| top(&format!("discover:\n  - {keys}"));
    let files = |file: &str, target: &str| list(&format!("name: fleet\n    files: ['{file}']\n    {target}"));
    let http = |keys: &str| list(&format!("name: fleet\n    {keys}\n    {TARGET}"));
    golden(
        "lists",
        &[
            ("nothing", list("name: fleet")),
            ("no target", list("name: fleet\n    files: ['*.list']")),
            ("no name", list(&format!("files: ['*.none']\n    {TARGET}"))),
            (
                "files and http",
                http("files: ['*.none']\n    http: { url: 'http://inventory' }"),
            ),
            ("no address", http("http: { every: 10ms }")),
            ("an address that is none", http("http: { url: 'inventory:80' }")),
            (
                "words of Prometheus",
                http("http_sd_configs: [{ url: 'http://inventory' }]"),
            ),
            ("no such file", files("missing.list", TARGET)),
            ("a folder that is not there", files("missing/*.list", TARGET)),
            ("no list", files("latin1", TARGET)),
            ("not what Prometheus writes", files("wrong.list", TARGET)),
            (
                "unknown key in the template",
                files("two.list", &TARGET.replace("model", "modell")),
            ),
            (
                "a label that is not listed",
                files("two.list", &TARGET.replace(": m", ": '${model}'")),
            ),
            (
                "a gap without an end",
                files("two.list", &TARGET.replace(": m", ": '${model'")),
            ),
            (
                "twice the same name",
                files("two.list", &TARGET.replace("{ url", "{ name: one, url")),
            ),
            (
                "the name of a target that there is",
                files("two.list", &TARGET.replace("{ url", "{ name: granite, url")),
            ),
            (
                "a URL that is none",
                files("two.list", &TARGET.replace("http://", "")),
            ),
            ("too many", files("large.list", TARGET)),
            (
                "a probe that names another list",
                files("two.list", TARGET).replace("every: 1m", "targets: [flet]"),
            ),
        ],
    );
}

#[test]
fn urls_on_demand() {
    const URL: &str = "url: https://*.example.org/v1";
    const TARGET: &str = "target: { api: openai_chat, model: m }";
    let entry = |keys: &str| {
        top(&format!(
            "on_demand:\n  - name: partners\n    {}",
            keys.replace('\n', "\n    ")
        ))
    };
    let with_url = |url: &str| entry(&format!("url: '{url}'\nprobes: [single-user]\n{TARGET}"));
    let with_target = |target: &str| entry(&format!("{URL}\nprobes: [single-user]\ntarget: {{ {target} }}"));
    let with_probes = |probes: &str| entry(&format!("{URL}\nprobes: [{probes}]\n{TARGET}"));
    golden(
        "on_demand",
        &[
            ("nothing", entry("private: refuse")),
            (
                "no name",
                with_url("https://example.org/v1").replace("name: partners", "private: refuse"),
            ),
            (
                "the name of a target",
                with_url("https://example.org/v1").replace("partners", "granite"),
            ),
            (
                "another word",
                entry(&format!("{URL}\nprivate: true\nprobes: [single-user]\n{TARGET}")),
            ),
            ("any host", with_url("https://*/v1")),
            ("any host of a kind", with_url("https://*.org/v1")),
            ("a part of a label", with_url("https://api-*.example.org/v1")),
            ("any port", with_url("https://example.org:*/v1")),
            ("any path", with_url("https://example.org/*/v1")),
            ("an encoded path", with_url("https://example.org/%76/v1")),
            ("a query", with_url("https://example.org/v1?a=b")),
            ("credentials", with_url("https://ann:hunter2@example.org/v1")),
            ("no scheme", with_url("example.org/v1")),
            ("an address near", with_url("http://127.0.0.1:8000/v1")),
            ("an address of metadata", with_url("http://169.254.169.254/v1")),
            (
                "an address near, version 6",
                with_url("http://[::ffff:10.0.0.1]/v1"),
            ),
            (
                "a proxy",
                with_target("api: openai_chat, model: m, proxy: { url: 'http://proxy:3128' }"),
            ),
            (
                "a socket",
                with_target("api: openai_chat, model: m, unix_socket: /run/x.sock"),
            ),
            (
                "a URL in the target",
                with_target("api: openai_chat, model: m, url: 'https://example.org'"),
            ),
            ("no model", with_target("api: openai_chat")),
            (
                "keys of a target beside it",
                entry(&format!("{URL}\napi: openai_chat\nprobes: [single-user]")),
            ),
            ("no such probe", with_probes("single-usr")),
            ("twice the same", with_probes("single-user, single-user")),
            ("none", with_probes("")),
            (
                "a probe that cannot be asked of it",
                with_target("api: gemini, model: m").replace("every: 1m", "min_tokens: 8"),
            ),
            (
                "a probe that does not fit its budget",
                with_target("api: openai_chat, model: m, budget: { requests: 3, per: day }")
                    .replace("every: 1m", "requests: 5"),
            ),
        ],
    );
}

#[test]
fn lists_make_targets() {
    let scratch = Scratch::new();
    scratch.write(
        "a.json",
        r#"[{"targets": ["a:1", "b:2"], "labels": {"model": "llama"}}]"#,
    );
    scratch.write("b.json", r#"[{"targets": ["c:3"], "labels": {"model": "qwen"}}]"#);
    let text = "discover:
  - { name: fleet, files: ['*.json'], target: { url: 'http://${address}/v1', api: openai_chat, model: '${model}' } }
  - { name: empty, files: ['*.none'], target: { url: 'http://${address}/v1', api: openai_chat, model: m } }
  - { name: later, http: { url: 'http://inventory' }, target: { name: 'at ${address}', url: 'http://${address}/v1', api: openai_chat, model: m } }
  - { name: other, http: { url: 'http://inventory', authorization: { credentials_env: PATH } }, target: { url: 'http://${address}/v1', api: openai_chat, model: m } }
probes:
  - { name: all }
  - { name: some, targets: [fleet, 'c:3'] }
  - { name: nobody, targets: [empty] }
";
    let parsed = |lists: &Lists| {
        let path = scratch.write("probes.yaml", text);
        load(&path, lists).unwrap_or_else(|error| panic!("{error}"))
    };
    let series = |plan: &Plan| -> Vec<String> {
        let shown = |series: Series| {
            let (probe, target) = (&series.probe, &series.target);
            format!("{} {} {} {}", probe.name, target.name, target.model, target.url)
        };
        plan.series().map(shown).collect()
    };
    let listed = [
        "a:1 llama http://a:1/v1",
        "b:2 llama http://b:2/v1",
        "c:3 qwen http://c:3/v1",
    ];
    let of = |probe: &str| listed.map(|target| format!("{probe} {target}")).to_vec();
    let plan = parsed(&Lists::default());
    assert_eq!(series(&plan), [of("all"), of("some")].concat());
    let counts: Vec<_> = plan.listings().iter().map(|listing| listing.targets).collect();
    assert_eq!(counts, [3, 0, 0, 0]);

    let mut lists = Lists::default();
    let later = &plan.listings()[2];
    let answer = Said::Answer(r#"[{"targets": ["d:4"]}]"#.to_owned());
    lists.put(&later.name, &later.source, answer);
    let last = vec!["all at d:4 m http://d:4/v1".to_owned()];
    let plan = parsed(&lists);
    assert_eq!(series(&plan), [of("all"), last, of("some")].concat());
    // Another one at the same address has said nothing yet.
    let counts: Vec<_> = plan.listings().iter().map(|listing| listing.targets).collect();
    assert_eq!(counts, [3, 0, 1, 0]);
}

#[test]
fn lists_do_not_choose_who_gets_the_credentials() {
    let parsed = |address: &str| {
        let scratch = Scratch::new();
        scratch.write("a.json", format!(r#"[{{"targets": ["{address}"]}}]"#));
        let text = "discover:
  - { name: fleet, files: ['*.json'], target: { name: t, url: 'https://${address}.inference.internal/v1', api: openai_chat, model: m } }
probes: [{ name: all }]
";
        let path = scratch.write("probes.yaml", text);
        load(&path, &Lists::default()).map(|plan| plan.targets()[0].url.host_str().unwrap().to_owned())
    };
    assert_eq!(parsed("a").unwrap(), "a.inference.internal");
    for elsewhere in [
        "evil.example/",
        "evil.example?",
        "evil.example#",
        "evil.example\\\\",
        "x@evil.example/",
        "evil.example%2f",
    ] {
        let error = parsed(elsewhere).unwrap_err().to_string();
        assert!(error.contains("would lead elsewhere"), "{elsewhere}: {error}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let scratch = Scratch::new();
    let latin1 = scratch.write("latin1.yaml", [BASE.as_bytes(), b"# caf\xe9\n"].concat());
    let large = scratch.write("large.yaml", "#".repeat(1 << 21));
    let missing = scratch.0.join("missing.yaml");
    let reports: Vec<_> = [latin1, large, missing, scratch.0.clone()]
        .iter()
        .map(|path| {
            load(path, &Lists::default())
                .unwrap_err()
                .to_string()
                .replace(&scratch.0.display().to_string(), "/etc/llm")
        })
        .collect();
    snapshot("unreadable", &reports.join("\n"));
}

#[test]
fn mistakes_in_the_structure() {
    golden(
        "structure",
        &[
            ("unknown key at the top", BASE.replace("probes:", "prob:")),
            ("unknown key of a target", target("modle: x")),
            ("unknown key of a probe", probe("concurency: 5")),
            ("key of another item", probe("ttft: 500ms")),
            ("key of a target in a probe", probe("model: x")),
            ("key without likeness", probe("colour: red")),
            (
                "key of defaults that identifies a probe",
                top("defaults: { name: x, every: 1m }"),
            ),
            ("key given twice", probe("every: 1m\nmax_tokens: 5\nevery: 2m")),
            ("key without value", probe("every:")),
            ("list instead of mapping", top("global: [team]")),
            ("text instead of list", probe("targets: granite")),
            (
                "mapping instead of list",
                "targets: { name: x }\nprobes: []\n".into(),
            ),
            (
                "neither targets nor probes",
                "global: { max_in_flight: 5 }\n".into(),
            ),
            ("empty lists", "targets: []\nprobes: []\n".into()),
        ],
    );
}

#[test]
fn metrics() {
    golden(
        "metrics",
        &[
            (
                "families that are not there",
                top("metrics: { disable: [llm_probe_request_failures, nothing, llm_probe_bursts_total, 1] }"),
            ),
            ("not a list", top("metrics: { disable: llm_probe_bursts_total }")),
            (
                "buckets of what has none",
                top(
                    "metrics: { buckets: { llm_probe_time_to_first_token: [1], llm_probe_bursts_total: [1] } }",
                ),
            ),
            (
                "bounds that do not rise, are zero, or are none",
                top(
                    "metrics:\n  buckets:\n    llm_probe_time_to_first_token_seconds: [1, 2, 2]\n    llm_probe_request_duration_seconds: [0, 1]\n    llm_probe_longest_gap_seconds: []\n    llm_probe_send_lag_seconds: [-1, .inf, x]\n    llm_probe_schedule_lag_seconds: 5",
                ),
            ),
            (
                "too many bounds",
                top(&format!(
                    "metrics: {{ buckets: {{ llm_probe_send_lag_seconds: {:?} }} }}",
                    (1..=61).collect::<Vec<_>>()
                )),
            ),
            (
                "native histograms",
                top("metrics: { native_histograms: maybe, native: true }"),
            ),
        ],
    );
}

#[test]
fn measure() {
    golden(
        "measure",
        &[
            ("a word that is none", top("measure: { realtime: always }")),
            ("not a word", top("measure: { realtime: [auto] }")),
            ("an unknown key", top("measure: { real_time: auto }")),
            ("not a mapping", top("measure: auto")),
        ],
    );
}

#[test]
fn threads_go_first_where_they_may_unless_the_file_says_otherwise() {
    assert_eq!(plan(BASE).global().realtime, Realtime::Auto);
    for realtime in [Realtime::Auto, Realtime::Off, Realtime::Require] {
        let given = top(&format!("measure: {{ realtime: {} }}", realtime.as_str()));
        assert_eq!(plan(&given).global().realtime, realtime);
    }
}

#[test]
fn what_is_exposed() {
    let given = "metrics:\n  native_histograms: true\n  disable: [llm_probe_bursts_total]\n  buckets: { llm_probe_send_lag_seconds: [0.5, 1] }";
    let exposition = plan(&top(given)).global().exposition.clone();
    let expected = Exposition {
        native_histograms: true,
        disable: ["llm_probe_bursts_total".into()].into(),
        buckets: [("llm_probe_send_lag_seconds".into(), vec![0.5, 1.0])].into(),
    };
    assert_eq!(exposition, expected);
    assert_eq!(plan(BASE).global().exposition, Exposition::default());
}

#[test]
fn mistakes_in_global() {
    golden(
        "global",
        &[
            (
                "reserved, invalid and repeated labels",
                top("global: { labels: [job, 1st, __x, team, team, a-b] }"),
            ),
            (
                "label that is not declared",
                format!(
                    "global: {{ labels: [team] }}\n{}",
                    target("labels: { taem: x, tier: prod }")
                ),
            ),
            ("no label is declared", probe("labels: { tier: prod }")),
            (
                "label value that is no text",
                format!("global: {{ labels: [tier] }}\n{}", target("labels: { tier: 1 }")),
            ),
            (
                "too few places",
                format!("global: {{ max_in_flight: 20 }}\n{}", probe("concurrency: 50")),
            ),
            ("no places", top("global: { max_in_flight: 0 }")),
            ("user agent", top("global: { user_agent: \"a\\nb\" }")),
            (
                "headers of the identity",
                top("global: { identity: { probe_id: 'X Probe', request_id: User-Agent, traceparent: 1 } }"),
            ),
            (
                "one header for two things",
                top("global: { identity: { request_id: X-Probe-ID } }"),
            ),
        ],
    );
}

#[test]
fn mistakes_in_generation() {
    let tgi = |keys: &str| probe(keys).replace("api: openai_chat", "api: tgi_generate");
    golden(
        "generation",
        &[
            ("least above most", probe("max_tokens: 16\nmin_tokens: 17")),
            ("no field for the length", tgi("min_tokens: 5\nignore_eos: true")),
            ("nobody can be told", probe("thinking: on")),
            ("not a word", probe("thinking: maybe")),
            ("another API's way", target("reasoning: think")),
            (
                "an API without a way",
                target("reasoning: effort").replace("api: openai_chat", "api: tgi_generate"),
            ),
        ],
    );
}

#[test]
fn models_do_not_think_unless_they_are_to() {
    let plan = plan(&format!(
        "{}  - {{ name: thinker, thinking: on, min_tokens: 9, ignore_eos: true }}\n",
        target("reasoning: chat_template")
    ));
    let generations: Vec<_> = plan.probes().iter().map(|probe| probe.generation).collect();
    let thinker = Generation {
        min_tokens: Some(Tokens(9)),
        ignore_eos: true,
        thinking: Thinking::On,
    };
    assert_eq!(generations, [Generation::default(), thinker]);
    assert_eq!(plan.targets()[0].reasoning, Some(Reasoning::ChatTemplate));
}

#[test]
fn mistakes_in_targets() {
    let url = |url: &str| with("url: http://localhost:11434/v1", &format!("url: {url}"));
    golden(
        "targets",
        &[
            (
                "only a name",
                "targets: [{ name: granite }]\nprobes: [{ name: x }]\n".into(),
            ),
            ("no name", with("name: granite", "share: true")),
            ("empty name", with("name: granite", "name: ''")),
            (
                "control character in a name",
                with("name: granite", "name: \"gran\\tite\""),
            ),
            (
                "name of two",
                BASE.replace(
                    "probes:",
                    "  - { name: granite, url: 'http://h', api: ollama_chat, model: m }\nprobes:",
                ),
            ),
            ("number as model", with("model: granite4:350m", "model: 7")),
            ("empty model", with("model: granite4:350m", "model: ''")),
            ("no scheme", url("localhost:11434/v1")),
            ("relative URL", url("/v1")),
            ("other scheme", url("ftp://localhost/v1")),
            ("no host", url("http://")),
            ("bad port", url("http://localhost:99999/v1")),
            ("query", url("http://localhost/v1?key=hunter2")),
            ("credentials in the URL", url("https://me:hunter2@localhost/v1")),
            ("whole URL", url("http://localhost:11434/v1/chat/completions")),
            ("unknown api", with("api: openai_chat", "api: openai-chat")),
            ("other api", with("api: openai_chat", "api: grpc")),
            ("unknown word", target("connection: reused")),
            ("unknown HTTP version", target("http: 3")),
            ("unknown field", target("max_tokens_field: max_new_tokens")),
            (
                "field of another api",
                with(
                    "api: openai_chat",
                    "api: ollama_chat\nmax_tokens_field: max_tokens",
                ),
            ),
            ("no boolean", target("share: maybe")),
            (
                "fields that are set anyway",
                target("body: { stream: false, max_tokens: 5, messages: [], options: { num_predict: 1 } }"),
            ),
            ("no JSON", target("body: { temperature: .nan }")),
            ("text as body", target("body: temperature")),
            (
                "negative price",
                target("price: { input_per_million: -1, output_per_million: .nan }"),
            ),
            ("half a price", target("price: { input_per_million: 0.15 }")),
            (
                "nested fields that are set anyway",
                target("body: { generationConfig: { maxOutputTokens: 5 }, parameters: { stream: false } }"),
            ),
            (
                "whole URL with a model",
                with("api: openai_chat", "api: gemini").replace(
                    "http://localhost:11434/v1",
                    "http://h/v1beta/models/granite:streamGenerateContent",
                ),
            ),
            (
                "no version in the URL",
                with("api: openai_chat", "api: anthropic_messages")
                    .replace("http://localhost:11434/v1", "http://h"),
            ),
            ("text mode of another api", target("text_mode: delta")),
            (
                "replica header that is none",
                target("replica_header: 'X Backend'"),
            ),
            ("unknown text mode", target("text_mode: accumulated")),
            ("tokenizer without a file", target("tokenizer: {}")),
            ("missing tokenizer", target("tokenizer: { file: missing.json }")),
            ("no tokenizer", target("tokenizer: { file: bad.jsonl }")),
            ("text as tokenizer", target("tokenizer: tokenizer.json")),
        ],
    );
}

#[test]
fn mistakes_in_what_is_expected() {
    golden(
        "expectations",
        &[
            ("unknown key", probe("expect: { regex: x }")),
            ("nothing to contain", probe("expect: { contains: '' }")),
            ("number", probe("expect: { contains: 7 }")),
            ("no regular expression", probe("expect: { matches: 'a(b' }")),
            (
                "large regular expression",
                probe("expect: { matches: '\\w{1000}{100}' }"),
            ),
            ("no tokens", probe("expect: { min_output_tokens: 0 }")),
            (
                "more than there may be",
                probe("expect: { min_output_tokens: 65 }"),
            ),
        ],
    );
}

#[test]
fn mistakes_on_the_way_to_a_target() {
    let https = |keys: &str| target(keys).replace("http://localhost", "https://localhost");
    golden(
        "reach",
        &[
            ("TLS without TLS", target("tls: { min_version: 1.3 }")),
            (
                "unknown and misspelt keys",
                https(
                    "tls: { ca: ca.pem, cert: x, servername: x, insecure: true }\nproxy_url: http://proxy:3128",
                ),
            ),
            ("unknown version", https("tls: { min_version: 1.1 }")),
            (
                "files that are not there",
                https("tls: { ca_file: none.pem, cert_file: none.pem, key_file: none.key }"),
            ),
            (
                "files of another kind",
                https("tls: { ca_file: empty, cert_file: latin1, key_file: cert.pem }"),
            ),
            (
                "the key itself",
                https("tls: { cert_file: cert.pem, key_file: hunter2 }"),
            ),
            ("certificate without a key", https("tls: { cert_file: cert.pem }")),
            (
                "key without a certificate",
                https("tls: { key_file: client.key }"),
            ),
            (
                "encrypted key",
                https("tls: { cert_file: cert.pem, key_file: locked.key }"),
            ),
            ("address as name", https("tls: { server_name: 10.0.0.1 }")),
            ("wildcard as name", https("tls: { server_name: '*.example.com' }")),
            (
                "no verification (a warning)",
                https("tls: { insecure_skip_verify: true }"),
            ),
            ("proxy without a URL", target("proxy: { username: me }")),
            ("text as proxy", target("proxy: http://proxy:3128")),
            ("proxy without a scheme", target("proxy: { url: 'proxy:3128' }")),
            ("proxy over TLS", target("proxy: { url: 'https://proxy:3128' }")),
            (
                "proxy with a path",
                target("proxy: { url: 'http://proxy:3128/pac' }"),
            ),
            (
                "credentials in the URL of a proxy",
                target("proxy: { url: 'http://me:hunter2@proxy:3128' }"),
            ),
            (
                "password in the file",
                target("proxy: { url: 'socks5://proxy', username: me, password: hunter2 }"),
            ),
            (
                "password of nobody",
                target("proxy: { url: 'socks5://proxy', password_file: two-lines }"),
            ),
            (
                "name without a password",
                target("proxy: { url: 'socks5://proxy', username: 'me:you' }"),
            ),
            (
                "proxy to a socket",
                target("proxy: { url: 'socks5://proxy' }\nunix_socket: /run/llm.sock"),
            ),
            (
                "proxy and server name",
                https("proxy: { url: 'http://proxy' }\ntls: { server_name: llm.internal }"),
            ),
            (
                "HTTP/2 without TLS by proxy",
                target("proxy: { url: 'http://proxy' }\nhttp: 2"),
            ),
            (
                "long socket",
                target(&format!("unix_socket: /run/{}", "x".repeat(120))),
            ),
            ("no socket", target("unix_socket: ''")),
        ],
    );
}

#[test]
fn expectations_and_tokenizers_arrive() {
    let scratch = Scratch::new();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example-tokenizer.json");
    scratch.write("tokenizer.json", fs::read(tokenizer).unwrap());
    let text = format!(
        "defaults: {{ expect: {{ contains: a, min_output_tokens: 3 }} }}\n{}",
        target("tokenizer: { file: tokenizer.json }")
            .replace("    every: 1m", "    expect: { contains: b, matches: '^c' }")
            .replace(
                "probes:",
                "  - { name: t, url: 'http://h/v2', api: triton_generate, model: m, text_mode: cumulative, tokenizer: { file: tokenizer.json } }\nprobes:"
            )
    );
    let plan = parse(&text, "probes.yaml", &scratch.0).unwrap_or_else(|error| panic!("{error}"));
    let [one, other] = plan.targets() else { panic!() };
    let (one, tokenizer) = (one.tokenizer.as_ref().unwrap(), other.tokenizer.as_ref().unwrap());
    assert!(std::sync::Arc::ptr_eq(one, tokenizer), "a file is read once");
    assert_eq!(other.text_mode.as_str(), "cumulative");
    let expect = plan.probes()[0].expect.as_ref().unwrap();
    assert_eq!(expect.contains.as_deref(), Some("b"));
    assert_eq!(expect.min_output_tokens, Some(Tokens(3)));
    assert!(expect.matches.is_some());
}

#[test]
fn the_way_to_a_target_is_read() {
    let scratch = Scratch::new();
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let cert = scratch.write("cert.pem", pem);
    scratch.write("client.key", "-----BEGIN PRIVATE KEY-----\nhunter2\n");
    let secret = scratch.write("password", "hunter2\n");
    let text = target(
        "http: auto\ntls: { ca_file: cert.pem, cert_file: cert.pem, key_file: client.key, server_name: LLM.internal, min_version: 1.3 }",
    )
    .replace("http://localhost", "https://localhost");
    let plan = parse(&text, "probes.yaml", &scratch.0).unwrap();
    let Reach {
        tls,
        proxy,
        unix_socket,
        addresses,
    } = &plan.targets()[0].reach;
    assert_eq!(*addresses, Addresses::Any);
    let ca = Pem {
        path: cert,
        text: pem.into(),
    };
    assert_eq!(tls.ca.as_ref(), Some(&ca));
    assert_eq!(tls.identity.as_ref().unwrap().certificates, ca);
    assert_eq!(tls.server_name.as_deref(), Some("llm.internal"));
    assert_eq!(tls.min_version, TlsVersion::Tls13);
    assert!(!tls.insecure_skip_verify);
    assert_eq!((proxy, unix_socket), (&None, &None));
    assert!(!format!("{plan:?}").contains("hunter2"));

    let text = target("proxy: { url: 'socks5h://proxy', username: me, password_file: password }");
    let plan = parse(&text, "probes.yaml", &scratch.0).unwrap();
    let proxy = plan.targets()[0].reach.proxy.as_ref().unwrap();
    assert_eq!(proxy.url.as_str(), "socks5h://proxy:1080");
    let login = proxy.login.as_ref().unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.expose()),
        ("me", "hunter2")
    );
    assert!(!format!("{plan:?}").contains("hunter2"), "{}", secret.display());

    let plan = parse(&target("unix_socket: llm.sock"), "probes.yaml", &scratch.0).unwrap();
    assert_eq!(
        plan.targets()[0].reach.unix_socket,
        Some(scratch.0.join("llm.sock"))
    );
}

#[test]
fn mistakes_with_secrets() {
    golden(
        "secrets",
        &[
            (
                "credentials in the file",
                target("authorization: { credentials: hunter2 }"),
            ),
            ("text as authorization", target("authorization: Bearer hunter2")),
            ("key in the target", target("api_key: hunter2")),
            (
                "variable that is not set",
                target("authorization: { credentials_env: LLM_PROBE_EXPORTER_NO_SUCH_KEY }"),
            ),
            (
                "secret in place of the variable",
                target("authorization: { credentials_env: hunter2 }"),
            ),
            (
                "file that is not there",
                target("authorization: { credentials_file: missing.key }"),
            ),
            ("empty file", target("authorization: { credentials_file: empty }")),
            (
                "file that is not UTF-8",
                target("authorization: { credentials_file: latin1 }"),
            ),
            (
                "file of two lines",
                target("authorization: { credentials_file: two-lines }"),
            ),
            (
                "secret in place of the file",
                target("authorization: { credentials_file: sk-hunter2 }"),
            ),
            ("neither", target("authorization: { scheme: Basic }")),
            (
                "both",
                target("authorization: { credentials_env: PATH, credentials_file: empty }"),
            ),
            (
                "scheme of two words",
                target("authorization: { scheme: Bearer hunter2, credentials_env: PATH }"),
            ),
            ("header without value", target("headers: { X-Team: {} }")),
            (
                "header with two values",
                target("headers: { X-Team: { value: hunter2, env: PATH } }"),
            ),
            ("header as text", target("headers: { X-Team: hunter2 }")),
            (
                "line break in a header",
                target("headers: { X-Team: { value: \"hunter2\\nx\" } }"),
            ),
            (
                "no name of a header",
                target("headers: { X Team: { value: hunter2 } }"),
            ),
            (
                "header twice",
                target("headers: { X-Team: { value: hunter2 }, x-team: { value: hunter2 } }"),
            ),
            (
                "headers of the client",
                target(
                    "headers: { Authorization: { value: hunter2 }, Host: { value: x }, User-Agent: { value: x } }",
                ),
            ),
            (
                "unquoted mapping",
                target("headers: { X-Team: { value hunter2 } }"),
            ),
            (
                "secret as value",
                target("headers: { X-Key: { value: sk-hunter2 } }"),
            ),
            ("no YAML", target("headers: { X-Team: { value: hunter2 }")),
            (
                "mistake beside a secret",
                target("headers: { X-Team: { vlaue: x, value: hunter2 } } # hunter2"),
            ),
            (
                "secrets in the clear",
                BASE.replace("localhost:11434", "llm.example.com")
                    .replace("    api", "    authorization: { credentials_env: PATH }\n    api"),
            ),
        ],
    );
}

#[test]
fn mistakes_with_tokens() {
    golden(
        "tokens",
        &[
            (
                "client secret in the file",
                target(
                    "oauth2: { client_id: probe, client_secret: hunter2, token_url: 'https://login/token' }",
                ),
            ),
            ("nothing of a token", target("oauth2: {}")),
            (
                "token from nowhere",
                target(
                    "oauth2: { client_id: probe, client_secret_env: PATH, token_url: 'https://me:hunter2@login/token' }",
                ),
            ),
            (
                "token beside a key",
                target(
                    "authorization: { credentials_env: PATH }\noauth2: { client_id: probe, client_secret_env: PATH, token_url: 'http://login.example.com/token' }",
                ),
            ),
        ],
    );
}

#[test]
fn mistakes_in_probes() {
    golden(
        "probes",
        &[
            ("no name", BASE.replace("name: single-user", "warmup: 1")),
            ("name of two", format!("{BASE}  - name: single-user\n")),
            ("unknown target", probe("targets: [granit]")),
            (
                "target without likeness",
                probe("targets: [llama, granite, granite]"),
            ),
            ("no target", probe("targets: []")),
            ("number as duration", probe("every: 60")),
            ("fraction as duration", probe("every: 0.5")),
            ("no duration", probe("every: often")),
            ("no time", probe("every: 0s")),
            ("too often", probe("every: 20ms")),
            ("too seldom", probe("every: 5y")),
            ("no users", probe("concurrency: 0")),
            ("negative users", probe("concurrency: -3")),
            ("words as users", probe("concurrency: many")),
            ("no requests", probe("requests: 0")),
            ("too few requests", probe("concurrency: 50\nrequests: 5")),
            ("requests and duration", probe("requests: 5\nduration: 10s")),
            ("no tokens", probe("max_tokens: 0")),
            ("too many tokens", probe("max_tokens: 99999999999999999999999")),
            ("negative warm-up", probe("warmup: -1")),
            ("more jitter than period", probe("jitter: 60%")),
            ("jitter in percent without the sign", probe("jitter: 10")),
            ("jitter as a time", probe("jitter: 5s")),
            (
                "two probes inherit one mistake",
                format!("{BASE}  - name: other\ndefaults: {{ jitter: 60% }}\n"),
            ),
        ],
    );
}

#[test]
fn mistakes_in_protection() {
    let price = "price: { input_per_million: 1, output_per_million: 2 }";
    golden(
        "protection",
        &[
            ("no period", probe("budget: { requests: 5 }")),
            ("nothing limited", probe("budget: { per: day }")),
            ("unknown period", probe("budget: { requests: 5, per: week }")),
            ("no requests", probe("budget: { requests: 0, per: day }")),
            ("no dollars", probe("budget: { dollars: 0, per: day }")),
            (
                "smaller than a burst",
                probe("budget: { requests: 5, per: hour }\nconcurrency: 4\nwarmup: 2"),
            ),
            (
                "smaller than the output of a burst",
                probe("budget: { output_tokens: 100, per: day }\nconcurrency: 2"),
            ),
            (
                "smaller than the prompts of a burst",
                probe("budget: { input_tokens: 99, per: day }\nprompt: { tokens: 100 }"),
            ),
            (
                "smaller than a prompt that is written",
                probe(
                    "budget: { input_tokens: 9, per: day }\nprompt: { text: As long as thirty-three letters are }",
                ),
            ),
            (
                "nobody knows the price",
                probe("budget: { dollars: 1, per: day }"),
            ),
            (
                "nobody knows how much is sent",
                probe("budget: { requests: 99, per: day }\nduration: 1m"),
            ),
            ("tokens of which kind", probe("budget: { tokens: 99, per: day }")),
            (
                "a target without a price",
                target("budget: { dollars: 1, per: day }"),
            ),
            (
                "a target with less than a burst",
                target("budget: { output_tokens: 10, per: day }"),
            ),
            (
                "a target with less money than a burst",
                target(&format!("{price}\nbudget: {{ dollars: 0.0001, per: hour }}")),
            ),
            ("protected by nothing", probe("protect: { abort_over: 0% }")),
            ("protected by a word", probe("protect: on")),
            ("after no request", probe("protect: { after: 0 }")),
            (
                "busy without an address",
                target("busy: { skip_when: [\"a > 1\"] }"),
            ),
            (
                "busy without a condition",
                target("busy: { url: http://a/metrics }"),
            ),
            (
                "busy on conditions that are none",
                target("busy: { url: http://a/metrics, skip_when: [\"a\", \"a == 1\", \"sum(a) > 1\"] }"),
            ),
            (
                "busy at no address",
                target("busy: { url: \"a:8000/metrics\", skip_when: [\"a > 1\"] }"),
            ),
        ],
    );
}

#[test]
fn protection_arrives() {
    let text = BASE.replace("every: 1m", "every: 1m\n    protect: off")
        + "  - { name: usual, budget: { requests: 9, per: hour } }\n  - { name: own, protect: { abort_over: 20% } }\n";
    let plan = plan(&text);
    let [off, usual, own] = plan.probes() else {
        panic!("three probes");
    };
    assert_eq!(off.protect, None);
    assert_eq!(usual.protect, Some(Protect::default()));
    assert_eq!(
        own.protect.map(|own| (own.abort_over.get(), own.after)),
        Some((0.2, 4))
    );
    assert_eq!(usual.budget.and_then(|budget| budget.requests), Some(9));
    assert!(plan.has_budgets());
}

#[test]
fn mistakes_in_calendars() {
    golden(
        "calendars",
        &[
            ("both", probe("every: 1m\ncron: '* * * * *'")),
            ("a field that is none", probe("cron: '*/5 25 * * *'")),
            ("a day that is none", probe("cron: '0 9 * * Mo-Fr'")),
            ("six fields", probe("cron: '0 */5 * * * *'")),
            ("no expression", probe("cron: hourly")),
            ("never", probe("cron: '0 0 30 2 *'")),
            ("zone", probe("timezone: Europe/Pari\ncron: '0 9 * * *'")),
            ("no zone", probe("timezone: CEST\ncron: '0 9 * * *'")),
            ("no windows", probe("windows: []")),
            ("empty window", probe("windows: [{}]")),
            ("unknown key", probe("windows: [{ day: Mon }]")),
            ("days", probe("windows: [{ days: Mon-Friday }]")),
            ("hours", probe("windows: [{ hours: 8-18 }]")),
            ("no hours", probe("windows: [{ hours: '08:00-08:00' }]")),
            ("time", probe("pauses: [{ from: 24.12.2026, to: 2026-12-27 }]")),
            ("half a pause", probe("pauses: [{ from: 2026-12-24 }]")),
            (
                "backwards",
                probe("pauses: [{ from: 2026-12-27, to: 2026-12-24 }]"),
            ),
            (
                "paused for good",
                probe("windows: [{ days: Mon }]\npauses: [{ from: 2020-01-01, to: 2999-01-01 }]"),
            ),
            (
                "outside",
                probe("cron: '0 7 * * *'\nwindows: [{ hours: '08:00-18:00' }]"),
            ),
            (
                "too rare",
                probe("every: 1h\nwindows: [{ hours: '08:00-08:30' }]"),
            ),
        ],
    );
}

#[test]
fn a_probe_keeps_its_own_of_every_and_cron() {
    let cron = "defaults: { cron: '*/5 * * * *', timezone: Europe/Paris, windows: [{ days: Mon-Fri }] }";
    let plan = plan(&top(cron).replace("    every: 1m\n", ""));
    let inherited = plan.probes().first().unwrap();
    assert_eq!(inherited.cron.as_ref().unwrap().as_str(), "*/5 * * * *");
    assert_eq!(inherited.every, Duration::from_mins(5));
    assert_eq!(inherited.calendar.windows.len(), 1);
    let plan = self::plan(&top(cron).replace("every: 1m", "every: 7m"));
    let own = plan.probes().first().unwrap();
    assert_eq!((own.cron.is_none(), own.every), (true, Duration::from_mins(7)));
    let per_day = own.bursts_per_second(0.0) * 86_400.0;
    assert!((per_day - 5.0 / 7.0 * 1440.0 / 7.0).abs() < 2.0, "{per_day}");
}

#[test]
fn mistakes_in_ladders() {
    golden(
        "ladders",
        &[
            (
                "concurrency and ladder",
                probe("concurrency: 1\nladder: [{ users: 1 }]"),
            ),
            ("no steps", probe("ladder: []")),
            ("falling", probe("ladder: [{ users: 50 }, { users: 1 }]")),
            ("same step twice", probe("ladder:\n  - users: 5\n  - users: 5")),
            ("step without users", probe("ladder: [{ requests: 5 }]")),
            ("key of a probe", probe("ladder: [{ concurrency: 5 }]")),
            ("numbers as steps", probe("ladder: [1, 50]")),
            (
                "too few requests for a step",
                probe("requests: 5\nladder: [{ users: 1 }, { users: 50 }]"),
            ),
            (
                "requests and duration",
                probe("ladder: [{ users: 1, requests: 5, duration: 1s }]"),
            ),
            ("too wide", probe("ladder: [{ users: 1 }, { users: 5000 }]")),
            (
                "falling rates",
                probe("duration: 1m\nladder: [{ rate: 2 }, { rate: 1.5 }]"),
            ),
            (
                "mixed",
                probe("duration: 1m\nladder: [{ users: 2 }, { rate: 5 }]"),
            ),
            ("both in a step", probe("ladder: [{ users: 2, rate: 5 }]")),
            ("rates without an end", probe("ladder: [{ rate: 2 }]")),
            (
                "users at a rate",
                probe("duration: 1m\narrival: { kind: rate }\nladder: [{ users: 2 }]"),
            ),
            (
                "rates that start together",
                probe("duration: 1m\narrival: { kind: together }\nladder: [{ rate: 2 }]"),
            ),
            (
                "two rates",
                probe("duration: 1m\narrival: { kind: rate, per_second: 1 }\nladder: [{ rate: 2 }]"),
            ),
            ("stop without ladder", probe("ladder_stop: 50%")),
            (
                "stop that never stops",
                probe("ladder_stop: 100%\nladder: [{ users: 1 }]"),
            ),
        ],
    );
}

#[test]
fn mistakes_in_searches() {
    let search = |keys: &str| probe(&format!("slo: {{ ttft: 1s }}\n{keys}"));
    golden(
        "searches",
        &[
            ("no slo", probe("capacity: {}")),
            ("no mapping", search("capacity: 64")),
            (
                "conversations",
                search("capacity: {}\nprompt: { turns: [Why?, And then?] }"),
            ),
            ("ladder", search("capacity: {}\nladder: [{ users: 1 }]")),
            ("concurrency", search("capacity: {}\nconcurrency: 8")),
            ("duration", search("capacity: {}\nduration: 1m")),
            ("users as a key", search("capacity: { users: 64 }")),
            ("no more than one user", search("capacity: { max: 1 }")),
            ("half a user", search("capacity: { max: 2.5 }")),
            ("more than may be under way", search("capacity: { max: 5000 }")),
            ("too few requests", search("requests: 300\ncapacity: {}")),
            ("too many requests", search("capacity: { requests: 2000000 }")),
            ("too many repeats", search("capacity: { repeats: 1000 }")),
            ("coarse", search("capacity: { resolution: 90% }")),
            (
                "a rate without an end",
                search("arrival: { kind: rate, per_second: 2 }\ncapacity: {}"),
            ),
            (
                "a rate no higher than the first",
                search("requests: 30\narrival: { kind: rate, per_second: 2 }\ncapacity: { max: 2 }"),
            ),
            (
                "more than the budget",
                search("capacity: {}\nbudget: { requests: 400, per: day }"),
            ),
        ],
    );
}

#[test]
fn searches_arrive() {
    let plan_of = |keys: &str| plan(&probe(&format!("slo: {{ ttft: 1s, alert: page }}\n{keys}")));
    let users = plan_of("warmup: 1\ncapacity: { requests: 300 }");
    let probe = &users.probes()[0];
    let bounds = probe.capacity.unwrap();
    assert_eq!((bounds.lowest, bounds.most), (Load::Users(1), Load::Users(64)));
    assert_eq!((bounds.requests, bounds.repeats), (300, 3));
    assert_eq!(
        (bounds.cost(Load::Users(1)), bounds.cost(Load::Users(9))),
        (2, 10)
    );
    // Warm-up is in the bound.
    assert_eq!(probe.requests_of_a_round(), 300);
    assert_eq!(probe.steps.len(), 1);
    assert_eq!(probe.steps[0].slo.alert, Alert::None);

    let rates = plan_of("duration: 10s\narrival: { kind: rate, per_second: 2 }\ncapacity: {}");
    let bounds = rates.probes()[0].capacity.unwrap();
    assert_eq!(bounds.most.to_string(), "128 requests/s");
    assert_eq!((bounds.cost(bounds.lowest), bounds.cost(bounds.most)), (20, 1280));

    // What the probe itself has of loads that exclude one another wins over what `defaults` have.
    let inherited = |own: &str, defaults: &str| {
        let text = with("every: 1m", &format!("slo: {{ ttft: 1s }}\n{own}"));
        plan(&format!("{text}defaults: {{ {defaults} }}\n")).probes()[0].capacity
    };
    assert!(inherited("capacity: {}", "concurrency: 4").is_some());
    assert!(inherited("concurrency: 4", "capacity: {}").is_none());
    assert!(inherited("prompt: { tokens: 4 }", "capacity: {}").is_some());
}

#[test]
fn mistakes_in_arrivals() {
    golden(
        "arrivals",
        &[
            ("no kind", probe("arrival: { per_second: 5 }")),
            ("unknown kind", probe("arrival: { kind: burst }")),
            ("ramp without time", probe("arrival: { kind: ramp }")),
            (
                "ramp longer than the burst",
                probe("duration: 5s\narrival: { kind: ramp, over: 5s }"),
            ),
            (
                "ramp with a rate",
                probe("arrival: { kind: ramp, over: 5s, per_second: 3 }"),
            ),
            (
                "rate without an end",
                probe("arrival: { kind: rate, per_second: 5 }"),
            ),
            (
                "rate without a rate",
                probe("duration: 1m\narrival: { kind: rate }"),
            ),
            (
                "rate of nothing",
                probe("duration: 1m\narrival: { kind: rate, per_second: 0 }"),
            ),
            (
                "rate beyond all",
                probe("requests: 5\narrival: { kind: rate, per_second: 100000 }"),
            ),
            (
                "more requests than a burst may have",
                probe("duration: 1h\narrival: { kind: rate, per_second: 1000 }"),
            ),
            (
                "users at a rate",
                probe("concurrency: 5\nduration: 1m\narrival: { kind: rate, per_second: 5 }"),
            ),
            (
                "unknown process",
                probe("duration: 1m\narrival: { kind: rate, per_second: 5, process: poison }"),
            ),
            (
                "burstiness of a Poisson process",
                probe("duration: 1m\narrival: { kind: rate, per_second: 5, burstiness: 0.5 }"),
            ),
            (
                "gamma without burstiness",
                probe("duration: 1m\narrival: { kind: rate, per_second: 5, process: gamma }"),
            ),
            (
                "absurd burstiness",
                probe("duration: 1m\narrival: { kind: rate, per_second: 5, process: gamma, burstiness: 0 }"),
            ),
        ],
    );
}

#[test]
fn mistakes_in_prompts() {
    golden(
        "prompts",
        &[
            ("text instead of mapping", probe("prompt: Why?")),
            ("two sources", probe("prompt: { text: a, tokens: 5 }")),
            ("empty text", probe("prompt: { text: '', system: ' ' }")),
            ("no tokens", probe("prompt: { tokens: 0 }")),
            ("too many tokens", probe("prompt: { tokens: 5000000 }")),
            ("empty range", probe("prompt: { tokens: uniform 512..64 }")),
            ("range from nothing", probe("prompt: { tokens: uniform 0..64 }")),
            ("range too far", probe("prompt: { tokens: uniform 64..2000000 }")),
            (
                "deviation beyond the mean",
                probe("prompt: { tokens: normal 100±300 }"),
            ),
            ("normal around nothing", probe("prompt: { tokens: normal 0±0 }")),
            (
                "normal that reaches too far",
                probe("prompt: { tokens: normal 900000±100000 }"),
            ),
            ("range in a foreign form", probe("prompt: { tokens: 64..512 }")),
            (
                "prefix of all",
                probe("prompt: { tokens: 512, prefix_tokens: 512 }"),
            ),
            (
                "prefix beyond the shortest",
                probe("prompt: { tokens: uniform 64..512, prefix_tokens: 100 }"),
            ),
            (
                "prefix of any length",
                probe("prompt: { tokens: normal 300±100, prefix_tokens: 100 }"),
            ),
            (
                "prefix of a text",
                probe("prompt: { text: Why?, prefix_tokens: 100 }"),
            ),
            (
                "prefix that is not shared",
                probe("prompt: { tokens: 512, prefix_tokens: 100, cache: bust }"),
            ),
            (
                "pair whose name is taken",
                format!(
                    "{}  - name: single-user-cold\n",
                    probe("prompt: { tokens: 512, cache: pair }")
                ),
            ),
            ("negative number", probe("prompt: { tokens: uniform -5..5 }")),
            ("unknown distribution", probe("prompt: { tokens: gamma 5 }")),
            ("unknown word", probe("prompt: { cache: busted }")),
            ("file that is not there", probe("prompt: { file: missing.jsonl }")),
            ("file without prompts", probe("prompt: { file: blank.jsonl }")),
            ("file with a bad line", probe("prompt: { file: bad.jsonl }")),
            (
                "file with an empty prompt",
                probe("prompt: { file: hollow.jsonl }"),
            ),
            ("file that is not UTF-8", probe("prompt: { file: latin1 }")),
            (
                "lines that are no prompts",
                probe("prompt: { file: shapes.jsonl }"),
            ),
            (
                "messages that are no question",
                probe("prompt: { file: messages.jsonl }"),
            ),
            (
                "weights and names that are none",
                probe("prompt: { file: weights.jsonl }"),
            ),
            (
                "more wrong lines than are told",
                probe("prompt: { file: many.jsonl }"),
            ),
            ("too many turns in a file", probe("prompt: { file: long.jsonl }")),
            ("no turns", probe("prompt: { turns: [] }")),
            ("an empty turn", probe("prompt: { turns: [a, ''] }")),
            ("turns and text", probe("prompt: { turns: [a], text: b }")),
            (
                "too many turns",
                probe(&format!("prompt: {{ turns: [a{}] }}", ", a".repeat(100))),
            ),
            (
                "turns at a rate",
                probe("duration: 1m\narrival: { kind: rate, per_second: 5 }\nprompt: { turns: [a, b] }"),
            ),
            (
                "conversations of a file at a rate",
                probe("duration: 1m\narrival: { kind: rate, per_second: 5 }\nprompt: { file: talk.jsonl }"),
            ),
            (
                "turns in a ladder of rates",
                probe("duration: 1m\nladder: [{ rate: 1 }, { rate: 2 }]\nprompt: { turns: [a, b] }"),
            ),
        ],
    );
}

#[test]
fn mistakes_in_objectives_and_deadlines() {
    golden(
        "objectives",
        &[
            ("all of them", probe("slo: { ttft: 1s, objective: 100% }")),
            ("none of them", probe("slo: { ttft: 1s, objective: 0 }")),
            (
                "percent without the sign",
                probe("slo: { ttft: 1s, objective: 99 }"),
            ),
            ("limit of zero", probe("slo: { ttft: 0ms }")),
            ("limit without unit", probe("slo: { itl: 25 }")),
            ("unknown limit", probe("slo: { tftt: 1s }")),
            (
                "unknown failure",
                probe("slo: { excuse: [unauthorised, timeout] }"),
            ),
            ("unknown alert", probe("slo: { alert: pager }")),
            ("origin without limit", probe("slo: { ttft_from: connected }")),
            ("deadline of zero", probe("timeouts: { total: 0s }")),
            (
                "connect after the first token",
                probe("timeouts: { connect: 10s, first_token: 5s }"),
            ),
            (
                "connect after the end",
                probe("timeouts: { connect: 5s, total: 2s }"),
            ),
            (
                "first token after the end",
                probe("timeouts: { first_token: 20m, total: 10m }"),
            ),
            (
                "limit beyond the deadline",
                probe("slo: { ttft: 5s, gap: 20s }\ntimeouts: { first_token: 2s, stall: 10s }"),
            ),
            (
                "limit that is never judged",
                probe("slo: { itl: 20ms }\nmax_tokens: 1"),
            ),
            (
                "unused target",
                probe("targets: [granite]").replace(
                    "probes:",
                    "  - { name: idle, url: 'http://h', api: ollama_chat, model: m }\nprobes:",
                ),
            ),
        ],
    );
}

#[test]
fn all_mistakes_are_told_at_once_and_in_order() {
    let text = "\
global:
  labels: [team, le]
targets:
  - name: granite
    url: localhost:11434
    api: openai_chatt
    model: 7
    authorization: { credentials: hunter2 }
  - name: granite
    url: http://localhost:11434/v1
    api: ollama_chat
    modle: granite4:350m
defaults:
  every: 60
probes:
  - name: single-user
    targets: [granit]
    concurrency: 0
    slo: { tfft: 500ms, objective: 100% }
  - name: fifty-users
    concurrency: 50
    requests: 5
    prompt: { file: missing.jsonl }
    requests: 6
";
    let error = parse(text, "probes.yaml", &Scratch::new().0).unwrap_err();
    let places: Vec<_> = error.problems().iter().map(|problem| problem.place).collect();
    assert!(places.is_sorted(), "{places:?}");
    let scratch = Scratch::new();
    snapshot("everything", &report_in(text, &scratch));
}

#[test]
fn all_ends_of_lines_count() {
    let text = probe("evry: 1m");
    let expected = report_in(&text, &Scratch::new());
    for end in ["\r\n", "\r"] {
        assert_eq!(report_in(&text.replace('\n', end), &Scratch::new()), expected);
    }
}

#[test]
fn twelve_lines_are_enough() {
    let text = "\
targets:
  - name: granite
    url: http://localhost:11434/v1/
    api: openai_chat
    model: granite4:350m
probes:
  - name: single-user
    slo: { ttft: 500ms, itl: 25ms }
  - name: fifty-users
    concurrency: 50
    every: 5m
    timeouts: { total: 20s }
";
    assert_eq!(text.lines().count(), 12);
    let scratch = Scratch::new();
    let path = scratch.write("probes.yaml", format!("\u{feff}{text}"));
    let plan = load(&path, &Lists::default()).unwrap();
    assert!(plan.warnings().is_empty());
    assert_eq!(plan.global().max_in_flight, 1024);
    assert_eq!(
        plan.global().user_agent,
        concat!("llm-probe-exporter/", env!("CARGO_PKG_VERSION"))
    );
    let [target] = plan.targets() else { panic!() };
    assert_eq!(target.url.as_str(), "http://localhost:11434/v1");
    assert_eq!(
        (target.api, target.connection, target.http),
        (Dialect::OpenaiChat, Connection::New, HttpVersion::Http1)
    );
    assert_eq!((target.max_tokens_field, target.share), ("max_tokens", false));
    let [single, fifty] = plan.probes() else { panic!() };
    assert_eq!(
        (single.every, single.settle),
        (Duration::from_mins(1), Duration::from_secs(2))
    );
    assert_eq!(
        (single.max_tokens, single.warmup, single.jitter.get()),
        (Tokens(64), 0, 0.0)
    );
    assert_eq!(single.timeouts, Timeouts::default());
    assert_eq!(single.prompt.cache, Cache::Bust);
    let slo = &single.steps[0].slo;
    assert_eq!(
        (slo.ttft, slo.itl),
        (Some(Duration::from_millis(500)), Some(Duration::from_millis(25)))
    );
    assert_eq!((slo.alert, slo.objective.get()), (Alert::Page, 0.99));
    let step = &fifty.steps[0];
    assert_eq!(
        (step.load, step.volume, step.slo.alert),
        (Load::Users(50), Volume::Requests(50), Alert::None)
    );
    assert_eq!(
        (fifty.timeouts.first_token, fifty.timeouts.connect),
        (Duration::from_secs(20), Duration::from_secs(5))
    );
    assert_eq!(plan.series().count(), 2);
}

#[test]
fn what_a_probe_leaves_out_it_takes_from_the_defaults_key_by_key() {
    let plan = plan(&format!(
        "\
x-limits: &limits {{ ttft: 1s, excuse: [rate_limited, dns, dns] }}
defaults:
  every: 5m
  requests: 100
  concurrency: 3
  prompt: {{ tokens: 100, system: Be brief. }}
  timeouts: {{ first_token: 10s }}
  slo: {{ <<: *limits, itl: 20ms, alert: ticket }}
{BASE}  - name: ladder
    ladder: [{{ users: 1 }}, {{ users: 4 }}, {{ users: 8, slo: {{ ttft: 5s, ttft_from: connected, withheld: ignore }}, duration: 1m }}]
    prompt: {{ text: Why?, cache: share }}
    timeouts: {{ total: 15s }}
    slo: {{ itl: 30ms }}
"
    ));
    let [base, ladder] = plan.probes() else { panic!() };
    assert_eq!(
        (base.every, base.steps[0].load),
        (Duration::from_mins(1), Load::Users(3))
    );
    assert_eq!(base.steps[0].volume, Volume::Requests(100));
    assert_eq!(base.prompt.source, Source::Synthetic(Length::Fixed(Tokens(100))));
    assert_eq!((ladder.every, ladder.steps.len()), (Duration::from_mins(5), 3));
    assert_eq!(
        ladder.prompt.source,
        Source::Written(Scripts::only(Script::of_text("Why?")))
    );
    assert_eq!(ladder.prompt.system.as_deref(), Some("Be brief."));
    assert_eq!(
        (ladder.prompt.cache, base.prompt.cache),
        (Cache::Share, Cache::Bust)
    );
    assert_eq!(
        (ladder.timeouts.first_token, ladder.timeouts.total),
        (Duration::from_secs(10), Duration::from_secs(15))
    );
    let seconds = Duration::from_secs;
    let slos: Vec<_> = ladder
        .steps
        .iter()
        .map(|step| (step.slo.ttft, step.slo.itl, step.slo.alert))
        .collect();
    let itl = Some(Duration::from_millis(30));
    assert_eq!(
        slos,
        [
            (Some(seconds(1)), itl, Alert::Ticket),
            (Some(seconds(1)), itl, Alert::None),
            (Some(seconds(5)), itl, Alert::Ticket),
        ]
    );
    let last = &ladder.steps[2];
    assert_eq!(
        (last.slo.ttft_from, last.slo.withheld),
        (TtftFrom::Connected, Withheld::Ignore)
    );
    assert_eq!(last.volume, Volume::Lasting(seconds(60)));
    assert_eq!(last.slo.excuse, [Failure::Dns, Failure::RateLimited]);
}

#[test]
fn prompts_of_a_file_arrive() {
    let scratch = Scratch::new();
    let lines = r#"{"prompt": "a", "system": "Be brief.", "weight": 2}
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
        {"role": "assistant", "content": "v"}, {"role": "user", "content": "w"}], "name": "chat"}
        {"turns": ["x", "y", "z"], "system": "t", "name": "talk", "weight": 0.5}
        "b""#;
    scratch.write("prompts.jsonl", lines.replace(",\n", ","));
    let text = probe("prompt: { file: prompts.jsonl }\nconcurrency: 4");
    let plan = parse(&text, "probes.yaml", &scratch.0).unwrap_or_else(|error| panic!("{error}"));
    let named = |script: Script, name| Script {
        name: Some(Name::new(name).unwrap()),
        ..script
    };
    let of_system = |system: &str, script: Script| Script {
        system: Some(system.into()),
        ..script
    };
    let chat = Script {
        before: vec![Message::new(Role::User, "u"), Message::new(Role::Assistant, "v")],
        ..Script::of_text("w")
    };
    let talk = Script {
        turns: ["x", "y", "z"].map(Into::into).into(),
        ..Script::default()
    };
    let scripts = vec![
        (of_system("Be brief.", Script::of_text("a")), 2.0),
        (named(of_system("s", chat), "chat"), 1.0),
        (named(of_system("t", talk), "talk"), 0.5),
        (Script::of_text("b"), 1.0),
    ];
    let probe = &plan.probes()[0];
    assert_eq!(
        probe.prompt.source,
        Source::Written(Scripts::weighted(scripts).unwrap())
    );
    // As many as it takes each user to come to the end of the longest.
    assert_eq!(probe.steps[0].volume, Volume::Requests(4 * 3));
}

#[test]
fn files_of_prompts_are_bounded() {
    let scratch = Scratch::new();
    scratch.write("long.jsonl", format!("\"{}\"\n", "a".repeat(8 << 20)));
    scratch.write("many.jsonl", "7\n".repeat(1_000_001));
    for (file, expected) in [
        ("long.jsonl", "long.jsonl:1` is longer than 8 MiB; ask less"),
        (
            "many.jsonl",
            "many.jsonl` has more than 1000000 lines; use fewer prompts",
        ),
    ] {
        let report = report_in(&probe(&format!("prompt: {{ file: {file} }}")), &scratch);
        assert!(report.contains(expected), "{report}");
    }
}

#[test]
fn a_burst_of_conversations_comes_to_their_end() {
    let text = probe(
        "ladder: [{ users: 2 }, { users: 5 }, { users: 6, requests: 7 }]\nprompt: { turns: [a, b, c] }",
    );
    let volumes: Vec<_> = plan(&text).probes()[0]
        .steps
        .iter()
        .map(|step| step.volume)
        .collect();
    assert_eq!(volumes, [6, 15, 7].map(Volume::Requests));
}

#[test]
fn labels_and_secrets_arrive() {
    let scratch = Scratch::new();
    scratch.write("key", "from-a-file\n");
    scratch.write("prompts.jsonl", "\"one\"\n\n{\"prompt\": \"two\"}\n");
    let text = format!(
        "global: {{ labels: [team, tier] }}\n{}",
        target(
            "authorization: { credentials_file: key }\nheaders: { X-Home: { env: CARGO_PKG_NAME }, X-Team: { value: sre } }\n\
             labels: { team: chat, tier: prod }\nbody: { temperature: 0, stop: [a, null, 1.5] }\nhttp: 1.1"
        )
    )
    .replace("    every: 1m", "    labels: { tier: canary }\n    prompt: { file: prompts.jsonl }");
    let plan = parse(&text, "probes.yaml", &scratch.0).unwrap_or_else(|error| panic!("{error}"));
    let target = &plan.targets()[0];
    let authorization = target.authorization.as_ref().unwrap();
    assert_eq!(
        (
            authorization.scheme.as_deref(),
            authorization.credentials.expose()
        ),
        (None, "from-a-file")
    );
    let headers: Vec<_> = target
        .headers
        .iter()
        .map(|header| (header.name.as_str(), header.value.expose()))
        .collect();
    assert_eq!(headers, [("X-Home", env!("CARGO_PKG_NAME")), ("X-Team", "sre")]);
    let body = serde_json::to_string(&target.body).unwrap();
    assert_eq!(body, r#"{"stop":["a",null,1.5],"temperature":0}"#);
    assert_eq!(
        plan.probes()[0].prompt.source,
        Source::Written(
            Scripts::weighted(["one", "two"].map(|text| (Script::of_text(text), 1.0)).into()).unwrap()
        )
    );
    let series = plan.series().next().unwrap();
    assert_eq!(
        (series.label("team"), series.label("tier"), series.label("region")),
        ("chat", "canary", "")
    );
}

#[test]
fn the_example_loads_and_shows_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.yaml");
    let plan = load(&path, &Lists::default()).unwrap_or_else(|error| panic!("{error}"));
    assert!(plan.warnings().is_empty(), "{:?}", plan.warnings());
    let text = fs::read_to_string(path).unwrap();
    for key in items::keys() {
        let shown = [" ", "{", "\n"]
            .iter()
            .any(|before| text.contains(&format!("{before}{key}:")));
        assert!(shown || text.starts_with(key), "`{key}` is not in the example");
    }
}

#[test]
fn defaults_take_what_a_probe_may_have() {
    let mut keys = items::Defaults::KEYS.to_vec();
    keys.extend(["name", "targets", "labels"]);
    keys.sort_unstable();
    let mut expected = items::Probe::KEYS.to_vec();
    expected.sort_unstable();
    assert_eq!(keys, expected);
}

/// A valid configuration with secrets wherever one may be. Each of them is as long as the keys of vendors are, so
/// that it is recognised also where an accident of editing puts it under a key that holds none, and has `hunter` in
/// it many times.
fn with_secrets(scratch: &Scratch) -> String {
    let secret = "hunter2".repeat(24);
    scratch.write("key", &secret);
    let (targets, probes) = BASE.split_at(BASE.find("probes").unwrap());
    format!(
        "{targets}  - name: claude
    url: https://llm.example.com/v1 # {secret}
    api: ollama_chat
    model: m
    headers:
      X-Gateway: {{ value: {secret} }}
      X-Block:
        value: {secret}
      X-Quoted: {{ value: \"{secret}\" }}
    authorization: {{ scheme: Basic, credentials_file: key }}
    body: {{ metadata: {secret} }}
{probes}"
    )
}

#[test]
fn no_secret_is_ever_shown() {
    let scratch = Scratch::new();
    let text = with_secrets(&scratch);
    let plan = parse(&text, "probes.yaml", &scratch.0).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.targets()[1].headers.len(), 3);
    let headers = format!(
        "{:?} {:#?}",
        plan.targets()[1].headers,
        plan.targets()[1].authorization
    );
    assert!(!headers.contains("hunter"), "{headers}");
    // Fields of the body are no place for secrets.
    let without_body = text
        .lines()
        .filter(|line| !line.contains("body:"))
        .fold(String::new(), |all, line| all + line + "\n");
    let plan = parse(&without_body, "probes.yaml", &scratch.0).unwrap();
    let shown = format!("{plan:?} {plan:#?}");
    assert!(!shown.contains("hunter"), "{shown}");
}

/// What this thread has worked, which other processes cannot prolong.
fn cpu_time() -> Duration {
    let worked = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    worked.try_into().unwrap()
}

#[test]
fn hostile_files_are_answered_in_time() {
    let repeated = |part: &str| part.repeat((1 << 20) / part.len());
    let keys = |indent: &str| (0..45_000).fold(String::new(), |all, at| all + &format!("{indent}k{at}: v\n"));
    let merges: String = (0..2_000).fold("x-a: &a { a: 1, b: 2, c: 3 }\nprobes:\n".to_owned(), |all, _| {
        all + "- <<: *a\n"
    });
    for text in [
        repeated("["),
        repeated("{a: "),
        repeated("- "),
        repeated("? "),
        repeated("a: "),
        repeated("a\n"),
        repeated("\""),
        repeated("'a' "),
        repeated("&a "),
        repeated("*a "),
        repeated("a: |\n"),
        repeated("#"),
        repeated("k: v\n"),
        format!("name: {}", repeated("x ")),
        format!("name: \"{}\"", repeated("\\n")),
        format!("x-a: [{}]", repeated("a, ")),
        keys(""),
        format!("{BASE}{}", keys("    ")),
        merges,
    ] {
        let start = cpu_time();
        let answer = parse(&text, "probes.yaml", Path::new("."));
        assert!(!answer.unwrap_err().problems().is_empty());
        let took = cpu_time().saturating_sub(start);
        assert!(took < Duration::from_secs(10), "{took:?} for {text:.20}…");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in "[-a-z0-9 :{}\\[\\],&*!|>'\"#%@\n\t?\u{0}\u{feff}é]{0,80}") {
        let _answer = parse(&text, "probes.yaml", Path::new("."));
    }

    #[test]
    fn any_bytes_get_an_answer(text in "\\PC{0,40}") {
        let _answer = parse(&text, "probes.yaml", Path::new("."));
    }

    /// Whatever happens to a good file: the answer shows none of its secrets, and every problem is somewhere.
    #[test]
    fn a_spoilt_file_gets_an_answer_without_secrets(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[-a-z :{}\\[\\]&*'\"#\n\t?]{0,3}"), 1..4),
    ) {
        let scratch = Scratch::new();
        let mut text: Vec<char> = with_secrets(&scratch).chars().collect();
        for (at, length, put) in edits {
            let from = at.index(text.len());
            let to = (from + length).min(text.len());
            text.splice(from..to, put.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text, "probes.yaml", &scratch.0) {
            Ok(plan) => prop_assert!(plan.warnings().iter().all(|warning| warning.severity == Severity::Warning)),
            Err(error) => {
                let shown = format!("{error}\n{error:?}");
                prop_assert!(!shown.contains("hunter"), "{}", shown);
                prop_assert!(!error.problems().is_empty());
            }
        }
    }
}
