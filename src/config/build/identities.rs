//! The headers that say who asks.

use http::HeaderName;

use super::secrets::is_own_header;
use crate::{
    config::{
        problem::shown,
        raw::{items, leaves::HeaderOrNone, reading::Field},
        report::Report,
    },
    identity::Headers,
};

/// What is given, and what is usual for the rest.
pub(super) fn headers(raw: &Field<items::Identity>, report: &Report<'_>) -> Headers {
    let usual = Headers::default();
    let Some(item) = raw.value() else {
        return usual;
    };
    let headers = Headers {
        probe_id: header(&item.probe_id, usual.probe_id, report),
        request_id: header(&item.request_id, usual.request_id, report),
        traceparent: item.traceparent.value().copied().unwrap_or(usual.traceparent),
    };
    if let Some(given) = item.request_id.given().or(item.probe_id.given())
        && headers.probe_id.is_some()
        && headers.probe_id == headers.request_id
    {
        let what = format!("{} is a header that `identity` uses twice", given.thing);
        report.problem(given.id, what, "give each its own header");
    }
    headers
}

fn header(field: &Field<HeaderOrNone>, usual: Option<HeaderName>, report: &Report<'_>) -> Option<HeaderName> {
    let Some(given) = field.given() else {
        return usual;
    };
    let name = given.value.0.as_ref()?;
    if is_own_header(name.as_str()) || matches!(name.as_str(), "traceparent" | "cache-control") {
        let what = format!(
            "{} is {}, which the exporter sets itself to something else",
            given.thing,
            shown(name.as_str())
        );
        report.problem(given.id, what, "write another name, such as `X-Probe-Id`");
    }
    Some(name.clone())
}
