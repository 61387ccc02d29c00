//! HTTP/1.1 as bytes, without I/O: request heads in, response heads and chunks out.
//!
//! Our own and not hyper's, because a body frame that hyper has polled is not yet a write, and the simulator is
//! there to know when it really wrote.

use std::fmt::Write;

use bytes::BytesMut;
use memchr::memmem;

use super::{
    body::{Body, Chunk, MAX_BODY, TOO_LONG},
    outlet::ResponseHead,
};

/// A request line and its headers at most.
pub(super) const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// A client's name for its request at most.
pub(super) const MAX_REQUEST_ID: usize = 128;

/// Why a request was not understood: the status and reason to answer with before closing the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub status: u16,
    pub reason: &'static str,
}

pub(super) const fn reject(status: u16, reason: &'static str) -> Rejection {
    Rejection { status, reason }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
    Other,
}

impl Method {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// What the simulator wants to know of a request's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub method: Method,
    pub path: String,
    pub query: String,
    /// HTTP/1.1 and not 1.0: the client understands chunks.
    pub chunks: bool,
    /// Never with HTTP/1.0.
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// `X-Request-Id`, where it is visible ASCII of sensible length.
    pub request_id: Option<String>,
    /// `X-Sim-Fault`; several are joined by commas.
    pub fault: Option<String>,
    pub body: Body,
}

/// Takes a head off the beginning of `bytes`; `None` when it is not whole yet.
pub(super) fn head(bytes: &mut BytesMut) -> Result<Option<Head>, Rejection> {
    const TOO_LARGE: Rejection = reject(431, "the request head is too large");
    let length = match memmem::find(bytes, b"\r\n\r\n") {
        Some(at) if at + 4 <= MAX_HEAD => at + 4,
        None if bytes.len() < MAX_HEAD => return Ok(None),
        _ => return Err(TOO_LARGE),
    };
    let raw = bytes.split_to(length);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(&raw) {
        Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        _ => return Err(reject(400, "the request head is not HTTP/1.1")),
    }
    let chunks = request.version == Some(1);
    let (path, query) = {
        let target = request.path.unwrap_or_default();
        target.split_once('?').unwrap_or((target, ""))
    };
    let mut head = Head {
        method: Method::of(request.method.unwrap_or_default()),
        path: path.to_owned(),
        query: query.to_owned(),
        chunks,
        keep_alive: chunks,
        expects_continue: false,
        request_id: None,
        fault: None,
        body: Body::Length(0),
    };
    let mut length = None;
    let mut chunked = false;
    for header in request.headers.iter() {
        let value = header.value.trim_ascii();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let said = std::str::from_utf8(value)
                    .ok()
                    .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|text| text.parse::<usize>().ok())
                    .ok_or(reject(400, "Content-Length is not a number"))?;
                if length.replace(said).is_some_and(|before| before != said) {
                    return Err(reject(400, "Content-Length is given twice"));
                }
            }
            "transfer-encoding" if value.eq_ignore_ascii_case(b"chunked") => chunked = true,
            "transfer-encoding" => return Err(reject(501, "the only transfer encoding known is chunked")),
            "connection" => {
                let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                if options.any(|option| option.eq_ignore_ascii_case(b"close")) {
                    head.keep_alive = false;
                }
            }
            "expect" => head.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            "x-request-id" if value.len() <= MAX_REQUEST_ID && value.iter().all(u8::is_ascii_graphic) => {
                head.request_id = String::from_utf8(value.to_vec()).ok();
            }
            "x-sim-fault" => {
                let text = String::from_utf8_lossy(value);
                head.fault = Some(match head.fault.take() {
                    Some(before) => format!("{before},{text}"),
                    None => text.into_owned(),
                });
            }
            _ => {}
        }
    }
    // An intermediary may see another length than we do: RFC 9112, 6.1.
    if chunked && length.is_some() {
        return Err(reject(400, "both Content-Length and Transfer-Encoding are given"));
    }
    if length.is_some_and(|length| length > MAX_BODY) {
        return Err(TOO_LONG);
    }
    head.body = if chunked {
        Body::Chunked(Chunk::Size)
    } else {
        Body::Length(length.unwrap_or(0))
    };
    Ok(Some(head))
}

/// How the client learns where a response of unknown length ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    /// For HTTP/1.0.
    UntilClose,
}

/// The head of a response whose body comes bit by bit.
pub(super) fn stream_head(head: ResponseHead<'_>, framing: Framing, keep_alive: bool) -> String {
    let encoding = match framing {
        Framing::Chunked => "transfer-encoding: chunked\r\n",
        Framing::UntilClose => "",
    };
    let mut out = beginning(head);
    out.push_str("cache-control: no-cache\r\n");
    out.push_str(encoding);
    out.push_str(connection(keep_alive));
    out.push_str("\r\n");
    out
}

/// A whole response.
pub(super) fn response(head: ResponseHead<'_>, body: &[u8], keep_alive: bool) -> Vec<u8> {
    let connection = connection(keep_alive);
    let mut out = beginning(head);
    write!(out, "content-length: {}\r\n{connection}\r\n", body.len()).expect("a String takes everything");
    let mut out = out.into_bytes();
    out.extend_from_slice(body);
    out
}

fn beginning(head: ResponseHead<'_>) -> String {
    let ResponseHead {
        status,
        content_type,
        headers,
    } = head;
    let mut out = format!(
        "HTTP/1.1 {status} {}\r\nserver: llm-probe-exporter-simulator\r\ncontent-type: {content_type}\r\n",
        reason(status)
    );
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n").expect("a String takes everything");
    }
    out
}

/// Appends one piece of a streamed body; the `last` one carries the end of the body with it. Returns where the
/// payload ends.
pub(super) fn piece(out: &mut Vec<u8>, framing: Framing, payload: &[u8], last: bool) -> usize {
    if framing == Framing::UntilClose {
        out.extend_from_slice(payload);
        return out.len();
    }
    let mut end = out.len();
    // A chunk of length 0 would be the end.
    if !payload.is_empty() {
        hex(out, payload.len());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(payload);
        end = out.len();
        out.extend_from_slice(b"\r\n");
    }
    if last {
        out.extend_from_slice(b"0\r\n\r\n");
        if payload.is_empty() {
            end = out.len();
        }
    }
    end
}

/// Without allocating: this is done for every token.
fn hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = (number >> (4 * digit)) & 0xf;
        out.extend(b"0123456789abcdef".get(nibble));
    }
}

const fn connection(keep_alive: bool) -> &'static str {
    if keep_alive { "" } else { "connection: close\r\n" }
}

fn reason(status: u16) -> &'static str {
    match status {
        529 => "Overloaded",
        status => http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Unknown"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::body::MAX_LINE;

    /// Reads a request that arrives in these pieces.
    fn read(pieces: &[&[u8]]) -> Result<Option<(Head, Vec<u8>)>, Rejection> {
        let mut buffer = BytesMut::new();
        let (mut found, mut body) = (None, Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            if found.is_none() {
                found = head(&mut buffer)?;
            }
            if let Some(head) = &mut found
                && head.body.take(&mut buffer, &mut body)?
            {
                return Ok(found.map(|head| (head, body)));
            }
        }
        Ok(None)
    }

    #[test]
    fn heads_are_understood() {
        let (head, body) = read(&[
            b"POST /api/chat?x=1&y HTTP/1.1\r\nHost: a\r\nX-Request-ID: r-1 \r\n\
            X-Sim-Fault: stall\r\nx-sim-fault: split=1\r\ncontent-length: 2\r\nExpect: 100-continue\r\n\r\nhi",
        ])
        .unwrap()
        .unwrap();
        assert_eq!(head.method, Method::Post);
        assert_eq!((head.path.as_str(), head.query.as_str()), ("/api/chat", "x=1&y"));
        assert_eq!(head.request_id.as_deref(), Some("r-1"));
        assert_eq!(head.fault.as_deref(), Some("stall,split=1"));
        assert!(head.keep_alive && head.chunks && head.expects_continue);
        assert_eq!(body, b"hi");
    }

    #[test]
    fn connections_stay_open_as_the_version_and_the_header_say() {
        for (request, keep_alive) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nConnection: TE, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            let (head, _) = read(&[request.as_bytes()]).unwrap().unwrap();
            assert_eq!(head.keep_alive, keep_alive, "{request:?}");
        }
    }

    #[test]
    fn bad_requests_are_rejected() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD));
        let endless = "x".repeat(MAX_HEAD);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        let huge = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1);
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let cases = [
            ("\r\n\r\n".to_owned(), 400),
            ("\x16\x03\x01 a TLS hello\r\n\r\n".to_owned(), 400),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
            (long, 431),
            (endless, 431),
            (many, 431),
            (huge, 413),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(), 400),
            ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n".to_owned(), 400),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
                400,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                400,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
                501,
            ),
            (format!("{chunked}x\r\n"), 400),
            (format!("{chunked}\r\n"), 400),
            (format!("{chunked}-1\r\n"), 400),
            (format!("{chunked}1\r\nab\r\n"), 400),
            (format!("{chunked}ffffffffffffffffff\r\n"), 400),
            (format!("{chunked}ffffffffffffffff\r\n"), 413),
            (format!("{chunked}1000001\r\n"), 413),
            (format!("{chunked}{}", "1".repeat(MAX_LINE + 1)), 400),
            (format!("{chunked}0\r\n{}", "a: b\r\n".repeat(65)), 400),
        ];
        for (request, status) in cases {
            let result = read(&[request.as_bytes()]);
            let start: String = request.chars().take(80).collect();
            assert_eq!(result.map_err(|r| r.status), Err(status), "{start:?}");
        }
    }

    #[test]
    fn what_follows_a_request_is_left_for_the_next() {
        let mut buffer =
            BytesMut::from("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n1GET / HTTP/1.1\r\n\r\n");
        let mut body = Vec::new();
        assert!(
            head(&mut buffer)
                .unwrap()
                .unwrap()
                .body
                .take(&mut buffer, &mut body)
                .unwrap()
        );
        assert_eq!(body, b"1");
        assert_eq!(head(&mut buffer).unwrap().unwrap().method, Method::Get);
        assert_eq!(head(&mut buffer), Ok(None));
    }

    #[test]
    fn responses_as_bytes() {
        let text = String::from_utf8(response(
            ResponseHead {
                status: 503,
                content_type: "application/json",
                headers: &[("retry-after", "1".to_owned())],
            },
            b"{}",
            false,
        ))
        .unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 503 Service Unavailable\r\nserver: llm-probe-exporter-simulator\r\n\
             content-type: application/json\r\nretry-after: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
        );
        let mut out = Vec::new();
        piece(&mut out, Framing::Chunked, &[b'x'; 0x1a0], true);
        assert!(out.starts_with(b"1a0\r\nxx") && out.ends_with(b"xx\r\n0\r\n\r\n"));
        out.clear();
        piece(&mut out, Framing::UntilClose, b"x", true);
        assert_eq!(out, b"x");
        out.clear();
        piece(&mut out, Framing::Chunked, b"", false);
        assert_eq!(out, b"", "an empty chunk would end the body");
        assert_eq!(piece(&mut out, Framing::Chunked, b"abc", true), 6);
    }

    proptest! {
        #[test]
        fn a_request_split_anywhere_reads_the_same(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            chunked: bool,
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let body = chunks.concat();
            let mut request = b"POST /x HTTP/1.1\r\n".to_vec();
            if chunked {
                request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    request.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
                    request.extend_from_slice(chunk);
                    request.extend_from_slice(b"\r\n");
                }
                request.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
            } else {
                request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                request.extend_from_slice(&body);
            }
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(request.len())).collect();
            at.extend([0, request.len()]);
            at.sort_unstable();
            let pieces: Vec<_> = at.windows(2).map(|pair| &request[pair[0]..pair[1]]).collect();
            let (head, read_body) = read(&pieces).unwrap().unwrap();
            prop_assert_eq!(head.path, "/x");
            prop_assert_eq!(read_body, body);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), chunked: bool) {
            let before: &[u8] = if chunked { b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" } else { b"" };
            drop(read(&[before, &bytes]));
            drop(read(&[&bytes, b"\r\n\r\n"]));
        }
    }
}
