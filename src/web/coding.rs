//! Whether an answer may be compressed, by the header `Accept-Encoding`.

use axum::http::{HeaderMap, header};

/// Whether gzip is named, or everything that is not named, and not with `q=0`.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let offers = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(offer);
    let (mut gzip, mut rest) = (None, None);
    for (coding, is_wanted) in offers {
        match coding.as_str() {
            "gzip" | "x-gzip" => gzip = Some(is_wanted),
            "*" => rest = Some(is_wanted),
            _ => {}
        }
    }
    gzip.or(rest).unwrap_or(false)
}

/// A coding in small letters, and whether it is wanted at all.
fn offer(entry: &str) -> Option<(String, bool)> {
    let (coding, parameters) = entry.split_once(';').unwrap_or((entry, "q=1"));
    let (name, quality) = parameters.split_once('=')?;
    let quality: f64 = quality.trim().parse().ok()?;
    let is_quality = name.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&quality);
    is_quality.then(|| (coding.trim().to_ascii_lowercase(), quality > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_by_those_who_say_so() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(
                header::ACCEPT_ENCODING,
                value.parse().unwrap(),
            )]))
        };
        for yes in [
            "gzip",
            "deflate, GZIP;q=0.5",
            "br;q=1.0, gzip; q=0.8, *;q=0.1",
            "*",
            "x-gzip",
        ] {
            assert!(takes(yes), "{yes}");
        }
        for no in [
            "",
            "identity",
            "gzip;q=0",
            "*, gzip;q=0",
            "gzip;q=2",
            "gzip;q=x",
            "gzip;v=1",
            "*;q=0",
            "gzipped",
        ] {
            assert!(!takes(no), "{no}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
