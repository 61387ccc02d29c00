//! The web server's file: what is missing or contradicts itself is reported, and certificates and keys are read.

use std::path::Path;

use http::{HeaderName, HeaderValue};

use super::{
    reach::{BEGIN_CERTIFICATE, Unusable, certificates, optional, private_key},
    require,
};
use crate::config::{
    plan::Pem,
    problem::{list, meant_or_any, shown},
    raw::{
        leaves::{Hidden, Reference},
        reading::{At, Field, Named},
        web::{self, WebFile},
    },
    report::Report,
    secret::Secret,
    web::{Cipher, ClientAuth, PasswordHash, RateLimit, TlsProtocol, TlsServer, WebConfig},
};

/// Headers that may be set, and the values that some of them are limited to. The toolkit's list.
const HEADERS: &[(&str, &[&str])] = &[
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// Each guess takes a second of a core and more above it, which would let strangers use it up.
const MAX_COST: u32 = 14;

const HASH_IT: &str =
    "write what bcrypt makes of the password, such as `htpasswd -nBC 10 \"\"` prints after the colon";

/// `None` when it cannot be built; its problems are reported.
pub(in crate::config) fn web(file: &WebFile, base_dir: &Path, report: &Report<'_>) -> Option<WebConfig> {
    let tls = optional(&file.tls_server_config, |given| tls(given, base_dir, report));
    let headers = optional(&file.http_server_config, |given| Some(headers(given, report)));
    let users = optional(&file.basic_auth_users, |given| Some(users(given, report)));
    let exempt_paths = optional(&file.exempt_paths, |given| Some(exempt_paths(given, report)));
    let files = file.tls_server_config.value().into_iter().flat_map(|tls| {
        [&tls.cert_file, &tls.key_file, &tls.client_ca_file]
            .into_iter()
            .filter_map(|field| field.value())
    });
    Some(WebConfig {
        tls: tls.ok()?,
        headers: headers.ok()?.unwrap_or_default(),
        users: users.ok()?.unwrap_or_default(),
        rate_limit: file
            .rate_limit
            .given()
            .and_then(|given| rate_limit(given, report)),
        exempt_paths: exempt_paths.ok()?.unwrap_or_default(),
        files: files.map(|file| base_dir.join(&file.0)).collect(),
        warnings: Vec::new(),
    })
}

fn tls(given: &At<web::TlsServer>, base_dir: &Path, report: &Report<'_>) -> Option<TlsServer> {
    let item = &given.value;
    let pem = |inline, file| {
        let of_text = |given: &At<Hidden>| inline_certificates(given, base_dir, report);
        let of_file = |given: &At<Reference>| certificates(given, base_dir, report);
        inline_or_file(inline, file, of_text, of_file, report)
    };
    let certificates = pem(&item.cert, &item.cert_file);
    let key = inline_or_file(
        &item.key,
        &item.key_file,
        |given| inline_key(given, report),
        |given| private_key(given, base_dir, report),
        report,
    );
    for (inline, file, name, mend) in [
        (
            &item.cert,
            &item.cert_file,
            "cert_file",
            "add `cert_file: PATH`: the server's certificate, and those between it and the root",
        ),
        (
            &item.key,
            &item.key_file,
            "key_file",
            "add `key_file: PATH`: the private key of the certificate",
        ),
    ] {
        if inline.is_absent() {
            require(file, given, name, mend, report);
        }
    }
    let client_ca = pem(&item.client_ca, &item.client_ca_file);
    let client_auth = optional(&item.client_auth_type, |auth| Some(auth.value));
    if let (Ok(client_auth), Ok(ca)) = (&client_auth, &client_ca) {
        clients(given, client_auth.unwrap_or_default(), ca.is_some(), report);
    }
    let (min, max) = (protocol(&item.min_version), protocol(&item.max_version));
    let (min, max) = (
        min.unwrap_or(TlsProtocol::Tls12),
        max.unwrap_or(TlsProtocol::Tls13),
    );
    if let (true, Some(at)) = (min > max, item.max_version.given()) {
        let what = format!("{} is below the min_version: nothing is left", at.thing);
        report.problem(at.id, what, "write `max_version: TLS13`, or remove one of both");
    }
    let ciphers: Vec<_> = all(&item.cipher_suites);
    let is_old = |cipher: &Cipher| cipher.protocol() == TlsProtocol::Tls12;
    if let Some(at) = item.cipher_suites.given()
        && max == TlsProtocol::Tls12
        && !ciphers.iter().any(is_old)
        && !report.is_empty_list(at.id)
    {
        let what = format!("{} has none for TLS 1.2, and max_version is TLS12", at.thing);
        report.problem(at.id, what, "add one that begins with `TLS_ECDHE_`");
    }
    let sans = optional(&item.client_allowed_sans, |given| {
        Some(given.value.iter().map(|san| san.value.clone()).collect())
    });
    Some(TlsServer {
        certificates: certificates.ok()??,
        key: key.ok()??,
        client_auth: client_auth.ok()?.unwrap_or_default(),
        client_ca: client_ca.ok()?,
        client_allowed_sans: sans.ok()?,
        min_version: min,
        max_version: max,
        ciphers,
        prefer_own_ciphers: item.prefer_server_cipher_suites.value().copied().unwrap_or(true),
        curves: all(&item.curve_preferences),
    })
}

fn protocol(field: &Field<TlsProtocol>) -> Option<TlsProtocol> {
    field.value().copied()
}

fn all<T: Copy>(field: &Field<Vec<At<T>>>) -> Vec<T> {
    let listed = field.value().into_iter().flatten();
    listed.map(|at| at.value).collect()
}

/// What does not go together about the certificates of clients.
fn clients(given: &At<web::TlsServer>, auth: ClientAuth, has_ca: bool, report: &Report<'_>) {
    let item = &given.value;
    let both = "write `client_auth_type: RequireAndVerifyClientCert`";
    let ca = item.client_ca.given().map(|at| (at.key, &at.thing));
    let ca = ca.or(item.client_ca_file.given().map(|at| (at.key, &at.thing)));
    if let (Some((key, thing)), ClientAuth::Nobody) = (ca, auth) {
        report.problem(
            key,
            format!("{thing} does nothing, as no client is asked for a certificate"),
            both,
        );
    }
    let auth_type = item.client_auth_type.given();
    if let Some(at) = auth_type.filter(|_| auth.verifies() && !has_ca) {
        let what = format!("{} verifies clients, but nothing says whom to believe", at.thing);
        report.problem(at.id, what, "add `client_ca_file: PATH`");
    }
    if let Some(at) = auth_type.filter(|_| matches!(auth, ClientAuth::Request | ClientAuth::RequireAny)) {
        let what = format!(
            "{} keeps nobody out: anybody can make such a certificate",
            at.thing
        );
        report.warning(at.id, what, both);
    }
    let Some(sans) = item.client_allowed_sans.given() else {
        return;
    };
    if !auth.is_mandatory() {
        let what = format!("{} needs certificates, which clients may leave out", sans.thing);
        report.problem(sans.key, what, both);
    } else if report.is_empty_list(sans.id) {
        let what = format!("{} is empty: nobody would be let in", sans.thing);
        report.problem(sans.id, what, "name who is let in, or remove the key");
    }
}

/// One of the text itself and the file that holds it; `None` for neither.
fn inline_or_file<T>(
    inline: &Field<Hidden>,
    file: &Field<Reference>,
    of_text: impl FnOnce(&At<Hidden>) -> Option<T>,
    of_file: impl FnOnce(&At<Reference>) -> Option<T>,
    report: &Report<'_>,
) -> Result<Option<T>, Unusable> {
    if let (Some(given), false) = (inline.given(), file.is_absent()) {
        let what = format!("{} and its `_file` exclude one another", given.thing);
        report.problem(given.key, what, "remove one");
        return Err(Unusable);
    }
    if let Some(given) = file.given().filter(|given| given.value.0.is_empty()) {
        report.problem(
            given.id,
            format!("{} is empty", given.thing),
            "name a file, or remove the key",
        );
        return Err(Unusable);
    }
    if inline.is_absent() {
        optional(file, of_file)
    } else {
        optional(inline, of_text)
    }
}

fn inline_certificates(given: &At<Hidden>, base_dir: &Path, report: &Report<'_>) -> Option<Pem> {
    if given.value.0.contains(BEGIN_CERTIFICATE) {
        return Some(Pem {
            path: base_dir.to_owned(),
            text: given.value.0.clone(),
        });
    }
    let what = format!("{} holds no certificate in PEM form", given.thing);
    let mend = "write it from `-----BEGIN CERTIFICATE-----` on after `|`, or name its file";
    report.problem(given.id, what, mend);
    None
}

fn inline_key(given: &At<Hidden>, report: &Report<'_>) -> Option<Secret> {
    let text = &given.value.0;
    if text.contains("PRIVATE KEY-----") && !text.contains("ENCRYPTED") {
        return Some(Secret::Inline(text.clone()));
    }
    let what = format!(
        "{} holds no private key in PEM form that can be read without a password",
        given.thing
    );
    report.problem(
        given.id,
        what,
        "name its file with `key_file: PATH`, which others cannot read",
    );
    None
}

fn headers(given: &At<web::HttpServer>, report: &Report<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let item = &given.value;
    if let Some(at) = item.http2.given().filter(|at| at.value) {
        let what = format!("{}: HTTP/2 is not served, clients get HTTP/1.1", at.thing);
        report.warning(at.id, what, "remove it, or write `http2: false`");
    }
    let named = item.headers.value().map(|Named(named)| named.as_slice());
    let named = named.unwrap_or_default().iter();
    named.filter_map(|(name, at)| header(name, at, report)).collect()
}

/// `None` also where it is blank: then it is not set.
fn header(name: &str, at: &At<String>, report: &Report<'_>) -> Option<(HeaderName, HeaderValue)> {
    let names: Vec<_> = HEADERS.iter().map(|(name, _)| *name).collect();
    let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        let what = format!("the header {} cannot be set", shown(name));
        report.problem(at.key, what, meant_or_any(name, &names));
        return None;
    };
    let value = at.value.as_str();
    if value.is_empty() {
        return None;
    }
    if !values.is_empty() && !values.contains(&value) {
        let what = format!("{} is {}", at.thing, shown(value));
        report.problem(at.id, what, format!("choose from {}", list(values)));
        return None;
    }
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
        return Some((name, value));
    }
    let what = format!("{} is no value that a header can have", at.thing);
    report.problem(at.id, what, "write it in one line of ASCII");
    None
}

fn users(given: &At<Named<Hidden>>, report: &Report<'_>) -> Vec<(String, PasswordHash)> {
    let Named(named) = &given.value;
    let users: Vec<_> = named
        .iter()
        .filter_map(|(name, at)| Some((name.clone(), user(name, at, report)?)))
        .collect();
    if named.is_empty() {
        let what = format!("{} is empty: everybody is let in", given.thing);
        report.problem(
            given.id,
            what,
            "add a name and what bcrypt makes of its password, or remove the key",
        );
    }
    let cost = |(_, hash): &(String, PasswordHash)| hash.cost;
    if users.iter().map(cost).min() != users.iter().map(cost).max() {
        let what = format!(
            "{} has hashes of different costs: how long a guess takes tells which names exist",
            given.thing
        );
        report.warning(given.key, what, "hash all passwords with one cost");
    }
    users
}

fn user(name: &str, at: &At<Hidden>, report: &Report<'_>) -> Option<PasswordHash> {
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
        let what = format!("{} is a name that no client can send", shown(name));
        report.problem(at.key, what, "write a name without a colon");
        return None;
    }
    let Ok(parts) = at.value.0.parse::<bcrypt::HashParts>() else {
        // A password in clear, most likely.
        report.problem(
            at.id,
            format!("the password of {} is no hash of bcrypt", shown(name)),
            HASH_IT,
        );
        return None;
    };
    let cost = parts.get_cost();
    if !(4..=MAX_COST).contains(&cost) {
        let what = format!("the password of {} is hashed with the cost {cost}", shown(name));
        report.problem(
            at.id,
            what,
            format!("hash it with a cost between 4 and {MAX_COST}, such as 10"),
        );
        return None;
    }
    Some(PasswordHash {
        text: Secret::Inline(at.value.0.clone()),
        cost,
    })
}

/// `None` where it is switched off, or wrong, which is reported.
fn rate_limit(given: &At<web::RateLimit>, report: &Report<'_>) -> Option<RateLimit> {
    let item = &given.value;
    require(
        &item.interval,
        given,
        "interval",
        "add `interval: 1s`: the time between two requests",
        report,
    );
    let interval = item.interval.value()?.0;
    if interval.is_zero() {
        return None;
    }
    require(
        &item.burst,
        given,
        "burst",
        "add `burst: 20`: how many requests may come at once",
        report,
    );
    let burst = item.burst.given()?;
    if burst.value == 0 {
        report.problem(
            burst.id,
            format!("{} is 0: nobody would be let in", burst.thing),
            "write 1 or more",
        );
        return None;
    }
    Some(RateLimit {
        burst: burst.value,
        interval,
    })
}

fn exempt_paths(given: &At<Vec<At<String>>>, report: &Report<'_>) -> Vec<String> {
    let paths = given.value.iter().filter(|path| {
        let plain = |c: char| c.is_ascii_graphic() && !"?#%*".contains(c);
        let is_path = path.value.starts_with('/') && path.value.chars().all(plain);
        if !is_path {
            let what = format!("{} is {}, which is no path", path.thing, shown(&path.value));
            report.problem(
                path.id,
                what,
                "write it whole, such as `/-/healthy`; there are no patterns",
            );
        }
        is_path
    });
    paths.map(|path| path.value.clone()).collect()
}
