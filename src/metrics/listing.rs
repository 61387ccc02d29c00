//! The table of families for people: what `metrics` prints and the README shows.

use std::fmt::Write;

use super::{families::Family, table::table};

const HEADS: [&str; 5] = ["family", "type", "labels", "since", "help"];

/// Aligned columns.
pub fn aligned_table() -> String {
    let rows = || {
        [HEADS.map(str::to_owned)]
            .into_iter()
            .chain(table().map(|family| cells(family, "P")))
    };
    let mut widths = [0; HEADS.len()];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows() {
        let line = row
            .iter()
            .zip(widths)
            .fold(String::new(), |mut line, (cell, width)| {
                put(&mut line, format_args!("{cell:width$}  "));
                line
            });
        put(&mut text, format_args!("{}\n", line.trim_end()));
    }
    text
}

/// A table in Markdown.
pub fn markdown_table() -> String {
    let mut text = String::new();
    put(&mut text, format_args!("| {} |\n", HEADS.join(" | ")));
    put(&mut text, format_args!("|{}\n", "---|".repeat(HEADS.len())));
    for family in table() {
        let [name, rest @ ..] = cells(family, "**P**");
        put(&mut text, format_args!("| `{name}` | {} |\n", rest.join(" | ")));
    }
    text
}

fn cells(family: &Family, series_labels: &str) -> [String; HEADS.len()] {
    let scope = family.scope_labels().unwrap_or(&[]).iter().copied();
    let series = family.scope_labels().is_none().then_some(series_labels);
    let labels: Vec<_> = series
        .into_iter()
        .chain(scope)
        .chain(family.labels.iter().copied())
        .collect();
    [
        family.name.to_owned(),
        family.kind.as_str().to_owned(),
        labels.join(", "),
        family.since.as_str().to_owned(),
        family.help.to_owned(),
    ]
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes every write");
}
