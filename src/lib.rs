//! Probes LLM inference endpoints with bursts of concurrent streaming requests, for as long as it lives, and
//! serves what a user of those endpoints would have felt to Prometheus: time to first token (TTFT),
//! inter-token latency (ITL), goodput against objectives.
//!
//! # The data flow
//!
//! A file says what to ask whom, how often ([`config`]); it becomes a validated [`config::plan`]. The
//! [`supervisor`] lets each probe's bursts become due at each of its targets ([`schedule`]), one at a time
//! where they would measure one another: at a fixed rate, or by a [`rhythm`] of the wall clock ([`cron`], replicas),
//! inside the windows of a [`calendar`], and while nobody holds them back ([`pause`]). A due [`burst`] of a certain
//! shape ([`load`]) asks something ([`prompt`]) with N concurrent requests, or turn by turn with as many users.
//! Made-up prompts of N tokens are made to have them by the server's own count ([`calibration`]).
//!
//! Before it begins, [`protection`] asks whether it may: whether it fits what its probe and its target may use in
//! an hour or a day ([`budget`], by the bursts that a [`timetable`] says are still due), whether the target sheds load ([`backoff`]), whether the server says itself that
//! it is [`busy`]. A running burst is cut short where it does harm. What was used is kept over restarts ([`state`]).
//!
//! Each [`request`] takes its turn at the [`gate`], says in its headers who it is ([`identity`]), goes out through
//! the target's [`client`] (as the secrets on file are now, see [`access`]), and stamps each chunk as it is read. In the [`reading`] of the response the chunk's
//! bytes become frames ([`framing`]), the frames deltas ([`dialect`]), the deltas instants ([`timeline`]). Together
//! with its [`outcome`] and what the server counted ([`usage`]) that is the [`record`] of a request: exactly one,
//! whatever happened. An endpoint that refuses may say when to come back ([`retry_after`]).
//!
//! The text of an answer is looked into only where somebody wants it, once the request is over ([`answer`]): its
//! tokens are counted ([`tokenizer`]) where the server did not, and it is compared with what is expected ([`expect`]).
//!
//! From instants come durations ([`measure`]), from durations and objectives verdicts ([`slo`]). A verdict
//! that our own lateness ([`lag`]) could have turned is not given. The requests of a burst are summed up
//! ([`summary`]), and compared with the lowest step of their round and with what is usual ([`baseline`]) it is said
//! why they were slow ([`diagnose`]). Where a probe searches for the highest load that meets its objective, what came of
//! one burst decides on the next ([`capacity`]).
//!
//! Somebody may ask for one burst more, and is told of that one alone ([`demand`]).
//!
//! Several exporters may share a plan ([`shard`]); targets may be listed elsewhere ([`discovery`]). It may change while all this runs ([`reload`]): the supervisor follows it, and what is unchanged goes on.
//!
//! All that is told to the [`board`], which keeps the books: [`metrics`] for Prometheus, a line of the log ([`logs`] keeps
//! the last ones), a row of the page ([`web`]) and the [`history`] of its last bursts. [`cli`] puts the parts together; `once` prints a [`report`] instead.
//!
//! Where requests are recorded, what comes of a [`response`] is also kept on a [`tape`], which travels with the
//! record. A [`recording`] is written of it, and replayed: from [`reading`] on it goes the same way again.
//!
//! [`sim`] is an inference server that is not there: it batches, queues and answers like one, and knows what
//! it really sent, so that tests compare what was measured with what was true, and users find out how exact their
//! machine is ([`accuracy`]).
//!
//! # What holds throughout
//!
//! - Modules import only those that stand before them in the list of `tests/architecture.rs`, and the outside
//!   crates that matter have their homes listed there.
//! - `framing`, `dialect`, `reading`, `timeline`, `measure`, `slo`, `calendar`, `cron`, `rhythm`, `shard`, `schedule`, `load`,
//!   `budget`, `backoff`, `busy`, `diagnose`, `capacity`, `baseline`, `calibration` and the engine of `sim` hold no clock and do no I/O: instants
//!   are passed in.
//! - Measuring has a [`runtime`] of its own. Whether that makes progress and gets its CPU is looked after ([`health`]), and
//!   told to whoever may start the process anew ([`systemd`]).
//! - A panic ends the task that it happens in, which is begun anew ([`restart`]); no other learns of it.
//! - Measured time is monotonic; wall time comes from [`clock`] and is only shown.
//! - A number that is not known is `None` and never zero; [`units`] keeps seconds, tokens and shares apart.
//! - A percentile is that of [`quantile`], and what is drawn comes from a distribution of [`random`].

pub mod access;
pub mod accuracy;
pub mod answer;
pub mod backoff;
pub mod baseline;
pub mod board;
pub mod budget;
pub mod burst;
pub mod busy;
pub mod calendar;
pub mod calibration;
pub mod capacity;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod cron;
pub mod demand;
pub mod diagnose;
pub mod dialect;
pub mod discovery;
pub mod expect;
pub mod framing;
pub mod gate;
pub mod health;
pub mod history;
pub mod identity;
pub mod lag;
pub mod lasting;
pub mod load;
pub mod logs;
pub mod measure;
pub mod metrics;
pub mod outcome;
pub mod pause;
pub mod prompt;
pub mod protection;
pub mod quantile;
pub mod random;
pub mod reading;
pub mod record;
pub mod recording;
pub mod reload;
pub mod report;
pub mod request;
pub mod response;
pub mod restart;
pub mod retry_after;
pub mod rhythm;
pub mod runner;
pub mod runtime;
pub mod schedule;
pub mod shard;
pub mod sim;
pub mod slo;
pub mod state;
pub mod summary;
pub mod supervisor;
pub mod systemd;
pub mod tape;
pub mod timeline;
pub mod timetable;
pub mod tokenizer;
pub mod units;
pub mod usage;
pub mod version;
pub mod web;
