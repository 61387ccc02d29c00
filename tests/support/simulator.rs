//! A simulated inference server on a port and a thread of its own, and what it really did.

use std::{net::SocketAddr, sync::Arc, thread};

use llm_probe_exporter::sim::{Server, Settings, journal};
use tokio_util::sync::CancellationToken;

use crate::process::get;

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Simulator {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Simulator {
    pub(crate) fn start(settings: Settings) -> Self {
        let stop = CancellationToken::new();
        let (told, address) = std::sync::mpsc::channel();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::bind("127.0.0.1:0".parse().unwrap(), settings)
                    .await
                    .unwrap();
                told.send(server.local_addr().unwrap()).unwrap();
                server.run(stopped).await.unwrap();
            });
        });
        Self {
            address: address.recv().unwrap(),
            stop,
            thread: Some(thread),
        }
    }

    /// The requests that have ended, in the order in which they were received.
    pub(crate) fn requests(&self) -> Vec<Arc<journal::Record>> {
        let answer = get(&self.address.to_string(), "/sim/requests?limit=20000", "").unwrap();
        let page: journal::Page = serde_json::from_str(&answer.body).unwrap();
        let mut records = page.requests;
        records.sort_by_key(|record| record.received_ns);
        records
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
