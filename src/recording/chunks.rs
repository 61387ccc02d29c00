//! The chunks of a response as they are written and read: `[at_ns, text]`, `[at_ns, text, "base64"]`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
    ser::SerializeSeq,
};

use crate::tape;

/// All chunks as one, and where each ends. What is read from a file has the bounds of a [`tape::Tape`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    pub(super) bytes: Vec<u8>,
    /// When each was read, in nanoseconds since the start, and its end in `bytes`.
    pub(super) ends: Vec<(u64, usize)>,
}

impl Chunks {
    pub(super) fn each(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        self.ends
            .iter()
            .zip(begins)
            .filter_map(|(&(at, end), begin)| Some((at, self.bytes.get(begin..end)?)))
    }
}

impl Serialize for Chunks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut chunks = serializer.serialize_seq(Some(self.ends.len()))?;
        for (at, bytes) in self.each() {
            match plain_text(bytes) {
                Some(text) => chunks.serialize_element(&(at, text))?,
                None => chunks.serialize_element(&(at, BASE64.encode(bytes), Encoding::Base64))?,
            }
        }
        chunks.end()
    }
}

/// Text that JSON does not blow up: a control character would take six characters.
fn plain_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().all(is_plain).then_some(text)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

impl<'de> Deserialize<'de> for Chunks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ChunksVisitor)
    }
}

struct ChunksVisitor;

impl<'de> Visitor<'de> for ChunksVisitor {
    type Value = Chunks;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of chunks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Chunks, A::Error> {
        let mut chunks = Chunks::default();
        while let Some(Chunk(at, bytes)) = seq.next_element()? {
            let before = chunks.ends.last().map_or(0, |&(at, _)| at);
            if at < before {
                return Err(de::Error::custom(format_args!(
                    "chunk {} was read before the one before it",
                    chunks.ends.len() + 1
                )));
            }
            chunks.bytes.extend_from_slice(&bytes);
            chunks.ends.push((at, chunks.bytes.len()));
            if chunks.bytes.len() + chunks.ends.len() * tape::CHUNK > tape::MOST {
                return Err(de::Error::custom("more chunks than are kept of a response"));
            }
        }
        Ok(chunks)
    }
}

struct Chunk(u64, Vec<u8>);

impl<'de> Deserialize<'de> for Chunk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ChunkVisitor)
    }
}

struct ChunkVisitor;

impl<'de> Visitor<'de> for ChunkVisitor {
    type Value = Chunk;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a chunk: [at_ns, text] or [at_ns, text, \"base64\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Chunk, A::Error> {
        let at = seq
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let text: String = seq
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(1, &self))?;
        let bytes = match seq.next_element()? {
            None => text.into_bytes(),
            Some(Encoding::Base64) => BASE64.decode(&text).map_err(de::Error::custom)?,
        };
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Chunk(at, bytes)),
            Some(_) => Err(de::Error::invalid_length(4, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(all: &[(u64, &[u8])]) -> Chunks {
        let mut chunks = Chunks::default();
        for &(at, bytes) in all {
            chunks.bytes.extend_from_slice(bytes);
            chunks.ends.push((at, chunks.bytes.len()));
        }
        chunks
    }

    #[test]
    fn text_is_text_and_bytes_are_base64() {
        let all = chunks(&[(5, b"data: \"x\"\n\n"), (5, b"\xc3"), (9, b"\xa9"), (10, b"\0")]);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(
            text,
            r#"[[5,"data: \"x\"\n\n"],[5,"ww==","base64"],[9,"qQ==","base64"],[10,"AA==","base64"]]"#
        );
        assert_eq!(serde_json::from_str::<Chunks>(&text).unwrap(), all);
    }

    #[test]
    fn what_is_no_list_of_chunks_is_refused() {
        for (text, problem) in [
            ("[[1]]", "invalid length 1"),
            ("[[-1,\"\"]]", "invalid value: integer `-1`"),
            ("[[2,\"\"],[1,\"\"]]", "chunk 2 was read before the one before it"),
            ("[[1,\"!\",\"base64\"]]", "Invalid symbol 33"),
            ("[[1,\"\",\"gzip\"]]", "unknown variant `gzip`"),
            ("[[1,\"\",\"base64\",1]]", "invalid length 4"),
            ("{}", "expected a list of chunks"),
        ] {
            let error = serde_json::from_str::<Chunks>(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let many = format!("[[0,\"\"]{}]", ",[0,\"\"]".repeat(tape::MOST / tape::CHUNK));
        let error = serde_json::from_str::<Chunks>(&many).unwrap_err();
        assert!(error.to_string().contains("more chunks than are kept"), "{error}");
    }
}
