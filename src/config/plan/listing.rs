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

impl ListSource {
    /// Whether it is in the same place, which may be asked in another way.
    pub fn is_where(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Files(one), Self::Files(other)) => one == other,
            (Self::Http(one), Self::Http(other)) => one.url == other.url,
            (Self::Files(_), Self::Http(_)) | (Self::Http(_), Self::Files(_)) => false,
        }
    }
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

impl HttpList {
    /// Reads the file again that its credentials are in; whether it holds others now. On an error they stay.
    pub fn reread(&mut self) -> Result<bool, String> {
        let authorization = self.authorization.as_mut();
        authorization.map_or(Ok(false), |authorization| authorization.credentials.reread())
    }
}

/// What a list says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    /// Each file and its text.
    Files(Vec<(PathBuf, String)>),
    /// What a server has answered.
    Answer(String),
}

/// What is known of lists, by their names: two may be at the same place and be shown something else there.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    said: HashMap<Name, (ListSource, Said)>,
    reads_no_files: bool,
}

impl Lists {
    /// Nothing is known, and what is not is left out: also files are not read.
    pub fn only_known() -> Self {
        Self {
            reads_no_files: true,
            ..Self::default()
        }
    }

    pub const fn reads_no_files(&self) -> bool {
        self.reads_no_files
    }

    /// What a list said there.
    pub fn get(&self, name: &Name, source: &ListSource) -> Option<&Said> {
        let (place, said) = self.said.get(name)?;
        place.is_where(source).then_some(said)
    }

    pub fn put(&mut self, name: &Name, source: &ListSource, said: Said) {
        self.said.insert(name.clone(), (source.clone(), said));
    }

    pub fn remove(&mut self, name: &Name) {
        self.said.remove(name);
    }
}
