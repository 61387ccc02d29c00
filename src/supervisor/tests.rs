use std::{collections::HashMap, path::Path};

use tokio::time::sleep;

use super::*;
use crate::{
    config,
    metrics::Format,
    outcome::Skip,
    runner::{Armed, What},
};

const CONFIG: &str = "
targets: [{ name: nobody, url: 'http://127.0.0.1:9/v1', api: openai_chat, model: m }]
defaults: { every: 100ms }
probes: [{ name: broken }, { name: healthy }]
";

fn restarts(metrics: &Metrics) -> u64 {
    let text = String::from_utf8(metrics.render(Format::Text)).unwrap();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("llm_probe_exporter_task_restarts_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_panic_in_one_probe_touches_no_other() {
    let plan = config::parse(CONFIG, "probes.yaml", Path::new(".")).unwrap();
    let measure = Handle::current();
    let (shared, mut told) = Shared::new(&plan, &measure);
    let metrics = shared.metrics.clone();
    let mut supervisor = Supervisor::new(&plan, shared).unwrap();
    // Nobody asks for bursts on demand here.
    supervisor.runners.send_replace(Vec::new());
    let broken = Arc::get_mut(&mut supervisor.running[0].runner).unwrap();
    // No configuration gets there: when the next burst is due no clock can say.
    let never = Probe {
        every: Duration::MAX,
        ..(*broken.probe).clone()
    };
    broken.probe = Arc::new(never);
    supervisor.arm(&measure, true);

    // The task that died has its second life, and the other probe at the same target goes on.
    let mut bursts: HashMap<_, u32> = HashMap::new();
    let mut has_restarted = false;
    while !has_restarted || bursts.get("healthy").is_none_or(|bursts| *bursts < 20) {
        let next = timeout(Duration::from_mins(1), told.recv()).await;
        let Event { watched, what } = next.unwrap().unwrap();
        let probe = watched.series.probe.name.to_string();
        match what {
            What::Restarted => {
                assert_eq!(probe, "broken");
                has_restarted = true;
            }
            What::Ended(..) => *bursts.entry(probe).or_default() += 1,
            _ => {}
        }
    }
    assert!(restarts(&metrics) >= 1);

    // Neither does it hold up the end, nor what comes after a reload.
    let rest = config::parse(
        &CONFIG.replace("{ name: broken }, ", ""),
        "probes.yaml",
        Path::new("."),
    );
    let changes = supervisor.follow(&rest.unwrap()).await.unwrap();
    assert_eq!((changes.unchanged, changes.removed), (1, 1));
    timeout(Duration::from_mins(1), supervisor.drain(Duration::from_secs(10)))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_due_while_nobody_follows_a_schedule_is_skipped() {
    let plan = config::parse(CONFIG, "probes.yaml", Path::new(".")).unwrap();
    let (shared, mut told) = Shared::new(&plan, &Handle::current());
    let supervisor = Supervisor::new(&plan, shared).unwrap();
    let runner = &supervisor.running[0].runner;
    let armed = Armed::default();
    let follow = || tokio::spawn(Arc::clone(runner).keep_firing(true, armed.clone()));
    let dies = follow();
    while !matches!(told.recv().await.unwrap().what, What::Ended(..)) {}
    dies.abort();
    dies.await.unwrap_err();
    sleep(Duration::from_secs(1)).await;
    // As many intervals have passed.
    let goes_on = follow();
    let mut late = 0;
    while late < 5 {
        let next = timeout(Duration::from_mins(1), told.recv()).await;
        match next.unwrap().unwrap().what {
            What::Armed => panic!("it is armed already"),
            What::Skipped(Skip::Late, bursts) => late += bursts,
            _ => {}
        }
    }
    goes_on.abort();
}
