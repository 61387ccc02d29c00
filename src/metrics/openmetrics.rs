//! OpenMetrics, version 1.0.0. Its `_created` lines are left out: Prometheus stores each as one more series.

use super::{exposition::Exposed, lines::Lines};

pub(super) fn write(families: &mut dyn Iterator<Item = Exposed<'_>>) -> Vec<u8> {
    let mut lines = Lines::with_exemplars();
    for family in families.filter(|family| !family.samples.is_empty()) {
        let of = family.family;
        // The samples of a counter end with `_total`, its family does not.
        let name = of.name.strip_suffix("_total").unwrap_or(of.name);
        lines.put(&["# TYPE ", name, " ", of.kind.as_str(), "\n"]);
        if let Some(unit) = of.unit() {
            lines.put(&["# UNIT ", name, " ", unit, "\n"]);
        }
        lines.put(&["# HELP ", name, " "]);
        lines.escaped(of.help, true);
        lines.put(&["\n"]);
        lines.samples(&family);
    }
    lines.put(&["# EOF\n"]);
    lines.done()
}
