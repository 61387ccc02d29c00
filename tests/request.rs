//! One request against an endpoint that says what it really did: what is measured is what was served, and
//! there is one record of it, whatever happens. What endpoints do wrong is in `failures`.
#![cfg(test)]

mod support;

use std::time::Duration;

use llm_probe_exporter::{
    config::{
        plan::{Authorization, Connection, Header, Target, Timeouts},
        secret::Secret,
    },
    measure::{Measurement, TokenSource},
    outcome::{Failure, Invalid, Outcome},
    record::{ConnectionState, Record},
    units::{Seconds, Tokens},
};
use support::{
    LOOSE,
    engine::{
        NO_CLOCK_CAN_HOLD, PATIENT, SHORT, USER_AGENT, ask, ask_again, endpoint, fails, ollama, request,
        reusing, target,
    },
    ms,
    script::{Script, chunk, head, token},
    server::{Served, Server, black_hole, closed_port, fill_queue},
};
use tokio::{
    sync::mpsc::unbounded_channel,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Asserts that `instant` came after `served`, and not much later.
#[track_caller]
fn just_after(instant: Option<Instant>, served: Instant) {
    let instant = instant.expect("it happened");
    assert!(instant >= served, "stamped before it was written");
    assert!(instant - served < LOOSE, "{:?} late", instant - served);
}

async fn answer_to(script: Script) -> (Record, Served) {
    let server = Server::playing(script);
    let record = ask(&target(server.address), PATIENT).await;
    (record, server.only())
}

/// What comes of a script under short deadlines.
async fn outcome_of(script: Script) -> (Outcome, Record) {
    let server = Server::playing(script);
    let record = ask(&target(server.address), SHORT).await;
    (record.outcome, record)
}

mod measured_is_served {
    use super::*;

    #[tokio::test]
    async fn for_every_instant_of_a_stream() {
        // Steps: 0 head, 1 wait, 2 role, 3 wait, 4 token, 5 wait, 6 two tokens, 7 wait, 8 token, …
        let two = format!("data: {}\n\ndata: {}\n\n", token("b"), token("c"));
        let script = Script::sse()
            .wait(ms(30))
            .role()
            .wait(ms(60))
            .token("a")
            .wait(ms(40))
            .chunk(two)
            .wait(ms(20))
            .token("d")
            .wait(ms(30))
            .finish_reason()
            .wait(ms(30))
            .usage(9, 4)
            .done()
            .end();
        let (record, served) = answer_to(script).await;
        assert_eq!(record.outcome, Outcome::Ok);
        let line = &record.timeline;
        assert!(line.start.unwrap() <= served.received);
        just_after(
            line.start.map(|start| start + (served.received - start)),
            served.received,
        );
        just_after(line.headers, served.wrote(0));
        just_after(line.byte, served.wrote(2));
        just_after(line.first, served.wrote(4));
        just_after(line.answer, served.wrote(4));
        just_after(line.second, served.wrote(6));
        just_after(line.last, served.wrote(8));
        just_after(line.finish, served.wrote(10));
        just_after(line.end, served.last_write());
        assert_eq!((line.deltas, line.gaps.len()), (4, 2));

        let measured = Measurement::of(&record);
        let truth = Seconds::between(served.received, served.wrote(4));
        let ttft = measured.ttft.unwrap();
        assert!(ttft >= truth && ttft - truth < LOOSE.into(), "{ttft} for {truth}");
        assert_eq!(measured.ttfo, measured.ttft);
        assert_eq!(
            (measured.output_tokens, measured.token_source),
            (Tokens(4), TokenSource::Usage)
        );
        // (last − first) / (n − 1), where `last` is later than what was written by as much as `first` may be.
        let itl = measured.itl.unwrap().get() * 3.0;
        let truth = (served.wrote(8) - served.wrote(4)).as_secs_f64();
        assert!((itl - truth).abs() < LOOSE.as_secs_f64(), "{itl} for {truth}");
        assert!(
            measured.longest_gap.unwrap() + LOOSE.into() > Seconds::between(served.wrote(4), served.wrote(6))
        );
    }

    #[tokio::test]
    async fn without_a_usage_of_nothing() {
        let zero = |script: Script| script.usage(9, 0);
        for script in [
            zero(Script::sse().token("a").token("b")),
            zero(Script::sse()).token("a").token("b"),
        ] {
            let (record, _) = answer_to(script.done().end()).await;
            let measured = Measurement::of(&record);
            assert_eq!(
                (record.usage.prompt, record.usage.output),
                (Some(Tokens(9)), None)
            );
            assert_eq!(
                (measured.output_tokens, measured.token_source),
                (Tokens(2), TokenSource::Deltas)
            );
        }
    }

    #[tokio::test]
    async fn when_every_byte_comes_alone() {
        let script = Script::answer(3, ms(20)).dribbling();
        let (record, served) = answer_to(script).await;
        assert_eq!(record.outcome, Outcome::Ok);
        assert_eq!(record.timeline.deltas, 3);
        // The first token is there when the blank line after its frame is.
        assert!(record.timeline.first.unwrap() >= served.wrote(2));
        assert!(record.timeline.first.unwrap() <= served.wrote(4) + LOOSE);
    }

    #[tokio::test]
    async fn for_lines_of_json() {
        let script = Script::ndjson()
            .wait(ms(30))
            .line(r#"{"message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}"#)
            .wait(ms(30))
            .line(r#"{"message":{"role":"assistant","content":"So"},"done":false}"#)
            .line(r#"{"message":{"content":""},"done":true,"load_duration":1000000,"prompt_eval_count":7,"eval_count":2}"#)
            .end();
        let server = Server::playing(script);
        let record = ask(&ollama(server.address), PATIENT).await;
        let served = server.only();
        assert_eq!(record.outcome, Outcome::Ok);
        just_after(record.timeline.first, served.wrote(2));
        just_after(record.timeline.answer, served.wrote(4));
        assert_eq!(record.usage.prompt, Some(Tokens(7)));
        assert_eq!(Measurement::of(&record).output_tokens, Tokens(2));
        assert_eq!(record.server_phases.load, Some(Seconds::new(0.001)));
        assert!(
            served.head.starts_with("POST /api/chat HTTP/1.1"),
            "{}",
            served.head
        );
        assert_eq!(served.header("accept"), Some("application/x-ndjson"));
    }

    #[tokio::test]
    async fn for_recorded_streams_of_real_servers() {
        for (name, tokens, source) in [
            ("llama-server/chat_stream_usage", 24, TokenSource::Usage),
            ("llama-server/chat_stream_nousage", 24, TokenSource::Usage),
            ("llama-server/chat_stream_ignore_eos", 32, TokenSource::Usage),
            ("llama-server/chat_stream_tool", 16, TokenSource::Usage),
            ("vllm/chat_stream_usage", 24, TokenSource::Usage),
            ("vllm/chat_stream_nousage", 24, TokenSource::Deltas),
            ("vllm/chat_stream_continuous_usage", 8, TokenSource::Usage),
        ] {
            let (record, served) = answer_to(Script::recorded(name, ms(2))).await;
            assert_eq!(record.outcome, Outcome::Ok, "{name}");
            let measured = Measurement::of(&record);
            assert_eq!(
                (measured.output_tokens, measured.token_source),
                (Tokens(tokens), source),
                "{name}"
            );
            // Head, wait, role, wait, first token.
            just_after(record.timeline.first, served.wrote(4));
        }
    }

    #[tokio::test]
    async fn by_phases_on_a_new_connection() {
        let (record, served) = answer_to(
            Script::new()
                .wait(ms(50))
                .send(head("200 OK", "text/event-stream", "Connection: close"))
                .wait(ms(50))
                .send(format!("data: {}\n\ndata: [DONE]\n\n", token("a")))
                .close(),
        )
        .await;
        assert_eq!(record.outcome, Outcome::Ok);
        assert_eq!(record.connection, Some(ConnectionState::New));
        let phases = Measurement::of(&record).phases;
        assert!(phases.dns.is_none() && phases.tls.is_none());
        assert!(phases.connect.unwrap().get() < LOOSE.as_secs_f64());
        assert!(phases.headers.unwrap() >= Seconds::between(served.received, served.wrote(1)));
        assert!(record.timeline.connected.unwrap() <= served.received);
        assert_eq!(record.status, Some(200));
    }

    #[tokio::test]
    async fn with_the_name_resolved() {
        let server = Server::playing(Script::answer(1, ms(0)));
        let mut target = target(server.address);
        target.url = format!("http://localhost:{}/v1/", server.address.port())
            .parse()
            .unwrap();
        let record = ask(&target, PATIENT).await;
        assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
        let line = &record.timeline;
        let (dns, connect) = (line.dns.unwrap(), line.connect.unwrap());
        assert!(dns + connect <= line.connected.unwrap() - line.start.unwrap());
        assert!(server.only().head.starts_with("POST /v1/chat/completions "));
    }
}

mod connections {
    use super::*;

    #[tokio::test]
    async fn are_new_for_every_request_by_default() {
        let server = Server::playing(Script::answer(1, ms(0)));
        let target = target(server.address);
        let endpoint = endpoint(&target);
        for _ in 0..3 {
            let record = ask_again(&endpoint, &target, PATIENT).await;
            assert_eq!(record.connection, Some(ConnectionState::New));
            assert!(record.timeline.connected.is_some());
        }
        let connections: Vec<_> = server.served().iter().map(|served| served.connection).collect();
        assert_eq!(connections, [0, 1, 2]);
    }

    #[tokio::test]
    async fn are_reused_where_that_is_asked_for() {
        let server = Server::playing(Script::answer(1, ms(20)));
        let target = reusing(server.address);
        let endpoint = endpoint(&target);
        let first = ask_again(&endpoint, &target, PATIENT).await;
        assert_eq!(first.connection, Some(ConnectionState::New));
        let second = ask_again(&endpoint, &target, PATIENT).await;
        assert_eq!(second.connection, Some(ConnectionState::Reused));
        let line = &second.timeline;
        assert!(line.connected.is_none() && line.connect.is_none() && line.dns.is_none());
        let measured = Measurement::of(&second);
        assert_eq!(measured.ttft, measured.ttft_after_connect);
        assert_eq!(server.served()[1].connection, 0);
    }

    /// llama.cpp's server says `Keep-Alive` and closes all the same, here after the next request was sent.
    #[tokio::test]
    async fn that_die_before_the_first_byte_are_opened_anew_once() {
        for dies in [Script::new().close(), Script::new().reset()] {
            let server = Server::in_turn(vec![Script::answer(1, ms(0)), dies, Script::answer(1, ms(50))]);
            let target = reusing(server.address);
            let endpoint = endpoint(&target);
            ask_again(&endpoint, &target, PATIENT).await;
            let record = ask_again(&endpoint, &target, PATIENT).await;
            assert_eq!(
                (record.outcome, record.connection),
                (Outcome::Ok, Some(ConnectionState::Reopened))
            );
            let served = server.served();
            assert_eq!(
                served.iter().map(|served| served.connection).collect::<Vec<_>>(),
                [0, 0, 1]
            );
            // What the user felt includes the attempt that led to nothing.
            assert!(record.timeline.start.unwrap() <= served[1].received);
            assert!(record.timeline.connected.unwrap() >= served[1].received);
            just_after(record.timeline.first, served[2].wrote(2));
        }
    }

    #[tokio::test]
    async fn that_die_twice_are_lost() {
        let server = Server::in_turn(vec![Script::answer(1, ms(0)), Script::new().close()]);
        let target = reusing(server.address);
        let endpoint = endpoint(&target);
        ask_again(&endpoint, &target, PATIENT).await;
        let record = ask_again(&endpoint, &target, PATIENT).await;
        assert_eq!(record.outcome, Outcome::Failed(Failure::ConnectionLost));
        assert_eq!(record.connection, Some(ConnectionState::Reopened));
        assert_eq!(server.served().len(), 3);
    }

    /// The endpoint answered: asking again would hide what it said.
    #[tokio::test]
    async fn that_answer_nonsense_are_not_asked_again() {
        let server = Server::in_turn(vec![
            Script::answer(1, ms(0)),
            Script::new().send("SSH-2.0-OpenSSH_9.2\r\n").close(),
            Script::answer(1, ms(0)),
        ]);
        let target = reusing(server.address);
        let endpoint = endpoint(&target);
        ask_again(&endpoint, &target, PATIENT).await;
        let record = ask_again(&endpoint, &target, PATIENT).await;
        assert_eq!(record.outcome, Outcome::Failed(Failure::Malformed));
        assert_eq!(
            (record.connection, server.served().len()),
            (Some(ConnectionState::Reused), 2)
        );
    }

    /// Closed while nobody used it: whether the pool notices before the next request is sent or after, that
    /// request succeeds.
    #[tokio::test]
    async fn that_were_closed_while_idle_cost_nothing() {
        for pause in [0, 0, 0, 1, 20] {
            let server = Server::playing(Script::answer(2, ms(0)).close());
            let target = reusing(server.address);
            let endpoint = endpoint(&target);
            for _ in 0..4 {
                let record = ask_again(&endpoint, &target, PATIENT).await;
                assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
                assert_ne!(record.connection, Some(ConnectionState::Reused));
                sleep(ms(pause)).await;
            }
        }
    }

    /// What happens to a request whose own connection is not there yet when another request's becomes free.
    async fn over_anothers_connection(
        timeouts: Timeouts,
        script: impl Fn(&CancellationToken) -> Script,
    ) -> (Record, Vec<Served>) {
        let (ends, opens) = (CancellationToken::new(), CancellationToken::new());
        let first = Script::sse().token("a").until(&ends).ending();
        let second = script(&opens);
        let server = Server::behind_a_queue(&opens, move |request| match request.number {
            0 => first.clone(),
            1 => second.clone(),
            _ => Script::answer(1, ms(0)),
        });
        let target = reusing(server.address);
        let endpoint = endpoint(&target);
        let one = ask_again(&endpoint, &target, PATIENT);
        let other = async {
            server.sees(|served| served.len() == 1).await;
            let queued = fill_queue(server.address).await;
            let asking = ask_again(&endpoint, &target, timeouts);
            let freeing = async {
                // Its own connect hangs by then.
                sleep(ms(50)).await;
                ends.cancel();
            };
            let (record, ()) = tokio::join!(asking, freeing);
            drop(queued);
            record
        };
        let (one, other) = tokio::join!(one, other);
        assert_eq!(one.outcome, Outcome::Ok);
        (other, server.served())
    }

    #[tokio::test]
    async fn of_other_requests_may_come_first() {
        let timeouts = Timeouts {
            connect: ms(150),
            ..PATIENT
        };
        let slow = |_: &CancellationToken| {
            Script::new()
                .wait(ms(300))
                .send(head("200 OK", "text/event-stream", "Transfer-Encoding: chunked"))
                .token("a")
                .ending()
        };
        let (record, served) = over_anothers_connection(timeouts, slow).await;
        // It had a connection in time, though not its own.
        assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
        assert_eq!(record.connection, Some(ConnectionState::Reused));
        assert!(record.timeline.connected.is_none() && record.timeline.connect.is_none());
        assert_eq!(served[1].connection, 0);
    }

    #[tokio::test]
    async fn of_other_requests_may_be_dead() {
        let dies = |opens: &CancellationToken| Script::new().fire(opens).wait(ms(50)).close();
        let (record, served) = over_anothers_connection(PATIENT, dies).await;
        assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
        assert_eq!(record.connection, Some(ConnectionState::Reopened));
        assert_eq!((served[1].connection, served.len()), (0, 3));
    }
}

mod requests {
    use super::*;

    #[tokio::test]
    async fn say_what_they_are() {
        let server = Server::playing(Script::answer(1, ms(0)));
        let target = Target {
            authorization: Some(Authorization {
                scheme: Some("Bearer".into()),
                credentials: Secret::Inline("sk-secret".into()),
            }),
            headers: vec![Header {
                name: "X-Team".into(),
                value: Secret::Inline("sre".into()),
            }],
            max_tokens_field: "max_completion_tokens",
            body: serde_json::from_str(r#"{"temperature":0,"stream_options":{"x":1}}"#).unwrap(),
            ..target(server.address)
        };
        ask(&target, PATIENT).await;
        let served = server.only();
        assert!(
            served.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
            "{}",
            served.head
        );
        let host = server.address.to_string();
        for (name, value) in [
            ("accept", "text/event-stream"),
            ("accept-encoding", "identity"),
            ("cache-control", "no-cache"),
            ("content-type", "application/json"),
            ("user-agent", USER_AGENT),
            ("authorization", "Bearer sk-secret"),
            ("x-team", "sre"),
            ("host", &host),
        ] {
            assert_eq!(served.header(name), Some(value), "{name}");
        }
        for absent in ["transfer-encoding", "referer", "expect", "cookie"] {
            assert_eq!(served.header(absent), None);
        }
        assert_eq!(
            served.json(),
            serde_json::json!({
                "model": "m",
                "messages": [{ "role": "user", "content": "Why?" }],
                "stream": true,
                "stream_options": { "include_usage": true, "x": 1 },
                "max_completion_tokens": 64,
                "temperature": 0,
            })
        );
    }

    /// The environment of a process cannot be changed in it, so the test runs itself.
    #[tokio::test]
    async fn ask_no_proxy_of_the_environment() {
        const CHILD: &str = "LLM_PROBE_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            let server = Server::playing(Script::answer(1, ms(0)));
            let record = ask(&target(server.address), PATIENT).await;
            assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
            return;
        }
        let proxy = format!("http://{}", closed_port());
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "requests::ask_no_proxy_of_the_environment"])
            .env(CHILD, "1");
        for name in [
            "http_proxy",
            "HTTP_PROXY",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            child.env(name, &proxy);
        }
        child.env_remove("no_proxy").env_remove("NO_PROXY");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "{output:?}"
        );
    }
}

mod deadlines {
    use super::*;

    /// The request took as long as the deadline, and not much longer.
    #[track_caller]
    fn took(record: &Record, limit: Duration) {
        let elapsed = record.elapsed().unwrap();
        assert!(elapsed >= limit.into(), "{elapsed} of {limit:?}");
        assert!(elapsed < (limit + LOOSE).into(), "{elapsed} of {limit:?}");
    }

    /// The one that passes first gives the reason.
    #[tokio::test]
    async fn while_connecting_are_all_of_them() {
        let (address, _keep) = black_hole().await;
        let connect = ms(3000);
        let (failure, record) = fails(&target(address), Timeouts { connect, ..SHORT }).await;
        assert_eq!(failure, Failure::HeadersTimeout);
        took(&record, SHORT.first_token);
        let total = ms(150);
        let (failure, record) = fails(
            &target(address),
            Timeouts {
                connect,
                total,
                ..SHORT
            },
        )
        .await;
        assert_eq!(failure, Failure::TotalTimeout);
        took(&record, total);
        // Where they are equal, what is known best is told: there was no connection.
        let (connect, first_token) = (ms(150), ms(150));
        let equal = Timeouts {
            connect,
            first_token,
            ..SHORT
        };
        let (failure, record) = fails(&target(address), equal).await;
        assert_eq!(
            (failure, record.waited_in_vain()),
            (Failure::ConnectTimeout, None)
        );
    }

    #[tokio::test]
    async fn for_everything_also_before_the_head() {
        let server = Server::playing(Script::new().hold());
        let total = ms(150);
        let (failure, record) = fails(&target(server.address), Timeouts { total, ..SHORT }).await;
        assert_eq!(failure, Failure::TotalTimeout);
        took(&record, total);
    }

    /// The words of a refusal are worth waiting for, but not for longer than a request may take.
    #[tokio::test]
    async fn for_everything_also_while_an_error_is_read() {
        let script = Script::new()
            .send(head("500 Oops", "text/html", "Transfer-Encoding: chunked"))
            .forever(chunk("x"), ms(5));
        let server = Server::playing(script);
        let total = ms(400);
        let (failure, record) = fails(&target(server.address), Timeouts { total, ..SHORT }).await;
        assert_eq!(failure, Failure::ServerError);
        took(&record, total);
    }
}

mod outcomes {
    use super::*;

    /// What came before the connection broke is measured all the same.
    #[tokio::test]
    async fn of_a_body_that_breaks_off() {
        let (outcome, record) = outcome_of(Script::sse().token("a").token("b").wait(ms(30)).reset()).await;
        assert_eq!(outcome, Outcome::Failed(Failure::ConnectionLost));
        assert_eq!(record.timeline.deltas, 2);
        assert!(Measurement::of(&record).ttft.is_some());
    }

    #[tokio::test]
    async fn of_answers_whose_usage_comes_late() {
        let start = Script::sse().token("a").finish_reason();
        for script in [
            start.clone().wait(ms(100)).usage(3, 2).done().end(),
            start.done().usage(3, 2).end(),
        ] {
            let (outcome, record) = outcome_of(script).await;
            assert_eq!(outcome, Outcome::Ok);
            assert_eq!(record.usage.output, Some(Tokens(2)));
        }
    }

    #[tokio::test]
    async fn of_whole_answers_whose_connection_stays_open() {
        // Usage could still come: as long as the next token would be waited for.
        let (outcome, record) = outcome_of(Script::sse().token("a").finish_reason().hold()).await;
        assert_eq!(outcome, Outcome::Ok);
        let waited = record.ended.unwrap() - record.timeline.finish.unwrap();
        assert!(
            waited >= SHORT.stall && waited < SHORT.stall + LOOSE,
            "{waited:?}"
        );
        assert_eq!(record.timeline.end, None);

        // Nothing more can come, whatever else is sent.
        let server = Server::start(|request| match request.number {
            0 => Script::sse().token("a").finish_reason().done().hold(),
            _ => Script::sse()
                .token("a")
                .done()
                .forever(chunk(":\n").repeat(500), ms(0)),
        });
        for _ in 0..2 {
            let record = ask(&target(server.address), PATIENT).await;
            assert_eq!(record.outcome, Outcome::Ok);
            let waited = record.ended.unwrap() - record.timeline.finish.unwrap();
            assert!(waited >= ms(200) && waited < ms(300) + LOOSE, "{waited:?}");
            // The measurements end with the output.
            assert!(Measurement::of(&record).duration.unwrap() < Seconds::from(LOOSE));
        }
    }
}

mod exactly_one_record {
    use super::*;

    #[tokio::test]
    async fn wherever_a_request_is_dropped() {
        let server = Server::playing(
            Script::new()
                .wait(ms(4))
                .send(head("200 OK", "text/event-stream", "Transfer-Encoding: chunked"))
                .wait(ms(4))
                .token("a")
                .wait(ms(4))
                .token("b")
                .wait(ms(4))
                .ending(),
        );
        let target = target(server.address);
        let endpoint = endpoint(&target);
        let mut reached = [0; 4];
        // On a starved machine it takes longer until one lives to its end.
        for step in (0..80_u64).chain((80..2000).step_by(20)) {
            if step >= 80 && reached.iter().all(|&times| times > 0) {
                break;
            }
            let request = request(&endpoint, &target, PATIENT);
            let in_flight = std::sync::Arc::clone(&request.in_flight);
            let (deliver, mut records) = unbounded_channel();
            let life = Duration::from_micros(300 * step);
            let ended = timeout(life, request.run(&endpoint, deliver)).await;
            let record = records.recv().await.expect("a record");
            assert!(records.recv().await.is_none(), "one record");
            assert_eq!(in_flight.load(std::sync::atomic::Ordering::Relaxed), 0);
            support::engine::assert_sound(&record);
            match ended {
                Ok((outcome, _)) => assert_eq!((record.outcome, outcome), (Outcome::Ok, Outcome::Ok)),
                Err(_) => assert_eq!(record.outcome, Outcome::Invalid(Invalid::Cancelled)),
            }
            let line = &record.timeline;
            let got = [line.headers.is_none(), line.first.is_none(), ended.is_err(), true];
            reached[got.iter().position(|&here| here).unwrap()] += 1;
        }
        assert!(
            reached.iter().all(|&times| times > 0),
            "before the head, the token, the end, after: {reached:?}"
        );
    }

    #[tokio::test]
    async fn of_a_request_that_is_dropped_before_it_ran_or_had_its_turn() {
        let server = Server::playing(Script::answer(1, ms(0)));
        let target = target(server.address);
        let endpoint = endpoint(&target);
        let turn = endpoint.gate.turn().await;
        for life in [None, Some(ms(20))] {
            let (deliver, mut records) = unbounded_channel();
            let running = request(&endpoint, &target, PATIENT).run(&endpoint, deliver);
            match life {
                None => drop(running),
                Some(life) => assert!(timeout(life, running).await.is_err()),
            }
            let record = records.recv().await.expect("a record");
            assert_eq!(record.outcome, Outcome::Invalid(Invalid::Cancelled));
            assert!(record.timeline.start.is_none() && record.ended.is_none());
            assert!(records.recv().await.is_none());
        }
        drop(turn);
        // The gate is free again.
        assert_eq!(ask_again(&endpoint, &target, PATIENT).await.outcome, Outcome::Ok);
        assert_eq!(server.served().len(), 1);
    }

    #[tokio::test]
    async fn closes_the_connection_of_a_dropped_request() {
        for connection in [Connection::New, Connection::Reuse] {
            let server = Server::playing(Script::sse().token("a").hold());
            let target = Target {
                connection,
                ..target(server.address)
            };
            let endpoint = endpoint(&target);
            let (deliver, mut records) = unbounded_channel();
            let running = request(&endpoint, &target, PATIENT).run(&endpoint, deliver);
            assert!(timeout(ms(100), running).await.is_err());
            let dropped = Instant::now();
            records.recv().await.unwrap();
            let served = server.sees(|served| served[0].gone.is_some()).await;
            assert!(served[0].gone.unwrap() < dropped + LOOSE);
        }
    }

    #[tokio::test]
    async fn of_a_request_that_panics() {
        let server = Server::playing(Script::answer(1, ms(0)));
        let target = target(server.address);
        let endpoint = endpoint(&target);
        let (deliver, mut records) = unbounded_channel();
        let request = request(&endpoint, &target, NO_CLOCK_CAN_HOLD);
        let running = {
            let endpoint = std::sync::Arc::clone(&endpoint);
            tokio::spawn(async move { request.run(&endpoint, deliver).await })
        };
        assert!(running.await.unwrap_err().is_panic());
        let record = records.recv().await.expect("a record");
        assert_eq!(record.outcome, Outcome::Invalid(Invalid::Internal));
        assert!(records.recv().await.is_none());
        // The gate is free again.
        assert_eq!(ask_again(&endpoint, &target, PATIENT).await.outcome, Outcome::Ok);
    }
}
