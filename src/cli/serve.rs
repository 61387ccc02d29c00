//! `serve`: the exporter as a daemon.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    CliError, ConfigArgs, LimitArgs, descriptors, hang_up::HangUps, pausing::PauseArgs, probing::ProbeArgs,
    reload::Source, shard::ShardArgs, warn_of, web::WebArgs,
};
use crate::{
    baseline::Baselines,
    board::Board,
    calibration::Calibrations,
    clock::unix_now,
    config::plan::Plan,
    demand::Demand,
    discovery::{self, Discovery, Known, Settled},
    health::Health,
    lag::Lag,
    logs::Logs,
    metrics::Metrics,
    pause::PauseSwitch,
    protection::Protection,
    reload::{Order, Reloader},
    restart,
    rhythm::Replica,
    runtime::Runtimes,
    shard::Shard,
    state::{State, Storage},
    supervisor::{Shared, Supervisor},
    systemd,
    web::{self, App, Door, Life, Listener, Probing, Switch},
};

/// How long the first scrape is waited for before the first burst.
const FIRST_SCRAPE: Duration = Duration::from_secs(30);

/// How often what survives restarts is saved when it changed.
const SAVE_EVERY: Duration = Duration::from_secs(1);

pub(super) const NOT_KEPT: &str =
    "budgets are kept in memory only, so that a restart resets them: name a directory with --storage.path";

/// A file system that does not take the state in this time does not hold up the end.
const LAST_SAVE: Duration = Duration::from_secs(5);

/// How long running bursts may go on at the end.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    limit: LimitArgs,

    /// A directory, which is there and nobody else's, for what is to survive restarts: what was used of budgets, and the
    /// baselines and lengths of words that were learned.
    #[arg(long = "storage.path", value_name = "DIR", env = "LLM_PROBE_STORAGE_PATH")]
    storage: Option<PathBuf>,

    #[command(flatten)]
    web: WebArgs,

    /// Let POST /-/pause stop all probing and POST /-/resume let it go on, and POST /-/reload read the
    /// configuration again, as SIGHUP does.
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,

    /// Read the configuration again whenever its file changes, also when Kubernetes mounts it anew.
    #[arg(long = "config.watch")]
    watch_config: bool,

    #[command(flatten)]
    probing: ProbeArgs,

    #[command(flatten)]
    pause: PauseArgs,

    /// Which replica this is, from 0: of several exporters with the same configuration, replica I of N fires the
    /// bursts n with n mod N = I. The load stays the same; when one dies, the others' samples remain.
    #[arg(
        long = "replica.index",
        value_name = "I",
        env = "LLM_PROBE_REPLICA_INDEX",
        default_value_t = 0
    )]
    replica_index: u32,

    /// How many replicas there are.
    #[arg(
        long = "replica.total",
        value_name = "N",
        env = "LLM_PROBE_REPLICA_TOTAL",
        default_value_t = 1
    )]
    replica_total: u32,

    #[command(flatten)]
    shard: ShardArgs,
}

impl ServeArgs {
    fn replica(&self) -> Result<Replica, CliError> {
        let (index, total) = (self.replica_index, self.replica_total);
        Replica::new(index, total).ok_or_else(|| {
            let mend = match total {
                0 => "write --replica.total=1 or more".to_owned(),
                1 => "write how many replicas there are, such as --replica.total=2".to_owned(),
                _ => format!(
                    "replicas are counted from 0: write --replica.index={} or less",
                    total - 1
                ),
            };
            CliError::usage(anyhow!(
                "--replica.index={index} is not below --replica.total={total}; {mend}"
            ))
        })
    }

    /// What is in force first. A list that makes no plan does not keep the exporter from its start: it may be mended
    /// while it runs.
    fn first_plan(
        &self,
        known: &Known,
        replica: Replica,
        shard: Shard,
        runtimes: &Runtimes,
    ) -> Result<Settled, CliError> {
        let service = &runtimes.service;
        let now = |plan: &Plan| {
            let mut got = discovery::read_files(plan);
            got.extend(service.block_on(discovery::ask(plan, service.handle())));
            got
        };
        let settled = known.settle(now, |lists| {
            let plan = self.config.load(lists)?.of_shard(shard);
            fits(&plan, replica)?;
            descriptors::suffice(&plan)?;
            Ok::<_, CliError>(plan)
        })?;
        warn_of(&settled.plan);
        Ok(settled)
    }

    pub(super) fn run(self, runtimes: &Runtimes, logs: Logs) -> Result<ExitCode, CliError> {
        let service = runtimes.service.handle();
        let hang_ups = HangUps::new(service)?;
        let replica = self.replica()?;
        let shard = self.shard.shard()?;
        let known = Known::default();
        let settled = self.first_plan(&known, replica, shard, runtimes)?;
        let plan = &settled.plan;
        let (reloader, orders) = Reloader::new();
        let mut exporter = Exporter::new(plan, runtimes, replica, self.pause.switch(), logs)?;
        exporter.probing = self.probing.offset()?;
        exporter.lifecycle = self.enable_lifecycle.then(|| reloader.clone());
        exporter.metrics.sharded(shard);
        self.limit.check(exporter.metrics.samples())?;
        let metrics = exporter.metrics.clone();
        runtimes
            .measure_first(plan.global().realtime, move |in_force| metrics.realtime(in_force))
            .map_err(CliError::usage)?;
        match &self.storage {
            Some(directory) => exporter.keep_in(directory)?,
            None if plan.has_budgets() => tracing::warn!("{NOT_KEPT}"),
            None => {}
        }
        let file = self.config.config_file.clone();
        let mut discovery = Discovery::new(known, reloader.clone(), exporter.metrics.clone(), service);
        discovery.follow(&settled);
        let source = Source {
            replica,
            discovery,
            shard,
            labels: plan.global().labels.clone(),
            exposition: plan.global().exposition.clone(),
            realtime: plan.global().realtime,
            config: self.config,
            limit: self.limit,
        };
        exporter.follows = Some((source, orders));
        drop(settled);
        let metrics = exporter.metrics.clone();
        runtimes.service.block_on(async {
            let (listeners, door) = self.web.open(&exporter.metrics).await?;
            if !shard.is_alone() {
                let (index, total) = (shard.index(), shard.total());
                tracing::info!(
                    index,
                    total,
                    series = exporter.supervisor.watched().count(),
                    "shard"
                );
            }
            let reload = {
                let reloader = reloader.clone();
                move || hang_ups.clone().reload_at_each(reloader.clone())
            };
            restart::spawn(service, "SIGHUP", &metrics, reload);
            if self.watch_config {
                let watch = move || reloader.clone().keep_watching(file.clone());
                restart::spawn(service, "configuration file", &metrics, watch);
            }
            exporter
                .run(listeners, door, runtimes.measure.handle(), Arming::AtFirstScrape)
                .await
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether the bursts of the plan fit what this replica may use of their budgets.
pub(super) fn fits(plan: &Plan, replica: Replica) -> Result<(), CliError> {
    match plan.misfit(replica.total()) {
        Some(misfit) => Err(CliError::usage(anyhow!("{misfit}"))),
        None => Ok(()),
    }
}

/// When the schedule is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arming {
    /// At the first scrape, so that Prometheus sees the first burst's counters rise from zero.
    AtFirstScrape,
    /// Now, and all first bursts at once.
    Now,
}

/// An exporter that is set up and has not sent anything yet.
pub(super) struct Exporter {
    pub(super) supervisor: Supervisor,
    pub(super) metrics: Metrics,
    baselines: Baselines,
    calibrations: Calibrations,
    pub(super) board: Board,
    lag: Lag,
    pause: PauseSwitch,
    logs: Logs,
    /// Where reloads are asked for over HTTP, if it may be paused and reloaded so.
    lifecycle: Option<Reloader>,
    /// If bursts may be asked for over HTTP: how much earlier than the scraper's patience ends they do.
    probing: Option<Duration>,
    /// What is read again when somebody asks for it.
    follows: Option<(Source, mpsc::Receiver<Order>)>,
    /// Ends when all that was told is in the books.
    books: JoinHandle<()>,
    /// Where is kept what survives restarts.
    storage: Option<(Storage, State)>,
}

impl Exporter {
    /// Sets up probes, metrics and books; the books are kept on the service runtime.
    pub(super) fn new(
        plan: &Plan,
        runtimes: &Runtimes,
        replica: Replica,
        pause: PauseSwitch,
        logs: Logs,
    ) -> Result<Self, CliError> {
        let (mut shared, told) = Shared::new(plan, runtimes.service.handle());
        shared.replica = replica;
        shared.pause = pause;
        let (metrics, baselines) = (shared.metrics.clone(), shared.baselines.clone());
        let calibrations = shared.calibrations.clone();
        let (lag, pause) = (shared.lag.clone(), shared.pause.clone());
        let supervisor = Supervisor::new(plan, shared)?;
        metrics.config_loaded(unix_now());
        let board = Board::default();
        board.follow(&supervisor, plan.redacted());
        let (kept, told) = (board.clone(), Arc::new(Mutex::new(told)));
        let keep = move || kept.clone().keep(Arc::clone(&told));
        let books = restart::spawn(runtimes.service.handle(), "books", &metrics, keep);
        Ok(Self {
            supervisor,
            metrics,
            baselines,
            calibrations,
            board,
            lag,
            pause,
            logs,
            lifecycle: None,
            probing: None,
            follows: None,
            books,
            storage: None,
        })
    }

    /// Takes up what is kept in `directory`, and keeps it there from now on.
    fn keep_in(&mut self, directory: &Path) -> Result<(), CliError> {
        let opened = Storage::open(directory)
            .with_context(|| format!("--storage.path: {} cannot be used", directory.display()));
        let (storage, state) = opened.map_err(CliError::usage)?;
        {
            let protection = self.supervisor.protection();
            let protection = protection.borrow();
            protection.restore(&state.budgets);
            protection.restore_backoffs(&state.backoffs);
        }
        self.baselines.restore(&state.baselines, unix_now());
        for watched in self.supervisor.watched() {
            let baseline = self.baselines.of(&watched.series.lasting_name());
            watched.metrics.usual(&baseline);
        }
        self.calibrations.restore(&state.calibrations, unix_now());
        self.storage = Some((storage, state));
        Ok(())
    }

    /// Serves until a signal, then drains.
    pub(super) async fn run(
        mut self,
        listeners: Vec<Listener>,
        door: Door,
        measure: &Handle,
        arming: Arming,
    ) -> Result<(), CliError> {
        let stop = shutdown_signal()?;
        let (scraped, mut first_scrape) = watch::channel(false);
        let (life, life_seen) = watch::channel(Life::Starting);
        let health = Health::new(self.lag.clone());
        let app = self.app(health.clone(), life_seen, scraped, measure);
        for listener in &listeners {
            tracing::info!(address = %listener, tls = door.speaks_tls(), "listening");
        }
        let web_stop = CancellationToken::new();
        let (service, metrics) = (&Handle::current(), &self.metrics);
        let serving = web::serve(listeners, door, app.router(), metrics.clone(), web_stop.clone());
        let mut web = tokio::spawn(serving);
        let beat = {
            let (lag, metrics) = (self.lag.clone(), metrics.clone());
            move || watch_lag(lag.clone(), metrics.clone())
        };
        let beating = restart::spawn(measure, "heartbeat", metrics, beat);
        let look = move || health.clone().keep_looking();
        let watching = restart::spawn(service, "health", metrics, look);
        let drained = CancellationToken::new();
        let keeping = self.keep_state(&drained);

        // Nothing is sent before it is known whether it may be.
        self.pause.look(&Handle::current()).await;
        let looking = {
            let (pause, handle) = (self.pause.clone(), service.clone());
            let look = move || pause.clone().keep_looking(handle.clone());
            restart::spawn(service, "kill switch", metrics, look)
        };
        let telling = {
            let (pause, told) = (self.pause.clone(), metrics.clone());
            let tell = move || tell_of_pauses(pause.clone(), told.clone());
            restart::spawn(service, "kill switch told", metrics, tell)
        };

        systemd::ready("waiting for the first scrape").await;
        let (mut source, mut orders) = self.follows.take().unzip();
        let scraped = first_scrape.wait_for(|&scraped| scraped);
        let may_begin = async {
            if arming == Arming::AtFirstScrape {
                // Whoever tells of scrapes lives as long as the web.
                timeout(FIRST_SCRAPE, scraped).await.ok();
            }
        };
        let mut may_begin = std::pin::pin!(may_begin);
        let mut armed = false;
        // Of a web server that has ended by itself: how.
        let mut web_ended = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ended = &mut web => {
                    web_ended = Some(ended);
                    break;
                }
                () = &mut may_begin, if !armed => {
                    armed = true;
                    self.supervisor.arm(measure, arming == Arming::Now);
                    life.send_replace(Life::Armed);
                    tracing::info!(series = self.supervisor.watched().count(), "schedule armed");
                    systemd::status(&self.probing()).await;
                }
                order = next(&mut orders) => {
                    if let Some(source) = &mut source {
                        systemd::reloading().await;
                        self.reload(order, source).await;
                        systemd::ready(&self.probing()).await;
                    }
                }
            }
        }
        drop(orders);
        life.send_replace(Life::Draining);
        tracing::info!(grace_seconds = GRACE.as_secs(), "draining");
        systemd::stopping().await;
        self.supervisor.drain(GRACE).await;
        drained.cancel();
        if let Some(keeping) = keeping {
            saved_last(keeping).await;
        }
        // Nobody tells anything any more: what was told last is written down before the end.
        drop(self.supervisor);
        if let Err(error) = self.books.await {
            tracing::error!(%error, "the last bursts are not in the books");
        }
        for task in [beating, watching, looking, telling] {
            task.abort();
        }
        if let Some(ended) = web_ended {
            let why = ended.map_or_else(|error| error.to_string(), |()| "it has ended".to_owned());
            return Err(anyhow!("the web server died, which is a defect of this program: {why}").into());
        }
        web_stop.cancel();
        if let Err(error) = web.await {
            tracing::error!(%error, "the web server failed");
        }
        tracing::info!("drained");
        Ok(())
    }
}

impl Exporter {
    /// Keeps what survives restarts until all bursts are drained, where that is wished for.
    fn keep_state(&self, drained: &CancellationToken) -> Option<JoinHandle<()>> {
        let (storage, state) = self.storage.clone()?;
        let (protection, drained) = (self.supervisor.protection(), drained.clone());
        let (baselines, calibrations) = (self.baselines.clone(), self.calibrations.clone());
        let keep = move || {
            keep(
                storage.clone(),
                state.clone(),
                protection.clone(),
                baselines.clone(),
                calibrations.clone(),
                drained.clone(),
            )
        };
        Some(restart::spawn(&Handle::current(), "state", &self.metrics, keep))
    }

    /// What is served.
    fn app(
        &self,
        health: Health,
        life: watch::Receiver<Life>,
        scraped: watch::Sender<bool>,
        measure: &Handle,
    ) -> App {
        App::new(
            self.metrics.clone(),
            self.board.clone(),
            health,
            life,
            scraped,
            Switch {
                pause: self.pause.clone(),
                lifecycle: self.lifecycle.clone(),
                probing: self.probing.map(|offset| Probing {
                    demand: Demand::new(&self.supervisor, &self.metrics, measure),
                    offset,
                }),
            },
            self.logs.clone(),
        )
    }

    /// What it does once the schedule is armed, in words.
    fn probing(&self) -> String {
        format!("probing {} series", self.supervisor.watched().count())
    }
}

/// Waits until what was used last is kept.
async fn saved_last(keeping: JoinHandle<()>) {
    match timeout(LAST_SAVE, keeping).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "what was used last is not kept"),
        Err(_) => tracing::error!(
            "what was used last is not kept: the file system of --storage.path does not answer"
        ),
    }
}

/// Saves what changed, at most once a second, and at last when all bursts are drained. A disk that is full stops
/// nothing: what is used is counted on.
async fn keep(
    storage: Storage,
    mut state: State,
    mut in_force: watch::Receiver<Protection>,
    baselines: Baselines,
    calibrations: Calibrations,
    drained: CancellationToken,
) {
    let mut failing = false;
    loop {
        let is_last = timeout(SAVE_EVERY, drained.cancelled()).await.is_ok();
        let protection = in_force.borrow_and_update().clone();
        let (spent, calibrated) = (protection.has_changed(), calibrations.have_changed());
        if baselines.have_changed() || spent || calibrated || failing {
            state.budgets = protection.kept();
            state.backoffs = protection.backoffs();
            state.baselines = baselines.kept();
            state.calibrations = calibrations.kept();
            let (storage, state) = (storage.clone(), state.clone());
            let saved = tokio::task::spawn_blocking(move || storage.save(&state)).await;
            match saved.map_err(io::Error::other).flatten() {
                Ok(()) => {
                    if failing {
                        tracing::info!("the state is saved again");
                    }
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the state cannot be saved: counting goes on, but a restart would forget it");
                    }
                    failing = true;
                }
            }
        }
        if is_last {
            return;
        }
    }
}

pub(super) async fn watch_lag(lag: Lag, metrics: Metrics) {
    if let Err(error) = lag.watch(move |late| metrics.runtime_lag(late)).await {
        tracing::error!(%error, "no heartbeat: error bounds of measurements are unknown");
    }
}

async fn tell_of_pauses(pause: PauseSwitch, metrics: Metrics) {
    let mut holds = pause.watch();
    loop {
        metrics.paused(holds.borrow_and_update().since());
        if holds.changed().await.is_err() {
            return;
        }
    }
}

/// The next order; never, where none can come.
async fn next(orders: &mut Option<mpsc::Receiver<Order>>) -> Order {
    if let Some(orders) = orders
        && let Some(order) = orders.recv().await
    {
        return order;
    }
    std::future::pending().await
}

/// Cancelled by SIGTERM or SIGINT. Call it on a runtime. A second signal has no further effect: the drain is
/// bounded in time.
pub(super) fn shutdown_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
