//! The simulated servers, each a process of its own, and what they know to be true.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use llm_probe_exporter::sim::journal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{
    case::{Order, Way},
    support::{
        machine::cpu_seconds,
        process::{Running, exchange},
    },
};

/// Those that the cases need.
#[derive(Debug)]
pub(crate) struct Servers {
    early: Running,
    late: Running,
    tls: Running,
    pub(crate) ca: PathBuf,
}

impl Servers {
    /// Certificates are put into `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a name is valid");
        let (ca, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&ca, issued.cert.pem()).expect("there is room for a file");
        std::fs::write(&key, issued.signing_key.serialize_pem()).expect("there is room for a file");
        let tls = [
            format!("--tls-cert={}", ca.display()),
            format!("--tls-key={}", key.display()),
        ];
        let [cert, key] = &tls;
        Self {
            early: simulator(&EARLY),
            late: simulator(&LATE),
            tls: simulator(&[&EARLY[..], &[cert, key]].concat()),
            ca,
        }
    }

    pub(crate) fn address(&self, way: Way) -> SocketAddr {
        match way {
            Way::EarlyHeads | Way::Http2 => self.early.address,
            Way::LateHeads => self.late.address,
            Way::Tls => self.tls.address,
        }
    }

    /// CPU time that they have taken.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let all = [&self.early, &self.late, &self.tls];
        all.map(|server| cpu_seconds(&server.id().to_string()))
            .iter()
            .sum()
    }
}

/// The head at once, the first token after 200 ms.
const EARLY: [&str; 1] = ["--fault=stall=200ms"];
/// The head with the first token, after 200 ms.
const LATE: [&str; 2] = ["--heads=late", "--fault=delay=200ms"];

/// One token every 10 ms, for any number of users: its engine is so fast that only the faults take time.
fn simulator(args: &[&str]) -> Running {
    let all = [
        "simulate",
        "--listen-address=127.0.0.1:0",
        "--profile=8b-h100",
        "--slots=1000",
        "--speed=1000",
        "--fault=drip=10ms",
    ];
    let mut running = Running::start(&[&all[..], args].concat());
    running.let_it_talk();
    running
}

/// What a server knows of requests, by the client's id and by its own.
#[derive(Debug)]
pub(crate) struct Known {
    by_id: HashMap<String, Arc<journal::Record>>,
}

impl Known {
    /// Of those that have ended since this was asked for last. Nothing else asks meanwhile.
    pub(crate) fn of(order: &Order) -> Self {
        let page = ask(order, "GET", "/sim/requests?limit=20000");
        let page: journal::Page = serde_json::from_slice(&page).expect("the journal is JSON");
        ask(order, "DELETE", "/sim/requests");
        let mut by_id = HashMap::new();
        for record in page.requests {
            by_id.insert(format!("chatcmpl-sim-{}", record.id), Arc::clone(&record));
            if let Some(id) = record.client_id.clone() {
                by_id.insert(id, record);
            }
        }
        Self { by_id }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&journal::Record> {
        self.by_id.get(id).map(Arc::as_ref)
    }
}

fn ask(order: &Order, method: &str, path: &str) -> Vec<u8> {
    let stream = TcpStream::connect(order.address).expect("it listens");
    match &order.ca {
        None => exchange(stream, method, path, ""),
        Some(ca) => exchange(over_tls(stream, ca), method, path, ""),
    }
}

fn over_tls(stream: TcpStream, ca: &Path) -> impl Read + Write {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).expect("it was written");
    roots.add(certificate).expect("it was made to be trusted");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them all")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(stream.peer_addr().expect("it is connected").ip());
    let connection = ClientConnection::new(Arc::new(config), name).expect("it is valid");
    StreamOwned::new(connection, stream)
}
