//! Why a request gets no answer, and the words and names for it that several APIs share.

/// Text from the request that an error repeats at most.
const MAX_ECHO: usize = 200;

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Refused {
    /// The body is not what the API asks for.
    Malformed(String),
    UnknownModel(String),
    /// More tokens than the model holds.
    TooLong {
        asked: u64,
        limit: u64,
    },
    QueueFull,
    /// A fault wants it so.
    Status(u16),
}

impl Refused {
    /// Without repeating what may be megabytes.
    pub(super) fn malformed(error: &serde_json::Error) -> Self {
        Self::Malformed(echo(&error.to_string()))
    }

    pub(super) fn unknown_model(name: &str) -> Self {
        Self::UnknownModel(echo(name))
    }

    /// What is wrong, where the real server has no words of its own that matter.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Malformed(message) => message.clone(),
            Self::UnknownModel(name) => format!("The model `{name}` does not exist."),
            Self::TooLong { asked, limit } => format!(
                "This model's maximum context length is {limit} tokens. However, you requested {asked} tokens. \
                 Please reduce the length of the input prompt or the number of requested output tokens."
            ),
            Self::QueueFull => {
                "The server has too many requests in flight; please try again later.".to_owned()
            }
            Self::Status(status) => match status {
                401 => "Incorrect API key provided.",
                403 => "You are not allowed to use this model.",
                404 => "Not found.",
                429 => "Rate limit reached for requests. Please try again later.",
                503 | 529 => "Overloaded",
                500.. => "Internal server error",
                _ => "The request is not acceptable.",
            }
            .to_owned(),
        }
    }

    /// Too much to do, as against broken.
    pub(super) const fn is_overload(&self) -> bool {
        matches!(self, Self::QueueFull | Self::Status(503 | 529))
    }
}

fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).collect()
}
