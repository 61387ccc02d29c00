//! What many targets and many streams cost, of the program as a user runs it. `cargo bench --bench scale`, on a machine
//! that does nothing else: about eight minutes.

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

mod exporter;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod targets;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use self::support::{
    machine::{load_average, raise_file_limit},
    verdicts,
};

#[derive(Debug, Parser)]
struct Args {
    /// How long a thousand targets are probed.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..))]
    minutes: u32,
    /// Only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The costs of a target.
    Cost,
    /// The schedule of a thousand targets.
    Schedule,
    /// The many streams.
    Streams,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let descriptors = raise_file_limit();
    println!("load average before: {}\n", load_average());
    let mut bounds = Vec::new();
    if wanted(Part::Cost) {
        bounds.extend(targets::cost());
    }
    if wanted(Part::Schedule) {
        bounds.extend(targets::schedule(args.minutes));
    }
    if wanted(Part::Streams) {
        match streams::measure(descriptors) {
            Ok(measured) => bounds.extend(measured),
            Err(short) => {
                eprintln!("{short}");
                return ExitCode::FAILURE;
            }
        }
    }
    let (lines, met) = verdicts(&bounds);
    println!("\n{lines}");
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
