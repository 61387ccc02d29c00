//! Bytes → frames: the vectors that parsers of such streams get wrong. Each whole, byte by byte, and cut at every
//! place: the same frames, and each with the same byte.

use llm_probe_exporter::framing::{Deframer, Framing, FramingError, MAX_FRAME};

/// Name, data, whether the end of the body cut it off.
type Frames = Vec<(String, String, bool)>;

/// The frames of chunks, with the number of the chunk that each came with.
fn deframe<'a, I>(framing: Framing, chunks: I) -> (Frames, Vec<usize>, Result<(), FramingError>)
where
    I: IntoIterator<Item = &'a [u8]>,
{
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut frames, mut arrivals) = (Vec::new(), Vec::new());
    let mut deframer = Deframer::new(framing);
    let mut count = 0;
    for chunk in chunks {
        let pushed = deframer.push(chunk, |frame| {
            frames.push((text(frame.event), text(frame.data), frame.unterminated));
            arrivals.push(count);
        });
        if pushed.is_err() {
            return (frames, arrivals, pushed);
        }
        count += 1;
    }
    deframer.finish(|frame| {
        frames.push((text(frame.event), text(frame.data), frame.unterminated));
        arrivals.push(count);
    });
    (frames, arrivals, Ok(()))
}

#[track_caller]
fn assert_frames(framing: Framing, case: &str, bytes: &[u8], expected: &[(&str, &str, bool)]) {
    let (whole, _, result) = deframe(framing, [bytes]);
    assert_eq!(result, Ok(()), "{case}");
    let expected: Frames = expected
        .iter()
        .map(|&(event, data, cut)| (event.to_owned(), data.to_owned(), cut))
        .collect();
    assert_eq!(whole, expected, "{case}");
    let (alone, arrivals, _) = deframe(framing, bytes.chunks(1));
    assert_eq!(alone, whole, "{case}, byte by byte");
    for at in 0..=bytes.len() {
        let (cut, parts, _) = deframe(framing, [&bytes[..at], &bytes[at..]]);
        assert_eq!(cut, whole, "{case}, cut at {at}");
        let expected = arrivals.iter().map(|&byte| match byte {
            byte if byte < at => 0,
            byte if byte < bytes.len() => 1,
            _ => 2,
        });
        assert!(expected.eq(parts), "{case}: arrivals when cut at {at}");
    }
}

/// What it shows, the bytes, the frames.
type Case<'a> = (&'a str, &'a [u8], &'a [(&'a str, &'a str, bool)]);

const EVENTS: &[Case<'_>] = &[
    (
        "LF",
        b"data: a\n\ndata: b\n\n",
        &[("", "a", false), ("", "b", false)],
    ),
    (
        "CRLF",
        b"data: a\r\n\r\ndata: b\r\n\r\n",
        &[("", "a", false), ("", "b", false)],
    ),
    (
        "CR",
        b"data: a\r\rdata: b\r\r",
        &[("", "a", false), ("", "b", false)],
    ),
    (
        "all three",
        b"data: a\r\n\ndata: b\r\r\ndata: c\n\r",
        &[("", "a", false), ("", "b", false), ("", "c", false)],
    ),
    ("no space", b"data:a\n\n", &[("", "a", false)]),
    (
        "two spaces, of which one stays",
        b"data:  a \n\n",
        &[("", " a ", false)],
    ),
    ("a tab is no space", b"data:\ta\n\n", &[("", "\ta", false)]),
    ("several lines", b"data: {\ndata: }\n\n", &[("", "{\n}", false)]),
    (
        "an empty one among them",
        b"data: a\ndata\ndata: b\n\n",
        &[("", "a\n\nb", false)],
    ),
    (
        "comments before and inside",
        b": hi\n\n:\ndata: a\n: there\ndata: b\n\n",
        &[("", "a\nb", false)],
    ),
    ("byte order mark", b"\xef\xbb\xbfdata: a\n\n", &[("", "a", false)]),
    (
        "a second mark is part of a field's name",
        b"\n\xef\xbb\xbfdata: a\n\n",
        &[],
    ),
    ("half a byte order mark", b"\xef\xbbdata: a\n\n", &[]),
    (
        "blank events",
        b"\n\n\r\n\r\ndata: a\n\n\n\n",
        &[("", "a", false)],
    ),
    ("empty data", b"data\n\ndata:\n\ndata: \n\n", &[]),
    (
        "no final blank line",
        b"data: a\n\ndata: b\n",
        &[("", "a", false), ("", "b", true)],
    ),
    (
        "no final end of line",
        b"data: a\n\ndata: b",
        &[("", "a", false), ("", "b", true)],
    ),
    ("end after CR", b"data: a\r", &[("", "a", true)]),
    ("end after CRLF", b"data: a\r\n", &[("", "a", true)]),
    ("end within a comment", b"data: a\n\n: bye", &[("", "a", false)]),
    (
        "[DONE] with CRLF",
        b"data: [DONE]\r\n\r\n",
        &[("", "[DONE]", false)],
    ),
    (
        "data after [DONE]",
        b"data: [DONE]\n\ndata: a\n\n",
        &[("", "[DONE]", false), ("", "a", false)],
    ),
    ("end within JSON", b"data: {\"a\":", &[("", "{\"a\":", true)]),
    (
        "end within a character",
        b"data: \xf0\x9f",
        &[("", "\u{fffd}", true)],
    ),
    (
        "event before data",
        b"event: ping\ndata: {}\n\ndata: a\n\n",
        &[("ping", "{}", false), ("", "a", false)],
    ),
    (
        "event after data",
        b"data: {}\nevent: ping\n\ndata: a\n\n",
        &[("ping", "{}", false), ("", "a", false)],
    ),
    (
        "a name without data, which is forgotten",
        b"event: ping\n\ndata: a\n\n",
        &[("", "a", false)],
    ),
    (
        "two names, of which the last stands",
        b"event: a\nevent: b\ndata: c\n\n",
        &[("b", "c", false)],
    ),
    (
        "id and retry",
        b"id: 7\nretry: 10\ndata: a\n\n",
        &[("", "a", false)],
    ),
    (
        "unknown fields, and none",
        b"foo: bar\nfoo\n data: no\ndata: a\n\n",
        &[("", "a", false)],
    ),
    ("a field's name has case", b"Data: a\n\n", &[]),
    (
        "error field",
        b"error: {\"code\":500}\n\n",
        &[("error", "{\"code\":500}", false)],
    ),
    (
        "error field amid an event",
        b"data: a\nerror: b\n\n",
        &[("error", "b", false), ("", "a", false)],
    ),
    (
        "three events in one read",
        b"data: a\n\ndata: b\n\ndata: c\n\n",
        &[("", "a", false), ("", "b", false), ("", "c", false)],
    ),
    (
        "line separators of Unicode are text",
        "data: \u{2028}\u{2029}\u{85}\n\n".as_bytes(),
        &[("", "\u{2028}\u{2029}\u{85}", false)],
    ),
    (
        "characters of every length",
        "data: aé€🦀\n\n".as_bytes(),
        &[("", "aé€🦀", false)],
    ),
    ("colons", b"data: a: b:\n\n", &[("", "a: b:", false)]),
    ("NUL", b"data: a\0b\n\n", &[("", "a\0b", false)]),
    ("nothing", b"", &[]),
];

const LINES: &[Case<'_>] = &[
    (
        "LF",
        b"{\"a\":1}\n{}\n",
        &[("", "{\"a\":1}", false), ("", "{}", false)],
    ),
    ("CRLF", b"{}\r\n{}\r\n", &[("", "{}", false), ("", "{}", false)]),
    (
        "without the last LF",
        b"{}\n{\"done\":true}",
        &[("", "{}", false), ("", "{\"done\":true}", true)],
    ),
    ("blank lines", b"\n\r\n  \n{}\n\n", &[("", "{}", false)]),
    ("spaces around", b"  {} \r\n", &[("", "{}", false)]),
    (
        "three in one read",
        b"{}\n[]\n1\n",
        &[("", "{}", false), ("", "[]", false), ("", "1", false)],
    ),
    (
        "end within JSON",
        b"{}\n{\"a",
        &[("", "{}", false), ("", "{\"a", true)],
    ),
    (
        "line separators of Unicode are text",
        "\"\u{2028}\"\n".as_bytes(),
        &[("", "\"\u{2028}\"", false)],
    ),
    (
        "an SSE event is no line of JSON, but a line",
        b"data: {}\n\n",
        &[("", "data: {}", false)],
    ),
    ("nothing", b"", &[]),
];

#[test]
fn server_sent_events() {
    for (case, bytes, expected) in EVENTS {
        assert_frames(Framing::Sse, case, bytes, expected);
    }
}

#[test]
fn lines_of_json() {
    for (case, bytes, expected) in LINES {
        assert_frames(Framing::Ndjson, case, bytes, expected);
    }
}

#[test]
fn what_is_too_long_is_refused_wherever_it_is_cut() {
    let long = "x".repeat(5_000_000);
    for (framing, body) in [
        (Framing::Sse, format!("data: {long}\n\n")),
        (Framing::Sse, format!("data: {}\n", "x".repeat(1000)).repeat(5000)),
        (Framing::Sse, format!(": {long}\n\n")),
        (Framing::Ndjson, format!("{long}\n")),
    ] {
        for size in [body.len(), 16 << 10, 999] {
            let (frames, _, result) = deframe(framing, body.as_bytes().chunks(size));
            assert_eq!((frames.len(), result), (0, Err(FramingError::TooLong)), "{size}");
        }
    }
    let most = "x".repeat(MAX_FRAME - "data: ".len());
    let body = format!("data: {most}\n\n");
    assert_eq!(deframe(Framing::Sse, [body.as_bytes()]).0.len(), 1);
}
