//! Exit codes, and the error message of a verb that failed.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::product;

pub const EXIT_FAILED: u8 = 1;
pub const EXIT_USAGE: u8 = 2;

/// Prints the problem for a person and returns the exit code.
pub fn fail(code: u8, problem: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}: {problem}", product::NAME);
    ExitCode::from(code)
}
