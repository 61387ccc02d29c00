//! `GET /probe`: one burst now, answered with that burst's metrics, as the blackbox exporter answers.
//!
//! A burst that is refused (budget, back-off, kill switch, drain and the like) is answered with 200, `probe_success` 0 and
//! `probe_refused` with the reason: whoever alerts on `probe_success` is told, and `up` goes on to say whether the
//! exporter answers. 400 and 429 are for what asking again in the same way would not mend, or only later.

use std::time::Duration;

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use url::form_urlencoded;

use super::{App, wanted};
use crate::{
    demand::{Demand, Unfit, Wish},
    metrics::Format,
};

/// What Prometheus says of how long it waits, in seconds.
const SCRAPE_TIMEOUT: &str = "X-Prometheus-Scrape-Timeout-Seconds";

/// How long it is waited for by those who do not say, and by nobody longer than this: meanwhile it may be in the way of
/// what the schedule wants to fire.
const UNSAID: Duration = Duration::from_mins(2);
const LONGEST: Duration = Duration::from_mins(10);

/// After how many seconds to ask again where too many ask.
const AGAIN: &str = "5";

const TEXT: &str = "text/plain; charset=utf-8";

const OFF: &str = "bursts on demand are off; start the exporter with --web.enable-probe\n";

/// Bursts on demand, where they are switched on.
#[derive(Clone, Debug)]
pub struct Probing {
    pub demand: Demand,
    /// How much earlier than the scraper's patience ends the burst does.
    pub offset: Duration,
}

pub(super) async fn probe(
    State(App(app)): State<App>,
    method: Method,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(Probing { demand, offset }) = &app.switch.probing else {
        return (StatusCode::FORBIDDEN, OFF).into_response();
    };
    if method != Method::GET {
        // Otherwise a look at the head would fire a burst.
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]).into_response();
    }
    let wish = within(&headers, *offset).and_then(|within| wish(query.as_deref().unwrap_or(""), within));
    let wish = match wish {
        Ok(wish) => wish,
        Err(what) => return (StatusCode::BAD_REQUEST, what + "\n").into_response(),
    };
    let told = match demand.fire(&wish).await {
        Ok(told) => told,
        Err(unfit) => return refusal(&unfit),
    };
    let wanted = wanted(&headers);
    let content_type = if wish.log {
        TEXT.to_owned()
    } else {
        wanted.content_type()
    };
    let render = move || {
        if !wish.log {
            return Ok(told.metrics.render(wanted.format));
        }
        let begins = format!(
            "Log of the burst:\n\n{}\nMetrics that would have been answered:\n\n",
            told.log
        );
        let mut answer = begins.into_bytes();
        answer.extend(told.metrics.render(Format::Text));
        Ok(answer)
    };
    match app.pages.make("answer", render).await {
        Ok(answer) => ([(header::CONTENT_TYPE, content_type)], answer.into_body()).into_response(),
        Err(error) => {
            tracing::error!(%error, "rendering an answer failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Why nothing was tried.
fn refusal(unfit: &Unfit) -> Response {
    let said = format!("{unfit}\n");
    let status = match unfit {
        Unfit::Busy => {
            let again = [(header::RETRY_AFTER, AGAIN)];
            return (StatusCode::TOO_MANY_REQUESTS, again, said).into_response();
        }
        Unfit::Ending => StatusCode::SERVICE_UNAVAILABLE,
        Unfit::NotAllowed(_) | Unfit::NotThisProbe(..) | Unfit::NotPublic(_) => StatusCode::FORBIDDEN,
        Unfit::Probe(..) | Unfit::Target(..) | Unfit::Url(_) => StatusCode::BAD_REQUEST,
        Unfit::Client(_) | Unfit::Lost => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, said).into_response()
}

/// How long the burst may take.
fn within(headers: &HeaderMap, offset: Duration) -> Result<Duration, String> {
    let Some(said) = headers.get(SCRAPE_TIMEOUT) else {
        return Ok(UNSAID);
    };
    let patience = said.to_str().ok().and_then(|said| said.trim().parse().ok());
    let patience = patience.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let patience = patience.ok_or_else(|| format!("{SCRAPE_TIMEOUT} is no number of seconds"))?;
    let within = patience.saturating_sub(offset).min(LONGEST);
    if within.is_zero() {
        return Err(format!(
            "the scraper waits {}, of which --timeout-offset takes {}: raise `scrape_timeout`",
            humantime::format_duration(patience),
            humantime::format_duration(offset)
        ));
    }
    Ok(within)
}

/// What a query asks for. Parameters that are not known are left alone.
fn wish(query: &str, within: Duration) -> Result<Wish, String> {
    let given = |name: &str| {
        let mut values = form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(format!("`{name}` is given twice")),
        }
    };
    let needed = |name: &str| given(name)?.ok_or_else(|| format!("say which {name}: `{name}=NAME`"));
    let log = match given("debug")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err("`debug` is neither `true` nor `false`".to_owned()),
    };
    Ok(Wish {
        probe: needed("probe")?,
        target: needed("target")?,
        within,
        log,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_says_how_long_it_waits() {
        let of = |said: &str| {
            let headers = [(SCRAPE_TIMEOUT.parse().unwrap(), said.parse().unwrap())];
            within(&HeaderMap::from_iter(headers), Duration::from_millis(500))
        };
        assert_eq!(of("10"), Ok(Duration::from_millis(9500)));
        assert_eq!(of("0.75"), Ok(Duration::from_millis(250)));
        assert_eq!(of("1e9"), Ok(LONGEST));
        for bad in ["0.5", "0", "-1", "NaN", "inf", "ten", ""] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(within(&HeaderMap::new(), Duration::from_secs(9)), Ok(UNSAID));
    }

    #[test]
    fn a_query_names_a_probe_and_a_target_once() {
        let of = |query| wish(query, UNSAID).map(|wish| (wish.probe, wish.target, wish.log));
        let named = |log| Ok(("a b".to_owned(), "c&d".to_owned(), log));
        assert_eq!(of("probe=a+b&target=c%26d&job=x"), named(false));
        assert_eq!(of("target=c%26d&probe=a%20b&debug=true"), named(true));
        for bad in [
            "",
            "probe=a",
            "target=a",
            "probe=a&probe=b&target=c",
            "probe=a&target=b&debug=yes",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
