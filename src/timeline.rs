//! The instants of one request, in order. Stamped by the caller; the order is kept here, in one place.

use std::time::Duration;

use tokio::time::Instant;

/// Instants of one request; `None` means that it did not happen. The names are those of the metrics'
/// documentation. All but `intended` and `start` are set in this order, each at most once (`last` moves).
#[derive(Clone, Debug)]
pub struct Timeline {
    /// When the load shape wanted it to start.
    pub intended: Instant,
    /// Just before the HTTP call.
    pub start: Option<Instant>,
    /// Durations on the way to `connected`.
    pub dns: Option<Duration>,
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
    /// DNS, TCP and TLS done; `None` when the connection was reused.
    pub connected: Option<Instant>,
    /// The response head.
    pub headers: Option<Instant>,
    /// The first byte of the body.
    pub byte: Option<Instant>,
    /// The first output delta.
    pub first: Option<Instant>,
    /// The second output delta; equal to `first` when both came in one read.
    pub second: Option<Instant>,
    /// The first visible output delta.
    pub answer: Option<Instant>,
    /// The last output delta so far.
    pub last: Option<Instant>,
    /// The protocol's end marker.
    pub finish: Option<Instant>,
    /// The end of the body.
    pub end: Option<Instant>,
    /// Output deltas so far.
    pub deltas: u64,
    /// Gaps between successive arrivals that carried output, in order.
    pub gaps: Vec<Duration>,
}

impl Timeline {
    pub fn new(intended: Instant) -> Self {
        Self {
            intended,
            start: None,
            dns: None,
            connect: None,
            tls: None,
            connected: None,
            headers: None,
            byte: None,
            first: None,
            second: None,
            answer: None,
            last: None,
            finish: None,
            end: None,
            deltas: 0,
            gaps: Vec::new(),
        }
    }

    /// A chunk of the body was read.
    pub fn chunk(&mut self, at: Instant) {
        self.byte.get_or_insert(at);
    }

    /// An output delta arrived with the chunk read at `at`. Deltas of one chunk share its instant and count
    /// as one arrival.
    pub fn output(&mut self, at: Instant, visible: bool) {
        debug_assert!(self.last.is_none_or(|last| last <= at), "arrivals come in order");
        if let Some(last) = self.last
            && at > last
        {
            self.gaps.push(at - last);
        }
        if self.first.is_some() {
            self.second.get_or_insert(at);
        }
        self.first.get_or_insert(at);
        if visible {
            self.answer.get_or_insert(at);
        }
        self.last = Some(at);
        self.deltas += 1;
    }

    /// The protocol's end marker arrived.
    pub fn finished(&mut self, at: Instant) {
        self.finish.get_or_insert(at);
    }

    /// The latest instant that anything is known of.
    pub fn latest(&self) -> Instant {
        [
            self.end,
            self.finish,
            self.last,
            self.byte,
            self.headers,
            self.connected,
            self.start,
        ]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(self.intended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_of_one_chunk_are_one_arrival() {
        let t0 = Instant::now();
        let ms = |n| t0 + Duration::from_millis(n);
        let mut timeline = Timeline::new(t0);
        timeline.chunk(ms(200));
        timeline.output(ms(200), false);
        timeline.output(ms(200), true);
        timeline.chunk(ms(210));
        timeline.output(ms(210), true);
        timeline.chunk(ms(250));
        timeline.output(ms(250), true);
        timeline.finished(ms(250));
        timeline.finished(ms(260));
        assert_eq!(timeline.first, Some(ms(200)));
        assert_eq!(timeline.second, Some(ms(200)));
        assert_eq!(timeline.answer, Some(ms(200)));
        assert_eq!(timeline.last, Some(ms(250)));
        assert_eq!(timeline.finish, Some(ms(250)));
        assert_eq!(timeline.deltas, 4);
        assert_eq!(timeline.gaps, [10, 40].map(Duration::from_millis));
    }
}
