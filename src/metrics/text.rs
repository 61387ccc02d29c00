//! The text format, version 0.0.4.

use super::{exposition::Exposed, lines::Lines};

pub(super) fn write(families: &mut dyn Iterator<Item = Exposed<'_>>) -> Vec<u8> {
    let mut lines = Lines::default();
    for family in families.filter(|family| !family.samples.is_empty()) {
        let of = family.family;
        lines.put(&["# HELP ", of.name, " "]);
        lines.escaped(of.help, false);
        lines.put(&["\n# TYPE ", of.name, " ", of.kind.as_str(), "\n"]);
        lines.samples(&family);
    }
    lines.done()
}
