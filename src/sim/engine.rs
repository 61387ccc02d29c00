//! An inference engine that batches continuously, iteration by iteration, as vLLM does: a pure, seeded state
//! machine. It holds no clock and does no I/O; the caller passes in the time as a [`Duration`] since any
//! start it likes, the same one in every call.
//!
//! The caller alternates [`Engine::begin`] and [`Engine::complete`]; requests come and go at any time between:
//!
//! ```
//! use std::time::Duration;
//! use llm_probe_exporter::sim::{engine::{Engine, Id}, profile::Profile};
//!
//! let mut engine = Engine::new(Profile::LAPTOP, 1);
//! let mut now = Duration::ZERO;
//! engine.submit(Id(1), 34, 2, now).expect("the queue is empty");
//! let (mut emitted, mut tokens) = (Vec::new(), 0);
//! while let Some(lasts) = engine.begin(now) {
//!     now += lasts;
//!     engine.complete(now, &mut emitted);
//!     tokens += emitted.len();
//! }
//! assert_eq!(tokens, 2);
//! ```

use std::{collections::VecDeque, time::Duration};

use fastrand::Rng;

use super::{
    counters::{Counters, Load},
    profile::Profile,
};

/// Names a request within one engine. The caller chooses it and uses none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

/// One token of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emission {
    pub id: Id,
    /// From 0.
    pub index: u64,
    /// The request has left the engine with this token.
    pub last: bool,
    /// When the request got its slot.
    pub admitted: Duration,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All slots are taken and the queue is full.
    QueueFull,
    /// Prompt and output exceed what the model holds, which is this many tokens.
    TooLong(u64),
}

#[derive(Clone, Debug)]
struct Request {
    id: Id,
    prompt: u64,
    output: u64,
    submitted: Duration,
    admitted: Duration,
    prefilled: u64,
    /// Prompt tokens of the iteration under way.
    chunk: u64,
    /// Generates a token in the iteration under way: decodes, or prefills the last of its prompt.
    emits: bool,
    emitted: u64,
}

impl Request {
    const fn prefilling(&self) -> bool {
        self.prefilled < self.prompt
    }

    /// What it holds of the KV cache.
    const fn resident(&self) -> u64 {
        self.prefilled + self.emitted
    }

    /// What it may come to hold.
    const fn reserved(&self) -> u64 {
        self.prompt + self.output
    }
}

/// The engine. See the module for how to drive it.
#[derive(Clone, Debug)]
pub struct Engine {
    profile: Profile,
    rng: Rng,
    waiting: VecDeque<Request>,
    /// In the order of admission; never more than there are slots.
    running: Vec<Request>,
    counters: Counters,
}

impl Engine {
    /// The same profile, seed and calls give the same tokens at the same times.
    pub fn new(mut profile: Profile, seed: u64) -> Self {
        profile.slots = profile.slots.max(1);
        // Every decoding request gets its token in every iteration, so a full batch must fit.
        profile.token_budget = profile.token_budget.max(profile.slots as u64);
        Self {
            profile,
            rng: Rng::with_seed(seed),
            waiting: VecDeque::new(),
            running: Vec::new(),
            counters: Counters::default(),
        }
    }

    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Puts a request at the end of the queue. A request has at least one token of prompt and of output.
    pub fn submit(
        &mut self,
        id: Id,
        prompt_tokens: u64,
        output_tokens: u64,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.submit_cached(id, prompt_tokens, 0, output_tokens, now)
    }

    /// The same, with the first `cached` tokens of the prompt in the KV cache already: they need no prefill, but
    /// room. At least one token is left to be worked on.
    pub fn submit_cached(
        &mut self,
        id: Id,
        prompt_tokens: u64,
        cached: u64,
        output_tokens: u64,
        now: Duration,
    ) -> Result<(), Refusal> {
        let (prompt, output) = (prompt_tokens.max(1), output_tokens.max(1));
        let limit = self.profile.context.min(self.profile.kv_capacity);
        if prompt.saturating_add(output) > limit {
            return Err(Refusal::TooLong(limit));
        }
        if self.waiting.len() + self.running.len() >= self.profile.slots.saturating_add(self.profile.queue) {
            self.counters.refused += 1;
            return Err(Refusal::QueueFull);
        }
        self.waiting.push_back(Request {
            id,
            prompt,
            output,
            submitted: now,
            admitted: now,
            prefilled: cached.min(prompt - 1),
            chunk: 0,
            emits: false,
            emitted: 0,
        });
        Ok(())
    }

    /// Takes a request out, also in the middle of an iteration, whose length that does not change.
    /// False when the engine does not have it (any more).
    pub fn cancel(&mut self, id: Id) -> bool {
        let before = self.waiting.len() + self.running.len();
        // Kept in order: nobody who waits loses their place.
        self.running.retain(|request| request.id != id);
        if before == self.waiting.len() + self.running.len() {
            self.waiting.retain(|request| request.id != id);
        }
        let found = before > self.waiting.len() + self.running.len();
        self.counters.aborted += u64::from(found);
        found
    }

    /// When the request that waits longest was submitted.
    pub fn oldest_waiting(&self) -> Option<Duration> {
        self.waiting.front().map(|request| request.submitted)
    }

    /// Begins an iteration at `now` and tells how long it lasts; `None` when there is nothing to do.
    pub fn begin(&mut self, now: Duration) -> Option<Duration> {
        let decodes = self.running.iter().filter(|r| !r.prefilling()).count() as u64;
        let resident: u64 = self.running.iter().map(Request::resident).sum();
        let mut budget = self.profile.token_budget.saturating_sub(decodes);
        for request in &mut self.running {
            plan(request, &mut budget);
        }
        let admitted = self.admit(now, &mut budget);
        if self.running.is_empty() {
            return None;
        }
        let prefill: u64 = self.running.iter().map(|r| r.chunk).sum();
        let costs = self.profile.costs;
        let seconds = costs.step
            + costs.admission * admitted as f64
            + costs.prefill_token * prefill as f64
            + costs.decode * decodes as f64
            + costs.kv_token * resident as f64;
        Some(Duration::try_from_secs_f64(seconds * self.jitter()).unwrap_or_default())
    }

    /// First come, first served: while the first in the queue finds no room, nobody overtakes it.
    fn admit(&mut self, now: Duration, budget: &mut u64) -> usize {
        let mut reserved: u64 = self.running.iter().map(Request::reserved).sum();
        let mut admitted = 0;
        while self.running.len() < self.profile.slots && *budget > 0 {
            let Some(mut request) = self
                .waiting
                .pop_front_if(|first| reserved + first.reserved() <= self.profile.kv_capacity)
            else {
                break;
            };
            reserved += request.reserved();
            // A caller that runs late may have received it after `now`.
            request.admitted = now.max(request.submitted);
            plan(&mut request, budget);
            self.counters
                .queue_time
                .observe(now.saturating_sub(request.submitted));
            self.running.push(request);
            admitted += 1;
        }
        admitted
    }

    /// Ends the iteration at `now`: `emitted` gets its tokens, in the order of admission, and loses what it held.
    pub fn complete(&mut self, now: Duration, emitted: &mut Vec<Emission>) {
        emitted.clear();
        let counters = &mut self.counters;
        self.running.retain_mut(|request| {
            request.prefilled += std::mem::take(&mut request.chunk);
            if !std::mem::take(&mut request.emits) {
                return true;
            }
            let index = request.emitted;
            request.emitted += 1;
            let last = request.emitted == request.output;
            counters.generation_tokens += 1;
            if index == 0 {
                counters.prompt_tokens += request.prompt;
                counters
                    .time_to_first_token
                    .observe(now.saturating_sub(request.submitted));
            }
            counters.finished += u64::from(last);
            emitted.push(Emission {
                id: request.id,
                index,
                last,
                admitted: request.admitted,
            });
            !last
        });
    }

    /// What the engine holds at this moment.
    pub fn load(&self) -> Load {
        Load {
            waiting: self.waiting.len(),
            running: self.running.len(),
            kv_tokens: self.running.iter().map(Request::resident).sum(),
        }
    }

    /// What it has done since it was made.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lognormal with mean 1: iterations have a long upper tail and no lower one.
    fn jitter(&mut self) -> f64 {
        let sigma = self.profile.jitter;
        let (u, v) = (1.0 - self.rng.f64(), self.rng.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        (sigma * normal - sigma * sigma / 2.0).exp()
    }
}

/// What `request` does in the iteration that begins. Tokens of decoding requests are already off the budget.
fn plan(request: &mut Request, budget: &mut u64) {
    request.chunk = (request.prompt - request.prefilled).min(*budget);
    *budget -= request.chunk;
    request.emits = request.prefilled + request.chunk == request.prompt;
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    const START: Duration = Duration::from_secs(1000);

    /// A machine whose times are easy to say: 10 ms a step, 1 ms a prompt token, nothing else, no jitter.
    fn plain(slots: usize, queue: usize, token_budget: u64) -> Profile {
        Profile {
            name: "plain",
            about: "",
            slots,
            queue,
            token_budget,
            kv_capacity: 10_000,
            tokenizes: false,
            context: 10_000,
            costs: super::super::profile::Costs {
                step: 10e-3,
                admission: 0.0,
                prefill_token: 1e-3,
                decode: 0.0,
                kv_token: 0.0,
            },
            jitter: 0.0,
        }
    }

    /// Runs until there is nothing to do; every token with its instant since `START`.
    fn run(engine: &mut Engine, now: &mut Duration) -> Vec<(Id, u64, Duration)> {
        let (mut all, mut emitted) = (Vec::new(), Vec::new());
        while let Some(lasts) = engine.begin(*now) {
            *now += lasts;
            engine.complete(*now, &mut emitted);
            all.extend(emitted.iter().map(|e| (e.id, e.index, now.saturating_sub(START))));
        }
        all
    }

    fn millis(tokens: &[(Id, u64, Duration)]) -> Vec<(u64, u64, u128)> {
        tokens
            .iter()
            .map(|(id, index, at)| (id.0, *index, (*at + Duration::from_micros(500)).as_millis()))
            .collect()
    }

    #[test]
    fn iterations_by_hand() {
        // (slots, token budget, requests as (prompt, output), tokens as (request, index, at in ms))
        type Case = (usize, u64, &'static [(u64, u64)], &'static [(u64, u64, u128)]);
        let cases: &[Case] = &[
            // Alone: the prompt, then a token a step.
            (1, 100, &[(5, 3)], &[(0, 0, 15), (0, 1, 25), (0, 2, 35)]),
            // One slot: one after the other.
            (
                1,
                100,
                &[(5, 2), (5, 2)],
                &[(0, 0, 15), (0, 1, 25), (1, 0, 40), (1, 1, 50)],
            ),
            // Two slots: both prompts in one iteration, tokens together.
            (
                2,
                100,
                &[(5, 2), (5, 2)],
                &[(0, 0, 20), (1, 0, 20), (0, 1, 30), (1, 1, 30)],
            ),
            // The second prompt in chunks of what the budget leaves: 4 - 3, then 4 - 1 three times; it delays
            // the tokens of the first.
            (
                2,
                4,
                &[(3, 3), (8, 1)],
                &[(0, 0, 14), (0, 1, 27), (0, 2, 40), (1, 0, 51)],
            ),
            // A request of one token leaves with its prompt.
            (1, 100, &[(5, 1), (5, 1)], &[(0, 0, 15), (1, 0, 30)]),
        ];
        for (slots, budget, requests, expected) in cases {
            let mut engine = Engine::new(plain(*slots, 10, *budget), 1);
            for (id, (prompt, output)) in (0..).zip(*requests) {
                assert_eq!(engine.submit(Id(id), *prompt, *output, START), Ok(()));
            }
            let tokens = run(&mut engine, &mut START.clone());
            assert_eq!(
                millis(&tokens),
                *expected,
                "{slots} slots, budget {budget}, {requests:?}"
            );
            assert_eq!(engine.load(), Load::default());
        }
    }

    #[test]
    fn cached_tokens_need_no_prefill_but_room() {
        // (prompt, cached, first token at in ms): 10 ms a step, 1 ms a token.
        for (prompt, cached, expected) in [
            (8, 0, 18),
            (8, 5, 13),
            (8, 7, 11),
            (8, 8, 11),
            (8, 99, 11),
            (0, 5, 11),
        ] {
            let mut engine = Engine::new(plain(1, 10, 100), 1);
            assert_eq!(engine.submit_cached(Id(0), prompt, cached, 1, START), Ok(()));
            let tokens = run(&mut engine, &mut START.clone());
            assert_eq!(millis(&tokens), [(0, 0, expected)], "{cached} of {prompt}");
        }
        let mut engine = Engine::new(plain(1, 10, 100), 1);
        assert_eq!(engine.submit_cached(Id(0), 8, 5, 3, START), Ok(()));
        engine.begin(START);
        assert_eq!(engine.load().kv_tokens, 5);
        engine.complete(START, &mut Vec::new());
        assert_eq!(engine.load().kv_tokens, 9);
    }

    #[test]
    fn the_queue_is_what_waits_beyond_the_slots() {
        for (slots, queue) in [(1, 0), (1, 3), (4, 0), (4, 3)] {
            let mut engine = Engine::new(plain(slots, queue, 100), 1);
            let places = (slots + queue) as u64;
            for id in 0..places {
                assert_eq!(engine.submit(Id(id), 5, 5, START), Ok(()), "{slots} {queue}");
            }
            assert_eq!(engine.submit(Id(99), 5, 5, START), Err(Refusal::QueueFull));
            assert_eq!(engine.counters().refused, 1);
            engine.begin(START);
            assert_eq!(engine.load().running, slots);
            assert_eq!(engine.submit(Id(99), 5, 5, START), Err(Refusal::QueueFull));
            assert!(engine.cancel(Id(0)), "a running request frees its place at once");
            assert_eq!(engine.submit(Id(100), 5, 5, START), Ok(()));
        }
    }

    #[test]
    fn what_cannot_fit_is_refused_and_what_does_not_fit_yet_waits() {
        let mut profile = plain(8, 8, 100);
        profile.kv_capacity = 100;
        let mut engine = Engine::new(profile, 1);
        assert_eq!(engine.submit(Id(0), 90, 11, START), Err(Refusal::TooLong(100)));
        assert_eq!(
            engine.submit(Id(0), u64::MAX, u64::MAX, START),
            Err(Refusal::TooLong(100))
        );
        for (id, prompt) in [(1, 50), (2, 60), (3, 1)] {
            assert_eq!(engine.submit(Id(id), prompt, 2, START), Ok(()));
        }
        engine.begin(START);
        // The third would fit beside the first, but may not overtake the second.
        assert_eq!((engine.load().running, engine.load().waiting), (1, 2));
        engine.complete(START, &mut Vec::new());
        assert_eq!(engine.load().kv_tokens, 51);
        let mut now = START;
        let order: Vec<_> = run(&mut engine, &mut now).iter().map(|t| t.0.0).collect();
        assert_eq!(order, [1, 2, 3, 2, 3]);
    }

    #[test]
    fn cancelling_in_the_middle_of_an_iteration_frees_the_slot() {
        let mut engine = Engine::new(plain(1, 9, 100), 1);
        let mut emitted = Vec::new();
        for id in 0..3 {
            assert_eq!(engine.submit(Id(id), 5, 3, START), Ok(()));
        }
        let lasts = engine.begin(START).unwrap();
        assert!(engine.cancel(Id(0)));
        assert!(!engine.cancel(Id(0)), "it is gone");
        assert!(engine.cancel(Id(1)), "one that waits");
        engine.complete(START + lasts, &mut emitted);
        assert_eq!(emitted, []);
        let mut now = START + lasts;
        let tokens = run(&mut engine, &mut now);
        assert_eq!(millis(&tokens), [(2, 0, 30), (2, 1, 40), (2, 2, 50)]);
        assert_eq!((engine.counters().aborted, engine.counters().finished), (2, 1));
    }

    #[test]
    fn counters_tell_queue_time_and_ttft() {
        let mut engine = Engine::new(plain(1, 9, 100), 1);
        for id in 0..2 {
            assert_eq!(engine.submit(Id(id), 5, 3, START), Ok(()));
        }
        run(&mut engine, &mut START.clone());
        let counters = engine.counters();
        assert_eq!((counters.prompt_tokens, counters.generation_tokens), (10, 6));
        assert_eq!(counters.queue_time.count(), 2);
        assert!((counters.queue_time.sum() - 0.035).abs() < 1e-6);
        assert!((counters.time_to_first_token.sum() - (0.015 + 0.050)).abs() < 1e-6);
    }

    /// TTFT of each request and the mean ITL over all, in seconds, of `users` who ask at once.
    fn burst(profile: Profile, users: u64, prompt: u64, output: u64, seed: u64) -> (Vec<f64>, f64) {
        let mut engine = Engine::new(profile, seed);
        for id in 0..users {
            assert_eq!(engine.submit(Id(id), prompt, output, START), Ok(()));
        }
        let mut last = HashMap::new();
        let (mut ttfts, mut gaps) = (Vec::new(), Vec::new());
        for (id, index, at) in run(&mut engine, &mut START.clone()) {
            let before = last.insert(id, at.as_secs_f64());
            match before {
                Some(before) => gaps.push(at.as_secs_f64() - before),
                None => ttfts.push(at.as_secs_f64()),
            }
            assert_eq!(before.is_none(), index == 0);
        }
        (ttfts, gaps.iter().sum::<f64>() / gaps.len() as f64)
    }

    #[test]
    fn the_laptop_tells_the_observation() {
        for (seed, prompt) in [(1, 30), (2, 80), (3, 130)] {
            let (alone, itl) = burst(Profile::LAPTOP, 1, prompt, 64, seed);
            assert!((0.16..0.29).contains(&alone[0]), "{prompt} tokens: {alone:?}");
            assert!((0.009..0.011).contains(&itl), "{itl}");
            let (fifty, itl) = burst(Profile::LAPTOP, 50, prompt, 64, seed);
            let last = fifty[49];
            assert!((38.0..47.0).contains(&last), "{prompt} tokens: {last}");
            assert!((0.009..0.011).contains(&itl), "{itl}");
            assert!(last / alone[0] > 100.0);
        }
    }

    #[test]
    fn the_accelerators_batch() {
        // When full, the mean holds the long iterations too, in which others' prompts are prefilled.
        for (profile, alone_ms, full_ms) in [
            (Profile::H100_8B, 6.0..8.0, 20.0..50.0),
            (Profile::L40S_8B, 20.0..24.0, 28.0..60.0),
        ] {
            let (_, alone) = burst(profile, 1, 512, 128, 1);
            let (ttfts, full) = burst(profile, profile.slots as u64, 512, 128, 1);
            assert!(alone_ms.contains(&(alone * 1e3)), "{}: {alone}", profile.name);
            assert!(full_ms.contains(&(full * 1e3)), "{}: {full}", profile.name);
            assert!(
                ttfts.iter().all(|ttft| *ttft < 8.0),
                "{}: {ttfts:?}",
                profile.name
            );
        }
    }

    #[test]
    fn a_faster_machine_is_faster_in_everything() {
        let (slow, _) = burst(Profile::LAPTOP, 5, 80, 16, 7);
        let (fast, _) = burst(Profile::LAPTOP.faster(10.0), 5, 80, 16, 7);
        for (slow, fast) in slow.iter().zip(&fast) {
            assert!((slow / fast - 10.0).abs() < 0.001, "{slow} {fast}");
        }
    }

    #[test]
    fn jitter_has_the_mean_one() {
        let mut engine = Engine::new(
            Profile {
                jitter: 0.3,
                ..Profile::LAPTOP
            },
            5,
        );
        let factors: Vec<_> = (0..20_000).map(|_| engine.jitter()).collect();
        let mean = factors.iter().sum::<f64>() / factors.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!(factors.iter().all(|factor| factor.is_finite() && *factor > 0.0));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Submit { prompt: u64, output: u64 },
        Cancel(u64),
        Iterate,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            3 => (0_u64..40, 0_u64..12).prop_map(|(prompt, output)| Act::Submit { prompt, output }),
            1 => (0_u64..30).prop_map(Act::Cancel),
            6 => Just(Act::Iterate),
        ];
        proptest::collection::vec(act, 0..120)
    }

    proptest! {
        /// Every request that was taken gets exactly its tokens, in order, unless it was cancelled; slots, cache
        /// and queue keep their limits; nobody overtakes; the same seed tells the same story.
        #[test]
        fn nothing_is_lost_and_nothing_invented(
            acts in acts(),
            slots in 1_usize..5,
            queue in 0_usize..6,
            budget in 1_u64..30,
            kv_capacity in 20_u64..80,
            seed: u64,
        ) {
            let profile = Profile { kv_capacity, jitter: 0.2, ..plain(slots, queue, budget) };
            let mut engine = Engine::new(profile, seed);
            let mut twin = Engine::new(profile, seed);
            let mut now = START;
            let (mut taken, mut cancelled) = (Vec::new(), HashSet::new());
            let mut tokens: HashMap<Id, Vec<u64>> = HashMap::new();
            let mut ended = HashSet::new();
            let mut admissions = Vec::new();
            let (mut emitted, mut twins) = (Vec::new(), Vec::new());
            let drain = std::iter::repeat_n(Act::Iterate, 2_000);
            let mut idle = false;
            for (id, act) in (0..).zip(acts.into_iter().chain(drain)) {
                idle = false;
                match act {
                    Act::Submit { prompt, output } => {
                        let before = engine.load();
                        let result = engine.submit(Id(id), prompt, output, now);
                        prop_assert_eq!(result, twin.submit(Id(id), prompt, output, now));
                        match result {
                            Ok(()) => taken.push((Id(id), output.max(1))),
                            Err(Refusal::QueueFull) => {
                                prop_assert_eq!(before.waiting + before.running, slots + queue);
                            }
                            Err(Refusal::TooLong(_)) => {
                                prop_assert!(prompt.max(1) + output.max(1) > kv_capacity);
                            }
                        }
                    }
                    Act::Cancel(id) => {
                        let live = taken.iter().any(|t| t.0 == Id(id))
                            && !cancelled.contains(&Id(id))
                            && !ended.contains(&Id(id));
                        prop_assert_eq!(engine.cancel(Id(id)), live);
                        twin.cancel(Id(id));
                        if live {
                            cancelled.insert(Id(id));
                        }
                    }
                    Act::Iterate => {
                        let lasts = engine.begin(now);
                        prop_assert_eq!(lasts, twin.begin(now));
                        let Some(lasts) = lasts else {
                            idle = true;
                            prop_assert_eq!(engine.load(), Load::default());
                            continue;
                        };
                        prop_assert!(lasts > Duration::ZERO);
                        prop_assert!(engine.load().running <= slots);
                        now += lasts;
                        engine.complete(now, &mut emitted);
                        twin.complete(now, &mut twins);
                        prop_assert_eq!(&emitted, &twins);
                        prop_assert!(engine.load().kv_tokens <= kv_capacity);
                        prop_assert!(engine.load().waiting <= slots + queue);
                        for token in &emitted {
                            prop_assert!(!cancelled.contains(&token.id), "a token for nobody");
                            let of = tokens.entry(token.id).or_default();
                            prop_assert_eq!(token.index, of.len() as u64);
                            if of.is_empty() {
                                admissions.push((token.id, token.admitted));
                            }
                            of.push(token.index);
                            if token.last {
                                ended.insert(token.id);
                            }
                        }
                    }
                }
            }
            prop_assert!(idle, "it comes to an end");
            for (id, output) in &taken {
                let got = tokens.get(id).map_or(0, |t| t.len() as u64);
                if cancelled.contains(id) {
                    prop_assert!(got < *output);
                } else {
                    prop_assert_eq!(got, *output);
                    prop_assert!(ended.contains(id));
                }
            }
            admissions.sort();
            prop_assert!(admissions.is_sorted_by_key(|(_, admitted)| *admitted), "first come, first served");
            let counters = engine.counters();
            prop_assert_eq!(counters.finished, ended.len() as u64);
            prop_assert_eq!(counters.aborted, cancelled.len() as u64);
            prop_assert_eq!(counters.generation_tokens, tokens.values().map(|t| t.len() as u64).sum::<u64>());
        }
    }
}
