//! Endpoints whose capacity is known, in virtual time: the simulator's engine answers. The truth is what a sweep over
//! all loads says, with many bursts of each.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    ops::Range,
    time::Duration,
};

use fastrand::Rng;
use llm_probe_exporter::{
    capacity::{Burst, Capacity, Next, Search, can_meet},
    config::plan::{Bounds, Slo, Wished},
    load::{Load, Offsets, Process, Rate, Volume},
    sim::{
        engine::{Engine, Id},
        profile::Profile,
    },
    units::Ratio,
};

/// A machine, what is asked of it, and the limit of the time to first token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) profile: Profile,
    pub(crate) prompt: u64,
    pub(crate) output: u64,
    pub(crate) ttft: Duration,
    pub(crate) objective: f64,
}

impl World {
    fn objective(&self) -> Ratio {
        Ratio::new(self.objective).unwrap()
    }

    pub(crate) fn slo(&self) -> Slo {
        Slo {
            ttft: Some(self.ttft),
            objective: self.objective(),
            ..Slo::default()
        }
    }

    /// One burst of a search within `bounds`.
    pub(crate) fn burst(&self, bounds: &Bounds, load: Load, rng: &mut Rng) -> Burst {
        let planned = bounds.requests_at(load);
        let mut engine = Engine::new(self.profile, rng.u64(..));
        let mut coming: BinaryHeap<Reverse<(Duration, u32)>> = match load {
            Load::Users(users) => (0..users.min(planned))
                .map(|number| Reverse((Duration::ZERO, number)))
                .collect(),
            Load::Rate(rate) => (0..planned)
                .zip(Offsets::new(rate, Process::Constant, rng.clone()))
                .map(|(number, at)| Reverse((at, number)))
                .collect(),
        };
        let mut next = u32::try_from(coming.len()).unwrap();
        let mut submitted = BTreeMap::new();
        let mut burst = Burst::default();
        let (mut now, mut emitted, mut missed) = (Duration::ZERO, Vec::new(), 0);
        loop {
            while let Some(Reverse((at, number))) =
                coming.peek().copied().filter(|Reverse((at, _))| *at <= now)
            {
                coming.pop();
                if !can_meet(planned, missed, self.objective()) {
                    continue;
                }
                engine
                    .submit(Id(number.into()), self.prompt, self.output, at)
                    .unwrap();
                submitted.insert(number, at);
                burst.sent += 1;
            }
            let Some(lasts) = engine.begin(now) else {
                match coming.peek() {
                    Some(Reverse((at, _))) => now = *at,
                    None => break,
                }
                continue;
            };
            now += lasts;
            engine.complete(now, &mut emitted);
            for token in &emitted {
                let number = u32::try_from(token.id.0).unwrap();
                if token.index == 0 {
                    let ttft = now.saturating_sub(submitted[&number]);
                    burst.ttft.push(ttft.as_secs_f64());
                    burst.judged += 1;
                    if ttft <= self.ttft {
                        burst.good += 1;
                    } else {
                        missed += 1;
                    }
                }
                if token.last && load.users() > 0 && next < planned {
                    coming.push(Reverse((now, next)));
                    next += 1;
                }
            }
        }
        burst.met = Ratio::of(burst.good, burst.judged).map(|goodput| goodput >= self.objective());
        burst
    }

    /// What a search finds.
    pub(crate) fn searched(&self, bounds: Bounds, rng: &mut Rng) -> Capacity {
        let mut search = Search::new(bounds);
        loop {
            match search.next() {
                Next::Fire(load) => search.ended(load, self.burst(&bounds, load, rng)),
                Next::End(end) => return search.capacity(end, &self.slo()),
            }
        }
    }

    /// The highest load below which every one meets the objective in most of many bursts.
    fn knee(&self, bounds: &Bounds) -> Load {
        const BURSTS: usize = 11;
        let rng = &mut Rng::with_seed(0x5eed);
        let mut meets = |load: &Load| {
            let met = (0..BURSTS).filter(|_| self.burst(bounds, *load, rng).met == Some(true));
            met.count() > BURSTS / 2
        };
        // One user more, or a hundredth of the rate.
        let next = |load: &Load| {
            let more = match load {
                Load::Users(_) => 1,
                Load::Rate(_) => (load.size() / 100).max(1),
            };
            Some(load.resized(load.size() + more))
        };
        let loads = std::iter::successors(Some(bounds.lowest), next);
        let borne = loads.take_while(|load| *load <= bounds.most && meets(load));
        borne.last().expect("the lowest load is borne")
    }
}

/// Searches for users, with bursts of at least so many requests, that nothing but what they find ends.
pub(crate) fn users(requests: u32) -> Bounds {
    let wished = Wished {
        max: Some(200.0),
        requests: Some(1_000_000),
        ..Wished::default()
    };
    Bounds::new(Load::Users(1), Volume::Requests(requests), 0, 1024, wished).unwrap()
}

/// The same for rates, with bursts of half a minute.
fn rates() -> Bounds {
    let wished = Wished {
        max: Some(20.0),
        requests: Some(1_000_000),
        ..Wished::default()
    };
    let lowest = Load::Rate(Rate::new(0.5).unwrap());
    Bounds::new(lowest, Volume::Lasting(Duration::from_secs(30)), 0, 1024, wished).unwrap()
}

/// An endpoint, and a search for what it bears.
pub(crate) struct Case {
    pub(crate) name: String,
    world: World,
    bounds: Bounds,
}

/// What searches of a case found.
pub(crate) struct Found {
    /// The truth.
    pub(crate) knee: Load,
    /// Searches that came within a twentieth of it, or one user.
    pub(crate) right: usize,
    pub(crate) least: Load,
    pub(crate) most: Load,
    /// Requests of a search, on average.
    pub(crate) requests: u64,
}

/// The laptop with so many slots, asked for users and for rates.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for slots in [1, 4, 16] {
        for (shape, bounds, ttft_ms) in [
            ("a request per user", users(1), 1500),
            ("at least 24 requests", users(24), 3000),
            ("rates", rates(), 3000),
        ] {
            let world = World {
                profile: Profile {
                    slots,
                    ..Profile::LAPTOP
                },
                prompt: 34,
                output: 32,
                ttft: Duration::from_millis(ttft_ms),
                objective: 0.95,
            };
            let name = format!("{slots} slots, {shape}");
            cases.push(Case { name, world, bounds });
        }
    }
    cases
}

impl Case {
    /// A search for each seed.
    pub(crate) fn searched(&self, seeds: Range<u64>) -> Found {
        let knee = self.world.knee(&self.bounds);
        let step = (knee.size().div_ceil(20)).max(1);
        let count = seeds.end - seeds.start;
        let found: Vec<_> = seeds
            .map(|seed| self.world.searched(self.bounds, &mut Rng::with_seed(seed)))
            .collect();
        let loads = || {
            found
                .iter()
                .map(|capacity| capacity.meets.expect("the lowest load is borne"))
        };
        Found {
            knee,
            right: loads()
                .filter(|load| load.size().abs_diff(knee.size()) <= step)
                .count(),
            least: loads().min().unwrap(),
            most: loads().max().unwrap(),
            requests: found.iter().map(|capacity| capacity.requests).sum::<u64>() / count,
        }
    }
}
