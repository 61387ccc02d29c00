//! What was measured beside what was true: the figures of a round, and their medians over the rounds.

use std::collections::BTreeMap;

use llm_probe_exporter::{
    accuracy::Truth,
    quantile::{median, percentile},
    summary::Stats,
};

use crate::{
    server::Known,
    told::{Request, Told},
};

/// Of one case in one round. Errors are measured less true, in ms; those of latencies and gaps without their sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) ttft: Option<Errors>,
    pub(crate) itl: Option<Errors>,
    pub(crate) gap: Option<Errors>,
    /// From the first arrival at the server to the last one of a burst, in ms.
    pub(crate) spread: Option<f64>,
    /// CPU seconds per 1,000 tokens.
    pub(crate) cpu: Option<f64>,
    /// In MB.
    pub(crate) peak_memory: f64,
    /// Requests that failed, or that the server does not know.
    pub(crate) lost: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Errors {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Errors {
    fn of(values: Vec<f64>) -> Option<Self> {
        let ms = |seconds: llm_probe_exporter::units::Seconds| seconds.get() * 1e3;
        Stats::of(values).map(|stats| Self {
            p50: ms(stats.p50),
            p99: ms(stats.p99),
            max: ms(stats.max),
        })
    }

    fn over(rounds: &[Figures], of: impl Fn(&Figures) -> Option<Self>) -> Option<Self> {
        let all: Vec<_> = rounds.iter().filter_map(of).collect();
        let of = |value: fn(&Self) -> f64| all.iter().map(value).collect::<Vec<_>>();
        Some(Self {
            p50: median(of(|errors| errors.p50))?,
            p99: median(of(|errors| errors.p99))?,
            max: of(|errors| errors.max).into_iter().reduce(f64::max)?,
        })
    }
}

impl Figures {
    pub(crate) fn of(told: &Told, known: &Known, users: u32) -> Self {
        let both: Vec<_> = told
            .requests
            .iter()
            .filter_map(|request| {
                let record = known.get(&request.id).filter(|_| request.ttft.is_some())?;
                Some((request, Truth::of(record)?, record))
            })
            .collect();
        let ttft =
            |(request, truth, _): &(&Request, Truth, _)| Some(request.ttft? - request.handshake - truth.ttft);
        let itl = |(request, truth, _): &(&Request, Truth, _)| Some((request.itl? - truth.itl?).abs());
        // Where one read brought two tokens, there is no gap between them to compare.
        let comparable = both
            .iter()
            .filter(|(request, truth, _)| request.gaps.len() == truth.gaps.len());
        let gaps = comparable.flat_map(|(request, truth, _)| {
            let pairs = request.gaps.iter().zip(&truth.gaps);
            pairs.map(|(measured, true_gap)| (measured - true_gap).abs())
        });
        let mut arrivals: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        for (request, _, record) in &both {
            if let Some(burst) = request.burst {
                let at = record.received_ns as f64 / 1e6;
                arrivals.entry(burst).or_default().push(at);
            }
        }
        let spreads = arrivals.values_mut().filter_map(|arrivals| {
            arrivals.sort_unstable_by(f64::total_cmp);
            Some(percentile(arrivals, 100)? - percentile(arrivals, 0)?)
        });
        let tokens: usize = both.iter().map(|(_, _, record)| record.tokens_ns.len()).sum();
        let tokens = tokens as f64 * told.share;
        Self {
            ttft: Errors::of(both.iter().filter_map(ttft).collect()),
            itl: Errors::of(both.iter().filter_map(itl).collect()),
            gap: Errors::of(gaps.collect()),
            spread: median(spreads.collect()).filter(|_| users > 1),
            cpu: (tokens > 0.0).then(|| told.cpu_seconds / tokens * 1e3),
            peak_memory: told.peak_memory,
            lost: (told.requests.len() - both.len()) as f64,
        }
    }

    /// Medians; of what is a maximum, or is lost, all together.
    pub(crate) fn over(rounds: &[Self]) -> Self {
        let median_of = |of: fn(&Self) -> Option<f64>| median(rounds.iter().filter_map(of).collect());
        Self {
            ttft: Errors::over(rounds, |round| round.ttft),
            itl: Errors::over(rounds, |round| round.itl),
            gap: Errors::over(rounds, |round| round.gap),
            spread: median_of(|round| round.spread),
            cpu: median_of(|round| round.cpu),
            peak_memory: rounds.iter().map(|round| round.peak_memory).fold(0.0, f64::max),
            lost: rounds.iter().map(|round| round.lost).sum(),
        }
    }
}

/// The median of the ratios of rounds that stood beside one another.
pub(crate) fn cpu_ratio(ours: &[Figures], theirs: &[Figures]) -> Option<f64> {
    let pairs = ours.iter().zip(theirs);
    median(
        pairs
            .filter_map(|(ours, theirs)| Some(ours.cpu? / theirs.cpu?))
            .collect(),
    )
}
