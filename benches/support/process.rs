//! The program as a user runs it, which ends with its handle, and what it answers.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
};

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    log: Option<Lines<BufReader<ChildStderr>>>,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// The program with `args`, once it says where it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-probe-exporter"));
        Self::spawn(command.args(args))
    }

    /// The same, by a command that runs the program.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let command = command.arg("--log.format=json");
        let mut process = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = process.stderr.take().expect("it is piped");
        let mut log = BufReader::new(log).lines();
        let mut said = Vec::new();
        let address = log.by_ref().find_map(|line| {
            let line = line.ok()?;
            let address = listening(&line);
            said.push(line);
            address
        });
        let Some(address) = address else {
            process.kill().ok();
            process.wait().ok();
            panic!("it does not say where it listens, but:\n{}", said.join("\n"));
        };
        Self {
            process,
            log: Some(log),
            address,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What of its log somebody is interested in comes next.
    pub(crate) fn next<T>(&mut self, interesting: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.log.as_mut()?.find_map(|line| interesting(&line.ok()?))
    }

    /// Reads the rest of its log, so that it is never kept from writing; warnings and errors are shown.
    pub(crate) fn let_it_talk(&mut self) {
        let Some(log) = self.log.take() else { return };
        thread::spawn(move || {
            for line in log.map_while(Result::ok) {
                if line.contains("\"WARN\"") || line.contains("\"ERROR\"") {
                    eprintln!("{line}");
                }
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn listening(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening")?.1.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

/// The body of the answer to `GET path`.
pub(crate) fn answer(address: SocketAddr, path: &str, headers: &str) -> Vec<u8> {
    let stream = TcpStream::connect(address).expect("it listens");
    exchange(stream, "GET", path, headers)
}

/// The body of the answer to one request over a connection of its own.
pub(crate) fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &str) -> Vec<u8> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    // A TLS server may close without a word; what it said before is here.
    stream.read_to_end(&mut answer).ok();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    answer.split_off(head.expect("it answers") + 4)
}
