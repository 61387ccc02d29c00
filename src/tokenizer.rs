//! Counts tokens where a server does not, by the model's own `tokenizer.json`. Nothing is ever downloaded.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Read as _,
    path::Path,
};

use crate::units::Tokens;

/// Larger files are no tokenizers; those of today's models have up to some 35 MB.
const MAX_BYTES: u64 = 128 << 20;

/// A tokenizer. Two are the same when their files are.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    digest: u64,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. The error says what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err("is larger than 128 MiB".to_owned());
        }
        let mut digest = DefaultHasher::new();
        bytes.hash(&mut digest);
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| format!("is no tokenizer: {}", first_line(&error.to_string())))?;
        // A file may ask for either; neither belongs into a count.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| format!("is no tokenizer: {}", first_line(&error.to_string())))?;
        Ok(Self {
            inner,
            digest: digest.finish(),
        })
    }

    /// How many tokens `text` is, without those that mark its beginning and end. It takes some milliseconds
    /// per thousand tokens. `None` where the tokenizer has no answer.
    pub fn count(&self, text: &str) -> Option<Tokens> {
        let encoding = self.inner.encode_fast(text, false).ok()?;
        Some(Tokens(encoding.len() as u64))
    }
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect()
}

impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tokenizer({:016x})", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_counted() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example-tokenizer.json");
        let tokenizer = Tokenizer::load(&path).unwrap();
        for (text, count) in [("", 0), ("a", 1), ("é", 2), ("the light", 2), ("the the", 2)] {
            assert_eq!(tokenizer.count(text), Some(Tokens(count)), "{text:?}");
        }
        assert_eq!(tokenizer, Tokenizer::load(&path).unwrap());
    }

    #[test]
    fn what_is_no_tokenizer_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("tokenizer.json");
        assert!(
            Tokenizer::load(&missing)
                .unwrap_err()
                .starts_with("cannot be read: ")
        );
        for text in [
            "",
            "{}",
            "<html>",
            "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\"}}",
        ] {
            std::fs::write(&missing, text).unwrap();
            let said = Tokenizer::load(&missing).unwrap_err();
            assert!(said.starts_with("is no tokenizer: "), "{said}");
        }
    }
}
