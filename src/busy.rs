//! Whether a server's own metrics say that it is busy: conditions such as `vllm:num_requests_waiting > 5` on the
//! text that its `/metrics` answers. The probe's own requests are in those numbers, too. No I/O.

use std::fmt;

/// `NAME OP VALUE`, with exact matchers of labels where they are given: `NAME{LABEL="VALUE"} OP VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    name: String,
    matchers: Vec<(String, String)>,
    comparison: Comparison,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Comparison {
    /// The longer ones first: `>` begins `>=`.
    const ALL: [(&'static str, Self); 4] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        (">", Self::Above),
        ("<", Self::Below),
    ];

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
        }
    }
}

impl Condition {
    /// The error says in words what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let end = text
            .find(|c: char| !is_of_name(c))
            .ok_or("has no comparison (>, >=, < or <=)")?;
        let (name, rest) = text.split_at_checked(end).unwrap_or_default();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("does not begin with the name of a metric");
        }
        let (matchers, rest) = match rest.trim_start().strip_prefix('{') {
            Some(labels) => self::labels(labels).ok_or("has labels that are not like {name=\"value\"}")?,
            None => (Vec::new(), rest),
        };
        let rest = rest.trim_start();
        let (comparison, limit) = Comparison::ALL
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))
            .ok_or("has no comparison (>, >=, < or <=)")?;
        let limit: f64 = limit
            .trim()
            .parse()
            .ok()
            .filter(|limit: &f64| limit.is_finite())
            .ok_or("does not compare with a number")?;
        Ok(Self {
            name: name.to_owned(),
            matchers,
            comparison,
            limit,
        })
    }

    /// The first line of a text exposition that satisfies it. Lines that are none are passed over.
    pub fn satisfied_by<'a>(&self, exposition: &'a str) -> Option<&'a str> {
        exposition.lines().find(|line| self.holds(line).unwrap_or(false))
    }

    fn holds(&self, line: &str) -> Option<bool> {
        // Most lines are of other families: they are left at the first letter that differs.
        let rest = line.trim_start().strip_prefix(self.name.as_str())?;
        let (labels, rest) = match rest.trim_start().strip_prefix('{') {
            Some(labels) => self::labels(labels)?,
            None if rest.starts_with([' ', '\t']) => (Vec::new(), rest),
            None => return None,
        };
        // A time stamp may follow.
        let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
        let matches = |matcher: &(String, String)| labels.contains(matcher);
        Some(self.matchers.iter().all(matches) && self.comparison.holds(value, self.limit))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)?;
        for (at, (name, value)) in self.matchers.iter().enumerate() {
            write!(out, "{}{name}={value:?}", if at == 0 { "{" } else { "," })?;
        }
        if !self.matchers.is_empty() {
            out.write_str("}")?;
        }
        let sign = Comparison::ALL
            .iter()
            .find(|(_, comparison)| *comparison == self.comparison)
            .map_or("", |(sign, _)| sign);
        write!(out, " {sign} {}", self.limit)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

/// Names and values of labels.
type Labels = Vec<(String, String)>;

/// Labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(is_of_name) {
            return None;
        }
        let (value, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        labels.push((name.to_owned(), value));
        let rest = rest.trim_start();
        text = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// Text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPOSITION: &str = "# HELP vllm:num_requests_waiting Waiting.\n\
        # TYPE vllm:num_requests_waiting gauge\n\
        vllm:num_requests_waiting{engine=\"0\",model_name=\"a,}\\\"b\"} 3\n\
        vllm:num_requests_waiting{engine=\"1\",model_name=\"b\"} 7.0 1700000000000\n\
        vllm:num_requests_waiting_total 99\n\
        plain 1e3\n\
        odd NaN\n\
        \tkv  +Inf\n";

    #[test]
    fn conditions_hold_for_any_series_of_their_name() {
        for (condition, holds) in [
            ("vllm:num_requests_waiting > 5", true),
            ("vllm:num_requests_waiting>7", false),
            ("vllm:num_requests_waiting >= 7", true),
            ("vllm:num_requests_waiting < 3", false),
            ("vllm:num_requests_waiting <= 3", true),
            ("vllm:num_requests_waiting{engine=\"0\"} > 5", false),
            (
                "vllm:num_requests_waiting{ engine = \"1\" , model_name=\"b\", } > 5",
                true,
            ),
            ("vllm:num_requests_waiting{model_name=\"a,}\\\"b\"} > 2", true),
            ("vllm:num_requests_waiting{model=\"b\"} > 0", false),
            ("vllm:num_requests > 0", false),
            ("plain > 999.5", true),
            ("odd > 0", false),
            ("odd < 0", false),
            ("kv > 1", true),
            ("absent < 1", false),
        ] {
            let condition_read = Condition::parse(condition).unwrap();
            assert_eq!(
                condition_read.satisfied_by(EXPOSITION).is_some(),
                holds,
                "{condition}"
            );
            assert_eq!(
                Condition::parse(&condition_read.to_string()),
                Ok(condition_read),
                "{condition}"
            );
        }
    }

    #[test]
    fn what_is_no_condition_is_told() {
        for text in [
            "",
            "a",
            "> 5",
            "a > ",
            "a > b",
            "a == 5",
            "a > NaN",
            "a > inf",
            "5a > 1",
            "a{b} > 1",
            "a{b=c} > 1",
            "a{b=\"c\" > 1",
            "a b > 1",
            "sum(a) > 1",
        ] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hostile_lines_are_passed_over() {
        let condition = Condition::parse("a{b=\"c\"} > 1").unwrap();
        for line in [
            "a",
            "a{",
            "a{b",
            "a{b=",
            "a{b=\"",
            "a{b=\"c",
            "a{b=\"c\\",
            "a{b=\"c\"",
            "a{b=\"c\"}",
            "a{b=\"c\"} x",
            "a{b=\"c\"}}} 2",
            "a{=\"c\"} 2",
            "a\u{0} 2",
            "a{b=\"c\"\"} 2",
        ] {
            assert_eq!(condition.satisfied_by(line), None, "{line}");
            let among = format!("{line}\na{{b=\"c\"}} 2\n");
            assert!(condition.satisfied_by(&among).is_some(), "{line}");
        }
        let long = format!("a{{b=\"{}\n", "\\\"".repeat(1 << 20));
        assert_eq!(condition.satisfied_by(&long), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(condition in "\\PC*", text in "(a|\\{|\\}|\"|=|,|\\\\|\n|1|é| )*") {
            Condition::parse(&condition).ok();
            Condition::parse("a{a=\"1\"} > 0").unwrap().satisfied_by(&text);
        }
    }
}
