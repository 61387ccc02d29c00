//! The time to render each format, beside that of the encoder of the crate prometheus on the same samples.

use std::{path::Path, time::Duration};

use llm_probe_exporter::{
    config,
    config::plan::{Exposition, Series},
    measure::Measurement,
    metrics::{Format, Metrics, SeriesMetrics},
    outcome::{Failure, Outcome},
    record::Record,
    slo::ErrorBounds,
    summary::{Judged, Tally},
    units::{Seconds, Tokens},
};
use prometheus::{Encoder, TextEncoder};
use tokio::time::Instant;

use crate::{configuration, theirs};

/// The text format may take so many times as long as prometheus' encoder.
const MOST: f64 = 1.5;

const ROUNDS: u32 = 7;

/// Prints the table.
pub(crate) fn is_in_bounds() -> bool {
    let probe = "probes:\n  - name: all\n    every: 1m\n";
    let text = configuration("http://127.0.0.1:9", probe);
    let plan = config::parse(&text, "probes.yaml", Path::new("")).expect("the configuration is valid");
    let [metrics, native] = [false, true].map(|native_histograms| {
        let exposition = Exposition {
            native_histograms,
            ..Exposition::default()
        };
        Metrics::new(&[], &exposition)
    });
    let held: Vec<_> = [&metrics, &native]
        .into_iter()
        .flat_map(|metrics| plan.series().map(|series| used(metrics, &series)))
        .collect();

    let text = String::from_utf8(metrics.render(Format::Text)).expect("the text format is UTF-8");
    let registry = theirs::registry(&text);
    // Gathered once, which only makes theirs quicker.
    let gathered = registry.gather();
    let encoded = || {
        let mut out = Vec::new();
        let encoder = TextEncoder::new();
        encoder
            .encode(&gathered, &mut out)
            .expect("memory takes every write");
        out
    };
    assert_eq!(
        text.lines().count(),
        String::from_utf8_lossy(&encoded()).lines().count(),
        "both render the same samples"
    );

    println!("{} series, {} samples", plan.series().count(), metrics.samples());
    println!("{:<34}{:>12}{:>10}{:>10}", "", "bytes", "s", "times");
    // Interleaved, so that whatever else the machine does slows down all of them; the fastest round of each counts.
    let render = |metrics: &Metrics, format| metrics.render(format);
    let rows: [(&str, &dyn Fn() -> Vec<u8>); 5] = [
        ("prometheus' TextEncoder", &encoded),
        ("text", &|| render(&metrics, Format::Text)),
        ("OpenMetrics", &|| render(&metrics, Format::OpenMetrics)),
        ("protobuf", &|| render(&metrics, Format::Protobuf)),
        ("protobuf with native histograms", &|| {
            render(&native, Format::Protobuf)
        }),
    ];
    let mut best = rows.map(|_| f64::INFINITY);
    let mut sizes = rows.map(|_| 0);
    for _ in 0..ROUNDS {
        for ((best, size), (_, render)) in best.iter_mut().zip(&mut sizes).zip(&rows) {
            let begun = Instant::now();
            *size = render().len();
            *best = best.min(begun.elapsed().as_secs_f64());
        }
    }
    let theirs = best.first().copied().unwrap_or_default();
    for (((name, _), best), size) in rows.iter().zip(best).zip(sizes) {
        println!("{name:<34}{size:>12}{best:>10.3}{:>10.2}", best / theirs);
    }
    drop(held);
    best.get(1).is_some_and(|ours| *ours < MOST * theirs)
}

/// The metrics of a series that has seen a burst of successes, each slower than the one before, and a failure.
fn used(metrics: &Metrics, series: &Series) -> SeriesMetrics {
    let held = metrics.acquire(series);
    held.armed(1.7e9);
    held.burst_begun(1.7e9, Seconds::new(0.002));
    let mut tally = Tally::default();
    for number in 0..20 {
        let slo = &series.step.slo;
        let record = record(number);
        let measured = Measurement::of(&record);
        let judged = Judged::new(record, measured, ErrorBounds::default(), slo);
        held.request(&judged, 1.7e9 + 1.0);
        tally.add(&judged, true);
    }
    let summary = tally.finish(series.step.slo.objective);
    held.burst_ended(&summary.into(), Instant::now());
    held.next_due(Some(1.7e9 + 60.0), series.probe.every);
    held
}

fn record(number: u32) -> Record {
    let start = Instant::now();
    let mut record = Record::new(number, false, start);
    let ttft = Duration::from_millis(100) * (number + 1);
    record.timeline.start = Some(start);
    record.timeline.dns = Some(Duration::from_millis(1));
    record.timeline.connected = Some(start + Duration::from_millis(5));
    record.timeline.headers = Some(start + Duration::from_millis(20));
    for delta in 0..16 {
        let at = start + ttft + Duration::from_millis(10) * delta;
        record.timeline.output(at, true);
    }
    record.ended = Some(start + ttft + Duration::from_secs(1));
    record.status = Some(200);
    record.outcome = match number {
        0 => Outcome::Failed(Failure::Truncated),
        _ => Outcome::Ok,
    };
    record.usage.prompt = Some(Tokens(100));
    record.usage.output = Some(Tokens(16));
    record
}
