//! The messages of a question, as several APIs have them.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::prompt::{Message, Question, Role};

/// The system's message and all others in one list, as the chats of OpenAI and Ollama have them.
pub(super) fn chat(question: &Question) -> Value {
    let system = question
        .system
        .iter()
        .map(|system| json!({ "role": "system", "content": system }));
    system.chain(question.messages.iter().map(message)).collect()
}

/// All messages but the system's, which stands elsewhere.
pub(super) fn spoken(question: &Question) -> Value {
    question.messages.iter().map(message).collect()
}

fn message(message: &Message) -> Value {
    json!({ "role": message.role.as_str(), "content": message.content })
}

/// One text that holds everything, for APIs that have no messages.
pub(super) fn text(question: &Question) -> Cow<'_, str> {
    let spoken = transcript(question);
    match &question.system {
        Some(system) => format!("{system}\n\n{spoken}").into(),
        None => spoken,
    }
}

/// Everything but the system's message as one text. A lone question is nothing but its text; else each message
/// stands behind the name of who says it, and the answer is to follow behind the last name. What was asked and
/// answered before is so the beginning of what is asked later, to the letter.
pub(super) fn transcript(question: &Question) -> Cow<'_, str> {
    match question.messages.as_slice() {
        [lone] if !question.is_dialogue => (&lone.content).into(),
        messages => {
            let mut text = String::new();
            for message in messages {
                let name = match message.role {
                    Role::User => "User",
                    Role::Assistant => ASSISTANT,
                };
                // Answers begin with a space of their own, or with none.
                text.extend([name, ": ", message.content.trim(), "\n\n"]);
            }
            text.extend([ASSISTANT, ":"]);
            text.into()
        }
    }
}

const ASSISTANT: &str = "Assistant";
