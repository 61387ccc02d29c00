//! Searches for the capacity: how far they may go.

use std::sync::Arc;

use super::{Alert, Plan, Probe, Slo, Step};
use crate::{
    load::{Load, Rate, Volume},
    units::Ratio,
};

/// How far a search for the highest load that meets the objective may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// What it begins with.
    pub lowest: Load,
    /// The highest load that it tries: of the same kind, and higher.
    pub most: Load,
    /// What a burst sends: at least so many requests, and of more users each one; or what its rate makes in a time.
    pub volume: Volume,
    /// Requests before those of each burst.
    pub warmup: u32,
    /// Most requests in all, those before each burst included; enough for a verdict on the lowest load.
    pub requests: u32,
    /// Most bursts of a load, at least 1.
    pub repeats: u32,
    /// How close the highest load that meets and the lowest that does not come: this share of the former, and at least
    /// one user. Above 0, at most a half.
    pub resolution: Ratio,
}

/// What somebody wants of a search; what is left out is as by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wished {
    /// Users, or requests a second.
    pub max: Option<f64>,
    pub requests: Option<u32>,
    pub repeats: Option<u32>,
    pub resolution: Option<Ratio>,
}

/// The keys of `capacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Max,
    Requests,
    Repeats,
    Resolution,
}

impl Key {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Requests => "requests",
            Self::Repeats => "repeats",
            Self::Resolution => "resolution",
        }
    }
}

/// A wish that cannot be met.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfit {
    pub key: Key,
    pub what: String,
    pub mend: String,
}

impl Bounds {
    /// The most users, or so many times the lowest rate.
    const MOST: u32 = 64;
    const REQUESTS: u32 = 500;
    const REPEATS: u32 = 3;
    /// More are a mistake: requests in all, and bursts of one load.
    const MOST_REQUESTS: u32 = 1_000_000;
    const MOST_REPEATS: u32 = 100;

    /// A search that begins with `lowest`, where at most `max_in_flight` requests may be under way. Bursts of this
    /// `volume`, each after `warmup` other requests.
    pub fn new(
        lowest: Load,
        volume: Volume,
        warmup: u32,
        max_in_flight: u32,
        wished: Wished,
    ) -> Result<Self, Unfit> {
        let unfit = |key, what: String, mend: String| Unfit { key, what, mend };
        let most = match wished.max {
            Some(max) => lowest.like(max).ok_or_else(|| {
                let mend = match lowest {
                    Load::Users(_) => "write a whole number of users, such as `64`",
                    Load::Rate(_) => "write requests a second, at most `10000`",
                };
                unfit(Key::Max, format!("is {max}"), mend.into())
            })?,
            None => Self::usual_most(lowest, max_in_flight),
        };
        if most <= lowest {
            return Err(unfit(
                Key::Max,
                format!("is {most}, no more than the {lowest} that the search begins with"),
                "write more".into(),
            ));
        }
        if most.users() > max_in_flight {
            return Err(unfit(
                Key::Max,
                format!("is {most}, but `global.max_in_flight` is {max_in_flight}"),
                format!(
                    "write `global: {{ max_in_flight: {} }}`, or fewer users",
                    most.users()
                ),
            ));
        }
        let bounds = Self {
            lowest,
            most,
            volume,
            warmup,
            requests: wished.requests.unwrap_or(Self::REQUESTS),
            repeats: wished.repeats.unwrap_or(Self::REPEATS),
            resolution: wished.resolution.unwrap_or_else(Self::usual_resolution),
        };
        if !(1..=Self::MOST_REPEATS).contains(&bounds.repeats) {
            let mend = format!("write a number from 1 to {}", Self::MOST_REPEATS);
            return Err(unfit(Key::Repeats, format!("is {}", bounds.repeats), mend));
        }
        let resolution = bounds.resolution;
        if !(f64::MIN_POSITIVE..=0.5).contains(&resolution.get()) {
            let mend = "write more than 0 and at most `50%`, such as `5%`";
            return Err(unfit(Key::Resolution, format!("is {resolution}"), mend.into()));
        }
        if bounds.requests > Self::MOST_REQUESTS {
            let mend = format!("write at most `{}`", Self::MOST_REQUESTS);
            return Err(unfit(Key::Requests, format!("is {}", bounds.requests), mend));
        }
        let needed = bounds.cost(lowest).saturating_mul(bounds.majority().into());
        if u64::from(bounds.requests) < needed {
            return Err(unfit(
                Key::Requests,
                format!("is {}, too few for a verdict on {lowest}", bounds.requests),
                format!("write `{needed}` or more"),
            ));
        }
        Ok(bounds)
    }

    fn usual_most(lowest: Load, max_in_flight: u32) -> Load {
        let times = f64::from(Self::MOST);
        match lowest {
            Load::Users(_) => Load::Users(Self::MOST.min(max_in_flight)),
            Load::Rate(rate) => lowest
                .like((rate.per_second() * times).min(Rate::MOST))
                .unwrap_or(lowest),
        }
    }

    fn usual_resolution() -> Ratio {
        Ratio::new(0.05).expect("a twentieth is a share")
    }

    /// Requests of a burst of `load`, without those before.
    pub fn requests_at(&self, load: Load) -> u32 {
        let planned = self.volume.planned(load).max(load.users().into());
        u32::try_from(planned).unwrap_or(u32::MAX)
    }

    /// What a burst of `load` takes of `requests`.
    pub fn cost(&self, load: Load) -> u64 {
        u64::from(self.warmup) + u64::from(self.requests_at(load))
    }

    /// How many bursts of a load are to meet the objective, so that the load does: more than half of `repeats`.
    pub const fn majority(&self) -> u32 {
        self.repeats / 2 + 1
    }

    /// The whole search as a step, like `step`.
    pub fn as_step(&self, step: &Step) -> Step {
        Step {
            load: self.most,
            arrival: step.arrival,
            volume: Volume::Requests(self.requests),
            slo: Slo {
                alert: Alert::None,
                ..step.slo.clone()
            },
        }
    }

    /// A burst of `load` as a step, where `step` is the whole search.
    pub fn step(&self, step: &Step, load: Load) -> Step {
        Step {
            load,
            arrival: step.arrival,
            volume: Volume::Requests(self.requests_at(load)),
            slo: step.slo.clone(),
        }
    }
}

impl Plan {
    /// The plan in which every probe searches for its capacity. A probe that does not already begins with one user, or
    /// with its lowest rate, and its bursts send what its lowest step does, if that is not one request per user. The
    /// error says what is wrong in words.
    pub fn searching(mut self, wished: Wished) -> Result<Self, String> {
        let max_in_flight = self.global.max_in_flight;
        let searching = |probe: &Arc<Probe>| probe.searching(wished, max_in_flight).map(Arc::new);
        self.probes = self.probes.iter().map(searching).collect::<Result<_, _>>()?;
        Ok(self)
    }
}

impl Probe {
    fn searching(&self, wished: Wished, max_in_flight: u32) -> Result<Self, String> {
        let of = &self.name;
        let no_step = || format!("probe `{of}` has no load");
        let step = self.steps.first().ok_or_else(no_step)?;
        if self.capacity.is_none() && step.slo == Slo::default() {
            return Err(format!(
                "probe `{of}` has no `slo`, so that there is nothing to search for; write one, such as `slo: {{ ttft: 500ms, objective: 99% }}`"
            ));
        }
        if self.prompt.most_turns() > 1 {
            return Err(format!(
                "probe `{of}` has conversations, of which a search would not send as many turns at each load; search with single questions"
            ));
        }
        let (lowest, volume, wished) = match &self.capacity {
            Some(own) => (own.lowest, own.volume, own.changed_by(wished)),
            None => match step.load {
                Load::Users(users) if step.volume == Volume::Requests(users) => {
                    (Load::Users(1), Volume::Requests(1), wished)
                }
                Load::Users(_) => (Load::Users(1), step.volume, wished),
                rate @ Load::Rate(_) => (rate, step.volume, wished),
            },
        };
        let bounds = Bounds::new(lowest, volume, self.warmup, max_in_flight, wished).map_err(
            |Unfit { key, what, mend }| {
                format!(
                    "`{}` of the `capacity` of probe `{of}` {what}; {mend}",
                    key.as_str()
                )
            },
        )?;
        Ok(Self {
            steps: vec![Arc::new(bounds.as_step(step))],
            capacity: Some(bounds),
            ladder_stop: None,
            ..self.clone()
        })
    }
}

impl Bounds {
    /// With at least one request before each burst that is not measured.
    #[must_use]
    pub fn warmed(self) -> Self {
        Self {
            warmup: self.warmup.max(1),
            ..self
        }
    }

    fn changed_by(&self, wished: Wished) -> Wished {
        let most = match self.most {
            Load::Users(users) => users.into(),
            Load::Rate(rate) => rate.per_second(),
        };
        Wished {
            max: wished.max.or(Some(most)),
            requests: wished.requests.or(Some(self.requests)),
            repeats: wished.repeats.or(Some(self.repeats)),
            resolution: wished.resolution.or(Some(self.resolution)),
        }
    }
}
