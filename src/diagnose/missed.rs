//! What made those requests miss their objectives that missed them, be they ever so few: the medians of a burst do
//! not show the one request of seventeen that waited for a slot.
//!
//! The seconds that each of them lost are split as those of a burst are, but only where they made it miss: what came
//! before its first token where it missed a limit of that, what came after where it missed one of the tokens, both
//! where it missed the limit of the whole request. Where at least half of them failed, errors are the cause.

use super::{Cause, Fate, Lowest, Observed, Sample, longer, reference};
use crate::{
    baseline::Medians,
    slo::{Objective, Verdict, Verdicts},
};

/// One request that missed an objective.
#[derive(Clone, Debug)]
pub struct Miss {
    sample: Sample,
    late: bool,
    slow: bool,
}

impl Miss {
    /// `None` where it missed none.
    pub fn of(sample: Sample, verdicts: &Verdicts) -> Option<Self> {
        let missed = |objectives: &[Objective]| {
            let mut verdicts = objectives.iter().map(|objective| verdicts.get(*objective));
            verdicts.any(|verdict| verdict == Some(Verdict::Missed))
        };
        missed(&[Objective::Goodput]).then(|| Self {
            late: missed(&[Objective::Ttft, Objective::Ttfo, Objective::Request]),
            // The first answer may come after many tokens of thought.
            slow: missed(&[
                Objective::Itl,
                Objective::Gap,
                Objective::Ttfo,
                Objective::Request,
            ]),
            sample,
        })
    }

    /// The seconds that it lost for each cause, where they made it miss.
    fn lost(&self, usual: &Medians) -> [(Cause, f64); 3] {
        let Self { sample, late, slow } = self;
        let first = longer(sample.ttft, usual.ttft);
        let network = (2.0 * longer(sample.connecting, usual.connecting)).min(first);
        let decode = longer(sample.itl, usual.itl) * sample.intervals as f64;
        [
            (Cause::Queue, *late, first - network),
            (Cause::Network, *late, network),
            (Cause::Decode, *slow, decode),
        ]
        .map(|(cause, counts, seconds)| (cause, if counts { seconds } else { 0.0 }))
    }
}

/// What cost `misses` of `burst` the most, compared as the burst is; `None` where nothing shows.
pub fn cause_of(misses: &[Miss], burst: &Observed, lowest: Option<&Lowest>) -> Option<Cause> {
    let failed = misses.iter().filter(|miss| miss.sample.fate == Fate::Failed);
    if !misses.is_empty() && 2 * failed.count() >= misses.len() {
        return Some(Cause::Errors);
    }
    let (_, usual) = reference(burst, lowest, Medians::default());
    let mut lost = [(Cause::Queue, 0.0), (Cause::Network, 0.0), (Cause::Decode, 0.0)];
    for miss in misses {
        for ((_, sum), (_, seconds)) in lost.iter_mut().zip(miss.lost(&usual)) {
            *sum += seconds;
        }
    }
    let most = lost.into_iter().filter(|(_, seconds)| *seconds > 0.0);
    most.max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        config::plan::Slo,
        diagnose::Evidence,
        load::Load,
        measure::Measurement,
        outcome::{Failure, Outcome},
        record::Record,
        slo::{ErrorBounds, judge},
        units::Seconds,
    };

    /// A request with 50 inter-token latencies, and how it is judged by limits of 500 ms to the first token and of
    /// 40 ms between tokens.
    fn request(ttft: f64, itl: f64, outcome: Outcome) -> (Sample, Verdicts) {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs_f64(seconds);
        let mut measured = Measurement::of(&Record::new(0, false, start));
        measured.ttft = Some(Seconds::new(ttft));
        measured.itl = Some(Seconds::new(itl));
        let slo = Slo {
            ttft: Some(Duration::from_millis(500)),
            itl: Some(Duration::from_millis(40)),
            ..Slo::default()
        };
        let verdicts = judge(&slo, outcome, &measured, &ErrorBounds::default());
        let sample = Sample {
            start,
            first: Some(after(ttft)),
            end: after(ttft + 50.0 * itl),
            fate: if outcome == Outcome::Ok {
                Fate::Succeeded
            } else {
                Fate::Failed
            },
            ttft: measured.ttft,
            itl: measured.itl,
            intervals: 50,
            connecting: Some(Seconds::new(0.001)),
            tokens: 51,
            arrivals: 51,
            replica: None,
        };
        (sample, verdicts)
    }

    /// What made the requests of a burst miss, compared with one user's, who waits for 200 ms, and 20 ms for a token.
    fn cause(requests: Vec<(Sample, Verdicts)>) -> Option<Cause> {
        let observed = |requests: &[(Sample, Verdicts)]| {
            let mut evidence = Evidence::default();
            for (sample, _) in requests {
                evidence.add(sample);
            }
            evidence.sum_up()
        };
        let lowest = Lowest {
            load: Load::Users(1),
            observed: observed(&[request(0.2, 0.02, Outcome::Ok)]),
        };
        let burst = observed(&requests);
        let misses = requests
            .into_iter()
            .filter_map(|(sample, verdicts)| Miss::of(sample, &verdicts));
        cause_of(&misses.collect::<Vec<_>>(), &burst, Some(&lowest))
    }

    #[test]
    fn one_that_waits_is_one_that_queues_however_slow_all_are() {
        // All lost 0.9 s by their tokens, within the limit; that one was late by 0.4 s is what missed it.
        let mut requests = vec![request(0.2, 0.038, Outcome::Ok); 16];
        assert_eq!(cause(requests.clone()), None);
        requests.push(request(0.6, 0.038, Outcome::Ok));
        assert_eq!(cause(requests), Some(Cause::Queue));
    }

    #[test]
    fn slow_tokens_and_failures_are_told_from_waiting() {
        let good = vec![request(0.2, 0.02, Outcome::Ok); 8];
        let with = |more: Vec<_>| cause(good.iter().cloned().chain(more).collect());
        assert_eq!(with(vec![request(0.3, 0.05, Outcome::Ok)]), Some(Cause::Decode));
        let failed = request(0.2, 0.02, Outcome::Failed(Failure::Dns));
        assert_eq!(with(vec![failed.clone()]), Some(Cause::Errors));
        let waited = request(0.9, 0.02, Outcome::Ok);
        assert_eq!(with(vec![failed, waited.clone(), waited]), Some(Cause::Queue));
    }

    #[test]
    fn a_late_connection_is_no_queue() {
        let (mut sample, verdicts) = request(0.9, 0.02, Outcome::Ok);
        sample.connecting = Some(Seconds::new(0.4));
        assert_eq!(cause(vec![(sample, verdicts)]), Some(Cause::Network));
    }
}
