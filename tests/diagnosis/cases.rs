//! Bursts whose cause is known, in virtual time: the simulator's engine answers, and what arrives goes the way of real
//! requests, from the timeline to the diagnosis.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use fastrand::Rng;
use llm_probe_exporter::{
    baseline::Baseline,
    config::plan::Slo,
    diagnose::{Cause, Diagnosis, Lowest, diagnose},
    load::{Load, Offsets, Process, Rate},
    measure::Measurement,
    outcome::{Failure, Outcome},
    record::Record,
    sim::{
        engine::{Engine, Id},
        profile::{Costs, Profile},
    },
    slo::ErrorBounds,
    summary::{Judged, Summary, Tally},
    units::Tokens,
};
use tokio::time::Instant;

/// A machine with slots, and the way to it.
#[derive(Clone, Copy)]
struct World {
    profile: Profile,
    prompt: u64,
    /// Of the prompt, in the KV cache.
    cached: u64,
    /// Output tokens: at least and at most.
    output: (u64, u64),
    round_trip: f64,
    /// How many times longer everything takes.
    drift: f64,
    /// Requests that are let in.
    limit: usize,
    /// A proxy lets this many tokens come together before it passes them on.
    held: usize,
    /// What it is called behind a load balancer.
    replica: Option<&'static str>,
}

const LAPTOP: World = World {
    profile: Profile::LAPTOP,
    prompt: 34,
    cached: 0,
    output: (64, 64),
    round_trip: 0.001,
    drift: 1.0,
    limit: usize::MAX,
    held: 1,
    replica: None,
};

/// A request under way.
struct Open {
    user: u32,
    record: Record,
    output: u64,
    held: usize,
    last_arrival: Instant,
}

fn beginning() -> Instant {
    Instant::now() + Duration::from_secs(1000)
}

impl World {
    fn with_slots(mut self, slots: usize) -> Self {
        self.profile.slots = slots;
        self
    }

    /// One burst: `users` start together, each asks again until there were `requests`.
    fn burst(&self, users: u32, requests: u32, rng: &mut Rng) -> Summary {
        let mut tally = Tally::default();
        let starts = (0..users).map(|_| rng.f64() * 0.003).collect();
        self.add_to(&mut tally, beginning(), starts, requests, rng);
        tally.finish(Slo::default().objective)
    }

    /// One burst of an open loop.
    fn open_burst(&self, rate: Rate, requests: u32, rng: &mut Rng) -> Summary {
        let mut tally = Tally::default();
        let starts = Offsets::new(rate, Process::Poisson, rng.fork())
            .take(requests as usize)
            .map(|offset| offset.as_secs_f64());
        self.add_to(&mut tally, beginning(), starts.collect(), requests, rng);
        tally.finish(Slo::default().objective)
    }

    /// Requests that start so many seconds after `begun`. Until there were `requests`, each one that ends is
    /// followed by another.
    fn add_to(&self, tally: &mut Tally, begun: Instant, starts: Vec<f64>, requests: u32, rng: &mut Rng) {
        let mut engine = Engine::new(self.profile, rng.u64(..));
        let slo = Slo::default();
        let mut tell = |mut record: Record, ended: Instant, outcome: Outcome| {
            (record.ended, record.outcome) = (Some(ended), outcome);
            let measured = Measurement::of(&record);
            tally.add(&Judged::new(record, measured, ErrorBounds::default(), &slo), true);
        };
        // When requests reach the server.
        let mut coming: BinaryHeap<Reverse<(Duration, u32)>> = BinaryHeap::new();
        let mut open: HashMap<u32, Open> = HashMap::new();
        let (mut started, mut admitted) = (0, 0);
        let mut start =
            |user: u32, at: Instant, rng: &mut Rng, coming: &mut BinaryHeap<_>, open: &mut HashMap<_, _>| {
                if started == requests {
                    return;
                }
                let mut record = Record::new(started, false, at);
                record.replica = self.replica.map(str::to_owned);
                let connect = self.trip(2.0, rng);
                let line = &mut record.timeline;
                (line.start, line.connect, line.connected) = (Some(at), Some(connect), Some(at + connect));
                let there = at + connect + self.trip(1.0, rng);
                coming.push(Reverse((there.saturating_duration_since(begun), started)));
                let output = rng.u64(self.output.0..=self.output.1);
                open.insert(
                    started,
                    Open {
                        user,
                        record,
                        output,
                        held: 0,
                        last_arrival: there,
                    },
                );
                started += 1;
            };
        for (user, seconds) in (0..).zip(starts) {
            let at = begun + Duration::from_secs_f64(seconds);
            start(user, at, rng, &mut coming, &mut open);
        }
        let (mut now, mut emitted) = (Duration::ZERO, Vec::new());
        loop {
            while let Some(Reverse((at, number))) =
                coming.peek().copied().filter(|Reverse((at, _))| *at <= now)
            {
                coming.pop();
                let output = open[&number].output;
                if admitted == self.limit {
                    let mut refused = open.remove(&number).unwrap();
                    let back = begun + at + self.trip(1.0, rng);
                    refused.record.status = Some(429);
                    tell(refused.record, back, Outcome::Failed(Failure::RateLimited));
                    start(refused.user, back, rng, &mut coming, &mut open);
                    continue;
                }
                admitted += 1;
                let id = Id(number.into());
                engine
                    .submit_cached(id, self.prompt, self.cached, output, at)
                    .unwrap();
            }
            let Some(lasts) = engine.begin(now) else {
                match coming.peek() {
                    Some(Reverse((at, _))) => now = *at,
                    None => break,
                }
                continue;
            };
            now += lasts.mul_f64(self.drift);
            engine.complete(now, &mut emitted);
            for token in &emitted {
                let number = u32::try_from(token.id.0).unwrap();
                let request = open.get_mut(&number).unwrap();
                request.held += 1;
                if request.held == self.held || token.last {
                    let at = (begun + now + self.trip(1.0, rng)).max(request.last_arrival);
                    request.record.timeline.headers.get_or_insert(at);
                    for _ in 0..std::mem::take(&mut request.held) {
                        request.record.timeline.output(at, true);
                    }
                    request.last_arrival = at;
                }
                if token.last {
                    let mut request = open.remove(&number).unwrap();
                    request.record.usage.output = Some(Tokens(request.output));
                    let at = request.last_arrival;
                    tell(request.record, at, Outcome::Ok);
                    start(request.user, at, rng, &mut coming, &mut open);
                }
            }
        }
    }

    /// So many half round trips, with jitter.
    fn trip(&self, halves: f64, rng: &mut Rng) -> Duration {
        Duration::from_secs_f64(self.round_trip / 2.0 * halves * (1.0 + 0.3 * rng.f64()))
    }
}

/// What is true in a case.
pub(crate) struct Truth {
    pub(crate) cause: Cause,
    pub(crate) slots: Option<u32>,
    pub(crate) coalesced: bool,
    pub(crate) unequal: bool,
}

impl Truth {
    const fn of(cause: Cause) -> Self {
        Self {
            cause,
            slots: None,
            coalesced: false,
            unequal: false,
        }
    }

    const fn queue(slots: u32) -> Self {
        Self {
            slots: Some(slots),
            ..Self::of(Cause::Queue)
        }
    }

    /// Whether the diagnosis names it.
    pub(crate) fn is_named_by(&self, diagnosis: &Diagnosis) -> bool {
        let slots = match self.slots {
            None => true,
            Some(truth) => diagnosis
                .slots
                .is_some_and(|found| found.slots.abs_diff(truth) <= if truth > 10 { truth / 10 } else { 1 }),
        };
        let unequal = diagnosis.replicas.is_some_and(|spread| spread.unequal);
        slots
            && diagnosis.cause == self.cause
            && diagnosis.coalesced == self.coalesced
            && unequal == self.unequal
    }
}

/// A case: its name, what is true, and a run of it by a seed.
pub(crate) type Case = (&'static str, Truth, fn(&mut Rng) -> Diagnosis);

pub(crate) fn all() -> Vec<Case> {
    let mut all = closed_loops();
    all.extend(other_loads());
    all
}

fn closed_loops() -> Vec<Case> {
    vec![
        ("1 slot", Truth::queue(1), |rng| fifty(varied(LAPTOP, rng), rng)),
        ("4 slots", Truth::queue(4), |rng| {
            fifty(varied(LAPTOP.with_slots(4), rng), rng)
        }),
        ("16 slots", Truth::queue(16), |rng| {
            fifty(varied(LAPTOP.with_slots(16), rng), rng)
        }),
        ("4 slots of an H100", Truth::queue(4), |rng| {
            let mut world = varied(LAPTOP, rng);
            world.profile = Profile::H100_8B;
            fifty(world.with_slots(4), rng)
        }),
        ("16 slots of an L40S", Truth::queue(16), |rng| {
            let mut world = varied(LAPTOP, rng);
            world.profile = Profile::L40S_8B;
            fifty(world.with_slots(16), rng)
        }),
        ("decode-bound", Truth::of(Cause::Decode), |rng| {
            let mut world = varied(LAPTOP, rng);
            world.profile = Profile {
                costs: Costs {
                    decode: 0.5e-3 + 2e-3 * rng.f64(),
                    ..Profile::L40S_8B.costs
                },
                ..Profile::L40S_8B
            };
            fifty(world, rng)
        }),
        ("network delay", Truth::of(Cause::Network), |rng| {
            let mut world = varied(LAPTOP, rng);
            world.profile = Profile::H100_8B;
            let slow = World {
                round_trip: world.round_trip + 0.05 + 0.2 * rng.f64(),
                ..world
            };
            unusual(world, slow, rng)
        }),
        ("rate limiter", Truth::of(Cause::Errors), |rng| {
            let mut world = varied(LAPTOP.with_slots(8), rng);
            world.limit = 5 + rng.usize(..30);
            let lowest = lowest(LAPTOP, rng);
            diagnose(
                Load::Users(50),
                &world.burst(50, 50, rng).observed,
                Some(&lowest),
                false,
                &Baseline::default(),
            )
        }),
        ("prefix cache", Truth::of(Cause::None), |rng| {
            let mut world = varied(LAPTOP, rng);
            (world.profile, world.prompt) = (Profile::L40S_8B, 4000);
            unusual(
                world,
                World {
                    cached: 3900,
                    ..world
                },
                rng,
            )
        }),
        ("drift", Truth::of(Cause::Decode), |rng| {
            let world = varied(LAPTOP, rng);
            let drift = 1.8 + 2.0 * rng.f64();
            unusual(world, World { drift, ..world }, rng)
        }),
        (
            "coalescing proxy",
            Truth {
                coalesced: true,
                ..Truth::of(Cause::Network)
            },
            |rng| {
                let world = World {
                    output: (64, 64),
                    ..varied(LAPTOP, rng)
                };
                let held = rng.usize(24..=64);
                unusual(world, World { held, ..world }, rng)
            },
        ),
        ("none, one user", Truth::of(Cause::None), |rng| {
            let world = varied(LAPTOP, rng);
            unusual(world, world, rng)
        }),
        ("none, eight users", Truth::of(Cause::None), |rng| {
            let mut world = varied(LAPTOP, rng);
            world.profile = Profile::H100_8B;
            let lowest = lowest(world, rng);
            diagnose(
                Load::Users(8),
                &world.burst(8, 16, rng).observed,
                Some(&lowest),
                false,
                &Baseline::default(),
            )
        }),
    ]
}

fn other_loads() -> Vec<Case> {
    vec![
        ("none, open loop", Truth::of(Cause::None), |rng| {
            let mut world = varied(LAPTOP, rng);
            world.profile = Profile::L40S_8B;
            traffic(world, 4.0, rng)
        }),
        // Six a second is what it can do.
        ("queue, open loop", Truth::queue(4), |rng| {
            traffic(varied(LAPTOP.with_slots(4), rng), 15.0, rng)
        }),
        (
            "unequal replicas",
            Truth {
                unequal: true,
                ..Truth::of(Cause::None)
            },
            |rng| {
                let mut fast = varied(LAPTOP, rng);
                (fast.profile, fast.replica) = (Profile::H100_8B, Some("fast"));
                let slow = World {
                    drift: 3.0 + 3.0 * rng.f64(),
                    replica: Some("slow"),
                    ..fast
                };
                // It is as usual that they are.
                let both = |rng: &mut Rng| {
                    let (mut tally, begun) = (Tally::default(), beginning());
                    for replica in [fast, slow] {
                        let starts = (0..4).map(|_| rng.f64() * 0.003).collect();
                        replica.add_to(&mut tally, begun, starts, 10, rng);
                    }
                    tally.finish(Slo::default().objective)
                };
                let usual = learned(12, rng, both);
                let now = both(rng);
                diagnose(Load::Users(8), &now.observed, None, true, &usual)
            },
        ),
    ]
}

/// The upper step of a ladder of rates.
fn traffic(world: World, per_second: f64, rng: &mut Rng) -> Diagnosis {
    let [low, high] = [0.5, per_second].map(|rate| Rate::new(rate).unwrap());
    let lowest = Lowest {
        load: Load::Rate(low),
        observed: world.open_burst(low, 5, rng).observed,
    };
    let burst = world.open_burst(high, 60, rng);
    diagnose(
        Load::Rate(high),
        &burst.observed,
        Some(&lowest),
        false,
        &Baseline::default(),
    )
}

/// Another way, other answers, more or less jitter.
fn varied(mut world: World, rng: &mut Rng) -> World {
    world.round_trip = 0.0005 + 0.01 * rng.f64();
    world.output.0 = rng.u64(24..=64);
    world.profile.jitter = 0.02 + 0.1 * rng.f64();
    world
}

fn lowest(world: World, rng: &mut Rng) -> Lowest {
    Lowest {
        load: Load::Users(1),
        observed: world.burst(1, 3, rng).observed,
    }
}

/// The upper step of a ladder.
fn fifty(world: World, rng: &mut Rng) -> Diagnosis {
    let lowest = lowest(world, rng);
    let burst = world.burst(50, 50, rng);
    diagnose(
        Load::Users(50),
        &burst.observed,
        Some(&lowest),
        false,
        &Baseline::default(),
    )
}

/// From so many usual bursts.
fn learned(bursts: u32, rng: &mut Rng, burst: impl Fn(&mut Rng) -> Summary) -> Baseline {
    let mut baseline = Baseline::default();
    for minute in 0..bursts {
        let lesson = burst(rng).observed.lesson().unwrap();
        baseline.learn(lesson, 1e9 + 60.0 * f64::from(minute));
    }
    baseline
}

/// One user after forty usual bursts.
fn unusual(usual: World, now: World, rng: &mut Rng) -> Diagnosis {
    let baseline = learned(40, rng, |rng| usual.burst(1, 3, rng));
    diagnose(
        Load::Users(1),
        &now.burst(1, 3, rng).observed,
        None,
        true,
        &baseline,
    )
}
