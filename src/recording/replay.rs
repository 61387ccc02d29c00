//! Requests of a recording, decoded, measured and judged again.

use std::collections::HashMap;

use super::{read::Problem, recorded::Recorded};
use crate::{
    answer::Examination,
    baseline::Baseline,
    config::plan::{SeriesKey, Slo},
    diagnose::{Lowest, diagnose},
    dialect::Decoder,
    measure::Measurement,
    outcome::{Ended, Failure, Outcome},
    reading::Reading,
    record::{Record, presentable},
    report::Report,
    response::Read,
    summary::{Judged, Tally},
    tape::Ending,
    units::Name,
};

/// How many differences are told in words.
const MOST_TOLD: usize = 20;

/// The most series of a recording: what is kept of each takes memory.
const MOST_SERIES: usize = 10_000;

/// What came of a recording.
#[derive(Debug, Default)]
pub struct Replay {
    /// One per series, in the order in which their bursts ended.
    pub reports: Vec<Report>,
    /// Requests that were not to be judged.
    pub passed_over: u64,
    /// Requests whose bytes are not all there: they are in no report.
    pub truncated: u64,
    /// Requests of which something else was said live.
    pub different: u64,
    /// Of the first of these, what.
    pub differences: Vec<String>,
}

/// Judges the requests of a recording by the objectives that `objectives` gives for each; those of a series
/// for which it gives none are passed over.
pub fn replay(
    requests: impl Iterator<Item = Result<(u64, Recorded), Problem>>,
    objectives: impl Fn(&Recorded) -> Option<Slo>,
) -> Result<Replay, Problem> {
    let mut replay = Replay::default();
    let mut bursts: HashMap<SeriesKey, Burst> = HashMap::new();
    for request in requests {
        let (line, recorded) = request?;
        let Some(slo) = objectives(&recorded) else {
            replay.passed_over += 1;
            continue;
        };
        if !recorded.is_whole() {
            replay.truncated += 1;
            continue;
        }
        let judged = recorded.judge(&slo);
        if let Some(difference) = recorded.difference(&judged) {
            replay.different += 1;
            if replay.differences.len() < MOST_TOLD {
                replay.differences.push(format!("line {line}: {difference}"));
            }
        }
        if bursts.len() == MOST_SERIES && !bursts.contains_key(&recorded.key) {
            let what = format!("more than {MOST_SERIES} series");
            return Err(Problem { line, what });
        }
        let together = recorded.number() < recorded.key.load.users();
        let burst = bursts.entry(recorded.key.clone()).or_insert_with(|| Burst {
            tally: Tally::default(),
            model: recorded.model.clone(),
            slo,
            last: line,
        });
        burst.last = line;
        burst.tally.add(&judged, together);
    }
    let mut bursts: Vec<_> = bursts.into_iter().collect();
    bursts.sort_unstable_by_key(|(_, burst)| burst.last);
    let mut lowest: HashMap<(Name, Name), Lowest> = HashMap::new();
    let mut finished = Vec::new();
    for (key, burst) in bursts {
        let summary = burst.tally.finish(burst.slo.objective);
        let observed = &summary.observed;
        let series = (key.probe.clone(), key.target.clone());
        let is_lower = lowest.get(&series).is_none_or(|lowest| key.load < lowest.load);
        if is_lower && observed.is_reference() {
            let (load, observed) = (key.load, observed.clone());
            lowest.insert(series, Lowest { load, observed });
        }
        finished.push((key, burst.model, burst.slo, summary));
    }
    let reports = finished.into_iter().map(|(key, model, slo, mut summary)| {
        let lowest = lowest.get(&(key.probe.clone(), key.target.clone()));
        let lower = lowest.filter(|lowest| lowest.load < key.load);
        summary.diagnosis = Some(diagnose(
            key.load,
            &summary.observed,
            lower,
            lower.is_none(),
            &Baseline::default(),
        ));
        Report::of(key, model, &slo, summary)
    });
    replay.reports = reports.collect();
    Ok(replay)
}

struct Burst {
    tally: Tally,
    model: String,
    slo: Slo,
    /// The last line of it.
    last: u64,
}

impl Recorded {
    /// Decodes, measures and judges the request as a live one.
    pub fn judge(&self, slo: &Slo) -> Judged {
        let mut record = self.record.clone();
        (record.outcome, record.detail) = match self.play(&mut record) {
            Ok(()) => (Outcome::Ok, None),
            Err(Ended(outcome, detail)) => (
                outcome,
                Some(presentable(&detail)).filter(|detail| !detail.is_empty()),
            ),
        };
        // The tokenizer is not here, but what it counted is.
        record.counted = self.counted.filter(|_| record.usage.output.is_none());
        if let (Some(expect), Some(text)) = (&self.expect, record.text.take()) {
            Examination::expecting(expect.clone()).examine(&mut record, &text, |text| text);
        }
        let measured = Measurement::of(&record);
        Judged::new(record, measured, self.bounds, slo)
    }

    fn play(&self, record: &mut Record) -> Result<(), Ended> {
        let tape = &self.tape;
        let as_it_was = || match self.outcome {
            Outcome::Ok => Ok(()),
            outcome => Err(Ended(outcome, self.detail.clone().unwrap_or_default())),
        };
        let line = &record.timeline;
        let (Some(head), Some(start), Some(came)) = (&tape.head, line.start, line.headers) else {
            return as_it_was();
        };
        let decoder = Decoder::new(self.dialect)
            .text_mode(self.text_mode)
            .keeping_text(self.expect.is_some());
        let mut reading = Reading::begin(decoder, self.timeouts, start, head, came, record)?;
        for (at, chunk) in tape.chunks() {
            if let Some(ended) = reading.absorb(Read::Chunk(chunk), at, record).break_value() {
                return ended;
            }
        }
        let (at, read) = match &tape.ending {
            Some((at, Ending::End)) => (*at, Read::End),
            Some((at, Ending::Late)) => (*at, Read::Late),
            Some((at, Ending::Broke(ended))) => (*at, Read::Broke(ended.clone())),
            None if matches!(self.outcome, Outcome::Invalid(_)) => return as_it_was(),
            // Live, what was read last ended the request; as this program reads it, it does not.
            None => {
                let detail = "the recording ends where the request was over live";
                let at = self.record.ended.unwrap_or(came);
                (at, Read::Broke(Ended::failed(Failure::Truncated, detail)))
            }
        };
        reading.absorb(read, at, record).break_value().unwrap_or(Ok(()))
    }

    /// What is said of the request now and was not said live, in words; `None` when it is the same. Verdicts
    /// are not compared: they follow, and the objectives may be others now.
    pub fn difference(&self, judged: &Judged) -> Option<String> {
        let Judged { record, measured, .. } = judged;
        if record.outcome != self.outcome {
            let detail = record.detail.as_deref().unwrap_or_default();
            return Some(format!("was {}, is {}: {detail}", self.outcome, record.outcome));
        }
        (*measured != self.measured).then(|| {
            format!(
                "{}, but measured otherwise: {measured:?}, was {:?}",
                self.outcome, self.measured
            )
        })
    }
}
