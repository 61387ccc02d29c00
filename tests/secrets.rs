//! Secrets: rotated ones are used by the next burst, tokens are got before one, and none goes to another origin.
#![cfg(test)]

#[path = "support/listener.rs"]
mod listener;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use listener::{GOOD, Listener, answer, header};
use process::{Exporter, Samples, eventually, program};
use tempfile::TempDir;

/// Bursts that the schedule fires only at New Year.
fn config(target: &Listener, keys: &str) -> String {
    format!(
        "targets:\n  - {{ name: target, url: 'http://{}/v1', api: openai_chat, model: m, {keys} }}\n\
         probes: [{{ name: one, prompt: {{ text: hello }}, cron: '0 0 1 1 *' }}]\n",
        target.address
    )
}

fn start(folder: TempDir, config: &str) -> Exporter {
    let file = folder.path().join("probes.yaml");
    fs::write(&file, config).unwrap();
    let mut command = program();
    command.arg(format!("--config.file={}", file.display())).args([
        "--web.listen-address=127.0.0.1:0",
        "--web.enable-probe",
        "--web.enable-lifecycle",
    ]);
    Exporter::spawn(&mut command, folder)
}

/// Fires a burst.
fn fire(exporter: &Exporter) -> Samples {
    let answer = exporter.get("/probe?probe=one&target=target");
    assert_eq!(answer.status, 200, "{}", answer.body);
    Samples::parse(&answer.body)
}

fn last_sent<'a>(seen: &'a [String], name: &str) -> Option<&'a str> {
    header(seen.last()?, name)
}

#[test]
fn a_rotated_secret_is_used_by_the_next_burst_and_an_unreadable_one_is_kept() {
    let target = Listener::answering(|request| {
        if request.starts_with("GET /metrics") {
            answer("200 OK", "text/plain", "waiting 0\n")
        } else {
            GOOD.to_owned()
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let (key, tenant) = (folder.path().join("key"), folder.path().join("tenant"));
    fs::write(&key, "first-key\n").unwrap();
    fs::write(&tenant, "first-tenant\n").unwrap();
    let keys = format!(
        "authorization: {{ credentials_file: key }}, headers: {{ X-Tenant: {{ file: tenant }} }}, \
         busy: {{ url: 'http://{}/metrics', skip_when: ['waiting > 1'] }}",
        target.address
    );
    let exporter = start(folder, &config(&target, &keys));
    let failures = || exporter.metrics().count("target_secret_failures_total", &[]);
    let sent = || {
        assert_eq!(fire(&exporter).count("probe_success", &[]), 1);
        let seen = target.seen();
        let scrape = seen.iter().rev().find(|seen| seen.starts_with("GET")).unwrap();
        let of_scrape = header(scrape, "authorization").unwrap();
        let of_request = last_sent(&seen, "authorization").unwrap();
        assert_eq!(of_scrape, of_request);
        let tenant = last_sent(&seen, "x-tenant").unwrap();
        (of_request.to_owned(), tenant.to_owned())
    };
    let both = |key: &str, tenant: &str| (format!("Bearer {key}"), tenant.to_owned());
    assert_eq!(sent(), both("first-key", "first-tenant"));
    fs::write(&key, "second-key\n").unwrap();
    assert_eq!(sent(), both("second-key", "first-tenant"));
    assert_eq!(failures(), 0);

    fs::remove_file(&key).unwrap();
    fs::write(&tenant, "second-tenant\n").unwrap();
    assert_eq!(sent(), both("second-key", "second-tenant"));
    assert_eq!(failures(), 1);
    for half_written in ["", " \n", "two\nlines"] {
        fs::write(&key, half_written).unwrap();
        assert_eq!(sent(), both("second-key", "second-tenant"), "{half_written}");
    }
    assert_eq!(failures(), 4);
    fs::write(&key, "third-key").unwrap();
    assert_eq!(sent(), both("third-key", "second-tenant"));
    assert_eq!(failures(), 4);
    let log = exporter.process.log();
    assert_eq!(log.matches("secrets cannot be renewed").count(), 1, "{log}");
    assert_eq!(log.matches("secrets can be renewed again").count(), 1, "{log}");

    // To a reload it is no change.
    let answer = exporter.post("/-/reload");
    assert!(
        answer.body.contains("0 changed, 0 removed, 1 unchanged"),
        "{}",
        answer.body
    );
    assert_eq!(sent(), both("third-key", "second-tenant"));
}

/// Gives a token a time, each lasting so many seconds.
fn login(seconds: u32) -> Listener {
    let number = AtomicU32::new(0);
    Listener::answering(move |_| {
        let number = number.fetch_add(1, Ordering::Relaxed) + 1;
        let body = format!(
            "{{\"access_token\":\"token-{number}\",\"token_type\":\"Bearer\",\"expires_in\":{seconds}}}"
        );
        answer("200 OK", "application/json", &body)
    })
}

fn oauth2(login: &Listener) -> String {
    format!(
        "oauth2: {{ client_id: 'a probe', client_secret_file: secret, token_url: 'http://{}/token', \
         scopes: [read, write], endpoint_params: {{ audience: llm }} }}",
        login.address
    )
}

fn with_secret() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "pass/word\n").unwrap();
    folder
}

#[test]
fn a_token_is_got_before_a_burst_and_used_until_it_ends() {
    let (target, login) = (Listener::answering(|_| GOOD.to_owned()), login(3600));
    let exporter = start(with_secret(), &config(&target, &oauth2(&login)));
    for _ in 0..2 {
        assert_eq!(fire(&exporter).count("probe_success", &[]), 1);
        assert_eq!(last_sent(&target.seen(), "authorization"), Some("Bearer token-1"));
    }
    let [asked] = login.seen().try_into().unwrap();
    let basic = STANDARD.encode("a+probe:pass%2Fword");
    assert_eq!(header(&asked, "authorization"), Some(&*format!("Basic {basic}")));
    assert!(asked.starts_with("POST /token "), "{asked}");
    assert!(
        asked.ends_with("grant_type=client_credentials&scope=read+write&audience=llm"),
        "{asked}"
    );
}

#[test]
fn a_token_that_ends_or_is_refused_is_got_anew() {
    // A token of two seconds.
    let (target, short) = (Listener::answering(|_| GOOD.to_owned()), login(2));
    let exporter = start(with_secret(), &config(&target, &oauth2(&short)));
    eventually("another token is used", || {
        assert_eq!(fire(&exporter).count("probe_success", &[]), 1);
        (last_sent(&target.seen(), "authorization") == Some("Bearer token-2")).then_some(())
    });
    // A server that refuses the first one.
    let target = Listener::answering(|request| match header(request, "authorization") {
        Some("Bearer token-1") => answer("401 Unauthorized", "text/plain", "no"),
        _ => GOOD.to_owned(),
    });
    let long = login(4);
    let exporter = start(with_secret(), &config(&target, &oauth2(&long)));
    assert_eq!(fire(&exporter).count("probe_success", &[]), 0);
    eventually("the next one is used", || {
        (fire(&exporter).count("probe_success", &[]) == 1).then_some(())
    });
    assert_eq!(last_sent(&target.seen(), "authorization"), Some("Bearer token-2"));
}

#[test]
fn a_server_that_takes_the_secret_in_the_form_alone_gets_it_there() {
    let target = Listener::answering(|_| GOOD.to_owned());
    let login = Listener::answering(|request| {
        if request.contains("client_secret=pass%2Fword") && request.contains("client_id=a+probe") {
            let body = r#"{"access_token":"given","token_type":"bearer"}"#;
            answer("200 OK", "application/json", body)
        } else {
            answer(
                "401 Unauthorized",
                "application/json",
                r#"{"error":"invalid_client"}"#,
            )
        }
    });
    let exporter = start(with_secret(), &config(&target, &oauth2(&login)));
    assert_eq!(fire(&exporter).count("probe_success", &[]), 1);
    assert_eq!(last_sent(&target.seen(), "authorization"), Some("Bearer given"));
}

#[test]
fn without_a_token_nothing_is_sent_and_it_is_told() {
    let target = Listener::answering(|_| GOOD.to_owned());
    for (said, login) in [
        ("status 500", answer("500 Oh", "text/plain", "pass/word")),
        ("no token in JSON", answer("200 OK", "application/json", "<html>")),
    ] {
        let login = Listener::answering(move |_| login.clone());
        let exporter = start(with_secret(), &config(&target, &oauth2(&login)));
        for _ in 0..3 {
            let burst = fire(&exporter);
            assert_eq!(burst.count("probe_refused", &["reason=\"auth\""]), 1);
            // An expired key of ours is excused.
            assert_eq!(burst.count("slo_requests_total", &[]), 0);
        }
        // It is not asked again at once.
        assert_eq!(login.seen().len(), 1);
        assert_eq!(exporter.metrics().count("target_secret_failures_total", &[]), 1);
        let log = exporter.process.log();
        assert!(log.contains(said) && !log.contains("pass/word"), "{log}");
    }
    assert!(target.seen().is_empty());
}

#[test]
fn no_secret_leaves_its_origin() {
    let elsewhere = Listener::answering(|_| answer("200 OK", "text/plain", "waiting 0\n"));
    let away = |address| {
        move |_: &str| {
            format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{address}/stolen\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
    };
    // The target redirects; and what says whether it is busy is elsewhere.
    let target = Listener::answering(away(elsewhere.address));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), "first-key\n").unwrap();
    let keys = format!(
        "authorization: {{ credentials_file: key }}, headers: {{ X-Tenant: {{ value: mine }} }}, \
         busy: {{ url: 'http://{}/metrics', skip_when: ['waiting > 1'] }}",
        elsewhere.address
    );
    let exporter = start(folder, &config(&target, &keys));
    let burst = fire(&exporter);
    assert_eq!(burst.count("request_failures_total", &["reason=\"redirect\""]), 1);
    assert_eq!(target.seen().len(), 1);
    let [scrape] = elsewhere.seen().try_into().unwrap();
    assert!(scrape.starts_with("GET /metrics "), "{scrape}");
    assert!(
        !scrape.contains("first-key") && !scrape.contains("mine"),
        "{scrape}"
    );

    // Whoever gives tokens redirects.
    let login = Listener::answering(away(elsewhere.address));
    let exporter = start(with_secret(), &config(&target, &oauth2(&login)));
    assert_eq!(fire(&exporter).count("probe_refused", &["reason=\"auth\""]), 1);
    assert_eq!(
        (login.seen().len(), elsewhere.seen().len(), target.seen().len()),
        (1, 1, 1)
    );
}
