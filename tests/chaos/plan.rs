//! What goes wrong when: drawn from a seed, so that the seed tells all of it.

use std::time::Duration;

use fastrand::Rng;

/// What the simulators do wrong, in turn: the first of those that are of one kind.
const FAULTS: &[&str] = &[
    "status=401",
    "status=404",
    "status=500",
    "status=502",
    "redirect",
    "html",
    "empty",
    "stall@head",
    "stall",
    "stall@5",
    "stall@end",
    "stall=200ms@3",
    "reset",
    "reset@5",
    "close",
    "close@5",
    "truncate",
    "truncate@3",
    "error",
    "error@4",
    "comments",
    "comments=50ms@3",
    "pings",
    "pings=50ms@3",
    "garbage",
    "garbage@3",
    "goaway@3",
    "delay=3s",
    "delay=100ms",
    "drip=600ms",
    "drip=20ms",
    "coalesce=4",
    "coalesce=50ms",
    "per-frame=3",
    "split=1",
    "content-type=text/plain",
    "usage=continuous",
    "usage=none",
    "reasoning=4",
    "reasoning-content=4",
    "hidden-reasoning=4",
    "slow=900",
    "slow=3",
    "cold=3s",
    "cold=100ms",
    "cache=1000",
];

/// Of the server, and only for a time.
const OF_THE_SERVER: &[&str] = &["refuse to=2s", "deaf to=2s", "drift=10%/1m"];

/// Those after which the exporter leaves a server alone for a while.
const SHEDDING: &[&str] = &[
    "status=429 retry-after=1",
    "status=429 retry-after-ms=500",
    "status=503 retry-date=2s",
    "status=529",
    "status=429 reset=1s",
    "limit=2/2s",
    "error=overloaded@2",
];

/// Simulators: one by its address, one by its name, and one that sheds load.
pub(crate) const SIMULATORS: usize = 3;

/// The index of the one that sheds load.
pub(crate) const SHEDDER: usize = 2;

/// Something that goes wrong, and is mended again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Deed {
    /// A simulator obeys a rule.
    Fault(usize, String),
    StopSimulator(usize),
    StopExporter,
    /// The wall clock is so many seconds off from now on.
    Step(i64),
    Reload(Reload),
    FullDisk,
    /// The name server does not answer.
    NoNames,
    /// Packets are lost.
    Loss,
    /// There is no network.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    Unchanged,
    /// A probe asks for another number of tokens.
    Changed,
    /// A probe comes or goes.
    Churn,
    /// A file that is refused; asked for over HTTP, or by a signal.
    Bad {
        signal: bool,
    },
    /// The same file, by a signal.
    Signal,
}

impl Deed {
    /// What the summary calls it.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Fault(_, rule) => {
                let name = rule.split(|c: char| !c.is_ascii_lowercase() && c != '-');
                format!("fault {}", name.take(1).collect::<String>())
            }
            Self::StopSimulator(_) => "simulator stopped".into(),
            Self::StopExporter => "exporter stopped".into(),
            Self::Step(_) => "clock stepped".into(),
            Self::Reload(Reload::Bad { .. }) => "reload of a bad file".into(),
            Self::Reload(_) => "reload of a good file".into(),
            Self::FullDisk => "disk full".into(),
            Self::NoNames => "name server silent".into(),
            Self::Loss => "packets lost".into(),
            Self::Cut => "link cut".into(),
        }
    }
}

/// A deed, and when it begins and is mended.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) deed: Deed,
}

/// From the least to the most, in milliseconds.
type Range = (u64, u64);

/// Deeds that follow one another, for each thing that can be in one state only.
pub(crate) fn plan(seed: u64, length: Duration) -> Vec<Vec<Timed>> {
    let mut lanes = Vec::new();
    let lane = |number: u64, gap: Range, deed: &mut dyn FnMut(&mut Rng) -> (Deed, Range)| {
        let mut rng = Rng::with_seed(seed.wrapping_mul(1000) + number);
        let (mut deeds, mut at) = (Vec::new(), Duration::ZERO);
        let ms = |rng: &mut Rng, (least, most)| Duration::from_millis(rng.u64(least..=most));
        loop {
            let from = at + ms(&mut rng, gap);
            let (deed, lasts) = deed(&mut rng);
            at = from + ms(&mut rng, lasts);
            if at >= length {
                return deeds;
            }
            deeds.push(Timed { from, to: at, deed });
        }
    };
    for simulator in 0..SIMULATORS {
        // Each fault once before any comes again.
        let mut left: Vec<&str> = Vec::new();
        lanes.push(lane(simulator as u64, (100, 500), &mut |rng| {
            if rng.u8(..12) == 0 {
                return (Deed::StopSimulator(simulator), (300, 2500));
            }
            if left.is_empty() {
                let own = if simulator == SHEDDER {
                    SHEDDING
                } else {
                    OF_THE_SERVER
                };
                left = [FAULTS, own].concat();
                rng.shuffle(&mut left);
            }
            let rule = left.pop().unwrap_or("empty");
            let lasts = if rule.ends_with("to=2s") {
                (2500, 3500)
            } else {
                (800, 2500)
            };
            let when = match rng.u8(..4) {
                _ if OF_THE_SERVER.contains(&rule) => "",
                0 => " every=2",
                1 => " chance=50%",
                _ => "",
            };
            (Deed::Fault(simulator, format!("{rule}{when}")), lasts)
        }));
    }
    lanes.push(lane(10, (500, 2500), &mut |rng| match rng.u8(..10) {
        0 | 1 => (Deed::StopExporter, (300, 2500)),
        2..5 => {
            let steps = [7200, -3600, 40 * 86_400, -400 * 86_400, 1, 0];
            (Deed::Step(steps[rng.usize(..steps.len())]), (3000, 4000))
        }
        5 => (Deed::Reload(Reload::Unchanged), (0, 0)),
        6 => (Deed::Reload(Reload::Changed), (0, 0)),
        7 => (Deed::Reload(Reload::Churn), (0, 0)),
        8 => (Deed::Reload(Reload::Bad { signal: rng.bool() }), (0, 0)),
        _ => (Deed::Reload(Reload::Signal), (0, 0)),
    }));
    lanes.push(lane(11, (6000, 12_000), &mut |rng| match rng.u8(..3) {
        0 => (Deed::NoNames, (1000, 3000)),
        1 => (Deed::Loss, (500, 2500)),
        _ => (Deed::Cut, (500, 2500)),
    }));
    lanes.push(lane(12, (3000, 8000), &mut |_| (Deed::FullDisk, (2500, 5000))));
    lanes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use llm_probe_exporter::sim::Rule;

    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_a_long_one_has_every_deed() {
        let hour = Duration::from_hours(1);
        let shown = |seed| format!("{:?}", plan(seed, hour));
        assert_eq!(shown(1), shown(1));
        assert_ne!(shown(1), shown(2));
        let lanes = plan(1, hour);
        let mut rules = BTreeSet::new();
        for timed in lanes.iter().flatten() {
            assert!(timed.from <= timed.to && timed.to < hour);
            if let Deed::Fault(_, rule) = &timed.deed {
                rule.parse::<Rule>().unwrap();
                rules.insert(rule.split([' ', '@', '=']).next().unwrap().to_owned());
            }
        }
        let kinds: BTreeSet<_> = lanes.iter().flatten().map(|timed| timed.deed.kind()).collect();
        // Every name of the simulator's list.
        assert_eq!(rules.len(), 30, "{rules:?}");
        assert_eq!(kinds.len(), 30 + 9, "{kinds:?}");
        assert!(
            lanes
                .iter()
                .all(|lane| lane.windows(2).all(|two| two[0].to <= two[1].from))
        );
    }
}
