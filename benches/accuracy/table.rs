//! The table, and the bounds.

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    case::{Case, Tool, Way},
    figures::{Errors, Figures, cpu_ratio},
    support::Bound,
};

/// A case and its rounds.
pub(crate) type Row = (Case, Vec<Figures>);

pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "by",
        "over",
        "users",
        "TTFT p50/p99/max, ms",
        "ITL, ms",
        "gap, ms",
        "spread, ms",
        "CPU s/1,000 tokens",
        "× bare cold",
        "MB",
        "lost",
    ]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (case, rounds) in rows {
        let all = Figures::over(rounds);
        let show = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let errors = |errors: Option<Errors>| {
            errors.map_or_else(
                || "–".to_owned(),
                |Errors { p50, p99, max }| format!("{p50:.2}/{p99:.2}/{max:.1}"),
            )
        };
        table.add_row([
            case.tool.name().to_owned(),
            case.way.name().to_owned(),
            case.users.to_string(),
            errors(all.ttft),
            errors(all.itl),
            errors(all.gap),
            show(all.spread, 0),
            show(all.cpu, 4),
            show(ratio(rows, *case), 2),
            format!("{:.0}", all.peak_memory),
            format!("{:.0}", all.lost),
        ]);
    }
    table.to_string()
}

fn rounds(rows: &[Row], wanted: Case) -> Option<&[Figures]> {
    let row = rows.iter().find(|(case, _)| *case == wanted);
    row.map(|(_, rounds)| rounds.as_slice())
}

/// CPU time over that of the bare client in the same rounds.
fn ratio(rows: &[Row], case: Case) -> Option<f64> {
    let bare = Case {
        tool: Tool::BareCold,
        way: Way::EarlyHeads,
        users: case.users,
    };
    cpu_ratio(rounds(rows, case)?, rounds(rows, bare)?)
}

/// What is to be reached, of those cases that were measured.
pub(crate) fn bounds(rows: &[Row]) -> Vec<Bound> {
    let mut bounds = Vec::new();
    for (case, rounds) in rows.iter().filter(|(case, _)| case.tool == Tool::Ours) {
        let all = Figures::over(rounds);
        let mut bound = |what: &str, measured: Option<f64>, most, unit| {
            let (users, way) = (case.users, case.way.name());
            let what = format!("{way}, {users} users: {what}");
            bounds.push(Bound {
                what,
                measured,
                most,
                unit,
            });
        };
        bound("lost requests", Some(all.lost), 0.0, "requests");
        let [p50, p99] =
            [|errors: Errors| errors.p50, |errors: Errors| errors.p99].map(|of| all.ttft.map(of));
        match (case.way, case.users) {
            (Way::EarlyHeads, 50..) => {
                bound("TTFT error p50", p50, 0.25, "ms");
                bound("TTFT error p99", p99, 0.6, "ms");
            }
            (Way::LateHeads, 50..=200) => bound("TTFT error p99", p99, 1.3, "ms"),
            (Way::LateHeads, 1000) => bound("TTFT error p99", p99, 4.0, "ms"),
            (Way::Tls, _) => bound("TTFT error p99, less the handshake", p99, 2.0, "ms"),
            _ => {}
        }
        // With one user there is little but what the process does without any.
        if case.way == Way::EarlyHeads && case.users >= 50 {
            bound("CPU per token", ratio(rows, *case), 1.3, "× the bare client");
            match case.users {
                50 => bound("peak memory", Some(all.peak_memory), 20.0, "MB"),
                1000 => bound("peak memory", Some(all.peak_memory), 64.0, "MB"),
                _ => {}
            }
        }
    }
    bounds
}
