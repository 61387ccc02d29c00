//! How far what we measure is from what was true, and what measuring costs, beside a bare client and, with `--peers`,
//! other tools. `cargo bench --bench accuracy`, on a machine that does nothing else; README.md of the benches says more.
//!
//! Simulated servers, processes of their own, remember when they really read each request and wrote each token. Each case
//! is measured by a process of its own (this program again, with `--order`), so that peaks of memory do not mix; what it
//! tells is laid beside the server's journal here.

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

mod bare;
mod case;
mod figures;
mod ours;
mod peers;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod told;

use std::{
    env,
    process::{Command, ExitCode, Stdio},
};

use clap::Parser;

use self::{
    case::{Case, Order, Tool, Way},
    figures::Figures,
    peers::Peers,
    server::{Known, Servers},
    support::{
        machine::{Cores, cpu_seconds, load_average, raise_file_limit},
        verdicts,
    },
    told::Told,
};

/// From this share of the cores on others disturb what is measured.
const DISTURBED: f64 = 0.03;

#[derive(Debug, Parser)]
struct Args {
    /// How often each case is measured; what is printed are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only cases with so many users; may be repeated.
    #[arg(long)]
    users: Vec<u32>,
    /// Measure AIPerf and GuideLLM, too. Both have to be on the path.
    #[arg(long)]
    peers: bool,
    /// What this process is to measure, in JSON: for itself.
    #[arg(long, hide = true)]
    order: Option<String>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(order) = &args.order {
        let order: Order = serde_json::from_str(order).expect("it is one of ours");
        let told = match order.tool {
            Tool::Ours => ours::measure(&order),
            _ => bare::measure(&order),
        };
        println!("{}", serde_json::to_string(&told).expect("it holds numbers"));
        return ExitCode::SUCCESS;
    }
    raise_file_limit();
    let peers = match args.peers.then(Peers::find).transpose() {
        Ok(peers) => peers,
        Err(missing) => {
            eprintln!("{missing}");
            return ExitCode::FAILURE;
        }
    };
    let folder = tempfile::tempdir().expect("there is room for files");
    let servers = Servers::start(folder.path());
    let cases = case::all(args.peers).into_iter();
    let cases = cases.filter(|case| args.users.is_empty() || args.users.contains(&case.users));
    let mut rows: Vec<_> = cases.map(|case| (case, Vec::new())).collect();
    let load = load_average();
    let ours = |servers: &Servers| cpu_seconds("self") + servers.cpu_seconds();
    let (cores, cpu) = (Cores::now(), ours(&servers));
    let mut realtime = false;
    for round in 1..=args.rounds {
        for (case, rounds) in &mut rows {
            eprintln!(
                "round {round} of {}: {}, {}, {} users",
                args.rounds,
                case.tool.name(),
                case.way.name(),
                case.users
            );
            let order = order(*case, &servers);
            let told = match &peers {
                Some(peers) if matches!(case.tool, Tool::AiPerf | Tool::GuideLlm) => peers.measure(&order),
                _ => by_a_process(&order),
            };
            realtime |= told.realtime;
            let known = Known::of(&order);
            rounds.push(Figures::of(&told, &known, case.users));
        }
    }
    let others = Cores::now().share_of_others(cores, ours(&servers) - cpu);
    println!(
        "error: measured less true, as the simulated server knows it; medians of {} rounds\n",
        args.rounds
    );
    println!("{}\n", table::table(&rows));
    let threads = if realtime { "real-time" } else { "ordinary" };
    println!(
        "measured by {threads} threads; load average before: {load}; others had {:.0} % of the CPU",
        others * 100.0
    );
    if others > DISTURBED {
        println!("THIS MACHINE WAS NOT QUIET: the figures are worse than they would be.");
    }
    let (lines, met) = verdicts(&table::bounds(&rows));
    println!("\n{lines}");
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn order(case: Case, servers: &Servers) -> Order {
    Order {
        tool: case.tool,
        users: case.users,
        address: servers.address(case.way),
        http2: case.way == Way::Http2,
        ca: (case.way == Way::Tls).then(|| servers.ca.clone()),
    }
}

/// This program again.
fn by_a_process(order: &Order) -> Told {
    let program = env::current_exe().expect("it is there");
    let order = serde_json::to_string(order).expect("it holds text and numbers");
    let output = Command::new(program)
        .args(["--order", &order])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("it starts");
    assert!(output.status.success(), "a process that measures failed: {order}");
    serde_json::from_slice(&output.stdout).expect("it tells what it measured")
}
