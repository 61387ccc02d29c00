//! What will run: validated and cross-referenced. Only [`crate::config`] builds a [`Plan`]; whoever holds
//! one of its parts may rely on what is written beside the fields.

mod addresses;
mod capacity;
mod exposition;
mod generation;
mod lasting;
mod listing;
mod oauth2;
mod on_demand;
mod probe;
mod reach;
mod realtime;
mod renewal;
mod sharding;
mod slo;
mod target;

use std::{collections::BTreeSet, sync::Arc};

pub use self::{
    addresses::Addresses,
    capacity::{Bounds, Key, Unfit, Wished},
    exposition::{Exposition, FAMILIES, HISTOGRAMS},
    generation::{Generation, Reasoning, Thinking},
    listing::{HttpList, ListSource, Listing, Lists, Said},
    oauth2::OAuth2,
    on_demand::{Allowed, AskedUrl},
    probe::{Probe, Step, Timeouts},
    reach::{Identity, Login, Pem, Proxy, Reach, Tls, TlsVersion},
    realtime::Realtime,
    renewal::Reread,
    slo::{Alert, Slo, TtftFrom, Withheld},
    target::{Authorization, Busy, Connection, Header, HttpVersion, Price, Target, TextMode},
};
pub use super::dialect::Dialect;
use super::problem::Problem;
use crate::{identity, load::Load, units::Name};

/// What a probe with `cache: pair` makes of its name: NAME-cold and NAME-warm.
pub(super) const PAIR: [&str; 2] = ["cold", "warm"];

/// A validated configuration.
#[derive(Debug)]
pub struct Plan {
    global: Global,
    targets: Vec<Arc<Target>>,
    probes: Vec<Arc<Probe>>,
    listings: Vec<Listing>,
    on_demand: Vec<Arc<Allowed>>,
    warnings: Vec<Problem>,
    redacted: String,
}

impl Plan {
    pub(super) fn new(
        global: Global,
        targets: Vec<Arc<Target>>,
        probes: Vec<Arc<Probe>>,
        listings: Vec<Listing>,
        on_demand: Vec<Arc<Allowed>>,
        warnings: Vec<Problem>,
        redacted: String,
    ) -> Self {
        Self {
            global,
            targets,
            probes,
            listings,
            on_demand,
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

    /// Where bursts may be asked for beside the targets, in the order of the file; names are unique, and no target's.
    pub fn on_demand(&self) -> &[Arc<Allowed>] {
        &self.on_demand
    }

    /// Targets and entries of the allow list: what is guarded, and may have a budget.
    pub fn guarded(&self) -> impl Iterator<Item = &Arc<Target>> {
        let allowed = self.on_demand.iter().map(|allowed| &allowed.target);
        self.targets.iter().chain(allowed)
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
            || self.guarded().any(|target| target.budget.is_some())
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
    "entry",
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
