//! Lines of samples, which both text formats write alike. Why not by prometheus' own encoder: it writes `le="1"`,
//! which Prometheus 2 takes for another bucket than the `le="1.0"` of everybody else.

use std::io::Write;

use super::{
    exemplar::Exemplar,
    exposition::{Exposed, Value},
    latency::Latency,
};

#[derive(Debug, Default)]
pub(super) struct Lines {
    out: Vec<u8>,
    /// Whether the format has room for exemplars.
    exemplars: bool,
    /// The labels of the sample in hand, without braces: a histogram writes them thirty times.
    labels: Vec<u8>,
    /// Bounds as they are written in `le`; all histograms of a family have the same.
    bounds: Vec<Vec<u8>>,
}

impl Lines {
    pub(super) fn with_exemplars() -> Self {
        Self {
            exemplars: true,
            ..Self::default()
        }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.out
    }

    /// All samples of a family.
    pub(super) fn samples(&mut self, family: &Exposed<'_>) {
        let name = family.family.name;
        self.bounds.clear();
        for sample in &family.samples {
            self.labels.clear();
            for (position, (label, value)) in sample.labels().enumerate() {
                if position > 0 {
                    self.labels.push(b',');
                }
                self.labels.extend_from_slice(label.as_bytes());
                self.labels.extend_from_slice(b"=\"");
                escape(&mut self.labels, value, true);
                self.labels.push(b'"');
            }
            match sample.value {
                Value::Number(number) => {
                    self.name(name, "");
                    float(&mut self.out, number);
                    self.out.push(b'\n');
                }
                Value::Histogram(histogram) => self.histogram(name, histogram),
            }
        }
    }

    fn histogram(&mut self, name: &str, histogram: &Latency) {
        if self.bounds.is_empty() {
            self.bounds = histogram.buckets().map(|(bound, _)| le(bound)).collect();
        }
        let bounds = std::mem::take(&mut self.bounds);
        let exemplar = histogram.exemplar().filter(|_| self.exemplars);
        for (position, (bound, (_, count))) in bounds.iter().zip(histogram.buckets()).enumerate() {
            self.bucket(name);
            self.out.extend_from_slice(bound);
            self.count(count);
            if let Some((_, exemplar)) = exemplar.filter(|(of, _)| *of == position) {
                self.exemplar(exemplar);
            }
            self.out.push(b'\n');
        }
        self.bounds = bounds;
        self.name(name, "_sum");
        float(&mut self.out, histogram.sum());
        self.out.push(b'\n');
        self.name(name, "_count");
        self.count(histogram.count());
        self.out.push(b'\n');
    }

    fn exemplar(&mut self, exemplar: Exemplar) {
        let Exemplar { id, value, unix } = exemplar;
        put(
            &mut self.out,
            format_args!(" # {{{}=\"{id}\"}} {value} {unix}", Exemplar::LABEL),
        );
    }

    /// Name and labels of a sample, up to its value.
    fn name(&mut self, name: &str, suffix: &str) {
        self.put(&[name, suffix]);
        if !self.labels.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(&self.labels);
            self.out.push(b'}');
        }
        self.out.push(b' ');
    }

    /// Name and labels of a bucket, up to its bound.
    fn bucket(&mut self, name: &str) {
        self.put(&[name, "_bucket{"]);
        if !self.labels.is_empty() {
            self.out.extend_from_slice(&self.labels);
            self.out.push(b',');
        }
        self.put(&["le=\""]);
    }

    fn count(&mut self, count: u64) {
        put(&mut self.out, format_args!("{count}"));
    }

    pub(super) fn put(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// Text with its backslashes and line feeds escaped, `quoted` also with its quotation marks.
    pub(super) fn escaped(&mut self, text: &str, quoted: bool) {
        escape(&mut self.out, text, quoted);
    }
}

/// The bound, always with a decimal point, and what follows it.
fn le(bound: f64) -> Vec<u8> {
    let mut text = Vec::new();
    float(&mut text, bound);
    if bound.is_finite() && !text.contains(&b'.') {
        text.extend_from_slice(b".0");
    }
    text.extend_from_slice(b"\"} ");
    text
}

/// The shortest text that reads back as the same number.
fn float(out: &mut Vec<u8>, number: f64) {
    /// Below it every whole number is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if number.trunc().to_bits() == number.to_bits() && number.abs() < EXACT {
        // A tenth of the time that it takes as a float.
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        put(out, format_args!("{}", number as i64));
    } else {
        put(out, format_args!("{number}"));
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes every write");
}

/// Backslash and line feed, and in label values the quotation mark.
fn escape(out: &mut Vec<u8>, text: &str, quoted: bool) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr3(b'\\', b'\n', if quoted { b'"' } else { b'\n' }, rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else {
            break;
        };
        out.push(b'\\');
        out.push(if byte == b'\n' { b'n' } else { byte });
        rest = after;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_shortest_that_read_back() {
        for (number, text) in [
            (0.0, "0"),
            (5.0, "5"),
            (-3.0, "-3"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1_753_100_000.25, "1753100000.25"),
            (1e16, "10000000000000000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = Vec::new();
            float(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn bounds_have_a_decimal_point() {
        for (bound, text) in [
            (1.0, "1.0"),
            (0.005, "0.005"),
            (300.0, "300.0"),
            (0.00001, "0.00001"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(le(bound), format!("{text}\"}} ").into_bytes());
        }
    }

    #[test]
    fn escapes() {
        let escaped = |text, quoted| {
            let mut out = Vec::new();
            escape(&mut out, text, quoted);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(escaped("a\"b\\c\nd🦀", true), r#"a\"b\\c\nd🦀"#);
        assert_eq!(escaped("a\"b\\c\nd", false), r#"a"b\\c\nd"#);
        assert_eq!(escaped("", true), "");
    }
}
