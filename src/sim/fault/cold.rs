//! A model that is unloaded when nobody asks. No clock: instants are passed in.

use std::time::Duration;

/// Whether the model is there.
#[derive(Clone, Debug)]
pub(super) struct Residency {
    load: Duration,
    idle: Duration,
    /// When the model is or was loaded, and when it was last asked for.
    state: Option<(Duration, Duration)>,
}

impl Residency {
    pub(super) const fn new(load: Duration, idle: Duration) -> Self {
        Self {
            load,
            idle,
            state: None,
        }
    }

    /// When the model is there for a request of `now`; `None`: it is there already.
    pub(super) fn ask(&mut self, now: Duration) -> Option<Duration> {
        let loaded = match self.state {
            Some((loaded, used)) if now < loaded.max(used) + self.idle => loaded,
            _ => now + self.load,
        };
        self.touch(loaded, now);
        (loaded > now).then_some(loaded)
    }

    /// The model was in use until `now`.
    pub(super) fn used(&mut self, now: Duration) {
        if let Some((loaded, _)) = self.state {
            self.touch(loaded, now);
        }
    }

    fn touch(&mut self, loaded: Duration, now: Duration) {
        let used = self.state.map_or(now, |(_, used)| used.max(now));
        self.state = Some((loaded, used));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_loaded_at_first_and_after_idleness() {
        let secs = Duration::from_secs;
        let mut residency = Residency::new(secs(5), secs(60));
        for (now, loaded) in [
            (100, Some(105)),
            (102, Some(105)), // waits for the same loading
            (105, None),
            (164, None),
            (224, Some(229)),
        ] {
            assert_eq!(residency.ask(secs(now)), loaded.map(secs), "at {now}");
        }
        residency.used(secs(400));
        assert_eq!(residency.ask(secs(459)), None, "a long answer keeps it");
        let mut always = Residency::new(secs(5), Duration::ZERO);
        assert_eq!(always.ask(secs(1)), Some(secs(6)));
        assert_eq!(always.ask(secs(7)), Some(secs(12)));
    }
}
