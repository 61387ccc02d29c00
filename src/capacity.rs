//! The search for the capacity: the highest load at which goodput meets the objective. No clock and no I/O: it says
//! which burst to fire next, and is told what came of it.
//!
//! It begins with the lowest load and doubles it until one misses the objective, then halves the distance between the
//! highest that met it and the lowest that did not, until they are as close as they are to be. So no load is more than
//! twice what the endpoint is known to bear, and there are few of them: each doubling and each halving comes nearer.
//!
//! A load meets the objective when more than half of its bursts do, of at most [`Bounds::repeats`]: one request that
//! was slow by chance then turns nothing. The bursts of a load end as soon as the others could not turn the verdict, and
//! a burst sends no more requests once it cannot meet any more ([`can_meet`]). A burst is fired only where what is
//! left of [`Bounds::requests`] suffices for a verdict. One of which nothing could be judged is fired again.
//!
//! Where an endpoint sheds load or fails so that a burst is cut short, its load is taken to miss the objective, and the
//! search is over at once.

mod curve;
mod sentence;
#[cfg(test)]
mod tests;

use serde::Serialize;

use self::curve::Tried;
pub use self::curve::{Burst, Point};
use crate::{
    config::plan::{Bounds, Slo},
    load::Load,
    outcome::Skip,
    units::Ratio,
};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Fire a burst of this load, and tell [`Search::ended`] of it.
    Fire(Load),
    End(End),
}

/// Why a search is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The highest load that meets and the lowest that does not are close enough.
    Found,
    /// Also the highest load that is tried meets the objective.
    AtLeast,
    /// Not even the lowest load meets the objective.
    Nothing,
    /// What is left of the requests suffices for no further verdict.
    Requests,
    /// Nothing could be judged in as many bursts of a load as are fired of one: our own lag, above all.
    NotJudged,
    /// No more could be sent.
    Stopped(Skip),
}

impl End {
    /// In a word, as reports have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::AtLeast => "at_least",
            Self::Nothing => "nothing",
            Self::Requests => "requests",
            Self::NotJudged => "not_judged",
            Self::Stopped(skip) => skip.as_str(),
        }
    }

    /// Whether the search came to its own end, and not to one that says nothing about the endpoint.
    pub const fn is_verdict(self) -> bool {
        match self {
            Self::Found | Self::AtLeast | Self::Nothing | Self::Requests => true,
            Self::Stopped(skip) => matches!(skip, Skip::Backoff),
            Self::NotJudged => false,
        }
    }
}

impl Serialize for End {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A search that is under way.
#[derive(Clone, Debug)]
pub struct Search {
    bounds: Bounds,
    /// In the order in which they were tried.
    tried: Vec<Tried>,
    /// Requests that were sent.
    spent: u64,
    stopped: Option<End>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capacity {
    /// The highest load that meets the objective, as far as there is one.
    pub meets: Option<Load>,
    /// The lowest one that does not.
    pub misses: Option<Load>,
    pub ended: End,
    /// The share of bursts that agreed on the verdict: that of the two loads on which they agreed less.
    pub confidence: Option<Ratio>,
    /// Requests that were sent, those before each burst included.
    pub requests: u64,
    /// The same in words.
    pub sentence: String,
    /// What was tried, by rising load.
    pub curve: Vec<Point>,
}

impl Capacity {
    /// Whether it says something of the endpoint.
    pub const fn is_known(&self) -> bool {
        self.ended.is_verdict() && (self.meets.is_some() || self.misses.is_some())
    }
}

impl Search {
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            tried: Vec::new(),
            spent: 0,
            stopped: None,
        }
    }

    /// What to do now.
    pub fn next(&self) -> Next {
        if let Some(end) = self.stopped {
            return Next::End(end);
        }
        let load = match (self.undecided(), self.meets(), self.misses()) {
            (Some(tried), ..) => tried.load,
            (None, None, None) => self.bounds.lowest,
            (None, None, Some(_)) => return Next::End(End::Nothing),
            (None, Some(meets), None) if meets.load >= self.bounds.most => return Next::End(End::AtLeast),
            (None, Some(meets), None) => {
                let doubled = meets.load.size().saturating_mul(2);
                meets.load.resized(doubled).min(self.bounds.most)
            }
            (None, Some(meets), Some(misses)) => match self.between(meets.load, misses.load) {
                Some(load) => load,
                None => return Next::End(End::Found),
            },
        };
        let bursts = match self.undecided() {
            Some(tried) => tried.bursts_needed(&self.bounds),
            None => self.bounds.majority(),
        };
        let needed = self.bounds.cost(load).saturating_mul(bursts.into());
        if self.spent.saturating_add(needed) > self.bounds.requests.into() {
            return Next::End(End::Requests);
        }
        Next::Fire(load)
    }

    /// A burst of `load` ended.
    pub fn ended(&mut self, load: Load, burst: Burst) {
        self.spent += burst.sent;
        self.stopped = self.stopped.or(burst.cut_short.map(End::Stopped));
        if self.tried.last().is_none_or(|tried| tried.load != load) {
            self.tried.push(Tried::new(load));
        }
        if let Some(tried) = self.tried.last_mut() {
            tried.add(burst);
        }
        let in_vain = self
            .tried
            .last()
            .is_some_and(|tried| tried.is_in_vain(&self.bounds));
        self.stopped = self.stopped.or(in_vain.then_some(End::NotJudged));
    }

    /// No more can be sent.
    pub fn stop(&mut self, skip: Skip) {
        self.stopped.get_or_insert(End::Stopped(skip));
    }

    /// What was found, where `slo` is what was judged by.
    pub fn capacity(&self, ended: End, slo: &Slo) -> Capacity {
        let (meets, misses) = (self.meets(), self.misses());
        let agreements = [meets, misses].into_iter().flatten().filter_map(Tried::agreement);
        let point = |tried: &Tried| tried.point(&self.bounds);
        let mut curve: Vec<Point> = self.tried.iter().map(point).collect();
        curve.sort_by_key(|point| point.load);
        let mut capacity = Capacity {
            meets: meets.map(|tried| tried.load),
            misses: misses.map(|tried| tried.load),
            ended,
            confidence: agreements
                .reduce(|least, agreement| if agreement < least { agreement } else { least }),
            requests: self.spent,
            sentence: String::new(),
            curve,
        };
        capacity.sentence = sentence::of(&capacity, slo);
        capacity
    }

    /// The load whose bursts are not all fired yet.
    fn undecided(&self) -> Option<&Tried> {
        let last = self.tried.last()?;
        last.verdict(&self.bounds).is_none().then_some(last)
    }

    fn meets(&self) -> Option<&Tried> {
        let met = self
            .tried
            .iter()
            .filter(|tried| tried.verdict(&self.bounds) == Some(true));
        met.max_by_key(|tried| tried.load)
    }

    fn misses(&self) -> Option<&Tried> {
        let missed = self
            .tried
            .iter()
            .filter(|tried| tried.verdict(&self.bounds) == Some(false));
        missed.min_by_key(|tried| tried.load)
    }

    /// The load between two; `None` where they are close enough.
    fn between(&self, meets: Load, misses: Load) -> Option<Load> {
        let distance = misses.size() - meets.size();
        let close = (f64::from(meets.size()) * self.bounds.resolution.get()).max(1.0);
        (f64::from(distance) > close).then(|| meets.resized(meets.size() + distance / 2))
    }
}

/// Whether a burst of so many requests can still meet the objective after so many have missed.
pub fn can_meet(planned: u32, missed: u32, objective: Ratio) -> bool {
    let good = planned.saturating_sub(missed);
    Ratio::of(good.into(), planned.into()).is_some_and(|goodput| goodput >= objective)
}
