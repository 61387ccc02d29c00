//! What a line of a recording says, once it is found to make sense.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::line::{How, Line, LineEnd, LineExpect, LineHead, LineSlo, LineTimeouts};
use crate::{
    config::plan::{Dialect, SeriesKey, Slo, TextMode, Timeouts, TtftFrom},
    expect::Expect,
    identity::RequestId,
    load::Load,
    measure::Measurement,
    outcome::{Ended, Failure, Outcome},
    prompt::Asked,
    record::{ConnectionState, Record},
    response::Head,
    slo::ErrorBounds,
    tape::{Ending, Room, Tape},
    units::{Name, Ratio, Tokens},
};

/// No time of a recording is longer than a year, so that instants can be added.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// One request of a recording.
#[derive(Debug)]
pub struct Recorded {
    pub key: SeriesKey,
    pub model: String,
    /// The objectives that were in force.
    pub slo: Slo,
    pub(super) dialect: Dialect,
    pub(super) text_mode: TextMode,
    pub(super) expect: Option<Expect>,
    /// Output tokens as the target's tokenizer counted them.
    pub(super) counted: Option<Tokens>,
    pub(super) timeouts: Timeouts,
    /// What was known when the head had come, and when the request was over.
    pub(super) record: Record,
    pub(super) tape: Arc<Tape>,
    /// What was made of it live.
    pub outcome: Outcome,
    pub detail: Option<String>,
    pub measured: Measurement,
    pub bounds: ErrorBounds,
    /// Objectives and verdicts by their label values.
    pub verdicts: Vec<(String, String)>,
}

impl Recorded {
    /// Position in the burst, from 0.
    pub fn number(&self) -> u32 {
        self.record.number
    }

    /// The response, as it was read: instants and bytes.
    pub fn chunks(&self) -> impl Iterator<Item = (Instant, &[u8])> {
        self.tape.chunks()
    }

    /// Whether all that was read is there.
    pub fn is_whole(&self) -> bool {
        !self.tape.truncated
    }
}

impl Line {
    /// Makes sense of the line; instants count from `epoch`. The error says in words what makes none.
    pub(super) fn checked(self, epoch: Instant) -> Result<Recorded, String> {
        let api = Dialect::ALL.iter().copied().find(|api| api.as_str() == self.api);
        let dialect = api.ok_or_else(|| format!("there is no api {:?}", self.api))?;
        let load = match (self.concurrency, self.rate) {
            (Some(0), _) => return Err("a concurrency of 0".into()),
            (Some(users), None) => Load::Users(users),
            (None, Some(rate)) => Load::Rate(rate),
            _ => return Err("a series has either a concurrency or a rate".into()),
        };
        if self.model.contains(char::is_control) {
            return Err("a model may not hold control characters".into());
        }
        let start = self.start_ns.map(|ns| after(epoch, ns)).transpose()?;
        let intended = after(epoch, self.intended_ns)?;
        if start.is_none() && (self.head.is_some() || self.ended_ns.is_some()) {
            return Err("a response, but no start".into());
        }
        let since_start = |ns| after(start.unwrap_or(epoch), ns);

        let mut tape = Room::default().tape(Bytes::new());
        let mut latest = start.unwrap_or(epoch);
        let mut in_order = |what: &str, at: Instant| {
            if at < latest {
                return Err(format!("{what} comes before what it follows"));
            }
            latest = at;
            Ok(at)
        };
        let mut record = Record::new(self.number, self.warmup, intended);
        record.id = self.request_id.map(|id| request_id(&id)).transpose()?;
        record.asked = Asked {
            made_up: None,
            name: self.prompt.map(|prompt| name(&prompt)).transpose()?,
            turn: self.turn.unwrap_or(Asked::default().turn),
        };
        if let Some(head) = self.head {
            record.timeline.headers = Some(in_order("the head", since_start(head.at_ns)?)?);
            tape.head(&head.read()?);
        } else if !self.chunks.ends.is_empty() || self.end.is_some() {
            return Err("a body, but no head".into());
        }
        for (at, chunk) in self.chunks.each() {
            tape.chunk(chunk, in_order("a chunk", since_start(at)?)?);
        }
        tape.truncated |= self.truncated;
        if let Some(end) = self.end {
            let at = in_order("the end", since_start(end.at_ns)?)?;
            tape.ending = Some((at, end.read()?));
        }
        let ended = self.ended_ns.map(since_start).transpose()?;
        record.ended = ended.map(|ended| in_order("ended_ns", ended)).transpose()?;
        record.timeline.start = start;
        record.timeline.dns = self.dns_ns.map(short).transpose()?;
        record.timeline.connect = self.connect_ns.map(short).transpose()?;
        record.timeline.tls = self.tls_ns.map(short).transpose()?;
        record.timeline.connected = self.connected_ns.map(since_start).transpose()?;
        record.connection = self.connection.map(|state| connection(&state)).transpose()?;
        let outcome = outcome(&self.outcome)?;
        if outcome == Outcome::Ok && tape.head.is_none() {
            return Err("an outcome of ok, but no head".into());
        }
        Ok(Recorded {
            key: SeriesKey {
                probe: name(&self.probe)?,
                target: name(&self.target)?,
                load,
            },
            model: self.model,
            slo: self.slo.read()?,
            dialect,
            text_mode: text_mode(self.text_mode.as_deref())?,
            expect: self.expect.map(LineExpect::read).transpose()?,
            counted: self.counted.map(counted).transpose()?,
            timeouts: self.timeouts.read(),
            record,
            tape: Arc::new(tape),
            outcome,
            detail: self.detail,
            measured: self.measured,
            bounds: self.bounds,
            verdicts: self.verdicts.0,
        })
    }
}

fn counted(tokens: u64) -> Result<Tokens, String> {
    let tokens = Tokens(tokens);
    if tokens > Tokens::MOST {
        return Err(format!("{tokens} counted tokens are more than any answer has"));
    }
    Ok(tokens)
}

fn text_mode(written: Option<&str>) -> Result<TextMode, String> {
    match written {
        None => Ok(TextMode::Auto),
        Some(written) => [TextMode::Auto, TextMode::Delta, TextMode::Cumulative]
            .into_iter()
            .find(|mode| mode.as_str() == written)
            .ok_or_else(|| format!("there is no text_mode {written:?}")),
    }
}

fn short(ns: u64) -> Result<Duration, String> {
    let duration = Duration::from_nanos(ns);
    if duration > LONGEST {
        return Err(format!("{ns} ns are longer than a year"));
    }
    Ok(duration)
}

fn after(from: Instant, ns: u64) -> Result<Instant, String> {
    Ok(from + short(ns)?)
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(str::to_owned)
}

fn request_id(text: &str) -> Result<RequestId, String> {
    RequestId::parse(text).ok_or_else(|| "a request_id that is no UUID".into())
}

fn outcome(text: &str) -> Result<Outcome, String> {
    Outcome::named(text).ok_or_else(|| format!("there is no outcome {text:?}"))
}

fn connection(text: &str) -> Result<ConnectionState, String> {
    let state = ConnectionState::ALL.iter().find(|state| state.as_str() == text);
    state
        .copied()
        .ok_or_else(|| format!("there is no connection {text:?}"))
}

impl LineTimeouts {
    /// A deadline of the configuration may be longer than any recording, so it is cut and not refused.
    fn read(&self) -> Timeouts {
        let deadline = |ns| Duration::from_nanos(ns).min(LONGEST);
        Timeouts {
            connect: deadline(self.connect_ns),
            first_token: deadline(self.first_token_ns),
            stall: deadline(self.stall_ns),
            total: deadline(self.total_ns),
        }
    }
}

impl LineSlo {
    fn read(&self) -> Result<Slo, String> {
        let limit = |ns: Option<u64>| ns.map(Duration::from_nanos);
        let failure =
            |text: &String| Failure::named(text).ok_or_else(|| format!("there is no failure {text:?}"));
        Ok(Slo {
            ttft: limit(self.ttft_ns),
            ttft_from: match self.ttft_from.as_str() {
                "start" => TtftFrom::Start,
                "connected" => TtftFrom::Connected,
                other => return Err(format!("ttft_from is start or connected, not {other:?}")),
            },
            ttfo: limit(self.ttfo_ns),
            itl: limit(self.itl_ns),
            gap: limit(self.gap_ns),
            request: limit(self.request_ns),
            objective: Ratio::new(self.objective).ok_or("the objective is no share between 0 and 1")?,
            excuse: self.excuse.0.iter().map(failure).collect::<Result<_, _>>()?,
            ..Slo::default()
        })
    }
}

impl LineHead {
    fn read(&self) -> Result<Head, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers.0 {
            let header =
                (name.parse::<HeaderName>().ok()).zip(HeaderValue::from_bytes(value.as_bytes()).ok());
            let (name, value) = header.ok_or_else(|| format!("{name:?} is no header"))?;
            headers.append(name, value);
        }
        let status = StatusCode::from_u16(self.status);
        Ok(Head {
            status: status.map_err(|_| format!("{} is no status", self.status))?,
            unix_seconds: self.unix_seconds,
            headers,
        })
    }
}

impl LineEnd {
    fn read(self) -> Result<Ending, String> {
        match (self.how, self.outcome) {
            (How::End, None) => Ok(Ending::End),
            (How::Late, None) => Ok(Ending::Late),
            (How::Broke, Some(text)) => match outcome(&text)? {
                Outcome::Ok => Err("what broke is not ok".into()),
                outcome => Ok(Ending::Broke(Ended(outcome, self.detail.unwrap_or_default()))),
            },
            _ => Err("an end has an outcome where it broke, and only there".into()),
        }
    }
}
