//! Drystone's storage engine: objects, versions, parts, stripes, chunks, shards and disks.
//!
//! Two planes. The **metadata plane** (`meta`) says what exists: RocksDB on every disk, replicated
//! by Raft. The **data plane** (`erasure`, `placement`, `disk`, `quorum`) holds the bytes:
//! immutable shards, written first, that mean nothing until a metadata command names them.
//! `put`, `get`, `delete`, `list`, `multipart` and `bucket` join the two, one operation each, and
//! `node` puts it all together behind [`store::ObjectStore`].
//!
//! Nothing here knows HTTP, XML, an S3 header or a policy. Every layout on disk and wire is in
//! FORMAT.md.

mod bucket;
pub mod checksum;
pub mod crash;
mod db;
mod delete;
mod disk;
pub mod env;
mod erasure;
pub mod error;
pub mod fsck;
mod get;
mod list;
pub mod measure;
mod meta;
pub mod model;
mod multipart;
pub mod node;
pub mod operator;
mod placement;
mod put;
mod quorum;
mod quota;
mod repair;
pub mod store;
pub mod types;
