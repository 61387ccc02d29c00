//! A value from the environment or a file that nothing prints.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where a value comes from. `Debug` shows the place and never the value; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
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

impl Secret {
    /// The value, to be put into a header and nowhere else.
    pub fn expose(&self) -> &str {
        match self {
            Self::Inline(value) | Self::Env { value, .. } | Self::File { value, .. } => value,
        }
    }

    /// Reads an environment variable. The error is in words and holds no value.
    pub fn from_env(name: &str) -> Result<Self, String> {
        match std::env::var(name) {
            Ok(value) if value.is_empty() => Err(format!("environment variable {name} is empty")),
            Ok(value) => Ok(Self::Env {
                name: name.to_owned(),
                value,
            }),
            Err(std::env::VarError::NotPresent) => Err(format!("environment variable {name} is not set")),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(format!("environment variable {name} is not valid UTF-8"))
            }
        }
    }

    /// Reads a file; white space at its end is not part of the value.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let bytes =
            std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{} is not valid UTF-8", path.display()))?;
        match text.trim_end() {
            "" => Err(format!("{} is empty", path.display())),
            value => Ok(Self::File {
                path: path.to_owned(),
                value: value.to_owned(),
            }),
        }
    }
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
}
