//! An answer on its way out, frame by frame, each write stamped.

mod acts;

use std::{future::pending, io};

use tokio::time::{Instant, sleep_until};

use super::{
    Heads,
    api::{Answer, Part, Progress},
    fault::{Act, Coalesce, Orders, Place},
    generate::pause,
    inference::Generation,
    journal::{End, Record},
    outlet::{Outlet, ResponseHead},
    pace::{monotonic_nanos, nanos},
    server::{JSON, Service},
};

/// A request that was taken, and its answer on the way out. Dropping it cancels the rest of the generation.
pub(super) struct Stream<'a, 'b> {
    service: &'a Service,
    outlet: &'a mut Outlet<'b>,
    answer: &'a Answer,
    orders: &'a mut Orders,
    generation: Option<Generation>,
    progress: Progress,
    record: &'a mut Record,
    /// What is to be written next; used again, so that a token costs no allocation.
    payload: String,
    /// The parts in it.
    held: Vec<Part>,
    /// When they are written at the latest.
    flush_at: Option<Instant>,
    /// When the last token was written, if somebody wants to know.
    dripped: Option<Instant>,
    /// The end of the body was written.
    ended: bool,
}

impl<'a, 'b> Stream<'a, 'b> {
    pub(super) fn new(
        service: &'a Service,
        outlet: &'a mut Outlet<'b>,
        answer: &'a Answer,
        orders: &'a mut Orders,
        generation: Option<Generation>,
        record: &'a mut Record,
    ) -> Self {
        let received = record.received_ns;
        Self {
            service,
            outlet,
            answer,
            generation,
            progress: Progress {
                received,
                loaded: orders.loaded.map_or(received, nanos),
                ..Progress::default()
            },
            orders,
            record,
            payload: String::with_capacity(512),
            held: Vec::with_capacity(1),
            flush_at: None,
            dripped: None,
            ended: false,
        }
    }

    /// Frame by frame, each with a write of its own, unless a fault says otherwise.
    pub(super) async fn run(&mut self, heads: Heads) -> io::Result<End> {
        let answer = self.answer;
        let wire = answer.api.wire();
        if heads == Heads::Early {
            self.write_head().await?;
        }
        if let Some(end) = self.pass(Place::Tokens(0)).await? {
            return Ok(end);
        }
        let at_end = self
            .orders
            .event
            .clone()
            .filter(|event| event.place == Place::End);
        let error_at_end = at_end
            .as_ref()
            .is_some_and(|event| matches!(event.act, Act::Error(_)));
        self.progress.unfinished = at_end.is_some() && !error_at_end;
        let closing = wire.closing(answer);

        if let Some(end) = self.write_tokens(closing.is_empty() && at_end.is_none()).await? {
            return Ok(end);
        }
        self.write_head().await?; // there was no token

        // An error comes at the last moment, everything else at the first.
        let before = match at_end {
            Some(_) if error_at_end => closing.len().saturating_sub(1),
            Some(_) => 0,
            None => closing.len(),
        };
        for (index, part) in (1..).zip(closing.iter().take(before)) {
            self.put(*part, index == closing.len()).await?;
        }
        if let Some(end) = self.pass(Place::End).await? {
            return Ok(end);
        }
        for (index, part) in (1..).zip(closing).skip(before) {
            self.put(*part, index == closing.len()).await?;
        }
        self.finish().await?;
        Ok(End::Completed)
    }

    /// The tokens as they come, and what is around them; the last one may carry the end of the body. `Some` when a
    /// fault on the way has ended the answer.
    async fn write_tokens(&mut self, last_ends: bool) -> io::Result<Option<End>> {
        let answer = self.answer;
        let wire = answer.api.wire();
        let (total, thoughts) = (
            answer.ask.output_tokens,
            answer.reasoning.tokens.min(answer.ask.output_tokens),
        );
        let shows_thoughts = answer.shows_thoughts();
        let per_frame = self.orders.per_frame.unwrap_or(1);
        let mut from = 0;
        while let Some(index) = self.next().await? {
            if index == 0 {
                self.write_head().await?;
                for part in wire.opening(answer) {
                    self.put(*part, false).await?;
                }
            }
            let to = index + 1;
            if to > total {
                continue; // an empty answer
            }
            let here = self.is_at(Place::Tokens(to));
            if to <= thoughts && !shows_thoughts {
                from = to;
            } else if to - from >= per_frame || to == thoughts || to == total || here {
                self.drip().await?;
                let last = last_ends && to == total && !here;
                self.put(Part::Tokens { from, to }, last).await?;
                if self.orders.drip.is_some() {
                    self.dripped = Some(Instant::now());
                }
                from = to;
                if to == thoughts {
                    for part in wire.turning() {
                        self.put(*part, false).await?;
                    }
                }
            }
            if here && let Some(end) = self.pass(Place::Tokens(to)).await? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// All at once, when all tokens are there.
    pub(super) async fn whole(&mut self) -> io::Result<End> {
        while self.next().await?.is_some() {}
        let body = self.answer.api.wire().whole(self.answer, &self.progress);
        let head = ResponseHead {
            status: 200,
            content_type: self.orders.content_type.as_deref().unwrap_or(JSON),
            headers: &self.orders.headers,
        };
        let at = self.outlet.whole(head, body.as_bytes()).await?;
        self.record.head_ns = Some(at);
        self.record.done_ns = Some(at);
        Ok(End::Completed)
    }

    /// The next token when it comes; `Err` when the client goes away before that.
    async fn next(&mut self) -> io::Result<Option<u64>> {
        let Some(generation) = &mut self.generation else {
            return Ok(None);
        };
        let token = loop {
            tokio::select! {
                biased;
                token = generation.next() => break token,
                gone = self.outlet.gone() => return Err(gone),
                () = until(self.flush_at) => {
                    let (payload, held) = (&mut self.payload, &mut self.held);
                    self.flush_at = None;
                    let at = self.outlet.piece(payload.as_bytes(), false).await?;
                    payload.clear();
                    note(self.record, self.answer, held, at);
                }
            }
        };
        if token.is_some() {
            self.progress.last_token = monotonic_nanos();
        }
        if token == Some(0) {
            self.progress.first_token = self.progress.last_token;
            self.progress.admitted = generation.admitted();
            self.record.admitted_ns = Some(self.progress.admitted);
            if let (Some(capacity), Some(prefixes)) = (self.orders.cache, &self.answer.ask.prompt.prefixes) {
                self.service.prefixes().insert(prefixes, capacity);
            }
        }
        Ok(token)
    }

    /// Once.
    async fn write_head(&mut self) -> io::Result<()> {
        if self.record.head_ns.is_none() {
            let own = self.answer.api.wire().content_type();
            let head = ResponseHead {
                status: 200,
                content_type: self.orders.content_type.as_deref().unwrap_or(own),
                headers: &self.orders.headers,
            };
            self.record.head_ns = Some(self.outlet.head(head).await?);
        }
        Ok(())
    }

    async fn put(&mut self, part: Part, last: bool) -> io::Result<()> {
        self.answer.render(part, &mut self.progress, &mut self.payload);
        self.held.push(part);
        let holds = match self.orders.coalesce {
            None => false,
            Some(Coalesce::Frames(frames)) => (self.held.len() as u64) < frames,
            Some(Coalesce::Time(time)) => {
                let now = Instant::now();
                now < *self.flush_at.get_or_insert(now + time)
            }
        };
        if holds && !last {
            return Ok(());
        }
        self.flush(last).await
    }

    async fn flush(&mut self, last: bool) -> io::Result<()> {
        self.flush_at = None;
        if self.payload.is_empty() && !last {
            return Ok(());
        }
        let at = self.outlet.piece(self.payload.as_bytes(), last).await?;
        self.payload.clear();
        note(self.record, self.answer, &mut self.held, at);
        if last {
            self.ended = true;
            self.record.done_ns.get_or_insert(at);
        }
        Ok(())
    }

    /// Ends the body in order.
    async fn finish(&mut self) -> io::Result<()> {
        if self.ended {
            Ok(())
        } else {
            self.flush(true).await
        }
    }

    /// Waits until the last token is long enough ago.
    async fn drip(&mut self) -> io::Result<()> {
        let Some(time) = self.orders.drip else {
            return Ok(());
        };
        match self.dripped {
            Some(last) => {
                let left = (last + time).saturating_duration_since(Instant::now());
                pause(self.outlet, left).await
            }
            None => Ok(()),
        }
    }
}

/// These parts were written at this instant.
fn note(record: &mut Record, answer: &Answer, parts: &mut Vec<Part>, at: u64) {
    for part in parts.drain(..) {
        match part {
            Part::Role => record.role_ns = Some(at),
            Part::Tokens { from, to } => {
                record.tokens_ns.extend((from..to).map(|_| at));
                if from >= answer.reasoning.tokens {
                    record.answer_ns.get_or_insert(at);
                }
            }
            Part::Finish => record.finish_ns = Some(at),
            Part::Usage => record.usage_ns = Some(at),
            Part::Done => record.done_ns = Some(at),
            Part::Event(_) | Part::Ping => {}
        }
    }
}

/// Never, when there is no such instant.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
