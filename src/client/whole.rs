//! Small answers that are read as a whole.

use super::redaction::Redaction;

/// Longer answers are not read.
const MAX_BYTES: usize = 4 << 20;

/// The body of a good answer; the error says in words why there is none.
pub(super) async fn whole(
    sending: impl Future<Output = reqwest::Result<reqwest::Response>>,
    redaction: &Redaction,
) -> Result<Vec<u8>, String> {
    let in_words = |error: reqwest::Error| redaction.apply(error.without_url().to_string());
    let mut response = sending.await.map_err(in_words)?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(in_words)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err("the answer is larger than 4 MiB".to_owned());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
