//! Requests in a file, byte for byte and instant for instant: `once --record` writes it, `once --replay`
//! judges it again without a network, so that a user's strange stream becomes a test case.
//!
//! # The format, version 1
//!
//! JSON lines. The first line is the header:
//!
//! ```json
//! {"format":"llm-probe-exporter recording","version":1,"program":"0.1.0","recorded_unix_seconds":1767225600.5}
//! ```
//!
//! Each further line is one request, in the order in which they ended. It needs no other line but the header:
//! one request is extracted with `sed -n '1p;7p'`. All times are whole nanoseconds; a key that does not apply
//! is `null` or left out, and one that is not listed here is an error.
//!
//! | key | what |
//! |---|---|
//! | `probe`, `target`, `api`, `model`, `concurrency` or `rate` | the series, as in the configuration |
//! | `number`, `warmup` | position in the burst, from 0; whether it came before the measured requests |
//! | `request_id` | what the endpoint was told that the request is called |
//! | `prompt`, `turn` | the name of the prompt, where it has one; which turn of its conversation it is, where it is not the first |
//! | `timeouts` | `connect_ns`, `first_token_ns`, `stall_ns`, `total_ns` |
//! | `slo` | the objectives in force: `ttft_ns`, `ttft_from`, `ttfo_ns`, `itl_ns`, `gap_ns`, `request_ns`, `objective` (a share), `excuse` |
//! | `text_mode`, `expect`, `counted` | the target's, the probe's (`contains`, `matches`, `min_output_tokens`), and the tokens that the target's tokenizer counted; each only where there is one |
//! | `body`, `body_bytes` | the body of the request and its length; no body above 64 KiB |
//! | `intended_ns`, `start_ns` | since the recording began; no start: cancelled before its turn came |
//! | `connection` | `new`, `reused`, `reopened` |
//! | `dns_ns`, `connect_ns`, `tls_ns` | durations |
//! | `connected_ns` | since the start, as all instants from here on |
//! | `head` | `at_ns`, `unix_seconds` (the wall time), `status`, `headers`: `[[name, value], …]` of those that matter; none: the outcome below is taken as it is |
//! | `chunks` | `[[at_ns, text], …]`, as read; `[at_ns, text, "base64"]` where the bytes are not plain UTF-8 text |
//! | `end` | how reading ended: `at_ns`, `how` (`end`, `broke` with `outcome` and `detail`, `late`: a deadline passed); none: what was read last ended the request |
//! | `ended_ns` | when the request was over |
//! | `truncated` | more was read than is kept: 8 MiB a request (24 bytes a chunk included), 256 MiB in all |
//! | `masked` | a secret was taken out of what is above |
//! | `outcome`, `detail`, `measured`, `bounds`, `verdicts` | what was made of it live; durations in seconds; `bounds` is what our own lag may have added |
//!
//! # Secrets
//!
//! Credentials, tokens, header values and the proxy's password that a request was sent with are overwritten with as many `*`, in every
//! text but the names of probe and target, and in the bytes of the response: whole, in each form of
//! [`tape::Hidden`](crate::tape::Hidden) (escaped, folded, in a URL, in base64), also across the
//! border of two chunks, and the beginning of one (from 4 bytes on) where the response or what is kept of it
//! breaks off. In `matches` they become as many `.`, which match what they became elsewhere. Lengths and cuts
//! stay as they were. Request headers, the address and cookies are not in the file. Values below 4 bytes are
//! not looked for. A stream that repeats a secret piece by piece, other text between the pieces (a token
//! a frame), is not recognised.

mod chunks;
mod few;
mod line;
mod read;
mod recorded;
mod recorder;
mod replay;
mod secrets;

pub use self::{
    read::{Problem, Requests},
    recorded::Recorded,
    recorder::{Recorder, RecorderError},
    replay::{Replay, replay},
};

/// What the header says of a file of this kind.
const FORMAT: &str = "llm-probe-exporter recording";

/// The version that is written and read.
const VERSION: u32 = 1;

/// The longest line that is read: the largest tape, escaped, has two thirds of it.
const LONGEST_LINE: usize = 32 << 20;

#[cfg(test)]
mod tests;
