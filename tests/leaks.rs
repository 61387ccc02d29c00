//! Secrets are planted in every place of a configuration that may hold one, at servers that send all back that they are
//! sent; then nothing that the program shows may hold one, in clear or encoded.
#![cfg(test)]

#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/listener.rs"]
mod listener;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;

use std::{fs, path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use listener::{Listener, answer, header};
use process::{Exporter, program};
use tempfile::TempDir;

/// What the web side shows. A new page belongs here.
const PAGES: &[&str] = &[
    "/",
    "/metrics",
    "/probe?probe=all&target=file&debug=true",
    "/probe?probe=all&target=env&debug=true",
    "/probe?probe=all&target=basic&debug=true",
    "/probe?probe=all&target=proxied&debug=true",
    "/probe?probe=all&target=granted&debug=true",
    "/probe?probe=all&target=refused&debug=true",
    "/probe?probe=all&target=rotated&debug=true",
    "/probe?probe=all&target=file",
    "/config",
    "/logs?lines=2000",
    "/api/v1/status",
    "/api/v1/series",
    "/api/v1/bursts",
    "/-/ready",
    "/-/healthy",
];

/// The secrets: each in one place.
const FILE: &str = "planted/file+1";
const ENV: &str = "planted/env+2";
const INLINE: &str = "planted/inline+3";
const HEADER_FILE: &str = "planted/header+4";
const BASIC: &str = "planted/basic+5:pass";
const PROXY: &str = "planted/proxy+6";
const CLIENT: &str = "planted/client+7";
const REFUSED_CLIENT: &str = "planted/refused+8";
const TOKEN: &str = "planted/token+9";
const USERINFO: &str = "planted-userinfo-10";
const MISPLACED: &str = "planted-misplaced-11";
const BEFORE: &str = "planted/before+12";
const AFTER: &str = "planted/after+13";
const PARAMETER: &str = "planted/parameter+14";
const ALL: &[&str] = &[
    PARAMETER,
    FILE,
    ENV,
    INLINE,
    HEADER_FILE,
    BASIC,
    PROXY,
    CLIENT,
    REFUSED_CLIENT,
    TOKEN,
    USERINFO,
    MISPLACED,
    BEFORE,
    AFTER,
];

/// Every form in which a secret is looked for.
fn forms(secret: &str) -> Vec<String> {
    let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![
        secret.to_owned(),
        secret.to_uppercase(),
        secret.replace('/', "\\/"),
        url.to_lowercase(),
        url,
    ];
    for before in ["", "x", "xy"] {
        // The middle of it, wherever it begins in what is encoded.
        let encoded = STANDARD.encode(format!("{before}{secret}"));
        let middle = encoded.trim_end_matches('=');
        let middle = middle.get(4..middle.len() - 2).unwrap().to_owned();
        forms.push(middle.replace('+', "-").replace('/', "_"));
        forms.push(middle);
    }
    forms
}

#[track_caller]
fn assert_shows_none(what: &str, said: &str) {
    for secret in ALL {
        for form in forms(secret) {
            assert!(!said.contains(&form), "{what} shows {secret} as {form}: {said}");
        }
    }
}

/// Sends back all that it is sent, in every way that an endpoint may.
fn echo() -> Listener {
    Listener::answering(|request| {
        let encoded = STANDARD.encode(request);
        let url: String = url::form_urlencoded::byte_serialize(request.as_bytes()).collect();
        let said = format!("{request}\n{encoded}\n{url}");
        let json =
            serde_json::json!({ "error": { "message": said, "type": header(request, "authorization") } });
        match request.len() % 3 {
            0 => answer("401 Unauthorized", "text/plain", &said),
            1 => answer("500 Internal Server Error", "application/json", &json.to_string()),
            _ => answer("200 OK", "text/event-stream", &format!("data: {json}\n\n")),
        }
    })
}

fn granting() -> Listener {
    Listener::answering(|_| {
        let body = serde_json::json!({ "access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600 });
        answer("200 OK", "application/json", &body.to_string())
    })
}

/// The folder with the configuration.
fn planted(echo: &Listener, granting: &Listener) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in [
        ("file", FILE),
        ("header", HEADER_FILE),
        ("basic", &STANDARD.encode(BASIC)),
        ("proxy", PROXY),
        ("client", CLIENT),
        ("refused", REFUSED_CLIENT),
        ("rotated", BEFORE),
    ] {
        fs::write(folder.path().join(name), secret).unwrap();
    }
    let (echo, granting) = (echo.address, granting.address);
    let target = |name: &str, keys: &str| {
        format!("  - {{ name: {name}, url: 'http://{echo}/v1', api: openai_chat, model: m, {keys} }}\n")
    };
    let oauth2 = |secret: &str, login| {
        format!(
            "oauth2: {{ client_id: probe, client_secret_file: {secret}, token_url: 'http://{login}/token', \
             endpoint_params: {{ resource: '{PARAMETER}' }} }}"
        )
    };
    let targets = [
        target(
            "file",
            &format!(
                "authorization: {{ credentials_file: file }}, headers: {{ X-A: {{ value: '{INLINE}' }}, X-B: {{ file: header }} }}, \
                 busy: {{ url: 'http://{echo}/metrics', skip_when: ['a > 1'] }}"
            ),
        ),
        target(
            "env",
            "authorization: { credentials_env: LEAKS_KEY }, headers: { X-C: { env: LEAKS_KEY } }",
        ),
        target(
            "basic",
            "authorization: { scheme: Basic, credentials_file: basic }",
        ),
        target(
            "proxied",
            &format!("proxy: {{ url: 'http://{echo}', username: me, password_file: proxy }}"),
        ),
        target("granted", &oauth2("client", granting)),
        target("refused", &oauth2("refused", echo)),
        target("rotated", "authorization: { credentials_file: rotated }"),
    ];
    let config = format!(
        "targets:\n{}probes: [{{ name: all, prompt: {{ text: hello }}, requests: 3, cron: '0 0 1 1 *' }}]\n",
        targets.concat()
    );
    fs::write(folder.path().join("probes.yaml"), config).unwrap();
    folder
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = program();
    let file = folder.join("probes.yaml");
    command
        .args(args)
        .arg(format!("--config.file={}", file.display()))
        .arg("--log.level=trace")
        .env("LEAKS_KEY", ENV);
    command
}

/// All that it says.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_exporter_shows_none() {
    for format in ["logfmt", "json"] {
        let (echo, granting) = (echo(), granting());
        let folder = planted(&echo, &granting);
        let path = folder.path().to_owned();
        let mut command = command(&path, &[]);
        command.args([
            &format!("--log.format={format}"),
            "--web.listen-address=127.0.0.1:0",
            "--web.enable-probe",
            "--web.enable-lifecycle",
        ]);
        let exporter = Exporter::spawn(&mut command, folder);
        let show_all = || {
            for page in PAGES {
                let answer = exporter.get(page);
                assert_ne!(answer.status, 404, "{page}");
                assert_shows_none(page, &(answer.head + &answer.body));
            }
        };
        show_all();
        fs::write(path.join("rotated"), AFTER).unwrap();
        show_all();
        fs::remove_file(path.join("rotated")).unwrap();
        show_all();
        // What is wrong is told without it.
        for (wrong, keys) in [
            (
                USERINFO,
                format!("url: 'http://me:{USERINFO}@localhost/v1', api: openai_chat, model: m"),
            ),
            (
                MISPLACED,
                format!("url: 'http://localhost/v1', api: openai_chat, model: m, api_key: {MISPLACED}"),
            ),
            (
                MISPLACED,
                format!(
                    "url: 'http://localhost/v1', api: openai_chat, model: m, authorization: {{ credentials_env: {MISPLACED} }}"
                ),
            ),
            (
                MISPLACED,
                format!(
                    "url: 'http://localhost/v1', api: openai_chat, model: m, oauth2: {{ client_id: a, client_secret: {MISPLACED}, token_url: 'http://me:{USERINFO}@login/' }}"
                ),
            ),
        ] {
            exporter.configure(&format!(
                "targets: [{{ name: wrong, {keys} }}]\nprobes: [{{ name: p }}]\n"
            ));
            let answer = exporter.post("/-/reload");
            assert_eq!(answer.status, 500, "{wrong}");
            assert_shows_none("a report", &answer.body);
        }
        assert_shows_none("the log", &exporter.process.log());

        // It was there to be seen.
        let seen = echo.seen().join("\n") + &granting.seen().join("\n");
        for sent in [FILE, ENV, INLINE, HEADER_FILE, TOKEN, BEFORE, AFTER] {
            assert!(seen.contains(sent), "{sent} was never sent");
        }
        for (name, sent) in [
            ("authorization", STANDARD.encode(BASIC)),
            ("proxy-authorization", STANDARD.encode(format!("me:{PROXY}"))),
            ("authorization", STANDARD.encode("probe:planted%2Fclient%2B7")),
            ("authorization", STANDARD.encode("probe:planted%2Frefused%2B8")),
        ] {
            assert!(
                seen.contains(&format!("Basic {sent}")),
                "{name}: {sent} was never sent"
            );
        }
        let log = exporter.process.log();
        assert!(log.contains("<secret>"), "{log}");
    }
}

#[test]
fn other_commands_show_none_and_write_none() {
    let (echo, granting) = (echo(), granting());
    let folder = planted(&echo, &granting);
    let path = folder.path();
    let recorded = path.join("recorded.jsonl");
    let record = format!("--record={}", recorded.display());
    let once = said(&mut command(path, &["once", "--output=json", &record]));
    assert!(
        once.contains("unauthorized") && once.contains("<secret>"),
        "{once}"
    );
    assert_shows_none("once", &once);
    let recorded = fs::read_to_string(recorded).unwrap();
    assert!(recorded.lines().count() > 10, "{recorded}");
    assert_shows_none("a recording", &recorded);
    assert_shows_none("the table of once", &said(&mut command(path, &["once"])));
    let check = said(&mut command(path, &["check"]));
    assert!(check.contains("all"), "{check}");
    assert_shows_none("check", &check);
}

#[test]
fn the_plan_shows_none_to_those_who_debug() {
    let (echo, granting) = (echo(), granting());
    let folder = planted(&echo, &granting);
    let file = folder.path().join("probes.yaml");
    // The variable of this process is somebody else's.
    let config = fs::read_to_string(&file).unwrap().replace("LEAKS_KEY", "PATH");
    fs::write(&file, config).unwrap();
    let plan =
        llm_probe_exporter::config::load(&file, &llm_probe_exporter::config::plan::Lists::default()).unwrap();
    let shown = format!("{plan:?} {plan:#?}");
    assert!(shown.contains("Secret(file"), "{shown}");
    assert_shows_none("Debug", &shown);
}
