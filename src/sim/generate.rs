//! One request to the model, end to end: read, queued, answered token by token, recorded.

use std::{io, time::Duration};

use super::{
    Heads,
    api::{Answer, Api, Ask, Part, Refused, Times},
    connection::{Connection, Request},
    engine::{Id, Refusal},
    http1::{self, Framing, Head},
    inference::Generation,
    journal::{End, Entry, Record},
    pace::monotonic_nanos,
    server::{JSON, Service, now_since_epoch},
};

impl Service {
    /// `Err` when the client is gone.
    pub(super) async fn generate(
        &self,
        connection: &mut Connection,
        request: Request,
        api: Api,
    ) -> io::Result<()> {
        let Request { head, body, received } = request;
        let id = self.inference.next_id();
        let mut entry = Entry::new(&self.journal, id.0, api, received);
        let record = &mut entry.record;
        record.client_id.clone_from(&head.request_id);
        let admitted = self.admit(id, api, &body, received);
        drop(body); // up to 16 MB that nobody needs while the tokens come
        let end = match admitted {
            Ok((ask, generation)) => {
                record.prompt_tokens = ask.prompt_tokens;
                record.output_tokens = ask.output_tokens;
                record.stream = ask.stream;
                let answer = Answer::new(api, id, ask, now_since_epoch(), &self.model);
                let mut exchange = Exchange::new(connection, &head, &answer, generation, record);
                let written = if answer.ask.stream {
                    exchange.stream(self.heads).await
                } else {
                    exchange.whole().await
                };
                written.map(|()| End::Completed)
            }
            Err(refused) => {
                record.status = refused.status();
                let error = api.error(&refused);
                let response = http1::response(record.status, JSON, error.as_bytes(), head.keep_alive);
                connection.write(&response).await.map(|at| {
                    record.head_ns = Some(at);
                    End::Refused
                })
            }
        };
        record.end = *end.as_ref().unwrap_or(&End::Disconnected);
        end.map(drop)
    }

    /// A place in the engine, unless the request asks for no token at all.
    fn admit(
        &self,
        id: Id,
        api: Api,
        body: &[u8],
        received: u64,
    ) -> Result<(Ask, Option<Generation>), Refused> {
        let ask = api.ask(body, &self.model)?;
        if ask.output_tokens == 0 {
            return Ok((ask, None));
        }
        let generation = self
            .inference
            .submit(
                id,
                ask.prompt_tokens,
                ask.output_tokens,
                Duration::from_nanos(received),
            )
            .map_err(|refusal| match refusal {
                Refusal::QueueFull => Refused::QueueFull,
                Refusal::TooLong(limit) => Refused::TooLong {
                    asked: ask.prompt_tokens.saturating_add(ask.output_tokens),
                    limit,
                },
            })?;
        Ok((ask, Some(generation)))
    }
}

/// A request that was taken, and its answer on the way out. Dropping it cancels the rest of the generation.
struct Exchange<'a> {
    connection: &'a mut Connection,
    head: &'a Head,
    framing: Framing,
    answer: &'a Answer,
    generation: Option<Generation>,
    times: Times,
    record: &'a mut Record,
    /// Used again for each frame, so that a token costs no allocation.
    payload: String,
    wire: Vec<u8>,
}

impl<'a> Exchange<'a> {
    fn new(
        connection: &'a mut Connection,
        head: &'a Head,
        answer: &'a Answer,
        generation: Option<Generation>,
        record: &'a mut Record,
    ) -> Self {
        let now = monotonic_nanos();
        Self {
            connection,
            head,
            framing: if head.chunks {
                Framing::Chunked
            } else {
                Framing::UntilClose
            },
            answer,
            generation,
            times: Times {
                received: record.received_ns,
                admitted: now,
                first_token: now,
                last_token: now,
            },
            record,
            payload: String::with_capacity(512),
            wire: Vec::with_capacity(512),
        }
    }

    /// Frame by frame, each with a write of its own.
    async fn stream(&mut self, heads: Heads) -> io::Result<()> {
        let api = self.answer.api;
        if heads == Heads::Early {
            self.write_head().await?;
        }
        while let Some(index) = self.next().await? {
            if index == 0 {
                if heads == Heads::Late {
                    self.write_head().await?;
                }
                for part in api.opening() {
                    self.write_part(*part, false).await?;
                }
            }
            self.write_part(Part::Token(index), false).await?;
        }
        if self.record.head_ns.is_none() {
            self.write_head().await?; // there was no token
        }
        let closing = api.closing(&self.answer.ask);
        for part in closing {
            self.write_part(*part, Some(part) == closing.last()).await?;
        }
        Ok(())
    }

    /// All at once, when all tokens are there.
    async fn whole(&mut self) -> io::Result<()> {
        while self.next().await?.is_some() {}
        let body = self.answer.whole(&self.times);
        let response = http1::response(200, JSON, body.as_bytes(), self.head.keep_alive);
        let at = self.connection.write(&response).await?;
        self.record.head_ns = Some(at);
        self.record.done_ns = Some(at);
        Ok(())
    }

    /// The next token when it comes; `Err` when the client goes away before that.
    async fn next(&mut self) -> io::Result<Option<u64>> {
        let Some(generation) = &mut self.generation else {
            return Ok(None);
        };
        let token = tokio::select! {
            biased;
            token = generation.next() => token,
            gone = self.connection.gone() => return Err(gone),
        };
        if token.is_some() {
            self.times.last_token = monotonic_nanos();
        }
        if token == Some(0) {
            self.times.first_token = self.times.last_token;
            self.times.admitted = generation.admitted();
            self.record.admitted_ns = Some(self.times.admitted);
        }
        Ok(token)
    }

    async fn write_head(&mut self) -> io::Result<()> {
        let content_type = self.answer.api.content_type();
        let head = http1::stream_head(content_type, self.framing, self.head.keep_alive);
        self.record.head_ns = Some(self.connection.write(head.as_bytes()).await?);
        Ok(())
    }

    async fn write_part(&mut self, part: Part, last: bool) -> io::Result<()> {
        self.payload.clear();
        self.wire.clear();
        self.answer.render(part, &self.times, &mut self.payload);
        http1::piece(&mut self.wire, self.framing, self.payload.as_bytes(), last);
        let at = self.connection.write(&self.wire).await?;
        match part {
            Part::Role => self.record.role_ns = Some(at),
            Part::Token(_) => self.record.tokens_ns.push(at),
            Part::Finish => self.record.finish_ns = Some(at),
            Part::Usage => self.record.usage_ns = Some(at),
            Part::Done => self.record.done_ns = Some(at),
        }
        Ok(())
    }
}
