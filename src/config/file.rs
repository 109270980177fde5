//! The configuration file: TOML.

use std::path::Path;

use super::error::Error;
use super::layer::Layer;

/// Reads a file. An error names file and line, never the line's text: it may hold a secret.
pub(super) fn read(path: &Path) -> Result<Layer, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| Error::File {
        path: path.to_owned(),
        line: line_of(&text, error.span().map_or(0, |span| span.start)),
        message: without_value(error.message()).replace('\n', " "),
    })
}

/// Leaves the value out of a message about one of another type: a secret without its quotes is one.
fn without_value(message: &str) -> String {
    let is_of_value = ["invalid type: ", "invalid value: "]
        .iter()
        .any(|start| message.starts_with(start));
    match message.rsplit_once(", expected ") {
        Some((_, "a string")) if is_of_value => "expected a string in quotes".to_owned(),
        Some((_, expected)) if is_of_value => format!("expected {expected}"),
        _ if is_of_value => "the value is not of the type that is expected".to_owned(),
        _ => message.to_owned(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}
