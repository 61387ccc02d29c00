//! A value from the environment or a file that nothing prints.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Larger files are no secrets.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Where a value comes from. `Debug` shows the place and never the value; there is no `Display`.
#[derive(Clone)]
pub enum Secret {
    /// Written in the configuration itself. Not shown in clear either.
    Inline(String),
    Env {
        name: String,
        value: String,
    },
    File {
        path: PathBuf,
        value: String,
    },
}

/// Two from the same file are the same: what is in it is read again before it is used.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(one), Self::Inline(other)) => one == other,
            (
                Self::Env { name, value },
                Self::Env {
                    name: other,
                    value: of_other,
                },
            ) => name == other && value == of_other,
            (Self::File { path, .. }, Self::File { path: other, .. }) => path == other,
            _ => false,
        }
    }
}

impl Secret {
    /// Whether it may be another one the next time it is read.
    pub const fn is_on_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// Reads the file again; whether it holds another value now. On an error the value stays; it names the file.
    pub fn reread(&mut self) -> Result<bool, String> {
        let Self::File { path, value } = self else {
            return Ok(false);
        };
        let read = Self::from_file(path).map_err(|what| format!("{} {what}", path.display()))?;
        let has_changed = read.expose() != value;
        *self = read;
        Ok(has_changed)
    }

    /// The value, to be put into a header and nowhere else.
    pub fn expose(&self) -> &str {
        match self {
            Self::Inline(value) | Self::Env { value, .. } | Self::File { value, .. } => value,
        }
    }

    /// Reads an environment variable. The error is in words and holds no value; it does not even hold the name
    /// when that looks like the secret itself, put where its name belongs.
    pub fn from_env(name: &str) -> Result<Self, String> {
        let is_name = |text: &str| {
            text.chars()
                .all(|c| c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit())
        };
        let shown = match name {
            "" => return Err("the name of the environment variable is empty".to_owned()),
            _ if name.contains(['=', '\0']) => {
                return Err("that is no name of an environment variable".to_owned());
            }
            _ if is_name(name) && !looks_secret(name) => format!("environment variable {name}"),
            _ => "the environment variable of that name (not shown, as it is not in capitals)".to_owned(),
        };
        match std::env::var(name) {
            Ok(value) if value.is_empty() => Err(format!("{shown} is empty")),
            Ok(value) => Ok(Self::Env {
                name: name.to_owned(),
                value,
            }),
            Err(std::env::VarError::NotPresent) => Err(format!("{shown} is not set")),
            Err(std::env::VarError::NotUnicode(_)) => Err(format!("{shown} is not valid UTF-8")),
        }
    }

    /// Reads a file; white space at its end is not part of the value. The error does not repeat the path.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > MAX_SECRET_BYTES {
            return Err("is larger than 64 KiB".to_owned());
        }
        let text = String::from_utf8(bytes).map_err(|_| "is not valid UTF-8".to_owned())?;
        match text.trim_end() {
            "" => Err("is empty".to_owned()),
            value => Ok(Self::File {
                path: path.to_owned(),
                value: value.to_owned(),
            }),
        }
    }
}

/// Whether text looks like a credential that was written where none belongs: the prefixes that vendors give their
/// keys, an `Authorization` value, a URL with a user or query in it, or one long run of letters and digits.
pub(super) fn looks_secret(text: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "sk-",
        "sk_",
        "pk-",
        "hf_",
        "gsk_",
        "xai-",
        "nvapi-",
        "r8_",
        "ghp_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "AIza",
        "AKIA",
        "eyJ",
    ];
    let has_user = text
        .split_once('@')
        .is_some_and(|(user, _)| user.contains(':') || user.contains("//"));
    let has_query = text.split_once("//").is_some_and(|(_, rest)| rest.contains('?'));
    let lower = text.to_ascii_lowercase();
    let is_header = ["bearer ", "basic "]
        .iter()
        .any(|scheme| lower.starts_with(scheme));
    let is_part = |c: char| c == '-' || c == '_' || c.is_ascii_alphanumeric();
    let has_prefix = text.split(|c: char| !is_part(c)).any(|word| {
        let word = word.trim_start_matches(['-', '_']);
        PREFIXES.iter().any(|prefix| word.starts_with(prefix))
    });
    let long_run = |run: &str| {
        run.len() >= 24
            && run.bytes().any(|b| b.is_ascii_digit())
            && run.bytes().any(|b| b.is_ascii_alphabetic())
    };
    let has_run = text.split(|c: char| !c.is_ascii_alphanumeric()).any(long_run);
    has_user || has_query || is_header || has_prefix || has_run
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => out.write_str("Secret(inline)"),
            Self::Env { name, .. } => write!(out, "Secret(env {name})"),
            Self::File { path, .. } => write!(out, "Secret(file {})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_place_and_not_the_value() {
        let secrets = [
            Secret::Inline("hunter2".into()),
            Secret::Env {
                name: "KEY".into(),
                value: "hunter2".into(),
            },
            Secret::File {
                path: "/run/key".into(),
                value: "hunter2".into(),
            },
        ];
        for secret in secrets {
            let shown = format!("{secret:?} {secret:#?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn credentials_are_recognised_where_they_do_not_belong() {
        for secret in [
            "sk-proj-abc",
            "{ value sk-abc }",
            "Bearer x",
            "https://user:pw@host/v1",
            "https://host/v1?key=1",
            "me:pw@host",
            "--sk-abc",
            "0123456789abcdef0123456789abcdef",
            "/etc/llm/hf_abc",
        ] {
            assert!(looks_secret(secret), "{secret}");
        }
        for harmless in [
            "http://localhost:11434/v1",
            "granite4:350m",
            "meta-llama/Llama-3.1-8B-Instruct",
            "OPENAI_API_KEY",
            "/run/secrets/openai",
            "task-1",
            "Why? Because.",
            "sre@example.com",
        ] {
            assert!(!looks_secret(harmless), "{harmless}");
        }
    }

    #[test]
    fn a_secret_in_place_of_its_name_is_not_repeated() {
        for planted in ["hunter2", "sk-hunter2", "hunter2=x"] {
            let error = Secret::from_env(planted).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = Secret::from_file(Path::new("/nowhere/hunter2")).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_file_must_be_readable_text_of_some_length() {
        let directory =
            std::env::temp_dir().join(format!("llm-probe-exporter-secret-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("key");
        for (bytes, expected) in [
            (&b"hunter2 \n"[..], Ok("hunter2")),
            (b" \n", Err("is empty")),
            (b"\xff\xfe", Err("is not valid UTF-8")),
            (&vec![b'x'; 70_000], Err("is larger than 64 KiB")),
        ] {
            std::fs::write(&path, bytes).unwrap();
            match (Secret::from_file(&path), expected) {
                (Ok(secret), Ok(value)) => assert_eq!(secret.expose(), value),
                (Err(error), Err(part)) => assert!(error.ends_with(part), "{error}"),
                (other, _) => panic!("{other:?}"),
            }
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
