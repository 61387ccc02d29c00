//! `calibrate`: how many concurrent requests this machine can be trusted to measure.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::ExitCode, sync::mpsc, thread};

use anyhow::{Context, anyhow};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::{
    CliError, descriptors,
    once::{BELOW_OBJECTIVE, Output},
    print,
    serve::{shutdown_signal, watch_lag},
};
use crate::{
    accuracy::{Accuracy, CONFIG, FAULTS, TRUSTED, USERS, trusted},
    config,
    runner::{Event, What},
    runtime::Runtimes,
    sim::{Profile, Server, Settings, server::Truth},
    summary::Judged,
    supervisor::{Shared, Supervisor},
    units::Seconds,
};

/// How often every load is measured: about 20 s in all.
const ROUNDS: usize = 4;

#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes:
  0 it can be trusted with one user or more   3 not even with one
  1 failed at run time                        2 bad usage")]
pub(super) struct CalibrateArgs {
    /// What is printed on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Calibration {
    loads: Vec<Accuracy>,
    /// Whether the threads that measured went before all others.
    realtime: bool,
    /// The p99 of the error, in seconds, up to which a load is trusted.
    trusted_error: f64,
    trusted_users: Option<u32>,
}

impl CalibrateArgs {
    pub(super) fn run(self, runtimes: &Runtimes) -> Result<ExitCode, CliError> {
        let calibration = calibrated(runtimes)?;
        match self.output {
            Output::Table => print(&calibration.text())?,
            Output::Json => {
                let json = serde_json::to_string_pretty(&calibration).map_err(anyhow::Error::from)?;
                print(&(json + "\n"))?;
            }
        }
        Ok(match calibration.trusted_users {
            Some(_) => ExitCode::SUCCESS,
            None => BELOW_OBJECTIVE.into(),
        })
    }
}

fn calibrated(runtimes: &Runtimes) -> Result<Calibration, CliError> {
    let stop = CancellationToken::new();
    let (address, truth) = server(stop.clone())?;
    let text = CONFIG.replace("ADDRESS", &address.to_string());
    let plan = config::parse(&text, "calibration", Path::new("."))?;
    descriptors::suffice_at_both_ends(&plan)?;
    let (in_force, realtime) = mpsc::channel();
    runtimes
        .measure_first(plan.global().realtime, move |now| {
            in_force.send(now).ok();
        })
        .map_err(CliError::usage)?;
    let (shared, told) = Shared::new(&plan, runtimes.service.handle());
    let (lag, metrics) = (shared.lag.clone(), shared.metrics.clone());
    let supervisor = Supervisor::new(&plan, shared)?;
    let beating = runtimes.measure.spawn(watch_lag(lag, metrics));
    let loads = runtimes.service.block_on(async {
        let interrupted = shutdown_signal()?;
        let collecting = tokio::spawn(collect(told));
        let measuring = runtimes.measure.spawn(async move {
            for _ in 0..ROUNDS {
                supervisor.run_once().await;
            }
        });
        tokio::select! {
            biased;
            () = interrupted.cancelled() => return Err(anyhow!("interrupted").into()),
            measured = measuring => measured.map_err(anyhow::Error::from)?,
        }
        collecting
            .await
            .map_err(|error| CliError::from(anyhow::Error::from(error)))
    })?;
    beating.abort();
    let truth = truth.requests();
    stop.cancel();
    let rows = loads
        .into_iter()
        .map(|(users, Load { requests, spreads })| Accuracy::of(users, &requests, spreads, &truth));
    let rows: Vec<_> = rows.collect();
    if rows.len() < USERS.len() {
        return Err(anyhow!("some loads were not measured; the log says why").into());
    }
    Ok(Calibration {
        // Should it have ended meanwhile, that was told last.
        realtime: realtime.try_iter().last().unwrap_or_default(),
        trusted_error: TRUSTED,
        trusted_users: trusted(&rows),
        loads: rows,
    })
}

/// What was measured at one load.
#[derive(Default)]
struct Load {
    requests: Vec<Judged>,
    spreads: Vec<Seconds>,
}

/// By users.
async fn collect(mut told: UnboundedReceiver<Event>) -> BTreeMap<u32, Load> {
    let mut loads: BTreeMap<_, Load> = BTreeMap::new();
    while let Some(Event { watched, what }) = told.recv().await {
        let load = loads.entry(watched.series.step.load.users()).or_default();
        match what {
            What::Request(judged) if !judged.record.warmup => load.requests.push(*judged),
            What::Ended(summary, _) => load.spreads.extend(summary.start_spread),
            _ => {}
        }
    }
    loads
}

/// A simulated server on a thread of its own, until `stop`, and what it really did.
fn server(stop: CancellationToken) -> anyhow::Result<(SocketAddr, Truth)> {
    let faults: Result<_, _> = FAULTS.iter().map(|fault| fault.parse()).collect();
    let settings = Settings {
        profile: Profile::H100_8B,
        slots: USERS.iter().max().and_then(|users| usize::try_from(*users).ok()),
        faults: faults?,
        ..Settings::default()
    };
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("simulator".into()).spawn(move || {
        let serve = async {
            let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), settings).await?;
            tell.send((server.local_addr()?, server.truth())).ok();
            server.run(stop).await
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(serve)) {
            tracing::error!(%error, "the simulated server ended");
        }
    })?;
    told.recv()
        .context("cannot start a simulated server; the log says why")
}

impl Calibration {
    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "users",
            "error p50",
            "p99",
            "max",
            "start spread",
            "requests",
            "lost",
        ]);
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let show = |value: Option<Seconds>| value.map_or_else(|| "–".into(), |value| value.to_string());
        for row in &self.loads {
            table.add_row([
                row.users.to_string(),
                show(row.error.map(|error| error.p50)),
                show(row.error.map(|error| error.p99)),
                show(row.error.map(|error| error.max)),
                show(row.start_spread),
                row.error.map_or(0, |error| error.count).to_string(),
                row.lost.to_string(),
            ]);
        }
        let realtime = if self.realtime { "real-time" } else { "ordinary" };
        let limit = Seconds::new(self.trusted_error);
        let verdict = match self.trusted_users {
            Some(users) => format!(
                "This machine can be trusted with bursts of up to {users} concurrent requests: of a hundred times to first \
                 token, 99 are wrong by {limit} at most."
            ),
            None => format!(
                "This machine cannot be trusted, not even with one request at a time: of a hundred times to first token, \
                 more than one is wrong by over {limit}. Give it more CPU, or let nothing else run beside."
            ),
        };
        format!(
            "error of the time to first token: measured less true, of {ROUNDS} cold bursts, by {realtime} threads\n\n{table}\n\n\
             {verdict}\nThe simulated server ran on the same cores: with the endpoint elsewhere it is better than this.\n"
        )
    }
}
