//! One line of a recording, as it is written and read, and what it says once it is found to make sense.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    chunks::Chunks,
    few::{Few, MOST_ITEMS},
    secrets::Secrets,
};
use crate::{
    config::plan::{Series, Slo, TextMode, Timeouts},
    expect::{Expect, Pattern},
    load::Rate,
    measure::Measurement,
    outcome::Ended,
    response::Head,
    slo::ErrorBounds,
    summary::Judged,
    tape::{Ending, Tape},
    units::Tokens,
};

/// A longer body of a request is left out.
const LONGEST_BODY: usize = 64 << 10;

/// See the table in [`super`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) probe: String,
    pub(super) target: String,
    pub(super) api: String,
    pub(super) model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) concurrency: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<Rate>,
    pub(super) number: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) turn: Option<NonZeroU32>,
    pub(super) warmup: bool,
    pub(super) timeouts: LineTimeouts,
    pub(super) slo: LineSlo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expect: Option<LineExpect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counted: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    pub(super) body_bytes: usize,
    pub(super) intended_ns: u64,
    pub(super) start_ns: Option<u64>,
    pub(super) connection: Option<String>,
    pub(super) dns_ns: Option<u64>,
    pub(super) connect_ns: Option<u64>,
    pub(super) tls_ns: Option<u64>,
    pub(super) connected_ns: Option<u64>,
    pub(super) head: Option<LineHead>,
    pub(super) chunks: Chunks,
    pub(super) end: Option<LineEnd>,
    pub(super) ended_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) truncated: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) masked: bool,
    pub(super) outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    pub(super) measured: Measurement,
    pub(super) bounds: ErrorBounds,
    pub(super) verdicts: Few<(String, String)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys of the file say their unit")]
pub(super) struct LineTimeouts {
    pub(super) connect_ns: u64,
    pub(super) first_token_ns: u64,
    pub(super) stall_ns: u64,
    pub(super) total_ns: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineSlo {
    pub(super) ttft_ns: Option<u64>,
    pub(super) ttft_from: String,
    pub(super) ttfo_ns: Option<u64>,
    pub(super) itl_ns: Option<u64>,
    pub(super) gap_ns: Option<u64>,
    pub(super) request_ns: Option<u64>,
    pub(super) objective: f64,
    pub(super) excuse: Few<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineExpect {
    pub(super) contains: Option<String>,
    pub(super) matches: Option<String>,
    pub(super) min_output_tokens: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineHead {
    pub(super) at_ns: u64,
    pub(super) unix_seconds: f64,
    pub(super) status: u16,
    pub(super) headers: Few<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineEnd {
    pub(super) at_ns: u64,
    pub(super) how: How,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    End,
    Broke,
    Late,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn between(from: Instant, to: Instant) -> u64 {
    nanos(to.saturating_duration_since(from))
}

impl Line {
    /// What is written of an ended request, without `secrets`; `None` where its response was not kept.
    pub(super) fn of(series: &Series, judged: &Judged, began: Instant, secrets: &Secrets) -> Option<Self> {
        let Judged {
            record,
            measured,
            verdicts,
            bounds,
        } = judged;
        let (tape, line) = (record.tape.as_deref()?, &record.timeline);
        let mut masked = false;
        let start = line.start.unwrap_or(line.intended);
        let at = |instant| between(start, instant);
        let verdicts = verdicts
            .each()
            .map(|(objective, verdict)| (objective.as_str().into(), verdict.as_str().into()));
        let body = Some(&tape.request).filter(|body| body.len() <= LONGEST_BODY);
        Some(Self {
            probe: series.probe.name.to_string(),
            target: series.target.name.to_string(),
            api: series.target.api.as_str().into(),
            model: secrets.mask_text(&series.target.model, &mut masked),
            concurrency: series.step.load.concurrency(),
            rate: series.step.load.rate(),
            number: record.number,
            request_id: record.id.map(|id| id.to_string()),
            prompt: (record.asked.name.as_ref()).map(|name| secrets.mask_text(name.as_str(), &mut masked)),
            turn: Some(record.asked.turn).filter(|_| !record.asked.is_first_turn()),
            warmup: record.warmup,
            timeouts: LineTimeouts::of(series.probe.timeouts),
            slo: LineSlo::of(&series.step.slo),
            text_mode: (series.target.text_mode != TextMode::Auto)
                .then(|| series.target.text_mode.as_str().into()),
            expect: (series.probe.expect.as_ref()).map(|expect| LineExpect::of(expect, secrets, &mut masked)),
            counted: record.counted.map(|counted| counted.0),
            body: body.map(|body| secrets.mask_text(&String::from_utf8_lossy(body), &mut masked)),
            body_bytes: tape.request.len(),
            intended_ns: between(began, line.intended),
            start_ns: line.start.map(|start| between(began, start)),
            connection: record.connection.map(|state| state.as_str().into()),
            dns_ns: line.dns.map(nanos),
            connect_ns: line.connect.map(nanos),
            tls_ns: line.tls.map(nanos),
            connected_ns: line.connected.map(at),
            head: (tape.head.as_ref().zip(line.headers))
                .map(|(head, came)| LineHead::of(head, at(came), secrets, &mut masked)),
            chunks: chunks(tape, start, secrets, &mut masked),
            end: (tape.ending.as_ref())
                .map(|(when, ending)| LineEnd::of(ending, at(*when), secrets, &mut masked)),
            ended_ns: record.ended.map(at),
            truncated: tape.truncated,
            outcome: record.outcome.as_str().into(),
            detail: (record.detail.as_ref()).map(|detail| secrets.mask_text(detail, &mut masked)),
            measured: measured.clone(),
            bounds: *bounds,
            verdicts: Few(verdicts.collect()),
            masked,
        })
    }
}

fn chunks(tape: &Tape, start: Instant, secrets: &Secrets, masked: &mut bool) -> Chunks {
    let mut bytes = tape.bytes().to_vec();
    *masked |= secrets.mask(&mut bytes);
    let mut end = 0;
    let ends = tape.chunks().map(|(at, chunk)| {
        end += chunk.len();
        (between(start, at), end)
    });
    Chunks {
        ends: ends.collect(),
        bytes,
    }
}

impl LineTimeouts {
    fn of(timeouts: Timeouts) -> Self {
        Self {
            connect_ns: nanos(timeouts.connect),
            first_token_ns: nanos(timeouts.first_token),
            stall_ns: nanos(timeouts.stall),
            total_ns: nanos(timeouts.total),
        }
    }
}

impl LineSlo {
    fn of(slo: &Slo) -> Self {
        Self {
            ttft_ns: slo.ttft.map(nanos),
            ttft_from: slo.ttft_from.as_str().into(),
            ttfo_ns: slo.ttfo.map(nanos),
            itl_ns: slo.itl.map(nanos),
            gap_ns: slo.gap.map(nanos),
            request_ns: slo.request.map(nanos),
            objective: slo.objective.get(),
            excuse: Few(slo.excuse.iter().map(ToString::to_string).collect()),
        }
    }
}

impl LineExpect {
    fn of(expect: &Expect, secrets: &Secrets, masked: &mut bool) -> Self {
        Self {
            contains: (expect.contains.as_ref()).map(|part| secrets.mask_text(part, masked)),
            matches: (expect.matches.as_ref()).map(|pattern| secrets.mask_pattern(pattern.as_str(), masked)),
            min_output_tokens: expect.min_output_tokens.map(|least| least.0),
        }
    }

    pub(super) fn read(self) -> Result<Expect, String> {
        let matches = self.matches.map(|pattern| Pattern::new(&pattern)).transpose();
        Ok(Expect {
            contains: self.contains,
            matches: matches.map_err(|what| format!("matches {what}"))?,
            min_output_tokens: self.min_output_tokens.map(Tokens),
        })
    }
}

impl LineHead {
    fn of(head: &Head, at_ns: u64, secrets: &Secrets, masked: &mut bool) -> Self {
        let headers = head.headers.iter().take(MOST_ITEMS).map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), secrets.mask_text(&value, masked))
        });
        Self {
            at_ns,
            unix_seconds: head.unix_seconds,
            status: head.status.as_u16(),
            headers: Few(headers.collect()),
        }
    }
}

impl LineEnd {
    fn of(ending: &Ending, at_ns: u64, secrets: &Secrets, masked: &mut bool) -> Self {
        let (how, outcome, detail) = match ending {
            Ending::End => (How::End, None, None),
            Ending::Late => (How::Late, None, None),
            Ending::Broke(Ended(outcome, detail)) => (How::Broke, Some(outcome), Some(detail)),
        };
        Self {
            at_ns,
            how,
            outcome: outcome.map(ToString::to_string),
            detail: detail.map(|detail| secrets.mask_text(detail, masked)),
        }
    }
}
