//! How often the diagnosis names the truth: a hundred seeded runs of each case, and what was said instead.
//! `cargo bench --bench diagnosis`

#![expect(clippy::print_stdout, reason = "what it finds is what it is for")]

#[expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared with a test, where they are allowed"
)]
#[path = "../tests/diagnosis/cases.rs"]
mod cases;

use std::process::ExitCode;

use llm_probe_exporter::diagnose::Cause;

const RUNS: u64 = 100;

/// Fewer right answers fail.
const RIGHT: usize = 95;

fn main() -> ExitCode {
    let causes: Vec<_> = Cause::ALL
        .iter()
        .map(|cause| format!("{:>8}", cause.as_str()))
        .collect();
    println!(
        "{:<22}{}{:>14}{:>7}",
        "truth \\ said",
        causes.concat(),
        "slots p0-p100",
        "right"
    );
    let mut all_right = true;
    for (name, truth, run) in cases::all() {
        let diagnoses: Vec<_> = (0..RUNS)
            .map(|seed| run(&mut fastrand::Rng::with_seed(seed)))
            .collect();
        let said = |cause: &Cause| {
            diagnoses
                .iter()
                .filter(|diagnosis| diagnosis.cause == *cause)
                .count()
        };
        let counts: Vec<_> = Cause::ALL
            .iter()
            .map(|cause| format!("{:>8}", said(cause)))
            .collect();
        let slots = || {
            diagnoses
                .iter()
                .filter_map(|diagnosis| Some(diagnosis.slots?.slots))
        };
        let slots = match (slots().min(), slots().max(), slots().count()) {
            (Some(min), Some(max), known) => format!("{min}-{max} ({known})"),
            _ => "-".to_owned(),
        };
        let right = diagnoses
            .iter()
            .filter(|diagnosis| truth.is_named_by(diagnosis))
            .count();
        all_right &= right >= RIGHT;
        println!("{name:<22}{}{slots:>14}{right:>7}", counts.concat());
    }
    if all_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
