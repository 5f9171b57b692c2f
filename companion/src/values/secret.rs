//! Texts that may be secret: written in the file, or named by an environment variable or a file of their own.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// `"text"`, `{ env = "NAME" }` or `{ file = "/path" }`. Never shown in logs.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    Text(String),
    Env(FromEnv),
    File(FromFile),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromEnv {
    env: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromFile {
    file: PathBuf,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Text(_) => f.write_str("(secret)"),
            Secret::Env(FromEnv { env }) => write!(f, "(from the environment: {env})"),
            Secret::File(FromFile { file }) => write!(f, "(from {})", file.display()),
        }
    }
}

impl Secret {
    /// The text itself. A file's last line break is not part of it.
    ///
    /// # Errors
    /// If the variable is not set, or the file cannot be read.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Secret::Text(text) => Ok(text.clone()),
            Secret::Env(FromEnv { env }) => std::env::var(env).map_err(|_| format!("the variable {env} is not set")),
            Secret::File(FromFile { file }) => match std::fs::read_to_string(file) {
                Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
                Err(error) => Err(format!("cannot read {}: {error}", file.display())),
            },
        }
    }
}
