//! The errors of a configuration.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}:{line}: {message}", path.display())]
    File {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error("{name}: {message}")]
    Variable { name: String, message: String },
    #[error("{0}")]
    Invalid(String),
}

pub fn invalid<T>(message: String) -> Result<T, Error> {
    Err(Error::Invalid(message))
}
