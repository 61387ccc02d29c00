//! From instants to durations: the definitions of the metrics' documentation, which are AIPerf's.

use serde::{Deserialize, Serialize};

use crate::{
    record::Record,
    units::{Seconds, Tokens},
    usage::Usage,
};

/// Where the number of output tokens came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenSource {
    /// The server's usage.
    Usage,
    /// The target's tokenizer: the server reported no usage.
    Tokenizer,
    /// The number of output deltas: nor has the target a tokenizer.
    Deltas,
}

impl TokenSource {
    pub const ALL: &'static [Self] = &[Self::Usage, Self::Tokenizer, Self::Deltas];

    /// The value of the label `source`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Tokenizer => "tokenizer",
            Self::Deltas => "deltas",
        }
    }
}

/// The parts of a request's time, each `None` when it did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    pub dns: Option<Seconds>,
    pub connect: Option<Seconds>,
    pub tls: Option<Seconds>,
    /// From the connection (or the start, on a reused one) to the response head.
    pub headers: Option<Seconds>,
    /// From the response head to the first output.
    pub first_token: Option<Seconds>,
    /// From the first output to the last.
    pub decode: Option<Seconds>,
}

impl Phases {
    /// Label value and duration of each phase, in the order of time.
    pub fn each(&self) -> [(&'static str, Option<Seconds>); 6] {
        [
            ("dns", self.dns),
            ("connect", self.connect),
            ("tls", self.tls),
            ("headers", self.headers),
            ("first_token", self.first_token),
            ("decode", self.decode),
        ]
    }
}

/// The durations of one request; `None` where a definition does not apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Time to first token: first output − start.
    pub ttft: Option<Seconds>,
    /// First output − connected; on a reused connection first output − start.
    pub ttft_after_connect: Option<Seconds>,
    /// Time to first output: first visible output − start.
    pub ttfo: Option<Seconds>,
    /// Time to second token: second output − first.
    pub ttst: Option<Seconds>,
    /// Inter-token latency: (last − first) / (n − k), n output tokens of which k came in the first delta.
    pub itl: Option<Seconds>,
    /// The longest gap between arrivals that carried output.
    pub longest_gap: Option<Seconds>,
    /// Last output − start.
    pub duration: Option<Seconds>,
    pub phases: Phases,
    /// Start − intended. Waiting for the gate (see [`crate::gate`]) is in it at a rate, and in a closed loop not.
    pub send_lag: Option<Seconds>,
    /// n: tokens that were generated in the open, and where the number came from.
    pub output_tokens: Tokens,
    pub token_source: TokenSource,
    /// n − k, the divisor of the inter-token latency.
    pub intervals: u64,
}

impl Measurement {
    pub fn of(record: &Record) -> Self {
        let line = &record.timeline;
        let since = |from, to| Some(Seconds::between(from?, to?));
        let (output_tokens, token_source) = open_output_tokens(record);
        let in_first_delta = open_tokens(record, record.first_delta).unwrap_or(Tokens(1));
        let intervals = output_tokens.saturating_sub(in_first_delta).0;
        let decode = since(line.first, line.last);
        Self {
            ttft: since(line.start, line.first),
            ttft_after_connect: since(line.connected.or(line.start), line.first),
            ttfo: since(line.start, line.answer),
            ttst: since(line.first, line.second),
            itl: decode
                .filter(|_| intervals > 0)
                .map(|decode| Seconds::new(decode.get() / intervals as f64)),
            longest_gap: line.gaps.iter().max().map(|&gap| gap.into()),
            duration: since(line.start, line.last),
            phases: Phases {
                dns: line.dns.map(Seconds::from),
                connect: line.connect.map(Seconds::from),
                tls: line.tls.map(Seconds::from),
                headers: since(line.connected.or(line.start), line.headers),
                first_token: since(line.headers, line.first),
                decode,
            },
            send_lag: since(Some(line.intended), line.start),
            output_tokens,
            token_source,
            intervals,
        }
    }
}

/// The server's usage, else the tokenizer's count, else the number of deltas.
fn open_output_tokens(record: &Record) -> (Tokens, TokenSource) {
    match (open_tokens(record, record.usage), record.counted) {
        (Some(reported), _) => (reported, TokenSource::Usage),
        (None, Some(counted)) => (counted, TokenSource::Tokenizer),
        (None, None) => (Tokens(record.timeline.deltas), TokenSource::Deltas),
    }
}

/// Reported output tokens, less reasoning that was reported but never shown.
fn open_tokens(record: &Record, usage: Usage) -> Option<Tokens> {
    let hidden = if record.open_reasoning {
        Tokens(0)
    } else {
        usage.reasoning.unwrap_or_default()
    };
    Some(usage.output?.saturating_sub(hidden))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Started 5 ms late, connected after 20 ms, head at 30 ms, then deltas at 200, 210, … ms.
    fn record(deltas: u64) -> Record {
        let t0 = Instant::now();
        let mut record = Record::new(0, false, t0 - ms(5));
        let line = &mut record.timeline;
        line.start = Some(t0);
        line.dns = Some(ms(2));
        line.connect = Some(ms(8));
        line.connected = Some(t0 + ms(20));
        line.headers = Some(t0 + ms(30));
        for n in 0..deltas {
            line.output(t0 + ms(200 + 10 * n), true);
        }
        record
    }

    fn close(left: Option<Seconds>, right: f64) -> bool {
        left.is_some_and(|left| (left.get() - right).abs() < 1e-9)
    }

    #[test]
    fn durations_follow_the_definitions() {
        let measured = Measurement::of(&record(11));
        assert!(close(measured.ttft, 0.200));
        assert!(close(measured.ttft_after_connect, 0.180));
        assert!(close(measured.ttfo, 0.200));
        assert!(close(measured.ttst, 0.010));
        assert!(close(measured.itl, 0.010));
        assert!(close(measured.longest_gap, 0.010));
        assert!(close(measured.duration, 0.300));
        assert!(close(measured.send_lag, 0.005));
        assert!(close(measured.phases.headers, 0.010));
        assert!(close(measured.phases.first_token, 0.170));
        assert!(close(measured.phases.decode, 0.100));
        assert_eq!(measured.phases.tls, None);
        assert_eq!(
            (measured.output_tokens, measured.token_source),
            (Tokens(11), TokenSource::Deltas)
        );
    }

    #[test]
    fn usage_beats_deltas_and_hidden_reasoning_is_not_decode_time() {
        let usage = |output, reasoning| Usage {
            output: Some(Tokens(output)),
            reasoning: Some(Tokens(reasoning)),
            ..Usage::default()
        };
        let mut hidden = record(11);
        hidden.usage = usage(121, 100);
        let measured = Measurement::of(&hidden);
        assert_eq!(
            (measured.output_tokens, measured.token_source),
            (Tokens(21), TokenSource::Usage)
        );
        assert!(close(measured.itl, 0.005));

        let mut open = record(11);
        open.usage = usage(21, 10);
        open.open_reasoning = true;
        assert_eq!(Measurement::of(&open).output_tokens, Tokens(21));
    }

    #[test]
    fn the_first_deltas_tokens_are_no_intervals() {
        let mut record = record(11);
        record.usage.output = Some(Tokens(15));
        record.first_delta.output = Some(Tokens(5));
        assert!(close(Measurement::of(&record).itl, 0.010));
        // Nor are thoughts that nobody saw.
        record.usage.output = Some(Tokens(115));
        record.usage.reasoning = Some(Tokens(100));
        record.first_delta.output = Some(Tokens(105));
        record.first_delta.reasoning = Some(Tokens(100));
        assert!(close(Measurement::of(&record).itl, 0.010));
    }

    #[test]
    fn the_tokenizer_counts_where_the_server_does_not() {
        let mut record = record(11);
        record.counted = Some(Tokens(21));
        let measured = Measurement::of(&record);
        assert_eq!(
            (measured.output_tokens, measured.token_source),
            (Tokens(21), TokenSource::Tokenizer)
        );
        assert!(close(measured.itl, 0.005));
    }

    #[test]
    fn undefined_is_none() {
        let nothing = Measurement::of(&record(0));
        assert_eq!(
            (nothing.ttft, nothing.itl, nothing.duration, nothing.longest_gap),
            (None, None, None, None)
        );
        let one = Measurement::of(&record(1));
        assert_eq!((one.ttst, one.itl, one.longest_gap), (None, None, None));
        assert!(one.ttft.is_some());
    }

    #[test]
    fn on_a_reused_connection_there_is_no_connecting() {
        let mut record = record(2);
        record.timeline.connected = None;
        let measured = Measurement::of(&record);
        assert_eq!(measured.ttft_after_connect, measured.ttft);
        assert!(close(measured.phases.headers, 0.030));
    }
}
