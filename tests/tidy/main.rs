//! The code's own rules, held by tests: who may import whom, how long things get, how comments
//! open, and that the lists of the documents say what is there.
//!
//! It reads the sources as text, in the shape that `cargo fmt` gives them.
#![allow(clippy::unwrap_used)]

mod circles;
mod ids;
mod imports;
mod layers;
mod lengths;
mod lists;
mod names;
mod source;
mod tables;
mod words;

/// Fails with all problems at once, one a line.
fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
