//! Targets that are listed beside the configuration: the entries of `discover`.

use std::time::Duration;

use super::{Context, names, protection, require, secrets};
use crate::{
    config::{
        listing::{self, Listed},
        plan::{HttpList, ListSource, Listing, Said},
        problem::shown,
        raw::{
            items::{self, File, Target},
            reading::At,
        },
    },
    units::Name,
};

const EVERY: Duration = Duration::from_mins(1);
const LEAST_EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Most targets of all lists. Who has more divides them among several exporters, each with lists of its own.
const MAX_LISTED: usize = 1000;

/// A list and the targets that it makes.
pub(super) struct Discovered {
    pub(super) listing: Listing,
    pub(super) targets: Vec<At<Target>>,
    /// Whether anything is known of it: if not, it may have any target.
    pub(super) is_known: bool,
}

/// Reads every list that can be read.
pub(super) fn discovered(file: &File, context: &Context<'_>) -> Vec<Discovered> {
    let raw = file.discover.value().map_or(&[][..], Vec::as_slice);
    let names = names(raw, |list| &list.name, context.report);
    let mut room = MAX_LISTED;
    raw.iter()
        .zip(names)
        .filter_map(|(raw, name)| discover(raw, name, &mut room, context))
        .collect()
}

/// The name of the list and those of its targets.
pub(super) fn names_of(list: &Discovered) -> (&str, Vec<&str>) {
    let names = list.targets.iter().filter_map(|target| target.value.name.value());
    (list.listing.name.as_str(), names.map(String::as_str).collect())
}

fn discover(
    raw: &At<items::Discovery>,
    name: Option<Name>,
    room: &mut usize,
    context: &Context<'_>,
) -> Option<Discovered> {
    let (report, of, item) = (context.report, raw.thing.as_str(), &raw.value);
    require(
        &item.target,
        raw,
        "target",
        "say what its targets are: `target: { url: 'http://${address}/v1', api: …, model: … }`",
        report,
    );
    let source = match (item.files.given(), item.http.given()) {
        (Some(patterns), None) => {
            let paths = patterns.value.iter().map(|of| context.base_dir.join(&of.value));
            ListSource::Files(paths.collect())
        }
        (None, Some(given)) => ListSource::Http(http(given, context)?),
        (Some(_), Some(http)) => {
            let what = format!("{of} has both `files` and `http`");
            report.problem(http.key, what, "make two lists of it");
            return None;
        }
        (None, None) => {
            if item.files.is_absent() && item.http.is_absent() {
                let what = format!("{of} says nowhere where it is");
                let mend = "write `files: [PATH]` or `http: { url: … }`";
                report.problem(raw.id, what, mend);
            }
            return None;
        }
    };
    let known = name.as_ref().and_then(|name| context.lists.get(name, &source));
    let entries = match (known, item.files.given()) {
        (Some(said), _) => Some(as_said(said, item, of, context)),
        (None, Some(patterns)) if !context.lists.reads_no_files() => {
            Some(files(&patterns.value, of, context))
        }
        (None, _) => None,
    };
    let is_known = entries.is_some();
    let entries = entries.unwrap_or_default();
    let template = item.target.value()?;
    if entries.len() > *room {
        let what = format!("{of} and those before name more than {MAX_LISTED} targets");
        let mend = "divide them among several exporters, each with lists of its own";
        report.problem(raw.id, what, mend);
        return None;
    }
    *room -= entries.len();
    let targets: Vec<_> = entries
        .iter()
        .filter_map(|Listed { address, labels }| template.fill(address, labels, of, report))
        .collect();
    Some(Discovered {
        listing: Listing {
            name: name?,
            source,
            targets: targets.len(),
        },
        targets,
        is_known,
    })
}

/// What the files say. A pattern with `*` may find none.
fn files(patterns: &[At<String>], of: &str, context: &Context<'_>) -> Vec<Listed> {
    let mut entries = Vec::new();
    for pattern in patterns {
        let path = context.base_dir.join(&pattern.value);
        match listing::texts(&path, &shown(&pattern.value)) {
            Ok(texts) => {
                for (file, text) in texts {
                    entries.extend(read(&text, &file.display().to_string(), context));
                }
            }
            Err(what) => {
                let mend =
                    "put it there, or write a pattern such as `targets/*.json`, which may find nothing";
                context.report.problem(pattern.id, format!("{of}: {what}"), mend);
            }
        }
    }
    entries
}

/// What is known already.
fn as_said(said: &Said, item: &items::Discovery, of: &str, context: &Context<'_>) -> Vec<Listed> {
    match said {
        Said::Files(texts) => {
            let texts = texts.iter();
            texts
                .flat_map(|(file, text)| read(text, &file.display().to_string(), context))
                .collect()
        }
        Said::Answer(text) => {
            let thing = item.http.given().map_or("http", |given| given.thing.as_str());
            read(text, &format!("{of}, {thing}"), context)
        }
    }
}

fn read(text: &str, named: &str, context: &Context<'_>) -> Vec<Listed> {
    match listing::listed(text, named) {
        Ok(entries) => entries,
        Err(error) => {
            let problems = error.problems().iter().cloned();
            context.elsewhere.borrow_mut().extend(problems);
            Vec::new()
        }
    }
}

fn http(given: &At<items::HttpList>, context: &Context<'_>) -> Option<HttpList> {
    let item = &given.value;
    let add = "add the address of the list, such as `url: http://inventory/targets`";
    require(&item.url, given, "url", add, context.report);
    let every = item.every.given().map_or(EVERY, |every| {
        if every.value.0 < LEAST_EVERY {
            let what = format!("{} is {}", every.thing, humantime::format_duration(every.value.0));
            context.report.problem(every.id, what, "write `1s` or more");
        }
        every.value.0
    });
    let authorization = match item.authorization.given() {
        Some(given) => Some(secrets::authorization(given, context)?),
        None => None,
    };
    Some(HttpList {
        url: protection::url(item.url.given()?, "http://localhost:8080/targets", context.report)?,
        every,
        timeout: item.timeout.value().map_or(TIMEOUT, |timeout| timeout.0),
        authorization,
    })
}
