//! What an operator asks of the store and tells it, beside the objects.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Serialize;

use crate::error::{Error, Result};

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What is to be done, in sentences; empty when all is well.
    pub advice: Vec<String>,
    pub disks: Vec<DiskStatus>,
    pub heal: HealStatus,
    pub scrub: ScrubStatus,
    /// Buckets that hold more than their soft quotas, up to [`OVER_QUOTA_LEN_MAX`].
    pub over_quota: Vec<OverQuota>,
    /// So many voters of the metadata are here, of so many, of which so many must be; of two
    /// groups of voters, or two sides of a change of voters, those of which fewer are here.
    pub metadata_voters_alive: usize,
    pub metadata_voters: usize,
    pub metadata_quorum: usize,
}

/// A disk that is or was of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskStatus {
    pub id: String,
    pub directory: PathBuf,
    pub state: DiskState,
    /// Why it is not up, as far as this process knows.
    pub reason: Option<String>,
    /// Milliseconds since 1970, UTC: since when it is up, away or gone.
    pub since_ms: i64,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// The disk that took its place.
    pub replaced_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskState {
    Up,
    /// It does not answer, and what it has is not made anew: it may come back.
    Away,
    /// It never comes back.
    Gone,
}

/// The most buckets that a status names.
pub const OVER_QUOTA_LEN_MAX: usize = 1000;

/// A bucket that holds more than its soft quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverQuota {
    pub bucket: String,
    /// Milliseconds since 1970, UTC.
    pub since_ms: i64,
    pub bytes: u64,
    pub objects: u64,
    pub soft_bytes: Option<u64>,
    pub soft_objects: Option<u64>,
}

/// What has less redundancy than it should, and what becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealStatus {
    pub paused: bool,
    pub bytes_per_second: u64,
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
    /// A disk is gone and not all that it had is queued yet.
    pub queueing: bool,
    /// Objects and parts that have fewer shards than their class, for want of disks when they were
    /// written. They are coded again.
    pub narrow_writes: u64,
    /// There are more than these.
    pub narrow_more: bool,
    /// Some of them wait for more disks that are up and have room.
    pub narrow_waiting: bool,
    /// Coded again since the process began.
    pub recoded_writes: u64,
}

/// The pass of scrub that is under way, or the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrubStatus {
    pub paused: bool,
    /// Every shard is read again within this time. 0: never.
    pub period_seconds: u64,
    /// Milliseconds since 1970, UTC.
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
    /// How far it is, by the order of write ids, which are random.
    pub percent: u8,
    pub shards_read: u64,
    pub findings: u64,
}

/// What an operator changes; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepChange {
    pub heal_paused: Option<bool>,
    /// 0: as fast as it goes.
    pub heal_bytes_per_second: Option<u64>,
    /// How long a disk may be away before it is given up. 0: for ever.
    pub gone_after_seconds: Option<u64>,
    pub scrub_paused: Option<bool>,
    pub scrub_period_seconds: Option<u64>,
}

/// Why a disk was not replaced. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    #[error("no disk of the store is or was {0}")]
    Unknown(String),
    #[error("{0} is more than one disk; give more of its id")]
    Ambiguous(String),
    #[error("{} works: only a disk that is away or gone is replaced", .0.display())]
    Works(PathBuf),
    #[error("it was replaced already, by disk {0}")]
    Replaced(String),
    #[error("{0}")]
    Directory(String),
    #[error(transparent)]
    Store(#[from] Error),
}

/// What an operator may do. Implemented by the store, beside
/// [`ObjectStore`](crate::store::ObjectStore).
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    async fn status(&self) -> Result<Status>;

    /// The disk `old`, named by its directory or the beginning of its id, never comes back. The
    /// empty directory `new`, or the old one's, takes its place at once, and what the old one had
    /// is made anew.
    async fn replace_disk(&self, old: &str, new: Option<&Path>)
    -> Result<DiskStatus, ReplaceError>;

    async fn change_upkeep(&self, change: UpkeepChange) -> Result<()>;

    /// Begins to read every shard, now.
    async fn begin_scrub(&self) -> Result<()>;
}
