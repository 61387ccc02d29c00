//! Headers whose values may be secret, and where the values come from.

use super::Context;
use crate::config::{
    plan::{Authorization, Header, Login},
    positions::NodeId,
    problem::shown,
    raw::{
        items,
        leaves::{Hidden, Reference},
        reading::{At, Field, Named},
    },
    secret::{Secret, looks_secret},
};

/// Headers that the client sets itself, and the mend.
const OWN_HEADERS: &[(&str, &str)] = &[
    (
        "authorization",
        "write `authorization: { credentials_env: NAME }` in the target",
    ),
    ("user-agent", "write `global: { user_agent: … }`"),
    ("host", OWN),
    ("content-length", OWN),
    ("content-type", OWN),
    ("accept", OWN),
    ("accept-encoding", OWN),
    (
        "connection",
        "write `connection: new` or `connection: reuse` in the target",
    ),
    ("keep-alive", OWN),
    ("te", OWN),
    ("trailer", OWN),
    ("transfer-encoding", OWN),
    ("upgrade", OWN),
];
const OWN: &str = "remove it";

/// Whether the client sets the header `name`, in lower case, itself.
pub(super) fn is_own_header(name: &str) -> bool {
    OWN_HEADERS.iter().any(|(own, _)| *own == name)
}

/// The credentials and how they are sent; `None` when its credentials cannot be had.
pub(super) fn authorization(
    given: &At<items::Authorization>,
    context: &Context<'_>,
) -> Option<Authorization> {
    let item = &given.value;
    let alternatives = [
        Source::Env(&item.credentials_env),
        Source::File(&item.credentials_file),
    ];
    let one_of = "`credentials_env` or `credentials_file`";
    let credentials = one_source(given, &alternatives, one_of, context);
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if let Some(scheme) = item.scheme.given()
        && (scheme.value.is_empty() || !scheme.value.chars().all(is_token))
    {
        let what = format!("{} is {}", scheme.thing, shown(&scheme.value));
        context
            .report
            .problem(scheme.id, what, "write one word, such as `Bearer`");
    }
    Some(Authorization {
        scheme: item.scheme.value().cloned(),
        credentials: credentials?,
    })
}

/// User name and password at a proxy; `None` when they cannot be had.
pub(super) fn login(given: &At<items::Proxy>, context: &Context<'_>) -> Option<Login> {
    let item = &given.value;
    let sources = [Source::Env(&item.password_env), Source::File(&item.password_file)];
    let one_of = "`password_env` or `password_file`";
    let password = one_source(given, &sources, one_of, context);
    super::require(
        &item.username,
        given,
        "username",
        "add `username: …`, as there is a password",
        context.report,
    );
    let username = item.username.given()?;
    if username.value.is_empty() || username.value.contains([':', '\r', '\n']) {
        let what = format!("{} is empty, or holds `:` or a line break", username.thing);
        context
            .report
            .problem(username.id, what, "write the name that the proxy knows");
    }
    Some(Login {
        username: username.value.clone(),
        password: password?,
    })
}

/// Where a secret may come from.
pub(super) enum Source<'a> {
    Value(&'a Field<Hidden>),
    Env(&'a Field<Reference>),
    File(&'a Field<Reference>),
}

/// The secret, of which exactly one source must be given.
pub(super) fn one_source(
    item: &At<impl Sized>,
    sources: &[Source<'_>],
    one_of: &str,
    context: &Context<'_>,
) -> Option<Secret> {
    let (report, thing) = (context.report, &item.thing);
    let given: Vec<_> = sources.iter().filter(|source| source.is_given()).collect();
    let source = match given.as_slice() {
        [source] => source,
        [] if report.has_unknown_keys(item.id) => return None,
        [] => {
            report.problem(
                item.key,
                format!("{thing} has no value"),
                format!("write {one_of}"),
            );
            return None;
        }
        _ => {
            let mend = format!("keep one of {one_of}");
            report.problem(item.key, format!("{thing} has more than one value"), mend);
            return None;
        }
    };
    let (at, thing, read) = source.read(context)?;
    let mend = source.mend();
    match read {
        Err(what) => report.problem(at, format!("{thing}: {what}"), mend),
        Ok(secret) if http::HeaderValue::from_str(secret.expose()).is_err() => {
            let what =
                format!("{thing} holds a line break or another character that no HTTP header can hold");
            report.problem(at, what, mend);
        }
        Ok(secret) => {
            if matches!(source, Source::Value(_)) && looks_secret(secret.expose()) {
                let mend =
                    "put it into an environment variable or a file, and write `env: NAME` or `file: PATH`";
                report.warning(at, format!("{thing} looks like a secret"), mend);
            }
            return Some(secret);
        }
    }
    None
}

impl<'a> Source<'a> {
    fn is_given(&self) -> bool {
        match self {
            Self::Value(field) => !field.is_absent(),
            Self::Env(field) | Self::File(field) => !field.is_absent(),
        }
    }

    /// Where it stands, what messages call it, and the secret.
    fn read(&self, context: &Context<'_>) -> Option<(NodeId, &'a str, Result<Secret, String>)> {
        Some(match self {
            Self::Value(field) => {
                let given = field.given()?;
                (given.id, &given.thing, Ok(Secret::Inline(given.value.0.clone())))
            }
            Self::Env(field) => {
                let given = field.given()?;
                (given.id, &given.thing, Secret::from_env(&given.value.0))
            }
            Self::File(field) => {
                let given = field.given()?;
                let path = context.base_dir.join(&given.value.0);
                let shown = if given.value.may_be_shown() {
                    shown(&path.display().to_string())
                } else {
                    "that file".to_owned()
                };
                let read = Secret::from_file(&path).map_err(|what| format!("{shown} {what}"));
                (given.id, &given.thing, read)
            }
        })
    }

    const fn mend(&self) -> &'static str {
        match self {
            Self::Value(_) => "write one line of printable text",
            Self::Env(_) => "set it where the exporter is started, or name another",
            Self::File(_) => {
                "name a file with the value as its only line (paths are relative to the configuration)"
            }
        }
    }
}

/// The other headers, as far as they are valid.
pub(super) fn headers(raw: &Named<items::Header>, context: &Context<'_>) -> Vec<Header> {
    let report = context.report;
    let mut headers: Vec<Header> = Vec::new();
    for (name, given) in &raw.0 {
        let lower = name.to_ascii_lowercase();
        let own = OWN_HEADERS.iter().find(|(own, _)| *own == lower);
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let what = format!("{} is no name of an HTTP header", shown(name));
            report.problem(given.key, what, "use letters, digits and `-`");
        } else if let Some((_, mend)) = own {
            let what = format!("header {} is set by the exporter itself", shown(name));
            report.problem(given.key, what, *mend);
        } else if headers.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            let what = format!("header {} is given twice, as case does not matter", shown(name));
            report.problem(given.key, what, "remove one");
        } else {
            let item = &given.value;
            let sources = [
                Source::Value(&item.value),
                Source::Env(&item.env),
                Source::File(&item.file),
            ];
            let secret = one_source(given, &sources, "`value`, `env` or `file`", context);
            headers.extend(secret.map(|value| Header {
                name: name.clone(),
                value,
            }));
        }
    }
    headers
}
