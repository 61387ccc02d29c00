//! An endpoint that speaks HTTP/2 without TLS, and ends its answers in the ways that only HTTP/2 has.

use std::{future::poll_fn, net::SocketAddr};

use h2::{Reason, server};
use http::Response;
use llm_probe_exporter::{
    config::plan::{HttpVersion, Target},
    record::Record,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::support::{
    engine::{PATIENT, ask, target},
    ms,
};

/// One thing that the endpoint does about a request.
pub(crate) enum Step {
    /// The response head, of a 200.
    Head,
    Data(String),
    /// The end of the body.
    End,
    /// `RST_STREAM`.
    Reset(Reason),
    /// GOAWAY and the end of the connection.
    GoAway(Reason),
    /// GOAWAY; what is under way goes on.
    Drain,
}

/// What comes of a request to an endpoint that takes these steps.
pub(crate) async fn asked(steps: Vec<Step>) -> Record {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = over_http2(listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        serve(stream, steps).await;
    });
    let record = ask(&target, PATIENT).await;
    serving.abort();
    record
}

/// What comes of a request to an endpoint that does not know HTTP/2.
pub(crate) async fn answered_in_http1() -> Record {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = over_http2(listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    });
    let record = ask(&target, PATIENT).await;
    serving.abort();
    record
}

pub(crate) fn over_http2(address: SocketAddr) -> Target {
    Target {
        http: HttpVersion::Http2,
        ..target(address)
    }
}

async fn serve(stream: TcpStream, steps: Vec<Step>) {
    let mut connection = server::handshake(stream).await.unwrap();
    let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
    let mut body = None;
    for step in steps {
        match step {
            Step::Head => {
                let head = Response::builder().header("content-type", "text/event-stream");
                body = Some(respond.send_response(head.body(()).unwrap(), false).unwrap());
            }
            Step::Data(text) => body.as_mut().unwrap().send_data(text.into(), false).unwrap(),
            Step::End => body
                .as_mut()
                .unwrap()
                .send_data(bytes::Bytes::new(), true)
                .unwrap(),
            Step::Reset(reason) => respond.send_reset(reason),
            Step::GoAway(reason) => connection.abrupt_shutdown(reason),
            Step::Drain => connection.graceful_shutdown(),
        }
        // Lets it go out before the next step.
        timeout(ms(20), poll_fn(|context| connection.poll_closed(context)))
            .await
            .ok();
    }
    poll_fn(|context| connection.poll_closed(context)).await.ok();
}
