//! A scripted HTTP/1.1 endpoint on 127.0.0.1, on a thread of its own. It writes every byte itself and stamps
//! what it does.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::script::{Script, Step};

/// How long a test waits for what the endpoint is to see. Only a defect lets it pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request as the endpoint saw it, and what it did about it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Position among all requests, in the order in which they were whole.
    pub(crate) number: usize,
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// When the last byte of the request was read.
    pub(crate) received: Instant,
    /// Just before each write: when, and which step of the script.
    pub(crate) writes: Vec<(Instant, usize)>,
    /// When the endpoint saw that the client was gone.
    pub(crate) gone: Option<Instant>,
    /// Bytes that the kernel took.
    pub(crate) written: usize,
}

impl Served {
    /// The value of a header; names are compared without case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// When the step at this position of the script was first written.
    pub(crate) fn wrote(&self, step: usize) -> Instant {
        self.writes.iter().find(|(_, at)| *at == step).unwrap().0
    }

    /// When the last write began.
    pub(crate) fn last_write(&self) -> Instant {
        self.writes.last().unwrap().0
    }
}

type Choose = dyn Fn(&Served) -> Script + Send + Sync;

/// The endpoint. It stops when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    choose: Box<Choose>,
    served: Mutex<Vec<Served>>,
    /// Counts changes of `served`.
    changed: watch::Sender<u64>,
}

impl Server {
    /// Asks `choose` for a script for each request.
    pub(crate) fn start(choose: impl Fn(&Served) -> Script + Send + Sync + 'static) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, choose)
    }

    /// The same at another address of this thread's network.
    pub(crate) fn at(address: Ipv4Addr, choose: impl Fn(&Served) -> Script + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((address, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let open = CancellationToken::new();
        open.cancel();
        Self::listening(listener, open, choose)
    }

    /// Accepts one connection, and the others not before the token is cancelled. See [`fill_queue`].
    pub(crate) fn behind_a_queue(
        open: &CancellationToken,
        choose: impl Fn(&Served) -> Script + Send + Sync + 'static,
    ) -> Self {
        let listener = short_queue().into_std().unwrap();
        Self::listening(listener, open.clone(), choose)
    }

    fn listening(
        listener: std::net::TcpListener,
        open: CancellationToken,
        choose: impl Fn(&Served) -> Script + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            choose: Box::new(choose),
            served: Mutex::default(),
            changed: watch::Sender::new(0),
        });
        let stop = CancellationToken::new();
        let thread = std::thread::spawn({
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(async {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = accept(listener, open, shared) => {}
                        }
                    });
            }
        });
        Self {
            address,
            shared,
            stop,
            thread: Some(thread),
        }
    }

    /// Plays the same script for every request.
    pub(crate) fn playing(script: Script) -> Self {
        Self::start(move |_| script.clone())
    }

    /// Plays one script after the other, the last one for all requests that follow.
    pub(crate) fn in_turn(scripts: Vec<Script>) -> Self {
        Self::start(move |request| scripts[request.number.min(scripts.len() - 1)].clone())
    }

    /// All requests so far.
    pub(crate) fn served(&self) -> Vec<Served> {
        self.shared.served.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Served {
        let mut served = self.served();
        assert_eq!(served.len(), 1, "{served:?}");
        served.remove(0)
    }

    /// Waits until `enough` holds for the requests so far.
    pub(crate) async fn sees(&self, enough: impl Fn(&[Served]) -> bool) -> Vec<Served> {
        let mut changed = self.shared.changed.subscribe();
        let seen = timeout(PATIENCE, async {
            loop {
                changed.borrow_and_update();
                let served = self.served();
                if enough(&served) {
                    return served;
                }
                changed.changed().await.unwrap();
            }
        });
        match seen.await {
            Ok(served) => served,
            Err(waited) => panic!("{waited}: the endpoint saw only {:?}", self.served()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn accept(listener: std::net::TcpListener, open: CancellationToken, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    for connection in 0.. {
        if connection > 0 {
            open.cancelled().await;
        }
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(serve(stream, connection, Arc::clone(&shared)));
    }
}

/// Serves one connection until its script or the client ends it.
async fn serve(mut stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await {
        let received = Instant::now();
        let (number, script) = {
            let mut all = shared.served.lock().unwrap();
            let served = Served {
                number: all.len(),
                connection,
                head,
                body,
                received,
                writes: Vec::new(),
                gone: None,
                written: 0,
            };
            let script = (shared.choose)(&served);
            all.push(served);
            (all.len() - 1, script)
        };
        shared.changed.send_modify(|count| *count += 1);
        let on = Playing {
            shared: &shared,
            number,
        };
        if !on.play(&mut stream, script).await {
            return;
        }
    }
}

/// Reads one request; `None` at the end of the connection.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, length)| length.trim().parse().unwrap());
            if read.len() >= end + 4 + length {
                let rest = read.split_off(end + 4 + length);
                let body = read.split_off(end + 4);
                *read = rest;
                return Some((head, body));
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

/// The request that is being answered.
struct Playing<'a> {
    shared: &'a Shared,
    number: usize,
}

impl Playing<'_> {
    fn note(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.shared.served.lock().unwrap()[self.number]);
        self.shared.changed.send_modify(|count| *count += 1);
    }

    fn gone(&self) {
        self.note(|served| _ = served.gone.get_or_insert_with(Instant::now));
    }

    /// Plays the script; whether the connection lives on.
    async fn play(&self, stream: &mut TcpStream, script: Script) -> bool {
        for (at, step) in script.steps.into_iter().enumerate() {
            let lives = match step {
                Step::Send(bytes) => self.write(stream, &bytes, at, script.dribbles).await,
                Step::Wait(time) => self.unless_gone(stream, sleep(time)).await,
                Step::Until(signal) => self.unless_gone(stream, signal.cancelled()).await,
                Step::Fire(signal) => {
                    signal.cancel();
                    true
                }
                Step::Hold => self.unless_gone(stream, std::future::pending()).await,
                Step::Forever(bytes, pause) => loop {
                    let written = self.write(stream, &bytes, at, script.dribbles).await;
                    if !written || !pause.is_zero() && !self.unless_gone(stream, sleep(pause)).await {
                        break false;
                    }
                },
                Step::Reset => {
                    stream.set_zero_linger().unwrap();
                    false
                }
                Step::Close => {
                    stream.shutdown().await.ok();
                    false
                }
            };
            if !lives {
                return false;
            }
        }
        true
    }

    async fn write(&self, stream: &mut TcpStream, bytes: &[u8], step: usize, dribbles: bool) -> bool {
        for piece in bytes.chunks(if dribbles { 1 } else { bytes.len().max(1) }) {
            let at = Instant::now();
            self.note(|served| {
                // What is written for ever needs no list of stamps.
                if served.writes.len() < 100_000 {
                    served.writes.push((at, step));
                }
            });
            if stream.write_all(piece).await.is_err() {
                self.gone();
                return false;
            }
            self.note(|served| served.written += piece.len());
            if dribbles {
                // Lets the client read each byte on its own.
                tokio::task::yield_now().await;
            }
        }
        true
    }

    /// Waits for `waiting`; false when the client went away meanwhile.
    async fn unless_gone(&self, stream: &mut TcpStream, waiting: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = waiting => true,
            () = silence(stream) => {
                self.gone();
                false
            }
        }
    }
}

/// Ends when the client has closed. No client sends anything while it waits for an answer.
async fn silence(stream: &TcpStream) {
    let mut byte = [0];
    match stream.peek(&mut byte).await {
        Ok(0) | Err(_) => {}
        Ok(_) => panic!("the client went on to send before the answer was whole"),
    }
}

/// A listener that lets very few connections wait to be accepted.
fn short_queue() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.listen(1).unwrap()
}

/// Connects until connecting hangs: as long as what is returned is kept, nobody else gets a connection.
pub(crate) async fn fill_queue(address: SocketAddr) -> Vec<TcpStream> {
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    queued
}

/// An address at which connecting hangs, for as long as the second part is kept.
pub(crate) async fn black_hole() -> (SocketAddr, impl Sized) {
    let listener = short_queue();
    let address = listener.local_addr().unwrap();
    (address, (fill_queue(address).await, listener))
}

/// An address at which nobody listens.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
