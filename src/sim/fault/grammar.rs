//! Text → [`Rule`]: `NAME[=VALUE][@PLACE] [CONDITION=VALUE …]`.

use std::{str::FromStr, time::Duration};

use super::{
    Act, Coalesce, Fault, Instead, Place,
    catalogue::{GROUPS, Line, name},
};
use crate::sim::api::{Reasoning, Thoughts, UsageIn};

/// A fault and when it applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(super) fault: Fault,
    pub(super) when: When,
    /// As it was written, with single spaces.
    pub(super) text: String,
}

/// All of it must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct When {
    pub(super) from: Option<Duration>,
    pub(super) to: Option<Duration>,
    pub(super) every: Option<u64>,
    /// From 0 to 1.
    pub(super) chance: Option<f64>,
    pub(super) times: Option<u64>,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault `{rule}`: {problem}")]
pub struct RuleError {
    rule: String,
    problem: String,
}

impl Rule {
    /// The fault without its conditions, as the truth names it.
    pub(super) fn label(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// The rules of a header: separated by commas and without conditions.
    pub(super) fn of_header(value: &str) -> Result<Vec<Self>, RuleError> {
        value
            .split(',')
            .map(|text| {
                let rule: Self = text.parse()?;
                if rule.fault.needs_a_plan() {
                    return Err(error(
                        text,
                        "is a property of the server; say it with --fault or /sim/faults",
                    ));
                }
                if rule.when != When::default() {
                    return Err(error(
                        text,
                        "a header has no conditions: it is for its own request",
                    ));
                }
                Ok(rule)
            })
            .collect()
    }
}

fn error(rule: &str, problem: impl Into<String>) -> RuleError {
    // A header may be long.
    let rule = rule.trim().chars().take(100).collect();
    RuleError {
        rule,
        problem: problem.into(),
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let words: Vec<_> = text.split_whitespace().collect();
        parse(&words)
            .map(|(fault, when)| Self {
                fault,
                when,
                text: words.join(" "),
            })
            .map_err(|problem| error(text, problem))
    }
}

fn parse(words: &[&str]) -> Result<(Fault, When), String> {
    let (first, rest) = words
        .split_first()
        .ok_or("is empty; `simulate --help` lists the faults")?;
    let mut options = Options::default();
    let mut when = When::default();
    for word in rest {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("`{word}` is no condition; those are key=value"))?;
        match key {
            "from" => when.from = Some(duration(value)?),
            "to" => when.to = Some(duration(value)?),
            "every" => when.every = Some(count(value)?),
            "chance" => when.chance = Some(percent(value)?),
            "times" => when.times = Some(count(value)?),
            "idle" => options.idle = Some(duration(value)?),
            "retry-after" => options.retry.push(Retry::After(value.to_owned())),
            "retry-after-ms" => options.retry.push(Retry::Millis(value.to_owned())),
            "retry-date" => options.retry.push(Retry::Date(duration(value)?)),
            "reset" => options.retry.push(Retry::Reset(duration(value)?)),
            _ => return Err(no_condition(key)),
        }
    }
    let (spec, place) = match first.rsplit_once('@') {
        Some((spec, place)) => (spec, Some(self::place(place)?)),
        None => (*first, None),
    };
    let (name, value) = match spec.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (spec, None),
    };
    let fault = fault(name, value, place, &mut options)?;
    if options != Options::default() {
        return Err(
            "idle= is for cold; retry-after=, retry-after-ms=, retry-date= and reset= are for status".into(),
        );
    }
    if fault.is_of_the_server() && (when.every.is_some() || when.chance.is_some() || when.times.is_some()) {
        return Err(
            "is a property of the server and not of a request: only from= and to= are possible".into(),
        );
    }
    if matches!(fault, Fault::Refuse | Fault::Deaf) && when.to.is_none() {
        return Err("needs to=: nobody could reach the server to end it".into());
    }
    if let (from, Some(to)) = (when.from.unwrap_or_default(), when.to)
        && to <= from
    {
        return Err("to= must be later than from=".into());
    }
    Ok((fault, when))
}

/// What some faults need beside their value.
#[derive(Default, PartialEq)]
struct Options {
    idle: Option<Duration>,
    retry: Vec<Retry>,
}

/// A header that says when to come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Retry {
    /// `Retry-After`, as it is.
    After(String),
    /// `retry-after-ms`.
    Millis(String),
    /// `Retry-After` as an HTTP date, from now.
    Date(Duration),
    /// `x-ratelimit-reset-requests`, or what the API has instead.
    Reset(Duration),
}

fn fault(
    name: &str,
    value: Option<&str>,
    place: Option<Place>,
    options: &mut Options,
) -> Result<Fault, String> {
    let need = || value.ok_or_else(|| format!("`{name}` needs a value"));
    let interval = || value.map_or(Ok(Duration::from_millis(100)), duration);
    let thoughts = |thoughts| {
        Ok::<_, String>(Fault::Reasoning(Reasoning {
            tokens: count(need()?)?,
            thoughts,
        }))
    };
    let act = |default: Place, act: Act| Fault::Act(place.unwrap_or(default), act);
    let at_start = Place::Tokens(0);
    let fault = match name {
        "refuse" => Fault::Refuse,
        "deaf" => Fault::Deaf,
        "status" => {
            let status = number(need()?, 400, 599)?;
            let retry = std::mem::take(&mut options.retry);
            Fault::Instead(Instead::Status { status, retry })
        }
        "redirect" => Fault::Instead(Instead::Redirect(
            value.map_or(Ok(307), |value| number(value, 300, 399))?,
        )),
        "html" => Fault::Instead(Instead::Html),
        "empty" => Fault::Empty,
        "stall" => act(at_start, Act::Stall(value.map(duration).transpose()?)),
        "reset" => act(Place::Head, Act::Reset),
        "close" => act(Place::Head, Act::Close),
        "truncate" => act(Place::End, Act::Truncate),
        "error" => act(
            at_start,
            Act::Error(match value {
                None => false,
                Some("overloaded") => true,
                Some(other) => {
                    return Err(format!(
                        "`{other}` is no kind of error; there is only `overloaded`"
                    ));
                }
            }),
        ),
        "comments" => act(at_start, Act::Comments(interval()?)),
        "pings" => act(at_start, Act::Pings(interval()?)),
        "garbage" => act(at_start, Act::Garbage),
        "goaway" => act(Place::Head, Act::Goaway),
        "delay" => Fault::Delay(duration(need()?)?),
        "drip" => Fault::Drip(duration(need()?)?),
        "coalesce" => Fault::Coalesce(match count(need()?) {
            Ok(frames) => Coalesce::Frames(frames),
            Err(_) => Coalesce::Time(duration(need()?)?),
        }),
        "per-frame" => Fault::PerFrame(count(need()?)?),
        "split" => Fault::Split(usize::from(number(need()?, 1, u16::MAX)?)),
        "content-type" => Fault::ContentType(need()?.to_owned()),
        "usage" => Fault::Usage(match need()? {
            "continuous" => UsageIn::EveryFrame,
            "none" => UsageIn::Nowhere,
            other => return Err(format!("`{other}` is neither `continuous` nor `none`")),
        }),
        "reasoning" => thoughts(Thoughts::Reasoning)?,
        "reasoning-content" => thoughts(Thoughts::ReasoningContent)?,
        "hidden-reasoning" => thoughts(Thoughts::Hidden)?,
        "slow" => Fault::Slow(factor(need()?)?),
        "cold" => Fault::Cold {
            load: duration(need()?)?,
            idle: options.idle.take().unwrap_or_default(),
        },
        "cache" => Fault::Cache(usize::try_from(count(need()?)?).unwrap_or(usize::MAX)),
        "limit" => {
            let (requests, per) = need()?.split_once('/').ok_or("is written like limit=60/1m")?;
            Fault::Limit {
                requests: count(requests)?,
                per: positive(per)?,
            }
        }
        "drift" => {
            let (share, per) = need()?.split_once('/').ok_or("is written like drift=10%/1m")?;
            Fault::Drift(percent_of_any(share)? / positive(per)?.as_secs_f64())
        }
        _ => return Err(no_fault(name)),
    };
    let takes_value = !matches!(
        name,
        "refuse" | "deaf" | "html" | "empty" | "reset" | "close" | "truncate" | "garbage" | "goaway"
    );
    if value.is_some() && !takes_value {
        return Err(format!("`{name}` takes no value"));
    }
    match (&fault, place) {
        (Fault::Act(place, act), _) => check_place(*place, *act)?,
        (_, Some(_)) => return Err(format!("`{name}` has no place in the answer")),
        (_, None) => {}
    }
    Ok(fault)
}

fn check_place(place: Place, act: Act) -> Result<(), String> {
    let needs_a_body = matches!(
        act,
        Act::Truncate | Act::Error(_) | Act::Comments(_) | Act::Pings(_) | Act::Garbage
    );
    if place == Place::Head && needs_a_body {
        return Err("is part of the body: @head is not possible".into());
    }
    Ok(())
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "head" => Ok(Place::Head),
        "end" => Ok(Place::End),
        number => number.parse().map(Place::Tokens).map_err(|_| {
            format!("`@{text}` is no place; those are @head, @end and a number of tokens like @5")
        }),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is no duration like 500ms or 10s"))
}

fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| match duration {
        Duration::ZERO => Err("a duration above 0 is needed".into()),
        duration => Ok(duration),
    })
}

fn count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is no whole number from 1 on")),
        Ok(count) => Ok(count),
    }
}

fn number(text: &str, least: u16, most: u16) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("`{text}` is no number from {least} to {most}"))
}

fn factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor| (0.01..=1000.0).contains(factor))
        .ok_or_else(|| format!("`{text}` is no factor from 0.01 to 1000"))
}

fn percent_of_any(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|number| number.parse().ok())
        .filter(|percent: &f64| (0.0..=10_000.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("`{text}` is no percentage like 10%"))
}

fn percent(text: &str) -> Result<f64, String> {
    percent_of_any(text).and_then(|share| {
        if share <= 1.0 {
            Ok(share)
        } else {
            Err(format!("`{text}` is more than 100%"))
        }
    })
}

/// Why a rule does not begin with `written`.
fn no_fault(written: &str) -> String {
    match lines().find(|line| name(line.usage) == written) {
        Some(line) => format!("`{written}` stands behind a fault, as in `{}`", line.example),
        None => format!("there is no `{written}`{}", suggestion(written, begins_a_rule)),
    }
}

/// Why `written` does not stand behind a fault.
fn no_condition(written: &str) -> String {
    if lines().any(|line| name(line.usage) == written) {
        return format!("`{written}` is no condition but a fault; each has a rule of its own");
    }
    let suggestion = suggestion(written, |line| !begins_a_rule(line));
    format!("`{written}` is no condition{suggestion}")
}

fn lines() -> impl Iterator<Item = &'static Line> {
    GROUPS.iter().flat_map(|(_, lines)| lines.iter())
}

fn begins_a_rule(line: &Line) -> bool {
    line.example.starts_with(name(line.usage))
}

/// What may have been meant, of those that are possible there.
fn suggestion(written: &str, is_possible: impl Fn(&Line) -> bool) -> String {
    lines()
        .filter(|line| is_possible(line))
        .map(|line| name(line.usage))
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map_or_else(
            || "; `simulate --help` lists what there is".to_owned(),
            |(_, name)| format!("; did you mean `{name}`?"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        text.parse::<Rule>().unwrap_err().to_string()
    }

    #[test]
    fn every_example_of_the_catalogue_is_a_rule_of_that_name() {
        for line in lines() {
            let rule: Rule = line.example.parse().unwrap();
            assert!(
                line.example
                    .split(['=', '@', ' '])
                    .any(|word| word == name(line.usage)),
                "{}",
                line.example
            );
            assert_eq!(rule.text, line.example);
        }
    }

    #[test]
    fn rules_are_read() {
        let rule: Rule = " stall=2s@5   every=3 from=10s to=1m chance=25% times=4"
            .parse()
            .unwrap();
        assert_eq!(
            rule.fault,
            Fault::Act(Place::Tokens(5), Act::Stall(Some(Duration::from_secs(2))))
        );
        let expected = When {
            from: Some(Duration::from_secs(10)),
            to: Some(Duration::from_mins(1)),
            every: Some(3),
            chance: Some(0.25),
            times: Some(4),
        };
        assert_eq!((rule.when.clone(), rule.label()), (expected, "stall=2s@5"));
        for (text, fault) in [
            ("stall", Fault::Act(Place::Tokens(0), Act::Stall(None))),
            ("stall@head", Fault::Act(Place::Head, Act::Stall(None))),
            ("truncate", Fault::Act(Place::End, Act::Truncate)),
            ("error=overloaded@end", Fault::Act(Place::End, Act::Error(true))),
            ("coalesce=3", Fault::Coalesce(Coalesce::Frames(3))),
            (
                "coalesce=300ms",
                Fault::Coalesce(Coalesce::Time(Duration::from_millis(300))),
            ),
            ("redirect", Fault::Instead(Instead::Redirect(307))),
            ("drift=60%/1m", Fault::Drift(0.01)),
            (
                "status=429 retry-after=2.5 retry-date=30s",
                Fault::Instead(Instead::Status {
                    status: 429,
                    retry: vec![Retry::After("2.5".into()), Retry::Date(Duration::from_secs(30))],
                }),
            ),
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().fault, fault, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_is_wrong_and_what_would_be_right() {
        for (text, said) in [
            ("", "is empty"),
            (
                "stal@5",
                "fault `stal@5`: there is no `stal`; did you mean `stall`?",
            ),
            ("explode", "there is no `explode`; `simulate --help`"),
            ("stall@five", "no place"),
            ("stall=5", "no duration"),
            ("stall evry=3", "did you mean `every`?"),
            ("every=0", "`every` stands behind a fault, as in `stall every=3`"),
            ("chance", "`chance` stands behind a fault"),
            (
                "retry-date=30s",
                "`retry-date` stands behind a fault, as in `status=503 retry-date=30s`",
            ),
            (
                "stall html=3",
                "`html` is no condition but a fault; each has a rule of its own",
            ),
            ("stall every", "key=value"),
            ("stall every=0", "from 1 on"),
            ("stall chance=10", "10%"),
            ("stall chance=200%", "more than 100%"),
            ("stall from=10s to=5s", "later"),
            ("stall idle=3s", "idle= is for cold"),
            ("stall retry-after=3", "are for status"),
            ("status", "needs a value"),
            ("status=200", "400 to 599"),
            ("html=1", "takes no value"),
            ("html@3", "no place in the answer"),
            ("error@head", "@head is not possible"),
            ("error=bad", "only `overloaded`"),
            ("usage=never", "neither"),
            ("refuse", "needs to="),
            ("refuse to=3s every=2", "only from= and to="),
            ("drift=3%/1m chance=2%", "only from= and to="),
            ("limit=60", "limit=60/1m"),
            ("limit=60/0s", "above 0"),
            ("slow=0", "factor"),
            ("split=0", "1 to"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }

    #[test]
    fn a_header_has_rules_without_conditions() {
        let rules = Rule::of_header("stall@5, split=1").unwrap();
        assert_eq!(
            rules.iter().map(Rule::label).collect::<Vec<_>>(),
            ["stall@5", "split=1"]
        );
        for (text, said) in [
            ("stall@5,", "is empty"),
            ("stall every=2", "no conditions"),
            ("limit=1/1s", "of the server"),
            ("refuse to=1s", "of the server"),
        ] {
            let problem = Rule::of_header(text).unwrap_err().to_string();
            assert!(problem.contains(said), "{text}: {problem}");
        }
        let long = Rule::of_header(&"x".repeat(10_000)).unwrap_err().to_string();
        assert!(long.contains("there is no"));
    }
}
