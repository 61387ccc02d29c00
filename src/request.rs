//! One request end to end: take the turn, send, read, stamp; [`crate::reading`] decodes and judges what was read.
//! The only place where I/O, clock and decoders meet.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use crate::{
    client::{Answer, Client, LONG_WAY, Marks, TransportError},
    config::plan::{TextMode, Timeouts},
    dialect::{Decoder, Dialect},
    gate::{Gate, Turn},
    identity::{Headers, RequestId},
    outcome::{Ended, Failure, Invalid, Outcome},
    prompt::Asked,
    reading::Reading,
    record::{ConnectionState, Record, presentable},
    response::Read,
    tape::{Room, Tape},
    units::Name,
    usage::Transcript,
};

/// What the requests of a burst have in common.
#[derive(Debug)]
pub struct Endpoint {
    pub client: Client,
    pub dialect: Dialect,
    pub text_mode: TextMode,
    /// The response header that says which replica answered.
    pub replica_header: Option<HeaderName>,
    pub gate: Gate,
    /// How a request says who it is.
    pub identity: Headers,
    /// Where responses are recorded: room for their bytes.
    pub recording: Option<Room>,
}

/// What it is that a request waits for the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Our own order of things, as in a closed loop: it is intended to start when it has waited.
    Order,
    /// Lag: it has its time whatever others do, as at a rate.
    Lag,
}

/// One request to be sent.
#[derive(Debug)]
pub struct Request {
    pub number: u32,
    pub id: RequestId,
    /// Who asks.
    pub probe: Name,
    /// Which prompt.
    pub asked: Asked,
    pub warmup: bool,
    /// When the load shape wants it to start.
    pub intended: Instant,
    pub waiting: Waiting,
    pub body: Bytes,
    pub timeouts: Timeouts,
    /// Whether the text of a good answer is kept in the record.
    pub keep_text: bool,
    /// Whether the text of a good answer is handed back.
    pub hand_back: bool,
    /// Counts the requests under way.
    pub in_flight: Arc<AtomicI64>,
}

impl From<TransportError> for Ended {
    fn from(error: TransportError) -> Self {
        Self(error.outcome, error.detail)
    }
}

impl Request {
    /// Sends the request and delivers exactly one record of it: also when this future is dropped half-way
    /// (then it was cancelled) or panics (a defect of ours). Tells how it ended, and hands back the text of a good
    /// answer where that is wanted.
    pub fn run(
        self,
        endpoint: &Endpoint,
        deliver: UnboundedSender<Record>,
    ) -> impl Future<Output = (Outcome, Option<Transcript>)> + Send {
        // Not in the future's own code, which runs only when it is polled.
        let mut pending = Pending {
            record: Record {
                id: Some(self.id),
                asked: self.asked.clone(),
                ..Record::new(self.number, self.warmup, self.intended)
            },
            tape: endpoint.recording.as_ref().map(|room| {
                let mut tape = room.tape(self.body.clone());
                tape.secrets = endpoint.client.secrets();
                tape
            }),
            deliver: Some(deliver),
        };
        let (keep_text, hand_back) = (self.keep_text, self.hand_back);
        async move {
            let (outcome, detail) = match self
                .exchange(endpoint, &mut pending.record, &mut pending.tape)
                .await
            {
                Ok(()) => (Outcome::Ok, None),
                Err(Ended(outcome, detail)) => (outcome, Some(presentable(&endpoint.client.redact(detail)))),
            };
            let text = &mut pending.record.text;
            let handed_back = match (hand_back, keep_text) {
                (true, true) => text.clone(),
                (true, false) => text.take(),
                (false, _) => None,
            };
            pending.finish(outcome, detail);
            (outcome, handed_back)
        }
    }

    async fn exchange(
        self,
        endpoint: &Endpoint,
        record: &mut Record,
        tape: &mut Option<Tape>,
    ) -> Result<(), Ended> {
        // Before the turn and the start: it is our own work, and no part of any latency.
        let headers = endpoint.client.headers(&endpoint.identity, &self.probe, self.id);
        let asked = Instant::now();
        let turn = endpoint.gate.turn().await;
        let start = Instant::now();
        if self.waiting == Waiting::Order {
            record.timeline.intended += start - asked;
        }
        record.timeline.start = Some(start);
        let _under_way = UnderWay::enter(&self.in_flight);

        let mut answer = self.head(endpoint, &headers, turn, start, record).await?;
        self.read(&mut answer, start, endpoint, record, tape.as_mut())
            .await
    }

    /// Waits for the response head. A pooled connection that turns out to be dead is no failure of the
    /// endpoint: the request is sent once more on a new one.
    async fn head(
        &self,
        endpoint: &Endpoint,
        headers: &HeaderMap,
        turn: Turn,
        start: Instant,
        record: &mut Record,
    ) -> Result<Answer, Ended> {
        let client = &endpoint.client;
        let mut marks = client.marks(turn.clone());
        let mut sent = self
            .in_time(client.send(headers, self.body.clone(), &marks), &marks, start)
            .await;
        let mut reopened = false;
        if matches!(&sent, Ok(Err(error)) if error.stale) {
            reopened = marks.way().was_pooled();
            marks = client.marks(turn);
            sent = self
                .in_time(
                    client.send_anew(headers, self.body.clone(), &marks),
                    &marks,
                    start,
                )
                .await;
        }
        let way = marks.way();
        let pooled = match &sent {
            Ok(Ok(answer)) => !answer.came_over(&way),
            _ => way.was_pooled(),
        };
        record.connection = match way.connected {
            _ if pooled => Some(ConnectionState::Reused),
            Some(_) if reopened => Some(ConnectionState::Reopened),
            Some(_) => Some(ConnectionState::New),
            None => None,
        };
        if !pooled {
            // What was reached is known, also where it led to nothing.
            record.timeline.dns = way.dns;
            record.timeline.connect = way.connect();
            record.timeline.tls = way.tls();
            record.timeline.connected = way.connected;
        }
        record.certificate_expires = way.certificate_expires;
        record.peer = match &sent {
            Ok(Ok(answer)) => answer.peer(),
            _ => way.peer.filter(|_| !pooled),
        };
        Ok(sent??)
    }

    /// Waits for `sending` under the deadlines before the response head.
    async fn in_time<T>(
        &self,
        sending: impl Future<Output = T>,
        marks: &Marks,
        start: Instant,
    ) -> Result<T, Ended> {
        let mut sending = std::pin::pin!(sending);
        if let Ok(sent) = timeout_at(start + LONG_WAY, &mut sending).await {
            return Ok(sent);
        }
        marks.is_long_way();
        let Timeouts {
            connect,
            first_token,
            total,
            ..
        } = self.timeouts;
        let (limit, failure) = if total < first_token {
            (total, Failure::TotalTimeout)
        } else {
            (first_token, Failure::HeadersTimeout)
        };
        if connect <= limit {
            if let Ok(sent) = timeout_at(start + connect, &mut sending).await {
                return Ok(sent);
            }
            let (way, limit) = (marks.way(), humantime::format_duration(connect));
            if way.is_resolving && way.is_connecting() {
                let detail = format!("the name did not resolve within {limit}");
                return Err(Ended::failed(Failure::Dns, detail));
            }
            if way.is_connecting() {
                let detail = format!("no connection within {limit}{}", way.whereto());
                return Err(Ended::failed(Failure::ConnectTimeout, detail));
            }
        }
        timeout_at(start + limit, &mut sending).await.map_err(|_| {
            let limit = humantime::format_duration(limit);
            Ended::failed(failure, format!("no response head within {limit}"))
        })
    }

    /// Reads the response to its end: each chunk is stamped as it is read, before anything looks into it.
    async fn read(
        &self,
        answer: &mut Answer,
        start: Instant,
        endpoint: &Endpoint,
        record: &mut Record,
        mut tape: Option<&mut Tape>,
    ) -> Result<(), Ended> {
        let at = Instant::now();
        let head = answer.take_head();
        if let Some(tape) = &mut tape {
            tape.head(&head);
        }
        record.replica = endpoint
            .replica_header
            .as_ref()
            .and_then(|name| head.replica(name));
        let decoder = Decoder::new(endpoint.dialect)
            .text_mode(endpoint.text_mode)
            .keeping_text(self.keep_text || self.hand_back);
        let mut reading = Reading::begin(decoder, self.timeouts, start, &head, at, record)?;
        loop {
            let deadline = reading.deadline(record);
            let read = timeout_at(deadline, answer.chunk()).await;
            let at = Instant::now();
            let read = match &read {
                Ok(Ok(Some(chunk))) => Read::Chunk(chunk),
                Ok(Ok(None)) => Read::End,
                Ok(Err(error)) => Read::Broke(error.clone().into()),
                Err(_) => Read::Late,
            };
            if let Some(tape) = &mut tape {
                tape.read(&read, at);
            }
            if let ControlFlow::Break(ended) = reading.absorb(read, at, record) {
                return ended;
            }
        }
    }
}

/// Delivers its record when it is finished, and otherwise when it is dropped.
struct Pending {
    record: Record,
    tape: Option<Tape>,
    /// `None` once the record is delivered.
    deliver: Option<UnboundedSender<Record>>,
}

impl Pending {
    fn finish(&mut self, outcome: Outcome, detail: Option<String>) {
        let Some(deliver) = self.deliver.take() else {
            return;
        };
        let spent = Record::new(
            self.record.number,
            self.record.warmup,
            self.record.timeline.intended,
        );
        let mut record = std::mem::replace(&mut self.record, spent);
        record.ended = record.timeline.start.map(|_| Instant::now());
        record.outcome = outcome;
        record.detail = detail;
        record.tape = self.tape.take().map(Arc::new);
        // Nobody listens any more when a whole burst was dropped.
        deliver.send(record).ok();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() {
            Invalid::Internal
        } else {
            Invalid::Cancelled
        };
        self.finish(Outcome::Invalid(outcome), None);
    }
}

/// Counts a request as under way for as long as it lives.
struct UnderWay<'a>(&'a AtomicI64);

impl<'a> UnderWay<'a> {
    fn enter(in_flight: &'a AtomicI64) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        Self(in_flight)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
