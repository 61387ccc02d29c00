//! What was seen at each load.

use serde::Serialize;

use crate::{
    config::plan::Bounds,
    diagnose::Cause,
    load::Load,
    outcome::Skip,
    quantile::percentile,
    units::{Ratio, Seconds},
};

/// One burst of a search.
#[derive(Clone, Debug, Default)]
pub struct Burst {
    /// Whether its goodput met the objective; `None`: nothing was judged.
    pub met: Option<bool>,
    /// Why it was cut short, by the brake or by us.
    pub cut_short: Option<Skip>,
    /// Requests that were sent, those before it included.
    pub sent: u64,
    /// Requests whose goodput was judged, and those that were good.
    pub judged: u64,
    pub good: u64,
    /// Times to first token and inter-token latencies, one a request that has one, in seconds.
    pub ttft: Vec<f64>,
    pub itl: Vec<f64>,
    /// What made requests miss.
    pub cause: Option<Cause>,
}

/// The bursts of one load.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) load: Load,
    bursts: u32,
    met: u32,
    missed: u32,
    /// Bursts of which nothing was judged.
    unjudged: u32,
    /// The endpoint shed it, or failed.
    refused: bool,
    sent: u64,
    judged: u64,
    good: u64,
    ttft: Vec<f64>,
    itl: Vec<f64>,
    cause: Option<Cause>,
}

/// One load and what was seen at it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    #[serde(flatten)]
    pub load: Load,
    /// Whether it meets the objective; `None`: the search was over before.
    pub met: Option<bool>,
    pub bursts: u32,
    /// Bursts that met the objective.
    pub bursts_met: u32,
    /// Requests that were sent, those before each burst included.
    pub requests: u64,
    pub judged: u64,
    pub good: u64,
    /// good / judged, over all bursts.
    pub goodput: Option<Ratio>,
    pub ttft_p50: Option<Seconds>,
    pub ttft_p95: Option<Seconds>,
    pub itl_p50: Option<Seconds>,
    /// What made requests miss in the last burst that missed.
    pub limited_by: Option<Cause>,
}

impl Tried {
    pub(super) const fn new(load: Load) -> Self {
        Self {
            load,
            bursts: 0,
            met: 0,
            missed: 0,
            unjudged: 0,
            refused: false,
            sent: 0,
            judged: 0,
            good: 0,
            ttft: Vec::new(),
            itl: Vec::new(),
            cause: None,
        }
    }

    pub(super) fn add(&mut self, burst: Burst) {
        self.bursts += 1;
        match (burst.met, burst.cut_short) {
            (Some(false), None | Some(Skip::Backoff)) => {
                self.missed += 1;
                self.refused |= burst.cut_short.is_some();
                self.cause = burst.cause;
            }
            (Some(true), None | Some(Skip::Backoff)) => self.met += 1,
            // It says nothing of the requests that were never sent.
            (Some(_), Some(_)) => {}
            (None, _) => self.unjudged += 1,
        }
        self.sent += burst.sent;
        self.judged += burst.judged;
        self.good += burst.good;
        self.ttft.extend(burst.ttft);
        self.itl.extend(burst.itl);
    }

    /// Whether the load meets the objective; `None`: other bursts will tell.
    pub(super) fn verdict(&self, bounds: &Bounds) -> Option<bool> {
        if self.refused || self.missed >= Self::enough_missed(bounds) {
            Some(false)
        } else {
            (self.met >= bounds.majority()).then_some(true)
        }
    }

    /// From so many on that missed, no majority meets any more.
    const fn enough_missed(bounds: &Bounds) -> u32 {
        bounds.repeats + 1 - bounds.majority()
    }

    /// Whether no more bursts are to be fired, although there is no verdict.
    pub(super) const fn is_in_vain(&self, bounds: &Bounds) -> bool {
        self.unjudged >= bounds.repeats
    }

    /// The fewest further bursts that make a verdict.
    pub(super) fn bursts_needed(&self, bounds: &Bounds) -> u32 {
        let to_meet = bounds.majority().saturating_sub(self.met);
        to_meet.min(Self::enough_missed(bounds).saturating_sub(self.missed))
    }

    /// The share of bursts that agree with the majority of them.
    pub(super) fn agreement(&self) -> Option<Ratio> {
        Ratio::of(self.met.max(self.missed).into(), (self.met + self.missed).into())
    }

    pub(super) fn point(&self, bounds: &Bounds) -> Point {
        let sorted = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        let (ttft, itl) = (sorted(&self.ttft), sorted(&self.itl));
        let at = |values: &[f64], percent| percentile(values, percent).map(Seconds::new);
        Point {
            load: self.load,
            met: self.verdict(bounds),
            bursts: self.bursts,
            bursts_met: self.met,
            requests: self.sent,
            judged: self.judged,
            good: self.good,
            goodput: Ratio::of(self.good, self.judged),
            ttft_p50: at(&ttft, 50),
            ttft_p95: at(&ttft, 95),
            itl_p50: at(&itl, 50),
            limited_by: self.cause,
        }
    }
}
