//! When an endpoint that refuses says to come back, in all the forms that are about.
//!
//! The first form that is there and makes sense is taken, milliseconds before seconds, as the SDKs of the
//! vendors do:
//!
//! 1. `retry-after-ms` (`OpenAI`, Anthropic), then `x-ms-retry-after-ms` (Azure);
//! 2. `Retry-After`: seconds, with decimals too, or an HTTP date;
//! 3. `retryDelay` among the details of an error body (Gemini);
//! 4. the reset of a rate limit: `x-ratelimit-reset-…` (Go durations, seconds, Unix time) and
//!    `anthropic-ratelimit-…-reset` (RFC 3339). These stand on every answer, so they count only where the
//!    status says that a limit was reached: the longest of the limits of which nothing remains; where no
//!    header tells what remains, the longest of all.
//!
//! What is negative, not a number or in no known form is passed over; a moment that is past means now;
//! nothing is longer than [`LONGEST`].

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

/// Longer waits are cut to this: who asks for more means "not today".
pub const LONGEST: Duration = Duration::from_hours(24);

/// For how long the endpoint asks not to come back. `now` is in seconds since the Unix epoch.
pub fn retry_after(status: StatusCode, headers: &HeaderMap, body: &[u8], now: f64) -> Option<Duration> {
    let header = |name: &str| text(headers.get(name)?);
    let seconds = header("retry-after-ms")
        .and_then(milliseconds)
        .or_else(|| header("x-ms-retry-after-ms").and_then(milliseconds))
        .or_else(|| {
            header("retry-after").and_then(|text| number(text).or_else(|| until(http_date(text)?, now)))
        })
        .or_else(|| retry_delay(body))
        .or_else(|| reached_a_limit(status).then(|| longest_reset(headers, now))?)?;
    Some(Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}

fn reached_a_limit(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503 | 529)
}

/// Go writes microseconds with a letter that `HeaderValue::to_str` does not take.
fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// A number that can be a time: finite and not negative.
fn number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

fn milliseconds(text: &str) -> Option<f64> {
    Some(number(text)? / 1e3)
}

/// From `now` to a moment; both in seconds since the Unix epoch.
fn until(moment: f64, now: f64) -> Option<f64> {
    let left = moment - now;
    left.is_finite().then(|| left.max(0.0))
}

/// Seconds since the Unix epoch.
fn http_date(text: &str) -> Option<f64> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

/// Seconds since the Unix epoch.
fn rfc3339(text: &str) -> Option<f64> {
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, Some(0.0)),
        None => text
            .split_at_checked(text.len().saturating_sub("+00:00".len()))
            .map(|(local, offset)| (local, utc_offset(offset)))?,
    };
    let local = humantime::parse_rfc3339_weak(local).ok()?;
    Some(local.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() - offset?)
}

/// Seconds of `+05:30`.
fn utc_offset(text: &str) -> Option<f64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1.0, rest),
        ("-", rest) => (-1.0, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some(sign * (f64::from(hours) * 3600.0 + f64::from(minutes) * 60.0))
}

/// Gemini's `{"error":{"details":[{"@type":"…RetryInfo","retryDelay":"17s"}]}}`, in an array without `alt=sse`.
fn retry_delay(body: &[u8]) -> Option<f64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let details = body.get(0).unwrap_or(&body).get("error")?.get("details")?;
    let delays = details
        .as_array()?
        .iter()
        .filter_map(|detail| detail.get("retryDelay")?.as_str());
    delays.filter_map(go_duration).reduce(f64::max)
}

fn longest_reset(headers: &HeaderMap, now: f64) -> Option<f64> {
    let (mut exhausted, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in headers {
        let name = name.as_str();
        let is_reset = name.starts_with("x-ratelimit-reset")
            || name.starts_with("anthropic-ratelimit-") && name.ends_with("-reset");
        if !is_reset {
            continue;
        }
        let left = text(value).and_then(|value| reset(value.trim(), now));
        let remaining = headers
            .get(name.replace("reset", "remaining"))
            .and_then(|remaining| number(text(remaining)?));
        match remaining {
            Some(remaining) if remaining > 0.0 => {}
            Some(_) => exhausted.extend(left),
            None => unknown.extend(left),
        }
    }
    let longest = |resets: Vec<f64>| resets.into_iter().reduce(f64::max);
    longest(exhausted).or_else(|| longest(unknown))
}

/// The value of a reset header. Numbers beyond 10⁹ are Unix time, in milliseconds beyond 10¹².
fn reset(text: &str, now: f64) -> Option<f64> {
    match number(text) {
        Some(number) if number >= 1e12 => until(number / 1e3, now),
        Some(number) if number >= 1e9 => until(number, now),
        Some(number) => Some(number),
        None => go_duration(text).or_else(|| until(rfc3339(text)?, now)),
    }
}

/// A duration as Go prints it: `1h2m3.5s`, `6m0s`, `20ms`.
fn go_duration(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    let mut seconds = None;
    while !rest.is_empty() {
        let (digits, after) = rest.split_at_checked(rest.find(|c: char| c.is_alphabetic())?)?;
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds = Some(seconds.unwrap_or(0.0) + number(digits)? * unit);
        rest = after;
    }
    seconds.filter(|seconds: &f64| seconds.is_finite())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    /// 2026-03-01 12:00:00 UTC, a Sunday.
    const NOW: f64 = 1_772_366_400.0;

    fn asked(status: u16, headers: &[(&str, &str)], body: &str) -> Option<Duration> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
            })
            .collect();
        retry_after(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            body.as_bytes(),
            NOW,
        )
    }

    #[test]
    fn every_form_is_read() {
        let day = 86_400_000;
        let cases: &[(&str, &str, Option<u64>)] = &[
            ("retry-after", "20", Some(20_000)),
            ("Retry-After", " 20 ", Some(20_000)),
            ("retry-after", "0", Some(0)),
            ("retry-after", "0.75", Some(750)),
            ("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT", Some(30_000)),
            ("retry-after", "Sunday, 01-Mar-26 12:00:30 GMT", Some(30_000)),
            ("retry-after", "Sun Mar  1 12:00:30 2026", Some(30_000)),
            ("retry-after", "Sun, 01 Mar 2026 11:00:00 GMT", Some(0)),
            ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT", Some(day)),
            ("retry-after", "1e300", Some(day)),
            ("retry-after", "99999999999999999999999999", Some(day)),
            ("retry-after", "-5", None),
            ("retry-after", "NaN", None),
            ("retry-after", "inf", None),
            ("retry-after", "soon", None),
            ("retry-after", "", None),
            ("retry-after-ms", "1500", Some(1500)),
            ("retry-after-ms", "0.5", Some(0)),
            ("retry-after-ms", "-1", None),
            ("x-ms-retry-after-ms", "250", Some(250)),
            ("x-ratelimit-reset-requests", "6m0s", Some(360_000)),
            ("x-ratelimit-reset-tokens", "20ms", Some(20)),
            ("x-ratelimit-reset-tokens", "1h2m3.5s", Some(3_723_500)),
            ("x-ratelimit-reset-tokens", "7.66s", Some(7660)),
            ("x-ratelimit-reset-tokens", "250µs", Some(0)),
            ("x-ratelimit-reset-tokens", "1000000h", Some(day)),
            ("x-ratelimit-reset-tokens", "-6m0s", None),
            ("x-ratelimit-reset-tokens", "6 parsecs", None),
            ("x-ratelimit-reset-requests", "12", Some(12_000)),
            ("x-ratelimit-reset", "1772366410", Some(10_000)),
            ("x-ratelimit-reset", "1772366410500", Some(10_500)),
            (
                "anthropic-ratelimit-requests-reset",
                "2026-03-01T12:00:05Z",
                Some(5_000),
            ),
            (
                "anthropic-ratelimit-tokens-reset",
                "2026-03-01T12:00:05.25Z",
                Some(5_250),
            ),
            (
                "anthropic-ratelimit-input-tokens-reset",
                "2026-03-01T13:01:00+01:00",
                Some(60_000),
            ),
            (
                "anthropic-ratelimit-input-tokens-reset",
                "2026-03-01T07:01:00-05:00",
                Some(60_000),
            ),
            (
                "anthropic-ratelimit-output-tokens-reset",
                "2026-03-01T11:00:00Z",
                Some(0),
            ),
            ("anthropic-ratelimit-tokens-reset", "yesterday", None),
            ("anthropic-ratelimit-tokens-limit", "2026-03-01T12:00:05Z", None),
        ];
        for (name, value, expected) in cases {
            let waits = asked(429, &[(name, value)], "").map(|waits| waits.as_millis());
            assert_eq!(waits, expected.map(u128::from), "{name}: {value}");
        }
    }

    #[test]
    fn error_bodies_are_read() {
        let gemini = |delay: &str| {
            format!(
                r#"{{"error":{{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{{"reason":"x"}},{{"@type":"RetryInfo","retryDelay":{delay}}}]}}}}"#
            )
        };
        for (body, seconds) in [
            (gemini(r#""17s""#), Some(17.0)),
            (gemini(r#""3.5s""#), Some(3.5)),
            (format!("[{}]", gemini(r#""17s""#)), Some(17.0)),
            (gemini("17"), None),
            (gemini(r#""-1s""#), None),
            (r#"{"error":{"details":"none"}}"#.to_owned(), None),
            (r#"{"error":"slow down"}"#.to_owned(), None),
            ("<html>".to_owned(), None),
        ] {
            assert_eq!(
                asked(429, &[], &body),
                seconds.map(Duration::from_secs_f64),
                "{body}"
            );
        }
    }

    #[test]
    fn the_first_form_that_makes_sense_is_taken() {
        let body = r#"{"error":{"details":[{"retryDelay":"4s"}]}}"#;
        let mut headers = vec![
            ("retry-after-ms", "1000"),
            ("x-ms-retry-after-ms", "2000"),
            ("retry-after", "3"),
            ("x-ratelimit-reset-requests", "5s"),
        ];
        for seconds in 1..=3 {
            assert_eq!(asked(429, &headers, body), Some(Duration::from_secs(seconds)));
            headers.remove(0);
        }
        assert_eq!(asked(429, &headers, body), Some(Duration::from_secs(4)));
        assert_eq!(asked(429, &headers, ""), Some(Duration::from_secs(5)));
        let broken = [("retry-after-ms", "soon"), ("retry-after", "3")];
        assert_eq!(asked(429, &broken, body), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_limit_that_was_reached_counts() {
        let limits = |requests, tokens| {
            [
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-tokens", tokens),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ]
        };
        for (requests, tokens, seconds) in [
            ("0", "900", Some(1)),
            ("7", "0", Some(360)),
            ("0", "0", Some(360)),
            ("7", "9", None),
        ] {
            assert_eq!(
                asked(429, &limits(requests, tokens), ""),
                seconds.map(Duration::from_secs)
            );
        }
        // On an answer that says nothing of limits they mean nothing; `Retry-After` means what it says.
        assert_eq!(asked(400, &limits("0", "0"), ""), None);
        assert_eq!(
            asked(402, &[("retry-after", "9")], ""),
            Some(Duration::from_secs(9))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_makes_it_panic_or_wait_for_ever(
            form in prop::sample::select(vec![
                "retry-after", "retry-after-ms", "x-ms-retry-after-ms", "x-ratelimit-reset-tokens",
                "anthropic-ratelimit-tokens-reset",
            ]),
            text in prop_oneof![
                "\\PC{0,40}",
                "[-+]?[0-9]{0,400}[.e]?[0-9]{0,4}(h|m|s|ms|µs|ns|Z)?",
                "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[-+][0-9]{2}:[0-9]{2})",
                "(Mon|Sun), [0-9]{2} (Jan|Feb) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
            ],
            now in prop::num::f64::ANY,
        ) {
            let body = format!(r#"{{"error":{{"details":[{{"retryDelay":{text:?}}}]}}}}"#);
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                headers.insert(form, value);
            }
            for now in [now, NOW] {
                let waits = retry_after(StatusCode::TOO_MANY_REQUESTS, &headers, body.as_bytes(), now);
                prop_assert!(waits.is_none_or(|waits| waits <= LONGEST));
                // Each reader on its own too: a header may not hold every text.
                go_duration(&text);
                rfc3339(&text);
                http_date(&text);
            }
        }
    }
}
