//! Endpoints that are no targets, at which bursts may be asked for: an allow list of URLs.

use std::{fmt, str::FromStr, sync::Arc};

use url::{Host, Url};

use super::{Name, Probe, Target};

/// An entry of the allow list.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowed {
    /// How the endpoints are asked that it allows. Its URL is what theirs begin with; its host may begin with `*.`.
    pub target: Arc<Target>,
    /// Which probes may be fired at them: at least one, each of the configuration, each once, asking `target` alone.
    pub probes: Vec<Arc<Probe>>,
}

impl Allowed {
    /// The endpoint at `url`, which goes by it, if this entry allows it.
    pub fn at(&self, url: &AskedUrl) -> Option<Target> {
        covers(&self.target.url, &url.url).then(|| Target {
            name: url.name.clone(),
            url: url.url.clone(),
            ..(*self.target).clone()
        })
    }
}

/// Whether `url` has scheme, host and port of `pattern`, and a path that begins with its segments.
fn covers(pattern: &Url, url: &Url) -> bool {
    let segments = |url: &Url| -> Vec<String> {
        let path = url.path().trim_matches('/');
        path.split('/')
            .filter(|segment| !segment.is_empty())
            .map(str::to_owned)
            .collect()
    };
    pattern.scheme() == url.scheme()
        && pattern.port_or_known_default() == url.port_or_known_default()
        && is_host_of(pattern, url)
        && segments(url).starts_with(&segments(pattern))
}

/// `*.` stands for one label, as it does in certificates.
fn is_host_of(pattern: &Url, url: &Url) -> bool {
    let wild = pattern.host_str().and_then(|host| host.strip_prefix("*."));
    match (wild, url.host()) {
        (Some(parent), Some(Host::Domain(name))) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        (Some(_), _) => false,
        (None, host) => pattern.host() == host,
    }
}

/// A URL that somebody asks a burst for. What it says is what a server understands: nothing in it is encoded, left out or
/// read in two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedUrl {
    url: Url,
    /// The same as a name.
    name: Name,
}

impl AskedUrl {
    /// Whether a text is meant for a URL, and not for the name of a target.
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl FromStr for AskedUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The parser would leave some of it out, and turn some of it into something else.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ":/.-_~[]".contains(c);
        if !text.chars().all(is_plain) {
            return Err(
                "it may hold letters, digits and `:/.-_~[]` alone: no user, query, fragment or encoded character",
            );
        }
        let mut url = Url::parse(text).map_err(|_| "it cannot be read")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("it is neither http nor https");
        }
        let (_, rest) = text.split_once("://").ok_or("it has no `://`")?;
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_odd = |segment: &str| matches!(segment, "" | "." | "..");
        if rest.starts_with('/') || !path.is_empty() && path.split('/').any(is_odd) {
            return Err("its path has an empty segment, `.` or `..`");
        }
        url.set_path(path);
        let name = Name::new(url.as_str().trim_end_matches('/'))?;
        Ok(Self { url, name })
    }
}

impl fmt::Display for AskedUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, url: &str) -> bool {
        url.parse::<AskedUrl>()
            .is_ok_and(|url| covers(&Url::parse(pattern).unwrap(), url.url()))
    }

    #[test]
    fn a_url_is_allowed_part_by_part() {
        for (pattern, url) in [
            ("https://api.example.org/v1", "https://api.example.org/v1"),
            ("https://api.example.org/v1", "https://api.example.org/v1/"),
            (
                "https://api.example.org/v1",
                "https://API.EXAMPLE.org:443/v1/team",
            ),
            ("https://api.example.org", "https://api.example.org/any/v1"),
            ("https://*.example.org/v1", "https://a.example.org/v1"),
            ("https://*.example.org:8443/v1", "https://a.example.org:8443/v1"),
            ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
            // However it is written, it is this address.
            ("http://127.0.0.1:8000/v1", "http://2130706433:8000/v1"),
            ("http://[::1]:8000/v1", "http://[0:0::1]:8000/v1"),
        ] {
            assert!(allows(pattern, url), "{pattern} {url}");
        }
        for (pattern, url) in [
            ("https://api.example.org/v1", "http://api.example.org/v1"),
            ("https://api.example.org/v1", "https://api.example.org:444/v1"),
            ("https://api.example.org/v1", "https://api.example.org/v10"),
            ("https://api.example.org/v1", "https://api.example.org/V1"),
            ("https://api.example.org/v1", "https://api.example.org"),
            (
                "https://api.example.org/v1",
                "https://api.example.org/v1/../admin",
            ),
            (
                "https://api.example.org/v1",
                "https://api.example.org/v1/%2e%2e/admin",
            ),
            (
                "https://api.example.org/v1",
                "https://api.example.org/v1/..%2fadmin",
            ),
            ("https://api.example.org/v1", "https://api.example.org//v1"),
            ("https://api.example.org/v1", "https://api.example.org/v1?key=1"),
            ("https://api.example.org/v1", "https://api.example.org/v1?"),
            ("https://api.example.org/v1", "https://api.example.org/v1#x"),
            ("https://api.example.org/v1", "https://api.example.org\\v1"),
            (
                "https://api.example.org/v1",
                "https://api.example.org/v1\r\nHost: evil",
            ),
            ("https://api.example.org/v1", "https://api.exam\tple.org/v1"),
            (
                "https://api.example.org/v1",
                "https://api.example.org@evil.test/v1",
            ),
            (
                "https://api.example.org/v1",
                "https://user:pass@api.example.org/v1",
            ),
            (
                "https://api.example.org/v1",
                "https://evil.test/api.example.org/v1",
            ),
            (
                "https://api.example.org/v1",
                "https://api.example.org.evil.test/v1",
            ),
            ("https://api.example.org/v1", "https://api.example.org./v1"),
            ("https://api.example.org/v1", "https:api.example.org/v1"),
            ("https://api.example.org/v1", "https:///api.example.org/v1"),
            ("https://*.example.org/v1", "https://example.org/v1"),
            ("https://*.example.org/v1", "https://.example.org/v1"),
            ("https://*.example.org/v1", "https://a.b.example.org/v1"),
            ("https://*.example.org/v1", "https://evilexample.org/v1"),
            ("https://*.example.org/v1", "https://a.example.org.evil.test/v1"),
            ("https://*.example.org/v1", "https://*.example.org/v1"),
            ("https://*.example.org/v1", "https://127.0.0.1/v1"),
            ("http://127.0.0.1:8000/v1", "http://127.0.0.2:8000/v1"),
            ("http://127.0.0.1:8000/v1", "http://localhost:8000/v1"),
            ("http://127.0.0.1:8000/v1", "file:///etc/passwd"),
            ("http://127.0.0.1:8000/v1", "gopher://127.0.0.1:8000/v1"),
        ] {
            assert!(!allows(pattern, url), "{pattern} {url}");
        }
        let long = format!("https://api.example.org/v1/{}", "a".repeat(128));
        assert!(!allows("https://api.example.org/v1", &long));
    }
}
