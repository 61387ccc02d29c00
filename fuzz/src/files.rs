//! Files: configurations, prompts, recordings, and what is kept over restarts.

use std::{collections::BTreeMap, fs, path::Path};

use llm_probe_exporter::{
    backoff::Circuit,
    baseline::{Baselines, Medians},
    budget::{Account, Budget, Per},
    calibration::{Calibrations, Count},
    config::{self, ConfigError},
    recording::{Requests, replay},
    state::State,
    units::{Seconds, Tokens},
};
use tokio::time::Instant;

/// A report that fits a screen, and that cannot drive the terminal it is shown on.
fn is_presentable(report: &str, lines: usize) {
    // Lines of the file are shown as they are, tabs included.
    let odd = report
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(odd, None, "{report:?}");
    // A hundred problems, each with the line that it is in.
    assert!(report.len() < 400_000, "{} bytes of {lines} lines", report.len());
}

/// Either a plan, or what is wrong, where, and how to mend it; the same with the line ends of Windows.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let read = |text: &str| config::parse(text, "probes.yaml", Path::new("/nonexistent"));
    let plan = read(text);
    match &plan {
        Ok(plan) => {
            assert!(plan.series().count() > 0);
            for warning in plan.warnings() {
                is_presentable(&warning.to_string(), 0);
            }
            // It is printed in logs.
            let _shown = format!("{plan:?}");
        }
        Err(error) => rejected(error, text),
    }
    if !text.contains('\r') {
        let said = |plan: Result<_, ConfigError>| plan.err().map(|error| error.to_string());
        assert_eq!(said(read(&text.replace('\n', "\r\n"))), said(plan));
    }
}

fn rejected(error: &ConfigError, text: &str) {
    let problems = error.problems();
    assert!(!problems.is_empty());
    let lines = text.split(['\n', '\r']).count();
    for problem in problems {
        assert!(
            !problem.what.is_empty() && !problem.mend.is_empty(),
            "{problem:?}"
        );
        if let Some(place) = problem.place {
            assert!(
                (1..=lines + 1).contains(&place.line) && place.column > 0,
                "{place:?}"
            );
        }
    }
    is_presentable(&error.to_string(), lines);
}

/// Prompts of which a plan is made, or what is wrong with which line. `folder` is for the file.
pub fn prompts(bytes: &[u8], folder: &Path) {
    fs::write(folder.join("prompts.jsonl"), bytes).expect("the folder is there");
    let text = "targets: [{name: t, url: 'http://localhost/v1', api: openai_chat, model: m}]\n\
                probes: [{name: p, prompt: {file: prompts.jsonl}}]\n";
    match config::parse(text, "probes.yaml", folder) {
        Ok(plan) => assert!(plan.series().count() > 0),
        Err(error) => rejected(&error, text),
    }
}

/// Requests that are judged again, or what is wrong with which line. The first byte says whether the header is there.
pub fn recording(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    let header: &[u8] = if first % 8 == 0 {
        b""
    } else {
        b"{\"format\":\"llm-probe-exporter recording\",\"version\":1}\n"
    };
    let whole = [header, rest].concat();
    let epoch = Instant::now();
    let again = || {
        let requests = Requests::open(whole.as_slice(), epoch)?;
        replay(requests, |recorded| Some(recorded.slo.clone()))
    };
    let lines = whole.split(|byte| *byte == b'\n').count();
    match (again(), again()) {
        (Ok(one), Ok(other)) => {
            assert_eq!(
                (one.reports.len(), one.different, one.truncated, &one.differences),
                (
                    other.reports.len(),
                    other.different,
                    other.truncated,
                    &other.differences
                )
            );
            for difference in &one.differences {
                is_presentable(difference, lines);
            }
        }
        (Err(one), Err(other)) => {
            assert_eq!(one.to_string(), other.to_string());
            assert!((1..=lines as u64 + 1).contains(&one.line), "{one}");
            is_presentable(&one.to_string(), lines);
        }
        (one, other) => panic!("{one:?}, {other:?}"),
    }
}

/// 2026-03-01 12:00:00 UTC.
const NOW: f64 = 1_772_366_400.0;

/// What is understood is written as it was read, and what is learned and spent goes on from there.
pub fn state(bytes: &[u8]) {
    let Ok(state) = State::understood(bytes) else {
        return;
    };
    let written = state.written().expect("it can be written");
    assert_eq!(State::understood(&written).as_ref(), Ok(&state));

    let seconds = |seconds| Some(Seconds::new(seconds));
    let burst = Medians {
        ttft: seconds(0.2),
        itl: seconds(0.01),
        connecting: seconds(0.001),
        tokens_per_arrival: Some(1.0),
    };
    let baselines = Baselines::default();
    baselines.restore(&state.baselines, NOW);
    for name in state.baselines.keys() {
        for hour in 0..2 {
            baselines.learn(name, burst, NOW + 3600.0 * f64::from(hour));
        }
        let usual = baselines.of(name).usual();
        let values = [usual.ttft, usual.itl, usual.connecting].map(|value| value.map(Seconds::get));
        for value in values.into_iter().chain([usual.tokens_per_arrival]).flatten() {
            assert!(value.is_finite() && value > 0.0, "{usual:?}");
        }
    }
    let calibrations = Calibrations::default();
    calibrations.restore(&state.calibrations, NOW);
    for name in state.calibrations.keys() {
        let count = |words, tokens| Count {
            words,
            tokens: Tokens(tokens),
        };
        calibrations.learn(name, &[count(10, 20), count(20, 30)], NOW);
        if let Some(fit) = calibrations.of(name).fit() {
            assert!(
                fit.tokens_per_word() > 0.0 && fit.overhead().is_finite(),
                "{fit:?}"
            );
            assert!(fit.words_of_prompt(Tokens(100)) >= 1);
        }
    }
    for used in state.budgets.values() {
        for per in [Per::Hour, Per::Day] {
            let budget = Budget {
                requests: Some(100),
                input_tokens: None,
                output_tokens: None,
                dollars: Some(1.0),
                per,
            };
            let mut account = Account::new(budget, used.since);
            account.restore(used);
            let amounts = account.used(used.since);
            assert!(
                amounts.requests >= 0.0 && amounts.dollars.is_finite(),
                "{amounts:?}"
            );
        }
    }
    let (now, unix) = (Instant::now(), 2e9);
    for kept in state.backoffs.values() {
        let circuit = Circuit::restored(*kept, now, unix);
        let open_for = circuit.open_for(now).expect("it is open");
        assert!(open_for.as_secs() <= 3600, "{open_for:?}");
    }
    let again = State {
        budgets: state.budgets,
        // Not a number is not equal to itself.
        backoffs: BTreeMap::new(),
        baselines: baselines.kept(),
        calibrations: calibrations.kept(),
    };
    let written = again.written().expect("it can be written");
    assert_eq!(State::understood(&written), Ok(again));
}
