//! The yardstick: the least that a client can do that reads token streams with tokio and reqwest. It decodes nothing.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    case::{Order, Tool},
    ours::SETTLE,
    support::machine::{memory, own_cpu_seconds},
    told::{Request, Told},
};

pub(crate) fn measure(order: &Order) -> Told {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads can be started");
    runtime.block_on(async {
        let client = client(order.tool == Tool::BareCold);
        let mut requests = Vec::new();
        burst(order, 0, &client).await;
        sleep(SETTLE).await;
        let before = own_cpu_seconds();
        for number in 1..=order.bursts() {
            requests.extend(burst(order, number, &client).await);
            sleep(SETTLE).await;
        }
        Told {
            realtime: false,
            cpu_seconds: own_cpu_seconds() - before,
            share: 1.0,
            peak_memory: memory("self", "VmHWM"),
            requests,
        }
    })
}

fn client(cold: bool) -> reqwest::Client {
    // Without a provider of cryptography in place it builds none, also where it needs none.
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them all")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .tcp_nodelay(true)
        .no_proxy();
    let idle = if cold { 0 } else { usize::MAX };
    client.pool_max_idle_per_host(idle).build().expect("it is valid")
}

/// All users at once.
async fn burst(order: &Order, number: u32, client: &reqwest::Client) -> Vec<Request> {
    let body = format!(
        r#"{{"model":"simulated","stream":true,"max_tokens":{},"messages":[{{"role":"user","content":"Count"}}]}}"#,
        order.tokens()
    );
    let (body, url) = (Bytes::from(body), format!("{}/chat/completions", order.url()));
    let (each, process) = (order.requests_each(), std::process::id());
    let mut users = JoinSet::new();
    for user in 0..order.users {
        let (client, body, url) = (client.clone(), body.clone(), url.clone());
        users.spawn(async move {
            let mut requests = Vec::new();
            for turn in 0..each {
                let id = format!("bare-{process}-{number}-{user}-{turn}");
                let mut request = Request {
                    burst: Some(number),
                    ..Request::default()
                };
                match stream(&client, &url, body.clone(), &id, &mut request).await {
                    Ok(()) => {}
                    Err(error) => eprintln!("{error}"),
                }
                request.id = id;
                requests.push(request);
            }
            requests
        });
    }
    users.join_all().await.into_iter().flatten().collect()
}

async fn stream(
    client: &reqwest::Client,
    url: &str,
    body: Bytes,
    id: &str,
    request: &mut Request,
) -> reqwest::Result<()> {
    let start = Instant::now();
    let sending = client
        .post(url)
        .header("content-type", "application/json")
        .header("x-request-id", id)
        .body(body);
    let mut response = sending.send().await?;
    let (mut arrivals, mut tokens) = (Vec::new(), 0);
    while let Some(chunk) = response.chunk().await? {
        let at = Instant::now();
        let before = tokens;
        tokens += tokens_in(&chunk);
        if tokens > before {
            arrivals.push(at);
        }
    }
    if let (Some(&first), Some(&last)) = (arrivals.first(), arrivals.last()) {
        request.ttft = Some((first - start).as_secs_f64());
        request.itl = (tokens > 1).then(|| (last - first).as_secs_f64() / f64::from(tokens - 1));
        let gaps = arrivals.iter().zip(arrivals.iter().skip(1));
        request.gaps = gaps.map(|(from, to)| (*to - *from).as_secs_f64()).collect();
    }
    Ok(())
}

/// Frames with content that is not empty.
fn tokens_in(chunk: &[u8]) -> u32 {
    const CONTENT: &[u8] = br#""content":""#;
    let filled = |at: &usize| chunk.get(at + CONTENT.len()).is_some_and(|&byte| byte != b'"');
    let tokens = memmem::find_iter(chunk, CONTENT).filter(filled).count();
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
