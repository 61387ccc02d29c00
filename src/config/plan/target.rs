//! An endpoint.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::HeaderName;
use serde_json::{Map, Value};
use url::Url;

use super::{Dialect, OAuth2, Reach, Reasoning};
use crate::{budget::Budget, busy::Condition, config::secret::Secret, tokenizer::Tokenizer, units::Name};

/// Whether requests share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Connection {
    /// Every request opens its own.
    New,
    /// Idle connections are used again.
    Reuse,
}

impl Connection {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reuse => "reuse",
        }
    }
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    Http1,
    /// On plain `http://` with prior knowledge.
    Http2,
    /// What ALPN says; HTTP/1.1 on plain `http://`.
    Auto,
}

impl HttpVersion {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "1.1",
            Self::Http2 => "2",
            Self::Auto => "auto",
        }
    }
}

/// An endpoint and how to reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub name: Name,
    /// http or https, with a host, without query, fragment or credentials.
    pub url: Url,
    pub api: Dialect,
    pub model: String,
    pub authorization: Option<Authorization>,
    /// Where the credentials come from in place of `authorization`.
    pub oauth2: Option<OAuth2>,
    /// Valid names, each once, none of those that the client sets itself.
    pub headers: Vec<Header>,
    pub connection: Connection,
    pub http: HttpVersion,
    pub reach: Reach,
    /// The field of the request body that holds the most tokens to generate (`openai_chat`).
    pub max_tokens_field: &'static str,
    /// How the model is told whether to think, where it can be; it fits the API.
    pub reasoning: Option<Reasoning>,
    /// Merged into every request body as it is.
    pub body: Map<String, Value>,
    /// Whether the frames of `triton_generate` carry what is new or all so far.
    pub text_mode: TextMode,
    /// The response header that says which replica answered; without it, the address does.
    pub replica_header: Option<HeaderName>,
    /// Counts the tokens of answers whose server does not.
    pub tokenizer: Option<Arc<Tokenizer>>,
    pub price: Option<Price>,
    /// What all probes together may use here.
    pub budget: Option<Budget>,
    /// Where the server says that it is busy.
    pub busy: Option<Busy>,
    /// Values of the extra labels.
    pub labels: BTreeMap<String, String>,
    /// Whether bursts of several probes may run at this target at once.
    pub share: bool,
}

/// Where a server says that it is busy: a text exposition, and what it must not say. At least one condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Busy {
    /// http or https, with a host, without credentials.
    pub url: Url,
    /// Any of these withholds a burst.
    pub skip_when: Vec<Condition>,
    /// Any of these ends a running burst.
    pub abort_when: Vec<Condition>,
    pub timeout: Duration,
}

impl Busy {
    /// Whether credentials for the target may be sent there, too.
    pub fn is_same_origin(&self, target: &Url) -> bool {
        self.url.origin() == target.origin()
    }
}

/// What a frame of `triton_generate` carries; it depends on the back end and its parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextMode {
    /// What the second frame with text shows.
    #[default]
    Auto,
    /// The text that is new.
    Delta,
    /// All the text so far.
    Cumulative,
}

impl TextMode {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Delta => "delta",
            Self::Cumulative => "cumulative",
        }
    }
}

/// The credentials of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorization {
    /// `Bearer` and the like, for the header `Authorization`. `None`: the header and form of the API.
    pub scheme: Option<String>,
    pub credentials: Secret,
}

/// A request header whose value may be a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub name: String,
    pub value: Secret,
}

/// Dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    pub input_per_million: f64,
    pub output_per_million: f64,
}

impl Price {
    /// Dollars for so many tokens.
    pub fn of(self, input_tokens: f64, output_tokens: f64) -> f64 {
        (input_tokens * self.input_per_million + output_tokens * self.output_per_million) / 1e6
    }
}
