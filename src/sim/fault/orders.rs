//! What all faults that one request meets come to.

use std::time::Duration;

use super::{Act, Fault, Place, grammar::Retry};
use crate::sim::api::{Reasoning, UsageIn};

/// How many frames share a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Coalesce {
    Frames(u64),
    Time(Duration),
}

/// What comes instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Instead {
    Status { status: u16, retry: Vec<Retry> },
    Redirect(u16),
    Html,
}

/// What happens at one place in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Event {
    pub place: Place,
    pub act: Act,
    /// The fault as it was written.
    pub label: String,
}

/// What all faults that one request meets come to. Of two that contradict each other the first counts.
#[derive(Debug, Default)]
pub(in crate::sim) struct Orders {
    /// The faults that shape the answer from its beginning, as they were written.
    pub applied: Vec<String>,
    pub instead: Option<Instead>,
    pub event: Option<Event>,
    pub delay: Option<Duration>,
    pub drip: Option<Duration>,
    pub coalesce: Option<Coalesce>,
    pub per_frame: Option<u64>,
    pub split: Option<usize>,
    pub content_type: Option<String>,
    pub empty: bool,
    pub usage: Option<UsageIn>,
    pub reasoning: Option<Reasoning>,
    pub slow: Option<f64>,
    /// When the model will be there.
    pub loaded: Option<Duration>,
    /// How many tokens the prefix cache holds.
    pub cache: Option<usize>,
    /// Headers for whatever is answered.
    pub headers: Vec<(&'static str, String)>,
}

impl Orders {
    /// True when it counts. Those of the server are seen to elsewhere.
    pub(super) fn take(&mut self, fault: &Fault, label: &str) -> bool {
        fn set<T>(place: &mut Option<T>, value: T) -> bool {
            let free = place.is_none();
            if free {
                *place = Some(value);
            }
            free
        }
        let taken = match fault {
            Fault::Instead(instead) => set(&mut self.instead, instead.clone()),
            Fault::Act(place, act) => {
                let event = Event {
                    place: *place,
                    act: *act,
                    label: label.to_owned(),
                };
                // It is told when it happens, since an answer may end before.
                return set(&mut self.event, event);
            }
            Fault::Delay(delay) => set(&mut self.delay, *delay),
            Fault::Drip(drip) => set(&mut self.drip, *drip),
            Fault::Coalesce(coalesce) => set(&mut self.coalesce, *coalesce),
            Fault::PerFrame(tokens) => set(&mut self.per_frame, *tokens),
            Fault::Split(bytes) => set(&mut self.split, *bytes),
            Fault::ContentType(text) => set(&mut self.content_type, text.clone()),
            Fault::Empty => !std::mem::replace(&mut self.empty, true),
            Fault::Usage(usage) => set(&mut self.usage, *usage),
            Fault::Reasoning(reasoning) => set(&mut self.reasoning, *reasoning),
            Fault::Slow(factor) => set(&mut self.slow, *factor),
            Fault::Cache(tokens) => set(&mut self.cache, *tokens),
            Fault::Cold { .. } | Fault::Limit { .. } | Fault::Refuse | Fault::Deaf | Fault::Drift(_) => false,
        };
        if taken {
            self.applied.push(label.to_owned());
        }
        taken
    }
}
