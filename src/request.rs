//! One request end to end: take the turn, send, read, stamp, decode. The only place where I/O, clock and
//! decoders meet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use crate::{
    client::{Answer, Client, LONG_WAY, Marks, TransportError},
    clock::unix_now,
    config::plan::Timeouts,
    dialect::{ApiError, Decoder, Delta, Dialect, error_in},
    gate::{Gate, Turn},
    outcome::{Failure, Invalid, Outcome},
    record::{ConnectionState, Record},
    retry_after::retry_after,
};

/// How long the body is read after the last thing that the protocol says, for the connection's sake.
const LINGER: Duration = Duration::from_millis(250);

/// The most that is read of a body that is not a stream, and how long that may take.
const ERROR_BODY: usize = 64 << 10;
const ERROR_BODY_TIME: Duration = Duration::from_secs(2);

/// What the requests of a burst have in common.
#[derive(Debug)]
pub struct Endpoint {
    pub client: Client,
    pub dialect: Dialect,
    pub gate: Gate,
}

/// One request to be sent.
#[derive(Debug)]
pub struct Request {
    pub number: u32,
    pub warmup: bool,
    /// When the load shape wants it to start.
    pub intended: Instant,
    pub body: Bytes,
    pub timeouts: Timeouts,
    /// Counts the requests under way.
    pub in_flight: Arc<AtomicI64>,
}

/// Why a request did not end well.
struct Ended(Outcome, String);

impl Ended {
    fn failed(failure: Failure, detail: impl Into<String>) -> Self {
        Self(Outcome::Failed(failure), detail.into())
    }
}

impl From<TransportError> for Ended {
    fn from(error: TransportError) -> Self {
        Self(error.outcome, error.detail)
    }
}

impl Request {
    /// Sends the request and delivers exactly one record of it: also when this future is dropped half-way
    /// (then it was cancelled) or panics (a defect of ours).
    pub fn run(
        self,
        endpoint: &Endpoint,
        deliver: UnboundedSender<Record>,
    ) -> impl Future<Output = ()> + Send {
        // Not in the future's own code, which runs only when it is polled.
        let mut pending = Pending {
            record: Record::new(self.number, self.warmup, self.intended),
            deliver: Some(deliver),
        };
        async move {
            let (outcome, detail) = match self.exchange(endpoint, &mut pending.record).await {
                Ok(()) => (Outcome::Ok, None),
                Err(Ended(outcome, detail)) => (outcome, Some(presentable(&endpoint.client.redact(detail)))),
            };
            pending.finish(outcome, detail);
        }
    }

    async fn exchange(self, endpoint: &Endpoint, record: &mut Record) -> Result<(), Ended> {
        let asked = Instant::now();
        let turn = endpoint.gate.turn().await;
        let start = Instant::now();
        // Waiting for the gate is our own order of things, not lag.
        record.timeline.intended += start - asked;
        record.timeline.start = Some(start);
        let _under_way = UnderWay::enter(&self.in_flight);

        let mut answer = self.head(endpoint, turn, start, record).await?;
        record.timeline.headers = Some(Instant::now());
        record.status = Some(answer.status().as_u16());
        check_head(&mut answer, endpoint.dialect, start + self.timeouts.total, record).await?;
        self.read(&mut answer, endpoint.dialect, start, record).await
    }

    /// Waits for the response head. A pooled connection that turns out to be dead is no failure of the
    /// endpoint: the request is sent once more on a new one.
    async fn head(
        &self,
        endpoint: &Endpoint,
        turn: Turn,
        start: Instant,
        record: &mut Record,
    ) -> Result<Answer, Ended> {
        let client = &endpoint.client;
        let mut marks = client.marks(turn.clone());
        let mut sent = self
            .in_time(client.send(self.body.clone(), &marks), &marks, start)
            .await;
        let reopened = matches!(&sent, Ok(Err(error)) if error.stale);
        if reopened {
            marks = client.marks(turn);
            sent = self
                .in_time(client.send_anew(self.body.clone(), &marks), &marks, start)
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
            record.timeline.dns = way.dns();
            record.timeline.connect = way.connect();
            record.timeline.tls = way.tls();
            record.timeline.connected = way.connected;
        }
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
        if connect < limit {
            if let Ok(sent) = timeout_at(start + connect, &mut sending).await {
                return Ok(sent);
            }
            if marks.way().is_connecting() {
                let detail = format!("no connection within {}", humantime::format_duration(connect));
                return Err(Ended::failed(Failure::ConnectTimeout, detail));
            }
        }
        timeout_at(start + limit, &mut sending).await.map_err(|_| {
            let limit = humantime::format_duration(limit);
            Ended::failed(failure, format!("no response head within {limit}"))
        })
    }

    /// Reads the stream to its end: each chunk is stamped as it is read, before anything looks into it.
    async fn read(
        &self,
        answer: &mut Answer,
        dialect: Dialect,
        start: Instant,
        record: &mut Record,
    ) -> Result<(), Ended> {
        let mut decoder = Decoder::new(dialect);
        let mut heard = Heard::default();
        loop {
            let (deadline, missed) = self.deadline(start, record, &heard);
            let read = timeout_at(deadline, answer.chunk()).await;
            let at = Instant::now();
            match read {
                Ok(Ok(Some(chunk))) if chunk.is_empty() => {}
                Ok(Ok(Some(chunk))) => {
                    record.timeline.chunk(at);
                    let decoded = decoder.push(&chunk, |delta| heard.absorb(delta, at, record));
                    // After an error frame, whatever else this read brought means nothing.
                    if heard.error.is_none() {
                        decoded.map_err(|error| Ended::failed(Failure::Malformed, error.to_string()))?;
                    }
                }
                Ok(Ok(None)) => {
                    record.timeline.end = Some(at);
                    decoder.finish(|delta| heard.absorb(delta, at, record));
                    break;
                }
                // Once the answer is whole, it does not matter how the connection ends.
                Ok(Err(_)) if record.timeline.finish.is_some() => break,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => match missed {
                    None => break,
                    Some((failure, limit)) => {
                        let limit = humantime::format_duration(limit);
                        let deltas = record.timeline.deltas;
                        let detail = format!("deadline of {limit} passed after {deltas} output deltas");
                        return Err(Ended::failed(failure, detail));
                    }
                },
            }
            if heard.error.is_some() {
                break;
            }
        }
        if let Some(ApiError { overloaded, message }) = heard.error {
            let failure = if overloaded {
                Failure::Overloaded
            } else {
                Failure::ApiError
            };
            return Err(Ended::failed(failure, message));
        }
        match (record.timeline.finish, record.timeline.first) {
            (None, _) => {
                let detail = format!(
                    "the body ended without the protocol's end marker, after {} output deltas",
                    record.timeline.deltas
                );
                Err(Ended::failed(Failure::Truncated, detail))
            }
            (Some(_), None) => Err(Ended::failed(
                Failure::Empty,
                "the answer ended well, but said nothing",
            )),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// The next deadline, and what it means to miss it; `None`: the answer is whole, so nothing is missed.
    fn deadline(
        &self,
        start: Instant,
        record: &Record,
        heard: &Heard,
    ) -> (Instant, Option<(Failure, Duration)>) {
        let Timeouts {
            first_token,
            stall,
            total,
            ..
        } = self.timeouts;
        let line = &record.timeline;
        let (next, missed) = match (heard.last, line.finish, line.last) {
            (Some(last), _, _) => (last + LINGER, None),
            (None, Some(finish), output) => {
                (output.map_or(finish, |output| output.max(finish)) + stall, None)
            }
            (None, None, Some(output)) => (output + stall, Some((Failure::StallTimeout, stall))),
            (None, None, None) => (
                start + first_token,
                Some((Failure::FirstTokenTimeout, first_token)),
            ),
        };
        let end = start + total;
        if end < next {
            (end, missed.map(|_| (Failure::TotalTimeout, total)))
        } else {
            (next, missed)
        }
    }
}

/// What the stream has said besides output.
#[derive(Default)]
struct Heard {
    error: Option<ApiError>,
    /// When the last thing that the protocol says was said.
    last: Option<Instant>,
}

impl Heard {
    fn absorb(&mut self, delta: Delta, at: Instant, record: &mut Record) {
        if self.error.is_some() {
            return;
        }
        record.usage.update(delta.usage);
        record.server_phases.update(delta.server_phases);
        if let Some(output) = delta.output {
            if record.timeline.first.is_none() {
                record.first_delta_tokens = delta.usage.output;
            }
            record.open_reasoning |= output.is_reasoning();
            record.timeline.output(at, output.is_visible());
        }
        if delta.finished {
            record.timeline.finished(at);
        }
        if delta.last {
            self.last.get_or_insert(at);
        }
        self.error = delta.error;
    }
}

/// Anything but a 200 with the dialect's stream is a failure that has a name. Its words are read until
/// `latest`, when the whole request is to end.
async fn check_head(
    answer: &mut Answer,
    dialect: Dialect,
    latest: Instant,
    record: &mut Record,
) -> Result<(), Ended> {
    let status = answer.status();
    let failure = match status {
        _ if status.is_success() => None,
        _ if status.is_redirection() => Some(Failure::Redirect),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Failure::Unauthorized),
        StatusCode::TOO_MANY_REQUESTS => Some(Failure::RateLimited),
        StatusCode::SERVICE_UNAVAILABLE => Some(Failure::Overloaded),
        _ if status.as_u16() == 529 => Some(Failure::Overloaded),
        _ if status.is_client_error() => Some(Failure::ClientError),
        _ => Some(Failure::ServerError),
    };
    if let Some(failure) = failure {
        let body = short_body(answer, latest).await;
        record.retry_after = retry_after(status, answer.headers(), &body, unix_now());
        let said = error_in(&body).map_or_else(
            || String::from_utf8_lossy(&body).into_owned(),
            |error| error.message,
        );
        return Err(Ended::failed(failure, format!("HTTP {status}: {said}")));
    }
    let encoding = answer.encoding();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        let detail = format!("Content-Encoding {encoding}, although identity was asked for");
        return Err(Ended::failed(Failure::Malformed, detail));
    }
    let media_type = answer.media_type();
    if media_type == dialect.media_type() {
        return Ok(());
    }
    let body = short_body(answer, latest).await;
    if let Some(ApiError { overloaded, message }) = error_in(&body) {
        let failure = if overloaded {
            Failure::Overloaded
        } else {
            Failure::ApiError
        };
        return Err(Ended::failed(failure, message));
    }
    let beginning = String::from_utf8_lossy(&body).into_owned();
    let detail = match media_type.as_str() {
        "" => format!("no Content-Type instead of {}: {beginning}", dialect.media_type()),
        other => format!(
            "Content-Type {other} instead of {}: {beginning}",
            dialect.media_type()
        ),
    };
    Err(Ended::failed(Failure::ContentType, detail))
}

/// The beginning of a body that is not a stream, for its words.
async fn short_body(answer: &mut Answer, latest: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    let deadline = latest.min(Instant::now() + ERROR_BODY_TIME);
    while let Ok(Ok(Some(chunk))) = timeout_at(deadline, answer.chunk()).await {
        let room = ERROR_BODY - body.len();
        body.extend(chunk.iter().take(room));
        if chunk.len() >= room {
            break;
        }
    }
    body
}

/// Text of an endpoint, fit for a line of a log: without control characters, at most
/// [`Record::MAX_DETAIL`] bytes.
fn presentable(text: &str) -> String {
    let mut short = String::new();
    for word in text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
    {
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
        if short.len() > Record::MAX_DETAIL {
            let end = short.floor_char_boundary(Record::MAX_DETAIL - '…'.len_utf8());
            short.truncate(end);
            short.push('…');
            break;
        }
    }
    short
}

/// Delivers its record when it is finished, and otherwise when it is dropped.
struct Pending {
    record: Record,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_text_is_made_presentable() {
        assert_eq!(presentable("a\r\n\u{1b}[31mb\0  c"), "a [31mb c");
        let long = presentable(&"é".repeat(2000));
        assert!(
            long.len() <= Record::MAX_DETAIL && long.ends_with('…'),
            "{}",
            long.len()
        );
    }
}
