//! The configuration: YAML in, a validated [`Plan`] or a report of everything that is wrong with it out.
//!
//! text → `positions` (where things stand, syntax, limits) → `raw` (what the file says) → `build` (what it
//! means; secrets and prompts are fetched) → [`plan`]. Everything found on the way is collected in a report and
//! told in the order of the file, each [`Problem`] with its place, the masked line (see `excerpt`) and the mend.
//!
//! A probe takes what it leaves out from `defaults`: key by key, also within `timeouts`, `expect`, `slo` and `prompt`. Of keys
//! that exclude one another (`concurrency` and `ladder`, `requests` and `duration`, the sources of a prompt) its own
//! replaces the one of the defaults. A step of a ladder takes its `slo` from the probe in the same way. Timeouts that
//! are not given are at most as long as those given that contain them. Paths are relative to the configuration's
//! directory. Outermost keys that begin with `x-` are ignored: they are for YAML anchors.
//!
//! [`web`] reads the other file, which says who may speak to the web server, in the same way.
//!
//! Secrets come from the environment or from files. Neither a [`Plan`] nor a report ever shows one, also not when it
//! was written where it does not belong.

mod build;
mod dialect;
mod excerpt;
pub mod listing;
pub mod plan;
mod positions;
pub mod problem;
mod raw;
mod report;
pub mod secret;
#[cfg(test)]
mod tests;
pub mod web;

use std::{
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use self::{
    excerpt::Excerpt,
    plan::{Lists, Plan},
    positions::{NodeId, Positions, Shape, Syntax},
    problem::{Place, Problem, Severity, shown},
    raw::{
        Node,
        items::{self, File},
        reading::Read as _,
    },
    report::{MAX_PROBLEMS, Report},
};

/// Larger files are no configuration.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why there is no plan. Its text is the whole report.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}; name another with {option}", path.display())]
    Read {
        path: PathBuf,
        error: io::Error,
        /// Names the file.
        option: &'static str,
    },
    /// Everything that is wrong with it.
    #[error("{}", Listed(problems))]
    Invalid { problems: Vec<Problem> },
}

impl ConfigError {
    /// Everything that is wrong with the file, in its order; nothing if it could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } => &[],
            Self::Invalid { problems } => problems,
        }
    }
}

/// All problems, one after the other, and how many there are.
struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{problem}")?;
        }
        match (self.0.len(), self.0.first()) {
            (MAX_PROBLEMS.., Some(first)) => {
                write!(out, "\n{}: more than {MAX_PROBLEMS} problems", first.file)
            }
            (count @ 2.., Some(first)) => write!(out, "\n{}: {count} problems", first.file),
            _ => Ok(()),
        }
    }
}

/// Reads the configuration at `path`, and what the lists say that it names, as far as `lists` does not know that.
pub fn load(path: &Path, lists: &Lists) -> Result<Plan, ConfigError> {
    let text = text_of(path, "--config.file")?;
    parse_with(&text, &path.display().to_string(), directory_of(path), lists)
}

/// What paths in the file are relative to.
fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The text of the file that `option` names.
fn text_of(path: &Path, option: &'static str) -> Result<String, ConfigError> {
    let shown = path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::Read {
            path: path.to_owned(),
            error,
            option,
        })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(whole_file(&shown, TOO_LARGE));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid_up_to = error.utf8_error().valid_up_to();
        let valid = error.as_bytes().get(..valid_up_to).unwrap_or_default();
        let text = String::from_utf8_lossy(valid);
        let last = text.rsplit('\n').next().unwrap_or_default();
        let place = Place::new(1 + text.matches('\n').count(), 1 + last.chars().count());
        let syntax = Syntax {
            place,
            what: "this is not valid UTF-8".to_owned(),
            mend: "save the file as UTF-8".to_owned(),
        };
        no_yaml(&shown, None, syntax)
    })
}

const TOO_LARGE: (&str, &str) = ("the file is larger than 1 MiB", "split it over several exporters");

/// Reads the text of a configuration. `path_shown` is what problems call the file; paths in it are relative to
/// `base_dir`.
pub fn parse(text: &str, path_shown: &str, base_dir: &Path) -> Result<Plan, ConfigError> {
    parse_with(text, path_shown, base_dir, &Lists::default())
}

/// Whether a text is a list of targets. `named` is what problems call it.
pub fn check_list(text: &str, named: &str) -> Result<(), ConfigError> {
    listing::listed(text, named).map(drop)
}

fn parse_with(text: &str, path_shown: &str, base_dir: &Path, lists: &Lists) -> Result<Plan, ConfigError> {
    let (parts, problems) = read_yaml(text, path_shown, Lines::Shown, |tree, report| {
        if tree.is_none() {
            let mend = "name at least a target and a probe; config/example.yaml shows every option";
            report.problem(NodeId::FILE, "the configuration is empty", mend);
        }
        let file = tree
            .as_ref()
            .and_then(|node| File::read(node, items::FILE, report));
        let parts = file.map(|file| build::parts(&file, base_dir, lists, report));
        let redacted = tree.map(|node| raw::redacted::yaml(&node, report));
        parts.zip(redacted)
    })?;
    let (mut errors, warnings): (Vec<_>, Vec<_>) = problems
        .into_iter()
        .partition(|problem| problem.severity == Severity::Error);
    errors.extend(parts.iter().flat_map(|(parts, _)| parts.elsewhere.clone()));
    match parts {
        Some((parts, redacted)) if errors.is_empty() => Ok(Plan::new(
            parts.global,
            parts.targets,
            parts.probes,
            parts.listings,
            parts.on_demand,
            warnings,
            redacted,
        )),
        _ => Err(ConfigError::Invalid { problems: errors }),
    }
}

/// Whether a problem of a text that is no YAML shows its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Shown,
    /// Where nothing tells secrets from the rest.
    Hidden,
}

/// Reads a text in YAML: what `read` makes of it, and everything that is wrong or doubtful, in the order of the text.
fn read_yaml<T>(
    text: &str,
    path_shown: &str,
    lines: Lines,
    read: impl FnOnce(Option<Node>, &Report<'_>) -> T,
) -> Result<(T, Vec<Problem>), ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A lone carriage return ends a line in YAML, but not for `str::lines`.
    let text = &text.replace("\r\n", "\n").replace('\r', "\n");
    if text.len() as u64 > MAX_BYTES {
        return Err(whole_file(path_shown, TOO_LARGE));
    }
    let shown_lines = (lines == Lines::Shown).then_some(text.as_str());
    let no_yaml = |syntax| no_yaml(path_shown, shown_lines, syntax);
    if let Some(syntax) = control_character(text) {
        return Err(no_yaml(syntax));
    }
    let positions = Positions::read(text).map_err(no_yaml)?;
    let report = Report::new(&positions);
    for (again, first) in positions.duplicates() {
        let name = match positions.get(positions.resolve(*again)).map(|spot| &spot.shape) {
            Some(Shape::Scalar(name)) if !name.contains(char::is_whitespace) => shown(name),
            _ => "this key".to_owned(),
        };
        let what = format!("{name} is given twice, first in line {}", report.line(*first));
        report.problem(*again, what, "remove one");
    }
    let tree = raw::tree(text, &positions, &report).map_err(no_yaml)?;
    let read = read(tree, &report);
    Ok((read, report.into_problems(path_shown, text)))
}

/// What `read` makes of a text, unless something is wrong with it, and the warnings. The tree is `None` where there is
/// nothing but comments.
fn understood<T>(
    text: &str,
    path_shown: &str,
    lines: Lines,
    read: impl FnOnce(Option<&Node>, &Report<'_>) -> Option<T>,
) -> Result<(T, Vec<Problem>), ConfigError> {
    let (made, problems) = read_yaml(text, path_shown, lines, |tree, report| {
        read(tree.as_ref(), report)
    })?;
    let (errors, warnings): (Vec<_>, Vec<_>) = problems
        .into_iter()
        .partition(|problem| problem.severity == Severity::Error);
    match made {
        Some(made) if errors.is_empty() => Ok((made, warnings)),
        _ => Err(ConfigError::Invalid { problems: errors }),
    }
}

/// The two readers of YAML disagree on what to do with these: whether they end the text, or a line.
fn control_character(text: &str) -> Option<Syntax> {
    let is_bad =
        |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{2028}' | '\u{2029}');
    let (line, column, found) = (1..).zip(text.lines()).find_map(|(line, content)| {
        let (column, found) = (1..).zip(content.chars()).find(|(_, c)| is_bad(*c))?;
        Some((line, column, found))
    })?;
    Some(Syntax {
        place: Place::new(line, column),
        what: format!("a control character (U+{:04X}) stands here", u32::from(found)),
        mend: "remove it, or write it as an escape in double quotes".to_owned(),
    })
}

fn whole_file(file: &str, (what, mend): (&str, &str)) -> ConfigError {
    let problem = Problem {
        severity: Severity::Error,
        file: file.to_owned(),
        place: None,
        what: what.to_owned(),
        mend: mend.to_owned(),
        excerpt: None,
    };
    ConfigError::Invalid {
        problems: vec![problem],
    }
}

/// `text`: where its lines may be shown.
fn no_yaml(file: &str, text: Option<&str>, syntax: Syntax) -> ConfigError {
    let problem = Problem {
        severity: Severity::Error,
        file: file.to_owned(),
        place: Some(syntax.place),
        excerpt: text.and_then(|text| Excerpt::of_syntax(text, syntax.place)),
        what: syntax.what,
        mend: syntax.mend,
    };
    ConfigError::Invalid {
        problems: vec![problem],
    }
}
