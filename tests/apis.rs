//! Every API end to end: what goes out, what comes of it, and what is done with the answer once it is there.
#![cfg(test)]

mod support;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use llm_probe_exporter::{
    config::{
        plan::{Authorization, Dialect, Probe, Target},
        secret::Secret,
    },
    expect::{Expect, Pattern},
    load::Volume,
    measure::{Measurement, TokenSource},
    outcome::{Failure, Outcome},
    prompt::{Cache, Message, Prompt, Question, Role, Script as Prompted, Scripts, Source},
    summary::{Judged, Summary},
    tokenizer::Tokenizer,
    units::Tokens,
};
use support::{
    engine::{PATIENT, ask, burst, fire, probe, step, target},
    ms,
    script::Script,
    server::Server,
};

/// An API, the path below its base URL, the frames of an answer of two tokens, and an error within a stream.
const APIS: &[(Dialect, &str, &[&str], &str)] = &[
    (
        Dialect::OpenaiChat,
        "/chat/completions",
        &[
            r#"{"choices":[{"delta":{"content":"the"}}]}"#,
            r#"{"choices":[{"delta":{"content":" light"},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ],
        r#"{"error":{"message":"boom"}}"#,
    ),
    (
        Dialect::OpenaiCompletions,
        "/completions",
        &[
            r#"{"choices":[{"text":"the"}]}"#,
            r#"{"choices":[{"text":" light","finish_reason":"stop"}]}"#,
        ],
        r#"{"error":{"message":"boom"}}"#,
    ),
    (
        Dialect::OpenaiResponses,
        "/responses",
        &[
            r#"{"type":"response.output_text.delta","delta":"the"}"#,
            r#"{"type":"response.output_text.delta","delta":" light"}"#,
            r#"{"type":"response.completed","response":{}}"#,
        ],
        r#"{"type":"response.failed","response":{"error":{"message":"boom"}}}"#,
    ),
    (
        Dialect::AnthropicMessages,
        "/messages",
        &[
            r#"{"type":"content_block_delta","delta":{"text":"the"}}"#,
            r#"{"type":"content_block_delta","delta":{"text":" light"}}"#,
            r#"{"type":"message_stop"}"#,
        ],
        r#"{"type":"error","error":{"type":"api_error","message":"boom"}}"#,
    ),
    (
        Dialect::OllamaChat,
        "/api/chat",
        &[
            r#"{"message":{"content":"the"},"done":false}"#,
            r#"{"message":{"content":" light"},"done":false}"#,
            r#"{"message":{"content":""},"done":true}"#,
        ],
        r#"{"error":"boom"}"#,
    ),
    (
        Dialect::OllamaGenerate,
        "/api/generate",
        &[
            r#"{"response":"the","done":false}"#,
            r#"{"response":" light","done":false}"#,
            r#"{"response":"","done":true}"#,
        ],
        r#"{"error":"boom"}"#,
    ),
    (
        Dialect::LlamacppCompletion,
        "/completion",
        &[
            r#"{"content":"the","stop":false}"#,
            r#"{"content":" light","stop":false}"#,
            r#"{"content":"","stop":true}"#,
        ],
        r#"{"error":{"message":"boom"}}"#,
    ),
    (
        Dialect::TgiGenerate,
        "/generate_stream",
        &[
            r#"{"token":{"text":"the","special":false},"generated_text":null}"#,
            r#"{"token":{"text":" light","special":false},"generated_text":"the light"}"#,
        ],
        r#"{"error":"boom","error_type":"generation"}"#,
    ),
    (
        Dialect::TritonGenerate,
        "/models/m/generate_stream",
        &[r#"{"text_output":"the"}"#, r#"{"text_output":"the light"}"#],
        r#"{"error":"boom"}"#,
    ),
    (
        Dialect::Gemini,
        "/models/m:streamGenerateContent?alt=sse",
        &[
            r#"{"candidates":[{"content":{"parts":[{"text":"the"}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":" light"}]},"finishReason":"STOP"}]}"#,
        ],
        r#"{"error":{"code":500,"message":"boom"}}"#,
    ),
];

fn speaking(api: Dialect, address: SocketAddr) -> Target {
    Target {
        api,
        ..target(address)
    }
}

/// A stream of these frames, up to the end of its body.
fn stream(api: Dialect, frames: &[&str]) -> Script {
    let new = Script::ok(api.media_type());
    let add = |script: Script, frame: &&str| {
        let script = script.wait(ms(5));
        match api.media_type() {
            "application/x-ndjson" => script.line(frame),
            _ => script.data(frame),
        }
    };
    frames.iter().fold(new, add)
}

#[tokio::test]
async fn every_api_is_spoken() {
    for (api, path, frames, _) in APIS {
        let server = Server::playing(stream(*api, frames).end());
        let with_key = Target {
            authorization: Some(Authorization {
                scheme: None,
                credentials: Secret::Inline("sk-secret".into()),
            }),
            ..speaking(*api, server.address)
        };
        let record = ask(&with_key, PATIENT).await;
        assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
        assert_eq!(
            (record.timeline.deltas, record.timeline.gaps.len()),
            (2, 1),
            "{path}"
        );
        assert_eq!(record.text, None, "nobody wants it");
        let served = server.only();
        assert!(
            served.head.starts_with(&format!("POST /v1{path} HTTP/1.1\r\n")),
            "{}",
            served.head
        );
        let key = match api {
            Dialect::AnthropicMessages => served.header("x-api-key"),
            Dialect::Gemini => served.header("x-goog-api-key"),
            _ => served
                .header("authorization")
                .map(|value| value.trim_start_matches("Bearer ")),
        };
        assert_eq!(key, Some("sk-secret"));
        assert_eq!(served.header("accept"), Some(api.media_type()));
        let version = (*api == Dialect::AnthropicMessages).then_some("2023-06-01");
        assert_eq!(served.header("anthropic-version"), version);
        assert!(served.json().is_object());
    }
    assert_eq!(APIS.len(), Dialect::ALL.len());
}

#[tokio::test]
async fn every_api_carries_the_answer_in_the_next_turn() {
    for (api, path, frames, _) in APIS {
        let server = Server::playing(stream(*api, frames).end());
        let target = speaking(*api, server.address);
        let turns = Prompted {
            turns: vec!["Where?".into(), "How?".into()],
            ..Prompted::default()
        };
        let mut asking = probe(speaking(*api, server.address));
        asking.prompt = Prompt {
            prefix: None,
            source: Source::Written(Scripts::only(turns)),
            system: Some("Be brief.".into()),
            cache: Cache::Share,
        };
        let (max_tokens, generation) = (asking.max_tokens, asking.generation);
        let (_, summary) = fire(burst(asking, step(1, Volume::Requests(2)))).await;
        assert_eq!(summary.successes, 2, "{path}: {:?}", summary.first_failure);
        let expected = Question {
            system: Some("Be brief.".into()),
            messages: vec![
                Message::new(Role::User, "Where?"),
                Message::new(Role::Assistant, "the light"),
                Message::new(Role::User, "How?"),
            ],
            is_dialogue: true,
            cache: Cache::Share,
        };
        let expected = api.body(&target, &expected, max_tokens, &generation);
        let [_, second] = &server.served()[..] else {
            panic!("{path}")
        };
        assert_eq!(expected, second.body, "{path}");
    }
}

#[tokio::test]
async fn and_its_failures_are_told_apart() {
    for (api, _, frames, error) in APIS {
        let (first, rest) = frames.split_first().unwrap();
        let last = rest.last().unwrap();
        let json = |body: &str| Script::plain("200 OK", "application/json", body);
        let triton = *api == Dialect::TritonGenerate;
        for (case, script, expected) in [
            ("error first", stream(*api, &[error]).hold(), Failure::ApiError),
            (
                "error after output",
                stream(*api, &[first, error]).end(),
                Failure::ApiError,
            ),
            (
                "error after the end",
                stream(*api, &[first, last, error]).end(),
                Failure::ApiError,
            ),
            ("error as plain JSON", json(error), Failure::ApiError),
            ("no error, but plain JSON", json("{}"), Failure::ContentType),
            (
                "connection broken",
                stream(*api, &[first]).reset(),
                Failure::ConnectionLost,
            ),
            (
                "closed within the framing",
                stream(*api, &[first]).close(),
                Failure::ConnectionLost,
            ),
            (
                "end within a frame",
                stream(*api, &[first]).chunk(r#"data: {"text_output":"#).end(),
                Failure::Truncated,
            ),
            (
                "no protocol",
                stream(*api, &[first, "{}}"]).end(),
                Failure::Malformed,
            ),
        ] {
            let server = Server::playing(script);
            let record = ask(&speaking(*api, server.address), PATIENT).await;
            let detail = record.detail.as_deref().unwrap_or_default();
            // Of a response that failed, Responses says so in a way that only its stream has.
            let odd = case == "error as plain JSON" && *api == Dialect::OpenaiResponses;
            let expected = if odd { Failure::ContentType } else { expected };
            assert_eq!(
                record.outcome,
                Outcome::Failed(expected),
                "{}, {case}: {detail}",
                api.as_str()
            );
            if expected == Failure::ApiError {
                assert!(detail.contains("boom"), "{detail}");
            }
        }
        // Triton has no end marker: the end of the body is it.
        let server = Server::playing(stream(*api, &[first]).end());
        let outcome = ask(&speaking(*api, server.address), PATIENT).await.outcome;
        let expected = if triton {
            Outcome::Ok
        } else {
            Outcome::Failed(Failure::Truncated)
        };
        assert_eq!(outcome, expected, "{}", api.as_str());
    }
}

#[tokio::test]
async fn a_list_is_an_error_too_where_an_api_answers_with_one() {
    let body = r#"[{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}]"#;
    let server = Server::playing(Script::plain("200 OK", "application/json; charset=UTF-8", body));
    let record = ask(&speaking(Dialect::Gemini, server.address), PATIENT).await;
    assert_eq!(record.outcome, Outcome::Failed(Failure::Overloaded));
}

/// One burst of three requests, each answered with "the light", by deltas of two words.
async fn examined(expect: Option<Expect>, tokenizer: bool, usage: bool) -> (Vec<Judged>, Summary) {
    let server = Server::start(move |_| {
        let mut script = Script::sse()
            .wait(ms(5))
            .token("the light the")
            .wait(ms(5))
            .token(" light");
        if usage {
            script = script.usage(9, 7);
        }
        script.ending()
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example-tokenizer.json");
    let target = Target {
        tokenizer: tokenizer.then(|| Arc::new(Tokenizer::load(&path).unwrap())),
        authorization: Some(Authorization {
            scheme: None,
            credentials: Secret::Inline("light".into()),
        }),
        ..target(server.address)
    };
    let probe = Probe {
        expect,
        ..probe(target)
    };
    fire(burst(probe, step(2, Volume::Requests(3)))).await
}

#[tokio::test]
async fn tokens_are_counted_by_whom_they_can_be() {
    for (tokenizer, usage, tokens, source) in [
        (false, false, 2, TokenSource::Deltas),
        (true, false, 4, TokenSource::Tokenizer),
        (true, true, 7, TokenSource::Usage),
    ] {
        let (all, summary) = examined(None, tokenizer, usage).await;
        for judged in &all {
            let measured = &judged.measured;
            assert_eq!(
                (measured.output_tokens, measured.token_source),
                (Tokens(tokens), source)
            );
            assert_eq!(*measured, Measurement::of(&judged.record));
            assert_eq!((measured.intervals, &judged.record.text), (tokens - 1, &None));
            assert!(measured.itl.is_some());
        }
        assert_eq!(
            summary.token_sources.into_iter().collect::<Vec<_>>(),
            [(source, 3)]
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_not_as_expected_fails() {
    let contains = |text: &str| Expect {
        contains: Some(text.into()),
        ..Expect::default()
    };
    let matches = |text: &str| Expect {
        matches: Some(Pattern::new(text).unwrap()),
        ..Expect::default()
    };
    let at_least = |tokens| Expect {
        min_output_tokens: Some(Tokens(tokens)),
        ..Expect::default()
    };
    for (expect, tokenizer, wrong) in [
        (contains("light the light"), false, None),
        (contains("dark"), false, Some("does not contain \"dark\"")),
        (matches("^the .* light$"), false, None),
        (matches("^light"), false, Some("does not match \"^light\"")),
        (at_least(2), false, None),
        (at_least(3), false, Some("has 2 output tokens, fewer than 3")),
        (at_least(4), true, None),
        (at_least(5), true, Some("has 4 output tokens, fewer than 5")),
    ] {
        let (all, summary) = examined(Some(expect), tokenizer, false).await;
        for judged in &all {
            let record = &judged.record;
            match wrong {
                None => assert_eq!(record.outcome, Outcome::Ok),
                Some(wrong) => {
                    assert_eq!(record.outcome, Outcome::Failed(Failure::UnexpectedOutput));
                    let detail = record.detail.as_deref().unwrap();
                    assert!(
                        detail.starts_with(&format!("the answer {wrong}; it begins ")),
                        "{detail}"
                    );
                    // What looks like our own secret is not shown.
                    assert!(detail.contains("\"the <secret> the"), "{detail}");
                }
            }
        }
        assert_eq!(summary.successes, if wrong.is_some() { 0 } else { 3 });
        assert_eq!(summary.good, summary.successes);
    }
}

#[tokio::test]
async fn what_failed_already_keeps_its_reason() {
    let server = Server::playing(Script::sse().token("a").end());
    let probe = Probe {
        expect: Some(Expect {
            contains: Some("b".into()),
            ..Expect::default()
        }),
        ..probe(target(server.address))
    };
    let (all, _) = fire(burst(probe, step(1, Volume::Lasting(Duration::from_millis(50))))).await;
    assert!(!all.is_empty());
    for judged in all {
        assert_eq!(judged.record.outcome, Outcome::Failed(Failure::Truncated));
    }
}
