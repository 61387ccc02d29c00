//! Every fault in one line.

use std::fmt::Write;

/// One line of the help.
pub(super) struct Line {
    /// How it is written; the name ends before the first character that is no letter and no hyphen.
    pub usage: &'static str,
    pub help: &'static str,
    /// A rule with it. One that begins with another name shows behind what it stands.
    pub example: &'static str,
}

const fn line(usage: &'static str, example: &'static str, help: &'static str) -> Line {
    Line { usage, help, example }
}

/// Everything that the grammar knows, in groups.
pub(super) const GROUPS: &[(&str, &[Line])] = &[
    (
        "At the door (for a time: from= and to= are the only conditions, to= is needed)",
        &[
            line(
                "refuse",
                "refuse to=10s",
                "nobody listens: connections are refused",
            ),
            line(
                "deaf",
                "deaf from=5s to=10s",
                "connections are never accepted, and further ones never come about",
            ),
        ],
    ),
    (
        "Instead of an answer",
        &[
            line(
                "status=CODE",
                "status=500",
                "an error status with the body of the API; HTML for 502 and 504",
            ),
            line(
                "redirect[=CODE]",
                "redirect=308",
                "a redirect (307) to /elsewhere",
            ),
            line("html", "html", "200 with a page of HTML, as from a proxy"),
            line(
                "empty",
                "empty",
                "an answer that begins and ends well and says nothing",
            ),
        ],
    ),
    (
        "Beside status=CODE, for when to come again; without any, 429, 503 and 529 say Retry-After: 1",
        &[
            line(
                "retry-after=TEXT",
                "status=429 retry-after=2.5",
                "Retry-After, as it is",
            ),
            line(
                "retry-after-ms=TEXT",
                "status=429 retry-after-ms=1500",
                "retry-after-ms, as it is",
            ),
            line(
                "retry-date=DURATION",
                "status=503 retry-date=30s",
                "Retry-After as a date, so long from now",
            ),
            line(
                "reset=DURATION",
                "status=429 reset=6m",
                "x-ratelimit-reset-requests: 6m0s; Anthropic's header and date in its API",
            ),
        ],
    ),
    (
        "At a PLACE in the answer: @head (before the response head), @N (after N tokens, also 0), @end",
        &[
            line(
                "stall[=DURATION][@PLACE]",
                "stall@5",
                "says nothing more, for ever or for a time (@0; @head: accepts and is silent)",
            ),
            line(
                "reset[@PLACE]",
                "reset@5",
                "resets the connection; over HTTP/2 the stream (@head)",
            ),
            line(
                "close[@PLACE]",
                "close@5",
                "closes the connection in the middle of the body (@head)",
            ),
            line(
                "truncate[@PLACE]",
                "truncate",
                "ends the body in order, without the protocol's end marker (@end)",
            ),
            line(
                "error[=overloaded][@PLACE]",
                "error=overloaded@5",
                "an error frame in the stream (@0)",
            ),
            line(
                "comments[=DURATION][@PLACE]",
                "comments=200ms",
                "comments for ever, every 100ms (@0)",
            ),
            line(
                "pings[=DURATION][@PLACE]",
                "pings@3",
                "frames without content for ever, every 100ms (@0)",
            ),
            line(
                "garbage[@PLACE]",
                "garbage@3",
                "a frame that is not the protocol (@0)",
            ),
            line(
                "goaway[@PLACE]",
                "goaway@3",
                "HTTP/2 GOAWAY and the end of the connection; over HTTP/1.1 close (@head)",
            ),
        ],
    ),
    (
        "How the answer is written",
        &[
            line(
                "delay=DURATION",
                "delay=2s",
                "the response head comes so much later",
            ),
            line(
                "drip=DURATION",
                "drip=200ms",
                "at least so long between two frames with tokens",
            ),
            line(
                "coalesce=N|DURATION",
                "coalesce=16",
                "N frames a write, or one write per DURATION, as a buffering proxy does",
            ),
            line("per-frame=N", "per-frame=4", "N tokens a frame"),
            line("split=BYTES", "split=1", "writes of so many bytes"),
            line(
                "content-type=TYPE",
                "content-type=text/plain",
                "the wrong content type",
            ),
        ],
    ),
    (
        "What the answer says",
        &[
            line(
                "usage=continuous|none",
                "usage=continuous",
                "the usage in every frame (OpenAI), or not at all",
            ),
            line(
                "reasoning=N",
                "reasoning=8",
                "the first N tokens are thoughts, shown; in OpenAI's chat as `reasoning`",
            ),
            line(
                "reasoning-content=N",
                "reasoning-content=8",
                "the same, in OpenAI's chat as `reasoning_content`",
            ),
            line(
                "hidden-reasoning=N",
                "hidden-reasoning=8",
                "the first N tokens are thoughts, counted and not shown",
            ),
        ],
    ),
    (
        "The machine",
        &[
            line(
                "slow=FACTOR",
                "slow=4 every=3",
                "goes to a replica that is FACTOR times slower",
            ),
            line(
                "cold=DURATION [idle=DURATION]",
                "cold=5s idle=10m",
                "the model is loaded first; with idle= only after so long without a request",
            ),
            line(
                "cache=TOKENS",
                "cache=100000",
                "a prefix cache: what was asked before costs no prefill",
            ),
            line(
                "limit=N/DURATION",
                "limit=60/1m",
                "429 beyond so many requests, with Retry-After and x-ratelimit headers",
            ),
            line(
                "drift=PERCENT/DURATION",
                "drift=10%/1m",
                "everything gets slower by so much; conditions: from= and to=",
            ),
        ],
    ),
    (
        "Conditions, of which all must hold; times run from when the rule came into force",
        &[
            line("from=DURATION", "stall from=10s", "not before"),
            line("to=DURATION", "stall to=1m", "not after"),
            line(
                "every=N",
                "stall every=3",
                "the Nth, 2Nth, … request that the rule sees",
            ),
            line(
                "chance=PERCENT",
                "stall chance=10%",
                "so many of the requests, by --seed",
            ),
            line("times=N", "stall times=2", "at most N times"),
        ],
    ),
];

/// The name that a line explains.
pub(super) fn name(usage: &str) -> &str {
    let end = usage.find(|c: char| !c.is_ascii_lowercase() && c != '-');
    usage.get(..end.unwrap_or(usage.len())).unwrap_or(usage)
}

/// The part of the long help that lists the faults.
pub(in crate::sim) fn help() -> String {
    const WIDTH: usize = 30;
    let mut out = "Faults, one to a --fault; also in a request's header, separated by commas, without conditions \
                   (X-Sim-Fault: stall@5, split=1), and at run time (PUT /sim/faults {\"faults\": [\"stall@5 every=3\"]}; GET \
                   shows them, DELETE ends them).\n"
        .to_owned();
    for (title, lines) in GROUPS {
        writeln!(out, "\n{title}:").expect("a String takes everything");
        for line in *lines {
            writeln!(out, "  {:<WIDTH$} {}", line.usage, line.help).expect("a String takes everything");
        }
    }
    out
}
