//! Where the pages are: below which path here, and below which path for who comes through a proxy.

/// By default everything is at the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What paths begin with here: nothing, or `/` and a name.
    prefix: String,
    /// The same for users.
    external: String,
}

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// A page, by its path without the prefix.
    Page(&'a str),
    /// The top, which has moved.
    Top,
    Elsewhere,
}

impl Place {
    /// As Prometheus has it: `route_prefix` where it is given, else the path of the external URL.
    pub fn new(external_path: &str, route_prefix: Option<&str>) -> Self {
        let tidy = |path: &str| match path.trim_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        };
        Self {
            prefix: tidy(route_prefix.unwrap_or(external_path)),
            external: tidy(external_path),
        }
    }

    pub(super) fn asked<'a>(&self, path: &'a str) -> Asked<'a> {
        match path.strip_prefix(self.prefix.as_str()) {
            Some(page) if page.starts_with('/') => Asked::Page(page),
            Some("") if !self.prefix.is_empty() => Asked::Top,
            None if path == "/" => Asked::Top,
            _ => Asked::Elsewhere,
        }
    }

    /// Where the top is for users.
    pub(super) fn top(&self) -> String {
        format!("{}/", self.external)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_what_prometheus_takes_it_for() {
        for (external, route, path, expected) in [
            ("", None, "/metrics", Asked::Page("/metrics")),
            ("/", Some("/"), "/", Asked::Page("/")),
            // CONNECT has no path.
            ("", None, "", Asked::Elsewhere),
            ("", None, "*", Asked::Elsewhere),
            ("/llm/", None, "/llm/metrics", Asked::Page("/metrics")),
            ("/llm", None, "/llm/", Asked::Page("/")),
            ("/llm", None, "/llm", Asked::Top),
            ("/llm", None, "/", Asked::Top),
            ("/llm", None, "/metrics", Asked::Elsewhere),
            ("/llm", None, "/llmetrics", Asked::Elsewhere),
            ("/llm", None, "//llm/metrics", Asked::Elsewhere),
            ("/llm", None, "/llm/../metrics", Asked::Page("/../metrics")),
            ("/llm", Some("/"), "/metrics", Asked::Page("/metrics")),
            ("/llm", Some("a/b"), "/a/b/metrics", Asked::Page("/metrics")),
        ] {
            let place = Place::new(external, route);
            assert_eq!(place.asked(path), expected, "{external:?} {route:?} {path}");
        }
        assert_eq!(Place::new("/llm/", Some("/")).top(), "/llm/");
        assert_eq!(Place::default().top(), "/");
    }
}
