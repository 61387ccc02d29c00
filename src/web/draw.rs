//! Small pictures as inline SVG, each with a text that says the same. Colours come from classes: the
//! Content-Security-Policy lets no style be written into a page.

use maud::{Markup, html};

use super::standing::Standing;
use crate::{
    history::{History, PHASES, Past, Percentiles, Span, Trace},
    outcome::Outcome,
    units::{Ratio, Seconds},
};

/// Bursts in a sparkline, and its size.
const POINTS: usize = 40;
const WIDTH: f64 = 160.0;
const HEIGHT: f64 = 36.0;

/// Nothing is drawn thinner.
const HAIR: f64 = 2.0;

/// Width of a waterfall in its own units.
const WIDE: f64 = 1000.0;

/// p50 and p99 of the time to first token of the last bursts, with the limit where it is in the picture. The scale
/// is linear and begins at 0.
pub(super) fn ttft(history: &History, limit: Option<Seconds>) -> Markup {
    let bursts: Vec<_> = latest(history).map(|past| past.ttft).collect();
    let top = bursts
        .iter()
        .flatten()
        .map(|ttft| ttft.p99.get())
        .fold(0.0, f64::max);
    // A limit that is far above would press the curve flat.
    let drawn_limit = limit.map(Seconds::get).filter(|limit| *limit < 4.0 * top);
    let top = drawn_limit.map_or(top, |limit| top.max(limit));
    if top <= 0.0 {
        return nothing("No time to first token yet");
    }
    let y = |value: f64| HEIGHT - 1.0 - value / top * (HEIGHT - HAIR);
    let curve = |of: fn(Percentiles) -> Seconds| {
        let lines = bursts.split(Option::is_none).filter(|known| !known.is_empty());
        let mut at = 0;
        let mut paths = Vec::new();
        for known in lines {
            // Where it stands among all: bursts without one are a gap.
            let begin = bursts.get(at..).map_or(at, |rest| {
                at + rest.iter().position(Option::is_some).unwrap_or_default()
            });
            let points: Vec<_> = (begin..)
                .zip(known.iter().flatten())
                .map(|(place, ttft)| format!("{:.1},{:.1}", x(place, bursts.len()), y(of(*ttft).get())))
                .collect();
            at = begin + known.len();
            paths.push(points.join(" "));
        }
        paths
    };
    let spoken = spoken_ttft(&bursts, limit);
    html! {
        svg class="spark" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } width=(WIDTH) height=(HEIGHT) role="img" aria-label=(spoken) {
            title { (spoken) }
            @if let Some(limit) = drawn_limit {
                line class="limit" x1="0" x2=(WIDTH) y1=(rounded(y(limit))) y2=(rounded(y(limit))) {}
            }
            @for points in curve(|ttft| ttft.p99) { (stroke("p99", &points)) }
            @for points in curve(|ttft| ttft.p50) { (stroke("p50", &points)) }
        }
    }
}

/// A line through points, or a dot where there is one.
fn stroke(class: &str, points: &str) -> Markup {
    html! {
        @match points.split_once(',') {
            Some((x, y)) if !points.contains(' ') => { circle class={ (class) " dot" } cx=(x) cy=(y) r="1.5" {} }
            _ => { polyline class=(class) points=(points) {} }
        }
    }
}

fn spoken_ttft(bursts: &[Option<Percentiles>], limit: Option<Seconds>) -> String {
    let known: Vec<_> = bursts.iter().flatten().collect();
    let range = |of: fn(&Percentiles) -> Seconds| {
        let values = known.iter().map(|ttft| of(ttft).get());
        let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        format!("{} to {}", Seconds::new(least), Seconds::new(most))
    };
    let limit = limit.map_or_else(String::new, |limit| format!("; the limit is {limit}"));
    format!(
        "Time to first token of the last {} bursts: p50 {}, p99 {}{limit}",
        bursts.len(),
        range(|ttft| ttft.p50),
        range(|ttft| ttft.p99),
    )
}

/// A bar for the goodput of each of the last bursts, in the colour of how the burst stands.
pub(super) fn goodput(history: &History) -> Markup {
    let bursts: Vec<_> = latest(history).collect();
    let known: Vec<_> = bursts.iter().filter_map(|past| past.goodput).collect();
    if known.is_empty() {
        return nothing("No goodput yet");
    }
    let shares = known.iter().map(|goodput| goodput.get());
    let (least, most) = shares.fold((1.0_f64, 0.0_f64), |(least, most), share| {
        (least.min(share), most.max(share))
    });
    let shown = |share| Ratio::new(share).map_or_else(String::new, |share| share.to_string());
    let met = bursts
        .iter()
        .filter(|past| past.objective_met == Some(true))
        .count();
    let spoken = format!(
        "Goodput of the last {} bursts: {} to {}; {met} of {} met the objective",
        bursts.len(),
        shown(least),
        shown(most),
        known.len(),
    );
    let bar = WIDTH / POINTS as f64;
    html! {
        svg class="spark bars" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } width=(WIDTH) height=(HEIGHT) role="img" aria-label=(spoken) {
            title { (spoken) }
            @for (place, past) in bursts.iter().enumerate() {
                @if let Some(goodput) = past.goodput {
                    @let tall = (goodput.get() * HEIGHT).max(HAIR);
                    rect class=(Standing::of_past(past).class()) x=(rounded(x(place, bursts.len()) - bar / 2.0)) y=(rounded(HEIGHT - tall))
                        width=(rounded(bar - 1.0)) height=(rounded(tall)) {}
                }
            }
        }
    }
}

fn nothing(words: &str) -> Markup {
    html! { span class="soft" { (words) } }
}

fn latest(history: &History) -> impl Iterator<Item = &Past> {
    let skipped = history.bursts().len().saturating_sub(POINTS);
    history.bursts().skip(skipped).map(|past| &**past)
}

/// The middle of the place of a burst: the latest is always at the right.
fn x(place: usize, of: usize) -> f64 {
    let step = WIDTH / POINTS as f64;
    WIDTH - step * ((of - place) as f64 - 0.5)
}

/// To a tenth: a page need not be more exact.
fn rounded(value: f64) -> String {
    format!("{value:.1}")
}

/// Where the time of one request went, on the scale of its burst, which ends at `end`.
pub(super) fn waterfall(trace: &Trace, end: f32) -> Markup {
    let Some((start, over)) = trace.start.zip(trace.end) else {
        return html! { span class="soft" { "never sent" } };
    };
    let scale = WIDE / f64::from(end.max(f32::MIN_POSITIVE));
    let spans = PHASES.iter().zip(trace.phases);
    let known: Vec<_> = spans.filter_map(|(phase, span)| Some((*phase, span?))).collect();
    // What a request that failed waited for in vain.
    let last = known.iter().map(|(_, span)| span.to).fold(start, f32::max);
    let in_vain = (trace.outcome != Outcome::Ok && over > last).then_some(Span { from: last, to: over });
    let rest = in_vain.map(|span| ("in_vain", span));
    let parts: Vec<_> = known.iter().copied().chain(rest).collect();
    let spoken: Vec<_> = parts
        .iter()
        .map(|(phase, span)| format!("{} {}", in_words(phase), length(*span)))
        .collect();
    let spoken = format!(
        "Began after {}; {}",
        Seconds::new(start.into()),
        spoken.join(", ")
    );
    html! {
        svg class="waterfall" viewBox={ "0 0 " (WIDE) " 14" } preserveAspectRatio="none" role="img" aria-label=(spoken) {
            title { (spoken) }
            line class="before" x1="0" x2=(WIDE) y1="7" y2="7" {}
            @for (phase, span) in &parts {
                rect class=(phase) x=(rounded(f64::from(span.from) * scale)) y="1" height="12"
                    width=(rounded((f64::from(span.to - span.from) * scale).max(HAIR))) {}
            }
        }
    }
}

fn length(span: Span) -> Seconds {
    Seconds::new(f64::from(span.to - span.from))
}

/// What the colours of a waterfall mean.
pub(super) fn legend() -> Markup {
    html! {
        ul class="legend" {
            @for phase in PHASES.iter().chain(&["in_vain"]) {
                li {
                    svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { rect class=(phase) width="12" height="12" {} }
                    " " (in_words(phase))
                }
            }
        }
    }
}

fn in_words(phase: &str) -> &str {
    match phase {
        "first_token" => "first token",
        "in_vain" => "waited in vain",
        phase => phase,
    }
}
