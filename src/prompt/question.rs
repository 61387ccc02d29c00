//! What one request asks: messages, which each API has in its own way.

use super::Cache;

/// Who says something, beside the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
}

impl Role {
    /// As most APIs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// What one request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The system message, which comes before all others.
    pub system: Option<String>,
    /// At least one; the last one is the user's.
    pub messages: Vec<Message>,
    /// Whether model and user speak in turn, before this question or after it: an API that takes nothing but a
    /// text has to be told who says what, and each time in the same way.
    pub is_dialogue: bool,
    /// For APIs that can be told not to use their prefix cache.
    pub cache: Cache,
}
