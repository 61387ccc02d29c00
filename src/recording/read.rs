//! A recording, line by line; whatever the file holds, memory and time are bounded.

use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{FORMAT, LONGEST_LINE, VERSION, line::Line, recorded::Recorded};

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Problem {
    /// From 1.
    pub line: u64,
    pub what: String,
}

/// The requests of a recording, in the order of the file. After a problem there are no more.
#[derive(Debug)]
pub struct Requests<R> {
    input: R,
    line: u64,
    epoch: Instant,
    over: bool,
}

#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
    #[serde(default)]
    program: String,
}

impl<R: BufRead> Requests<R> {
    /// Reads the header. Instants will count from `epoch`.
    pub fn open(input: R, epoch: Instant) -> Result<Self, Problem> {
        let mut requests = Self {
            input,
            line: 0,
            epoch,
            over: false,
        };
        let problem = requests.header().err();
        problem.map_or(Ok(requests), Err)
    }

    fn header(&mut self) -> Result<(), Problem> {
        let Some(text) = self.next_line()? else {
            return Err(self.problem("the file is empty"));
        };
        let header: Option<Header> = serde_json::from_slice(&text).ok();
        match header.filter(|header| header.format == FORMAT) {
            None => Err(self.problem("this is no recording of `once --record`")),
            Some(Header { version: VERSION, .. }) => Ok(()),
            Some(Header { version, program, .. }) => {
                let program: String = program.chars().filter(|c| !c.is_control()).take(32).collect();
                Err(self.problem(format!(
                    "recorded in version {version} of the format, by program version {program:?}; this program, {}, reads version {VERSION}",
                    env!("CARGO_PKG_VERSION")
                )))
            }
        }
    }

    fn request(&mut self) -> Result<Option<(u64, Recorded)>, Problem> {
        let Some(text) = self.next_line()? else {
            return Ok(None);
        };
        let line: Line = match parse(&text) {
            Ok(line) => line,
            Err(_) if parse::<Header>(&text).is_ok() => {
                return Err(self.problem("a second header; replay one recording at a time"));
            }
            Err(what) => return Err(self.problem(what)),
        };
        let recorded = line.checked(self.epoch).map_err(|what| self.problem(what))?;
        Ok(Some((self.line, recorded)))
    }

    /// The next line without its end; `None` at the end of the file.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        self.line += 1;
        let mut text = Vec::new();
        let most = LONGEST_LINE as u64 + 1;
        let read = (&mut self.input).take(most).read_until(b'\n', &mut text);
        read.map_err(|error: io::Error| self.problem(error.to_string()))?;
        if text.is_empty() {
            return Ok(None);
        }
        if text.pop_if(|byte| *byte == b'\n').is_none() {
            return Err(self.problem(if text.len() > LONGEST_LINE {
                "the line is longer than 32 MiB, which no recording has"
            } else {
                "the line is cut off; without it the rest can be replayed"
            }));
        }
        Ok(Some(text))
    }

    fn problem(&self, what: impl Into<String>) -> Problem {
        Problem {
            line: self.line,
            what: what.into(),
        }
    }
}

/// The error names the column; the line is known to the caller.
fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| {
        let said = error.to_string();
        let what = said.split(" at line ").next().unwrap_or_default();
        let what: String = what.chars().filter(|c| !c.is_control()).take(200).collect();
        format!("column {}: {what}", error.column())
    })
}

impl<R: BufRead> Iterator for Requests<R> {
    /// The number of the line and what it holds.
    type Item = Result<(u64, Recorded), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.request().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}
