//! One request to the model, end to end: read, queued, answered, recorded; and what faults make of that.

use std::{io, time::Duration};

use super::{
    api::{Answer, Ask, Prompt, Refused, Route},
    connection::Request,
    engine::{Id, Refusal},
    fault::{Act, Event, Instead, Orders, Place},
    inference::{Generation, Job},
    journal::{End, Entry, Record},
    outlet::{Outlet, ResponseHead},
    pace::monotonic,
    server::{JSON, Service, now_since_epoch},
    stream::Stream,
};

const HTML: &str = "text/html; charset=utf-8";

/// A request that was taken.
struct Admitted {
    ask: Ask,
    /// `None` when no token is asked for at all.
    generation: Option<Generation>,
    cached: Option<u64>,
}

impl Service {
    /// `Err` when the client is gone.
    pub(super) async fn generate(
        &self,
        outlet: &mut Outlet<'_>,
        request: Request,
        route: &Route,
    ) -> io::Result<()> {
        let Request { head, body, received } = request;
        let id = self.machines.main().next_id();
        let mut entry = Entry::new(&self.journal, id.0, route.api, received);
        let record = &mut entry.record;
        record.client_id.clone_from(&head.request_id);
        record.http2 = outlet.is_http2();
        let orders = self
            .faults
            .orders(head.fault.as_deref(), Duration::from_nanos(received));
        let end = match orders {
            Ok(orders) => self.obey(outlet, route, body, orders, id, record).await,
            Err(problem) => {
                let body = serde_json::json!({ "error": problem.to_string() }).to_string();
                refuse(outlet, record, 400, JSON, &[], &body).await
            }
        };
        record.end = *end.as_ref().unwrap_or(&End::Disconnected);
        self.faults.ended(monotonic());
        end.map(drop)
    }

    async fn obey(
        &self,
        outlet: &mut Outlet<'_>,
        route: &Route,
        body: Vec<u8>,
        mut orders: Orders,
        id: Id,
        record: &mut Record,
    ) -> io::Result<End> {
        record.faults = std::mem::take(&mut orders.applied);
        outlet.split = orders.split;
        if let Some(event) = orders.event.take_if(|event| event.place == Place::Head)
            && let Some(end) = before_the_head(outlet, record, event).await?
        {
            return Ok(end);
        }
        if let Some(instead) = orders.instead.take() {
            return self
                .instead(outlet, route, &instead, orders.headers, record)
                .await;
        }
        if let Some(loaded) = orders.loaded {
            pause(outlet, loaded.saturating_sub(monotonic())).await?;
        }
        let admitted = self.admit(id, route, &body, &orders, record);
        drop(body); // up to 16 MB that nobody needs while the tokens come
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => return self.turn_away(outlet, route, &refused, &orders, record).await,
        };
        let mut answer = Answer::new(route.api, id, admitted.ask, now_since_epoch(), &self.model);
        answer.cached = admitted.cached;
        if let Some(reasoning) = orders.reasoning.filter(|_| route.api.wire().thinks()) {
            answer.reasoning = reasoning;
        }
        if let Some(usage) = orders.usage {
            answer.usage = usage;
        }
        record.prompt_tokens = answer.ask.prompt.tokens;
        record.cached_tokens = answer.cached.unwrap_or(0);
        record.output_tokens = answer.ask.output_tokens;
        record.reasoning_tokens = answer.reasoning.tokens.min(answer.ask.output_tokens);
        record.stream = answer.ask.stream;
        if let Some(delay) = orders.delay {
            pause(outlet, delay).await?;
        }
        let mut stream = Stream::new(self, outlet, &answer, &mut orders, admitted.generation, record);
        if answer.ask.stream {
            stream.run(self.heads).await
        } else {
            stream.whole().await
        }
    }

    /// A place in the engine, unless the request asks for no token at all.
    fn admit(
        &self,
        id: Id,
        route: &Route,
        body: &[u8],
        orders: &Orders,
        record: &Record,
    ) -> Result<Admitted, Refused> {
        let prompt = Prompt::new(self.counting, orders.cache.is_some());
        let mut ask = route.api.wire().ask(body, route, &self.model, prompt)?;
        if ask.output_tokens == 0 {
            return Ok(Admitted {
                ask,
                generation: None,
                cached: None,
            });
        }
        let cached = (ask.prompt.prefixes.as_ref()).map(|prefixes| self.prefixes().find(prefixes));
        let received = Duration::from_nanos(record.received_ns);
        if orders.empty {
            ask.output_tokens = 0;
        }
        let job = Job {
            prompt_tokens: ask.prompt.tokens,
            cached: cached.unwrap_or(0),
            output_tokens: ask.output_tokens, // at least one is worked on, also for an empty answer
        };
        let since = orders.loaded.unwrap_or(received).max(received);
        let replica = orders.slow.map(|factor| self.machines.slower(factor));
        let inference = match &replica {
            Some(Ok(replica)) => replica,
            Some(Err(error)) => {
                tracing::warn!(%error, "simulator: no slow replica; the usual one answers");
                self.machines.main()
            }
            None => self.machines.main(),
        };
        let generation = inference
            .submit(id, job, since)
            .map_err(|refusal| match refusal {
                Refusal::QueueFull => Refused::QueueFull,
                Refusal::TooLong(limit) => Refused::TooLong {
                    asked: ask.prompt.tokens.saturating_add(ask.output_tokens),
                    limit,
                },
            })?;
        Ok(Admitted {
            ask,
            generation: Some(generation),
            cached,
        })
    }

    /// A request that the server cannot take.
    async fn turn_away(
        &self,
        outlet: &mut Outlet<'_>,
        route: &Route,
        refused: &Refused,
        orders: &Orders,
        record: &mut Record,
    ) -> io::Result<End> {
        let wire = route.api.wire();
        if wire.refuses_in_stream() && route.stream == Some(true) {
            let mut frame = String::new();
            wire.error_frame(refused, &super::api::Progress::default(), &mut frame);
            return refuse(outlet, record, 200, wire.content_type(), &orders.headers, &frame).await;
        }
        let status = route.api.status(refused);
        refuse(
            outlet,
            record,
            status,
            JSON,
            &orders.headers,
            &wire.error(refused),
        )
        .await
    }

    /// What a fault puts in the place of an answer.
    async fn instead(
        &self,
        outlet: &mut Outlet<'_>,
        route: &Route,
        instead: &Instead,
        mut headers: Vec<(&'static str, String)>,
        record: &mut Record,
    ) -> io::Result<End> {
        let page = |title: &str| {
            format!(
                "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
                 <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
            )
        };
        match instead {
            Instead::Status { status, retry } => {
                let anthropic = route.api == super::Api::AnthropicMessages;
                headers.extend(
                    retry
                        .iter()
                        .map(|retry| retry.header(anthropic, now_since_epoch())),
                );
                let says_when = headers.iter().any(|(name, _)| name.starts_with("retry-after"));
                if matches!(status, 429 | 503 | 529) && retry.is_empty() && !says_when {
                    headers.push(("retry-after", "1".to_owned()));
                }
                let (content_type, body) = match status {
                    502 => (HTML, page("502 Bad Gateway")),
                    504 => (HTML, page("504 Gateway Time-out")),
                    status => (JSON, route.api.wire().error(&Refused::Status(*status))),
                };
                refuse(outlet, record, *status, content_type, &headers, &body).await
            }
            Instead::Redirect(status) => {
                headers.push(("location", "/elsewhere".to_owned()));
                refuse(outlet, record, *status, HTML, &headers, &page("Moved")).await
            }
            Instead::Html => refuse(outlet, record, 200, HTML, &headers, &page("Welcome")).await,
        }
    }
}

async fn refuse(
    outlet: &mut Outlet<'_>,
    record: &mut Record,
    status: u16,
    content_type: &str,
    headers: &[(&'static str, String)],
    body: &str,
) -> io::Result<End> {
    record.status = status;
    let head = ResponseHead {
        status,
        content_type,
        headers,
    };
    record.head_ns = Some(outlet.whole(head, body.as_bytes()).await?);
    Ok(End::Refused)
}

/// What happens before anything is answered; `None`: the answer comes after all.
async fn before_the_head(
    outlet: &mut Outlet<'_>,
    record: &mut Record,
    event: Event,
) -> io::Result<Option<End>> {
    record.faults.push(event.label);
    let status = std::mem::replace(&mut record.status, 0);
    match event.act {
        Act::Stall(None) => return Err(outlet.gone().await),
        Act::Stall(Some(time)) => {
            pause(outlet, time).await?;
            record.status = status;
            return Ok(None);
        }
        Act::Reset => outlet.reset(),
        Act::Goaway => outlet.goaway(),
        // The grammar lets nothing else happen here.
        _ => outlet.close(),
    }
    Ok(Some(End::Broken))
}

/// Waits; `Err` when the client goes away before that.
pub(super) async fn pause(outlet: &mut Outlet<'_>, time: Duration) -> io::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        gone = outlet.gone() => Err(gone),
    }
}
