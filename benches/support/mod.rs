//! What the benches share: the program as a process of its own, the machine, and the table.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each bench uses its own part of this"
)]

pub(crate) mod machine;
pub(crate) mod process;

/// Something that was to be reached.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) what: String,
    pub(crate) measured: Option<f64>,
    pub(crate) most: f64,
    pub(crate) unit: &'static str,
}

impl Bound {
    /// What was not measured is not met.
    pub(crate) fn is_met(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.most)
    }

    fn line(&self) -> String {
        let Self { what, most, unit, .. } = self;
        let verdict = if self.is_met() { "met   " } else { "MISSED" };
        let measured = self
            .measured
            .map_or("–".to_owned(), |measured| format!("{measured:.3}"));
        format!("{verdict}  {what}: {measured} {unit} (at most {most} {unit})")
    }
}

/// All verdicts, a line each; whether all bounds are met.
pub(crate) fn verdicts(bounds: &[Bound]) -> (String, bool) {
    let lines: Vec<_> = bounds.iter().map(Bound::line).collect();
    (lines.join("\n"), bounds.iter().all(Bound::is_met))
}
