//! The way to a target: certificates are read here, and what cannot go together is told.

use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::{Context, require, secrets};
use crate::config::{
    plan::{Addresses, HttpVersion, Identity, Pem, Proxy, Reach, Tls, TlsVersion},
    problem::shown,
    raw::{
        items,
        leaves::Reference,
        reading::{At, Field},
    },
    report::Report,
    secret::{Secret, looks_secret},
};

/// What the address of a Unix socket has room for, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// What stands before a certificate in PEM form.
pub(super) const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

const NO_SUCH_FILE: &str = "name a file that the exporter may read (paths are relative to the configuration)";

/// `None` when it cannot be built; its problems are reported. `of` is what messages call the target.
pub(super) fn reach(
    item: &items::Target,
    of: &str,
    url: Option<&Url>,
    context: &Context<'_>,
) -> Option<Reach> {
    let report = context.report;
    let tls = optional(&item.tls, |given| tls(given, of, context));
    if let (Some(given), Some("http")) = (item.tls.given(), url.map(Url::scheme)) {
        let what = format!("{} does nothing, as the URL is not `https`", given.thing);
        report.problem(given.key, what, "use an `https` URL, or remove it");
    }
    let proxy = optional(&item.proxy, |given| proxy(given, context));
    let unix_socket = optional(&item.unix_socket, |given| unix_socket(given, context));
    if let Some(given) = item.proxy.given() {
        if !item.unix_socket.is_absent() {
            let what = format!("{of} has both `proxy` and `unix_socket`");
            report.problem(given.key, what, "remove one: nobody proxies to a Unix socket");
        }
        let name = item.tls.value().and_then(|tls| tls.server_name.given());
        if let Some(name) = name {
            // The HTTP client asks the proxy for the name that it verifies.
            let what = format!("{} and `proxy` exclude one another", name.thing);
            report.problem(
                name.key,
                what,
                "give the URL the name in the certificate, or remove the proxy",
            );
        }
        let is_http = matches!(&proxy, Ok(Some(proxy)) if proxy.url.scheme() == "http");
        let is_h2c = item.http.value() == Some(&HttpVersion::Http2) && url.map(Url::scheme) == Some("http");
        if is_http && is_h2c {
            let what = format!("{of} speaks HTTP/2 without TLS, which no HTTP proxy passes on");
            report.problem(
                given.key,
                what,
                "use `http: \"1.1\"`, an `https` URL, or a SOCKS proxy",
            );
        }
    }
    Some(Reach {
        tls: tls.ok()?.unwrap_or_default(),
        proxy: proxy.ok()?,
        unix_socket: unix_socket.ok()?,
        addresses: Addresses::Any,
    })
}

fn tls(given: &At<items::Tls>, of: &str, context: &Context<'_>) -> Option<Tls> {
    let (item, report) = (&given.value, context.report);
    let ca = optional(&item.ca_file, |file| certificates(file, context.base_dir, report));
    let cert = optional(&item.cert_file, |file| {
        certificates(file, context.base_dir, report)
    });
    let key = optional(&item.key_file, |file| private_key(file, context.base_dir, report));
    for (field, other, missing) in [
        (&item.cert_file, &item.key_file, "key_file"),
        (&item.key_file, &item.cert_file, "cert_file"),
    ] {
        if !field.is_absent() {
            let mend = format!("add `{missing}: PATH`: a client certificate needs both");
            require(other, given, missing, &mend, report);
        }
    }
    let server_name = optional(&item.server_name, |given| server_name(given, context));
    let insecure = item
        .insecure_skip_verify
        .given()
        .filter(|insecure| insecure.value);
    if let Some(insecure) = insecure {
        let what = format!(
            "{of} is not verified: whoever sits on the way can answer for it and read what is sent, credentials included"
        );
        report.warning(
            insecure.key,
            what,
            "trust its certificate with `ca_file`, and remove `insecure_skip_verify`",
        );
    }
    Some(Tls {
        ca: ca.ok()?,
        identity: match (cert.ok()?, key.ok()?) {
            (Some(certificates), Some(key)) => Some(Identity { certificates, key }),
            _ => None,
        },
        server_name: server_name.ok()?,
        insecure_skip_verify: insecure.is_some(),
        min_version: item.min_version.value().copied().unwrap_or(TlsVersion::Tls12),
    })
}

/// Given, but it cannot be had, which was reported.
pub(super) struct Unusable;

/// What comes of a key that may be left out.
pub(super) fn optional<T, U>(
    field: &Field<T>,
    build: impl FnOnce(&At<T>) -> Option<U>,
) -> Result<Option<U>, Unusable> {
    match field {
        Field::Absent => Ok(None),
        Field::Bad => Err(Unusable),
        Field::Given(given) => build(given).map(Some).ok_or(Unusable),
    }
}

/// The path of a file and what messages call it.
fn located(given: &At<Reference>, base_dir: &Path) -> (PathBuf, String) {
    let path = base_dir.join(&given.value.0);
    let called = if given.value.may_be_shown() {
        shown(&path.display().to_string())
    } else {
        "that file".to_owned()
    };
    (path, called)
}

pub(super) fn certificates(given: &At<Reference>, base_dir: &Path, report: &Report<'_>) -> Option<Pem> {
    let (path, called) = located(given, base_dir);
    let problem = |what: &str, mend: &str| {
        report.problem(given.id, format!("{}: {called} {what}", given.thing), mend);
        None
    };
    match Pem::read(&path) {
        Err(what) => problem(&what, NO_SUCH_FILE),
        Ok(text) if !text.contains(BEGIN_CERTIFICATE) => problem(
            "holds no certificate in PEM form",
            "name a file with `-----BEGIN CERTIFICATE-----` in it; `openssl x509 -inform der` converts",
        ),
        Ok(text) => Some(Pem { path, text }),
    }
}

pub(super) fn private_key(given: &At<Reference>, base_dir: &Path, report: &Report<'_>) -> Option<Secret> {
    let (path, called) = located(given, base_dir);
    let problem = |what: &str, mend: &str| {
        report.problem(given.id, format!("{}: {called} {what}", given.thing), mend);
        None
    };
    match Secret::from_file(&path) {
        Err(what) => problem(&what, NO_SUCH_FILE),
        Ok(key) if key.expose().contains("ENCRYPTED") => problem(
            "holds an encrypted private key",
            "decrypt it (`openssl pkey`), and let nobody but the exporter read the file",
        ),
        Ok(key) if !key.expose().contains("PRIVATE KEY-----") => problem(
            "holds no private key in PEM form",
            "name a file with `-----BEGIN PRIVATE KEY-----` in it",
        ),
        Ok(key) => Some(key),
    }
}

fn server_name(given: &At<String>, context: &Context<'_>) -> Option<String> {
    if let Ok(Host::Domain(name)) = Host::parse(&given.value)
        && is_dns_name(&name)
    {
        return Some(name);
    }
    let what = format!("{} is {}, which is no DNS name", given.thing, shown(&given.value));
    let mend = "write a name that the certificate is for; an address belongs into the `url`";
    context.report.problem(given.id, what, mend);
    None
}

/// Letters, digits, `-` and `_` between single dots: what a certificate can be for.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn proxy(given: &At<items::Proxy>, context: &Context<'_>) -> Option<Proxy> {
    let (item, report) = (&given.value, context.report);
    require(
        &item.url,
        given,
        "url",
        "add it, such as `url: http://proxy:3128`",
        report,
    );
    let url = item.url.given().and_then(|given| proxy_url(given, context));
    let has_login = [&item.password_env, &item.password_file]
        .into_iter()
        .any(|field| !field.is_absent())
        || !item.username.is_absent();
    let login = has_login.then(|| secrets::login(given, context));
    Some(Proxy {
        url: url?,
        login: match login {
            Some(login) => Some(login?),
            None => None,
        },
    })
}

fn proxy_url(given: &At<String>, context: &Context<'_>) -> Option<Url> {
    let text = given.value.as_str();
    let problem = |what: &str, mend: &str| {
        let which = if looks_secret(text) {
            String::new()
        } else {
            format!("is {}, which ", shown(text))
        };
        context
            .report
            .problem(given.id, format!("{} {which}{what}", given.thing), mend);
        None
    };
    let like = "write it like `http://proxy:3128`, `socks5://proxy:1080`, or `socks5h://proxy:1080`, where the proxy resolves names";
    let Ok(mut url) = Url::parse(text) else {
        return problem("is no URL", like);
    };
    if !matches!(url.scheme(), "http" | "socks5" | "socks5h") {
        return problem("is neither http, socks5 nor socks5h", like);
    }
    if !url.username().is_empty() || url.password().is_some() {
        let mend = "remove them and write `username: …` with `password_env: NAME` or `password_file: PATH`";
        return problem("holds credentials", mend);
    }
    if !url.has_host() || url.host_str() == Some("") {
        return problem("has no host", like);
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return problem("has more than scheme, host and port", like);
    }
    if url.port().is_none() && url.scheme() != "http" && url.set_port(Some(1080)).is_err() {
        return problem("has no port", like);
    }
    Some(url)
}

fn unix_socket(given: &At<String>, context: &Context<'_>) -> Option<PathBuf> {
    let path = context.base_dir.join(&given.value);
    if given.value.is_empty() || path.as_os_str().len() > MAX_SOCKET_PATH {
        let what = format!(
            "{} is empty, or longer than the {MAX_SOCKET_PATH} bytes that Linux allows",
            given.thing
        );
        let mend = "write a path such as `/run/llm/server.sock`";
        context.report.problem(given.id, what, mend);
        return None;
    }
    Some(path)
}
