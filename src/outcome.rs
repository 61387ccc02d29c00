//! What became of a request: ok, one failure of a closed list, or invalid by our own doing.

use std::fmt;

use serde::{Serialize, Serializer};

/// How one request ended. Exactly one per request, whatever happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Output arrived, the protocol's end marker did, and no error frame did.
    Ok,
    /// The endpoint failed its user.
    Failed(Failure),
    /// We failed; it says nothing about the endpoint.
    Invalid(Invalid),
}

impl Outcome {
    /// `ok`, or the label value of the reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(failure) => failure.as_str(),
            Self::Invalid(invalid) => invalid.as_str(),
        }
    }

    /// The outcome of which [`Self::as_str`] says this.
    pub fn named(text: &str) -> Option<Self> {
        if text == Self::Ok.as_str() {
            return Some(Self::Ok);
        }
        let failed = Failure::named(text).map(Self::Failed);
        failed.or_else(|| Invalid::named(text).map(Self::Invalid))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Why a request did not end well: the outcome, and what happened in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended(pub Outcome, pub String);

impl Ended {
    pub fn failed(failure: Failure, detail: impl Into<String>) -> Self {
        Self(Outcome::Failed(failure), detail.into())
    }
}

/// Declares a closed list of reasons: the enum, `ALL`, and the label values.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of the list in the documentation of the metrics.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value of the label `reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The reason with this label value.
            pub fn named(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Why the endpoint failed: one variant per thing that an operator would act on differently.
    Failure {
        /// The host name did not resolve, or not within `timeouts.connect`.
        Dns = "dns",
        /// Nobody listens there.
        ConnectRefused = "connect_refused",
        /// No connection within `timeouts.connect`.
        ConnectTimeout = "connect_timeout",
        /// Any other failure to connect: unreachable, reset while connecting, refused by a proxy.
        ConnectError = "connect_error",
        /// The TLS handshake failed: certificate (theirs or ours), name, version.
        Tls = "tls",
        /// No response head within `timeouts.first_token`, which runs from the start.
        HeadersTimeout = "headers_timeout",
        /// A response head, but no first token within `timeouts.first_token`.
        FirstTokenTimeout = "first_token_timeout",
        /// No further output for `timeouts.stall`.
        StallTimeout = "stall_timeout",
        /// Not finished within `timeouts.total`.
        TotalTimeout = "total_timeout",
        /// A redirect (3xx), which is never followed.
        Redirect = "redirect",
        /// 401 or 403: our credentials.
        Unauthorized = "unauthorized",
        /// Any other 4xx.
        ClientError = "client_error",
        /// 429.
        RateLimited = "rate_limited",
        /// 503, 529, or an overload error inside a 200 stream.
        Overloaded = "overloaded",
        /// Any other 5xx.
        ServerError = "server_error",
        /// 200 with a content type that is not the dialect's stream.
        ContentType = "content_type",
        /// An error frame inside a 200 stream.
        ApiError = "api_error",
        /// Bytes that are not the protocol.
        Malformed = "malformed",
        /// The body ended without the protocol's end marker.
        Truncated = "truncated",
        /// The connection broke.
        ConnectionLost = "connection_lost",
        /// It ended well, but without any output.
        Empty = "empty",
        /// The output is not what `expect` asks for.
        UnexpectedOutput = "unexpected_output",
    }
}

reasons! {
    /// Why a request counts for nothing: our own doing.
    Invalid {
        /// Cancelled by drain, reload or abort.
        Cancelled = "cancelled",
        /// A defect of this program.
        Internal = "internal",
        /// Out of file descriptors or local ports.
        Local = "local",
    }
}

reasons! {
    /// Why a burst that was due was not fired, or requests of a burst were never sent.
    Skip {
        /// The last burst of the same probe and target was still running.
        Overlap = "overlap",
        /// It waited a whole interval for its turn at the target.
        TargetBusy = "target_busy",
        /// It waited a whole interval for places under `max_in_flight`.
        InFlight = "in_flight",
        /// It did not fit the budget of its probe or target, or the budget would not have lasted.
        Budget = "budget",
        /// The endpoint sheds load, and is left alone for a while.
        Backoff = "backoff",
        /// The server's own metrics say that it is busy.
        ServerBusy = "server_busy",
        /// It was due outside the windows of its probe, or in a pause.
        Window = "window",
        /// The kill switch was on.
        Paused = "paused",
        /// A step below it in the same round lost too much goodput.
        Ladder = "ladder",
        /// The program was draining.
        Drain = "drain",
        /// There was no token to send: whoever gives them did not.
        Auth = "auth",
        /// It came due while the process was stopped or starved.
        Late = "late",
        /// Whoever asked for it over HTTP waits no longer.
        Deadline = "deadline",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_distinct_snake_case() {
        let mut all: Vec<_> = Failure::ALL.iter().map(|f| f.as_str()).collect();
        all.extend(Invalid::ALL.iter().map(|i| i.as_str()));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(
            all.iter()
                .all(|text| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
    }
}
