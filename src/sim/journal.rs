//! The truth: when the simulator really received each request and really wrote each frame of its answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{api::Api, pace::monotonic_nanos};

/// Requests that are remembered at most.
const MAX_RECORDS: usize = 20_000;
/// Instants of tokens that are remembered at most, over all requests: 32 MB.
const MAX_TOKENS: usize = 4_000_000;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Everything was written.
    Completed,
    /// It was answered with an error status.
    Refused,
    /// The client went away.
    Disconnected,
    /// A fault cut the answer short.
    Broken,
    /// The simulator stopped.
    Aborted,
}

/// One request that has ended. Instants are nanoseconds of `CLOCK_MONOTONIC`; `None`, in JSON `null`, means that it
/// did not happen. Each instant of a frame was taken immediately before the write that carried that frame (HTTP/2:
/// before the frame was handed to the connection) and, unless a fault says otherwise, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts the ends of requests, from 1; what `?since=` means.
    pub seq: u64,
    /// Counts the requests as they come, from 1. The answer's own id ends with it (`chatcmpl-sim-17`).
    pub id: u64,
    /// The client's `X-Request-Id`.
    pub client_id: Option<String>,
    pub api: Api,
    /// Over HTTP/2 and not HTTP/1.1.
    pub http2: bool,
    /// The faults that this request met, as they were written: those that shape the answer, and those at a place
    /// in it once that was reached.
    pub faults: Vec<String>,
    /// The HTTP status of the answer, also when it could not be written; 0 when a fault wanted none.
    pub status: u16,
    pub end: End,
    pub prompt_tokens: u64,
    /// Those of the prompt that came from the prefix cache.
    pub cached_tokens: u64,
    /// What was asked for; what came is the length of `tokens_ns`.
    pub output_tokens: u64,
    /// Those of the output that are thoughts, shown or not.
    pub reasoning_tokens: u64,
    pub stream: bool,
    /// The last byte of the request was read.
    pub received_ns: u64,
    /// It got its slot in the engine. Known from the first token on.
    pub admitted_ns: Option<u64>,
    /// The response head; of an answer that is not streamed, the whole answer.
    pub head_ns: Option<u64>,
    /// The frame that names the role (OpenAI).
    pub role_ns: Option<u64>,
    /// Each token that was shown; those that went in the same frame or the same write have the same instant.
    pub tokens_ns: Vec<u64>,
    /// The first token that is no thought.
    pub answer_ns: Option<u64>,
    /// The frame with the finish reason (OpenAI).
    pub finish_ns: Option<u64>,
    /// The frame with the usage (OpenAI).
    pub usage_ns: Option<u64>,
    /// The protocol's end marker: `[DONE]` (OpenAI), the line with `done: true` (Ollama), the last token where that
    /// carries it.
    pub done_ns: Option<u64>,
    /// The simulator had nothing more to do with it.
    pub ended_ns: u64,
}

/// The body of `GET /sim/requests`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// Always `CLOCK_MONOTONIC`.
    pub clock: String,
    /// That clock when this page was made.
    pub now_ns: u64,
    /// What to say as `?since=` to get what comes after this page.
    pub next: u64,
    /// Requests that ended and are forgotten, because they were too many or were deleted.
    pub forgotten: u64,
    /// Those that are remembered and ended after `since`, in the order in which they ended.
    pub requests: Vec<Arc<Record>>,
}

/// The last requests.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Arc<Record>>,
    tokens: usize,
    /// The last sequence number given.
    seq: u64,
    forgotten: u64,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, mut record: Record) {
        record.tokens_ns.shrink_to_fit();
        let mut ring = self.lock();
        ring.seq += 1;
        record.seq = ring.seq;
        ring.tokens += record.tokens_ns.len();
        ring.records.push_back(Arc::new(record));
        while ring.records.len() > MAX_RECORDS || ring.tokens > MAX_TOKENS {
            ring.forget_one();
        }
    }

    pub(super) fn clear(&self) {
        let mut ring = self.lock();
        while !ring.records.is_empty() {
            ring.forget_one();
        }
    }

    /// Those that ended after `since`, at most `limit`.
    pub(super) fn page(&self, since: u64, limit: usize) -> Page {
        let ring = self.lock();
        let start = ring.records.partition_point(|record| record.seq <= since);
        let requests: Vec<_> = ring.records.iter().skip(start).take(limit).cloned().collect();
        Page {
            clock: "CLOCK_MONOTONIC".to_owned(),
            now_ns: monotonic_nanos(),
            next: requests.last().map_or(ring.seq, |record| record.seq),
            forgotten: ring.forgotten,
            requests,
        }
    }
}

impl Ring {
    fn forget_one(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.tokens -= record.tokens_ns.len();
            self.forgotten += 1;
        }
    }
}

/// The record of a request that is being answered. It reaches the journal when this is dropped, whatever
/// the reason, so that every request leaves exactly one.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub record: Record,
    journal: &'a Journal,
}

impl<'a> Entry<'a> {
    pub(super) fn new(journal: &'a Journal, id: u64, api: Api, received: u64) -> Self {
        Self {
            record: Record {
                seq: 0,
                id,
                client_id: None,
                api,
                http2: false,
                faults: Vec::new(),
                status: 200,
                end: End::Aborted,
                prompt_tokens: 0,
                cached_tokens: 0,
                output_tokens: 0,
                reasoning_tokens: 0,
                stream: false,
                received_ns: received,
                admitted_ns: None,
                head_ns: None,
                role_ns: None,
                tokens_ns: Vec::new(),
                answer_ns: None,
                finish_ns: None,
                usage_ns: None,
                done_ns: None,
                ended_ns: received,
            },
            journal,
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let tokens_ns = std::mem::take(&mut self.record.tokens_ns);
        self.journal.push(Record {
            tokens_ns,
            ended_ns: monotonic_nanos(),
            ..self.record.clone()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(journal: &Journal, id: u64, tokens: usize) {
        let mut entry = Entry::new(journal, id, Api::OpenaiChat, 0);
        entry.record.tokens_ns = vec![1; tokens];
    }

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let journal = Journal::default();
        assert_eq!(journal.page(0, 9).next, 0);
        for id in [3, 1, 2] {
            push(&journal, id, 1);
        }
        let page = journal.page(0, 2);
        assert_eq!(page.requests.iter().map(|r| r.id).collect::<Vec<_>>(), [3, 1]);
        let page = journal.page(page.next, 2);
        assert_eq!(page.requests.iter().map(|r| r.id).collect::<Vec<_>>(), [2]);
        assert_eq!(journal.page(page.next, 2).requests, []);
        journal.clear();
        assert_eq!(journal.page(0, 9).requests, []);
        assert_eq!((journal.page(0, 9).forgotten, journal.page(0, 9).next), (3, 3));
    }

    #[test]
    fn memory_is_bounded_in_requests_and_in_tokens() {
        let journal = Journal::default();
        for id in 0..MAX_RECORDS as u64 + 5 {
            push(&journal, id, 0);
        }
        let page = journal.page(0, usize::MAX);
        assert_eq!((page.requests.len(), page.forgotten), (MAX_RECORDS, 5));
        journal.clear();
        for id in 0..5 {
            push(&journal, id, MAX_TOKENS / 2);
        }
        assert_eq!(journal.page(0, usize::MAX).requests.len(), 2);
    }
}
