//! Gemini's `streamGenerateContent`, as Google's APIs serve it. A chunk holds many tokens; the counts, which come
//! with each chunk, are cumulative, and thoughts are counted apart from the answer.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Delta,
    fault::ApiError,
    json::{Count, for_each, object},
    openai_usage::tokens,
    said::{Said, is_something},
};
use crate::{
    prompt::{Message, Question, Role},
    units::Tokens,
    usage::Usage,
};

/// The model is in the path.
pub(super) fn body(question: &Question, max_tokens: Tokens) -> Map<String, Value> {
    let mut body = Map::from_iter([
        (
            "contents".to_owned(),
            question.messages.iter().map(content).collect(),
        ),
        (
            "generationConfig".to_owned(),
            json!({ "maxOutputTokens": max_tokens.0 }),
        ),
    ]);
    if let Some(system) = &question.system {
        let parts = json!({ "parts": [{ "text": system }] });
        body.insert("systemInstruction".to_owned(), parts);
    }
    body
}

fn content(message: &Message) -> Value {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "model",
    };
    json!({ "role": role, "parts": [{ "text": message.content }] })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, default)]
    candidates: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_feedback: Option<Feedback<'a>>,
    #[serde(default)]
    usage_metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow, default)]
    block_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Option<&'a RawValue>,
}

/// A signature of the thoughts is in none of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    thought: bool,
    #[serde(borrow, default)]
    function_call: Option<FunctionCall<'a>>,
    #[serde(borrow, default)]
    inline_data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    executable_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code_execution_result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Metadata {
    #[serde(rename = "promptTokenCount", default)]
    prompt: Option<Count>,
    #[serde(rename = "cachedContentTokenCount", default)]
    cached: Option<Count>,
    #[serde(rename = "candidatesTokenCount", default)]
    candidates: Option<Count>,
    #[serde(rename = "thoughtsTokenCount", default)]
    thoughts: Option<Count>,
}

/// The two parts of the output; a chunk may leave out what has not changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    candidates: Option<Count>,
    thoughts: Option<Count>,
}

impl Counted {
    fn usage(&mut self, metadata: &Metadata) -> Usage {
        self.candidates = metadata.candidates.or(self.candidates);
        self.thoughts = metadata.thoughts.or(self.thoughts);
        let parts = [self.candidates, self.thoughts];
        let known = parts.iter().any(Option::is_some);
        let total = parts.iter().flatten().map(|Count(count)| count).sum();
        Usage {
            prompt: tokens(metadata.prompt),
            cached_prompt: tokens(metadata.cached),
            output: known.then_some(Tokens(total)),
            reasoning: tokens(self.thoughts),
        }
    }
}

pub(super) fn decode(
    data: &[u8],
    counted: &mut Counted,
    said: &mut Said<'_>,
) -> Result<Delta, serde_json::Error> {
    let chunk: Chunk<'_> = object(data)?;
    let (mut finished, mut any) = (false, false);
    if let Some(candidates) = chunk.candidates {
        for_each(candidates, |candidate: Candidate<'_>| {
            any = true;
            finished |= candidate.finish_reason.is_some_and(is_end);
            match candidate.content.and_then(|content| content.parts) {
                Some(parts) => for_each(parts, |part: Part<'_>| {
                    part.hear(said);
                    Ok(())
                }),
                None => Ok(()),
            }
        })?;
    }
    let blocked = chunk
        .prompt_feedback
        .and_then(|feedback| feedback.block_reason)
        .filter(|_| !any)
        .map(|reason| {
            ApiError::new(format!(
                "the prompt was blocked: {}",
                reason.get().trim_matches('"')
            ))
        });
    let usage = chunk.usage_metadata.map(|metadata| counted.usage(&metadata));
    Ok(Delta {
        usage: usage.unwrap_or_default(),
        // Nothing says that it is the last chunk: counts, or an error, may follow.
        finished,
        error: blocked,
        ..Delta::default()
    })
}

/// Some chunks have the reason that means that there is none.
fn is_end(reason: &RawValue) -> bool {
    is_something(reason) && reason.get() != "\"FINISH_REASON_UNSPECIFIED\""
}

impl Part<'_> {
    fn hear(&self, said: &mut Said<'_>) {
        if self.thought {
            said.thought(self.text);
        } else {
            said.text(self.text);
        }
        if let Some(call) = &self.function_call {
            said.text(call.name);
            said.text(call.args);
        }
        if [self.inline_data, self.executable_code, self.code_execution_result]
            .iter()
            .any(Option::is_some)
        {
            said.shows();
        }
    }
}
