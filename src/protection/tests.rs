use std::{path::Path, time::Duration};

use super::*;
use crate::{
    backoff::Protect,
    config,
    outcome::{Failure, Outcome, Skip},
};

const CONFIG: &str = "
targets: [{ name: t, url: 'http://127.0.0.1:9/v1', api: openai_chat, model: m }]
probes: [{ name: p, every: 1m }]
";

fn guarded() -> Guarded {
    guarded_by(CONFIG)
}

fn guarded_by(text: &str) -> Guarded {
    let plan = config::parse(text, "probes.yaml", Path::new(".")).unwrap();
    let (probe, target) = (&plan.probes()[0], &plan.targets()[0]);
    let protection = Protection::new(1).next(&plan, &Handle::current()).unwrap();
    protection.of(probe, target).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_nobody_ended_is_made_again() {
    let guarded = Arc::new(guarded());
    let brake = Brake::new(Some(Protect::default()));
    let shed = Outcome::Failed(Failure::RateLimited);
    brake.ended(shed, Some(Duration::from_secs(1)), true);
    guarded.burst_ended(&brake);
    let blocking = Handle::current();
    assert_eq!(guarded.admit(&blocking).await.unwrap_err(), Skip::Backoff);

    tokio::time::sleep(Duration::from_mins(1)).await;
    let dies = tokio::spawn({
        let (guarded, blocking) = (Arc::clone(&guarded), blocking.clone());
        async move {
            let trial = guarded.admit(&blocking).await.unwrap();
            // One at a time.
            assert_eq!(guarded.admit(&blocking).await.unwrap_err(), Skip::Backoff);
            let _held = trial.unwrap();
            panic!("a defect");
        }
    });
    assert!(dies.await.unwrap_err().is_panic());
    assert!(guarded.admit(&blocking).await.unwrap().is_some());
}

/// What its requests have used nobody knows.
#[tokio::test]
async fn a_round_that_dies_has_used_what_was_reserved_for_it() {
    let text = CONFIG.replace(
        "every: 1m",
        "every: 1m, concurrency: 5, budget: { requests: 100000, per: day }",
    );
    let guarded = Arc::new(guarded_by(&text));
    let used = || format!("{:.0}", guarded.purses[0].now().1.requests);
    drop(guarded.round().unwrap());
    assert_eq!(used(), "0", "what was not sent is free again");
    let dies = tokio::spawn({
        let guarded = Arc::clone(&guarded);
        async move {
            let _spending = guarded.round().unwrap();
            panic!("a defect");
        }
    });
    assert!(dies.await.unwrap_err().is_panic());
    assert_eq!(used(), "5");
    // Nothing is counted twice.
    let kept = lock(&guarded.purses[0].account).kept();
    assert_eq!(format!("{:.0}", kept.used.requests), "5");
}
