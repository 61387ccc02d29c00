//! Where everything in a YAML text stands: its nodes with line and column, from the events of the parser.
//!
//! `serde_yaml` knows no position of a valid value, so the text is read twice: here for places, duplicate keys and
//! limits, in [`super::raw`] for values. Nothing is expanded here, so an alias costs nothing, and the size of the
//! whole is known before anything is built from it.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span, Tag};

use super::problem::Place;

/// Deepest nesting, aliases expanded. A valid configuration needs nine levels.
const MAX_DEPTH: usize = 32;
/// Most nodes, aliases expanded ("billion laughs").
const MAX_NODES: usize = 100_000;

/// A node of the text. [`Self::FILE`] stands for the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(usize);

impl NodeId {
    pub(super) const FILE: Self = Self(usize::MAX);
}

/// What a node is.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    /// With its text after unquoting.
    Scalar(String),
    Alias(NodeId),
    List(Vec<NodeId>),
    Map(Vec<(NodeId, NodeId)>),
}

/// A node and where it stands, end exclusive.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) start: Place,
    pub(super) end: Place,
    pub(super) shape: Shape,
    pub(super) is_key: bool,
    /// Nodes and levels of this one, aliases expanded.
    nodes: usize,
    depth: usize,
}

/// Why a text is no configuration at all.
#[derive(Debug, PartialEq)]
pub(super) struct Syntax {
    pub(super) place: Place,
    pub(super) what: String,
    pub(super) mend: String,
}

/// The nodes of one YAML document.
#[derive(Debug, Default)]
pub(super) struct Positions {
    spots: Vec<Spot>,
    root: Option<NodeId>,
    /// Keys given once more in the same mapping, each with the first of its kind.
    duplicates: Vec<(NodeId, NodeId)>,
}

impl Positions {
    /// Reads a text of at most one document.
    pub(super) fn read(text: &str) -> Result<Self, Syntax> {
        let mut reading = Reading::default();
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let marker = error.marker();
                let place = Place::new(marker.line(), marker.col() + 1);
                Syntax::new(
                    place,
                    format!("this is no YAML: {}", error.info()),
                    mend(error.info()),
                )
            })?;
            reading.event(event, span)?;
        }
        Ok(reading.into_positions())
    }

    /// The outermost node; `None` when there is nothing but comments.
    pub(super) fn root(&self) -> Option<NodeId> {
        self.root
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Spot> {
        self.spots.get(id.0)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (NodeId, &Spot)> {
        self.spots.iter().enumerate().map(|(at, spot)| (NodeId(at), spot))
    }

    /// The node itself, or the one that an alias stands for.
    pub(super) fn resolve(&self, id: NodeId) -> NodeId {
        match self.get(id).map(|spot| &spot.shape) {
            Some(Shape::Alias(target)) => self.resolve(*target),
            _ => id,
        }
    }

    /// Where the node begins; the beginning of the file for what is not in it.
    pub(super) fn place(&self, id: NodeId) -> Place {
        self.get(id).map_or(Place::START, |spot| spot.start)
    }

    pub(super) fn duplicates(&self) -> &[(NodeId, NodeId)] {
        &self.duplicates
    }
}

impl Syntax {
    fn new(place: Place, what: String, mend: &str) -> Self {
        Self {
            place,
            what,
            mend: mend.to_owned(),
        }
    }
}

/// What usually mends the parser's complaint.
fn mend(info: &str) -> &'static str {
    const BRACKET: &str = "close the bracket or brace that is open here";
    const MENDS: &[(&str, &str)] = &[
        ("tab", "indent with spaces"),
        (
            "recursion limit",
            "no part of a configuration is nested that deep",
        ),
        (
            "mapping values",
            "give the line the indentation of its neighbours, or put a value that holds `: ` in quotes",
        ),
        ("simple key", "write `key: value`; the line before lacks its `: `"),
        ("unknown anchor", "define it with `&name` before it is used"),
        ("unexpected character", "put the value in quotes"),
        (
            "expected '-'",
            "give the line the indentation of its neighbours, and begin each entry of a list with `- `",
        ),
        ("trailing content", "double a quote inside quotes (`''`)"),
        ("escape", "write `\\\\` for a backslash, or use single quotes"),
        ("quoted scalar", "close the quote"),
        ("expected ','", BRACKET),
        (
            "invalid indentation",
            "close the bracket or brace that is open above, or give the line the indentation of its neighbours",
        ),
        ("':' indicator", BRACKET),
    ];
    let found = MENDS.iter().find(|(part, _)| info.contains(part));
    found.map_or("check the indentation, quotes and brackets here", |(_, mend)| {
        mend
    })
}

/// A container that is still open.
enum Open {
    List(NodeId, Vec<NodeId>),
    Map(NodeId, Vec<(NodeId, NodeId)>, Option<NodeId>),
}

#[derive(Default)]
struct Reading {
    found: Positions,
    open: Vec<Open>,
    anchors: HashMap<usize, NodeId>,
    documents: usize,
}

impl Reading {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Syntax> {
        let place = Place::new(span.start.line(), span.start.col() + 1);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let what = "a second YAML document begins here".to_owned();
                    return Err(Syntax::new(
                        place,
                        what,
                        "a configuration is one document: remove the `---`",
                    ));
                }
            }
            Event::Scalar(text, _, anchor, tag) => {
                refuse_tag(place, tag.as_deref())?;
                let id = self.push(span, Shape::Scalar(text.into_owned()), anchor);
                self.add(id, place)?;
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).copied().filter(|id| !self.is_open(*id));
                let Some(target) = target else {
                    let what = "this alias stands for something that it is itself a part of".to_owned();
                    return Err(Syntax::new(place, what, "write out what is meant"));
                };
                let id = self.push(span, Shape::Alias(target), 0);
                if let Some((nodes, depth)) = self.found.get(target).map(|spot| (spot.nodes, spot.depth)) {
                    self.measure(id, nodes, depth);
                }
                self.add(id, place)?;
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(place, tag.as_deref())?;
                let id = self.push(span, Shape::List(Vec::new()), anchor);
                self.open.push(Open::List(id, Vec::new()));
                self.limit_depth(0, place)?;
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(place, tag.as_deref())?;
                let id = self.push(span, Shape::Map(Vec::new()), anchor);
                self.open.push(Open::Map(id, Vec::new(), None));
                self.limit_depth(0, place)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn push(&mut self, span: Span, shape: Shape, anchor: usize) -> NodeId {
        let id = NodeId(self.found.spots.len());
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.found.spots.push(Spot {
            start: Place::new(span.start.line(), span.start.col() + 1),
            end: Place::new(span.end.line(), span.end.col() + 1),
            shape,
            is_key: false,
            nodes: 1,
            depth: 1,
        });
        id
    }

    /// Puts a complete node into the container that is open.
    fn add(&mut self, id: NodeId, place: Place) -> Result<(), Syntax> {
        let (nodes, depth) = self.found.get(id).map_or((1, 1), |spot| (spot.nodes, spot.depth));
        if nodes > MAX_NODES {
            let what = format!("with its aliases written out this has more than {MAX_NODES} values");
            return Err(Syntax::new(place, what, "use fewer aliases"));
        }
        self.limit_depth(depth, place)?;
        match self.open.last_mut() {
            None => self.found.root = Some(id),
            Some(Open::List(_, children)) => children.push(id),
            Some(Open::Map(_, entries, key)) => {
                if let Some(key) = key.take() {
                    entries.push((key, id));
                } else {
                    *key = Some(id);
                    if let Some(spot) = self.found.spots.get_mut(id.0) {
                        spot.is_key = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn close(&mut self, span: Span) -> Result<(), Syntax> {
        let (id, shape) = match self.open.pop() {
            Some(Open::List(id, children)) => (id, Shape::List(children)),
            Some(Open::Map(id, entries, _)) => {
                self.find_duplicates(&entries);
                (id, Shape::Map(entries))
            }
            None => return Ok(()),
        };
        let children: Vec<NodeId> = match &shape {
            Shape::List(children) => children.clone(),
            Shape::Map(entries) => entries.iter().flat_map(|(key, value)| [*key, *value]).collect(),
            Shape::Scalar(_) | Shape::Alias(_) => Vec::new(),
        };
        let (mut nodes, mut depth) = (1_usize, 1);
        for child in children.iter().filter_map(|child| self.found.get(*child)) {
            nodes = nodes.saturating_add(child.nodes);
            depth = depth.max(child.depth + 1);
        }
        self.measure(id, nodes, depth);
        if let Some(spot) = self.found.spots.get_mut(id.0) {
            spot.shape = shape;
            spot.end = Place::new(span.end.line(), span.end.col() + 1);
        }
        self.add(id, self.found.place(id))
    }

    fn find_duplicates(&mut self, entries: &[(NodeId, NodeId)]) {
        let mut first = HashMap::new();
        let mut duplicates = Vec::new();
        for (key, _) in entries {
            let id = self.found.resolve(*key);
            if let Some(Shape::Scalar(text)) = self.found.get(id).map(|spot| &spot.shape) {
                match first.get(text.as_str()) {
                    Some(earlier) => duplicates.push((*key, *earlier)),
                    None => {
                        first.insert(text.as_str(), *key);
                    }
                }
            }
        }
        self.found.duplicates.extend(duplicates);
    }

    fn measure(&mut self, id: NodeId, nodes: usize, depth: usize) {
        if let Some(spot) = self.found.spots.get_mut(id.0) {
            (spot.nodes, spot.depth) = (nodes, depth);
        }
    }

    fn limit_depth(&self, below: usize, place: Place) -> Result<(), Syntax> {
        if self.open.len() + below > MAX_DEPTH {
            let what = format!("this is nested more than {MAX_DEPTH} levels deep");
            return Err(Syntax::new(place, what, "no part of a configuration is"));
        }
        Ok(())
    }

    fn is_open(&self, id: NodeId) -> bool {
        self.open.iter().any(|open| match open {
            Open::List(at, _) | Open::Map(at, _, _) => *at == id,
        })
    }

    fn into_positions(self) -> Positions {
        self.found
    }
}

/// Tags of the core schema (`!!str`) only say what a value is anyway.
fn refuse_tag(place: Place, tag: Option<&Tag>) -> Result<(), Syntax> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            let what = "this value has a YAML tag, and tags mean nothing here".to_owned();
            Err(Syntax::new(place, what, "remove the `!…` before it"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Every scalar with its place.
    fn scalars(text: &str) -> Vec<(String, usize, usize)> {
        let positions = Positions::read(text).unwrap();
        let scalar = |(_, spot): (NodeId, &Spot)| match &spot.shape {
            Shape::Scalar(text) => Some((text.clone(), spot.start.line, spot.start.column)),
            _ => None,
        };
        positions.each().filter_map(scalar).collect()
    }

    #[test]
    fn nodes_stand_where_an_editor_shows_them() {
        let text = "a: &x one # c\r\nbé:\r\n  - \"q é\"\r\n  - {k: *x}\r\n";
        let expected = [
            ("a", 1, 1),
            ("one", 1, 7),
            ("bé", 2, 1),
            ("q é", 3, 5),
            ("k", 4, 6),
        ];
        let expected = expected.map(|(text, line, column)| (text.to_owned(), line, column));
        assert_eq!(scalars(text), expected);
    }

    #[test]
    fn keys_given_twice_are_found_at_every_level() {
        let positions = Positions::read("a: 1\nb: { c: 1, d: 2, c: 3 }\n\"a\": 2\n").unwrap();
        let place = |id: &NodeId| (positions.place(*id).line, positions.place(*id).column);
        let places: Vec<_> = positions
            .duplicates()
            .iter()
            .map(|(again, first)| (place(again), place(first)))
            .collect();
        assert_eq!(places, [((2, 18), (2, 6)), ((3, 1), (1, 1))]);
    }

    #[test]
    fn what_would_explode_is_refused_before_it_does() {
        let mut laughs = "a0: &a0 [lol, lol]\n".to_owned();
        for level in 1..40 {
            let below = level - 1;
            writeln!(laughs, "a{level}: &a{level} [*a{below}, *a{below}]").unwrap();
        }
        for (text, expected) in [
            (laughs.as_str(), "more than"),
            (&"[".repeat(1 << 20), "recursion limit"),
            (&"- ".repeat(1 << 10), "nested"),
            ("a: &a [*a]\n", "itself a part"),
            ("a: !env KEY\n", "tag"),
            ("a: 1\n---\nb: 2\n", "second YAML document"),
        ] {
            let syntax = Positions::read(text).unwrap_err();
            assert!(syntax.what.contains(expected), "{syntax:?}");
        }
    }
}
