//! What the prober says about each thing that the simulator does wrong, end to end.

use std::net::SocketAddr;

use llm_probe_exporter::{
    config::{
        plan::{Header, HttpVersion, Target, Timeouts},
        secret::Secret,
    },
    outcome::{Failure, Outcome},
    sim::journal::End,
};

use tokio::task::JoinSet;

use super::{
    client::Simulator,
    support::{engine, engine::ask, ms},
};

/// The simulator's model answers within 100 ms, also on a busy machine. The stall limit is the shortest.
const TIMEOUTS: Timeouts = Timeouts {
    connect: ms(500),
    first_token: ms(1000),
    stall: ms(700),
    total: ms(4000),
};

const OPENAI: fn(SocketAddr) -> Target = |address| Target {
    model: "simulated".into(),
    ..engine::target(address)
};

const OLLAMA: fn(SocketAddr) -> Target = |address| Target {
    model: "simulated".into(),
    ..engine::ollama(address)
};

const OK: Outcome = Outcome::Ok;

const fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}

/// A rule and the verdict on it.
const TABLE: &[(&str, Outcome)] = &[
    ("stall@head", failed(Failure::HeadersTimeout)),
    ("delay=2s", failed(Failure::HeadersTimeout)),
    ("stall", failed(Failure::FirstTokenTimeout)),
    ("comments", failed(Failure::FirstTokenTimeout)),
    ("pings", failed(Failure::FirstTokenTimeout)),
    ("cold=2s", failed(Failure::HeadersTimeout)),
    ("slow=900", failed(Failure::FirstTokenTimeout)),
    ("stall@3", failed(Failure::StallTimeout)),
    ("stall@end", failed(Failure::StallTimeout)),
    ("stall=2s@3", failed(Failure::StallTimeout)),
    ("comments=50ms@3", failed(Failure::StallTimeout)),
    ("pings=50ms@3", failed(Failure::StallTimeout)),
    ("drip=200ms", failed(Failure::TotalTimeout)),
    ("reset", failed(Failure::ConnectionLost)),
    ("reset@3", failed(Failure::ConnectionLost)),
    ("close", failed(Failure::ConnectionLost)),
    ("close@3", failed(Failure::ConnectionLost)),
    ("close@end", failed(Failure::ConnectionLost)),
    ("goaway@3", failed(Failure::ConnectionLost)),
    ("truncate@0", failed(Failure::Truncated)),
    ("truncate@3", failed(Failure::Truncated)),
    ("truncate", failed(Failure::Truncated)),
    ("redirect", failed(Failure::Redirect)),
    ("redirect=302", failed(Failure::Redirect)),
    ("status=401", failed(Failure::Unauthorized)),
    ("status=403", failed(Failure::Unauthorized)),
    ("status=404", failed(Failure::ClientError)),
    ("status=429 retry-after=20", failed(Failure::RateLimited)),
    ("limit=1/1h", failed(Failure::RateLimited)),
    ("status=500", failed(Failure::ServerError)),
    ("status=502", failed(Failure::ServerError)),
    ("status=504", failed(Failure::ServerError)),
    ("status=503", failed(Failure::Overloaded)),
    ("status=529", failed(Failure::Overloaded)),
    ("html", failed(Failure::ContentType)),
    ("content-type=text/plain", failed(Failure::ContentType)),
    ("error", failed(Failure::ApiError)),
    ("error@3", failed(Failure::ApiError)),
    ("error@end", failed(Failure::ApiError)),
    ("garbage", failed(Failure::Malformed)),
    ("garbage@3", failed(Failure::Malformed)),
    ("empty", failed(Failure::Empty)),
    // What only looks strange.
    ("coalesce=16", OK),
    ("coalesce=50ms", OK),
    ("per-frame=5", OK),
    ("split=1", OK),
    ("usage=continuous", OK),
    ("usage=none", OK),
    ("reasoning=8", OK),
    ("reasoning-content=8", OK),
    ("hidden-reasoning=8", OK),
    ("cache=1000", OK),
    ("slow=2", OK),
    ("cold=100ms", OK),
    ("stall=100ms@3", OK),
    ("stall every=2", OK),
    ("drift=10%/1m", OK),
];

/// Asks under each rule, some at a time since most only wait, and compares the verdicts with the table and with
/// what the simulator says it did.
async fn judge(target: fn(SocketAddr) -> Target, table: &'static [(&'static str, Outcome)]) {
    let mut wrong = Vec::new();
    for some in table.chunks(8) {
        let rows: JoinSet<_> = some
            .iter()
            .map(|(rule, expected)| judge_one(target, rule, *expected))
            .collect();
        wrong.extend(rows.join_all().await.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with the verdict.
async fn judge_one(
    target: fn(SocketAddr) -> Target,
    rule: &'static str,
    expected: Outcome,
) -> Option<String> {
    let simulator = Simulator::with(&[rule]).await;
    let target = target(simulator.address);
    let mut outcome = ask(&target, TIMEOUTS).await.outcome;
    let mut asked = 1;
    if rule.starts_with("limit") {
        assert_eq!(outcome, OK, "the first is let in");
        outcome = ask(&target, TIMEOUTS).await.outcome;
        asked = 2;
    }
    let truth = simulator.last(asked).await;
    println!("{rule:<28} {:<20} {:?}", outcome.as_str(), truth.end);
    let label = rule.split(' ').next().unwrap();
    let told = truth.faults.iter().any(|fault| fault == label);
    let well = truth.end == End::Completed && truth.output_tokens > 0;
    if outcome != expected {
        Some(format!("{rule}: {outcome} and not {expected}"))
    } else if told == (rule == "stall every=2") {
        Some(format!("{rule}: the truth says {:?}", truth.faults))
    } else if well && outcome != Outcome::Ok && !rule.starts_with("content-type")
        || outcome == Outcome::Ok && !well
    {
        Some(format!("{rule}: {outcome}, but the truth says {:?}", truth.end))
    } else {
        None
    }
}

#[tokio::test]
async fn on_openai_chat() {
    judge(OPENAI, TABLE).await;
}

#[tokio::test]
async fn on_ollama_chat() {
    judge(OLLAMA, TABLE).await;
}

#[tokio::test]
async fn on_an_overload_inside_a_stream() {
    const OVERLOADED: &[(&str, Outcome)] = &[("error=overloaded@2", failed(Failure::Overloaded))];
    judge(OLLAMA, OVERLOADED).await;
    judge(OPENAI, OVERLOADED).await;
}

#[tokio::test]
async fn on_http2() {
    let http2 = |address| Target {
        http: HttpVersion::Http2,
        ..OPENAI(address)
    };
    judge(
        http2,
        const {
            &[
                ("usage=continuous", OK),
                ("split=1", OK),
                ("coalesce=16", OK),
                ("stall@3", failed(Failure::StallTimeout)),
                ("stall@head", failed(Failure::HeadersTimeout)),
                ("reset", failed(Failure::ConnectionLost)),
                ("reset@3", failed(Failure::ConnectionLost)),
                ("close@3", failed(Failure::ConnectionLost)),
                ("goaway", failed(Failure::ConnectionLost)),
                ("goaway@3", failed(Failure::ConnectionLost)),
                ("truncate@3", failed(Failure::Truncated)),
                ("error@3", failed(Failure::ApiError)),
                ("status=429", failed(Failure::RateLimited)),
            ]
        },
    )
    .await;
}

#[tokio::test]
async fn on_a_door_that_is_shut_or_not_answered() {
    for (rule, expected) in [
        ("refuse to=3s", Failure::ConnectRefused),
        ("deaf to=3s", Failure::ConnectTimeout),
    ] {
        let simulator = Simulator::with(&[rule]).await;
        tokio::time::sleep(ms(200)).await; // to change over
        let record = ask(&OPENAI(simulator.address), TIMEOUTS).await;
        assert_eq!(record.outcome, failed(expected), "{rule}: {:?}", record.detail);
    }
}

#[tokio::test]
async fn on_tokens_that_are_counted_as_the_simulator_counts_them() {
    for rule in [
        "hidden-reasoning=8",
        "reasoning=8",
        "per-frame=5",
        "coalesce=7",
        "usage=continuous",
    ] {
        let simulator = Simulator::with(&[rule]).await;
        let record = ask(&OPENAI(simulator.address), TIMEOUTS).await;
        let truth = simulator.last(1).await;
        assert_eq!(
            record.usage.output.map(|tokens| tokens.0),
            Some(truth.output_tokens),
            "{rule}"
        );
        assert_eq!(
            record.usage.prompt.map(|tokens| tokens.0),
            Some(truth.prompt_tokens),
            "{rule}"
        );
        if truth.reasoning_tokens > 0 {
            assert_eq!(
                record.usage.reasoning.map(|tokens| tokens.0),
                Some(truth.reasoning_tokens),
                "{rule}"
            );
        }
    }
    let simulator = Simulator::with(&["cache=1000"]).await;
    for cached in [0, 7] {
        let record = ask(&OPENAI(simulator.address), TIMEOUTS).await;
        assert_eq!(record.usage.cached_prompt.map(|tokens| tokens.0), Some(cached));
    }
}

#[tokio::test]
async fn on_an_order_by_header() {
    let simulator = Simulator::with(&[]).await;
    let target = Target {
        headers: vec![Header {
            name: "x-sim-fault".into(),
            value: Secret::Inline("reset@3".into()),
        }],
        ..OPENAI(simulator.address)
    };
    assert_eq!(
        ask(&target, TIMEOUTS).await.outcome,
        failed(Failure::ConnectionLost)
    );
    assert_eq!(simulator.last(1).await.faults, ["reset@3"]);
}
