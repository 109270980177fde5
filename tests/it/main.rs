//! Real processes: the server as it is shipped, and the clients that people use.
//!
//! `tests/run.sh` builds the binary, installs the clients and runs this.
#![allow(clippy::unwrap_used)]

mod bench;
mod clients;
mod command_line;
mod crash;
mod fsck;
mod lost_disks;
mod s3;
mod server;
mod starting;
