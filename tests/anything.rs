//! Files and headers of others hold whatever they like: what is asserted of them when they are fuzzed, on the seeds of
//! the fuzzer and on what comes of damaging these.
#![cfg(test)]

#[path = "../fuzz/src/files.rs"]
#[expect(unreachable_pub, reason = "it is a part of a crate of its own")]
mod files;
#[path = "../fuzz/src/headers.rs"]
#[expect(unreachable_pub, reason = "it is a part of a crate of its own")]
mod headers;

use std::{fs, path::Path};

use proptest::{prelude::*, sample::Index};

/// What the fuzzer would begin with.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let seeds: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{target}");
    seeds
}

/// What is wrong somewhere.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Cut(Index, Index),
    Insert(Index, &'static str),
    /// Again, at another place.
    Copy(Index, Index, Index),
}

/// What has a meaning to somebody.
const PIECES: &[&str] = &[
    "\n",
    "\r",
    "\t",
    " ",
    "\u{0}",
    "\u{1b}[2J",
    "\u{2028}",
    "\u{85}",
    "\u{feff}",
    "é",
    "🦀",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\\ud800",
    ",",
    ";",
    ":",
    "=",
    "{",
    "}",
    "[",
    "]",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "|\n",
    ">-\n",
    "# ",
    "%",
    "null",
    "true",
    "~",
    "-1",
    "0",
    "1e999",
    "-1e308",
    "NaN",
    ".inf",
    "18446744073709551616",
    "1e-400",
    "q=0.5",
    "*/*",
    "9999-12-31T23:59:59Z",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "300ms",
    "1000000h",
    "µs",
    "\n\n",
    "\n---\n",
    "\n...\n",
];

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let place = any::<Index>;
        prop_oneof![
            (place(), any::<u8>()).prop_map(|(at, byte)| Self::Byte(at, byte)),
            (place(), place()).prop_map(|(from, to)| Self::Cut(from, to)),
            (place(), prop::sample::select(PIECES)).prop_map(|(at, piece)| Self::Insert(at, piece)),
            (place(), place(), place()).prop_map(|(from, to, at)| Self::Copy(from, to, at)),
        ]
    }

    fn is_done_to(&self, bytes: &mut Vec<u8>) {
        let all = bytes.len() + 1;
        // Not most of it: what is left is to mean something still.
        let some = |from: &Index, to: &Index| {
            let from = from.index(all);
            from..(from + to.index(64)).min(all - 1)
        };
        match self {
            Self::Byte(at, byte) => {
                if let Some(place) = bytes.get_mut(at.index(all)) {
                    *place = *byte;
                }
            }
            Self::Cut(from, to) => drop(bytes.drain(some(from, to))),
            Self::Insert(at, piece) => {
                let at = at.index(all);
                bytes.splice(at..at, piece.bytes());
            }
            Self::Copy(from, to, at) => {
                let piece = bytes[some(from, to)].to_vec();
                let at = at.index(all);
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Checks the seeds, and what comes of damaging them.
fn hold(target: &str, cases: u32, check: impl Fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        check(seed);
    }
    let config = ProptestConfig {
        failure_persistence: None,
        cases,
        ..ProptestConfig::default()
    };
    let damages = prop::collection::vec(Damage::any(), 1..5);
    proptest!(config, |(which in any::<Index>(), damages in damages)| {
        let mut bytes = which.get(&seeds).clone();
        for damage in damages {
            damage.is_done_to(&mut bytes);
        }
        check(&bytes);
    });
}

#[test]
fn configurations() {
    hold("configuration", 300, files::configuration);
}

#[test]
fn prompts() {
    let folder = tempfile::tempdir().unwrap();
    hold("prompts", 500, |bytes| files::prompts(bytes, folder.path()));
}

#[test]
fn recordings() {
    hold("recording", 500, files::recording);
}

#[test]
fn states() {
    hold("state", 2000, files::state);
}

#[test]
fn what_scrapers_accept() {
    hold("accept", 2000, headers::accept);
}

#[test]
fn when_endpoints_want_to_be_asked_again() {
    hold("retry_after", 2000, headers::asked_again);
}
