//! One response, read by read: instants and bytes in, the outcome out. It holds no clock and does no I/O: a
//! live [`crate::request`] and the replay of a recording go through the same code.

use std::{ops::ControlFlow, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use crate::{
    config::plan::Timeouts,
    dialect::{ApiError, Decoder, Delta, Dialect, error_in},
    outcome::{Ended, Failure},
    record::Record,
    response::{Head, Read},
    retry_after::retry_after,
    units::Tokens,
};

/// How long the body is read after the last thing that the protocol says, for the connection's sake.
const LINGER: Duration = Duration::from_millis(250);

/// The most that is read of a body that is not a stream, and how long that may take.
const ERROR_BODY: usize = 64 << 10;
const ERROR_BODY_TIME: Duration = Duration::from_secs(2);

impl From<ApiError> for Ended {
    fn from(ApiError { overloaded, message }: ApiError) -> Self {
        let failure = if overloaded {
            Failure::Overloaded
        } else {
            Failure::ApiError
        };
        Self::failed(failure, message)
    }
}

/// A response that is being read.
#[derive(Debug)]
pub struct Reading {
    dialect: Dialect,
    timeouts: Timeouts,
    start: Instant,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Stream {
        decoder: Box<Decoder>,
        heard: Heard,
    },
    /// No stream, but perhaps words that say why not; they are read until the deadline.
    Words {
        why: NoStream,
        head: Head,
        said: Vec<u8>,
        latest: Instant,
    },
}

impl Body {
    fn after(head: &Head, decoder: Decoder, latest: Instant) -> Result<Self, Ended> {
        let words = |why| Self::Words {
            why,
            head: head.clone(),
            said: Vec::new(),
            latest,
        };
        if let Some(failure) = failure(head.status) {
            return Ok(words(NoStream::Status(failure)));
        }
        let encoding = head.encoding();
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            let detail = format!("Content-Encoding {encoding}, although identity was asked for");
            return Err(Ended::failed(Failure::Malformed, detail));
        }
        let media_type = head.media_type();
        if media_type != decoder.dialect().media_type() {
            return Ok(words(NoStream::MediaType(media_type)));
        }
        Ok(Self::Stream {
            decoder: Box::new(decoder),
            heard: Heard::default(),
        })
    }
}

/// Why a body is not the stream that was asked for.
#[derive(Clone, Debug)]
enum NoStream {
    Status(Failure),
    MediaType(String),
}

impl Reading {
    /// The head of the response came at `at`; `decoder` is for its body. Anything but a 200 with the dialect's stream is a failure that
    /// has a name; its words are read all the same.
    pub fn begin(
        decoder: Decoder,
        timeouts: Timeouts,
        start: Instant,
        head: &Head,
        at: Instant,
        record: &mut Record,
    ) -> Result<Self, Ended> {
        record.timeline.headers = Some(at);
        record.status = Some(head.status.as_u16());
        let latest = (start + timeouts.total).min(at + ERROR_BODY_TIME);
        let dialect = decoder.dialect();
        let body = Body::after(head, decoder, latest)?;
        Ok(Self {
            dialect,
            timeouts,
            start,
            body,
        })
    }

    /// Until when to wait for more.
    pub fn deadline(&self, record: &Record) -> Instant {
        match &self.body {
            Body::Words { latest, .. } => *latest,
            Body::Stream { heard, .. } => deadline(self.timeouts, self.start, record, heard).0,
        }
    }

    /// Takes what was read at `at`; breaks when the request is over.
    pub fn absorb(
        &mut self,
        read: Read<'_>,
        at: Instant,
        record: &mut Record,
    ) -> ControlFlow<Result<(), Ended>> {
        let (decoder, heard) = match &mut self.body {
            Body::Stream { decoder, heard } => (decoder, heard),
            Body::Words { why, head, said, .. } => {
                if let Read::Chunk(chunk) = read {
                    let room = ERROR_BODY - said.len();
                    said.extend(chunk.iter().take(room));
                    if chunk.len() < room {
                        return ControlFlow::Continue(());
                    }
                }
                if matches!(why, NoStream::Status(_)) {
                    record.retry_after = retry_after(head.status, &head.headers, said, head.unix_seconds);
                }
                return ControlFlow::Break(Err(no_stream(why, head.status, said, self.dialect)));
            }
        };
        match read {
            Read::Chunk([]) => {}
            Read::Chunk(chunk) => {
                record.timeline.chunk(at);
                let decoded = decoder.push(chunk, |delta| heard.absorb(delta, at, record));
                // After an error frame, whatever else this read brought means nothing.
                if let (None, Err(error)) = (&heard.error, decoded) {
                    return ControlFlow::Break(Err(Ended::failed(Failure::Malformed, error.to_string())));
                }
                if heard.error.is_none() {
                    return ControlFlow::Continue(());
                }
            }
            Read::End => {
                record.timeline.end = Some(at);
                decoder.finish(|delta| heard.absorb(delta, at, record));
            }
            // Once the answer is whole, it does not matter how the connection ends.
            Read::Broke(_) if record.timeline.finish.is_some() => {}
            Read::Broke(ended) => return ControlFlow::Break(Err(ended)),
            Read::Late => {
                if let Some((failure, limit)) = deadline(self.timeouts, self.start, record, heard).1 {
                    let limit = humantime::format_duration(limit);
                    let deltas = record.timeline.deltas;
                    let detail = format!("deadline of {limit} passed after {deltas} output deltas");
                    return ControlFlow::Break(Err(Ended::failed(failure, detail)));
                }
            }
        }
        let concluded = heard.conclude(record);
        if concluded.is_ok() {
            record.text = decoder.take_transcript();
        }
        ControlFlow::Break(concluded)
    }
}

/// The next deadline, and what it means to miss it; `None`: the answer is whole, so nothing is missed.
fn deadline(
    timeouts: Timeouts,
    start: Instant,
    record: &Record,
    heard: &Heard,
) -> (Instant, Option<(Failure, Duration)>) {
    let Timeouts {
        first_token,
        stall,
        total,
        ..
    } = timeouts;
    let line = &record.timeline;
    let (next, missed) = match (heard.last, line.finish, line.last) {
        (Some(last), _, _) => (last + LINGER, None),
        (None, Some(finish), output) => (output.map_or(finish, |output| output.max(finish)) + stall, None),
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

/// What the stream has said besides output.
#[derive(Debug, Default)]
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
        let mut usage = delta.usage;
        let is_first = delta.output.is_some() && record.timeline.first.is_none();
        if let Some(output) = delta.output {
            record.open_reasoning |= output.is_reasoning();
            record.timeline.output(at, output.is_visible());
        }
        // No tokens, although there was output: the server does not count.
        if record.timeline.first.is_some() {
            for usage in [&mut usage, &mut record.usage] {
                usage.output = usage.output.filter(|&output| output > Tokens(0));
            }
        }
        if is_first {
            record.first_delta = usage;
        }
        record.usage.update(usage);
        record.server_phases.update(delta.server_phases);
        if delta.finished {
            record.timeline.finished(at);
        }
        if delta.last {
            self.last.get_or_insert(at);
        }
        self.error = delta.error;
    }

    /// Nothing more is read: what became of the request.
    fn conclude(&mut self, record: &Record) -> Result<(), Ended> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
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
}

/// What a status means; `None` where a stream may follow.
fn failure(status: StatusCode) -> Option<Failure> {
    match status {
        _ if status.is_success() => None,
        _ if status.is_redirection() => Some(Failure::Redirect),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Failure::Unauthorized),
        // Only a proxy says so: there is no way to the endpoint.
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(Failure::ConnectError),
        StatusCode::TOO_MANY_REQUESTS => Some(Failure::RateLimited),
        StatusCode::SERVICE_UNAVAILABLE => Some(Failure::Overloaded),
        _ if status.as_u16() == 529 => Some(Failure::Overloaded),
        _ if status.is_client_error() => Some(Failure::ClientError),
        _ => Some(Failure::ServerError),
    }
}

/// What a body that is no stream makes of the request.
fn no_stream(why: &NoStream, status: StatusCode, said: &[u8], dialect: Dialect) -> Ended {
    let error = error_in(said);
    let beginning = String::from_utf8_lossy(said);
    match why {
        NoStream::Status(failure) => {
            let said = error.map_or_else(|| beginning.into_owned(), |error| error.message);
            Ended::failed(*failure, format!("HTTP {status}: {said}"))
        }
        NoStream::MediaType(media_type) => {
            if let Some(error) = error {
                return error.into();
            }
            let expected = dialect.media_type();
            let detail = match media_type.as_str() {
                "" => format!("no Content-Type instead of {expected}: {beginning}"),
                other => format!("Content-Type {other} instead of {expected}: {beginning}"),
            };
            Ended::failed(Failure::ContentType, detail)
        }
    }
}
