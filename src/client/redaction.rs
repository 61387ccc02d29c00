//! Takes secrets out of text that an endpoint sent: servers echo headers, and encode what they echo.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// What stands where a secret stood.
const MASK: &str = "<secret>";

/// Shorter secrets are left, and shorter beginnings of one where a text was cut within it: they would make holes
/// in every text, and tell nothing.
pub const SHORTEST: usize = 4;

/// The [`forms`] in which secrets are looked for.
pub(super) struct Redaction(pub(super) Vec<String>);

impl Redaction {
    pub(super) fn apply(&self, mut text: String) -> String {
        for form in &self.0 {
            if text.contains(form) {
                text = text.replace(form, MASK);
            }
        }
        let cut = |form: &String| {
            (SHORTEST..form.len())
                .rev()
                .filter_map(|end| form.get(..end))
                .find(|beginning| text.ends_with(beginning))
                .map(str::len)
        };
        if let Some(length) = self.0.iter().filter_map(cut).max() {
            text.truncate(text.len() - length);
            text.push_str(MASK);
        }
        text
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Redaction").finish_non_exhaustive()
    }
}

/// Every form of every secret, the longest first: a secret may begin like another, whose removal would leave
/// its end.
pub(super) fn forms(secrets: &[&str]) -> Vec<String> {
    let long_enough = secrets.iter().copied().filter(|secret| secret.len() >= SHORTEST);
    let mut forms: Vec<String> = long_enough.flat_map(forms_of).collect();
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

/// A secret as it stands in plain text, where letters are made small (media types), in a header that a proxy
/// folded, in JSON, in a URL, and in base64 wherever it begins there.
fn forms_of(secret: &str) -> Vec<String> {
    let folded = secret.split_whitespace().collect::<Vec<_>>().join(" ");
    let json = escaped(secret);
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let url = form.replace('+', "%20");
    let small = [&form, &url].map(|form| small_hex(form));
    // JSON that is quoted in an error is escaped twice.
    let small_letters = secret.to_ascii_lowercase();
    let mut forms = vec![
        secret.to_owned(),
        small_letters,
        folded,
        escaped(&json),
        json.replace('/', "\\/"),
        json,
        form,
        url,
    ];
    forms.extend(small);
    for before in 0..3 {
        let encoded = in_base64(secret, before);
        forms.extend([encoded.replace('+', "-").replace('/', "_"), encoded]);
    }
    forms
}

/// As it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// `%2F` as `%2f`.
fn small_hex(text: &str) -> String {
    let mut hex = 0_u8;
    let small = |c: char| {
        if c == '%' {
            hex = 3;
            return c;
        }
        hex = hex.saturating_sub(1);
        if hex > 0 { c.to_ascii_lowercase() } else { c }
    };
    text.chars().map(small).collect()
}

/// The characters that stand for the secret alone where `before` bytes (modulo 3) stand before it.
fn in_base64(secret: &str, before: usize) -> String {
    let bytes = [&vec![0; before], secret.as_bytes()].concat();
    let encoded = STANDARD_NO_PAD.encode(&bytes);
    // Six bits a character; those at the ends are shared with the neighbours.
    let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    encoded.get(from..to).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const SECRET: &str = "sk-4711/ä \"q\"  End?";

    fn redacted(text: &str) -> String {
        let secrets = [SECRET, "sk-4711/ä and more", "abc"];
        Redaction(forms(&secrets)).apply(text.to_owned())
    }

    #[test]
    fn secrets_are_found_in_every_form() {
        for text in [
            SECRET.to_owned(),
            "sk-4711/ä \"q\" End?".to_owned(),
            r#"sk-4711/ä \"q\"  End?"#.to_owned(),
            r#"sk-4711/ä \\\"q\\\"  End?"#.to_owned(),
            SECRET.to_ascii_lowercase(),
            r#"sk-4711\/ä \"q\"  End?"#.to_owned(),
            "sk-4711%2F%C3%A4+%22q%22++End%3F".to_owned(),
            "sk-4711%2F%C3%A4%20%22q%22%20%20End%3F".to_owned(),
            "sk-4711%2f%c3%a4%20%22q%22%20%20End%3f".to_owned(),
        ] {
            assert_eq!(redacted(&format!("you sent <{text}>.")), "you sent <<secret>>.");
        }
        for before in ["", "x", "Bearer ", "authorization: Bearer "] {
            for after in ["", "!", "\r\nhost: x"] {
                let text = format!("{before}{SECRET}{after}");
                for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                    let left = redacted(&encoded);
                    assert!(
                        left.contains(MASK) && left.len() < text.len() * 3 / 2,
                        "{text}: {encoded}: {left}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_secret_that_is_cut_or_begins_like_another_leaves_nothing() {
        assert_eq!(redacted("no sk-4711/ä and more"), "no <secret>");
        assert_eq!(redacted("no sk-4711/ä an"), "no <secret>");
        assert_eq!(redacted("no sk-471"), "no <secret>");
        assert_eq!(redacted("abc, and nothing of ours"), "abc, and nothing of ours");
        assert_eq!(redacted(""), "");
    }
}
