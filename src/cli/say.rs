//! The standard output of a verb.
//!
//! The standard library's `println!` panics when nobody reads any more, as in `fsck … | head`.

use std::fmt;
use std::io::{self, Write as _};
use std::process::exit;

use crate::product;

/// The exit code by which a shell reports a broken pipe: 128 and SIGPIPE's number.
const EXIT_UNREAD: i32 = 128 + 13;
/// The exit code of an input or output error in sysexits.h. No verb gives it another meaning.
const EXIT_UNWRITTEN: i32 = 74;

/// Writes a line, as `println!` does.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::cli::say::line(format_args!($($argument)*))
    };
}
pub(super) use say;

/// Ends the process if it cannot be written: a command that only prints has nothing else to do.
pub(super) fn line(line: fmt::Arguments<'_>) {
    let Err(error) = writeln!(io::stdout(), "{line}") else {
        return;
    };
    if error.kind() == io::ErrorKind::BrokenPipe {
        exit(EXIT_UNREAD);
    }
    let _ = writeln!(io::stderr(), "{}: standard output: {error}", product::NAME);
    exit(EXIT_UNWRITTEN);
}
