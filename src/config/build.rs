//! From what the file says to what will run: what is missing, contradicts itself or refers to nothing is reported,
//! and secrets and prompts are fetched. A part that cannot be built is left out and the rest is still looked at.

mod calendars;
mod capacities;
mod discoveries;
mod expects;
mod expositions;
mod generations;
mod identities;
mod labels;
mod loads;
mod oauth2;
mod on_demand;
mod pairs;
mod probes;
mod prompts;
mod protection;
mod reach;
mod scripts;
mod secrets;
mod slos;
mod targets;
mod vocabularies;
mod web;

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map},
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) use self::web::web;
use super::{
    plan::{Allowed, Global, Listing, Lists, Probe, Target},
    positions::NodeId,
    problem::{Problem, shown},
    raw::{
        items::{self, File},
        reading::{At, Field},
    },
    report::Report,
};
use crate::{tokenizer::Tokenizer, units::Name};

/// All that a plan is made of. It is one only if nothing was reported.
pub(super) struct Parts {
    pub(super) global: Global,
    pub(super) targets: Vec<Arc<Target>>,
    pub(super) probes: Vec<Arc<Probe>>,
    pub(super) listings: Vec<Listing>,
    pub(super) on_demand: Vec<Arc<Allowed>>,
    /// What is wrong in other files.
    pub(super) elsewhere: Vec<Problem>,
}

/// What the parts of one file have in common while they are built.
struct Context<'a> {
    report: &'a Report<'a>,
    base_dir: &'a Path,
    lists: &'a Lists,
    /// What is wrong in other files.
    elsewhere: RefCell<Vec<Problem>>,
    global: Global,
    /// Whether `global.labels` could be read: if not, nothing is said of labels that it does not have.
    knows_labels: bool,
    /// Those read so far.
    tokenizers: RefCell<HashMap<PathBuf, Arc<Tokenizer>>>,
}

/// Builds everything that can be.
pub(super) fn parts(file: &File, base_dir: &Path, lists: &Lists, report: &Report<'_>) -> Parts {
    let context = Context {
        report,
        base_dir,
        lists,
        elsewhere: RefCell::default(),
        global: global(file, report),
        knows_labels: labels_are_known(&file.global),
        tokenizers: RefCell::default(),
    };

    let mend = "name at least one endpoint: `targets: [{ name: …, url: …, api: openai_chat, model: … }]`";
    let own_targets = if file.discover.is_absent() {
        at_least_one(&file.targets, "targets", mend, report)
    } else {
        file.targets.value().map_or(&[][..], Vec::as_slice)
    };
    let discovered = discoveries::discovered(file, &context);
    let listed = discovered.iter().flat_map(|list| &list.targets);
    let raw_targets: Vec<_> = own_targets.iter().chain(listed).cloned().collect();
    let names = names(&raw_targets, |target| &target.name, report);
    let mut known = Targets::default();
    for (raw, name) in raw_targets.iter().zip(names) {
        known.names.extend(raw.value.name.value().map(String::as_str));
        known
            .built
            .extend(targets::target(raw, name, &context).map(Arc::new));
    }
    known.lists = discovered.iter().map(discoveries::names_of).collect();
    known.may_be_more = discovered.iter().any(|list| !list.is_known);

    let mend = "say what to ask and how often: `probes: [{ name: single-user, every: 1m }]`";
    let raw_probes = at_least_one(&file.probes, "probes", mend, report);
    let names = self::names(raw_probes, |probe| &probe.name, report);
    let defaults = file
        .defaults
        .value()
        .map(|defaults| defaults.0.clone())
        .unwrap_or_default();
    let probes: Vec<_> = raw_probes
        .iter()
        .zip(&names)
        .flat_map(|(raw, name)| probes::probes(raw, name.clone(), &names, &defaults, &known, &context))
        .map(Arc::new)
        .collect();
    targets::warn_of_unused(own_targets, raw_probes, report);
    let on_demand = on_demand::allowed(file, &known.names, &probes, &context);

    Parts {
        targets: known.built,
        // One whose lists are empty has nobody to ask now.
        probes: probes
            .into_iter()
            .filter(|probe| !probe.targets.is_empty())
            .collect(),
        on_demand,
        listings: discovered.into_iter().map(|list| list.listing).collect(),
        elsewhere: context.elsewhere.take(),
        global: context.global,
    }
}

/// The targets of the file, in its order.
#[derive(Default)]
struct Targets<'a> {
    /// All of them, also those that could not be built.
    names: Vec<&'a str>,
    /// Lists, and the targets of each.
    lists: Vec<(&'a str, Vec<&'a str>)>,
    /// Whether there are lists of which nothing is known.
    may_be_more: bool,
    built: Vec<Arc<Target>>,
}

fn at_least_one<'a, T>(
    list: &'a Field<Vec<At<T>>>,
    key: &str,
    mend: &str,
    report: &Report<'_>,
) -> &'a [At<T>] {
    match list {
        Field::Absent if report.is_misspelt(report.root(), key) => {}
        Field::Absent => report.problem(NodeId::FILE, format!("the configuration has no `{key}`"), mend),
        Field::Given(given) if report.is_empty_list(given.id) => {
            report.problem(given.key, format!("`{key}` is empty"), mend);
        }
        Field::Given(_) | Field::Bad => {}
    }
    list.value().map_or(&[], Vec::as_slice)
}

/// The name of each item; `None` for those that are missing, wrong or given twice.
fn names<T>(items: &[At<T>], name: impl Fn(&T) -> &Field<String>, report: &Report<'_>) -> Vec<Option<Name>> {
    let mut first: HashMap<&str, NodeId> = HashMap::new();
    let mut checked = Vec::new();
    for item in items {
        let field = name(&item.value);
        require(field, item, "name", "add `name: …`", report);
        checked.push(field.given().and_then(|given| match Name::new(&given.value) {
            Err(what) => {
                report.problem(
                    given.id,
                    format!("{}: {what}", given.thing),
                    "write a short name in one line",
                );
                None
            }
            Ok(name) => match first.entry(&given.value) {
                hash_map::Entry::Vacant(entry) => {
                    entry.insert(given.id);
                    Some(name)
                }
                hash_map::Entry::Occupied(entry) => {
                    let line = report.line(*entry.get());
                    let what = format!("{} is a name already used in line {line}", shown(&given.value));
                    report.problem(given.id, what, "give each its own name");
                    None
                }
            },
        }));
    }
    checked
}

/// Reports a key that is missing.
fn require<T>(field: &Field<T>, item: &At<impl Sized>, key: &str, mend: &str, report: &Report<'_>) {
    if field.is_absent() && !report.is_misspelt(item.id, key) {
        report.problem(item.id, format!("{} has no `{key}`", item.thing), mend);
    }
}

fn global(file: &File, report: &Report<'_>) -> Global {
    let no_global = items::Global::default();
    let raw = file.global.value().unwrap_or(&no_global);
    let measure = file.measure.value();
    let version = env!("CARGO_PKG_VERSION");
    let user_agent = match raw.user_agent.given() {
        Some(given) => {
            let is_valid =
                !given.value.trim().is_empty() && http::HeaderValue::from_str(&given.value).is_ok();
            if !is_valid {
                let what = format!(
                    "{} is {}, which no HTTP header can hold",
                    given.thing,
                    shown(&given.value)
                );
                report.problem(given.id, what, "write a line of printable text");
            }
            given.value.clone()
        }
        None => format!("llm-probe-exporter/{version}"),
    };
    Global {
        labels: labels::declared(&raw.labels, report),
        max_in_flight: raw.max_in_flight.value().map_or(1024, |most| most.get()),
        user_agent,
        identity: identities::headers(&raw.identity, report),
        exposition: expositions::exposition(&file.metrics, report),
        realtime: measure
            .and_then(|measure| measure.realtime.value().copied())
            .unwrap_or_default(),
    }
}

fn labels_are_known(raw: &Field<items::Global>) -> bool {
    match raw {
        Field::Absent => true,
        Field::Bad => false,
        Field::Given(given) => !matches!(given.value.labels, Field::Bad),
    }
}
