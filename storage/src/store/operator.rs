//! The operator's view of a store: its state, its settings and its workers.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::workers::Runner;

/// The state of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Sentences that say what to do; empty when all is well.
    pub advice: Vec<String>,
    pub disks: Vec<DiskStatus>,
    pub redundancy: Redundancy,
    pub heal: HealStatus,
    pub scrub: ScrubStatus,
    /// Buckets beyond their soft quotas, at most [`OVER_QUOTA_LEN_MAX`].
    pub over_quota: Vec<OverQuota>,
    /// The number of voters of the metadata that are online, of all of them, and of those that must
    /// be online. Of two groups of voters, or two sides of a change of voters, these are the
    /// numbers of the one with fewer voters online.
    pub metadata_voters_alive: usize,
    pub metadata_voters: usize,
    pub metadata_quorum: usize,
}

/// How many more disks may be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redundancy {
    /// The number of further disks that may be lost at once while every object that can be read now
    /// can be read. `None`: the objects were not counted yet.
    pub reads_survive: Option<u64>,
    /// The number of further disks that may be lost at once while writes are accepted.
    pub writes_survive: u64,
    /// The number of further disks that may be lost at once while the metadata continue.
    pub metadata_survives: u64,
    /// Objects and parts that have too few good shards on disks that are up.
    pub unreadable_writes: Option<u64>,
    /// Milliseconds since 1970, UTC: when the objects were counted last.
    pub counted_ms: Option<i64>,
    /// They were counted with the disks that are up now. Otherwise `reads_survive` is the least
    /// that it can be.
    pub is_exact: bool,
}

/// A disk that is or was part of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskStatus {
    pub id: String,
    pub directory: PathBuf,
    pub state: DiskState,
    /// The reason why it is not up, as far as this process knows.
    pub reason: Option<String>,
    /// Milliseconds since 1970, UTC: since when it has this state.
    pub since_ms: i64,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// The disk in its place.
    pub replaced_by: Option<String>,
    /// It can be taken out for good now: every object can be read without it, and writes go on.
    /// False also while that is not known.
    pub can_be_taken_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskState {
    Up,
    /// It does not answer. It may come back, so its shards are not rebuilt.
    Offline,
    /// It never comes back.
    Removed,
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

/// The heal queue and the undersized writes, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealStatus {
    pub paused: bool,
    /// 0: no limit.
    pub bytes_per_second: u64,
    /// Shards in the queue. They may be damaged, missing, or on a disk that is offline.
    pub queued_shards: u64,
    /// Objects and parts that have at least one of them.
    pub queued_writes: u64,
    /// There are more than these; counting them all would take too long.
    pub queued_more: bool,
    /// Milliseconds since 1970, UTC: when the shard that waits longest was queued.
    pub oldest_ms: Option<i64>,
    /// Queued shards whose disks are offline and may come back.
    pub waiting_shards: u64,
    /// Queued shards for which no disk has room that has no other shard of the same object.
    pub no_disk_shards: u64,
    /// Queued shards of objects that have fewer good shards than it takes to read them.
    pub lost_shards: u64,
    /// Shards rebuilt since the process began, and their bytes.
    pub healed_shards: u64,
    pub healed_bytes: u64,
    /// Tries that failed since the process began.
    pub failures: u64,
    /// A disk was removed and not everything that it had is queued yet.
    pub queueing: bool,
    /// Objects and parts that have fewer shards than their class, for want of disks when they were
    /// written. They will be re-encoded.
    pub undersized_writes: u64,
    /// There are more than these.
    pub undersized_more: bool,
    /// Some of them wait for more disks that are up and have room.
    pub undersized_waiting: bool,
    /// Objects and parts re-encoded since the process began.
    pub reencoded_writes: u64,
}

/// The pass of scrub that is in progress, or the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrubStatus {
    pub paused: bool,
    /// Every shard is read again within this time. 0: never.
    pub period_seconds: u64,
    /// Milliseconds since 1970, UTC.
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
    /// The progress, by the order of write ids, which are random.
    pub percent: u8,
    pub shards_read: u64,
    pub findings: u64,
    /// Shards that this pass could not look at, because their disks are offline or do not answer,
    /// as far as this process had a part in it.
    pub shards_unread: u64,
    /// The disks whose metadata and files it could not look at.
    pub disks_unread: u64,
}

/// Settings that an operator changes. Those that are `None` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepChange {
    pub heal_paused: Option<bool>,
    /// 0: no limit.
    pub heal_bytes_per_second: Option<u64>,
    /// How long a disk may be offline before it is removed. 0: forever.
    pub remove_after_seconds: Option<u64>,
    pub scrub_paused: Option<bool>,
    pub scrub_period_seconds: Option<u64>,
}

/// The reason why a disk was not replaced. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    #[error("{0} is not and was not a disk of the store")]
    Unknown(String),
    #[error("{0} is more than one disk; give more of its id")]
    Ambiguous(String),
    #[error("{} works: only an offline or removed disk can be replaced", .0.display())]
    Works(PathBuf),
    #[error("it was replaced already, by disk {0}")]
    Replaced(String),
    #[error("{0}")]
    Directory(String),
    #[error(transparent)]
    Store(#[from] Error),
}

/// The actions of an operator. Implemented by the store, beside
/// [`ObjectStore`](crate::ObjectStore).
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    async fn status(&self) -> Result<Status>;

    /// Removes the disk `old`, named by its directory or the beginning of its id, for good. The
    /// empty directory `new`, or the old one's, becomes its successor at once, and its shards are
    /// rebuilt.
    async fn replace_disk(&self, old: &str, new: Option<&Path>)
    -> Result<DiskStatus, ReplaceError>;

    async fn change_upkeep(&self, change: UpkeepChange) -> Result<()>;

    /// Begins to read every shard, now.
    async fn begin_scrub(&self) -> Result<()>;

    /// The store's workers. Others may add theirs; all of them stop before the store closes.
    fn workers(&self) -> &Runner;
}
