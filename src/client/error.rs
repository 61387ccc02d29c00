//! Why there is no (more) answer: what the errors of reqwest, hyper, h2, rustls and the system mean.

use std::{error::Error, fmt, io};

use super::phases::Way;
use crate::outcome::{Failure, Invalid, Outcome};

/// Why there is no (more) answer.
#[derive(Clone, Debug)]
pub struct TransportError {
    pub outcome: Outcome,
    pub detail: String,
    /// It is to be sent anew: the request was on a connection that had been there before, and no byte of an
    /// answer came; or it waited for one that another request gave up (HTTP/2).
    pub stale: bool,
}

impl TransportError {
    /// A failure before the response head is classified by the phase whose mark is missing.
    pub(super) fn sending(error: &reqwest::Error, way: &Way) -> Self {
        let fault = fault(error);
        // An endpoint that answered, with whatever, is not asked again.
        let waited = error.is_connect() && way.began.is_none();
        let stale = waited || way.was_pooled() && !matches!(fault, Some(Fault::NotHttp | Fault::Local));
        let outcome = match fault {
            Some(Fault::Local) => Outcome::Invalid(Invalid::Local),
            Some(Fault::NotHttp) if !error.is_connect() => Outcome::Failed(Failure::Malformed),
            // What the server says to a client certificate comes after the handshake.
            Some(Fault::Tls) => Outcome::Failed(Failure::Tls),
            _ if !error.is_connect() => Outcome::Failed(Failure::ConnectionLost),
            _ if way.dns_failed => Outcome::Failed(Failure::Dns),
            _ if way.tls_began.is_some() => Outcome::Failed(Failure::Tls),
            Some(Fault::Refused) => Outcome::Failed(Failure::ConnectRefused),
            Some(Fault::TimedOut) => Outcome::Failed(Failure::ConnectTimeout),
            _ => Outcome::Failed(Failure::ConnectError),
        };
        Self {
            outcome,
            detail: chain(error) + &way.whereto(),
            stale,
        }
    }

    pub(super) fn reading(error: &reqwest::Error) -> Self {
        let outcome = match fault(error) {
            Some(Fault::NotHttp) => Failure::Malformed,
            _ => Failure::ConnectionLost,
        };
        Self {
            outcome: Outcome::Failed(outcome),
            detail: chain(error),
            stale: false,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.detail)
    }
}

/// What the causes of an error say.
enum Fault {
    /// We are out of file descriptors, ports or buffers.
    Local,
    Refused,
    TimedOut,
    /// The bytes are not HTTP, or break its rules.
    NotHttp,
    /// An alert, or bytes that are not TLS.
    Tls,
}

fn fault(error: &reqwest::Error) -> Option<Fault> {
    use rustix::io::Errno;
    causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            return match (errno, error.kind()) {
                (
                    Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM),
                    _,
                ) => Some(Fault::Local),
                // NotFound: a Unix socket that nobody has made.
                (_, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Some(Fault::Refused),
                (_, io::ErrorKind::TimedOut) => Some(Fault::TimedOut),
                _ if error
                    .get_ref()
                    .is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>) =>
                {
                    Some(Fault::Tls)
                }
                // What hyper makes of chunked framing that is none.
                (None, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Some(Fault::NotHttp),
                _ => None,
            };
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return error.is_library().then_some(Fault::NotHttp);
        }
        cause
            .downcast_ref::<hyper::Error>()
            .filter(|error| error.is_parse())
            .map(|_| Fault::NotHttp)
    })
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error as &'a (dyn Error + 'static)), |&cause| cause.source())
}

/// The innermost causes in words; the outer ones only say "error sending request" with the address.
fn chain(error: &reqwest::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in causes(error).skip(1) {
        let text = cause.to_string();
        if said.last().is_none_or(|last| !last.contains(&text)) {
            said.push(text);
        }
    }
    if shows_an_authority(error) {
        let mend = "the server shows a CA certificate as its own; issue one for it from that CA";
        said.push(mend.to_owned());
    }
    if said.is_empty() {
        "no further detail".into()
    } else {
        said.join(": ")
    }
}

/// The certificate of the server is one of an authority, usually one that signed itself. rustls has no error of its
/// own for that and hands on webpki's, whose type is not ours to name.
fn shows_an_authority(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| match innermost(cause).downcast_ref() {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) => {
            other.0.to_string() == "CaUsedAsEndEntity"
        }
        _ => false,
    })
}

/// What an I/O error was made of: its source is that of what it holds, and not what it holds.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => innermost(inner),
        None => error,
    }
}
