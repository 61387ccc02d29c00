//! Headers of others: what a scraper accepts, and when an endpoint wants to be asked again.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use llm_probe_exporter::{
    metrics::Wanted,
    retry_after::{LONGEST, retry_after},
};

/// A format that nobody has changes nothing, and every answer has a content type that Prometheus knows.
pub fn accept(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let wanted = Wanted::accepted(&text);
    let content_type = wanted.content_type();
    assert!(
        [
            "text/plain; ",
            "application/openmetrics-text; ",
            "application/vnd.google.protobuf; "
        ]
        .iter()
        .any(|known| content_type.starts_with(known)),
        "{content_type}"
    );
    assert!(HeaderValue::from_str(&content_type).is_ok());
    // Longer headers are not read at all.
    if text.len() < 2000 {
        assert_eq!(Wanted::accepted(&format!("{text},image/png;q=1.0")), wanted);
        assert_eq!(Wanted::accepted(&format!("image/png , {text}")), wanted);
    }
}

/// 2026-03-01 12:00:00 UTC.
const NOW: f64 = 1_772_366_400.0;

static NAMES: [HeaderName; 8] = [
    HeaderName::from_static("retry-after"),
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-ms-retry-after-ms"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
];

/// Never longer than a day, and later no longer than before. The first byte chooses the status. Each line is a header,
/// which its first byte names; after the first empty line comes the body.
pub fn asked_again(bytes: &[u8]) {
    let Some((&status, rest)) = bytes.split_first() else {
        return;
    };
    let status = [429, 503, 529, 500, 401]
        .get(usize::from(status % 5))
        .copied()
        .unwrap_or(429);
    let status = StatusCode::from_u16(status).expect("it is one");
    let end = rest
        .windows(2)
        .position(|two| two == b"\n\n")
        .unwrap_or(rest.len());
    let (head, body) = rest.split_at(end);
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(20) {
        let Some((&name, value)) = line.split_first() else {
            continue;
        };
        let name = NAMES
            .get(usize::from(name) % NAMES.len())
            .expect("there are as many");
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let now = retry_after(status, &headers, body, NOW);
    let later = retry_after(status, &headers, body, NOW + 10.0);
    assert!(now.is_none_or(|wait| wait <= LONGEST), "{now:?}");
    assert!(
        later <= now && later.is_some() == now.is_some(),
        "{now:?}, {later:?}"
    );
}
