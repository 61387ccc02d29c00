//! What a scrape of many series costs, and whether it disturbs a burst that is measured meanwhile.
//! `cargo bench --bench scrape`, on a machine that does nothing else.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it finds is what it is for"
)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "where the bench itself is broken, it ends"
)]

mod cost;
mod disturbance;
#[path = "../support/mod.rs"]
mod support;
mod theirs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cheap = cost::is_in_bounds();
    let unnoticed = disturbance::is_in_bounds();
    if cheap && unnoticed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Targets, each at three concurrencies.
const TARGETS: usize = 200;

/// A configuration with [`TARGETS`] targets at `url`, each with everything that adds families.
fn configuration(url: &str, probe: &str) -> String {
    let target = |number| {
        format!(
            "  - {{ name: target-{number}, url: '{url}', api: ollama_chat, model: none, price: {{ input_per_million: 1, output_per_million: 2 }} }}\n"
        )
    };
    let targets: String = (0..TARGETS).map(target).collect();
    let slo = "{ ttft: 500ms, ttfo: 500ms, itl: 25ms, gap: 2s, request: 5s, alert: page }";
    format!(
        "targets:\n{targets}{probe}    ladder: [{{ users: 1 }}, {{ users: 8 }}, {{ users: 50 }}]\n    slo: {slo}\n"
    )
}
