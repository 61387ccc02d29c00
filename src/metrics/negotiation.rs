//! Which format a scraper wants, by its header `Accept`.

use std::cmp::Ordering;

/// The formats of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Version 0.0.4: the answer to no `Accept` at all, to `*/*`, and to anything unknown or malformed.
    Text,
    /// Version 1.0.0.
    OpenMetrics,
    /// Messages `io.prometheus.client.MetricFamily`, each after its length.
    Protobuf,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// What is in the `Content-Type` before `escaping`. Prometheus 3 fails a scrape without one that it knows.
    const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// What a scraper is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub format: Format,
    /// How names that only newer scrapers understand are to be written. All names here are understood by every
    /// one, and no scheme changes those; so it is only said that it was followed, as `client_golang` does.
    escaping: Option<&'static str>,
}

const ESCAPINGS: [&str; 4] = ["underscores", "allow-utf-8", "dots", "values"];

/// Longer headers are nobody's: that of Prometheus has 400 bytes.
const LONGEST: usize = 2048;

impl Wanted {
    const TEXT: Self = Self {
        format: Format::Text,
        escaping: None,
    };

    /// `accept` is the value of the header; of several, joined by commas.
    pub fn accepted(accept: &str) -> Self {
        if accept.len() > LONGEST {
            return Self::TEXT;
        }
        let preferred = accept
            .split(',')
            .filter_map(offer)
            // The first of those that are wanted most.
            .reduce(|best, next| match next.1.total_cmp(&best.1) {
                Ordering::Greater => next,
                Ordering::Equal | Ordering::Less => best,
            });
        preferred.map_or(Self::TEXT, |(wanted, _)| wanted)
    }

    pub fn content_type(self) -> String {
        let format = self.format.content_type();
        match self.escaping {
            Some(escaping) => format!("{format}; escaping={escaping}"),
            None => format.to_owned(),
        }
    }
}

/// One entry of the header and how much it is wanted; `None` when there is no such format, when it is not wanted
/// at all, and when that cannot be told.
fn offer(entry: &str) -> Option<(Wanted, f64)> {
    let mut parts = entry.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let mut quality = 1.0;
    let (mut version, mut proto, mut encoding, mut escaping) = (None, None, None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        match name.trim_end().to_ascii_lowercase().as_str() {
            "q" => quality = value.parse().ok()?,
            "version" => version = Some(value),
            "proto" => proto = Some(value),
            "encoding" => encoding = Some(value),
            "escaping" => escaping = ESCAPINGS.into_iter().find(|known| *known == value),
            _ => {}
        }
    }
    let format = match media_type.as_str() {
        "text/plain" | "text/*" | "*/*" if version.is_none_or(|version| version == "0.0.4") => Format::Text,
        "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
            Format::OpenMetrics
        }
        "application/vnd.google.protobuf"
            if proto == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited") =>
        {
            Format::Protobuf
        }
        _ => return None,
    };
    let is_wanted = quality > 0.0 && quality <= 1.0;
    is_wanted.then_some((Wanted { format, escaping }, quality))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[track_caller]
    fn check(accept: &str, format: Format, escaping: Option<&'static str>) {
        assert_eq!(Wanted::accepted(accept), Wanted { format, escaping }, "{accept}");
    }

    #[test]
    fn what_scrapers_ask_for() {
        use Format::{OpenMetrics, Protobuf, Text};
        for (accept, format, escaping) in [
            // Prometheus 2.42, without and with native histograms.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
                None,
            ),
            (
                &format!(
                    "{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                Protobuf,
                None,
            ),
            // Prometheus 3.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
                Some("allow-utf-8"),
            ),
            (
                &format!(
                    "{PROTOBUF};escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2"
                ),
                Protobuf,
                Some("allow-utf-8"),
            ),
            // A browser, curl, nothing.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Text,
                None,
            ),
            ("*/*", Text, None),
            ("", Text, None),
        ] {
            check(accept, format, escaping);
        }
    }

    #[test]
    fn weights_versions_and_escaping_are_followed() {
        use Format::{OpenMetrics, Protobuf, Text};
        for (accept, format, escaping) in [
            ("text/plain;q=0.5, application/openmetrics-text;q=0.4", Text, None),
            (
                "text/plain;q=0.4, application/openmetrics-text;q=0.5",
                OpenMetrics,
                None,
            ),
            (
                "text/plain;version=0.0.4, application/openmetrics-text",
                Text,
                None,
            ),
            (
                "application/openmetrics-text;version=2.0.0, text/plain;q=0.1",
                Text,
                None,
            ),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Text, None),
            ("text/plain;q=0", Text, None),
            (
                "APPLICATION/OpenMetrics-Text; Version=\"1.0.0\" ; Q=0.3",
                OpenMetrics,
                None,
            ),
            ("application/vnd.google.protobuf", Text, None),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Text,
                None,
            ),
            (&format!("text/*;q=0.9,{PROTOBUF}"), Protobuf, None),
            ("text/plain;version=0.0.4;escaping=dots", Text, Some("dots")),
            (
                "application/openmetrics-text;escaping=values",
                OpenMetrics,
                Some("values"),
            ),
            ("text/plain;escaping=underscores", Text, Some("underscores")),
            ("text/plain;escaping=klingon", Text, None),
        ] {
            check(accept, format, escaping);
        }
    }

    #[test]
    fn what_is_malformed_or_absurd_is_text() {
        const OPEN_METRICS: &str = "application/openmetrics-text";
        for accept in [
            ",;,=;;q,",
            "q=1",
            "🦀/🦀;🦀=🦀",
            &format!("{OPEN_METRICS};q=NaN"),
            &format!("{OPEN_METRICS};q=inf"),
            &format!("{OPEN_METRICS};q=-1"),
            &format!("{OPEN_METRICS};q=2"),
            &format!("{OPEN_METRICS};q="),
            &format!("{OPEN_METRICS};q"),
            &format!("{OPEN_METRICS},").repeat(5000),
            &format!("{OPEN_METRICS};x={}", "x".repeat(10_000)),
        ] {
            assert_eq!(Wanted::accepted(accept), Wanted::TEXT, "{accept:.80}");
        }
        // What is well-formed beside it still holds.
        check(
            &format!("text/plain;q=NaN,{OPEN_METRICS};q=0.1"),
            Format::OpenMetrics,
            None,
        );
    }

    #[test]
    fn content_types_are_exact() {
        for (accept, content_type) in [
            ("", "text/plain; version=0.0.4; charset=utf-8"),
            (
                "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8",
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            (
                PROTOBUF,
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            ),
        ] {
            assert_eq!(Wanted::accepted(accept).content_type(), content_type);
        }
    }
}
