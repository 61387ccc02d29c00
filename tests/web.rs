//! Who is let in by the web server and who is not, where it listens, and what becomes of it and of the bursts while
//! somebody attacks it. The program as a user runs it, on real sockets.
#![cfg(test)]

#[path = "support/authority.rs"]
mod authority;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/process.rs"]
mod process;
#[expect(dead_code, reason = "other test files use the rest")]
#[path = "support/simulator.rs"]
mod simulator;
#[path = "support/tls_client.rs"]
mod tls_client;

#[path = "web/attacks.rs"]
mod attacks;
#[path = "web/listening.rs"]
mod listening;
#[path = "web/passwords.rs"]
mod passwords;
#[path = "web/tls.rs"]
mod tls;

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use process::{Answer, Exporter, get};
use tempfile::TempDir;

/// A probe at a port where nobody listens, and seldom.
const QUIET: &str = "targets: [{ name: nobody, url: 'http://127.0.0.1:9/v1', api: openai_chat, model: none }]\n\
                     probes: [{ name: lonely, every: 1h }]\n";

/// A directory with the web server's file and what it names.
struct WebFile(TempDir);

impl WebFile {
    fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.says(text);
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn says(&self, text: &str) {
        self.write("web.yml", text);
    }

    fn option(&self) -> String {
        format!("--web.config.file={}", self.path("web.yml").display())
    }

    fn start(&self, args: &[&str]) -> Exporter {
        let option = self.option();
        let args: Vec<_> = [option.as_str()].iter().chain(args).copied().collect();
        Exporter::start(QUIET, &args)
    }
}

/// A user whose password is hashed at the lowest cost.
fn user(name: &str, password: &str) -> String {
    format!(
        "basic_auth_users: {{ {name}: '{}' }}\n",
        bcrypt::hash(password, 4).unwrap()
    )
}

fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(credentials))
}

fn ask(exporter: &Exporter, path: &str, headers: &str) -> Answer {
    get(&exporter.address, path, headers).unwrap()
}

fn config_in(folder: &Path) -> String {
    let file = folder.join("probes.yaml");
    fs::write(&file, QUIET).unwrap();
    format!("--config.file={}", file.display())
}
