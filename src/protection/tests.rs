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
    let plan = config::parse(CONFIG, "probes.yaml", Path::new(".")).unwrap();
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
