//! Drystone's storage engine: objects, versions, parts, stripes, chunks, shards and disks.
//!
//! Two planes. The **metadata plane** says what exists (`meta`): RocksDB on every disk, replicated
//! by Raft (`raft`). The **data plane** (`disk`, `shards`) holds the bytes: immutable shards,
//! written first, that mean nothing until a metadata command names them. `workers` keep both whole.
//! `engine` joins the two, one file for each operation, behind the traits of `drystone_store`.
//!
//! Nothing here knows HTTP, XML, an S3 header or a policy. Every layout on disk and wire is in
//! FORMAT.md.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests look at the machine's files, wait and spawn past the environment"
    )
)]

mod db;
mod disk;
pub mod engine;
pub mod fsck;
mod meta;
mod raft;
mod shards;
mod workers;
