//! Names and passwords, paths that are exempt, the rate limit, headers, prefixes, and reading it all again.

use super::*;
use crate::process::{eventually, run};

#[test]
fn nobody_is_let_in_without_a_password_but_health_checks() {
    let file = WebFile::new(&format!(
        "{}exempt_paths: [/-/healthy, /-/ready]\nhttp_server_config: {{ headers: {{ X-Frame-Options: deny }} }}\n",
        user("ann", "right")
    ));
    let exporter = file.start(&[]);
    for (headers, expected) in [
        (String::new(), 401),
        (basic("ann:wrong"), 401),
        (basic("bob:right"), 401),
        ("Authorization: Bearer right\r\n".into(), 401),
        ("Authorization: Basic !!!\r\n".into(), 401),
        (basic("ann:right") + &basic("ann:right"), 401),
        (basic("ann:right"), 200),
        (basic("ann:right"), 200),
    ] {
        for path in ["/metrics", "/", "/static/page.css"] {
            let answer = ask(&exporter, path, &headers);
            assert_eq!(answer.status, expected, "{path} {headers:?}");
            let head = answer.head.to_ascii_lowercase();
            assert!(head.contains("x-frame-options: deny"), "{head}");
            assert_eq!(
                head.contains("www-authenticate: basic"),
                expected == 401,
                "{head}"
            );
        }
    }
    // No other way leads in: what is no page is not told apart from what is one.
    for path in [
        "/nothing",
        "/-/healthy/",
        "//-/healthy",
        "/-/healthy%2f..%2fmetrics",
        "/-/reload",
        "/-/../metrics",
    ] {
        assert_eq!(ask(&exporter, path, "").status, 401, "{path}");
    }
    assert_eq!(ask(&exporter, "/-/healthy", "").status, 200);
    assert_eq!(
        ask(&exporter, "/-/ready", "").status,
        200,
        "the first scrape was let in"
    );
    assert!(
        !exporter.process.log().contains("right"),
        "a password is in the log"
    );
}

#[test]
fn a_changed_file_holds_without_a_restart_and_a_bad_one_changes_nothing() {
    let file = WebFile::new(&user("ann", "old"));
    let exporter = file.start(&[]);
    let status = |password: &str| ask(&exporter, "/metrics", &basic(&format!("ann:{password}"))).status;
    assert_eq!((status("old"), status("new")), (200, 401));
    file.says(&user("ann", "new"));
    eventually("the new password holds", || (status("new") == 200).then_some(()));
    assert_eq!(status("old"), 401, "also one that was verified before");
    file.says("basic_auth_users: { ann: new }\n");
    eventually("the bad file is told of", || {
        exporter
            .process
            .log()
            .contains("what it said before stays in force")
            .then_some(())
    });
    assert_eq!((status("old"), status("new")), (401, 200));
    file.says("# everybody\n");
    eventually("everybody is let in", || (status("old") == 200).then_some(()));
    assert!(exporter.process.log().contains("lets everybody in now"));
}

#[test]
fn a_page_of_another_site_moves_nothing() {
    let exporter = Exporter::start(QUIET, &["--web.enable-lifecycle", "--web.enable-probe"]);
    let asked = |method: &str, path: &str, site: &str| {
        let headers = format!("Sec-Fetch-Site: {site}\r\nContent-Length: 0\r\n");
        process::ask(method, &exporter.address, path, &headers, "")
            .unwrap()
            .status
    };
    let burst = "/probe?target=nobody&probe=lonely";
    for path in ["/-/pause", "/-/resume", "/-/reload"] {
        assert_eq!(asked("POST", path, "cross-site"), 403, "{path}");
        assert_eq!(asked("POST", path, "same-origin"), 200, "{path}");
    }
    assert_eq!(asked("GET", burst, "cross-site"), 403);
    assert_eq!(asked("GET", burst, "none"), 200);
    for path in ["/", "/metrics", "/api/v1/status"] {
        assert_eq!(asked("GET", path, "cross-site"), 200, "{path}");
    }
}

#[test]
fn the_rate_limit_says_when_to_come_back() {
    let file = WebFile::new("rate_limit: { burst: 3, interval: 1h }\nexempt_paths: [/-/healthy]\n");
    let exporter = file.start(&[]);
    let statuses: Vec<_> = (0..5).map(|_| ask(&exporter, "/", "").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let head = ask(&exporter, "/metrics", "").head.to_ascii_lowercase();
    let seconds: u32 = head
        .split_once("retry-after: ")
        .and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok())
        .unwrap();
    assert!((3000..=3600).contains(&seconds), "{head}");
    assert_eq!(ask(&exporter, "/-/healthy", "").status, 200);
}

#[test]
fn everything_is_below_the_prefix() {
    let exporter = Exporter::start(QUIET, &["--web.external-url=https://example.com/llm/probes/"]);
    for (path, expected) in [
        ("/llm/probes/metrics", 200),
        ("/llm/probes/-/healthy", 200),
        ("/llm/probes/static/page.css?x=1", 200),
        ("/llm/probes/", 200),
        ("/metrics", 404),
        ("/llm/probesmetrics", 404),
        ("/llm/probes/../metrics", 404),
    ] {
        assert_eq!(ask(&exporter, path, "").status, expected, "{path}");
    }
    for path in ["/", "/llm/probes"] {
        let answer = ask(&exporter, path, "");
        assert_eq!(answer.status, 302);
        assert!(
            answer
                .head
                .to_ascii_lowercase()
                .contains("location: /llm/probes/\r\n"),
            "{}",
            answer.head
        );
    }
    // What the page links to is relative to it.
    let page = ask(&exporter, "/llm/probes/", "").body;
    assert!(!page.contains("href=\"/") && !page.contains("src=\"/"), "{page}");

    // A proxy that takes the prefix away.
    let behind = Exporter::start(
        QUIET,
        &[
            "--web.external-url=https://example.com/llm/",
            "--web.route-prefix=/",
        ],
    );
    assert_eq!(ask(&behind, "/metrics", "").status, 200);
    assert_eq!(ask(&behind, "/llm/metrics", "").status, 404);
}

#[test]
fn check_reads_the_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(folder.path());
    let file = WebFile::new("basic_auth_users: { ann: hunter2 }\n");
    let output = run(&["check", &config, &file.option()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("web.yml:1:26: the password of `ann` is no hash of bcrypt"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    file.says("http_server_config: { http2: true }\n");
    let output = run(&["check", &config, &file.option()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("HTTP/2 is not served")
    );
    for (option, mend) in [
        ("--web.external-url=example.com/llm", "write it like https://"),
        ("--web.external-url=https://me:pw@example.com/", "without user"),
        ("--web.route-prefix=/a/../b", "write a path of letters"),
        ("--web.listen-address=unix:", "unix:PATH"),
        ("--web.listen-address=unix:/a?mode=9", "unix:PATH?mode=0660"),
        ("--web.systemd-socket", "LISTEN_FDS"),
        ("--web.config.file=/nowhere/web.yml", "/nowhere/web.yml"),
    ] {
        let output = run(&[&config, option]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}: {said}");
        assert!(said.contains(mend), "{option}: {said}");
    }
}
