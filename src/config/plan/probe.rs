//! What is asked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Bounds, Generation, Slo, Target};
use crate::{
    backoff::Protect,
    budget::{Amounts, Budget},
    calendar::Calendar,
    cron::Cron,
    expect::Expect,
    load::{Arrival, Load, Volume},
    prompt::Prompt,
    timetable::Timetable,
    units::{Name, Ratio, Tokens},
};

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
