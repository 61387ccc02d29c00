//! Prompts: from the file itself, from a file of lines, or made up.

use std::{io::Read as _, path::Path};

use super::Context;
use crate::{
    config::{
        problem::shown,
        raw::{
            items,
            reading::{At, Field},
        },
    },
    prompt::{Cache, Prompt, Source},
};

/// Any model writes more than 64 tokens to it.
const USUAL: &str = "Write a long story about the keeper of a lighthouse and the storms of one winter.";
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The probe's prompt with what it leaves out taken from the defaults; its own source takes the place of theirs.
pub(super) fn inherit(own: &Field<items::Prompt>, defaults: &Field<items::Prompt>) -> Field<items::Prompt> {
    let mut prompt = own.merged(defaults);
    let has_source = |prompt: &items::Prompt| {
        !(prompt.text.is_absent() && prompt.file.is_absent() && prompt.tokens.is_absent())
    };
    if let (Field::Given(prompt), Some(own)) = (&mut prompt, own.value().filter(|own| has_source(own))) {
        prompt.value.text = own.text.clone();
        prompt.value.file = own.file.clone();
        prompt.value.tokens = own.tokens.clone();
    }
    prompt
}

/// `None` when it cannot be built; its problems are reported.
pub(super) fn prompt(raw: &Field<items::Prompt>, context: &Context<'_>) -> Option<Prompt> {
    let Some(given) = raw.given() else {
        return Some(Prompt {
            source: Source::Text(USUAL.to_owned()),
            system: None,
            cache: Cache::Bust,
            prefix: None,
        });
    };
    let (item, report) = (&given.value, context.report);
    let is_given = [
        !item.text.is_absent(),
        !item.file.is_absent(),
        !item.tokens.is_absent(),
    ];
    if is_given.into_iter().filter(|given| *given).count() > 1 {
        let what = format!("{} has more than one of `text`, `file` and `tokens`", given.thing);
        report.problem(given.key, what, "keep one");
        return None;
    }
    for text in [&item.text, &item.system].into_iter().filter_map(Field::given) {
        if text.value.trim().is_empty() {
            report.problem(
                text.id,
                format!("{} is empty", text.thing),
                "write something to ask, or remove it",
            );
        }
    }
    let source = if let Some(text) = item.text.given() {
        Source::Text(text.value.clone())
    } else if let Some(file) = item.file.given() {
        Source::Lines(lines(file, context)?)
    } else if let Some(tokens) = item.tokens.given() {
        Source::Synthetic(tokens.value)
    } else {
        Source::Text(USUAL.to_owned())
    };
    Some(Prompt {
        source,
        system: item.system.value().cloned(),
        cache: item.cache.value().copied().unwrap_or(Cache::Bust),
        prefix: None,
    })
}

/// The prompts of a JSONL file.
fn lines(file: &At<String>, context: &Context<'_>) -> Option<Vec<String>> {
    let path = context.base_dir.join(&file.value);
    match read(&path) {
        Ok(lines) => Some(lines),
        Err((what, mend)) => {
            let path = shown(&path.display().to_string());
            context
                .report
                .problem(file.id, format!("{}: {path} {what}", file.thing), mend);
            None
        }
    }
}

/// What is wrong, and the mend.
type Wrong = (String, &'static str);

fn read(path: &Path) -> Result<Vec<String>, Wrong> {
    const EACH: &str = r#"write a JSON string, or `{"prompt": "…"}`, in each line"#;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let mend = "name a file that can be read (paths are relative to the configuration)";
            (format!("cannot be read: {error}"), mend)
        })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(("is larger than 64 MiB".to_owned(), "use fewer prompts"));
    }
    let text = String::from_utf8(bytes).map_err(|_| ("is not valid UTF-8".to_owned(), "save it as UTF-8"))?;
    let mut prompts = Vec::new();
    for (number, line) in (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
    {
        match serde_json::from_str(line) {
            Ok(Line::Text(prompt) | Line::Map { prompt }) if !prompt.trim().is_empty() => {
                prompts.push(prompt);
            }
            Ok(_) => return Err((format!("has an empty prompt in line {number}"), EACH)),
            Err(_) => return Err((format!("has something else than a prompt in line {number}"), EACH)),
        }
    }
    if prompts.is_empty() {
        return Err(("holds no prompt".to_owned(), EACH));
    }
    Ok(prompts)
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Map { prompt: String },
}
