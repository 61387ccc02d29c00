//! Tells a release which revision it is built from. Nothing else of the machine or the time goes into it, so that the same
//! sources make the same binary.

use std::{env, path::Path, process::Command};

/// Given by whoever builds without git, or from sources that were packed.
const VARIABLE: &str = "LLM_PROBE_EXPORTER_REVISION";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    let given = env::var(VARIABLE).ok().filter(|given| !given.is_empty());
    // Not in debug builds, which would be made anew with every commit.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if given.is_some() || !is_release || !is_own_repository() {
        return;
    }
    for path in ["HEAD", "index"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    // With `-dirty` at its end where something has changed since.
    if let Some(revision) = git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]) {
        println!("cargo::rustc-env={VARIABLE}={revision}");
    }
}

/// Sources that were unpacked inside of another repository have nothing to do with it.
fn is_own_repository() -> bool {
    let top = git(&["rev-parse", "--show-toplevel"]).and_then(|top| Path::new(&top).canonicalize().ok());
    let own = env::var("CARGO_MANIFEST_DIR")
        .ok()
        .and_then(|own| Path::new(&own).canonicalize().ok());
    top.is_some() && top == own
}

/// What git says; `None` where there is no git, or it knows nothing.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|said| output.status.success() && !said.is_empty())
}
