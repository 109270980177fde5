//! Real processes: the server as it is shipped, and the clients that people use.
//!
//! `tests/run.sh` builds the binary, installs the clients and runs this.
#![allow(clippy::unwrap_used)]

mod command_line;
#[allow(dead_code)]
mod s3;
#[allow(dead_code)]
mod server;
