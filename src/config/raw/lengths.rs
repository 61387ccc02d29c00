//! The lengths of synthetic prompts: `128`, `uniform 64..512`, `normal 300±100`.

use std::num::NonZeroU64;

use super::{
    Node, Value,
    reading::{Read, wrong},
};
use crate::{
    config::{problem::shown, report::Report},
    prompt::Length,
    units::Tokens,
};

/// More than any model reads.
const MAX_TOKENS: u64 = 1_000_000;

impl Read for Length {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        const EXAMPLES: &str = "write it like `128`, `uniform 64..512` or `normal 300±100`";
        report.permit(node.id);
        let length = match &node.value {
            Value::Text(text) => {
                let Some(length) = parsed(text) else {
                    wrong(node, thing, "a number of tokens", EXAMPLES, report);
                    return None;
                };
                if let Some(mend) = mend(length) {
                    report.problem(node.id, format!("{thing} is {}", shown(text)), mend);
                    return None;
                }
                length
            }
            _ => Self::Fixed(Tokens(NonZeroU64::read(node, thing, report)?.get())),
        };
        let most = length.most();
        if most.0 > MAX_TOKENS {
            let what = match length {
                Self::Fixed(tokens) => format!("{thing} is {tokens}"),
                Self::Uniform(..) | Self::Normal { .. } => format!("{thing} may be {most}"),
            };
            report.problem(node.id, what, format!("write at most {MAX_TOKENS}"));
            return None;
        }
        Some(length)
    }
}

/// What the text says, absurd or not.
fn parsed(text: &str) -> Option<Length> {
    let tokens = |number: &str| number.trim().parse().ok().map(Tokens);
    let (distribution, numbers) = text.trim().split_once(char::is_whitespace)?;
    match distribution {
        "uniform" => {
            let (from, to) = numbers.split_once("..")?;
            Some(Length::Uniform(tokens(from)?, tokens(to)?))
        }
        "normal" => {
            let (mean, deviation) = numbers.split_once('±').or_else(|| numbers.split_once("+-"))?;
            Some(Length::Normal {
                mean: tokens(mean)?,
                deviation: tokens(deviation)?,
            })
        }
        _ => None,
    }
}

/// How to make a length sensible; `None` where it is.
fn mend(length: Length) -> Option<String> {
    match length {
        Length::Uniform(from, to) if to < from => {
            Some(format!("write the smaller number first: `uniform {to}..{from}`"))
        }
        Length::Uniform(Tokens(0), _) => Some("begin the range at 1 or more".to_owned()),
        Length::Normal { mean: Tokens(0), .. } => Some("write a mean of 1 or more".to_owned()),
        Length::Normal { mean, deviation } if deviation > mean => {
            Some(format!("write a deviation of at most {mean}, the mean"))
        }
        Length::Fixed(_) | Length::Uniform(..) | Length::Normal { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_read() {
        let normal = Length::Normal {
            mean: Tokens(300),
            deviation: Tokens(100),
        };
        for (text, length) in [
            ("uniform 64..512", Some(Length::Uniform(Tokens(64), Tokens(512)))),
            (
                " uniform  64 .. 512 ",
                Some(Length::Uniform(Tokens(64), Tokens(512))),
            ),
            ("normal 300±100", Some(normal)),
            ("normal 300 +- 100", Some(normal)),
            ("normal 300", None),
            ("uniform 64..", None),
            ("uniform 1.5..2.5", None),
            ("128", None),
        ] {
            assert_eq!(parsed(text), length, "{text}");
        }
    }
}
