//! Bursts against an endpoint that says what it really saw: as many requests as asked for, together, and one
//! record for each, whatever becomes of them.
#![cfg(test)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use llm_probe_exporter::{
    baseline::Baseline,
    burst::Burst,
    config::plan::{Probe, Slo, Step, Timeouts, Withheld},
    diagnose::diagnose,
    gate::Gate,
    load::{Arrival, Load, Process, Volume},
    outcome::{Failure, Invalid, Outcome, Skip},
    protection::Brake,
    slo::{Objective, Verdict, Verdicts},
    summary::{Judged, Summary},
    units::Seconds,
};
use support::{
    LOOSE,
    engine::{
        NO_CLOCK_CAN_HOLD, PATIENT, SHORT, burst, burst_behind, fire, open_step, probe, reusing, step, target,
    },
    ms,
    script::{Script, head},
    server::{Served, Server, black_hole},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// An answer by which a record finds what was served: its prompt tokens are the number of the request. The
/// first token is step 2.
fn numbered(request: &Served, wait: Duration) -> Script {
    Script::sse()
        .wait(wait)
        .token("a")
        .wait(ms(10))
        .token("b")
        .finish_reason()
        .usage(request.number as u64, 2)
        .done()
        .end()
}

fn served_for<'a>(judged: &Judged, served: &'a [Served]) -> &'a Served {
    let number = judged.record.usage.prompt.unwrap().0;
    &served[usize::try_from(number).unwrap()]
}

/// The most requests that the endpoint had at the same time, from the last byte of the request to the
/// beginning of the last write.
fn most_at_once(served: &[Served]) -> usize {
    let during = |at: Instant| {
        served
            .iter()
            .filter(|one| one.received <= at && at < one.last_write())
            .count()
    };
    served.iter().map(|one| during(one.received)).max().unwrap()
}

/// A load balancer that says which of two replicas answered, one of them slow.
#[tokio::test]
async fn replicas_are_told_apart_by_a_header() {
    let server = Server::start(|request| {
        let (name, wait) = [("fast", ms(0)), ("slow", ms(400))][request.number % 2];
        let head = head(
            "200 OK",
            "text/event-stream",
            &format!("Transfer-Encoding: chunked\r\nX-Backend: {name}"),
        );
        Script::new()
            .send(head)
            .wait(wait)
            .token("a")
            .wait(ms(10))
            .token("b")
            .ending()
    });
    let mut target = target(server.address);
    target.replica_header = Some("x-backend".parse().unwrap());
    let (all, summary) = fire(burst(probe(target), step(1, Volume::Requests(8)))).await;
    let named = all.iter().filter_map(|judged| judged.record.replica.as_deref());
    assert_eq!(named.filter(|name| *name == "slow").count(), 4);
    let load = Load::Users(1);
    let diagnosis = diagnose(load, &summary.observed, None, true, &Baseline::default());
    let spread = diagnosis.replicas.unwrap();
    assert_eq!((spread.replicas, spread.fewest_requests), (2, 4));
    assert!(spread.unequal && spread.ttft.unwrap() > 1.5, "{spread:?}");
    assert!(diagnosis.sentence.contains("of 2 replicas the slowest takes "));
}

mod together {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn fifty_start_and_each_is_measured_as_it_was_served() {
        let server = Server::start(|request| numbered(request, ms(60)));
        let mut spreads = Vec::new();
        let mut errors = Vec::new();
        for round in 0..5 {
            let (all, summary) = fire(burst(
                probe(target(server.address)),
                step(50, Volume::Requests(50)),
            ))
            .await;
            assert_eq!(
                (summary.requests, summary.successes),
                (50, 50),
                "{:?}",
                summary.first_failure
            );
            let served = server.served();
            assert_eq!(served.len(), 50 * (round + 1));
            assert!(summary.peak_in_flight <= 50);
            for judged in &all {
                let one = served_for(judged, &served);
                let line = &judged.record.timeline;
                assert!(line.start.unwrap() <= one.received && one.wrote(2) <= line.first.unwrap());
                assert!(line.first.unwrap() - one.wrote(2) < LOOSE);
                let truth = Seconds::between(one.received, one.wrote(2));
                let ttft = judged.measured.ttft.unwrap();
                assert!(ttft >= truth);
                errors.push(ttft - truth);
                // Waiting for its turn is no lag of a request.
                assert!(judged.measured.send_lag.unwrap() < LOOSE.into());
            }
            spreads.push(summary.start_spread.unwrap());
        }
        errors.sort_by(|one, other| one.partial_cmp(other).unwrap());
        spreads.sort_by(|one, other| one.partial_cmp(other).unwrap());
        println!(
            "start spread of 50: {} to {}; TTFT above the truth: median {}, p99 {}, most {}",
            spreads[0], spreads[4], errors[125], errors[247], errors[249]
        );
        assert!(errors[125] < ms(50).into(), "{errors:?}");
    }

    /// Some servers send the head with the first token only, so nothing may wait for it.
    #[tokio::test]
    async fn fifty_arrive_before_any_is_answered() {
        let go = CancellationToken::new();
        let late = Script::new()
            .until(&go)
            .send(head("200 OK", "text/event-stream", "Transfer-Encoding: chunked"))
            .token("a")
            .ending();
        let server = Server::playing(late);
        let burst = burst(probe(target(server.address)), step(50, Volume::Requests(50)));
        let in_flight = Arc::clone(&burst.in_flight);
        let waiting = async {
            server.sees(|served| served.len() == 50).await;
            assert_eq!(in_flight.load(Ordering::Relaxed), 50);
            go.cancel();
        };
        let ((_, summary), ()) = tokio::join!(fire(burst), waiting);
        assert_eq!((summary.successes, summary.peak_in_flight), (50, 50));
        let served = server.served();
        let last = served.iter().map(|one| one.received).max().unwrap();
        assert!(served.iter().all(|one| one.writes[0].0 >= last));
    }

    #[tokio::test]
    async fn those_at_one_target_do_not_wait_for_another_target() {
        let (nowhere, _keep) = black_hole().await;
        let silent = Server::playing(Script::new().hold());
        let quick = Server::playing(Script::answer(2, ms(5)));
        let gate = Gate::default();
        let at = |address, users| {
            let mut probe = probe(target(address));
            probe.timeouts = Timeouts {
                connect: ms(1500),
                first_token: ms(2000),
                ..PATIENT
            };
            let burst = burst_behind(probe, step(users, Volume::Requests(users)), gate.clone());
            async move {
                let (_, summary) = fire(burst).await;
                (summary, Instant::now())
            }
        };
        let ((unreachable, _), (mute, mute_end), (fine, fine_end)) =
            tokio::join!(at(nowhere, 20), at(silent.address, 20), at(quick.address, 20));
        assert_eq!(
            unreachable.failures,
            BTreeMap::from([(Failure::ConnectTimeout, 20)])
        );
        assert_eq!(mute.failures, BTreeMap::from([(Failure::HeadersTimeout, 20)]));
        assert_eq!(fine.successes, 20);
        assert!(fine_end < mute_end);
        assert!(
            fine.start_spread.unwrap() < Seconds::from(ms(1000)),
            "{:?}",
            fine.start_spread
        );
    }
}

mod volume {
    use super::*;

    #[tokio::test]
    async fn in_a_closed_loop_each_user_asks_when_the_last_answer_ended() {
        for target in [target, reusing] {
            let server = Server::playing(Script::answer(2, ms(15)));
            let (all, summary) = fire(burst(
                probe(target(server.address)),
                step(4, Volume::Requests(14)),
            ))
            .await;
            assert_eq!(
                (summary.requests, summary.successes, summary.peak_in_flight),
                (14, 14, 4)
            );
            assert_eq!(summary.output_tokens, 28);
            let served = server.served();
            assert_eq!((served.len(), most_at_once(&served)), (14, 4));
            for judged in all.iter().filter(|judged| judged.record.number >= 4) {
                let intended = judged.record.timeline.intended;
                assert!(
                    all.iter()
                        .any(|before| before.record.ended.is_some_and(|ended| ended <= intended)),
                    "asked before an answer had ended"
                );
                assert!(judged.measured.send_lag.unwrap() < LOOSE.into());
            }
            // Every prompt is new.
            let bodies: std::collections::BTreeSet<_> = served.iter().map(|one| one.body.clone()).collect();
            assert_eq!(bodies.len(), 14);
        }
    }

    #[tokio::test]
    async fn may_be_less_than_the_places() {
        let server = Server::playing(Script::answer(1, ms(10)));
        let (all, summary) = fire(burst(probe(target(server.address)), step(5, Volume::Requests(2)))).await;
        assert_eq!((all.len(), summary.requests, server.served().len()), (2, 2, 2));
    }

    #[tokio::test]
    async fn lasts() {
        let server = Server::playing(Script::answer(2, ms(15)));
        let lasting = ms(300);
        let begun = Instant::now();
        let (all, summary) = fire(burst(
            probe(target(server.address)),
            step(3, Volume::Lasting(lasting)),
        ))
        .await;
        assert!(begun.elapsed() >= lasting);
        assert_eq!((summary.successes, summary.peak_in_flight), (summary.requests, 3));
        assert!(summary.requests > 3, "{}", summary.requests);
        assert_eq!(server.served().len(), all.len());
        let latest = all
            .iter()
            .filter_map(|judged| judged.record.timeline.start)
            .max()
            .unwrap();
        assert!(latest - begun < lasting + LOOSE);
    }

    #[tokio::test]
    async fn leaves_the_warm_up_out() {
        let server = Server::playing(Script::answer(2, ms(5)));
        let mut probe = probe(target(server.address));
        probe.warmup = 5;
        let (all, summary) = fire(burst(probe, step(2, Volume::Requests(4)))).await;
        let (warm, measured): (Vec<_>, Vec<_>) = all.iter().partition(|judged| judged.record.warmup);
        assert_eq!((warm.len(), measured.len(), server.served().len()), (5, 4, 9));
        assert_eq!(
            (summary.requests, summary.output_tokens, summary.judged),
            (4, 8, 4)
        );
        assert!(warm.iter().all(|judged| judged.verdicts == Verdicts::default()));
        let warm_end = warm
            .iter()
            .filter_map(|judged| judged.record.ended)
            .max()
            .unwrap();
        assert!(
            measured
                .iter()
                .all(|judged| judged.record.timeline.start.unwrap() >= warm_end)
        );
        assert!(summary.ttft.unwrap().count == 4 && summary.peak_in_flight == 2);
    }
}

mod open_loop {
    use super::*;

    /// How far requests were received from when they were intended, both counted from the first; the largest.
    fn most_astray(all: &[Judged], served: &[Served]) -> Duration {
        let since_first = |mut instants: Vec<Instant>| {
            instants.sort_unstable();
            let first = instants[0];
            instants.into_iter().map(move |at| at - first)
        };
        let intended = since_first(all.iter().map(|judged| judged.record.timeline.intended).collect());
        let received = since_first(served.iter().map(|one| one.received).collect());
        let astray = intended
            .zip(received)
            .map(|(intended, received)| received.abs_diff(intended));
        astray.max().unwrap()
    }

    #[tokio::test]
    async fn keeps_to_its_times_while_nothing_is_answered() {
        for process in [
            Process::Constant,
            Process::Poisson,
            Process::Gamma { burstiness: 0.5 },
        ] {
            let server = Server::playing(Script::new().hold());
            let mut probe = probe(target(server.address));
            probe.timeouts = Timeouts {
                connect: ms(2000),
                first_token: ms(2500),
                stall: ms(2500),
                total: ms(2500),
            };
            let (all, summary) = fire(burst(probe, open_step(50.0, process, Volume::Requests(40)))).await;
            assert_eq!(summary.failures, BTreeMap::from([(Failure::HeadersTimeout, 40)]));
            assert!(summary.unsent.is_empty() && summary.judged == 40);
            let served = server.served();
            assert_eq!(served.len(), 40);
            let astray = most_astray(&all, &served);
            assert!(astray < LOOSE, "{process:?}: {astray:?}");
            // All were under way at once: none waited for another's end.
            assert_eq!(summary.peak_in_flight, 40);
        }
    }

    #[tokio::test]
    async fn at_a_constant_rate_lasts_and_keeps_the_intended_start() {
        let server = Server::playing(Script::answer(2, ms(5)));
        let step = open_step(40.0, Process::Constant, Volume::Lasting(ms(500)));
        let mut probe = probe(target(server.address));
        probe.warmup = 2;
        let (all, summary) = fire(burst(probe, step)).await;
        assert_eq!((all.len(), summary.requests, summary.successes), (22, 20, 20));
        let mut intended: Vec<_> = all
            .iter()
            .filter(|judged| !judged.record.warmup)
            .map(|judged| (judged.record.number, judged.record.timeline.intended))
            .collect();
        intended.sort_unstable();
        for pair in intended.windows(2) {
            let gap = pair[1].1 - pair[0].1;
            assert_eq!(gap, ms(25));
        }
    }

    #[tokio::test]
    async fn requests_that_find_no_place_are_counted_and_missed() {
        for withheld in [Withheld::Missed, Withheld::Ignore] {
            let server = Server::playing(Script::new().hold());
            let mut probe = probe(target(server.address));
            probe.timeouts = Timeouts {
                connect: ms(300),
                first_token: ms(300),
                stall: ms(300),
                total: ms(5000),
            };
            let mut step = open_step(1000.0, Process::Constant, Volume::Requests(20));
            step.slo.withheld = withheld;
            let mut burst = burst(probe, step);
            burst.places = Arc::new(Semaphore::new(4));
            // The four have their places for as long as the others may wait.
            let (all, summary) = fire(burst).await;
            let unsent = summary.unsent.get(&Skip::InFlight).copied().unwrap_or(0);
            assert_eq!(all.len() as u64 + unsent, 20);
            assert!(unsent > 0 && server.served().len() < 20, "{unsent}");
            assert_eq!(summary.requests, all.len() as u64);
            let expected = if withheld == Withheld::Missed { unsent } else { 0 };
            assert_eq!(
                (summary.withheld, summary.judged),
                (expected, summary.requests + expected)
            );
            assert_eq!(summary.good, 0);
        }
    }

    #[tokio::test]
    async fn the_wait_for_a_place_is_send_lag() {
        let server = Server::playing(Script::answer(1, ms(100)));
        let step = open_step(1000.0, Process::Constant, Volume::Requests(4));
        let mut burst = burst(probe(target(server.address)), step);
        burst.places = Arc::new(Semaphore::new(1));
        let (all, summary) = fire(burst).await;
        assert_eq!((summary.successes, summary.peak_in_flight), (4, 1));
        let lags: Vec<_> = all
            .iter()
            .map(|judged| judged.measured.send_lag.unwrap())
            .collect();
        assert!(lags[3] > ms(250).into(), "{lags:?}");
        assert!(
            all[3].measured.ttft.unwrap() < lags[3],
            "waiting is no part of a latency"
        );
    }

    /// Who is held up by others on the way out starts late, as with any other delay.
    #[tokio::test]
    async fn the_wait_for_the_gate_is_send_lag_where_requests_have_their_times() {
        let at_a_rate = open_step(1000.0, Process::Constant, Volume::Requests(4));
        for (step, is_lag) in [(at_a_rate, true), (step(4, Volume::Requests(4)), false)] {
            let server = Server::playing(Script::answer(1, ms(5)));
            let gate = Gate::default();
            let turn = gate.turn().await;
            let burst = burst_behind(probe(target(server.address)), step, gate);
            let holding = async {
                sleep(ms(800)).await;
                turn.pass();
            };
            let ((all, summary), ()) = tokio::join!(fire(burst), holding);
            assert_eq!(summary.successes, 4);
            for judged in &all {
                let lag = judged.measured.send_lag.unwrap();
                assert_eq!(lag > ms(700).into(), is_lag, "{lag:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_abort_counts_what_was_never_sent() {
        let server = Server::playing(Script::new().hold());
        let step = open_step(100.0, Process::Constant, Volume::Lasting(Duration::from_secs(10)));
        let mut burst = burst(probe(target(server.address)), step);
        burst.places = Arc::new(Semaphore::new(2));
        let brake = Arc::clone(&burst.brake);
        let cancelling = async {
            server.sees(|served| served.len() == 2).await;
            sleep(ms(100)).await;
            brake.pull(Skip::Drain);
            Instant::now()
        };
        let ((all, summary), cancelled) = tokio::join!(fire(burst), cancelling);
        assert!(cancelled.elapsed() < LOOSE);
        assert_eq!(
            summary.invalid,
            BTreeMap::from([(Invalid::Cancelled, all.len() as u64)])
        );
        assert_eq!(
            summary.unsent,
            BTreeMap::from([(Skip::Drain, 1000 - all.len() as u64)])
        );
        assert_eq!((summary.judged, summary.withheld), (0, 0));
    }

    /// At 10 requests a second for a minute, of which the process sleeps through half.
    async fn after_a_stop(then: impl AsyncFnOnce(&Brake)) -> (Vec<Judged>, Summary) {
        let step = open_step(10.0, Process::Constant, Volume::Lasting(Duration::from_mins(1)));
        let burst = burst(probe(target(support::server::closed_port())), step);
        let brake = Arc::clone(&burst.brake);
        let stopping = async {
            sleep(ms(950)).await;
            // The clock moves before anybody else can look at it.
            tokio::select! {
                biased;
                () = tokio::time::advance(Duration::from_secs(30)) => {}
                () = async {} => {}
            }
            then(&brake).await;
        };
        tokio::join!(collect(burst), stopping).0
    }

    /// Where time flies, no request comes back in time: all that counts is how many there are.
    async fn collect(burst: Burst) -> (Vec<Judged>, Summary) {
        let mut all = Vec::new();
        let summary = burst.run(|judged| all.push(judged)).await;
        (all, summary)
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_due_during_a_stop_is_not_sent_in_a_heap() {
        let (all, summary) = after_a_stop(async |_| {}).await;
        let late = summary.unsent[&Skip::Late];
        assert!((285..=295).contains(&late), "{late}");
        assert_eq!(all.len() as u64 + late, 600);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_once_the_brake_is_pulled_however_much_is_due() {
        let (all, summary) = after_a_stop(async |brake: &Brake| brake.pull(Skip::Paused)).await;
        assert!(all.len() <= 10, "{}", all.len());
        assert_eq!(summary.unsent.values().sum::<u64>() + all.len() as u64, 600);
        assert!(summary.unsent[&Skip::Paused] > 250, "{:?}", summary.unsent);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_come_as_their_process_says() {
        let (rate, count) = (50.0, 1500);
        for (seed, process, variation) in [
            (1, Process::Constant, 0.0),
            (2, Process::Poisson, 1.0),
            (3, Process::Gamma { burstiness: 0.25 }, 2.0),
            (4, Process::Gamma { burstiness: 4.0 }, 0.5),
        ] {
            fastrand::seed(seed);
            let step = open_step(rate, process, Volume::Requests(count));
            let burst = burst(probe(target(support::server::closed_port())), step);
            let (all, summary) = collect(burst).await;
            assert!(summary.unsent.is_empty(), "{process:?}: {:?}", summary.unsent);
            let mut intended: Vec<_> = all.iter().map(|judged| judged.record.timeline.intended).collect();
            intended.sort_unstable();
            let gaps = intended
                .windows(2)
                .map(|pair| rate * (pair[1] - pair[0]).as_secs_f64());
            let gaps: Vec<_> = gaps.collect();
            assert_eq!(gaps.len() + 1, count as usize);
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let squares = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>();
            let measured = (squares / gaps.len() as f64).sqrt() / mean;
            // Four deviations of the mean of so many.
            let off = 4.0 * variation / f64::from(count).sqrt() + 1e-6;
            assert!((mean - 1.0).abs() < off, "{process:?}: mean {mean}");
            assert!(
                (measured - variation).abs() < 0.15 * variation + 1e-6,
                "{process:?}: variation {measured} and not {variation}"
            );
        }
    }

    /// Each keeps its place until it gives up, and a hundred come due meanwhile.
    #[tokio::test]
    async fn that_find_no_places_let_others_have_theirs() {
        let server = Server::playing(Script::new().hold());
        let mut probe = probe(target(server.address));
        probe.timeouts = Timeouts {
            connect: ms(1000),
            first_token: ms(1000),
            stall: ms(1000),
            total: ms(5000),
        };
        let step = open_step(100.0, Process::Constant, Volume::Lasting(ms(3500)));
        let mut burst = burst(probe, step);
        let places = Arc::new(Semaphore::new(4));
        burst.places = Arc::clone(&places);
        let done = CancellationToken::new();
        let others = async {
            let mut bursts = 0;
            while !done.is_cancelled() {
                // A burst of two that is due every 400 ms waits for its places as long.
                let waited = timeout(ms(400), Arc::clone(&places).acquire_many_owned(2)).await;
                bursts += u32::from(waited.is_ok());
                sleep(ms(5)).await;
            }
            bursts
        };
        let firing = async {
            let fired = fire(burst).await;
            done.cancel();
            fired
        };
        let ((all, summary), bursts) = tokio::join!(firing, others);
        assert!(bursts > 0, "no other burst found its places");
        let unsent = summary.unsent[&Skip::InFlight];
        assert_eq!(all.len() as u64 + unsent, 350);
    }
}

#[tokio::test]
async fn users_of_a_ramp_start_one_after_the_other() {
    let server = Server::playing(Script::answer(1, ms(5)));
    let mut step = step(5, Volume::Requests(5));
    step.arrival = Arrival::Ramp { over: ms(500) };
    let (_, summary) = fire(burst(probe(target(server.address)), step)).await;
    assert_eq!((summary.successes, summary.start_spread), (5, None));
    let received: Vec<_> = server.served().iter().map(|one| one.received).collect();
    for (user, at) in received.iter().enumerate() {
        let due = ms(100) * u32::try_from(user).unwrap();
        assert!(
            (*at - received[0]).abs_diff(due) < LOOSE,
            "user {user}: {:?}",
            *at - received[0]
        );
    }
    assert!(received[4] - received[0] > ms(200));
}

mod cancelling {
    use super::*;

    #[tokio::test]
    async fn ends_every_request_and_closes_its_connection() {
        // Some wait for the head, some for a token, and more are to follow.
        for target in [target, reusing] {
            let server = Server::start(|request| match request.number % 2 {
                0 => Script::new().hold(),
                _ => Script::sse().token("a").hold(),
            });
            let burst = burst(probe(target(server.address)), step(6, Volume::Requests(20)));
            let brake = Arc::clone(&burst.brake);
            let cancelling = async {
                server.sees(|served| served.len() == 6).await;
                sleep(ms(30)).await;
                brake.pull(Skip::Drain);
                Instant::now()
            };
            let ((all, summary), cancelled) = tokio::join!(fire(burst), cancelling);
            assert!(cancelled.elapsed() < LOOSE);
            assert_eq!(all.len(), 6);
            assert!(all.iter().all(
                |judged| judged.record.outcome == Outcome::Invalid(Invalid::Cancelled)
                    && judged.record.ended.unwrap() >= judged.record.timeline.start.unwrap()
            ));
            assert_eq!(summary.invalid, BTreeMap::from([(Invalid::Cancelled, 6)]));
            assert_eq!(summary.unsent, BTreeMap::from([(Skip::Drain, 14)]));
            assert_eq!((summary.judged, summary.goodput), (0, None));
            let served = server
                .sees(|served| served.iter().all(|one| one.gone.is_some()))
                .await;
            assert_eq!(served.len(), 6);
        }
    }

    #[tokio::test]
    async fn while_warming_up_measures_nothing() {
        let server = Server::playing(Script::new().hold());
        let mut probe = probe(target(server.address));
        probe.warmup = 3;
        let burst = burst(probe, step(2, Volume::Requests(4)));
        let brake = Arc::clone(&burst.brake);
        let cancelling = async {
            server.sees(|served| served.len() == 2).await;
            brake.pull(Skip::Drain);
        };
        let ((all, summary), ()) = tokio::join!(fire(burst), cancelling);
        assert_eq!((all.len(), summary.requests), (2, 0));
        assert_eq!(summary.unsent, BTreeMap::from([(Skip::Drain, 4)]));
        assert!(all.iter().all(|judged| judged.record.warmup));
    }

    #[tokio::test]
    async fn at_any_instant_loses_no_record() {
        let server = Server::playing(Script::answer(2, ms(2)));
        let mut records = 0;
        for micros in (0..60).map(|step| step * 350) {
            let burst = burst(probe(target(server.address)), step(4, Volume::Requests(12)));
            let brake = Arc::clone(&burst.brake);
            let cancelling = async {
                sleep(Duration::from_micros(micros)).await;
                brake.pull(Skip::Drain);
            };
            let ((all, summary), ()) = tokio::join!(fire(burst), cancelling);
            records += all.len();
            let unsent: u64 = summary.unsent.values().sum();
            assert_eq!(all.len() as u64 + unsent, 12, "{:?}", summary.unsent);
        }
        // What arrived was recorded; what was cancelled on its way may have arrived all the same.
        let arrived = server.served().len();
        assert!(arrived <= records, "{arrived} arrived, {records} records");
    }
}

mod accounts {
    use super::*;

    #[tokio::test]
    async fn for_whatever_mix_of_failures() {
        let server = Server::start(|request| match request.number % 8 {
            0 => Script::answer(2, ms(5)),
            1 => Script::plain("500 Oops", "text/plain", "no"),
            2 => Script::sse().token("a").wait(ms(5)).reset(),
            3 => Script::sse().token("a").end(),
            4 => Script::sse().data(r#"{"error":"no"}"#).hold(),
            5 => Script::new().hold(),
            6 => Script::plain("429 Too Many Requests", "application/json", "{}"),
            _ => Script::sse().token("a").hold(),
        });
        let mut probe = probe(target(server.address));
        probe.timeouts = SHORT;
        let (all, summary) = fire(burst(probe, step(8, Volume::Requests(40)))).await;
        assert_eq!((all.len(), summary.successes), (40, 5));
        let expected = [
            Failure::ServerError,
            Failure::ConnectionLost,
            Failure::Truncated,
            Failure::ApiError,
            Failure::HeadersTimeout,
            Failure::RateLimited,
            Failure::StallTimeout,
        ];
        assert_eq!(
            summary.failures,
            BTreeMap::from(expected.map(|failure| (failure, 5)))
        );
        assert_eq!((summary.judged, summary.good), (40, 5));
        assert_eq!(summary.goodput.unwrap().to_string(), "12.5 %");
        assert_eq!(summary.objective_met, Some(false));
        // Requests with a first token, and those that waited for it in vain.
        assert_eq!(summary.ttft.unwrap().count, 25);
        assert!(summary.first_failure.is_some());
        assert_eq!(server.served().len(), 40);
    }

    #[tokio::test]
    async fn for_an_endpoint_that_is_not_there() {
        let (all, summary) = fire(burst(
            probe(target(support::server::closed_port())),
            step(10, Volume::Requests(100)),
        ))
        .await;
        assert_eq!(all.len(), 100);
        assert_eq!(summary.failures, BTreeMap::from([(Failure::ConnectRefused, 100)]));
        assert_eq!(summary.duration, None);
    }

    /// What we have not got says nothing about the endpoint. The limit holds for a whole process, so the test
    /// runs itself.
    #[tokio::test]
    async fn for_requests_that_find_no_file_descriptor() {
        const CHILD: &str = "LLM_PROBE_TEST_CHILD";
        if std::env::var_os(CHILD).is_none() {
            let output = std::process::Command::new("sh")
                .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "accounts::for_requests_that_find_no_file_descriptor"])
                .env(CHILD, "1")
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            assert!(
                String::from_utf8_lossy(&output.stdout).contains("1 passed"),
                "{output:?}"
            );
            return;
        }
        // Nobody accepts, so all descriptors are the client's.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut probe = probe(target(listener.local_addr().unwrap()));
        probe.timeouts = SHORT;
        let (all, summary) = fire(burst(probe, step(50, Volume::Requests(50)))).await;
        let local = summary.invalid.get(&Invalid::Local).copied().unwrap();
        assert!((15..50).contains(&local), "{local}");
        assert_eq!(
            summary.failures,
            BTreeMap::from([(Failure::HeadersTimeout, 50 - local)])
        );
        assert_eq!((all.len() as u64, summary.judged), (50, 50 - local));
    }

    #[tokio::test]
    async fn for_the_objectives() {
        let server = Server::start(|request| match request.number % 2 {
            0 => Script::answer(3, ms(1)),
            _ => Script::sse().wait(ms(700)).token("a").token("b").ending(),
        });
        let judging = Step {
            slo: Slo {
                ttft: Some(ms(600)),
                ..Slo::default()
            },
            ..step(6, Volume::Requests(12))
        };
        let (all, summary) = fire(burst(probe(target(server.address)), judging)).await;
        assert_eq!((summary.successes, summary.judged, summary.good), (12, 12, 6));
        let missed = all
            .iter()
            .filter(|judged| judged.verdicts.get(Objective::Ttft) == Some(Verdict::Missed))
            .count();
        assert_eq!(missed, 6);
        assert_eq!(summary.objective_met, Some(false));
    }

    #[tokio::test]
    async fn for_requests_that_panic() {
        let server = Server::playing(Script::answer(1, ms(0)));
        let mut probe: Probe = probe(target(server.address));
        probe.timeouts = NO_CLOCK_CAN_HOLD;
        let (all, summary) = fire(burst(probe, step(2, Volume::Requests(7)))).await;
        assert_eq!(all.len(), 7);
        assert_eq!(summary.invalid, BTreeMap::from([(Invalid::Internal, 7)]));
    }
}

mod identity {
    use std::collections::BTreeSet;

    use llm_probe_exporter::config::{plan::Header, secret::Secret};

    use super::*;

    #[tokio::test]
    async fn the_endpoint_is_told_what_the_records_say() {
        let server = Server::start(|request| numbered(request, ms(20)));
        let (all, summary) = fire(burst(probe(target(server.address)), step(3, Volume::Requests(6)))).await;
        let served = server.served();
        let mut ids = BTreeSet::new();
        for judged in &all {
            let one = served_for(judged, &served);
            let id = judged.record.id.unwrap().to_string();
            assert_eq!(one.header("X-Request-Id"), Some(id.as_str()));
            assert_eq!(one.header("X-Probe-Id"), Some("probe"));
            let trace = format!("00-{}-", id.replace('-', ""));
            let traceparent = one.header("traceparent").unwrap();
            assert!(
                traceparent.starts_with(&trace) && traceparent.ends_with("-00") && traceparent.len() == 55,
                "{traceparent}"
            );
            ids.insert(id);
        }
        assert_eq!(ids.len(), 6);
        let ttft = |judged: &&Judged| judged.measured.ttft.unwrap();
        let slowest = all
            .iter()
            .max_by(|one, other| ttft(one).partial_cmp(&ttft(other)).unwrap());
        assert_eq!(summary.slowest_request, slowest.unwrap().record.id);
    }

    #[tokio::test]
    async fn a_failure_says_which_request_it_was() {
        let server = Server::playing(Script::plain("500 Oops", "text/plain", "no"));
        let (all, summary) = fire(burst(probe(target(server.address)), step(1, Volume::Requests(1)))).await;
        let id = all[0].record.id.unwrap();
        let expected = format!("server_error (request {id}): HTTP 500");
        assert!(summary.first_failure.unwrap().starts_with(&expected));
    }

    #[tokio::test]
    async fn a_header_of_the_target_wins() {
        let server = Server::playing(Script::answer(1, ms(0)));
        let mut target = target(server.address);
        target.headers.push(Header {
            name: "X-Request-ID".into(),
            value: Secret::Inline("mine".into()),
        });
        fire(burst(probe(target), step(1, Volume::Requests(1)))).await;
        let served = server.served();
        assert_eq!(served[0].header("x-request-id"), Some("mine"));
        assert_eq!(
            served[0]
                .head
                .to_ascii_lowercase()
                .matches("x-request-id")
                .count(),
            1
        );
    }
}
