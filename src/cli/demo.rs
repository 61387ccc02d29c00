//! `demo`: the observation that this project is built on, retold on simulated servers.

use std::{net::SocketAddr, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{
    CliError,
    listen::{ListenAddress, listen},
    print,
    serve::{Arming, Exporter},
};
use crate::{
    board::Board,
    config,
    logs::Logs,
    pause::PauseSwitch,
    rhythm::Replica,
    runtime::Runtimes,
    sim,
    summary::{Stats, Summary},
    units::{Ratio, Seconds},
    web::{Door, Place, Rules},
};

/// The demo's configuration; its targets are replaced by the servers that the demo starts.
const CONFIG: &str = include_str!("../../config/demo.yaml");

/// Where the configuration has its servers, and the slots and faults of each, as the comment there has them.
const SERVERS: [(&str, usize, &[&str]); 5] = [
    ("127.0.0.1:18001", 1, &[]),
    ("127.0.0.1:18002", 1, &[]),
    ("127.0.0.1:18003", 1, &[]),
    ("127.0.0.1:18004", 4, &[]),
    ("127.0.0.1:18005", 1, &["status=500 every=7", "truncate every=11"]),
];

/// The probes of the observation, whose results are printed.
const STORY: [&str; 3] = ["single-user", "fifty-users", "fifty-users-judged"];

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Where to serve /metrics and the page.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9850"
    )]
    listen: ListenAddress,
}

impl DemoArgs {
    pub(super) fn run(self, runtimes: &Runtimes, logs: Logs) -> Result<ExitCode, CliError> {
        let stop_simulators = CancellationToken::new();
        let mut text = CONFIG.to_owned();
        for (placeholder, slots, faults) in SERVERS {
            let server = simulator(placeholder, slots, faults, stop_simulators.clone());
            let address = runtimes.service.block_on(server)?;
            text = text.replace(placeholder, &address.to_string());
        }
        let plan = config::parse(&text, "config/demo.yaml", Path::new("."))?;
        let exporter = Exporter::new(&plan, runtimes, Replica::default(), PauseSwitch::default(), logs)?;
        runtimes.service.block_on(async {
            let listeners = listen(&[self.listen]).await?;
            let page = listeners.first().map(ToString::to_string);
            let tell = tokio::spawn(tell_the_story(exporter.board.clone(), page));
            let run = exporter
                .run(
                    listeners,
                    Door::new(Rules::default(), Place::default()),
                    runtimes.measure.handle(),
                    Arming::Now,
                )
                .await;
            tell.abort();
            run
        })?;
        stop_simulators.cancel();
        Ok(ExitCode::SUCCESS)
    }
}

/// Starts a simulated server where the configuration has it, or else on a free port of this machine.
async fn simulator(
    wished: &str,
    slots: usize,
    faults: &[&str],
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let faults = faults.iter().map(|rule| rule.parse()).collect::<Result<_, _>>();
    let settings = sim::Settings {
        slots: Some(slots),
        faults: faults.map_err(|error| anyhow!("a fault of the demo: {error}"))?,
        ..sim::Settings::default()
    };
    let server = match sim::Server::bind(wished.parse()?, settings.clone()).await {
        Ok(server) => server,
        Err(_) => sim::Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), settings)
            .await
            .context("cannot start a simulated server")?,
    };
    let address = server.local_addr()?;
    tokio::spawn(server.run(stop));
    Ok(address)
}

/// Prints what is going on, and the table of the three bursts of the observation once there is one of each.
async fn tell_the_story(board: Board, page: Option<String>) -> std::io::Result<()> {
    let page = page.map_or_else(String::new, |page| {
        format!("Open http://{page}/ and http://{page}/metrics\n")
    });
    print(&format!(
        "\nFive simulated inference servers, one probe at each. Three have one slot: they tell the story.\n\
         {page}\
         Fifty users take 45 s; then the first results stand here. Ctrl-C ends it.\n\n"
    ))?;
    let summaries = loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let rows = board.rows();
        let of_probe = |name: &str| {
            rows.iter()
                .find(|row| row.watched.series.probe.name.as_str() == name)
        };
        let ended = STORY.map(|name| Some((name, of_probe(name)?.last.as_ref()?.summary.clone())));
        let ended: Vec<_> = ended.into_iter().flatten().collect();
        if ended.len() == STORY.len() {
            break ended;
        }
    };
    for (probe, summary) in &summaries {
        print(&format!("{probe:<20} {}\n", in_one_line(summary)))?;
    }
    print(
        "\nWith fifty users the first token takes two orders of magnitude longer; inter-token latency is the same,\n\
         every request succeeds, and /health says 200. Only goodput tells what the users felt.\n\
         The probes go on: watch the page.\n\n",
    )
}

fn in_one_line(summary: &Summary) -> String {
    let show = |value: Option<Seconds>| value.map_or_else(|| "–".into(), |value| value.to_string());
    let p99 = |stats: Option<Stats>| show(stats.map(|stats| stats.p99));
    let p50 = |stats: Option<Stats>| show(stats.map(|stats| stats.p50));
    format!(
        "TTFT p50 {:>8}  p99 {:>8}   ITL p50 {:>8}   goodput {:>6}",
        p50(summary.ttft),
        p99(summary.ttft),
        p50(summary.itl),
        summary
            .goodput
            .map_or_else(|| "–".into(), |goodput: Ratio| goodput.to_string()),
    )
}
