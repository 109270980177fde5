//! What an operator asks of the store and tells it, beside the objects.

use async_trait::async_trait;
use serde::Serialize;

use crate::error::Result;

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub heal: HealStatus,
}

/// What has less redundancy than it should, and what becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealStatus {
    pub paused: bool,
    /// Shards in the queue. They may be damaged or missing, or on a disk that is away.
    pub queued_shards: u64,
    /// Objects and parts that have at least one of them.
    pub queued_writes: u64,
    /// There are more than these; counting them all would take too long.
    pub queued_more: bool,
    /// Milliseconds since 1970, UTC: when the one that waits longest was queued.
    pub oldest_ms: Option<i64>,
    /// Of the queued ones: their disks are away and may come back.
    pub waiting_shards: u64,
    /// No disk has room for them that has no other shard of the same object.
    pub no_disk_shards: u64,
    /// Fewer good shards are left of their object than it takes to read it.
    pub lost_shards: u64,
    /// Made anew since the process began.
    pub healed_shards: u64,
    pub healed_bytes: u64,
    /// Tries that failed since the process began.
    pub failures: u64,
}

/// What an operator may do. Implemented by the store, beside
/// [`ObjectStore`](crate::store::ObjectStore).
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    async fn status(&self) -> Result<Status>;
}
