//! A scripted endpoint that speaks HTTP/2, over whatever stream it is given.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test crate uses its own part of this"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use tokio::time::sleep;

use super::{
    fronts::{HERE, Handshake, Seen, Stream, accepting, tls_with},
    script::token,
};

/// How an answer of this endpoint goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plot {
    /// So many tokens of so many bytes, then the usual ending.
    Answer {
        tokens: u32,
        bytes: usize,
    },
    /// `RST_STREAM` after a token.
    Reset(Reason),
    ResetBeforeTheHead(Reason),
    /// The connection is given up (GOAWAY) after a token.
    GoAway(Reason),
    /// The connection just ends after a token.
    Vanish,
}

/// A request as this endpoint saw it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) connection: usize,
    pub(crate) uri: http::Uri,
    pub(crate) headers: http::HeaderMap,
}

/// The pause before each token.
const GAP: Duration = Duration::from_millis(20);

fn event(data: &str) -> Bytes {
    format!("data: {data}\n\n").into()
}

/// An endpoint without TLS.
pub(crate) async fn plain(plot: Plot) -> (SocketAddr, Seen<Asked>) {
    let (seen, connections) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let kept = seen.clone();
    let address = accepting(HERE, move |io| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        serve(io, plot, number, kept.clone())
    })
    .await;
    (address, seen)
}

/// An endpoint behind TLS.
pub(crate) async fn behind_tls(
    plot: Plot,
    config: rustls::ServerConfig,
) -> (SocketAddr, Seen<Asked>, Seen<Handshake>) {
    let (seen, connections) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let kept = seen.clone();
    let (address, handshakes) = tls_with(HERE, config, move |io| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        serve(io, plot, number, kept.clone())
    })
    .await;
    (address, seen, handshakes)
}

async fn serve(io: impl Stream, plot: Plot, connection: usize, seen: Seen<Asked>) {
    let Ok(mut h2) = h2::server::handshake(io).await else {
        return;
    };
    let mut ping = h2.ping_pong();
    let (broken, mut breaks) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = h2.accept() => accepted,
            _ = breaks.recv() => match plot {
                Plot::GoAway(reason) => {
                    h2.abrupt_shutdown(reason);
                    std::future::poll_fn(|context| h2.poll_closed(context)).await.ok();
                    return;
                }
                _ => return,
            },
        };
        let Some(Ok((request, respond))) = accepted else {
            return;
        };
        if let Some(mut ping) = ping.take() {
            tokio::spawn(async move {
                while ping.ping(h2::Ping::opaque()).await.is_ok() {
                    sleep(Duration::from_millis(1)).await;
                }
            });
        }
        let (head, mut body) = request.into_parts();
        seen.push(Asked {
            connection,
            uri: head.uri,
            headers: head.headers,
        });
        let broken = broken.clone();
        tokio::spawn(async move {
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).ok();
            }
            answer(respond, plot, &broken).await;
        });
    }
}

async fn answer(mut respond: SendResponse<Bytes>, plot: Plot, broken: &tokio::sync::mpsc::Sender<()>) {
    if let Plot::ResetBeforeTheHead(reason) = plot {
        respond.send_reset(reason);
        return;
    }
    let head = http::Response::builder()
        .header("content-type", "text/event-stream")
        .body(())
        .unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    match plot {
        Plot::Answer { tokens, bytes } => {
            for _ in 0..tokens {
                sleep(GAP.min(Duration::from_millis(u64::from(400 / tokens.max(1))))).await;
                send(&mut stream, &token(&"x".repeat(bytes)));
            }
            let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
            send(&mut stream, finish);
            send(&mut stream, "[DONE]");
            stream.send_data(Bytes::new(), true).ok();
        }
        Plot::Reset(reason) => {
            send(&mut stream, &token("x"));
            sleep(GAP * 2).await;
            stream.send_reset(reason);
        }
        Plot::GoAway(_) | Plot::Vanish => {
            send(&mut stream, &token("x"));
            sleep(GAP * 2).await;
            broken.send(()).await.ok();
            // Until the connection is gone, so is nothing of this.
            sleep(Duration::from_secs(5)).await;
        }
        Plot::ResetBeforeTheHead(_) => {}
    }
}

fn send(stream: &mut SendStream<Bytes>, data: &str) {
    stream.send_data(event(data), false).ok();
}
