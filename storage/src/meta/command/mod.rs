//! The commands that go through a metadata group's log.
//!
//! A command carries its time, its ids and its preconditions, so that every replica decides it
//! alike. The state machine answers each with a `Reply` or a `Refusal` and keeps the answer for
//! some minutes, so a repeated `request` gets the same answer again. After that a repetition is
//! refused.
//!
//! A command in the log is a record with a version, like a row. Its bytes, and with them the order
//! of all variants of the enums in it, are pinned by tests: a change of a type that is embedded
//! here needs a new version of the command.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use drystone_store::crash::CommandKind;
use drystone_store::error::Refusal;
use drystone_store::objects::{Deleted, WriteCondition};
use drystone_store::shard_set::{ShardAt, ShardId, ShardSet, eight_bytes};
use drystone_store::types::{
    Account, AccountId, Attributes, BucketId, BucketSetting, Checksum, ChecksumAlgorithm,
    ChecksumType, Digest, DiskId, ETag, Epoch, QuotaChange, Tags, Timestamp, UploadId, VersionId,
    Versioning, WriteId,
};

/// A change as it goes through the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Names this command; a retry carries the same one.
    pub request: WriteId,
    /// The epoch in which the request began. A command below the group's floor is refused.
    pub epoch: Epoch,
    /// The epoch in which the command was made, after everything that it names was written. The
    /// answer is kept for it. A command whose answer may be dropped already is refused.
    pub issued: Epoch,
    pub time: Timestamp,
    pub change: Change,
}

/// The change that a command makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    // Group 0: the system.
    /// Inserts the account or replaces its names.
    PutAccount(Account),
    /// First step of a bucket's creation: reserves the name and gives the bucket its id.
    ReserveBucket {
        name: String,
        owner: AccountId,
    },
    /// Last step of a bucket's creation: the name is active.
    ActivateBucket {
        name: String,
        id: BucketId,
    },
    /// Last step of a bucket's deletion, or the end of a creation that failed: the name is free.
    ReleaseBucket {
        name: String,
        id: BucketId,
    },
    /// Marks these disks as up, in these directories. A removed disk stays removed.
    RegisterDisks {
        disks: Vec<(DiskId, String)>,
    },
    /// Marks a disk that does not answer as offline. It may come back.
    MarkOffline {
        disk: DiskId,
    },
    /// Marks the old disk as removed, and adds the new one, if there is one, to the store. Refused
    /// if the old disk was never known, or the new one is known already for another reason.
    ReplaceDisk {
        old: DiskId,
        new: Option<(DiskId, String)>,
    },
    SetUpkeep(SettingsChange),

    // Object groups: a bucket and everything that decides about its objects.
    /// Second step of a bucket's creation.
    CreateBucket {
        id: BucketId,
        name: String,
        owner: AccountId,
        location: String,
        settings: Vec<(BucketSetting, Vec<u8>)>,
    },
    /// First step of a bucket's deletion: refused if the bucket has a version of any key;
    /// afterwards every command and read of the bucket finds `NoSuchBucket`. Unfinished uploads go
    /// with it.
    SealBucket {
        id: BucketId,
    },
    /// Removes about `max` rows of a sealed bucket. Answers whether any are left.
    EmptyBucket {
        id: BucketId,
        max: u32,
    },
    SetVersioning {
        bucket: BucketId,
        versioning: Versioning,
    },
    PutBucketSetting {
        bucket: BucketId,
        setting: BucketSetting,
        document: Option<Vec<u8>>,
    },
    SetQuota {
        bucket: BucketId,
        change: QuotaChange,
    },

    PutObject {
        bucket: BucketId,
        key: String,
        attributes: Attributes,
        condition: WriteCondition,
        data: NewData,
        digest: Digest,
        /// Makes the version's id unguessable.
        nonce: u64,
    },
    /// Adds a version that shares the bytes of `source`, and has its checksum unless that is one of
    /// parts.
    LinkObject {
        bucket: BucketId,
        key: String,
        attributes: Attributes,
        condition: WriteCondition,
        source: WriteId,
        size: u64,
        etag: ETag,
        checksum: Option<Checksum>,
        nonce: u64,
    },
    DeleteObjects {
        bucket: BucketId,
        keys: Vec<DeleteKey>,
    },
    /// Replaces a version's tags. `version`: `None` means the latest.
    PutTags {
        bucket: BucketId,
        key: String,
        version: Option<VersionId>,
        tags: Tags,
    },

    CreateUpload {
        bucket: BucketId,
        key: String,
        upload: UploadId,
        attributes: Attributes,
        checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    },
    PutPart {
        bucket: BucketId,
        key: String,
        upload: UploadId,
        number: u16,
        data: NewData,
        digest: Digest,
    },
    CompleteUpload {
        bucket: BucketId,
        key: String,
        upload: UploadId,
        /// Ascending by number. The bytes must still be the ones the proposer saw.
        parts: Vec<ChosenPart>,
        /// Computed by the proposer from exactly these parts.
        etag: ETag,
        checksum: Option<Checksum>,
        condition: WriteCondition,
        nonce: u64,
    },
    AbortUpload {
        bucket: BucketId,
        key: String,
        upload: UploadId,
    },

    // Every group: its own upkeep.
    /// Raises the epoch to `to` if it is lower.
    RaiseEpoch {
        to: Epoch,
    },
    /// Raises the floor to `to`, if it is lower and `to` is not above the epoch.
    RaiseFloor {
        to: Epoch,
    },
    /// Drops the answers to commands that were issued below `issued_below`, if that is not above
    /// the epoch, and at most `max` outcomes of uploads that were finished more than
    /// `finished_ms` milliseconds before the group's clock.
    DropAnswers {
        issued_below: Epoch,
        finished_ms: u64,
        max: u32,
    },
    /// Removes garbage rows. Their shards are removed from all disks that could be reached; the
    /// other disks have them in their own lists.
    ForgetGarbage {
        entries: Vec<(Epoch, WriteId)>,
    },
    /// Queues damaged or missing shards that a reader has met.
    QueueHeal {
        entries: Vec<ShardId>,
    },

    // Object groups: what heal and scrub change.
    /// Names a rebuilt shard in place of the old one. Refused unless the row still has the old one.
    SwapShard(ShardSwap),
    /// Removes shards from the heal queue that turned out to be whole.
    SettleHeals {
        entries: Vec<(ShardId, ShardAt)>,
    },
    /// Marks a disk that never comes back as removed. Later writes queue their shards on it for
    /// heal.
    RemoveDisk {
        disk: DiskId,
    },
    /// Checks the next `max` data rows and queues their shards on a removed disk.
    QueueDisk {
        disk: DiskId,
        max: u32,
    },
    /// Records the progress of scrub.
    NoteScrub(ScrubState),
    /// Names a whole new set of shards in place of an undersized one. Refused unless the row still
    /// has the old shards.
    ReencodeData(Reencoding),

    // Object groups: their own upkeep.
    /// Removes at most `max` parts of a part list that is garbage of that epoch, below the floor,
    /// and with the last of them the garbage row. What only the parts named becomes garbage of the
    /// present epoch. Answers whether parts are left.
    ReleaseParts {
        epoch: Epoch,
        list: WriteId,
        max: u32,
    },
}

/// The settings of the store's upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpkeepSettings {
    /// A disk that is offline for longer is removed, if there is room to rebuild its shards. 0:
    /// never.
    pub remove_after_seconds: u64,
    pub heal_paused: bool,
    /// 0: unlimited.
    pub heal_bytes_per_second: u64,
    pub scrub_paused: bool,
    /// Every shard is read again within this time. 0: never.
    pub scrub_period_seconds: u64,
}

impl UpkeepSettings {
    /// The longest time that is used, because clocks overflow.
    const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

    pub fn remove_after(&self) -> Duration {
        Duration::from_secs(self.remove_after_seconds.min(Self::SECONDS_MAX))
    }

    pub fn scrub_period(&self) -> Duration {
        Duration::from_secs(self.scrub_period_seconds.min(Self::SECONDS_MAX))
    }
}

impl Default for UpkeepSettings {
    fn default() -> UpkeepSettings {
        UpkeepSettings {
            remove_after_seconds: 3600,
            heal_paused: false,
            heal_bytes_per_second: 0,
            scrub_paused: false,
            scrub_period_seconds: 14 * 24 * 3600,
        }
    }
}

/// A change of the upkeep's settings. `None` keeps a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsChange {
    pub remove_after_seconds: Option<u64>,
    pub heal_paused: Option<bool>,
    pub heal_bytes_per_second: Option<u64>,
    pub scrub_paused: Option<bool>,
    pub scrub_period_seconds: Option<u64>,
}

impl UpkeepSettings {
    pub fn changed(self, change: SettingsChange) -> UpkeepSettings {
        UpkeepSettings {
            remove_after_seconds: change
                .remove_after_seconds
                .unwrap_or(self.remove_after_seconds),
            heal_paused: change.heal_paused.unwrap_or(self.heal_paused),
            heal_bytes_per_second: change
                .heal_bytes_per_second
                .unwrap_or(self.heal_bytes_per_second),
            scrub_paused: change.scrub_paused.unwrap_or(self.scrub_paused),
            scrub_period_seconds: change
                .scrub_period_seconds
                .unwrap_or(self.scrub_period_seconds),
        }
    }
}

/// One pass of scrub over all data rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    pub started: Timestamp,
    /// The last row whose shards were read.
    pub after: Option<WriteId>,
    /// The number of shards read in this pass.
    pub shards: u64,
    /// The number of them that were damaged or missing.
    pub findings: u64,
    pub finished: Option<Timestamp>,
}

/// The replacement of one shard by a rebuilt one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSwap {
    pub write_id: WriteId,
    pub rank: u8,
    pub from: ShardAt,
    pub to: ShardAt,
    /// The checksum of the new shard's file. Its payload is the old one's.
    #[serde(with = "eight_bytes")]
    pub checksum: u64,
}

/// The replacement of all shards of a write that was re-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reencoding {
    pub write_id: WriteId,
    /// All shards of the old set, by rank.
    pub from: Vec<ShardAt>,
    /// `None`: the old set has as many shards as its class has now, and stays.
    pub to: Option<ShardSet>,
}

impl Change {
    pub fn kind(&self) -> CommandKind {
        match self {
            Change::PutAccount(_) => CommandKind::PutAccount,
            Change::ReserveBucket { .. } => CommandKind::ReserveBucket,
            Change::ActivateBucket { .. } => CommandKind::ActivateBucket,
            Change::ReleaseBucket { .. } => CommandKind::ReleaseBucket,
            Change::RegisterDisks { .. } => CommandKind::RegisterDisks,
            Change::MarkOffline { .. } => CommandKind::MarkOffline,
            Change::ReplaceDisk { .. } => CommandKind::ReplaceDisk,
            Change::SetUpkeep(_) => CommandKind::SetUpkeep,
            Change::CreateBucket { .. } => CommandKind::CreateBucket,
            Change::SealBucket { .. } => CommandKind::SealBucket,
            Change::EmptyBucket { .. } => CommandKind::EmptyBucket,
            Change::SetVersioning { .. } => CommandKind::SetVersioning,
            Change::PutBucketSetting { .. } => CommandKind::PutBucketSetting,
            Change::SetQuota { .. } => CommandKind::SetQuota,
            Change::PutObject { .. } => CommandKind::PutObject,
            Change::LinkObject { .. } => CommandKind::LinkObject,
            Change::DeleteObjects { .. } => CommandKind::DeleteObjects,
            Change::PutTags { .. } => CommandKind::PutTags,
            Change::CreateUpload { .. } => CommandKind::CreateUpload,
            Change::PutPart { .. } => CommandKind::PutPart,
            Change::CompleteUpload { .. } => CommandKind::CompleteUpload,
            Change::AbortUpload { .. } => CommandKind::AbortUpload,
            Change::RaiseEpoch { .. } => CommandKind::RaiseEpoch,
            Change::RaiseFloor { .. } => CommandKind::RaiseFloor,
            Change::DropAnswers { .. } => CommandKind::DropAnswers,
            Change::ForgetGarbage { .. } => CommandKind::ForgetGarbage,
            Change::QueueHeal { .. } => CommandKind::QueueHeal,
            Change::SwapShard(_) => CommandKind::SwapShard,
            Change::SettleHeals { .. } => CommandKind::SettleHeals,
            Change::RemoveDisk { .. } => CommandKind::RemoveDisk,
            Change::QueueDisk { .. } => CommandKind::QueueDisk,
            Change::NoteScrub(_) => CommandKind::NoteScrub,
            Change::ReencodeData(_) => CommandKind::ReencodeData,
            Change::ReleaseParts { .. } => CommandKind::ReleaseParts,
        }
    }

    /// Returns the bucket whose usage this change may affect.
    pub fn counts_in(&self) -> Option<BucketId> {
        match self {
            Change::PutObject { bucket, .. }
            | Change::LinkObject { bucket, .. }
            | Change::DeleteObjects { bucket, .. }
            | Change::PutPart { bucket, .. }
            | Change::CompleteUpload { bucket, .. }
            | Change::AbortUpload { bucket, .. } => Some(*bucket),
            _ => None,
        }
    }
}

/// Bytes that were written for this command and that no row names yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewData {
    pub write_id: WriteId,
    pub size: u64,
    pub location: Location,
}

/// The location of a write id's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// In the command itself, and then in the group's table of values.
    Inline(#[serde(with = "serde_bytes_vec")] Vec<u8>),
    Shards(ShardSet),
}

/// One key of a `DeleteObjects`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteKey {
    pub key: String,
    /// `None`: the latest, with a delete marker if the bucket keeps versions.
    pub version: Option<VersionId>,
    pub condition: WriteCondition,
    pub nonce: u64,
}

/// A part that a `CompleteUpload` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenPart {
    pub number: u16,
    pub write_id: WriteId,
    pub size: u64,
}

/// The state machine's answer to a command.
pub type Outcome = Result<Reply, Refusal>;

/// The answer to a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// To `ReserveBucket`.
    Reserved {
        id: BucketId,
    },
    /// To `EmptyBucket` and `ReleaseParts`.
    Emptied {
        more: bool,
    },
    /// To `PutObject`, `LinkObject` and `CompleteUpload`; `version_id` is `None` in a bucket that
    /// never was versioned.
    Written {
        version_id: Option<VersionId>,
        etag: ETag,
        size: u64,
        checksum: Option<Checksum>,
        modified: Timestamp,
    },
    /// To `DeleteObjects`, in its order.
    Deleted(Vec<Result<Deleted, Refusal>>),
    /// To `PutTags`: the version that was changed.
    Tagged {
        version_id: Option<VersionId>,
    },
    /// To `CreateUpload` and `PutPart`: the time of the change.
    Timed {
        time: Timestamp,
    },
    /// To `DropAnswers`: whether outcomes of uploads are left to drop.
    Dropped {
        more: bool,
    },
    /// To `RaiseEpoch` and `RaiseFloor`: the current epoch and floor.
    Epochs {
        epoch: Epoch,
        floor: Epoch,
    },
    /// To `QueueDisk`: the number of shards that were queued, and whether rows are left to check.
    Queued {
        shards: u32,
        more: bool,
    },
}

/// Encodes a byte vector as one run of bytes.
mod serde_bytes_vec {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(d).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests;
