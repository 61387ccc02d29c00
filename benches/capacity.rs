//! How often a search finds the capacity of an endpoint, within one step: a hundred seeded searches of each case.
//! `cargo bench --bench capacity`

#![expect(clippy::print_stdout, reason = "what it finds is what it is for")]

#[expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared with a test, where they are allowed"
)]
#[path = "../tests/capacity/cases.rs"]
mod cases;

use std::process::ExitCode;

const RUNS: u64 = 100;

/// Fewer right answers fail.
const RIGHT: usize = 95;

fn main() -> ExitCode {
    println!(
        "{:<30}{:>20}{:>10}{:>40}{:>10}",
        "endpoint", "true", "right", "found", "requests"
    );
    let mut all_right = true;
    for case in cases::all() {
        let found = case.searched(0..RUNS);
        all_right &= found.right >= RIGHT;
        println!(
            "{:<30}{:>20}{:>10}{:>40}{:>10}",
            case.name,
            found.knee.to_string(),
            found.right,
            format!("{} to {}", found.least, found.most),
            found.requests
        );
    }
    if all_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
