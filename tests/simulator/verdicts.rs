//! What the prober says about each thing that the simulator does wrong, end to end.

use std::net::SocketAddr;

use llm_probe_exporter::{
    config::{
        plan::{
            Dialect::{
                self, AnthropicMessages, Gemini, LlamacppCompletion, OllamaChat, OllamaGenerate, OpenaiChat,
                OpenaiCompletions, OpenaiResponses, TgiGenerate, TritonGenerate,
            },
            Header, HttpVersion, Target, Timeouts,
        },
        secret::Secret,
    },
    outcome::{Failure, Outcome},
    sim::journal::{self, End},
    units::Tokens,
    usage::Usage,
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

/// The simulator, spoken to in this dialect.
fn at(api: Dialect, address: SocketAddr) -> Target {
    let version = match api {
        OpenaiChat | OpenaiCompletions | OpenaiResponses => "/v1",
        _ => api.version().unwrap_or_default(),
    };
    Target {
        url: format!("http://{address}{version}").parse().unwrap(),
        api,
        model: "simulated".into(),
        ..engine::target(address)
    }
}

const OK: Outcome = Outcome::Ok;

const fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}

/// A rule and the verdict on it.
type Row = (&'static str, Outcome);

/// What no API has words for: where one dialect of each framing is judged rightly, all are.
const ALIKE: &[Row] = &[
    ("stall@head", failed(Failure::HeadersTimeout)),
    ("delay=2s", failed(Failure::HeadersTimeout)),
    ("cold=2s", failed(Failure::HeadersTimeout)),
    ("slow=900", failed(Failure::FirstTokenTimeout)),
    ("stall=2s@3", failed(Failure::StallTimeout)),
    ("drip=200ms", failed(Failure::TotalTimeout)),
    ("reset", failed(Failure::ConnectionLost)),
    ("reset@3", failed(Failure::ConnectionLost)),
    ("close", failed(Failure::ConnectionLost)),
    ("close@end", failed(Failure::ConnectionLost)),
    ("goaway@3", failed(Failure::ConnectionLost)),
    ("redirect", failed(Failure::Redirect)),
    ("redirect=302", failed(Failure::Redirect)),
    ("status=401", failed(Failure::Unauthorized)),
    ("status=403", failed(Failure::Unauthorized)),
    ("status=404", failed(Failure::ClientError)),
    ("limit=1/1h", failed(Failure::RateLimited)),
    ("status=500", failed(Failure::ServerError)),
    ("status=502", failed(Failure::ServerError)),
    ("status=504", failed(Failure::ServerError)),
    ("status=503", failed(Failure::Overloaded)),
    ("html", failed(Failure::ContentType)),
    ("content-type=text/plain", failed(Failure::ContentType)),
    // What only looks strange.
    ("coalesce=50ms", OK),
    ("cache=1000", OK),
    ("slow=2", OK),
    ("cold=100ms", OK),
    ("stall=100ms@3", OK),
    ("stall every=2", OK),
    ("drift=10%/1m", OK),
];

/// What each API puts into words of its own, and its silences.
const WORDED: &[Row] = &[
    ("stall", failed(Failure::FirstTokenTimeout)),
    ("comments", failed(Failure::FirstTokenTimeout)),
    ("pings", failed(Failure::FirstTokenTimeout)),
    ("stall@3", failed(Failure::StallTimeout)),
    ("stall@end", failed(Failure::StallTimeout)),
    ("comments=50ms@3", failed(Failure::StallTimeout)),
    ("pings=50ms@3", failed(Failure::StallTimeout)),
    ("close@3", failed(Failure::ConnectionLost)),
    ("status=429 retry-after=20", failed(Failure::RateLimited)),
    ("status=529", failed(Failure::Overloaded)),
    ("error", failed(Failure::ApiError)),
    ("error@3", failed(Failure::ApiError)),
    ("error@end", failed(Failure::ApiError)),
    ("garbage", failed(Failure::Malformed)),
    ("garbage@3", failed(Failure::Malformed)),
    ("empty", failed(Failure::Empty)),
    // What only looks strange.
    ("coalesce=16", OK),
    ("per-frame=5", OK),
    ("split=1", OK),
    ("usage=continuous", OK),
    ("usage=none", OK),
    ("reasoning=8", OK),
    ("reasoning-content=8", OK),
    ("hidden-reasoning=8", OK),
];

/// A clean end of the body before that of the protocol.
const CUT: &[Row] = &[
    ("truncate@0", failed(Failure::Truncated)),
    ("truncate@3", failed(Failure::Truncated)),
    ("truncate", failed(Failure::Truncated)),
];

/// Asks under each rule, some at a time since most only wait, and compares the verdicts with the table and with
/// what the simulator says it did.
async fn judge(target: impl Fn(SocketAddr) -> Target + Copy + Send + 'static, table: &'static [Row]) {
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
    target: impl Fn(SocketAddr) -> Target,
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
async fn on_what_no_api_has_words_for_in_events() {
    judge(|address| at(OpenaiChat, address), ALIKE).await;
}

#[tokio::test]
async fn on_what_no_api_has_words_for_in_lines() {
    judge(|address| at(OllamaChat, address), ALIKE).await;
}

async fn on_its_own_words(api: Dialect) {
    judge(move |address| at(api, address), WORDED).await;
    judge(move |address| at(api, address), CUT).await;
}

#[tokio::test]
async fn on_openai_chat() {
    on_its_own_words(OpenaiChat).await;
}

#[tokio::test]
async fn on_openai_completions() {
    on_its_own_words(OpenaiCompletions).await;
}

#[tokio::test]
async fn on_openai_responses() {
    on_its_own_words(OpenaiResponses).await;
}

#[tokio::test]
async fn on_anthropic_messages() {
    on_its_own_words(AnthropicMessages).await;
}

#[tokio::test]
async fn on_ollama_chat() {
    on_its_own_words(OllamaChat).await;
}

#[tokio::test]
async fn on_ollama_generate() {
    on_its_own_words(OllamaGenerate).await;
}

#[tokio::test]
async fn on_llamacpp_completion() {
    on_its_own_words(LlamacppCompletion).await;
}

#[tokio::test]
async fn on_tgi_generate() {
    on_its_own_words(TgiGenerate).await;
}

#[tokio::test]
async fn on_gemini() {
    on_its_own_words(Gemini).await;
}

#[tokio::test]
async fn on_triton_generate_which_has_no_end_marker() {
    judge(|address| at(TritonGenerate, address), WORDED).await;
    // A clean end of the body is all the end there is: only `expect.min_output_tokens` finds these too short.
    for (rule, expected, deltas) in [
        ("truncate@0", failed(Failure::Empty), 0),
        ("truncate@3", OK, 3),
        ("truncate", OK, 64),
    ] {
        let simulator = Simulator::with(&[rule]).await;
        let record = ask(&at(TritonGenerate, simulator.address), TIMEOUTS).await;
        assert_eq!(
            (record.outcome, record.timeline.deltas),
            (expected, deltas),
            "{rule}"
        );
        assert_eq!(simulator.last(1).await.end, End::Broken, "{rule}");
    }
}

#[tokio::test]
async fn on_an_overload_inside_a_stream() {
    const OVERLOADED: &[Row] = &[("error=overloaded@2", failed(Failure::Overloaded))];
    for &api in Dialect::ALL {
        judge(move |address| at(api, address), OVERLOADED).await;
    }
}

#[tokio::test]
async fn on_http2() {
    let http2 = |address| Target {
        http: HttpVersion::Http2,
        ..at(OpenaiChat, address)
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
        let record = ask(&at(OpenaiChat, simulator.address), TIMEOUTS).await;
        assert_eq!(record.outcome, failed(expected), "{rule}: {:?}", record.detail);
    }
}

/// How many tokens the server says, of one request under this rule, and what the simulator knows.
async fn counted(api: Dialect, rule: &str) -> (Usage, journal::Record) {
    let simulator = Simulator::with(&[rule]).await;
    let record = ask(&at(api, simulator.address), TIMEOUTS).await;
    assert_eq!(record.outcome, OK, "{api:?}, {rule}: {:?}", record.detail);
    if !rule.starts_with("per-frame") {
        let shown = record.timeline.deltas;
        let truth = simulator.last(1).await.tokens_ns.len() as u64;
        assert_eq!(shown, truth, "{api:?}, {rule}");
    }
    (record.usage, simulator.last(1).await)
}

async fn counts_agree(api: Dialect) {
    let reported = |tokens| (api != TritonGenerate).then_some(Tokens(tokens));
    for rule in [
        "split=1",
        "per-frame=5",
        "coalesce=7",
        "usage=continuous",
        "reasoning=8",
        "hidden-reasoning=8",
    ] {
        let (told, truth) = counted(api, rule).await;
        assert_eq!(
            (told.prompt, told.output),
            (reported(truth.prompt_tokens), reported(truth.output_tokens)),
            "{api:?}, {rule}"
        );
        if let (OpenaiChat | OpenaiResponses | Gemini, 1..) = (api, truth.reasoning_tokens) {
            assert_eq!(
                told.reasoning,
                Some(Tokens(truth.reasoning_tokens)),
                "{api:?}, {rule}"
            );
        }
    }
    let (told, _) = counted(api, "usage=none").await;
    assert_eq!(told.output, None, "{api:?}");
}

#[tokio::test]
async fn on_tokens_that_are_counted_as_the_simulator_counts_them() {
    let apis: JoinSet<()> = Dialect::ALL.iter().map(|&api| counts_agree(api)).collect();
    apis.join_all().await;
    let simulator = Simulator::with(&["cache=1000"]).await;
    for cached in [0, 7] {
        let record = ask(&at(OpenaiChat, simulator.address), TIMEOUTS).await;
        assert_eq!(record.usage.cached_prompt, Some(Tokens(cached)));
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
        ..at(OpenaiChat, simulator.address)
    };
    assert_eq!(
        ask(&target, TIMEOUTS).await.outcome,
        failed(Failure::ConnectionLost)
    );
    assert_eq!(simulator.last(1).await.faults, ["reset@3"]);
}
