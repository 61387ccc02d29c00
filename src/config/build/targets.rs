//! Targets: where they are and what every request to them carries.

use http::HeaderName;
use serde_json::{Map, Value};
use url::Url;

use super::{Context, generations, labels, oauth2, protection, reach, require, secrets, vocabularies};
use crate::{
    config::{
        plan::{Connection, Dialect, HttpVersion, Price, Target},
        problem::{list, shown},
        raw::{
            items,
            reading::{At, Field},
        },
        report::Report,
        secret::looks_secret,
    },
    units::Name,
};

/// Fields of the request body that the probe sets itself, and the mend.
const OWN_FIELDS: &[(&str, &str)] = &[
    ("model", "write `model: …` in the target"),
    ("messages", PROMPT),
    ("prompt", PROMPT),
    ("input", PROMPT),
    ("inputs", PROMPT),
    ("text_input", PROMPT),
    ("contents", PROMPT),
    ("stream", "remove it"),
    ("parameters.stream", "remove it"),
    ("max_tokens", MAX_TOKENS),
    ("max_completion_tokens", MAX_TOKENS),
    ("max_output_tokens", MAX_TOKENS),
    ("n_predict", MAX_TOKENS),
    ("options.num_predict", MAX_TOKENS),
    ("parameters.max_tokens", MAX_TOKENS),
    ("parameters.max_new_tokens", MAX_TOKENS),
    ("generationConfig.maxOutputTokens", MAX_TOKENS),
];
const PROMPT: &str = "write `prompt: { text: … }` in the probe";
const MAX_TOKENS: &str = "write `max_tokens: …` in the probe";

/// `None` when it cannot be built; its problems are reported.
pub(super) fn target(raw: &At<items::Target>, name: Option<Name>, context: &Context<'_>) -> Option<Target> {
    let (report, of, item) = (context.report, raw.thing.as_str(), &raw.value);
    require(
        &item.url,
        raw,
        "url",
        "add the base URL, such as `url: http://localhost:11434/v1`",
        report,
    );
    let apis = list(&Dialect::ALL.iter().map(|api| api.as_str()).collect::<Vec<_>>());
    require(
        &item.api,
        raw,
        "api",
        &format!("say what it speaks: {apis}"),
        report,
    );
    require(
        &item.model,
        raw,
        "model",
        "add `model: …`, as the endpoint names it",
        report,
    );
    if let Some(model) = item.model.given()
        && (model.value.trim().is_empty() || model.value.chars().any(char::is_control))
    {
        let what = format!("{} is empty or holds a control character", model.thing);
        report.problem(model.id, what, "write the name as the endpoint gives it");
    }
    let api = item.api.value().copied();
    let url = item.url.given().and_then(|given| url(given, api, report));
    only_for(&item.max_tokens_field, Dialect::OpenaiChat, api, report);
    only_for(&item.text_mode, Dialect::TritonGenerate, api, report);
    let authorization = item
        .authorization
        .given()
        .and_then(|given| secrets::authorization(given, context));
    let oauth2 = oauth2::oauth2(item, of, context);
    let credentials = (item.authorization.given().map(|given| given.key))
        .or_else(|| item.oauth2.given().map(|given| given.key));
    if let (Some(url), Some(key)) = (&url, credentials)
        && url.scheme() == "http"
        && item.unix_socket.is_absent()
        && !is_near(url)
    {
        let what = format!(
            "{of} sends its credentials unencrypted to {}",
            url.host_str().unwrap_or_default()
        );
        report.warning(key, what, "use an `https` URL");
    }
    let headers = item
        .headers
        .value()
        .map(|headers| secrets::headers(headers, context));
    let reach = reach::reach(item, of, url.as_ref(), context);
    let body = body(item, of, report);
    let price = item.price.given().and_then(|given| price(given, report));
    let budget = protection::budget(&item.budget, report);
    if let (Some(given), None) = (
        item.budget.value().and_then(|budget| budget.dollars.given()),
        &price,
    ) && item.price.is_absent()
    {
        let what = format!("{} counts nothing, as the target has no `price`", given.thing);
        report.problem(given.key, what, protection::PRICE);
    }
    let busy = protection::busy(&item.busy, report);
    let labels = labels::values(&item.labels, of, context);
    Some(Target {
        name: name?,
        url: url?,
        api: api?,
        model: item.model.value()?.clone(),
        authorization,
        oauth2,
        headers: headers.unwrap_or_default(),
        connection: item.connection.value().copied().unwrap_or(Connection::New),
        http: item.http.value().copied().unwrap_or(HttpVersion::Http1),
        reach: reach?,
        max_tokens_field: item
            .max_tokens_field
            .value()
            .map_or("max_tokens", |field| field.0),
        reasoning: generations::reasoning(&item.reasoning, api, report),
        body,
        text_mode: item.text_mode.value().copied().unwrap_or_default(),
        replica_header: replica_header(&item.replica_header, report),
        tokenizer: vocabularies::tokenizer(&item.tokenizer, context),
        price,
        budget,
        busy,
        labels,
        share: item.share.value().copied().unwrap_or(false),
    })
}

fn replica_header(field: &Field<String>, report: &Report<'_>) -> Option<HeaderName> {
    let given = field.given()?;
    let name = HeaderName::from_bytes(given.value.as_bytes());
    if name.is_err() {
        let what = format!(
            "{} is {}, which is no name of an HTTP header",
            given.thing,
            shown(&given.value)
        );
        report.problem(
            given.id,
            what,
            "write the name of a response header, such as `X-Backend`",
        );
    }
    name.ok()
}

/// Reports a key that only one API has a use for.
fn only_for<T>(field: &Field<T>, owner: Dialect, api: Option<Dialect>, report: &Report<'_>) {
    if let (Some(given), Some(api)) = (field.given(), api)
        && api != owner
    {
        let what = format!("{} is for `{}` alone", given.thing, owner.as_str());
        report.problem(given.key, what, "remove it");
    }
}

/// A base URL without `/` at its end.
fn url(given: &At<String>, api: Option<Dialect>, report: &Report<'_>) -> Option<Url> {
    let text = given.value.as_str();
    let problem = |what: &str, mend: &str| {
        let which = if looks_secret(text) {
            String::new()
        } else {
            format!("is {}, which ", shown(text))
        };
        report.problem(given.id, format!("{} {which}{what}", given.thing), mend);
        None
    };
    let with_scheme = "begin it with `http://` or `https://`, such as `http://localhost:11434/v1`";
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => return problem("has no scheme", with_scheme),
        Err(error) => {
            return problem(
                &format!("is no URL: {error}"),
                "write it like `http://localhost:11434/v1`",
            );
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        // `localhost:11434` is a URL of scheme `localhost`.
        return problem("is neither http nor https", with_scheme);
    }
    if !url.has_host() {
        return problem("has no host", "write it like `http://localhost:11434/v1`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        let mend = "remove them and write `authorization: { scheme: Basic, credentials_env: NAME }`";
        return problem("holds credentials", mend);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return problem(
            "has a query or fragment",
            "write the base URL alone, up to the path",
        );
    }
    let path = url.path().trim_end_matches('/').to_owned();
    // Of a path with the model in it, what follows the model.
    let added = api.map_or("", Dialect::path);
    let end = added.rsplit('}').next().unwrap_or_default();
    if !end.is_empty() && path.ends_with(end) {
        return problem(
            &format!("ends in `{end}`"),
            &format!("leave `{added}` out: it is added"),
        );
    }
    if let (Some(api), true) = (api, path.is_empty())
        && let Some(version) = api.version()
    {
        let what = format!(
            "{} has no path, but `{}` is served below `{version}`",
            given.thing,
            api.as_str()
        );
        report.warning(given.id, what, format!("add `{version}` at its end"));
    }
    url.set_path(&path);
    Some(url)
}

/// Whether the way there is probably within one machine or cluster.
pub(super) fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => {
            let private = [".localhost", ".local", ".internal", ".svc"];
            !name.contains('.') || private.iter().any(|end| name.ends_with(end))
        }
        Some(url::Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
        Some(url::Host::Ipv6(address)) => address.is_loopback() || address.is_unique_local(),
        None => false,
    }
}

fn body(item: &items::Target, of: &str, report: &Report<'_>) -> Map<String, Value> {
    let Some(given) = item.body.given() else {
        return Map::new();
    };
    let body = &given.value.0;
    let holds = |path: &str| {
        let mut keys = path.split('.');
        let first = keys.next().and_then(|key| body.get(key));
        keys.fold(first, |value, key| value?.get(key)).is_some()
    };
    for (field, mend) in OWN_FIELDS.iter().filter(|(field, _)| holds(field)) {
        report.problem(
            given.key,
            format!("`body` of {of} holds `{field}`, which the exporter sets itself"),
            *mend,
        );
    }
    body.clone()
}

fn price(given: &At<items::Price>, report: &Report<'_>) -> Option<Price> {
    let (input, output) = (&given.value.input_per_million, &given.value.output_per_million);
    require(
        input,
        given,
        "input_per_million",
        "add it, in dollars; `0` is allowed",
        report,
    );
    require(
        output,
        given,
        "output_per_million",
        "add it, in dollars; `0` is allowed",
        report,
    );
    Some(Price {
        input_per_million: input.value()?.0,
        output_per_million: output.value()?.0,
    })
}

/// A target that no probe asks is probably a mistake.
pub(super) fn warn_of_unused(
    targets: &[At<items::Target>],
    probes: &[At<items::Probe>],
    report: &Report<'_>,
) {
    // A probe without `targets` asks all of them; of one that cannot be read nothing is known.
    let Some(asked) = probes
        .iter()
        .map(|probe| probe.value.targets.value())
        .collect::<Option<Vec<_>>>()
    else {
        return;
    };
    for target in targets {
        let Some(name) = target.value.name.given() else {
            continue;
        };
        let is_asked = asked
            .iter()
            .any(|names| names.iter().any(|asked| asked.value == name.value));
        if !is_asked {
            let what = format!("target {} is used by no probe", shown(&name.value));
            report.warning(name.id, what, "add it to the `targets` of a probe, or remove it");
        }
    }
}
