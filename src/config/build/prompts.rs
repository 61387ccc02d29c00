//! Prompts: from the file itself, from a file of lines, or made up.

use super::{Context, scripts};
use crate::{
    config::{
        positions::NodeId,
        raw::{
            choices::Caching,
            items,
            reading::{At, Field},
        },
        report::Report,
    },
    prompt::{Cache, Prefix, Prompt, Script, Scripts, Source},
    rhythm::fnv1a,
    units::Tokens,
};

/// Any model writes more than 64 tokens to it.
const USUAL: &str = "Write a long story about the keeper of a lighthouse and the storms of one winter.";

/// The probe's prompt with what it leaves out taken from the defaults; its own source takes the place of theirs.
pub(super) fn inherit(own: &Field<items::Prompt>, defaults: &Field<items::Prompt>) -> Field<items::Prompt> {
    let mut prompt = own.merged(defaults);
    let has_source = |prompt: &&items::Prompt| sources(prompt).contains(&true);
    if let (Field::Given(prompt), Some(own)) = (&mut prompt, own.value().filter(has_source)) {
        prompt.value.text = own.text.clone();
        prompt.value.file = own.file.clone();
        prompt.value.tokens = own.tokens.clone();
        prompt.value.prefix_tokens = own.prefix_tokens.clone();
        prompt.value.turns = own.turns.clone();
    }
    prompt
}

/// Which of the keys that say what to ask are given.
fn sources(prompt: &items::Prompt) -> [bool; 4] {
    [
        !prompt.text.is_absent(),
        !prompt.file.is_absent(),
        !prompt.tokens.is_absent(),
        !prompt.turns.is_absent(),
    ]
}

/// What a probe asks, or the two probes that it stands for.
pub(super) enum Prompts {
    One(Prompt),
    Pair(Pair),
}

impl Prompts {
    /// The only one, or the first of the pair.
    pub(super) fn first(&self) -> &Prompt {
        match self {
            Self::One(prompt) | Self::Pair(Pair { cold: prompt, .. }) => prompt,
        }
    }
}

/// The same prompt, new to the prefix cache and known to it.
pub(super) struct Pair {
    pub(super) cold: Prompt,
    pub(super) warm: Prompt,
    /// Where the pair is asked for.
    pub(super) at: NodeId,
}

/// `None` when it cannot be built; its problems are reported. `name` is the probe's.
pub(super) fn prompts(raw: &Field<items::Prompt>, name: &str, context: &Context<'_>) -> Option<Prompts> {
    let Some(given) = raw.given() else {
        return Some(Prompts::One(Prompt {
            source: Source::Written(Scripts::only(Script::of_text(USUAL))),
            system: None,
            cache: Cache::Bust,
            prefix: None,
        }));
    };
    let (item, report) = (&given.value, context.report);
    if sources(item).into_iter().filter(|given| *given).count() > 1 {
        let what = format!(
            "{} has more than one of `text`, `file`, `tokens` and `turns`",
            given.thing
        );
        report.problem(given.key, what, "keep one");
        return None;
    }
    for text in [&item.text, &item.system].into_iter().filter_map(Field::given) {
        not_empty(text, report);
    }
    let written = |script| Source::Written(Scripts::only(script));
    let source = if let Some(text) = item.text.given() {
        written(Script::of_text(&text.value))
    } else if let Some(file) = item.file.given() {
        Source::Written(scripts::scripts(file, context)?)
    } else if let Some(tokens) = item.tokens.given() {
        Source::Synthetic(tokens.value)
    } else if let Some(turns) = item.turns.given() {
        written(of_turns(turns, report)?)
    } else {
        written(Script::of_text(USUAL))
    };
    let prefix = prefix(item, &source, name, report);
    let prompt = |cache| Prompt {
        source: source.clone(),
        system: item.system.value().cloned(),
        cache,
        prefix: prefix.filter(|_| cache == Cache::Share),
    };
    Some(match item.cache.given() {
        Some(given) if given.value == Caching::Pair => Prompts::Pair(Pair {
            cold: prompt(Cache::Bust),
            warm: prompt(Cache::Share),
            at: given.id,
        }),
        Some(given) if given.value == Caching::One(Cache::Bust) && !item.prefix_tokens.is_absent() => {
            let what = format!(
                "{} is `bust`, so that nothing is shared, but there is `prefix_tokens`",
                given.thing
            );
            report.problem(given.id, what, "remove one");
            return None;
        }
        Some(given) if given.value == Caching::One(Cache::Share) => Prompts::One(prompt(Cache::Share)),
        None if prefix.is_some() => Prompts::One(prompt(Cache::Share)),
        _ => Prompts::One(prompt(Cache::Bust)),
    })
}

/// What all prompts begin with: the same text for the same probe.
fn prefix(item: &items::Prompt, source: &Source, name: &str, report: &Report<'_>) -> Option<Prefix> {
    let given = item.prefix_tokens.given()?;
    let tokens = given.value.get();
    let Source::Synthetic(length) = source else {
        let mend = "only made-up prompts have one: write `tokens: …` in place of what is asked, or remove it";
        report.problem(
            given.key,
            format!("{} is given without `tokens`", given.thing),
            mend,
        );
        return None;
    };
    let least = length.least().0;
    if tokens >= least {
        let what = format!(
            "{} is {tokens}, but a prompt may have no more than {least} tokens",
            given.thing
        );
        let mend = match least {
            1 => "let prompts have more tokens, such as `uniform 64..512` does, or remove it".to_owned(),
            _ => format!("write at most {}, or let prompts have more `tokens`", least - 1),
        };
        report.problem(given.id, what, mend);
        return None;
    }
    Some(Prefix {
        tokens: Tokens(tokens),
        seed: fnv1a(name.bytes()),
    })
}

fn not_empty(text: &At<String>, report: &Report<'_>) {
    if text.value.trim().is_empty() {
        report.problem(
            text.id,
            format!("{} is empty", text.thing),
            "write something to ask, or remove it",
        );
    }
}

/// What one user asks turn by turn.
fn of_turns(given: &At<Vec<At<String>>>, report: &Report<'_>) -> Option<Script> {
    if report.is_empty_list(given.id) {
        let mend = "write what the user says, turn by turn: `turns: [\"…\", \"…\"]`";
        report.problem(given.key, format!("{} is empty", given.thing), mend);
        return None;
    }
    if given.value.len() > Script::MOST_TURNS {
        let what = format!("{} has {} turns", given.thing, given.value.len());
        report.problem(given.key, what, format!("write at most {}", Script::MOST_TURNS));
    }
    for turn in &given.value {
        not_empty(turn, report);
    }
    Some(Script {
        turns: given.value.iter().map(|turn| turn.value.clone()).collect(),
        ..Script::default()
    })
}

/// Reports conversations at a rate.
pub(super) fn waits_for_answers(
    raw: &Field<items::Prompt>,
    prompt: Option<&Prompt>,
    is_open: bool,
    of: &str,
    report: &Report<'_>,
) {
    let Some(given) = raw.given() else { return };
    if !is_open || prompt.is_none_or(|prompt| prompt.most_turns() == 1) {
        return;
    }
    let place = given.value.turns.given().map(|turns| turns.key);
    let place = place.or(given.value.file.given().map(|file| file.key));
    let what = format!("{of} asks turn by turn, but at a rate, where requests do not wait for answers");
    let mend = "write `concurrency: …` in place of the `arrival`, `users` in the steps of a `ladder`, or prompts of one turn";
    report.problem(place.unwrap_or(given.key), what, mend);
}
