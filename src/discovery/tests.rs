use std::{fs, path::PathBuf};

use super::*;
use crate::{
    config::{ConfigError, plan::Lists},
    metrics::Metrics,
    reload::Order,
};

const CONFIG: &str = "
discover:
  - { name: one, files: ['one/*.json'], target: { name: '${called}', url: 'http://${address}/v1', api: openai_chat, model: m } }
  - { name: two, files: ['two.json'], target: { name: '${called}', url: 'http://${address}/v1', api: openai_chat, model: m } }
probes: [{ name: p }, { name: of-c, targets: [c] }]
";

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("one")).unwrap();
        fs::write(folder.path().join("probes.yaml"), CONFIG).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn list(&self, name: &str, called: &[&str]) {
        let of = |called: &&str| format!("{{targets: ['h:1'], labels: {{called: '{called}'}}}}");
        let groups: Vec<_> = called.iter().map(of).collect();
        fs::write(self.path(name), format!("[{}]", groups.join(", "))).unwrap();
    }

    fn load(&self, lists: &Lists) -> Result<Plan, ConfigError> {
        config::load(&self.path("probes.yaml"), lists)
    }

    /// The targets that come into force, and the lists that are wrong.
    fn settle(&self, known: &Known) -> (Vec<String>, Vec<String>) {
        let settled = known.settle(read_files, |lists| self.load(lists)).unwrap();
        let targets = settled.plan.targets().iter();
        let wrong = settled.wrong.iter().map(|wrong| wrong.list.to_string());
        (
            targets.map(|target| target.name.to_string()).collect(),
            wrong.collect(),
        )
    }
}

#[test]
fn a_wrong_list_keeps_no_other_from_coming_into_force() {
    let (scratch, known) = (Scratch::new(), Known::default());
    // What is not there makes no targets at first, also none of those that a probe names.
    scratch.list("one/a.json", &["a"]);
    assert_eq!(scratch.settle(&known), (vec!["a".into()], vec!["two".into()]));
    scratch.list("two.json", &["c"]);
    assert_eq!(scratch.settle(&known), (vec!["a".into(), "c".into()], vec![]));

    // A list that is none, one that wants a label, one whose target there is already: beside each the other one changes.
    for (round, bad) in [
        "[",
        "[{targets: ['h:1']}]",
        "[{targets: ['h:1'], labels: {called: a}}]",
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(scratch.path("two.json"), bad).unwrap();
        let new = format!("new-{round}");
        scratch.list("one/a.json", &["a", &new]);
        let expected = vec!["a".to_owned(), new, "c".to_owned()];
        assert_eq!(scratch.settle(&known), (expected, vec!["two".into()]), "{bad}");
    }
    scratch.list("two.json", &["c", "d"]);
    let expected = ["a", "new-2", "c", "d"].map(String::from).to_vec();
    assert_eq!(scratch.settle(&known), (expected, vec![]));
}

#[test]
fn a_wrong_configuration_is_its_own_error() {
    let (scratch, known) = (Scratch::new(), Known::default());
    scratch.list("two.json", &["c"]);
    scratch.settle(&known);
    fs::write(scratch.path("probes.yaml"), CONFIG.replace("name: p", "nam: p")).unwrap();
    known.settle(read_files, |lists| scratch.load(lists)).unwrap_err();
    fs::write(scratch.path("probes.yaml"), CONFIG).unwrap();
    assert_eq!(scratch.settle(&known), (vec!["c".into()], vec![]));
}

#[test]
fn files_of_a_list_are_bounded_together() {
    let scratch = Scratch::new();
    let text = format!("# {}\n[]", "x".repeat(1 << 19));
    for file in 0..=16 {
        fs::write(scratch.path(&format!("one/{file}.json")), &text).unwrap();
    }
    let error = texts(&[scratch.path("one/*.json")]).unwrap_err();
    assert!(error.contains("more than 8 MiB"), "{error}");
}

/// A list that changes while nobody listens is asked for again.
#[tokio::test(start_paused = true)]
async fn what_is_refused_is_asked_again() {
    let (scratch, known) = (Scratch::new(), Known::default());
    scratch.list("two.json", &["c"]);
    let settled = known.settle(read_files, |lists| scratch.load(lists)).unwrap();
    let (reloader, mut orders) = Reloader::new();
    // As many as may wait.
    for _ in 0..16 {
        let reloader = reloader.clone();
        tokio::spawn(async move { reloader.ask("a test").await });
    }
    tokio::task::yield_now().await;
    let metrics = Metrics::new(&[], &config::plan::Exposition::default());
    let mut discovery = Discovery::new(known.clone(), reloader, metrics, &Handle::current());
    discovery.follow(&settled);
    scratch.list("two.json", &["c", "d"]);
    sleep(LOOK * 5).await;
    let by_list = |order: &Order| order.by.starts_with("a list");
    for _ in 0..16 {
        assert!(!by_list(&orders.recv().await.unwrap()));
    }
    let order = orders.recv().await.unwrap();
    assert!(by_list(&order));
    let expected = ["c", "d"].map(String::from).to_vec();
    assert_eq!(scratch.settle(&known), (expected, vec![]));
    order.answer(Answer::Done(String::new()));
    // Once is enough.
    sleep(LOOK * 5).await;
    assert!(orders.try_recv().is_err());
}
