//! The Disk trait.

mod identity;
mod io;
mod local;
mod pending;
mod shard_file;
