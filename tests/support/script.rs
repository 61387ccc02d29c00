//! What a scripted endpoint does once it has a whole request.

use std::{path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

/// One thing that the endpoint does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One write.
    Send(Vec<u8>),
    Wait(Duration),
    /// Waits until the test fires it.
    Until(CancellationToken),
    /// Tells whoever waits for it.
    Fire(CancellationToken),
    /// Writes this over and over, with a pause between, until the client is gone.
    Forever(Vec<u8>, Duration),
    /// Says nothing more, and waits until the client is gone.
    Hold,
    /// Breaks the connection with RST.
    Reset,
    /// Ends the connection in order.
    Close,
}

/// What is done for one request. After the last step the connection waits for the next request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// Every write is split into writes of one byte.
    pub(crate) dribbles: bool,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The head of a stream of server-sent events, in chunked framing.
    pub(crate) fn sse() -> Self {
        Self::ok("text/event-stream; charset=utf-8")
    }

    /// The head of a stream of lines, in chunked framing.
    pub(crate) fn ndjson() -> Self {
        Self::ok("application/x-ndjson")
    }

    /// The head of a 200 in chunked framing.
    pub(crate) fn ok(content_type: &str) -> Self {
        Self::new().send(head("200 OK", content_type, "Transfer-Encoding: chunked"))
    }

    /// A whole answer that is no stream.
    pub(crate) fn plain(status: &str, content_type: &str, body: &str) -> Self {
        let length = format!("Content-Length: {}", body.len());
        Self::new().send(head(status, content_type, &length)).send(body)
    }

    /// A usual answer of `tokens` tokens, `gap` apart, the first of them `gap` after the head.
    pub(crate) fn answer(tokens: u32, gap: Duration) -> Self {
        (0..tokens)
            .fold(Self::sse(), |script, _| script.wait(gap).token("la"))
            .ending()
    }

    /// A recorded stream, an event a chunk, `gap` apart.
    pub(crate) fn recorded(name: &str, gap: Duration) -> Self {
        let body = recorded(name);
        let mut script = Self::sse();
        for event in body.split_inclusive("\n\n") {
            script = script.wait(gap).chunk(event);
        }
        script.end()
    }

    pub(crate) fn send(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Send(bytes.as_ref().to_vec()));
        self
    }

    /// A chunk of a chunked body.
    pub(crate) fn chunk(self, bytes: impl AsRef<[u8]>) -> Self {
        self.send(chunk(bytes))
    }

    /// An event with this data.
    pub(crate) fn data(self, data: &str) -> Self {
        self.chunk(format!("data: {data}\n\n"))
    }

    /// A line of NDJSON.
    pub(crate) fn line(self, line: &str) -> Self {
        self.chunk(format!("{line}\n"))
    }

    /// A chat completion chunk with this content.
    pub(crate) fn token(self, content: &str) -> Self {
        self.data(&token(content))
    }

    /// The frame that some servers send before the prompt is even evaluated.
    pub(crate) fn role(self) -> Self {
        self.data(
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        )
    }

    pub(crate) fn finish_reason(self) -> Self {
        self.data(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#)
    }

    pub(crate) fn usage(self, prompt: u64, output: u64) -> Self {
        self.data(&format!(
            r#"{{"choices":[],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{output}}}}}"#
        ))
    }

    pub(crate) fn done(self) -> Self {
        self.data("[DONE]")
    }

    /// `finish_reason`, `[DONE]`, the end of the body.
    pub(crate) fn ending(self) -> Self {
        self.finish_reason().done().end()
    }

    /// The end of a chunked body.
    pub(crate) fn end(self) -> Self {
        self.send("0\r\n\r\n")
    }

    pub(crate) fn wait(mut self, time: Duration) -> Self {
        self.steps.push(Step::Wait(time));
        self
    }

    pub(crate) fn until(mut self, signal: &CancellationToken) -> Self {
        self.steps.push(Step::Until(signal.clone()));
        self
    }

    pub(crate) fn fire(mut self, signal: &CancellationToken) -> Self {
        self.steps.push(Step::Fire(signal.clone()));
        self
    }

    pub(crate) fn forever(mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> Self {
        self.steps.push(Step::Forever(bytes.as_ref().to_vec(), pause));
        self
    }

    pub(crate) fn hold(mut self) -> Self {
        self.steps.push(Step::Hold);
        self
    }

    pub(crate) fn reset(mut self) -> Self {
        self.steps.push(Step::Reset);
        self
    }

    pub(crate) fn close(mut self) -> Self {
        self.steps.push(Step::Close);
        self
    }

    pub(crate) fn dribbling(mut self) -> Self {
        self.dribbles = true;
        self
    }
}

pub(crate) fn head(status: &str, content_type: &str, more: &str) -> String {
    let content_type = match content_type {
        "" => String::new(),
        some => format!("Content-Type: {some}\r\n"),
    };
    format!("HTTP/1.1 {status}\r\n{content_type}{more}\r\n\r\n")
}

pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let size = format!("{:x}\r\n", bytes.len());
    [size.as_bytes(), bytes, b"\r\n"].concat()
}

pub(crate) fn token(content: &str) -> String {
    let content = serde_json::to_string(content).unwrap();
    format!(
        r#"{{"choices":[{{"index":0,"delta":{{"content":{content}}},"finish_reason":null}}],"usage":null}}"#
    )
}

/// The body of a recorded response; `name` is its path below `captures` without the extension.
pub(crate) fn recorded(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/captures")
        .join(name)
        .with_extension("txt");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}
