//! Files of prompts: one a line, as JSON.

use std::{collections::HashMap, io::Read as _, path::Path};

use serde::Deserialize;

use super::Context;
use crate::{
    config::{problem::shown, raw::reading::At},
    prompt::{Message, Role, Script, Scripts},
    units::Name,
};

const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Longer than any model reads.
const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// Each takes memory beside its text.
const MOST_PROMPTS: usize = 1_000_000;

/// Who has more wrong lines in a file is not helped by the rest of them.
const MOST_WRONG_LINES: usize = 10;

const EACH: &str = r#"write a JSON string, `{"prompt": "…"}`, `{"messages": [{"role": "user", "content": "…"}]}` or `{"turns": ["…", "…"]}` in each line"#;

/// The prompts of a file. `None` when there is something wrong with it, which is reported.
pub(super) fn scripts(file: &At<String>, context: &Context<'_>) -> Option<Scripts> {
    let path = context.base_dir.join(&file.value);
    let shown_path = shown(&path.display().to_string());
    let problem = |place: &str, (what, mend): Wrong| {
        let path = shown_path.trim_matches('`');
        let what = format!("{}: `{path}{place}` {what}", file.thing);
        context.report.problem(file.id, what, mend);
    };
    let text = read(&path).map_err(|wrong| problem("", wrong)).ok()?;
    if text.lines().nth(MOST_PROMPTS).is_some() {
        problem(
            "",
            wrong(format!("has more than {MOST_PROMPTS} lines"), "use fewer prompts"),
        );
        return None;
    }
    let mut scripts = Vec::new();
    let mut names: HashMap<Name, usize> = HashMap::new();
    let mut wrong_lines = 0;
    for (number, line) in (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let read = script(line).and_then(|(script, weight)| {
            let namesake = script.name.clone().and_then(|name| names.insert(name, number));
            match namesake {
                Some(other) => Err(wrong(
                    format!("has the name of line {other}"),
                    "give each its own `name`, or none",
                )),
                None => Ok((script, weight)),
            }
        });
        match read {
            Ok(weighted) => scripts.push(weighted),
            Err(wrong) => {
                problem(&format!(":{number}"), wrong);
                wrong_lines += 1;
                if wrong_lines == MOST_WRONG_LINES {
                    break;
                }
            }
        }
    }
    if wrong_lines > 0 {
        return None;
    }
    let scripts = Scripts::weighted(scripts);
    if scripts.is_none() {
        problem("", wrong("holds no prompt", EACH));
    }
    scripts
}

/// What is wrong, and the mend.
type Wrong = (String, String);

fn wrong(what: impl Into<String>, mend: impl Into<String>) -> Wrong {
    (what.into(), mend.into())
}

fn read(path: &Path) -> Result<String, Wrong> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let mend = "name a file that can be read (paths are relative to the configuration)";
            wrong(format!("cannot be read: {error}"), mend)
        })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong("is larger than 64 MiB", "use fewer prompts"));
    }
    String::from_utf8(bytes).map_err(|_| wrong("is not valid UTF-8", "save it as UTF-8"))
}

/// What one line asks, and how much it weighs.
fn script(line: &str) -> Result<(Script, f64), Wrong> {
    if line.len() > MAX_LINE_BYTES {
        return Err(wrong("is longer than 8 MiB", "ask less"));
    }
    let line = match line.trim_start().bytes().next() {
        Some(b'"') => Line {
            prompt: Some(Text::Text(json(line)?)),
            ..Line::default()
        },
        Some(b'{') => json(line)?,
        _ => return Err(wrong("is neither a JSON string nor a JSON object", EACH)),
    };
    let weight = line.weight.as_ref().map_or(1.0, |Weight::Number(weight)| *weight);
    if !(Scripts::LEAST_WEIGHT..=Scripts::MOST_WEIGHT).contains(&weight) {
        let mend = format!(
            "write a number from {} to {}: how often it is asked relative to the others",
            Scripts::LEAST_WEIGHT,
            Scripts::MOST_WEIGHT
        );
        return Err(wrong(format!("has the `weight` {weight:?}"), mend));
    }
    Ok((line.script()?, weight))
}

fn json<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Wrong> {
    serde_json::from_str(line).map_err(|error| {
        let column = error.column();
        let said = error.to_string();
        let what = said
            .rsplit_once(" at line ")
            .map_or(said.as_str(), |(what, _)| what);
        // Parts of the file may be in it.
        let what: String = what.chars().filter(|c| !c.is_control()).take(200).collect();
        let mend = if error.is_data() { "correct it there" } else { EACH };
        wrong(format!("is wrong at column {column}: {what}"), mend)
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: Option<Text>,
    messages: Option<Vec<Said>>,
    turns: Option<Vec<Text>>,
    /// Beside a prompt or turns.
    system: Option<Text>,
    name: Option<Text>,
    weight: Option<Weight>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    role: Speaker,
    content: Text,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    System,
    User,
    Assistant,
}

/// With an error of its own.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "there has to be text, and no list of parts or anything else"
)]
enum Text {
    Text(String),
}

/// With an error of its own.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a weight is a number")]
enum Weight {
    Number(f64),
}

impl Text {
    /// The text, if it has any.
    fn of(self, what: &str) -> Result<String, Wrong> {
        let Self::Text(text) = self;
        if text.trim().is_empty() {
            return Err(wrong(
                format!("has an empty {what}"),
                "write text there, or remove it",
            ));
        }
        Ok(text)
    }
}

impl Line {
    fn script(self) -> Result<Script, Wrong> {
        let system = self.system.map(|text| text.of("`system`")).transpose()?;
        let name = match self.name {
            None => None,
            Some(Text::Text(name)) => {
                let name = Name::new(&name);
                Some(name.map_err(|what| wrong(format!("has a wrong `name`: {what}"), "write another"))?)
            }
        };
        let script = match (self.prompt, self.messages, self.turns) {
            (Some(prompt), None, None) => Script::of_text(prompt.of("prompt")?),
            (None, Some(messages), None) => {
                if system.is_some() {
                    let mend = r#"make it the first of the messages, with `"role": "system"`"#;
                    return Err(wrong("has `system` beside `messages`", mend));
                }
                of_messages(messages)?
            }
            (None, None, Some(turns)) => of_turns(turns)?,
            (None, None, None) => return Err(wrong("has no prompt", EACH)),
            _ => {
                let what = "has more than one of `prompt`, `messages` and `turns`";
                return Err(wrong(what, "keep one"));
            }
        };
        Ok(Script {
            name,
            system: script.system.or(system),
            ..script
        })
    }
}

fn of_turns(turns: Vec<Text>) -> Result<Script, Wrong> {
    if turns.is_empty() {
        return Err(wrong("has no turns", "write what the user says, turn by turn"));
    }
    if turns.len() > Script::MOST_TURNS {
        let what = format!("has {} turns", turns.len());
        return Err(wrong(what, format!("write at most {}", Script::MOST_TURNS)));
    }
    let turns = turns.into_iter().map(|turn| turn.of("turn"));
    Ok(Script {
        turns: turns.collect::<Result<_, _>>()?,
        ..Script::default()
    })
}

/// The last of them is what is asked.
fn of_messages(messages: Vec<Said>) -> Result<Script, Wrong> {
    let mut script = Script::default();
    for (at, Said { role, content }) in messages.into_iter().enumerate() {
        let content = content.of("message")?;
        match role {
            Speaker::System if at == 0 => script.system = Some(content),
            Speaker::System => {
                let what = format!("has a message of the system as number {}", at + 1);
                return Err(wrong(what, "let it be the first"));
            }
            Speaker::User => script.before.push(Message::new(Role::User, content)),
            Speaker::Assistant => script.before.push(Message::new(Role::Assistant, content)),
        }
    }
    match script.before.pop() {
        Some(last) if last.role == Role::User => {
            script.turns = vec![last.content];
            Ok(script)
        }
        Some(_) => Err(wrong(
            "has a last message that is not the user's",
            r#"end with what is asked, with `"role": "user"`"#,
        )),
        None => Err(wrong(
            "has no message of the user",
            r#"add `{"role": "user", "content": "…"}`"#,
        )),
    }
}
