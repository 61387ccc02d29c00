//! The table: what an endpoint does, and the verdict.

use std::{future::Future, pin::Pin, time::Duration};

use h2::Reason;
use llm_probe_exporter::{
    expect::Expect,
    outcome::{Failure, Invalid, Outcome},
    record::Record,
    units::Tokens,
};

use super::{
    elsewhere,
    http2::{self, Step},
    support::{
        ms,
        script::{Script, chunk, head, recorded, token},
    },
};

/// One kind of behaviour; each of its cases has the same verdict.
pub(crate) struct Row {
    pub(crate) behaviour: &'static str,
    pub(crate) verdict: Outcome,
    /// What AIPerf says of the same, where that is known.
    pub(crate) aiperf: &'static str,
    pub(crate) cases: Vec<Case>,
}

pub(crate) struct Case {
    pub(crate) what: &'static str,
    /// The detail says this.
    pub(crate) says: &'static str,
    pub(crate) endpoint: Endpoint,
    pub(crate) check: Box<dyn Fn(&Record)>,
}

pub(crate) enum Endpoint {
    /// It speaks `openai_chat` over HTTP/1.1.
    Chat(Script),
    Ollama(Script),
    /// The request is sent in a way of its own.
    Own(Pin<Box<dyn Future<Output = Record>>>),
}

impl Row {
    fn of(behaviour: &'static str, verdict: Outcome) -> Self {
        Self {
            behaviour,
            verdict,
            aiperf: "–",
            cases: Vec::new(),
        }
    }

    fn ok(behaviour: &'static str) -> Self {
        Self::of(behaviour, Outcome::Ok)
    }

    fn fails(behaviour: &'static str, failure: Failure) -> Self {
        Self::of(behaviour, Outcome::Failed(failure))
    }

    fn ours(behaviour: &'static str, invalid: Invalid) -> Self {
        Self::of(behaviour, Outcome::Invalid(invalid))
    }

    fn aiperf(mut self, says: &'static str) -> Self {
        self.aiperf = says;
        self
    }

    fn case(mut self, what: &'static str, says: &'static str, endpoint: Endpoint) -> Self {
        self.cases.push(Case {
            what,
            says,
            endpoint,
            check: Box::new(|_| ()),
        });
        self
    }

    fn chat(self, what: &'static str, says: &'static str, script: Script) -> Self {
        self.case(what, says, Endpoint::Chat(script))
    }

    fn ollama(self, what: &'static str, says: &'static str, script: Script) -> Self {
        self.case(what, says, Endpoint::Ollama(script))
    }

    fn own(
        self,
        what: &'static str,
        says: &'static str,
        asking: impl Future<Output = Record> + 'static,
    ) -> Self {
        self.case(what, says, Endpoint::Own(Box::pin(asking)))
    }

    fn http2(self, what: &'static str, says: &'static str, steps: Vec<Step>) -> Self {
        self.own(what, says, http2::asked(steps))
    }

    /// A whole answer with this status, in which the server says why.
    fn refusal(self, status: &'static str) -> Self {
        let script = Script::plain(status, "application/json; charset=utf-8", BECAUSE);
        self.chat(status, "because of this", script)
    }

    /// The last case asks to wait.
    fn waits(mut self, wait: Duration) -> Self {
        self.cases.last_mut().expect("a case").check =
            Box::new(move |record| assert_eq!(record.retry_after, Some(wait)));
        self
    }
}

const BECAUSE: &str = r#"{"error":{"message":"because of this","type":"t"}}"#;
const BROKE: &str = r#"{"error":{"message":"it broke","type":"internal_error"}}"#;
const OVERLOAD: &str = r#"{"error":{"message":"Engine overloaded","code":503}}"#;
const JSON: &str = "application/json";

/// An answer of two tokens that is not whole yet.
fn begun() -> Script {
    Script::sse().token("a").token("b")
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// The same over HTTP/2.
fn begun2() -> Vec<Step> {
    vec![Step::Head, Step::Data(event(&token("a")) + &event(&token("b")))]
}

fn and_then(mut steps: Vec<Step>, more: impl IntoIterator<Item = Step>) -> Vec<Step> {
    steps.extend(more);
    steps
}

/// A script that begins with these bytes.
fn after(bytes: &[u8], script: Script) -> Script {
    let mut whole = Script::new().send(bytes);
    whole.steps.extend(script.steps);
    whole
}

/// A refusal with one more header.
fn refusal_with(status: &str, header: &str) -> Script {
    Script::new()
        .send(head(status, JSON, &format!("{header}\r\nContent-Length: 2")))
        .send("{}")
}

pub(crate) fn rows() -> Vec<Row> {
    [
        ok(),
        connecting(),
        deadlines(),
        refusals(),
        expectations(),
        streams(),
        broken(),
        nonsense(),
        ours(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ok() -> Vec<Row> {
    let http_1_0 = Script::new()
        .send("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        .send(event(&token("a")))
        .send(event(&token("b")) + &event("[DONE]"))
        .close();
    let whole2 = || Step::Data(event(&token("b")) + &event("[DONE]"));
    vec![
        Row::ok("gives a whole answer")
            .chat("as OpenAI does", "", begun().ending())
            .chat("without [DONE]", "", begun().finish_reason().end())
            .chat("without a finish_reason", "", begun().done().end())
            .chat("without the last blank line", "", begun().finish_reason().chunk("data: [DONE]").end())
            .chat("with TEXT/Event-Stream", "", Script::ok("TEXT/Event-Stream").token("a").token("b").ending())
            .chat("with parameters", "", Script::ok("text/event-stream ;x=y").token("a").token("b").ending())
            .http2("over HTTP/2", "", and_then(begun2(), [Step::Data(event("[DONE]")), Step::End])),
        Row::ok("gives a whole answer with what HTTP allows: 100 or 103 before it, trailers, HTTP/1.0, GOAWAY meanwhile")
            .chat("100", "", after(b"HTTP/1.1 100 Continue\r\n\r\n", begun().ending()))
            .chat("103", "", after(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", begun().ending()))
            .chat("trailers", "", begun().done().send("0\r\nX-Trace: 1\r\n\r\n"))
            .chat("HTTP/1.0", "", http_1_0)
            .http2(
                "GOAWAY",
                "",
                vec![Step::Head, Step::Data(event(&token("a"))), Step::Drain, whole2(), Step::End],
            ),
        Row::ok("breaks the connection after a whole answer")
            .chat("reset", "", begun().finish_reason().reset())
            .chat("closed", "", begun().finish_reason().close())
            .http2(
                "RST_STREAM",
                "",
                vec![Step::Head, Step::Data(event(&token("a"))), whole2(), Step::Reset(Reason::CANCEL)],
            ),
    ]
}

fn connecting() -> Vec<Row> {
    vec![
        Row::fails("has a name that does not resolve", Failure::Dns).own(
            "",
            "",
            elsewhere::name_that_does_not_resolve(),
        ),
        Row::fails("does not listen", Failure::ConnectRefused).own("", "", elsewhere::nobody_listens()),
        Row::fails(
            "never accepts, or never shakes hands for TLS",
            Failure::ConnectTimeout,
        )
        .own(
            "full queue",
            "no connection within 200ms",
            elsewhere::full_queue(),
        )
        .own(
            "no handshake",
            "no connection within 200ms",
            elsewhere::silent_in_the_handshake(),
        ),
        Row::fails("cannot be reached", Failure::ConnectError).own("", "", elsewhere::unreachable()),
        Row::fails("has a bad certificate", Failure::Tls).own(
            "self-signed",
            "certificate",
            elsewhere::certificate_that_nobody_signed(),
        ),
        Row::fails("speaks no TLS, or breaks off its handshake", Failure::Tls)
            .own("plain HTTP", "", elsewhere::no_tls())
            .own("closed", "", elsewhere::closed_in_the_handshake()),
    ]
}

fn deadlines() -> Vec<Row> {
    let comments = || chunk(": ping\n\n");
    let role = event(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#);
    let endless = chunk(event(&token("la")));
    vec![
        Row::fails(
            "accepts and is silent, or never ends its head",
            Failure::HeadersTimeout,
        )
        .chat("silence", "300ms", Script::new().hold())
        .chat(
            "a drip",
            "300ms",
            Script::new()
                .send("HTTP/1.1 200 OK\r\nX-Slow: ")
                .forever("a", ms(5)),
        )
        .chat(
            "100 and no more",
            "300ms",
            Script::new().send("HTTP/1.1 100 Continue\r\n\r\n").hold(),
        ),
        Row::fails(
            "sends a head and no token: silence, roles, usage, a drip",
            Failure::FirstTokenTimeout,
        )
        .chat("silence", "after 0 output deltas", Script::sse().hold())
        .chat("a role", "300ms", Script::sse().role().hold())
        .chat("roles", "300ms", Script::sse().forever(chunk(role), ms(5)))
        .chat("usage", "300ms", Script::sse().usage(1, 0).hold())
        .chat("a drip", "300ms", Script::sse().forever(chunk("d"), ms(5)))
        .chat(
            "an event without end",
            "300ms",
            Script::sse().forever(chunk("data: x\n"), ms(5)),
        ),
        Row::fails("sends comments for ever and no token", Failure::FirstTokenTimeout)
            .chat("now and then", "300ms", Script::sse().forever(comments(), ms(5)))
            .chat(
                "as fast as they go",
                "300ms",
                Script::sse().forever(comments().repeat(500), ms(0)),
            ),
        Row::fails("stalls after a token, comments or not", Failure::StallTimeout)
            .chat(
                "silence",
                "200ms passed after 1 output delta",
                Script::sse().token("a").hold(),
            )
            .chat(
                "comments",
                "200ms",
                Script::sse().token("a").forever(comments(), ms(5)),
            )
            .chat(
                "comments as fast as they go",
                "200ms",
                Script::sse().token("a").forever(comments().repeat(500), ms(0)),
            ),
        Row::fails("drips tokens without end", Failure::TotalTimeout).own(
            "",
            "deadline of 400ms",
            elsewhere::tokens_without_end(Script::sse().forever(endless, ms(20))),
        ),
    ]
}

fn refusals() -> Vec<Row> {
    let page = "<html><head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body></html>";
    let cut = Script::new()
        .send(head("500 Oops", JSON, "Content-Length: 100"))
        .send("half")
        .reset();
    let overflow = recorded("llama-server/err_ctx_overflow");
    vec![
        Row::fails("redirects", Failure::Redirect)
            .own("301", "HTTP 301", elsewhere::redirected("301 Moved Permanently"))
            .own("307", "HTTP 307", elsewhere::redirected("307 Temporary Redirect"))
            .own("308", "HTTP 308", elsewhere::redirected("308 Permanent Redirect"))
            .chat("304", "HTTP 304", Script::plain("304 Not Modified", JSON, "")),
        Row::fails("answers 401 or 403", Failure::Unauthorized)
            .refusal("401 Unauthorized")
            .refusal("403 Forbidden"),
        Row::fails("answers 404 or another 4xx", Failure::ClientError)
            .refusal("404 Not Found")
            .refusal("400 Bad Request")
            .refusal("422 Unprocessable Entity")
            .refusal("499 Client Closed Request")
            .chat(
                "too long a prompt",
                "exceeds the available context size",
                Script::plain("400 Bad Request", JSON, &overflow),
            )
            .chat(
                "402",
                "HTTP 402",
                refusal_with("402 Payment Required", "Retry-After: 7"),
            )
            .waits(Duration::from_secs(7)),
        Row::fails("answers 429", Failure::RateLimited)
            .refusal("429 Too Many Requests")
            .chat("seconds", "HTTP 429", refusal_with("429 Slow", "Retry-After: 20"))
            .waits(Duration::from_secs(20))
            .chat(
                "milliseconds",
                "HTTP 429",
                refusal_with("429 Slow", "Retry-After: 20\r\nretry-after-ms: 1500"),
            )
            .waits(ms(1500)),
        Row::fails("answers 503 or 529", Failure::Overloaded)
            .refusal("503 Service Unavailable")
            .refusal("529 Overloaded")
            .chat(
                "a reset",
                "HTTP 503",
                refusal_with("503 Busy", "x-ratelimit-reset-requests: 6m0s"),
            )
            .waits(Duration::from_mins(6)),
        Row::fails(
            "answers 500, 502 with a proxy's page, or another 5xx",
            Failure::ServerError,
        )
        .refusal("500 Internal Server Error")
        .refusal("504 Gateway Timeout")
        .chat(
            "502",
            "<title>502 Bad Gateway</title>",
            Script::plain("502 Bad Gateway", "text/html", page),
        )
        .chat("words that break off", "HTTP 500", cut),
        Row::fails("answers 200 with another content type", Failure::ContentType)
            .chat(
                "a page",
                "Log in",
                Script::plain("200 OK", "text/html", "<html>Log in</html>"),
            )
            .chat("JSON", JSON, Script::plain("200 OK", JSON, r#"{"choices":[]}"#))
            .chat(
                "another stream",
                "x-ndjson",
                Script::plain("200 OK", "application/x-ndjson", "{}"),
            )
            .chat("none", "no Content-Type", Script::plain("200 OK", "", "hello"))
            .chat("204", "no Content-Type", Script::plain("204 No Content", "", "")),
        Row::fails("answers 200 with an error as plain JSON", Failure::ApiError).chat(
            "",
            "no such model",
            Script::plain("200 OK", JSON, r#"{"error":"no such model"}"#),
        ),
    ]
}

/// A stream without a fault, and a probe that wants something else.
fn expectations() -> Vec<Row> {
    vec![
        Row::fails(
            "answers well, but not what the probe expects",
            Failure::UnexpectedOutput,
        )
        .own(
            "other words",
            "does not contain",
            elsewhere::not_as_expected(Expect {
                contains: Some("Paris".into()),
                ..Expect::default()
            }),
        )
        .own(
            "fewer tokens",
            "has 2 output tokens, fewer than 3",
            elsewhere::not_as_expected(Expect {
                min_output_tokens: Some(Tokens(3)),
                ..Expect::default()
            }),
        ),
    ]
}

fn streams() -> Vec<Row> {
    let line = r#"{"message":{"content":"a"},"done":false}"#;
    vec![
        Row::fails("sends an error frame first", Failure::ApiError)
            .chat("", "it broke", Script::sse().data(BROKE).done().end())
            .ollama(
                "a line",
                "no such model",
                Script::ndjson().line(r#"{"error":"no such model"}"#).end(),
            ),
        Row::fails("sends an error frame after some content", Failure::ApiError)
            .aiperf("good")
            .chat("", "it broke", begun().data(BROKE).done().end())
            .chat(
                "named",
                "it broke",
                begun().chunk("event: error\ndata: it broke\n\n").hold(),
            )
            .chat(
                "a field of its own",
                "it broke",
                begun()
                    .chunk("error: {\"code\":500,\"message\":\"it broke\"}\n\n")
                    .hold(),
            )
            .chat(
                "of old vLLM",
                "it broke",
                begun()
                    .data(r#"{"object":"error","message":"it broke","code":400}"#)
                    .hold(),
            )
            .chat(
                "not terminated",
                "it broke",
                begun().chunk(format!("data: {BROKE}")).end(),
            )
            .chat(
                "nonsense after it",
                "it broke",
                begun().chunk(event(BROKE) + &event("nonsense")).end(),
            )
            .chat(
                "nonsense later",
                "it broke",
                begun().data(BROKE).wait(ms(30)).data("nonsense").end(),
            )
            .ollama("a line", "has terminated", {
                Script::ndjson()
                    .line(line)
                    .line(r#"{"error":"runner process has terminated"}"#)
                    .hold()
            }),
        Row::fails("sends an error frame after the end marker", Failure::ApiError)
            .chat(
                "finish_reason",
                "it broke",
                begun().finish_reason().data(BROKE).end(),
            )
            .chat(
                "[DONE]",
                "it broke",
                begun().finish_reason().done().data(BROKE).end(),
            )
            .chat(
                "later",
                "it broke",
                begun().finish_reason().wait(ms(50)).data(BROKE).hold(),
            ),
        Row::fails("says in a 200 that it is overloaded", Failure::Overloaded)
            .chat("first", "Engine overloaded", Script::sse().data(OVERLOAD).end())
            .chat("after tokens", "Engine overloaded", begun().data(OVERLOAD).hold())
            .chat(
                "plain JSON",
                "503",
                Script::plain("200 OK", JSON, r#"{"error":{"code":503}}"#),
            ),
        Row::fails("ends well and says nothing", Failure::Empty)
            .chat("", "", Script::sse().ending())
            .chat("[DONE] alone", "", Script::sse().done().end())
            .chat(
                "a role",
                "",
                Script::sse().role().finish_reason().usage(5, 3).done().end(),
            )
            .chat(
                "no choices",
                "",
                Script::sse().data(r#"{"choices":[],"usage":null}"#).ending(),
            ),
    ]
}

fn broken() -> Vec<Row> {
    let length = head("200 OK", "text/event-stream", "Content-Length: 1000");
    let until_close = head("200 OK", "text/event-stream", "Connection: close");
    let frame = event(&token("a"));
    let half_head = || Script::new().send("HTTP/1.1 200 OK\r\nContent-Type: text/ev");
    vec![
        Row::fails(
            "ends the body after some content without an end marker",
            Failure::Truncated,
        )
        .aiperf("good")
        .chat("", "after 2 output deltas", begun().end())
        .chat("half a frame", "", begun().chunk("data: {\"choi").end())
        .chat("usage", "", begun().usage(3, 2).end())
        .chat(
            "closed without chunks",
            "",
            Script::new().send(&until_close).send(&frame).close(),
        )
        .http2("END_STREAM", "", and_then(begun2(), [Step::End])),
        Row::fails("ends the body without a word", Failure::Truncated)
            .chat("no frame", "after 0 output deltas", Script::sse().end())
            .chat("no length", "", Script::plain("200 OK", "text/event-stream", "")),
        Row::fails(
            "breaks the connection before its head is whole",
            Failure::ConnectionLost,
        )
        .chat("closed", "", Script::new().close())
        .chat("reset", "", Script::new().reset())
        .chat("half a head, closed", "", half_head().close())
        .chat("half a head, reset", "", half_head().reset())
        .http2("GOAWAY", "", vec![Step::GoAway(Reason::ENHANCE_YOUR_CALM)])
        .http2("RST_STREAM", "", vec![Step::Reset(Reason::REFUSED_STREAM)]),
        Row::fails(
            "breaks the connection after some tokens: RST, no last chunk, too short",
            Failure::ConnectionLost,
        )
        .chat("RST", "", begun().wait(ms(30)).reset())
        .chat("no last chunk", "", begun().close())
        .chat("half a chunk", "", begun().send("50\r\ndata: {").close())
        .chat("too short", "", Script::new().send(&length).send(&frame).close()),
        Row::fails(
            "sends GOAWAY or RST_STREAM after some tokens",
            Failure::ConnectionLost,
        )
        .http2(
            "GOAWAY",
            "",
            and_then(begun2(), [Step::GoAway(Reason::INTERNAL_ERROR)]),
        )
        .http2(
            "RST_STREAM",
            "",
            and_then(begun2(), [Step::Reset(Reason::INTERNAL_ERROR)]),
        )
        .http2("CANCEL", "", and_then(begun2(), [Step::Reset(Reason::CANCEL)])),
    ]
}

fn nonsense() -> Vec<Row> {
    let gzip = head(
        "200 OK",
        "text/event-stream",
        "Content-Encoding: gzip\r\nTransfer-Encoding: chunked",
    );
    vec![
        Row::fails("sends events that are not its protocol", Failure::Malformed)
            .chat(
                "no JSON",
                "",
                Script::sse().data("{\"choices\":").token("a").ending(),
            )
            .chat("an array", "", Script::sse().data("[]").hold())
            .chat("wrong types", "", Script::sse().data(r#"{"choices":7}"#).hold())
            .chat(
                "not UTF-8",
                "",
                Script::sse()
                    .chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n")
                    .hold(),
            )
            .chat(
                "after the end marker",
                "",
                Script::sse().token("a").finish_reason().data("nonsense").hold(),
            ),
        Row::fails("compresses, although it was asked not to", Failure::Malformed).chat(
            "",
            "gzip",
            Script::new().send(gzip).chunk(b"\x1f\x8b\x08").hold(),
        ),
        Row::fails("sends bytes that are not HTTP", Failure::Malformed)
            .chat("SSH", "", Script::new().send("SSH-2.0-OpenSSH_9.2\r\n").hold())
            .chat(
                "TLS",
                "",
                Script::new().send(b"\x15\x03\x01\x00\x02\x02\x46").hold(),
            )
            .chat(
                "noise",
                "",
                Script::new().send(b"\x00\xff\x00\xff\r\n\r\n").hold(),
            )
            .chat(
                "HTTP/2",
                "",
                Script::new().send(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00").hold(),
            )
            .chat(
                "no chunk size",
                "",
                Script::sse().token("a").send("zz\r\nhello\r\n").hold(),
            )
            .chat(
                "no chunk's end",
                "",
                Script::sse().token("a").send("5\r\nhelloXX").hold(),
            )
            .own(
                "HTTP/1.1 where HTTP/2 is asked for",
                "",
                http2::answered_in_http1(),
            ),
        Row::fails(
            "sends more than is held: a head, an event or a body without end",
            Failure::Malformed,
        )
        .chat(
            "headers",
            "",
            Script::new()
                .send("HTTP/1.1 200 OK\r\n")
                .forever(b"X-Y: z\r\n".repeat(100), ms(0)),
        )
        .chat(
            "one header",
            "",
            Script::new()
                .send("HTTP/1.1 200 OK\r\nX-Y: ")
                .forever(b"z".repeat(1000), ms(0)),
        )
        .chat(
            "an event",
            "longer than",
            Script::sse()
                .send(chunk("data: "))
                .forever(chunk("x".repeat(1 << 16)), ms(0)),
        )
        .ollama(
            "a line",
            "longer than",
            Script::ndjson().forever(chunk("x".repeat(1 << 16)), ms(0)),
        )
        .chat(
            "events",
            "more than",
            Script::sse().forever(chunk(event("{}").repeat(5000)), ms(0)),
        ),
    ]
}

fn ours() -> Vec<Row> {
    vec![
        Row::ours(
            "is cut off by the exporter's own end or reload",
            Invalid::Cancelled,
        )
        .own("", "", elsewhere::dropped()),
        Row::ours("meets a defect of the exporter", Invalid::Internal).own("", "", elsewhere::panicking()),
        Row::ours(
            "is not even asked: the exporter is out of file descriptors or ports",
            Invalid::Local,
        )
        .own("", "", async { elsewhere::without_a_descriptor() }),
    ]
}
