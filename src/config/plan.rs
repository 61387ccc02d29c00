//! What will run: validated and cross-referenced. Only [`crate::config`] builds a [`Plan`]; whoever holds
//! one of its parts may rely on what is written beside the fields.

mod capacity;
mod exposition;
mod generation;
mod lasting;
mod listing;
mod oauth2;
mod reach;
mod realtime;
mod renewal;
mod sharding;
mod slo;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::HeaderName;
use serde_json::{Map, Value};
use url::Url;

pub use self::{
    capacity::{Bounds, Key, Unfit, Wished},
    exposition::{Exposition, FAMILIES, HISTOGRAMS},
    generation::{Generation, Reasoning, Thinking},
    listing::{HttpList, ListSource, Listing, Lists},
    oauth2::OAuth2,
    reach::{Identity, Login, Pem, Proxy, Reach, Tls, TlsVersion},
    realtime::Realtime,
    renewal::Reread,
    slo::{Alert, Slo, TtftFrom, Withheld},
};
pub use super::dialect::Dialect;
use super::{problem::Problem, secret::Secret};
use crate::{
    backoff::Protect,
    budget::{Amounts, Budget},
    busy::Condition,
    calendar::Calendar,
    cron::Cron,
    expect::Expect,
    identity,
    load::{Arrival, Load, Volume},
    prompt::Prompt,
    timetable::Timetable,
    tokenizer::Tokenizer,
    units::{Name, Ratio, Tokens},
};

/// What a probe with `cache: pair` makes of its name: NAME-cold and NAME-warm.
pub(super) const PAIR: [&str; 2] = ["cold", "warm"];

/// A validated configuration.
#[derive(Debug)]
pub struct Plan {
    global: Global,
    targets: Vec<Arc<Target>>,
    probes: Vec<Arc<Probe>>,
    listings: Vec<Listing>,
    warnings: Vec<Problem>,
    redacted: String,
}

impl Plan {
    pub(super) fn new(
        global: Global,
        targets: Vec<Arc<Target>>,
        probes: Vec<Arc<Probe>>,
        listings: Vec<Listing>,
        warnings: Vec<Problem>,
        redacted: String,
    ) -> Self {
        Self {
            global,
            targets,
            probes,
            listings,
            warnings,
            redacted,
        }
    }

    /// What its file says, as YAML, without what may be a secret: shown is only what an error message would show.
    pub fn redacted(&self) -> &str {
        &self.redacted
    }

    /// What is allowed but probably not meant, in the order of the file; all of [`Severity::Warning`].
    ///
    /// [`Severity::Warning`]: super::problem::Severity::Warning
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    pub fn global(&self) -> &Global {
        &self.global
    }

    /// Where targets are listed beside the configuration, in the order of the file; names are unique.
    pub fn listings(&self) -> &[Listing] {
        &self.listings
    }

    /// In the order of the file, then those of lists; names are unique.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// In the order of the file; names are unique. None only where a shard has nothing to run, or lists
    /// name no targets.
    pub fn probes(&self) -> &[Arc<Probe>] {
        &self.probes
    }

    /// The plan with only the probes of these names; without names, the whole plan. A probe with `cache: pair` stands for
    /// both that it makes. The error says which name is unknown and which there are.
    pub fn only(mut self, names: &[String]) -> Result<Self, String> {
        if names.is_empty() {
            return Ok(self);
        }
        let known: Vec<_> = self.probes.iter().map(|probe| probe.name.to_string()).collect();
        let mut meant = BTreeSet::new();
        for name in names {
            let pair = PAIR.map(|which| format!("{name}-{which}"));
            if known.contains(name) {
                meant.insert(name.clone());
            } else if pair.iter().all(|half| known.contains(half)) {
                meant.extend(pair);
            } else {
                let probes: Vec<_> = known.iter().map(|probe| format!("`{probe}`")).collect();
                return Err(format!(
                    "no probe is named `{name}`; there are {}",
                    probes.join(", ")
                ));
            }
        }
        self.probes.retain(|probe| meant.contains(probe.name.as_str()));
        Ok(self)
    }

    /// What does not fit where so many replicas share each budget: one burst would never be let begin.
    pub fn misfit(&self, replicas: u32) -> Option<String> {
        let of_probe = |probe: &Arc<Probe>| {
            let input = probe.prompt.most_tokens(probe.max_tokens);
            probe.targets.iter().find_map(|target| {
                let most = probe.most(probe.requests_of_a_round(), input, target);
                let budgets = [probe.budget, target.budget].into_iter().flatten();
                let unit = budgets
                    .map(|budget| budget.share(replicas))
                    .find_map(|share| share.exceeded_by(&most))?;
                Some(format!(
                    "one burst of probe `{}` at target `{}` may use more {} than each of {replicas} replicas may of the budget; \
                     raise the budget, or make the burst smaller",
                    probe.name,
                    target.name,
                    unit.as_str()
                ))
            })
        };
        self.probes.iter().find_map(of_probe)
    }

    /// Whether anything is counted that a restart must not reset.
    pub fn has_budgets(&self) -> bool {
        self.probes.iter().any(|probe| probe.budget.is_some())
            || self.targets.iter().any(|target| target.budget.is_some())
    }

    /// Every series that the plan makes, probe by probe, target by target, step by step.
    pub fn series(&self) -> impl Iterator<Item = Series> + '_ {
        self.probes.iter().flat_map(|probe| {
            probe.targets.iter().flat_map(move |target| {
                probe.steps.iter().map(move |step| Series {
                    probe: Arc::clone(probe),
                    target: Arc::clone(target),
                    step: Arc::clone(step),
                })
            })
        })
    }
}

/// Names that no extra label may have: those of Prometheus and those of our own families.
pub const RESERVED_LABELS: &[&str] = &[
    "alert",
    "api",
    "cause",
    "code",
    "concurrency",
    "connection",
    "expected",
    "found",
    "host",
    "http",
    "index",
    "instance",
    "job",
    "le",
    "list",
    "model",
    "of",
    "phase",
    "probe",
    "quantile",
    "rate",
    "reason",
    "revision",
    "slo",
    "source",
    "stat",
    "state",
    "target",
    "total",
    "unit",
    "url",
    "version",
    "why",
];

/// What holds for all probes.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// Names of the extra labels, in the order of the file: valid, unique, none of them reserved.
    pub labels: Vec<String>,
    /// Most requests under way at once, over all probes; at least the widest burst.
    pub max_in_flight: u32,
    pub user_agent: String,
    pub identity: identity::Headers,
    pub exposition: Exposition,
    pub realtime: Realtime,
}

/// Whether requests share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Connection {
    /// Every request opens its own.
    New,
    /// Idle connections are used again.
    Reuse,
}

impl Connection {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reuse => "reuse",
        }
    }
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    Http1,
    /// On plain `http://` with prior knowledge.
    Http2,
    /// What ALPN says; HTTP/1.1 on plain `http://`.
    Auto,
}

impl HttpVersion {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "1.1",
            Self::Http2 => "2",
            Self::Auto => "auto",
        }
    }
}

/// An endpoint and how to reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub name: Name,
    /// http or https, with a host, without query, fragment or credentials.
    pub url: Url,
    pub api: Dialect,
    pub model: String,
    pub authorization: Option<Authorization>,
    /// Where the credentials come from in place of `authorization`.
    pub oauth2: Option<OAuth2>,
    /// Valid names, each once, none of those that the client sets itself.
    pub headers: Vec<Header>,
    pub connection: Connection,
    pub http: HttpVersion,
    pub reach: Reach,
    /// The field of the request body that holds the most tokens to generate (`openai_chat`).
    pub max_tokens_field: &'static str,
    /// How the model is told whether to think, where it can be; it fits the API.
    pub reasoning: Option<Reasoning>,
    /// Merged into every request body as it is.
    pub body: Map<String, Value>,
    /// Whether the frames of `triton_generate` carry what is new or all so far.
    pub text_mode: TextMode,
    /// The response header that says which replica answered; without it, the address does.
    pub replica_header: Option<HeaderName>,
    /// Counts the tokens of answers whose server does not.
    pub tokenizer: Option<Arc<Tokenizer>>,
    pub price: Option<Price>,
    /// What all probes together may use here.
    pub budget: Option<Budget>,
    /// Where the server says that it is busy.
    pub busy: Option<Busy>,
    /// Values of the extra labels.
    pub labels: BTreeMap<String, String>,
    /// Whether bursts of several probes may run at this target at once.
    pub share: bool,
}

/// Where a server says that it is busy: a text exposition, and what it must not say. At least one condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Busy {
    /// http or https, with a host, without credentials.
    pub url: Url,
    /// Any of these withholds a burst.
    pub skip_when: Vec<Condition>,
    /// Any of these ends a running burst.
    pub abort_when: Vec<Condition>,
    pub timeout: Duration,
}

impl Busy {
    /// Whether credentials for the target may be sent there, too.
    pub fn is_same_origin(&self, target: &Url) -> bool {
        self.url.origin() == target.origin()
    }
}

/// What a frame of `triton_generate` carries; it depends on the back end and its parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextMode {
    /// What the second frame with text shows.
    #[default]
    Auto,
    /// The text that is new.
    Delta,
    /// All the text so far.
    Cumulative,
}

impl TextMode {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Delta => "delta",
            Self::Cumulative => "cumulative",
        }
    }
}

/// The credentials of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorization {
    /// `Bearer` and the like, for the header `Authorization`. `None`: the header and form of the API.
    pub scheme: Option<String>,
    pub credentials: Secret,
}

/// A request header whose value may be a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub name: String,
    pub value: Secret,
}

/// Dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    pub input_per_million: f64,
    pub output_per_million: f64,
}

impl Price {
    /// Dollars for so many tokens.
    pub fn of(self, input_tokens: f64, output_tokens: f64) -> f64 {
        (input_tokens * self.input_per_million + output_tokens * self.output_per_million) / 1e6
    }
}

/// What to ask which targets, how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub name: Name,
    /// At least one, each once.
    pub targets: Vec<Arc<Target>>,
    /// At least 100 ms. With a cron expression: the shortest distance of its occurrences.
    pub every: Duration,
    /// Bursts are due when it says so, and not every `every`.
    pub cron: Option<Cron>,
    /// When bursts may be fired.
    pub calendar: Calendar,
    /// How much of `every` a burst may be shifted, at random: at most a half.
    pub jitter: Ratio,
    /// At least one, by rising load of one kind; one step unless there is a ladder.
    pub steps: Vec<Arc<Step>>,
    /// Its bursts search for the highest load that meets the objective. Then the only step is the whole search: the
    /// highest load that it tries, all the requests that it may send, and an `slo` that alerts nobody.
    pub capacity: Option<Bounds>,
    /// Steps are not run once one lost more than this share of its goodput; `None`: all are run.
    pub ladder_stop: Option<Ratio>,
    /// The pause between the steps of a ladder.
    pub settle: Duration,
    /// Requests before the measured ones of each step.
    pub warmup: u32,
    pub prompt: Prompt,
    /// Most tokens to generate per request, at least 1.
    pub max_tokens: Tokens,
    pub generation: Generation,
    pub timeouts: Timeouts,
    /// What the answer must be like beside being one.
    pub expect: Option<Expect>,
    /// What it may use at all of its targets together. Then every step has a number of requests.
    pub budget: Option<Budget>,
    /// When a burst is cut short; `None`: never.
    pub protect: Option<Protect>,
    /// Values of the extra labels; they win over the target's.
    pub labels: BTreeMap<String, String>,
}

impl Probe {
    /// Whether it asks each of its targets in the same way, whichever targets it has.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        // Every field is named, so that none is forgotten.
        let Self {
            name,
            targets: _,
            every,
            cron,
            calendar,
            jitter,
            steps,
            ladder_stop,
            settle,
            warmup,
            prompt,
            max_tokens,
            generation,
            timeouts,
            expect,
            budget,
            protect,
            capacity,
            labels,
        } = self;
        *name == other.name
            && *every == other.every
            && *cron == other.cron
            && *calendar == other.calendar
            && *jitter == other.jitter
            && *steps == other.steps
            && *ladder_stop == other.ladder_stop
            && *settle == other.settle
            && *warmup == other.warmup
            && *prompt == other.prompt
            && *max_tokens == other.max_tokens
            && *generation == other.generation
            && *timeouts == other.timeouts
            && *expect == other.expect
            && *budget == other.budget
            && *protect == other.protect
            && *capacity == other.capacity
            && *labels == other.labels
    }

    /// Requests of one round, warm-up included; where a step lasts for a time, one per user, or what its rate makes. The
    /// most, of a search.
    pub fn requests_of_a_round(&self) -> u64 {
        self.steps.iter().map(|step| self.requests_of(step)).sum()
    }

    /// The same of one of its steps.
    pub fn requests_of(&self, step: &Step) -> u64 {
        match &self.capacity {
            Some(bounds) => bounds.requests.into(),
            None => u64::from(self.warmup) + step.planned_requests(),
        }
    }

    /// The most that so many requests use at `target` when each has a prompt of `input_tokens`.
    pub fn most(&self, requests: u64, input_tokens: u64, target: &Target) -> Amounts {
        let requests = requests as f64;
        let (input, output) = (
            requests * input_tokens as f64,
            requests * self.max_tokens.0 as f64,
        );
        Amounts {
            requests,
            input_tokens: input,
            output_tokens: output,
            dollars: target.price.map_or(0.0, |price| price.of(input, output)),
        }
    }

    /// When its bursts are due at each target, as one of so many replicas.
    pub fn timetable(&self, replicas: u32) -> Timetable {
        Timetable {
            every: self.every,
            cron: self.cron.clone(),
            calendar: self.calendar.clone(),
            replicas,
        }
    }

    /// How many bursts are fired a second, on average over the weeks from `unix` on: one, or four where they are rare.
    pub fn bursts_per_second(&self, unix: f64) -> f64 {
        const WEEK: f64 = 7.0 * 24.0 * 3600.0;
        let is_rare = self.every >= Duration::from_hours(1);
        let span = if is_rare { 4.0 * WEEK } else { WEEK };
        let until = unix + span;
        self.timetable(1).due(unix, until) / span
    }
}

/// One load of a probe.
#[derive(Debug, PartialEq)]
pub struct Step {
    pub load: Load,
    /// That of a rate where `load` is one, and only there.
    pub arrival: Arrival,
    pub volume: Volume,
    pub slo: Slo,
}

impl Step {
    /// As [`Volume::planned`].
    pub fn planned_requests(&self) -> u64 {
        self.volume.planned(self.load)
    }
}

/// The deadlines of a request, none of them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start to the connection (DNS, TCP, TLS).
    pub connect: Duration,
    /// From the start to the first output.
    pub first_token: Duration,
    /// From output to output.
    pub stall: Duration,
    /// From the start to the end.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_mins(2),
            stall: Duration::from_secs(30),
            total: Duration::from_mins(10),
        }
    }
}

/// One probe at one target and one load: what the metrics tell apart.
#[derive(Clone, Debug)]
pub struct Series {
    pub probe: Arc<Probe>,
    pub target: Arc<Target>,
    pub step: Arc<Step>,
}

impl Series {
    /// The value of an extra label: the probe's, else the target's, else empty.
    pub fn label(&self, name: &str) -> &str {
        self.probe
            .labels
            .get(name)
            .or_else(|| self.target.labels.get(name))
            .map_or("", String::as_str)
    }

    /// As [`Step::planned_requests`].
    pub fn planned_requests(&self) -> u64 {
        self.step.planned_requests()
    }

    /// What identifies the series.
    pub fn key(&self) -> SeriesKey {
        SeriesKey {
            probe: self.probe.name.clone(),
            target: self.target.name.clone(),
            load: self.step.load,
        }
    }
}

/// The identity of a [`Series`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    pub probe: Name,
    pub target: Name,
    pub load: Load,
}
