//! From a target to the records of its requests.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use llm_probe_exporter::{
    burst::Burst,
    calibration::Fit,
    client::Client,
    config::plan::{
        Connection, Dialect, Generation, HttpVersion, Probe, Reach, Series, Slo, Step, Target, TextMode,
        Timeouts,
    },
    gate::Gate,
    identity::{Headers, RequestId},
    lag::Lag,
    load::{Arrival, Load, Process, Rate, Volume},
    outcome::{Failure, Outcome},
    prompt::{Asked, Cache, Length, Prompt, Script, Scripts, Source},
    protection::Brake,
    record::Record,
    request::{Endpoint, Request, Waiting},
    summary::{Judged, Summary},
    units::{Name, Ratio, Tokens},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc::unbounded_channel},
    time::{Instant, timeout},
};

use super::ms;

pub(crate) const USER_AGENT: &str = "llm-probe-exporter/test";

/// Deadlines that no test reaches unless it means to.
pub(crate) const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    first_token: Duration::from_secs(10),
    stall: Duration::from_secs(10),
    total: Duration::from_secs(15),
};

/// Deadlines for tests that reach one.
pub(crate) const SHORT: Timeouts = Timeouts {
    connect: ms(200),
    first_token: ms(300),
    stall: ms(200),
    total: ms(1500),
};

/// The configuration does not let these through; they make a request panic when it adds them to its start.
pub(crate) const NO_CLOCK_CAN_HOLD: Timeouts = Timeouts {
    connect: Duration::MAX,
    first_token: Duration::MAX,
    stall: Duration::MAX,
    total: Duration::MAX,
};

pub(crate) fn target(address: SocketAddr) -> Target {
    Target {
        oauth2: None,
        name: Name::new("scripted").unwrap(),
        url: format!("http://{address}/v1").parse().unwrap(),
        api: Dialect::OpenaiChat,
        model: "m".into(),
        authorization: None,
        headers: Vec::new(),
        connection: Connection::New,
        http: HttpVersion::Http1,
        reach: Reach::default(),
        max_tokens_field: "max_tokens",
        reasoning: None,
        body: serde_json::Map::new(),
        text_mode: TextMode::Auto,
        replica_header: None,
        tokenizer: None,
        price: None,
        budget: None,
        busy: None,
        labels: std::collections::BTreeMap::new(),
        share: false,
    }
}

pub(crate) fn reusing(address: SocketAddr) -> Target {
    Target {
        connection: Connection::Reuse,
        ..target(address)
    }
}

pub(crate) fn ollama(address: SocketAddr) -> Target {
    Target {
        url: format!("http://{address}").parse().unwrap(),
        api: Dialect::OllamaChat,
        ..target(address)
    }
}

/// On the runtime of the test.
pub(crate) fn endpoint(target: &Target) -> Arc<Endpoint> {
    endpoint_behind(target, Gate::default())
}

pub(crate) fn endpoint_behind(target: &Target, gate: Gate) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        client: Client::new(target, USER_AGENT, &Handle::current()).unwrap(),
        dialect: target.api,
        text_mode: target.text_mode,
        replica_header: target.replica_header.clone(),
        gate,
        identity: Headers::default(),
        recording: None,
    })
}

pub(crate) fn request(endpoint: &Endpoint, target: &Target, timeouts: Timeouts) -> Request {
    let question = Prompt {
        source: Source::Written(Scripts::only(Script::of_text("Why?"))),
        system: None,
        cache: Cache::Share,
        prefix: None,
    }
    .begin(0, 0, &Fit::ASSUMED)
    .question;
    Request {
        number: 0,
        id: RequestId::new(fastrand::u128(..)),
        probe: Name::new("probe").unwrap(),
        asked: Asked::default(),
        warmup: false,
        intended: Instant::now(),
        waiting: Waiting::Order,
        body: endpoint
            .dialect
            .body(target, &question, Tokens(64), &Generation::default()),
        timeouts,
        keep_text: false,
        hand_back: false,
        in_flight: Arc::default(),
    }
}

/// One request to an endpoint that may be asked again; asserts what holds for every record.
pub(crate) async fn ask_again(endpoint: &Endpoint, target: &Target, timeouts: Timeouts) -> Record {
    let request = request(endpoint, target, timeouts);
    let in_flight = Arc::clone(&request.in_flight);
    let (deliver, mut records) = unbounded_channel();
    timeout(Duration::from_secs(20), request.run(endpoint, deliver))
        .await
        .expect("a request ends by its deadlines");
    let record = records.recv().await.expect("a record");
    assert!(records.recv().await.is_none(), "one record");
    assert_eq!(in_flight.load(Ordering::Relaxed), 0);
    assert_sound(&record);
    record
}

pub(crate) async fn ask(target: &Target, timeouts: Timeouts) -> Record {
    ask_again(&endpoint(target), target, timeouts).await
}

/// One request, which fails; the record with the failure.
pub(crate) async fn fails(target: &Target, timeouts: Timeouts) -> (Failure, Record) {
    let record = ask(target, timeouts).await;
    match record.outcome {
        Outcome::Failed(failure) => (failure, record),
        other => panic!("{other}: {record:?}"),
    }
}

/// What holds for every record: its instants are in order, and its detail is bounded.
pub(crate) fn assert_sound(record: &Record) {
    let line = &record.timeline;
    let instants = [
        ("intended", Some(line.intended)),
        ("start", line.start),
        ("connected", line.connected),
        ("headers", line.headers),
        ("byte", line.byte),
        ("first", line.first),
        ("second", line.second),
        ("last", line.last),
        ("end", line.end),
        ("ended", record.ended),
    ];
    let happened: Vec<_> = instants.into_iter().filter(|(_, at)| at.is_some()).collect();
    assert!(
        happened.windows(2).all(|pair| pair[0].1 <= pair[1].1),
        "not in order: {record:?}"
    );
    assert!(
        line.answer
            .is_none_or(|answer| line.first.unwrap() <= answer && answer <= line.last.unwrap())
    );
    // Where the end of the body is the marker (Triton), there need be no byte.
    assert!(
        line.finish
            .is_none_or(|finish| line.byte.or(line.end).unwrap() <= finish)
    );
    if let Some((first, last)) = line.first.zip(line.last) {
        assert_eq!(line.gaps.iter().sum::<Duration>(), last - first);
    }
    assert_eq!(line.first.is_some(), line.deltas > 0);
    match record.outcome {
        Outcome::Ok => assert!(record.detail.is_none() && record.ended.is_some()),
        Outcome::Failed(_) => assert!(record.detail.is_some() && record.ended.is_some(), "{record:?}"),
        Outcome::Invalid(_) => {}
    }
    assert!(
        record
            .detail
            .as_ref()
            .is_none_or(|detail| detail.len() <= Record::MAX_DETAIL)
    );
    assert!(
        record
            .detail
            .as_ref()
            .is_none_or(|detail| !detail.contains(char::is_control))
    );
}

/// A probe at `target` with `users` users, to be changed where a test needs it.
pub(crate) fn probe(target: Target) -> Probe {
    Probe {
        name: Name::new("probe").unwrap(),
        targets: vec![Arc::new(target)],
        every: Duration::from_mins(1),
        cron: None,
        calendar: llm_probe_exporter::calendar::Calendar::default(),
        jitter: Ratio::new(0.0).unwrap(),
        steps: Vec::new(),
        capacity: None,
        ladder_stop: None,
        settle: Duration::ZERO,
        warmup: 0,
        prompt: Prompt {
            source: Source::Synthetic(Length::Fixed(Tokens(32))),
            system: None,
            cache: Cache::Bust,
            prefix: None,
        },
        max_tokens: Tokens(64),
        generation: Generation::default(),
        timeouts: PATIENT,
        expect: None,
        budget: None,
        protect: None,
        labels: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn step(users: u32, volume: Volume) -> Step {
    Step {
        load: Load::Users(users),
        arrival: Arrival::Together,
        volume,
        slo: Slo::default(),
    }
}

/// An open loop.
pub(crate) fn open_step(per_second: f64, process: Process, volume: Volume) -> Step {
    Step {
        load: Load::Rate(Rate::new(per_second).unwrap()),
        arrival: Arrival::Rate(process),
        volume,
        slo: Slo::default(),
    }
}

/// One burst of a probe at its only target.
pub(crate) fn burst(probe: Probe, step: Step) -> Burst {
    burst_behind(probe, step, Gate::default())
}

pub(crate) fn burst_behind(probe: Probe, step: Step, gate: Gate) -> Burst {
    let target = Arc::clone(&probe.targets[0]);
    let endpoint = endpoint_behind(&target, gate);
    Burst {
        series: Series {
            probe: Arc::new(probe),
            target,
            step: Arc::new(step),
        },
        endpoint,
        in_flight: Arc::new(AtomicI64::new(0)),
        lag: Lag::default(),
        blocking: Handle::current(),
        asked_before: 0,
        brake: Brake::new(None),
        places: Arc::new(Semaphore::new(1024)),
        fit: Fit::ASSUMED,
    }
}

/// Runs a burst; asserts what holds for every burst.
pub(crate) async fn fire(burst: Burst) -> (Vec<Judged>, Summary) {
    let in_flight = Arc::clone(&burst.in_flight);
    let mut all = Vec::new();
    let summary = timeout(Duration::from_secs(30), burst.run(|judged| all.push(judged)))
        .await
        .expect("a burst ends by its deadlines");
    assert_eq!(in_flight.load(Ordering::Relaxed), 0);
    for judged in &all {
        assert_sound(&judged.record);
    }
    let measured: Vec<_> = all.iter().filter(|judged| !judged.record.warmup).collect();
    let mut numbers: Vec<_> = measured.iter().map(|judged| judged.record.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), measured.len(), "one record a request");
    assert_eq!(summary.requests, measured.len() as u64);
    let failures: u64 = summary.failures.values().sum();
    let invalid: u64 = summary.invalid.values().sum();
    assert_eq!(summary.successes + failures + invalid, summary.requests);
    assert!(summary.judged <= summary.requests + summary.withheld);
    (all, summary)
}
