//! Several addresses, Unix sockets, what systemd hands over, and the warning where anybody is let in.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
};

use rustix::process::Signal;

use super::*;
use crate::process::{eventually, program, run};

fn over_unix(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn all_addresses_are_served_and_sockets_go_with_the_exporter() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("probe.sock");
    let address = format!("--web.listen-address=unix:{}", socket.display());
    // One that a killed process left behind gives way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mut exporter = Exporter::start(QUIET, &[&address, "--web.listen-address=127.0.0.1:0"]);
    eventually("three listen", || {
        (exporter.process.log().matches("listening").count() == 3).then_some(())
    });
    assert_eq!(exporter.get("/-/healthy").status, 200);
    assert!(over_unix(&socket).unwrap().ends_with("healthy\n"));
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    // Nobody takes it away from one that runs, or any other file.
    let config = config_in(folder.path());
    for (path, mend) in [
        (&socket, "another process listens there"),
        (&folder.path().join("probes.yaml"), "no socket"),
    ] {
        let output = run(&[&config, &format!("--web.listen-address=unix:{}", path.display())]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(mend), "{said}");
    }
    assert!(over_unix(&socket).is_ok());
    exporter.process.signal(Signal::TERM);
    assert_eq!(exporter.process.wait().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn systemd_hands_sockets_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // A copy that the child inherits.
    let handed: OwnedFd = rustix::io::dup(&listener).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config_in(folder.path());
    let mut command = program();
    command
        .args([&config, "--web.systemd-socket"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", handed.as_raw_fd().to_string());
    let exporter = Exporter::spawn(&mut command, folder);
    assert_eq!(exporter.address, address);
    assert_eq!(exporter.get("/-/healthy").status, 200);
}

#[test]
fn it_is_told_where_anybody_is_let_in() {
    let says = |address: &str, file: Option<&WebFile>| {
        let listen = format!("--web.listen-address={address}");
        let mut args = vec![listen];
        args.extend(file.map(WebFile::option));
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let exporter = Exporter::start(QUIET, &args);
        eventually("both listen", || {
            (exporter.process.log().matches("listening").count() == 2).then_some(())
        });
        exporter
            .process
            .log()
            .contains("everybody who reaches this address is let in")
    };
    let passwords = WebFile::new(&user("ann", "right"));
    assert!(!says("127.0.0.1:0", None));
    assert!(!says("[::1]:0", None));
    assert!(says(":0", None));
    assert!(!says(":0", Some(&passwords)));
}
