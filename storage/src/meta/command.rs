//! What can be asked of a metadata group: the commands that go through its log.
//!
//! A command carries its time, its ids and its preconditions, so that every replica decides it
//! alike. The state machine answers each with a `Reply` or a `Refusal` and keeps the answer until
//! the command's epoch falls below the floor, so a repeated `request` gets the same answer again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use drystone_store::crash::CommandKind;
use drystone_store::error::Refusal;
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::store::{Deleted, WriteCondition};
use drystone_store::types::{
    Account, AccountId, Attributes, BucketId, BucketSetting, Checksum, ChecksumAlgorithm,
    ChecksumType, Digest, DiskId, ETag, Epoch, QuotaChange, Tags, Timestamp, UploadId, VersionId,
    Versioning, WriteId,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Names this command; a retry carries the same one.
    pub request: WriteId,
    /// The epoch the request began in. Below the group's floor it is refused.
    pub epoch: Epoch,
    pub time: Timestamp,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    // Group 0: the system.
    /// Inserts the account or replaces its names.
    PutAccount(Account),
    /// First step of a bucket's creation: takes the name and gives the bucket its id.
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
    /// These disks are here, in these directories. What is gone stays gone.
    RegisterDisks {
        disks: Vec<(DiskId, String)>,
    },
    /// The disk does not answer and may come back.
    MarkAway {
        disk: DiskId,
    },
    /// The old disk never comes back; the new one, where there is one, is of the store from now
    /// on. Refused if the old one was never known or the new one is known otherwise.
    ReplaceDisk {
        old: DiskId,
        new: Option<(DiskId, String)>,
    },
    SetUpkeep(UpkeepSettings),

    // Object groups: a bucket and all that decides about its objects.
    /// Second step of a bucket's creation.
    CreateBucket {
        id: BucketId,
        name: String,
        owner: AccountId,
        location: String,
        settings: Vec<(BucketSetting, Vec<u8>)>,
    },
    /// First step of a bucket's deletion: refused unless the bucket is empty; afterwards every
    /// command and read of the bucket finds `NoSuchBucket`.
    SealBucket {
        id: BucketId,
    },
    /// Removes up to `max` rows of a sealed bucket. Answers whether any are left.
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
    /// A new version that shares the bytes of `source`.
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
    /// `version`: `None` means the latest.
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
    /// Raises the epoch to `to` if it is below.
    RaiseEpoch {
        to: Epoch,
    },
    /// Raises the floor to `to` if it is below and not above the epoch; old answers are dropped.
    RaiseFloor {
        to: Epoch,
    },
    /// The shards of these garbage rows are gone from the disks that could be reached; what could
    /// not is in those disks' own lists.
    ForgetGarbage {
        entries: Vec<(Epoch, WriteId)>,
    },
    /// A reader met a damaged or missing shard.
    QueueHeal {
        entries: Vec<HealEntry>,
    },

    // Object groups: what heal and scrub change.
    /// Names a shard that was made anew in place of the old one. Refused unless the row still has
    /// the old one.
    SwapShard(Swap),
    /// These shards were queued and turned out to be whole where they are.
    SettleHeals {
        entries: Vec<(HealEntry, ShardAt)>,
    },
    /// The disk never comes back: what is committed with a shard on it owes that one to heal.
    ExpelDisk {
        disk: DiskId,
    },
    /// Looks at the next `max` data rows and queues what they have on an expelled disk.
    QueueDisk {
        disk: DiskId,
        max: u32,
    },
    /// How far scrub is.
    NoteScrub(ScrubState),
    /// Names a whole new set of shards in place of one that was narrower than its class. Refused
    /// unless the row still has the old ones.
    RecodeData(Recode),
}

/// How the store keeps itself up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpkeepSettings {
    /// A disk that is away for longer is given up, if there is room to make its shards anew.
    /// 0: never.
    pub gone_after_seconds: u64,
    pub heal_paused: bool,
    /// 0: as fast as it goes.
    pub heal_bytes_per_second: u64,
    pub scrub_paused: bool,
    /// Every shard is read again within this time. 0: never.
    pub scrub_period_seconds: u64,
}

impl UpkeepSettings {
    /// No time to wait is taken for longer: clocks overflow at some end.
    const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

    pub fn gone_after(&self) -> Duration {
        Duration::from_secs(self.gone_after_seconds.min(Self::SECONDS_MAX))
    }

    pub fn scrub_period(&self) -> Duration {
        Duration::from_secs(self.scrub_period_seconds.min(Self::SECONDS_MAX))
    }
}

impl Default for UpkeepSettings {
    fn default() -> UpkeepSettings {
        UpkeepSettings {
            gone_after_seconds: 3600,
            heal_paused: false,
            heal_bytes_per_second: 0,
            scrub_paused: false,
            scrub_period_seconds: 14 * 24 * 3600,
        }
    }
}

/// One pass of scrub over all data rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    pub started: Timestamp,
    /// The last row whose shards were read.
    pub after: Option<WriteId>,
    /// Shards read in this pass, and how many of them were not what they should be.
    pub shards: u64,
    pub findings: u64,
    pub finished: Option<Timestamp>,
}

/// One shard made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    pub write_id: WriteId,
    pub rank: u8,
    pub from: ShardAt,
    pub to: ShardAt,
    /// Of the new one.
    pub checksum: u64,
}

/// A write coded again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recode {
    pub write_id: WriteId,
    /// All of the old set, by rank.
    pub from: Vec<ShardAt>,
    /// `None`: the old set is as wide as its class is now, and stays.
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
            Change::MarkAway { .. } => CommandKind::MarkAway,
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
            Change::ForgetGarbage { .. } => CommandKind::ForgetGarbage,
            Change::QueueHeal { .. } => CommandKind::QueueHeal,
            Change::SwapShard(_) => CommandKind::SwapShard,
            Change::SettleHeals { .. } => CommandKind::SettleHeals,
            Change::ExpelDisk { .. } => CommandKind::ExpelDisk,
            Change::QueueDisk { .. } => CommandKind::QueueDisk,
            Change::NoteScrub(_) => CommandKind::NoteScrub,
            Change::RecodeData(_) => CommandKind::RecodeData,
        }
    }

    /// The bucket whose usage this may change.
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

/// Bytes that were written for this command and are named by nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewData {
    pub write_id: WriteId,
    pub size: u64,
    pub place: Place,
}

/// Where the bytes of a write id are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the command itself, and then in the group's table of values.
    Inline(#[serde(with = "serde_bytes_vec")] Vec<u8>),
    Shards(ShardSet),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteKey {
    pub key: String,
    /// `None`: the latest, by a marker where the bucket keeps versions.
    pub version: Option<VersionId>,
    pub condition: WriteCondition,
    pub nonce: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenPart {
    pub number: u16,
    pub write_id: WriteId,
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HealEntry {
    pub write_id: WriteId,
    pub rank: u8,
}

/// What the state machine answers.
pub type Outcome = Result<Reply, Refusal>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// To `ReserveBucket`.
    Reserved {
        id: BucketId,
    },
    /// To `EmptyBucket`.
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
    /// To `PutTags`: the version it met.
    Tagged {
        version_id: Option<VersionId>,
    },
    /// To `RaiseEpoch` and `RaiseFloor`: what holds now.
    Epochs {
        epoch: Epoch,
        floor: Epoch,
    },
    /// To `QueueDisk`: so many shards were queued, and whether rows are left to look at.
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
