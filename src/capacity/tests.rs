use super::*;
use crate::{
    config::plan::{Key, Wished},
    diagnose::Cause,
    load::{Rate, Volume},
};

fn bounds(wished: Wished) -> Bounds {
    Bounds::new(Load::Users(1), Volume::Requests(1), 0, 1024, wished).unwrap()
}

fn rates(wished: Wished) -> Bounds {
    let lowest = Load::Rate(Rate::new(0.5).unwrap());
    Bounds::new(lowest, Volume::Requests(20), 2, 1024, wished).unwrap()
}

fn wished(max: f64, requests: u32) -> Wished {
    Wished {
        max: Some(max),
        requests: Some(requests),
        ..Wished::default()
    }
}

/// A burst that met or missed, at an endpoint that answers all of it.
fn burst(bounds: &Bounds, load: Load, met: bool) -> Burst {
    let judged = bounds.requests_at(load).into();
    Burst {
        met: Some(met),
        sent: bounds.cost(load),
        judged,
        good: if met { judged } else { judged / 2 },
        ttft: vec![0.1, 0.2],
        itl: vec![0.01],
        cause: (!met).then_some(Cause::Queue),
        ..Burst::default()
    }
}

fn slo() -> Slo {
    Slo {
        ttft: Some(std::time::Duration::from_millis(500)),
        ..Slo::default()
    }
}

/// What is found where `fire` says what becomes of a burst; and the loads that were fired.
fn run(bounds: Bounds, mut fire: impl FnMut(Load) -> Burst) -> (Capacity, Vec<Load>) {
    let (mut search, mut fired) = (Search::new(bounds), Vec::new());
    loop {
        match search.next() {
            Next::Fire(load) => {
                fired.push(load);
                search.ended(load, fire(load));
            }
            Next::End(end) => return (search.capacity(end, &slo()), fired),
        }
    }
}

/// An endpoint that bears all loads up to `knee`.
fn bears(bounds: Bounds, knee: u32) -> (Capacity, Vec<Load>) {
    run(bounds, |load| burst(&bounds, load, load.size() <= knee))
}

#[test]
fn every_knee_is_found() {
    let bounds = bounds(wished(300.0, 100_000));
    for knee in 1..300 {
        let (found, fired) = bears(bounds, knee);
        let (meets, misses) = (found.meets.unwrap().size(), found.misses.unwrap().size());
        assert_eq!(found.ended, End::Found, "{knee}");
        assert!(meets <= knee && knee < misses, "{meets}..{misses} of {knee}");
        // To the user below 40, and to a twentieth above.
        let close = (meets / 20).max(1);
        assert!(misses - meets <= close, "{meets}..{misses} of {knee}");
        assert_eq!(found.confidence.map(Ratio::get), Some(1.0));
        assert!(fired.len() <= 2 * 17, "{}", fired.len());
    }
}

#[test]
fn every_rate_is_found() {
    let bounds = rates(wished(1000.0, 100_000));
    for knee in (500..900_000).step_by(777) {
        let (found, _) = bears(bounds, knee);
        let (meets, misses) = (found.meets.unwrap().size(), found.misses.unwrap().size());
        assert!(meets <= knee && knee < misses, "{meets}..{misses} of {knee}");
        assert!(f64::from(misses) <= f64::from(meets) * 1.05, "{meets}..{misses}");
    }
}

#[test]
fn no_load_is_more_than_double_what_was_borne() {
    for knee in 0..=64 {
        let (_, fired) = bears(bounds(wished(64.0, 100_000)), knee);
        let mut borne = 0;
        for load in fired {
            assert!(
                load.size() <= (2 * borne).max(1),
                "{load} after {borne} of {knee}"
            );
            if load.size() <= knee {
                borne = borne.max(load.size());
            }
        }
    }
}

#[test]
fn requests_never_exceed_the_bound_and_are_not_wasted() {
    for requests in 2..400 {
        for repeats in 1..=5 {
            let wished = Wished {
                repeats: Some(repeats),
                ..wished(64.0, requests)
            };
            let Ok(bounds) = Bounds::new(Load::Users(1), Volume::Requests(1), 1, 1024, wished) else {
                assert!(requests < 2 * (repeats / 2 + 1));
                continue;
            };
            for knee in [0, 1, 5, 16, 63, 64] {
                let mut turn = 0;
                let (found, _) = run(bounds, |load| {
                    turn += 1;
                    // Bursts do not agree.
                    burst(&bounds, load, (load.size() <= knee) ^ (turn % 3 == 0))
                });
                assert!(
                    found.requests <= requests.into(),
                    "{} of {requests}",
                    found.requests
                );
                let sent: u64 = found.curve.iter().map(|point| point.requests).sum();
                assert_eq!(sent, found.requests);
                if found.ended != End::Requests {
                    assert!(found.curve.iter().all(|point| point.met.is_some()), "{found:?}");
                }
            }
        }
    }
}

#[test]
fn one_burst_of_three_turns_nothing() {
    let bounds = bounds(wished(64.0, 10_000));
    for odd in 0..3 {
        let mut bursts = std::collections::HashMap::new();
        let (found, _) = run(bounds, |load| {
            let number = bursts.entry(load).or_insert(0);
            let is_odd = *number == odd;
            *number += 1;
            burst(&bounds, load, (load.size() <= 13) ^ is_odd)
        });
        let edge = (found.meets.unwrap(), found.misses.unwrap());
        assert_eq!(edge, (Load::Users(13), Load::Users(14)));
        let agreed = if odd == 2 { 1.0 } else { 2.0 / 3.0 };
        assert_eq!(found.confidence.map(Ratio::get), Some(agreed), "{odd}");
        assert_eq!(
            found.sentence.contains("the edge is not sharp: 2 of 3"),
            odd != 2,
            "{}",
            found.sentence
        );
    }
}

#[test]
fn a_load_ends_with_its_verdict() {
    let bounds = bounds(Wished {
        repeats: Some(5),
        ..wished(2.0, 1000)
    });
    let (found, fired) = bears(bounds, 1);
    assert_eq!(found.ended, End::Found);
    assert_eq!(fired, [[Load::Users(1); 3], [Load::Users(2); 3]].concat());
}

#[test]
fn an_endpoint_that_sheds_ends_the_search_at_once() {
    let bounds = bounds(wished(64.0, 10_000));
    let (found, fired) = run(bounds, |load| {
        let mut burst = burst(&bounds, load, load.size() <= 4);
        burst.cut_short = (load.size() > 4).then_some(Skip::Backoff);
        burst
    });
    assert_eq!(found.ended, End::Stopped(Skip::Backoff));
    assert_eq!(
        (found.meets, found.misses),
        (Some(Load::Users(4)), Some(Load::Users(8)))
    );
    assert_eq!(fired.iter().filter(|load| load.size() == 8).count(), 1);
    assert!(found.is_known());
    assert!(
        found.sentence.ends_with("the endpoint shed load or failed"),
        "{}",
        found.sentence
    );
}

/// Neither a burst that we cut short nor one that cannot be judged says anything of its load.
#[test]
fn what_is_not_the_endpoints_doing_is_no_verdict() {
    let bounds = bounds(wished(64.0, 10_000));
    for (met, cut_short, ended) in [
        (Some(true), Some(Skip::Paused), End::Stopped(Skip::Paused)),
        (
            Some(false),
            Some(Skip::ServerBusy),
            End::Stopped(Skip::ServerBusy),
        ),
        (None, Some(Skip::Drain), End::Stopped(Skip::Drain)),
    ] {
        let (found, fired) = run(bounds, |load| Burst {
            met,
            cut_short,
            ..burst(&bounds, load, true)
        });
        assert_eq!((found.ended, fired.len()), (ended, 1));
        assert_eq!((found.meets, found.misses, found.is_known()), (None, None, false));
        assert!(
            found.sentence.starts_with("it is not known"),
            "{}",
            found.sentence
        );
    }
    let mut search = Search::new(bounds);
    search.stop(Skip::InFlight);
    assert_eq!(search.next(), Next::End(End::Stopped(Skip::InFlight)));
}

#[test]
fn what_was_found_is_said() {
    let small = bounds(wished(16.0, 1000));
    for (bounds, knee, sentence) in [
        (
            small,
            12,
            "meets 99 % (ttft ≤ 500 ms) up to 12 users; at 13 users goodput was 46.154 %, limited by queue",
        ),
        (
            small,
            16,
            "meets 99 % (ttft ≤ 500 ms) up to 16 users, the highest load that was tried: the capacity is at least that",
        ),
        (
            small,
            0,
            "does not meet 99 % (ttft ≤ 500 ms) even at the lowest load: at 1 user goodput was 0 %, limited by queue",
        ),
        (
            bounds(wished(16.0, 50)),
            12,
            "meets 99 % (ttft ≤ 500 ms) at 8 users; more was not tried; what is left of its requests suffices for no further verdict",
        ),
        (
            rates(wished(16.0, 10_000)),
            7000,
            "meets 99 % (ttft ≤ 500 ms) up to 7 requests/s; at 7.25 requests/s goodput was 50 %, limited by queue",
        ),
    ] {
        assert_eq!(bears(bounds, knee).0.sentence, sentence);
    }
}

#[test]
fn a_point_of_the_curve_sums_up_its_bursts() {
    let bounds = bounds(wished(2.0, 1000));
    let (found, _) = bears(bounds, 1);
    let lowest = &found.curve[0];
    assert_eq!((lowest.load, lowest.met), (Load::Users(1), Some(true)));
    assert_eq!((lowest.bursts, lowest.bursts_met, lowest.requests), (2, 2, 2));
    assert_eq!(lowest.goodput, Ratio::new(1.0));
    let times = [lowest.ttft_p50, lowest.ttft_p95, lowest.itl_p50].map(|time| time.unwrap().get());
    assert!(
        (times[0] - 0.15).abs() < 1e-9 && (times[1] - 0.2).abs() < 1e-9,
        "{times:?}"
    );
    assert_eq!(found.curve[1].limited_by, Some(Cause::Queue));
}

#[test]
fn a_burst_that_cannot_meet_any_more_is_known() {
    let ratio = |share| Ratio::new(share).unwrap();
    for (planned, missed, objective, can) in [
        (10, 0, 0.99, true),
        (10, 1, 0.99, false),
        (100, 1, 0.99, true),
        (100, 2, 0.99, false),
        (20, 10, 0.5, true),
        (20, 11, 0.5, false),
        (3, 9, 0.5, false),
    ] {
        assert_eq!(
            can_meet(planned, missed, ratio(objective)),
            can,
            "{missed} of {planned}"
        );
    }
}

#[test]
fn wishes_that_cannot_be_met_name_their_key() {
    let repeats = |repeats| Wished {
        repeats: Some(repeats),
        ..Wished::default()
    };
    let resolution = |share| Wished {
        resolution: Ratio::new(share),
        ..Wished::default()
    };
    for (wished, key) in [
        (wished(1.0, 500), Key::Max),
        (wished(2.5, 500), Key::Max),
        (wished(f64::NAN, 500), Key::Max),
        (wished(101.0, 500), Key::Max),
        (wished(64.0, 1), Key::Requests),
        (wished(64.0, 1_000_001), Key::Requests),
        (repeats(0), Key::Repeats),
        (repeats(101), Key::Repeats),
        (resolution(0.0), Key::Resolution),
        (resolution(0.6), Key::Resolution),
    ] {
        let unfit = Bounds::new(Load::Users(1), Volume::Requests(1), 0, 100, wished).unwrap_err();
        assert_eq!(unfit.key, key, "{unfit:?}");
    }
    let usual = Bounds::new(Load::Users(1), Volume::Requests(1), 0, 20, Wished::default()).unwrap();
    assert_eq!(usual.most, Load::Users(20), "no more than may be under way");
}

#[test]
fn what_cannot_be_judged_is_fired_again() {
    let bounds = bounds(wished(64.0, 10_000));
    let unjudged = |load| Burst {
        met: None,
        judged: 0,
        ..burst(&bounds, load, true)
    };
    let (found, fired) = run(bounds, unjudged);
    assert_eq!(
        (found.ended, fired.len(), found.is_known()),
        (End::NotJudged, 3, false)
    );
    let mut turn = 0;
    let (found, _) = run(bounds, |load| {
        turn += 1;
        if turn % 2 == 0 {
            unjudged(load)
        } else {
            burst(&bounds, load, load.size() <= 13)
        }
    });
    assert_eq!((found.ended, found.meets), (End::Found, Some(Load::Users(13))));
}
