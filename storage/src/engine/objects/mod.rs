//! The operations on buckets, objects and uploads. Each joins metadata and shards.

mod bucket;
mod delete;
mod get;
mod list;
mod multipart;
mod put;
