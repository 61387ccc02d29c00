//! Whom Alertmanager tells: a receiver of its webhooks.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;
use tokio::time::Instant;

/// An alert as it was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) alert: Value,
}

/// Listens for as long as the test runs.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let messages = receive(&stream);
                kept.lock().unwrap().extend(messages);
            }
        });
        Self { address, told }
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.told.lock().unwrap().clone()
    }

    pub(crate) fn find(&self, status: &str, alert: &str) -> Option<Message> {
        let fits = |message: &Message| {
            message.alert["status"] == status && message.alert["labels"]["alertname"] == alert
        };
        self.messages().into_iter().find(fits)
    }
}

/// The alerts in one request, which is answered and its connection closed.
fn receive(mut stream: &TcpStream) -> Vec<Message> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line);
    }
    let path = head[0].split(' ').nth(1).unwrap().to_owned();
    let length = head.iter().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse()
            .ok()
    });
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    let group: Value = serde_json::from_slice(&body).unwrap();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let alerts = group["alerts"].as_array().unwrap().iter();
    alerts
        .map(|alert| Message {
            at: Instant::now(),
            path: path.clone(),
            alert: alert.clone(),
        })
        .collect()
}
