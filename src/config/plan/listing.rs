//! Where targets are listed beside the configuration.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use url::Url;

use super::Authorization;
use crate::units::Name;

/// A list of targets that may change while the exporter runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    pub name: Name,
    pub source: ListSource,
    /// How many it named when the configuration was read.
    pub targets: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ListSource {
    /// Paths, whose file names may hold one `*`.
    Files(Vec<PathBuf>),
    Http(HttpList),
}

/// A list that is asked for over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpList {
    /// http or https, with a host, without credentials.
    pub url: Url,
    /// At least a second.
    pub every: Duration,
    pub timeout: Duration,
    pub authorization: Option<Authorization>,
}

/// What was last got from the lists that are asked for over HTTP.
#[derive(Clone, Debug, Default)]
pub struct Lists(HashMap<Url, String>);

impl Lists {
    pub fn get(&self, url: &Url) -> Option<&str> {
        self.0.get(url).map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts what was got now in the place of what was before, and gives that back.
    pub fn put(&mut self, url: &Url, text: Option<String>) -> Option<String> {
        match text {
            Some(text) => self.0.insert(url.clone(), text),
            None => self.0.remove(url),
        }
    }
}
