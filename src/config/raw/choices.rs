//! Words of closed lists, as the file writes them.

use super::{
    Node, Value,
    reading::{Read, wrong},
};
use crate::{
    budget::Per,
    config::{
        plan::{
            Addresses, Alert, Connection, Dialect, HttpVersion, Realtime, Reasoning, TextMode, Thinking,
            TlsVersion, TtftFrom, Withheld,
        },
        problem::meant_or_any,
        report::Report,
        web::{Cipher, ClientAuth, Curve, TlsProtocol},
    },
    outcome::Failure,
    prompt::Cache,
};

/// Declares the words for the values of a closed list.
macro_rules! choice {
    ($type:ty { $($word:expr => $value:expr,)+ }) => {
        impl Read for $type {
            fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
                choose(node, thing, &[$(($word, $value)),+], report)
            }
        }
    };
}

choice!(TextMode {
    Self::Auto.as_str() => Self::Auto,
    Self::Delta.as_str() => Self::Delta,
    Self::Cumulative.as_str() => Self::Cumulative,
});
choice!(Thinking {
    Self::Off.as_str() => Self::Off,
    Self::On.as_str() => Self::On,
});
choice!(Addresses {
    "refuse" => Self::Public,
    "allow" => Self::Any,
});
choice!(Connection {
    Self::New.as_str() => Self::New,
    Self::Reuse.as_str() => Self::Reuse,
});
choice!(Realtime {
    Self::Auto.as_str() => Self::Auto,
    Self::Off.as_str() => Self::Off,
    Self::Require.as_str() => Self::Require,
});
choice!(HttpVersion {
    Self::Http1.as_str() => Self::Http1,
    Self::Http2.as_str() => Self::Http2,
    Self::Auto.as_str() => Self::Auto,
});
choice!(TlsVersion {
    Self::Tls12.as_str() => Self::Tls12,
    Self::Tls13.as_str() => Self::Tls13,
});
choice!(Alert {
    Self::Page.as_str() => Self::Page,
    Self::Ticket.as_str() => Self::Ticket,
    Self::None.as_str() => Self::None,
});
choice!(TtftFrom {
    Self::Start.as_str() => Self::Start,
    Self::Connected.as_str() => Self::Connected,
});
choice!(Withheld {
    Self::Missed.as_str() => Self::Missed,
    Self::Ignore.as_str() => Self::Ignore,
});
choice!(Per {
    Self::Hour.as_str() => Self::Hour,
    Self::Day.as_str() => Self::Day,
});
/// The word for an arrival.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum ArrivalKind {
    Together,
    Ramp,
    Rate,
}

choice!(ArrivalKind {
    "together" => Self::Together,
    "ramp" => Self::Ramp,
    "rate" => Self::Rate,
});

/// The word for a process of arrivals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum ProcessKind {
    Constant,
    Poisson,
    Gamma,
}

choice!(ProcessKind {
    "constant" => Self::Constant,
    "poisson" => Self::Poisson,
    "gamma" => Self::Gamma,
});
/// The word for what is done about the prefix cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Caching {
    One(Cache),
    /// Two probes, one of each.
    Pair,
}

choice!(Caching {
    "bust" => Self::One(Cache::Bust),
    "share" => Self::One(Cache::Share),
    "pair" => Self::Pair,
});

/// Which field of an OpenAI request limits the tokens.
#[derive(Clone, Copy)]
pub(in crate::config) struct MaxTokensField(pub(in crate::config) &'static str);

choice!(MaxTokensField {
    "max_tokens" => Self("max_tokens"),
    "max_completion_tokens" => Self("max_completion_tokens"),
});

choice!(ClientAuth {
    "NoClientCert" => Self::Nobody,
    "RequestClientCert" => Self::Request,
    "RequireAnyClientCert" => Self::RequireAny,
    "VerifyClientCertIfGiven" => Self::VerifyIfGiven,
    "RequireAndVerifyClientCert" => Self::RequireAndVerify,
    // An older word for the same.
    "RequireClientCert" => Self::RequireAny,
});
choice!(TlsProtocol {
    "TLS12" => Self::Tls12,
    "TLS13" => Self::Tls13,
});
choice!(Curve {
    "X25519" => Self::X25519,
    "CurveP256" => Self::P256,
    "CurveP384" => Self::P384,
});

impl Read for Cipher {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let choices: Vec<_> = Self::ALL
            .iter()
            .map(|cipher| (cipher.as_str(), *cipher))
            .collect();
        choose(node, thing, &choices, report)
    }
}

impl Read for Dialect {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let choices: Vec<_> = Self::ALL
            .iter()
            .map(|dialect| (dialect.as_str(), *dialect))
            .collect();
        choose(node, thing, &choices, report)
    }
}

impl Read for Reasoning {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let choices: Vec<_> = Self::ALL
            .iter()
            .map(|reasoning| (reasoning.as_str(), *reasoning))
            .collect();
        choose(node, thing, &choices, report)
    }
}

impl Read for Failure {
    fn read(node: &Node, thing: &str, report: &Report<'_>) -> Option<Self> {
        let choices: Vec<_> = Self::ALL
            .iter()
            .map(|failure| (failure.as_str(), *failure))
            .collect();
        choose(node, thing, &choices, report)
    }
}

/// The value whose word is written; `1.1` is a word without quotes too.
fn choose<T: Copy>(node: &Node, thing: &str, choices: &[(&str, T)], report: &Report<'_>) -> Option<T> {
    report.permit(node.id);
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let written = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::List(_) | Value::Map(_) => {
            wrong(node, thing, "one word", &meant_or_any("", &words), report);
            return None;
        }
    };
    let found = choices.iter().find(|(word, _)| *word == written);
    if found.is_none() {
        let what = format!("{thing} is {}, which is not known", node.value.described());
        report.problem(node.id, what, meant_or_any(&written, &words));
    }
    found.map(|(_, value)| *value)
}
