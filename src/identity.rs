//! What a request says of itself in its headers, so that an endpoint can leave probes out of billing and product
//! metrics, and so that its logs and ours can be laid side by side.

use std::fmt::{self, Write as _};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use crate::units::Name;

/// The id of one request: random, in the form of a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// `random` but for the six bits that say that a UUID is random (version 4 of RFC 9562). So neither half is 0.
    pub const fn new(random: u128) -> Self {
        const VERSION: u128 = 0x4 << 76;
        const VARIANT: u128 = 0x2 << 62;
        Self(random & !(0xf << 76) & !(0x3 << 62) | VERSION | VARIANT)
    }

    /// The id that was written as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(u128::from_str_radix(&text.replace('-', ""), 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        let (a, b, c, d) = (id >> 96, id >> 80 & 0xffff, id >> 64 & 0xffff, id >> 48 & 0xffff);
        write!(
            out,
            "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}",
            id & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which headers identify a request; no two of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Holds the name of the probe. `None`: not sent, and so for the other one.
    pub probe_id: Option<HeaderName>,
    /// Holds the id of the request.
    pub request_id: Option<HeaderName>,
    /// Whether W3C's `traceparent` is sent. It says that the trace is not sampled, so that probes do not fill the
    /// stores of traces; its trace is the id of the request without the dashes.
    pub traceparent: bool,
}

impl Headers {
    /// The header of [`Self::probe_id`] that is usual.
    pub const PROBE_ID: HeaderName = HeaderName::from_static("x-probe-id");
    /// The header of [`Self::request_id`] that is usual.
    pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

    /// Adds the headers of a request to `headers`; those that are there already stay as they are.
    pub fn add(&self, probe: &Name, id: RequestId, headers: &mut HeaderMap) {
        let traceparent = self.traceparent.then_some(Self::TRACEPARENT);
        for (name, value) in [
            (self.probe_id.clone(), header_safe(probe.as_str())),
            (self.request_id.clone(), id.to_string()),
            (traceparent, traceparent_of(id)),
        ] {
            if let (Some(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                headers.entry(name).or_insert(value);
            }
        }
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            probe_id: Some(Self::PROBE_ID),
            request_id: Some(Self::REQUEST_ID),
            traceparent: true,
        }
    }
}

/// Version 00, trace, parent, flags.
fn traceparent_of(RequestId(id): RequestId) -> String {
    format!("00-{id:032x}-{:016x}-00", id & 0xffff_ffff_ffff_ffff)
}

/// `text` with all but visible ASCII, and `%` itself, as in a URL.
fn header_safe(text: &str) -> String {
    text.bytes().fold(String::new(), |mut safe, byte| {
        if byte.is_ascii_graphic() && byte != b'%' {
            safe.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            write!(safe, "%{byte:02X}").ok();
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01234567-89ab-4def-8123-456789abcdef";

    #[test]
    fn ids_are_random_uuids() {
        for (random, id) in [
            (0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, ID),
            (0, "00000000-0000-4000-8000-000000000000"),
            (u128::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
        ] {
            let made = RequestId::new(random);
            assert_eq!(made.to_string(), id);
            assert_eq!(RequestId::parse(id), Some(made));
        }
        for no_id in [
            "",
            "hunter2",
            "0123456789ab4def8123456789abcdef",
            &ID.to_uppercase(),
        ] {
            assert_eq!(RequestId::parse(no_id), None);
        }
    }

    #[test]
    fn headers_name_the_probe_and_the_request() {
        let named = |identity: &Headers, probe: &str, headers: &mut HeaderMap| {
            identity.add(&Name::new(probe).unwrap(), RequestId::parse(ID).unwrap(), headers);
        };
        let mut headers = HeaderMap::new();
        named(&Headers::default(), "fünf 100%", &mut headers);
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(value("X-Probe-Id"), Some("f%C3%BCnf%20100%25"));
        assert_eq!(value("X-Request-Id"), Some(ID));
        assert_eq!(
            value("traceparent"),
            Some("00-0123456789ab4def8123456789abcdef-8123456789abcdef-00")
        );

        let none = Headers {
            probe_id: None,
            request_id: None,
            traceparent: false,
        };
        let mut headers = HeaderMap::new();
        named(&none, "p", &mut headers);
        assert!(headers.is_empty());

        let mut own = HeaderMap::from_iter([(Headers::REQUEST_ID, HeaderValue::from_static("mine"))]);
        named(&Headers::default(), "p", &mut own);
        assert_eq!(own.get("x-request-id").unwrap(), "mine");
        assert_eq!(own.len(), 3);
    }
}
