//! The engine of the exporter, put together as `serve` does it: supervisor, measuring runtime, heartbeat, books.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use llm_probe_exporter::{
    board::Board,
    config,
    outcome::Outcome,
    runner::{Event, What},
    runtime::Runtimes,
    summary::Judged,
    supervisor::{Shared, Supervisor},
    units::Seconds,
};
use tokio::{
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
    time::sleep,
};

use crate::{
    case::Order,
    support::machine::{memory, own_cpu_seconds},
    told::{Request, Told},
};

/// Between bursts: connections close, and the books are kept.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);

pub(crate) fn measure(order: &Order) -> Told {
    let runtimes = Runtimes::start().expect("threads can be started");
    let plan = config::parse(&configuration(order), "accuracy", Path::new("."));
    let plan = plan.expect("the configuration is valid");
    let (in_force, realtime) = mpsc::channel();
    let wish = plan.global().realtime;
    runtimes
        .measure_first(wish, move |now| {
            in_force.send(now).ok();
        })
        .expect("it is not required");
    let (shared, events) = Shared::new(&plan, runtimes.service.handle());
    let (lag, metrics) = (shared.lag.clone(), shared.metrics.clone());
    let supervisor = Supervisor::new(&plan, shared).expect("a client can be built");
    let beating = runtimes
        .measure
        .spawn(lag.watch(move |late| metrics.runtime_lag(late)));
    let board = Board::default();
    board.follow(&supervisor, plan.redacted());
    let collecting = runtimes.service.spawn(collect(events, board));
    let bursts = order.bursts();
    let measuring = runtimes.measure.spawn(async move {
        // The first burst meets a process that has just begun, which an exporter has not.
        supervisor.run_once().await;
        sleep(SETTLE).await;
        let before = own_cpu_seconds();
        for _ in 0..bursts {
            supervisor.run_once().await;
            sleep(SETTLE).await;
        }
        own_cpu_seconds() - before
    });
    let measured = runtimes.service.block_on(measuring);
    let cpu_seconds = measured.expect("bursts come to their end");
    let requests = runtimes.service.block_on(collecting);
    beating.abort();
    Told {
        realtime: realtime.try_iter().last().unwrap_or_default(),
        cpu_seconds,
        share: 1.0,
        peak_memory: memory("self", "VmHWM"),
        requests: requests.expect("all of them are told of"),
    }
}

fn configuration(order: &Order) -> String {
    let url = order.url();
    let http = if order.http2 { "2" } else { "1.1" };
    let tls = order.ca.as_ref().map_or_else(String::new, |file| {
        format!(", tls: {{ ca_file: '{}' }}", file.display())
    });
    let (users, tokens) = (order.users, order.tokens());
    let requests = users * order.requests_each();
    format!(
        "global: {{ max_in_flight: {users} }}\n\
         targets: [{{ name: simulated, url: '{url}', api: openai_chat, model: simulated, http: '{http}'{tls} }}]\n\
         probes:\n  - {{ name: accuracy, every: 1h, concurrency: {users}, requests: {requests}, protect: off, \
         max_tokens: {tokens}, prompt: {{ text: Count }}, timeouts: {{ total: 60s }} }}\n"
    )
}

/// Keeps a few numbers of each measured request, as the books are kept.
async fn collect(mut events: UnboundedReceiver<Event>, board: Board) -> Vec<Request> {
    let (keep, kept) = unbounded_channel();
    let books = tokio::spawn(board.keep(Arc::new(Mutex::new(kept))));
    let (mut requests, mut bursts) = (Vec::new(), 0);
    while let Some(event) = events.recv().await {
        match &event.what {
            What::Request(judged) if bursts > 0 => requests.push(request(judged, bursts)),
            What::Ended(..) => bursts += 1,
            _ => {}
        }
        keep.send(event).expect("the books are kept to the end");
    }
    drop(keep);
    books.await.expect("the books are kept to the end");
    requests
}

fn request(judged: &Judged, burst: u32) -> Request {
    let Judged { record, measured, .. } = judged;
    let ok = record.outcome == Outcome::Ok;
    if let Some(detail) = &record.detail {
        eprintln!("{}: {detail}", record.outcome.as_str());
    }
    Request {
        id: record.id.map(|id| id.to_string()).unwrap_or_default(),
        burst: Some(burst),
        ttft: measured.ttft.filter(|_| ok).map(Seconds::get),
        itl: measured.itl.map(Seconds::get),
        gaps: record.timeline.gaps.iter().map(Duration::as_secs_f64).collect(),
        handshake: measured.phases.tls.map_or(0.0, Seconds::get),
    }
}
