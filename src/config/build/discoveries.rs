//! Targets that are listed beside the configuration: the entries of `discover`.

use std::{path::PathBuf, time::Duration};

use super::{Context, names, protection, require, secrets};
use crate::{
    config::{
        listing::{self, Listed},
        plan::{HttpList, ListSource, Listing},
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
    let (source, entries) = match (item.files.given(), item.http.given()) {
        (Some(patterns), None) => files(&patterns.value, of, context),
        (None, Some(given)) => {
            let list = http(given, context)?;
            let entries = over_http(&list, given, of, context);
            (ListSource::Http(list), entries)
        }
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
    })
}

/// What the files say. A pattern with `*` may find none.
fn files(patterns: &[At<String>], of: &str, context: &Context<'_>) -> (ListSource, Vec<Listed>) {
    let mut entries = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let path = context.base_dir.join(&pattern.value);
        let problem = |what: String| {
            let mend = "put it there, or write a pattern such as `targets/*.json`, which may find nothing";
            context.report.problem(pattern.id, format!("{of}: {what}"), mend);
        };
        match listing::files(&path) {
            Err(error) => problem(format!("{} cannot be looked for: {error}", shown(&pattern.value))),
            Ok(files) => {
                for file in files {
                    match listing::text_of(&file) {
                        Err(error) => problem(format!("{} cannot be read: {error}", file.display())),
                        Ok(text) => entries.extend(read(&text, &file.display().to_string(), context)),
                    }
                }
            }
        }
        paths.push(path);
    }
    (ListSource::Files(paths), entries)
}

/// What was last got. Nothing was before the first time, which is not wrong.
fn over_http(list: &HttpList, given: &At<items::HttpList>, of: &str, context: &Context<'_>) -> Vec<Listed> {
    match context.lists.get(&list.url) {
        Some(text) => read(text, &format!("{of}, {}", given.thing), context),
        None => Vec::new(),
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
