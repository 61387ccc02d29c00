//! Requests that are sent only to learn how the server counts made-up prompts.

use bytes::Bytes;
use tokio::{sync::mpsc::unbounded_channel, time::Instant};

use super::{Burst, judged};
use crate::{
    calibration::Fit,
    config::plan::{Generation, Probe, Target, Timeouts},
    identity::RequestId,
    prompt::{Asked, MadeUp},
    request::{Request, Waiting},
    summary::Judged,
    units::Tokens,
};

/// The body of a request of `probe` for so many words in place of what it asks, whose answer is as short as can be.
pub fn calibrating_body(probe: &Probe, target: &Target, words: u64, seed: u64) -> Bytes {
    let prompt = probe.prompt.of_new_words(words);
    let conversation = prompt.begin(0, seed, &Fit::ASSUMED);
    let generation = Generation {
        min_tokens: None,
        ..probe.generation
    };
    target.api.body(
        target,
        &conversation.question,
        target.api.fewest_tokens(),
        &generation,
    )
}

impl Burst {
    /// Sends such a request with so many words, which counts like a warm-up request and is over by `deadline`.
    pub async fn calibrate(&self, number: u32, words: u64, deadline: Instant) -> Option<Judged> {
        let probe = &self.series.probe;
        let begun = Instant::now();
        let left = deadline.saturating_duration_since(begun);
        let Timeouts {
            connect,
            first_token,
            stall,
            total,
        } = probe.timeouts;
        let request = Request {
            number,
            id: RequestId::new(fastrand::u128(..)),
            probe: probe.name.clone(),
            asked: Asked {
                made_up: Some(MadeUp {
                    tokens: Tokens(words),
                    words,
                    prefix: None,
                }),
                ..Asked::default()
            },
            warmup: true,
            intended: begun,
            waiting: Waiting::Order,
            body: calibrating_body(probe, &self.series.target, words, fastrand::u64(..)),
            timeouts: Timeouts {
                connect: connect.min(left),
                first_token: first_token.min(left),
                stall: stall.min(left),
                total: total.min(left),
            },
            keep_text: false,
            hand_back: false,
            in_flight: self.in_flight.clone(),
        };
        let (deliver, mut records) = unbounded_channel();
        // Where the burst is cancelled, the request is dropped, and delivers that.
        let sending = request.run(&self.endpoint, deliver);
        tokio::select! {
            biased;
            () = self.brake.pulled() => {}
            _ = sending => {}
        }
        let record = records.recv().await?;
        Some(judged(record, &self.series.step.slo, &self.lag))
    }
}
