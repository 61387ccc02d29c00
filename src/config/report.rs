//! Collects what is wrong while a configuration is read and resolved, so that everything is told at once.

use std::{cell::RefCell, collections::HashSet};

use super::{
    excerpt::Excerpt,
    positions::{NodeId, Positions, Shape},
    problem::{Problem, Severity},
};

/// Who has more errors than this, or more warnings, is not helped by the rest of them.
pub(super) const MAX_PROBLEMS: usize = 200;

/// The problems found so far, and which values may be shown beside them.
#[derive(Debug)]
pub(super) struct Report<'a> {
    positions: &'a Positions,
    found: RefCell<Vec<Finding>>,
    permitted: RefCell<HashSet<NodeId>>,
    /// Mappings with unknown keys, and the key that each may have been meant to be.
    unknown: RefCell<Vec<(NodeId, Option<&'static str>)>>,
}

#[derive(Debug, PartialEq)]
struct Finding {
    severity: Severity,
    at: NodeId,
    what: String,
    mend: String,
}

impl<'a> Report<'a> {
    pub(super) fn new(positions: &'a Positions) -> Self {
        Self {
            positions,
            found: RefCell::default(),
            permitted: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    /// Something is wrong at `at`. What two probes inherit from the same line is told once.
    pub(super) fn problem(&self, at: NodeId, what: impl Into<String>, mend: impl Into<String>) {
        self.add(Severity::Error, at, what.into(), mend.into());
    }

    /// Something is allowed, but probably not meant.
    pub(super) fn warning(&self, at: NodeId, what: impl Into<String>, mend: impl Into<String>) {
        self.add(Severity::Warning, at, what.into(), mend.into());
    }

    fn add(&self, severity: Severity, at: NodeId, what: String, mend: String) {
        let finding = Finding {
            severity,
            at,
            what,
            mend,
        };
        let mut found = self.found.borrow_mut();
        let alike = found.iter().filter(|other| other.severity == severity);
        if alike.count() < MAX_PROBLEMS && !found.contains(&finding) {
            found.push(finding);
        }
    }

    /// The mapping at `at` has an unknown key, which was perhaps meant to be `meant`.
    pub(super) fn note_unknown_key(&self, at: NodeId, meant: Option<&'static str>) {
        self.unknown.borrow_mut().push((at, meant));
    }

    /// Whether a key that seems to be missing was told to be misspelt.
    pub(super) fn is_misspelt(&self, at: NodeId, key: &str) -> bool {
        let is_it = |(other, meant): &(NodeId, Option<&str>)| *other == at && *meant == Some(key);
        self.unknown.borrow().iter().any(is_it)
    }

    /// Whether the mapping at `at` has unknown keys.
    pub(super) fn has_unknown_keys(&self, at: NodeId) -> bool {
        self.unknown.borrow().iter().any(|(other, _)| *other == at)
    }

    /// The outermost mapping.
    pub(super) fn root(&self) -> NodeId {
        self.positions.root().unwrap_or(NodeId::FILE)
    }

    /// The scalar at `at`, a key or under one that never holds a secret, may be shown.
    pub(super) fn permit(&self, at: NodeId) {
        self.permitted.borrow_mut().insert(at);
    }

    /// Whether it was permitted.
    pub(super) fn is_permitted(&self, at: NodeId) -> bool {
        self.permitted.borrow().contains(&at)
    }

    /// The line of a node.
    pub(super) fn line(&self, at: NodeId) -> usize {
        self.positions.place(at).line
    }

    /// Whether the file has a list without entries there.
    pub(super) fn is_empty_list(&self, at: NodeId) -> bool {
        let shape = self.positions.get(at).map(|spot| &spot.shape);
        matches!(shape, Some(Shape::List(entries)) if entries.is_empty())
    }

    /// All problems in the order of the file.
    pub(super) fn into_problems(self, file: &str, text: &str) -> Vec<Problem> {
        let (mut found, permitted) = (self.found.into_inner(), self.permitted.into_inner());
        found.sort_by_key(|finding| self.positions.place(finding.at));
        let problem = |finding: Finding| Problem {
            severity: finding.severity,
            file: file.to_owned(),
            place: self.positions.get(finding.at).map(|spot| spot.start),
            what: finding.what,
            mend: finding.mend,
            excerpt: Excerpt::of(text, self.positions, finding.at, &permitted),
        };
        found.into_iter().map(problem).collect()
    }
}
