//! How many words the made-up prompts of a probe take at a target: learned before its first burst, and from then on.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Runner, Watched, What};
use crate::{
    burst::calibrating_body,
    calibration::{Calibrations, Count, Fit},
    clock::unix_now,
    config::plan::{Probe, Target},
    identity::RequestId,
    outcome::{Outcome, Skip},
    prompt::Source,
    protection::Brake,
    rhythm::fnv1a,
};

/// Words of the shorter prompt that is counted before the first burst.
const FEW: u64 = 16;

/// Words of the longer one: about what the probe asks, within these bounds.
const MANY: std::ops::RangeInclusive<u64> = 64..=1024;

/// A server that takes longer than this is measured without.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most requests that are sent before the first burst.
const REQUESTS: u64 = 2;

/// How long after a try that failed another one is made.
const AGAIN: Duration = Duration::from_mins(5);

const NO_GROWTH: &str = "the server's counts do not grow with the prompt as words would make them";

/// Why nothing was learned.
#[derive(Clone, Copy, Debug)]
enum Failed {
    /// The server does not say how many tokens a prompt has.
    ForGood,
    /// Another time it may be learned.
    ForNow(&'static str),
}

impl Failed {
    const fn in_words(self) -> &'static str {
        match self {
            Self::ForGood => "the server reports no tokens of prompts",
            Self::ForNow(why) => why,
        }
    }
}

/// What was tried at a target. Clones are the same; while one probe tries, the others wait.
#[derive(Clone, Debug, Default)]
pub struct Tried(Arc<Mutex<Ways>>);

#[derive(Debug, Default)]
struct Ways {
    /// The kinds of requests of which somebody tried to learn how they are counted.
    kinds: BTreeSet<String>,
    /// The server cannot be asked how many tokens a prompt has.
    cannot_count: bool,
    /// What failed for no reason of the server's counting is not tried again before.
    not_before: Option<Instant>,
}

/// How long the made-up prompts of one probe are at one target.
#[derive(Debug)]
pub struct Sizing {
    /// What the kind of request is called, where prompts are made up.
    kind: Option<String>,
    calibrations: Calibrations,
    tried: Tried,
    /// Nothing is tried any more.
    is_over: AtomicBool,
}

impl Sizing {
    pub fn new(probe: &Probe, target: &Target, calibrations: &Calibrations, tried: &Tried) -> Self {
        let is_made_up = matches!(probe.prompt.source, Source::Synthetic(_));
        // Whatever is in a request beside the words makes it another kind.
        let kind = || {
            let body = calibrating_body(probe, target, 1, 0);
            format!("{} {:016x}", target.name, fnv1a(body.iter().copied()))
        };
        Self {
            kind: is_made_up.then(kind),
            calibrations: calibrations.clone(),
            tried: tried.clone(),
            is_over: AtomicBool::new(false),
        }
    }

    /// What is known of the words; `None` where it is nothing.
    pub(super) fn fit(&self) -> Option<Fit> {
        self.calibrations.of(self.kind.as_ref()?).fit()
    }

    pub(super) fn learn(&self, counts: &[Count]) {
        if let Some(kind) = &self.kind {
            self.calibrations.learn(kind, counts, unix_now());
        }
    }

    /// The kind, and what was tried at the target, where it is for this probe to try now.
    async fn turn(&self, deadline: Instant) -> Option<(&String, MutexGuard<'_, Ways>)> {
        let kind = self.kind.as_ref()?;
        if self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let ways = timeout_at(deadline, self.tried.0.lock()).await.ok()?;
        if self.calibrations.of(kind).is_known() || ways.kinds.contains(kind) {
            self.is_over.store(true, Ordering::Relaxed);
            return None;
        }
        let too_early = ways.not_before.is_some_and(|again| Instant::now() < again);
        (!too_early).then_some((kind, ways))
    }
}

impl Runner {
    /// Before the first burst of made-up prompts: lets two of different lengths be counted, if nobody has. It takes no
    /// longer than a request may take to its first token, nor than [`PATIENCE`], and where it fails the burst is fired all the same.
    pub(super) async fn calibrate(&self, cancel: &CancellationToken) {
        let (Source::Synthetic(length), Some(step)) = (&self.probe.prompt.source, self.steps.first()) else {
            return;
        };
        let timeouts = self.probe.timeouts;
        let deadline = Instant::now() + timeouts.first_token.min(PATIENCE);
        let turn = tokio::select! {
            biased;
            () = self.ends(cancel) => return,
            turn = self.sizing.turn(deadline) => turn,
        };
        let Some((kind, mut ways)) = turn else {
            return;
        };
        let lengths = [FEW, length.most().0.clamp(*MANY.start(), *MANY.end())];
        let mut failed = None;
        if self.access.endpoint().client.may_count()
            && !ways.cannot_count
            && let Err(error) = tokio::select! {
                biased;
                () = self.ends(cancel) => return,
                asked = self.ask_for_counts(lengths, timeouts.connect) => asked,
            }
        {
            tracing::debug!(target = %self.target.name, error, "the server does not count tokens without inference");
            ways.cannot_count = true;
        }
        if !self.sizing.calibrations.of(kind).is_known() {
            failed = self
                .send_to_be_counted(step, lengths, deadline, cancel)
                .await
                .err();
        }
        if matches!(failed, Some(Failed::ForNow(_))) {
            ways.not_before = Some(Instant::now() + AGAIN);
        } else {
            ways.kinds.insert(kind.clone());
        }
        drop(ways);
        if let Some(fit) = self.sizing.fit() {
            tracing::info!(
                probe = %self.probe.name,
                target = %self.target.name,
                tokens_per_word = fit.tokens_per_word(),
                overhead_tokens = fit.overhead(),
                "it is known how the server counts made-up prompts"
            );
        } else {
            tracing::warn!(
                probe = %self.probe.name,
                target = %self.target.name,
                why = failed.map_or(NO_GROWTH, Failed::in_words),
                "it is not known how the server counts: a made-up prompt gets a word for each token"
            );
        }
    }

    /// Returns when nothing is to be sent any more.
    async fn ends(&self, cancel: &CancellationToken) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = cancel.cancelled() => {}
        }
    }

    /// By the server's own counting, which generates nothing.
    async fn ask_for_counts(&self, lengths: [u64; 2], limit: Duration) -> Result<(), String> {
        let endpoint = self.access.endpoint();
        let (client, identity) = (&endpoint.client, &endpoint.identity);
        for words in lengths {
            let headers = client.headers(identity, &self.probe.name, RequestId::new(fastrand::u128(..)));
            let request = calibrating_body(&self.probe, &self.target, words, fastrand::u64(..));
            let tokens = client.count(&headers, &request, limit).await?;
            self.sizing.learn(&[Count { words, tokens }]);
        }
        Ok(())
    }

    /// By requests that are not measured. The error says why nothing was learned.
    async fn send_to_be_counted(
        &self,
        step: &Arc<Watched>,
        lengths: [u64; 2],
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<(), Failed> {
        let mut spending = (self.guarded.apart(REQUESTS)).ok_or(Failed::ForNow(
            "no budget is left for requests that would show it",
        ))?;
        for (number, words) in (0..).zip(lengths) {
            let place = self
                .wait(&self.places, 1, Some(deadline), Skip::InFlight, cancel)
                .await;
            let _place = place.map_err(|_| Failed::ForNow("there was no time for it"))?;
            let brake = Brake::new(None);
            let burst = self.prepared(step, &step.series, Arc::clone(&brake));
            let judged = tokio::select! {
                biased;
                never = self.pull(&brake, cancel) => match never {},
                judged = burst.calibrate(number, words, deadline) => judged,
            };
            let judged = judged.ok_or(Failed::ForNow("a request to learn it did not end"))?;
            // An endpoint that sheds load is left alone from here on.
            brake.ended(judged.record.outcome, judged.record.retry_after, false);
            self.guarded.burst_ended(&brake);
            spending.charge(&judged);
            let (outcome, tokens) = (judged.record.outcome, judged.record.usage.prompt);
            self.tell(step, What::Request(Box::new(judged)));
            match tokens {
                Some(tokens) => self.sizing.learn(&[Count { words, tokens }]),
                None if outcome == Outcome::Ok => return Err(Failed::ForGood),
                None => return Err(Failed::ForNow("a request to learn it failed")),
            }
        }
        Ok(())
    }
}
