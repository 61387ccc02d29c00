//! Where bursts are too seldom for the alerting rules of `config/prometheus/rules`.

use std::time::Duration;

use crate::config::plan::{Alert, Plan, Probe};

/// An alert that is made of a share or a median of what bursts showed, and the shortest window that it looks at.
struct Looks {
    alert: &'static str,
    over: Duration,
    /// It reads series with `alert: page` alone.
    at_pages_only: bool,
}

/// Of two alerts of one name, the one with the shorter window. A test compares this with the rules.
const LOOKS: [Looks; 5] = [
    Looks {
        alert: "LLMProbeBudgetBurn",
        over: Duration::from_mins(5),
        at_pages_only: true,
    },
    Looks {
        alert: "LLMProbeQueueing",
        over: Duration::from_mins(15),
        at_pages_only: false,
    },
    Looks {
        alert: "LLMProbeDecodeSlow",
        over: Duration::from_mins(15),
        at_pages_only: false,
    },
    Looks {
        alert: "LLMProbeBlind",
        over: Duration::from_mins(30),
        at_pages_only: false,
    },
    Looks {
        alert: "LLMProbeBudgetBurnSlow",
        over: Duration::from_hours(2),
        at_pages_only: false,
    },
];

/// So many intervals are to fit into a window, or it says too little.
const INTERVALS: u32 = 4;

/// A warning for each probe whose bursts are too seldom for alerts that it asks for.
pub(super) fn too_seldom(plan: &Plan) -> impl Iterator<Item = String> + '_ {
    plan.probes().iter().filter_map(|probe| warning(probe))
}

fn warning(probe: &Probe) -> Option<String> {
    let asks = |alert| probe.steps.iter().any(|step| step.slo.alert == alert);
    let (pages, tickets) = (asks(Alert::Page), asks(Alert::Ticket));
    let late: Vec<_> = LOOKS
        .iter()
        .filter(|looks| pages || (tickets && !looks.at_pages_only))
        .filter(|looks| probe.every > looks.over / INTERVALS)
        .collect();
    let shortest = late.iter().map(|looks| looks.over).min()?;
    let names: Vec<_> = late
        .iter()
        .map(|looks| format!("{} ({})", looks.alert, humantime::format_duration(looks.over)))
        .collect();
    Some(format!(
        "probe `{}`: a burst every {} is too seldom for alerts that want {INTERVALS} in their window: {} may come late or never; lower `every` to {}, or say `alert: none` where nobody is to be alerted",
        probe.name,
        humantime::format_duration(probe.every),
        names.join(", "),
        humantime::format_duration(shortest / INTERVALS),
    ))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::config;

    fn warnings(probes: &str) -> Vec<String> {
        let text = format!(
            "targets: [{{ name: t, url: 'http://h/v1', api: openai_chat, model: m }}]\nprobes: [{probes}]\n"
        );
        let plan = config::parse(&text, "probes.yaml", Path::new(".")).unwrap();
        too_seldom(&plan).collect()
    }

    #[test]
    fn a_window_wants_four_intervals() {
        for (every, alert, expected) in [
            ("1m 15s", "page", &[][..]),
            ("1m 16s", "page", &["LLMProbeBudgetBurn (5m)"]),
            ("3m 45s", "ticket", &[]),
            (
                "10m",
                "ticket",
                &[
                    "LLMProbeQueueing (15m)",
                    "LLMProbeDecodeSlow (15m)",
                    "LLMProbeBlind (30m)",
                ],
            ),
            ("1h", "none", &[]),
        ] {
            let said = warnings(&format!(
                "{{ name: p, every: {every}, slo: {{ ttft: 1s, alert: {alert} }} }}"
            ));
            match expected {
                [] => assert!(said.is_empty(), "{said:?}"),
                names => {
                    let list = format!("in their window: {} may come", names.join(", "));
                    assert!(
                        said.len() == 1 && said.iter().all(|line| line.contains(&list)),
                        "{said:?}"
                    );
                }
            }
        }
        assert!(
            warnings("{ name: p, every: 1h }").is_empty(),
            "nobody is alerted without an slo"
        );
    }

    #[test]
    fn the_mend_mends() {
        let [said] = <[_; 1]>::try_from(warnings(
            "{ name: p, every: 2h, slo: { ttft: 1s, alert: ticket } }",
        ))
        .unwrap();
        let (_, mend) = said.split_once("lower `every` to ").unwrap();
        let (every, _) = mend.split_once(',').unwrap();
        let mended = warnings(&format!(
            "{{ name: p, every: {every}, slo: {{ ttft: 1s, alert: ticket }} }}"
        ));
        assert!(mended.is_empty(), "{mended:?}");
    }

    /// Every window in an expression, also those in the names of what is recorded.
    fn windows(expr: &str) -> impl Iterator<Item = Duration> + '_ {
        let is_window =
            |word: &&str| word.ends_with(['m', 'h', 'd']) && word.starts_with(|c: char| c.is_ascii_digit());
        expr.split(['[', ']', ' ', '\n', ')'])
            .map(|word| word.rsplit_once([':', '_']).map_or(word, |(_, last)| last))
            .map(|word| word.trim_start_matches(|c: char| c.is_ascii_lowercase()))
            .filter(is_window)
            .map(|word| humantime::parse_duration(word).unwrap())
    }

    #[test]
    fn the_windows_are_those_of_the_rules() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/rules/alerting.yml");
        let rules = fs::read_to_string(path).unwrap();
        let mut found = BTreeSet::new();
        for alert in rules.split("- alert: ").skip(1) {
            let (name, rest) = alert.split_once('\n').unwrap();
            let (expr, _) = rest.split_once("for:").unwrap();
            // These ask whether there was anything at all, or look at more than bursts.
            let asks_for_one = [
                "LLMProbeUnauthorized",
                "LLMProbeBackingOff",
                "LLMProbeBudgetExhausted",
                "LLMProbeStarved",
                "LLMProbeExporterDown",
                "LLMProbeRestarts",
            ];
            let shortest = windows(expr).min().filter(|_| !asks_for_one.contains(&name));
            found.extend(shortest.map(|shortest| (name, shortest)));
        }
        for name in LOOKS.map(|looks| looks.alert) {
            let shortest = found.iter().filter(|(found, _)| *found == name).min().copied();
            found.retain(|&(other, window)| other != name || Some((other, window)) == shortest);
        }
        let listed: BTreeSet<_> = LOOKS.iter().map(|looks| (looks.alert, looks.over)).collect();
        assert_eq!(found, listed);
    }
}
