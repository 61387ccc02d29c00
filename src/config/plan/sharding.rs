//! The part of a plan that one of several exporters runs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Plan, Probe, Target};
use crate::{shard::Shard, units::Name};

impl Plan {
    /// What this shard runs of it. Each probe at each target is run by one shard, all the steps of a ladder by the same.
    /// What takes turns at a target, or shares a budget, is not divided: it could neither wait for nor count with another
    /// process.
    #[must_use]
    pub fn of_shard(mut self, shard: Shard) -> Self {
        if shard.is_alone() {
            return self;
        }
        let bundles = Bundles::of(&self.probes);
        let part = |probe: &Arc<Probe>| {
            let runs = |target: &&Arc<Target>| shard.runs(&bundles.name(probe, target));
            let targets: Vec<_> = probe.targets.iter().filter(runs).cloned().collect();
            (!targets.is_empty()).then(|| {
                Arc::new(Probe {
                    targets,
                    ..(**probe).clone()
                })
            })
        };
        let probes: Vec<_> = self.probes.iter().filter_map(part).collect();
        let asked: HashSet<_> = probes
            .iter()
            .flat_map(|probe| probe.targets.iter().map(|target| target.name.clone()))
            .collect();
        self.targets.retain(|target| asked.contains(&target.name));
        self.probes = probes;
        self
    }
}

/// Whether all bursts at the target have to come from one process.
fn is_one_place(target: &Target) -> bool {
    !target.share || target.budget.is_some()
}

/// What is run by one shard as a whole goes by the name of one part of it: by that of a probe, where there is one, since
/// targets come and go with their lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    /// With a budget: all its targets.
    Probe(Name),
    /// All that is probed there.
    Target(Name),
}

/// What stays together.
struct Bundles(HashMap<Part, Part>);

impl Bundles {
    /// A budget of a probe ties its targets to one another, and with them what else is probed there.
    fn of(probes: &[Arc<Probe>]) -> Self {
        let mut bundles = Self(HashMap::new());
        for probe in probes.iter().filter(|probe| probe.budget.is_some()) {
            for target in probe.targets.iter().filter(|target| is_one_place(target)) {
                bundles.tie(
                    &Part::Probe(probe.name.clone()),
                    &Part::Target(target.name.clone()),
                );
            }
        }
        bundles
    }

    fn first_of<'a>(&'a self, part: &'a Part) -> &'a Part {
        let mut first = part;
        while let Some(other) = self.0.get(first) {
            first = other;
        }
        first
    }

    fn tie(&mut self, one: &Part, other: &Part) {
        let (one, other) = (self.first_of(one).clone(), self.first_of(other).clone());
        if one != other {
            let (first, second) = if one < other { (one, other) } else { (other, one) };
            self.0.insert(second, first);
        }
    }

    /// What decides on the shard.
    fn name(&self, probe: &Probe, target: &Target) -> String {
        // No name of a target or probe holds this.
        const BETWEEN: char = '\0';
        let part = if probe.budget.is_some() {
            Part::Probe(probe.name.clone())
        } else if is_one_place(target) {
            Part::Target(target.name.clone())
        } else {
            return format!("{}{BETWEEN}{}", probe.name, target.name);
        };
        match self.first_of(&part) {
            Part::Probe(probe) => format!("{probe}{BETWEEN}"),
            Part::Target(target) => target.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Write as _, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::config;

    const MOST: usize = 6;

    #[derive(Clone, Debug)]
    struct Case {
        /// Whether it has `share`, and whether a budget.
        targets: Vec<(bool, bool)>,
        /// Which targets it asks, and whether it has a budget.
        probes: Vec<([bool; MOST], bool)>,
        shards: u32,
    }

    impl Case {
        fn plan(&self) -> Plan {
            let mut text = "targets:\n".to_owned();
            let budget = |has: bool| {
                if has {
                    ", budget: { requests: 100000, per: day }"
                } else {
                    ""
                }
            };
            for (at, (share, has_budget)) in self.targets.iter().enumerate() {
                let budget = budget(*has_budget);
                writeln!(text, "  - {{ name: t{at}, url: 'http://localhost/v1', api: openai_chat, model: m, share: {share}{budget} }}").unwrap();
            }
            text.push_str("probes:\n");
            for (at, (asks, has_budget)) in self.probes.iter().enumerate() {
                let asked: Vec<_> = (0..self.targets.len())
                    .filter(|target| *target == 0 || asks[*target])
                    .map(|target| format!("t{target}"))
                    .collect();
                let (asked, budget) = (asked.join(", "), budget(*has_budget));
                writeln!(text, "  - {{ name: p{at}, targets: [{asked}], ladder: [{{ users: 1 }}, {{ users: 2 }}]{budget} }}").unwrap();
            }
            config::parse(&text, "probes.yaml", Path::new("."))
                .unwrap_or_else(|error| panic!("{error}\n{text}"))
        }
    }

    fn case() -> impl Strategy<Value = Case> {
        let targets = prop::collection::vec(any::<(bool, bool)>(), 1..=MOST);
        let probes = prop::collection::vec((any::<[bool; MOST]>(), any::<bool>()), 1..6);
        (targets, probes, 1_u32..5).prop_map(|(targets, probes, shards)| Case {
            targets,
            probes,
            shards,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_series_is_run_by_one_shard(case in case()) {
            let whole: Vec<_> = case.plan().series().map(|series| series.key()).collect();
            let mut run = Vec::new();
            let mut at_target: BTreeMap<Name, HashSet<u32>> = BTreeMap::new();
            let mut of_probe: BTreeMap<Name, HashSet<u32>> = BTreeMap::new();
            let mut of_ladder: BTreeMap<(Name, Name), HashSet<u32>> = BTreeMap::new();
            for index in 0..case.shards {
                let part = case.plan().of_shard(Shard::new(index, case.shards).unwrap());
                prop_assert!(part.probes().iter().all(|probe| !probe.targets.is_empty()));
                for series in part.series() {
                    let key = series.key();
                    prop_assert!(part.targets().iter().any(|target| target.name == key.target));
                    if is_one_place(&series.target) {
                        at_target.entry(key.target.clone()).or_default().insert(index);
                    }
                    if series.probe.budget.is_some() {
                        of_probe.entry(key.probe.clone()).or_default().insert(index);
                    }
                    let ladder = (key.probe.clone(), key.target.clone());
                    of_ladder.entry(ladder).or_default().insert(index);
                    run.push(key);
                }
            }
            run.sort();
            let mut expected = whole;
            expected.sort();
            prop_assert_eq!(run, expected);
            let one = |(_, shards): (_, &HashSet<u32>)| shards.len() == 1;
            prop_assert!(at_target.iter().all(one), "{:?}", at_target);
            prop_assert!(of_probe.iter().all(|(_, shards)| shards.len() == 1), "{:?}", of_probe);
            prop_assert!(of_ladder.iter().all(|(_, shards)| shards.len() == 1), "{:?}", of_ladder);
        }
    }

    #[test]
    fn what_depends_on_nothing_is_divided() {
        let case = Case {
            targets: vec![(true, false); MOST],
            probes: vec![([true; MOST], false); 5],
            shards: 3,
        };
        for index in 0..3 {
            let part = case.plan().of_shard(Shard::new(index, 3).unwrap());
            assert!(part.series().count() > 5, "shard {index}");
        }
    }

    /// A list may name another target, which sorts before all others or takes the place of one.
    #[test]
    fn a_bundle_stays_where_it_is_when_its_targets_change() {
        let runner = |targets: &[&str]| {
            let of = |name: &&str| {
                format!("{{ name: {name}, url: 'http://localhost/v1', api: openai_chat, model: m }}")
            };
            let all: Vec<_> = targets.iter().map(of).collect();
            let text = format!(
                "targets: [{}]\nprobes: [{{ name: p, budget: {{ requests: 100000, per: day }} }}, {{ name: q }}]\n",
                all.join(", ")
            );
            let runs = |index: &u32| {
                let plan = config::parse(&text, "probes.yaml", Path::new(".")).unwrap();
                let part = plan.of_shard(Shard::new(*index, 16).unwrap());
                part.series().count() == 2 * targets.len()
            };
            (0..16).find(runs).expect("one shard runs all of it")
        };
        let before = runner(&["m", "n"]);
        for targets in [&["a", "m", "n"][..], &["n"], &["x", "y", "z"], &["b"]] {
            assert_eq!(runner(targets), before, "{targets:?}");
        }
    }
}
