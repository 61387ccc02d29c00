//! Whether the process may have as many sockets as the plan wants at once.

use anyhow::anyhow;
use rustix::process::{Resource, getrlimit};

use super::CliError;
use crate::{
    config::plan::{Plan, Series, Target},
    load::Load,
};

/// For listeners, scrapers, files and names that are being resolved.
const OTHERS: u64 = 256;

/// Refuses a plan whose requests would fail for want of file descriptors.
pub(super) fn suffice(plan: &Plan) -> Result<(), CliError> {
    match shortage(plan) {
        Some(shortage) => Err(CliError::usage(anyhow!("{shortage}"))),
        None => Ok(()),
    }
}

/// What the plan wants and this process may have, where that is less.
pub(super) fn shortage(plan: &Plan) -> Option<String> {
    shortage_below(getrlimit(Resource::Nofile).current?, plan)
}

/// The same where the server is in this process, too: each request takes a descriptor at both ends.
pub(super) fn suffice_at_both_ends(plan: &Plan) -> Result<(), CliError> {
    let shortage = getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| shortage_below(limit / 2, plan));
    match shortage {
        Some(shortage) => Err(CliError::usage(anyhow!("{shortage} for each of the two ends"))),
        None => Ok(()),
    }
}

fn shortage_below(limit: u64, plan: &Plan) -> Option<String> {
    let requests = most_under_way(plan);
    let needed = requests + OTHERS;
    (needed > limit).then(|| {
        format!(
            "the plan may have {requests} requests under way at once, which takes {needed} file descriptors with {OTHERS} for all else, and this process may have {limit}; raise the limit (`ulimit -n`, `LimitNOFILE=` of a systemd unit), or lower the load or `global.max_in_flight`"
        )
    })
}

/// Requests under way at once, at most: at one target bursts take turns unless it is shared.
fn most_under_way(plan: &Plan) -> u64 {
    let at = |target: &Target| {
        let loads = plan
            .series()
            .filter(|series| series.target.name == target.name)
            .map(|series| of_a_burst(&series));
        if target.share {
            loads.sum::<u64>()
        } else {
            loads.max().unwrap_or(0)
        }
    };
    let all = plan.targets().iter().map(|target| at(target)).sum::<u64>();
    all.min(plan.global().max_in_flight.into())
}

fn of_a_burst(series: &Series) -> u64 {
    match series.step.load {
        Load::Users(users) => users.into(),
        // No request lasts longer than it may.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate and a time of a checked configuration"
        )]
        Load::Rate(rate) => (rate.per_second() * series.probe.timeouts.total.as_secs_f64()).ceil() as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn plan(target: &str, global: &str) -> Plan {
        let text = format!(
            "{global}\ntargets:\n  - {{ name: a, url: 'http://127.0.0.1:1', api: ollama_chat, model: m{target} }}\n  - {{ name: b, url: 'http://127.0.0.1:2', api: ollama_chat, model: m }}\nprobes:\n  - {{ name: many, every: 1m, concurrency: 300 }}\n  - {{ name: few, targets: [a], every: 1m, concurrency: 20 }}\n  - {{ name: rate, targets: [b], every: 1m, arrival: {{ kind: rate, per_second: 50 }}, requests: 100, timeouts: {{ total: 10s }} }}\n"
        );
        config::parse(&text, "probes.yaml", Path::new("")).unwrap()
    }

    #[test]
    fn bursts_at_one_target_take_turns_unless_it_is_shared() {
        assert_eq!(most_under_way(&plan("", "")), 300 + 500);
        assert_eq!(most_under_way(&plan(", share: true", "")), 320 + 500);
        assert_eq!(most_under_way(&plan("", "global: { max_in_flight: 400 }")), 400);
    }

    #[test]
    fn a_limit_that_just_suffices_is_no_shortage() {
        let plan = plan("", "");
        assert_eq!(shortage_below(800 + OTHERS, &plan), None);
        let said = shortage_below(799 + OTHERS, &plan).unwrap();
        assert!(
            said.starts_with("the plan may have 800 requests under way at once, which takes 1056"),
            "{said}"
        );
    }
}
