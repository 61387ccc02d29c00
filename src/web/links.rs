//! Where things are. Links are relative, so that they hold below any prefix that a proxy or `--web.route-prefix` puts
//! before them.

use std::fmt;

use url::form_urlencoded::byte_serialize;

use crate::{config::plan::Series, load::Load};

/// The way from a page to the root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    depth: usize,
}

impl Links {
    /// From the page at this path, which is as it was asked for.
    pub(super) fn from(path: &str) -> Self {
        Self {
            depth: path.matches('/').count().saturating_sub(1),
        }
    }

    /// To a path below the root, without a slash at its beginning; that of the status page is empty.
    pub(super) fn to(self, path: &str) -> String {
        match (self.depth, path) {
            (0, "") => "./".to_owned(),
            (depth, path) => "../".repeat(depth) + path,
        }
    }
}

/// The path of a series' page, below the root or `api/v1/`; also its name in a page.
pub(super) fn path_of(series: &Series) -> String {
    format!(
        "series/{}/{}/{}",
        segment(series.target.name.as_str()),
        segment(series.probe.name.as_str()),
        LoadSegment(series.step.load)
    )
}

/// Whether these are the decoded segments of its path.
pub(super) fn leads_to(series: &Series, [target, probe, load]: [&str; 3]) -> bool {
    is_meant(target, series.target.name.as_str())
        && is_meant(probe, series.probe.name.as_str())
        && load == LoadSegment(series.step.load).to_string()
}

/// A name as a part of a path.
fn segment(name: &str) -> String {
    if is_dots(name) {
        // `.` and `..`, escaped or not, mean something else in a path.
        return name.replace('.', "%252E");
    }
    byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

fn is_dots(name: &str) -> bool {
    name == "." || name == ".."
}

fn is_meant(decoded: &str, name: &str) -> bool {
    decoded == name || (is_dots(name) && decoded == name.replace('.', "%2E"))
}

/// A load as a part of a path: label and value of the metrics.
struct LoadSegment(Load);

impl fmt::Display for LoadSegment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Load::Users(users) => write!(out, "concurrency={users}"),
            Load::Rate(rate) => write!(out, "rate={rate}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_up_and_down() {
        assert_eq!(Links::from("/").to(""), "./");
        assert_eq!(Links::from("/").to("logs"), "logs");
        assert_eq!(
            Links::from("/series/a/b/c").to("static/page.css"),
            "../../../static/page.css"
        );
        assert_eq!(Links::from("/series/a/b/c").to(""), "../../../");
        // What is escaped divides nothing, neither here nor in a browser.
        assert_eq!(Links::from("/a%2Fb").to(""), "./");
    }

    #[test]
    fn every_name_is_a_segment() {
        for (name, expected) in [
            ("llama", "llama"),
            ("a b/c+d?#%", "a%20b%2Fc%2Bd%3F%23%25"),
            ("\"><script>", "%22%3E%3Cscript%3E"),
            ("..", "%252E%252E"),
            ("...", "..."),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(segment(name), expected);
        }
        assert!(is_meant("%2E%2E", "..") && is_meant("a/b", "a/b") && !is_meant("%2E", ".."));
    }
}
