//! The values of every table: versioned records.
//!
//! A value is one byte, the record's version, followed by its fields as `postcard` encodes them. If
//! a record changes, its old shape stays as a type of its own, the new type's `Previous`, with a
//! `From` to the new type. So any older row decodes through the chain, which the compiler checks.
//! Tests pin the bytes. FORMAT.md lists the fields.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::{Command, Outcome, Reply, ScrubState, UpkeepSettings};
use drystone_store::listings::ListedObject;
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::types::{
    AccountId, Attributes, BucketId, Checksum, ChecksumAlgorithm, ChecksumType, DiskId, ETag,
    Epoch, ObjectVersion, Order, Quota, Timestamp, Upload, UploadId, Usage, Version, VersionId,
    Versioning, WriteId,
};

/// The reason why bytes are not a record that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    #[error("record is empty")]
    Empty,
    #[error("record version {0} is not known")]
    UnknownVersion(u8),
    #[error("record does not decode")]
    Malformed,
}

/// A value with a version.
///
/// Commands in the log are records, too.
pub trait Record: Serialize + DeserializeOwned {
    /// The version of this shape. It is never used for another shape of the record.
    const VERSION: u8;
    /// The shape with the next lower version; [`First`] for the first shape.
    type Previous: Record + Into<Self>;

    fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::VERSION])
            .expect("records hold nothing that postcard cannot write")
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        match bytes.split_first() {
            None => Err(Undecodable::Empty),
            Some((&version, fields)) if version == Self::VERSION => {
                match postcard::take_from_bytes(fields) {
                    Ok((record, [])) => Ok(record),
                    _ => Err(Undecodable::Malformed),
                }
            }
            Some((&version, _)) if version < Self::VERSION => {
                Self::Previous::decode(bytes).map(Into::into)
            }
            Some((&version, _)) => Err(Undecodable::UnknownVersion(version)),
        }
    }
}

/// The predecessor of a record's first version. It has no values.
#[derive(Debug, Serialize, Deserialize)]
pub enum First {}

impl Record for First {
    const VERSION: u8 = 0;
    type Previous = First;

    fn decode(bytes: &[u8]) -> Result<First, Undecodable> {
        Err(Undecodable::UnknownVersion(
            bytes.first().copied().unwrap_or_default(),
        ))
    }
}

macro_rules! first_version {
    ($($record:ty),+ $(,)?) => {$(
        impl From<First> for $record {
            fn from(never: First) -> Self {
                match never {}
            }
        }
        impl Record for $record {
            const VERSION: u8 = 1;
            type Previous = First;
        }
    )+};
}

first_version!(
    Command,
    EpochsRow,
    AnswerRow,
    CountersRow,
    NameRow,
    AccountRow,
    BucketRow,
    SettingRow,
    UsageRow,
    OverQuotaRow,
    VersionRow,
    CurrentRow,
    OrderRow,
    DataRow,
    PartRow,
    OffsetRow,
    UploadRow,
    UploadAt,
    UploadPartRow,
    FinishedRow,
    FinishedTimeRow,
    GarbageRow,
    HealRow,
    UndersizedRow,
    RemovedDisksRow,
    DiskRow,
    UpkeepRow,
    ScrubRow,
);

/// The group's epochs and its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochsRow {
    pub epoch: Epoch,
    pub floor: Epoch,
    /// Answers to commands that were issued below it are dropped, and such commands are refused.
    pub answers: Epoch,
    /// The latest time of all commands. A command's own time never lies before it.
    pub clock: Timestamp,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow(pub Outcome);

/// The next ids to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersRow {
    pub next_bucket: BucketId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameState {
    /// The name is reserved; its bucket may not exist yet.
    Creating,
    Active,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    pub id: BucketId,
    pub owner: AccountId,
    pub state: NameState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    pub canonical_id: String,
    pub display_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    pub name: String,
    pub owner: AccountId,
    pub created: Timestamp,
    pub location: String,
    pub versioning: Versioning,
    pub quota: Quota,
    /// The bucket is being deleted. Only its deletion still sees it.
    pub sealed: bool,
}

/// A disk that is or was part of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRow {
    /// The directory in which it was last.
    pub directory: String,
    pub availability: Availability,
    /// The time of the last change of `availability`.
    pub since: Timestamp,
    pub replaced_by: Option<DiskId>,
}

/// The availability of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    Up,
    /// It does not answer, and may come back.
    Offline,
    /// It never comes back; its id is never used again.
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpkeepRow(pub UpkeepSettings);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRow(pub ScrubState);

/// A bucket's setting, as the front end wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRow(pub Vec<u8>);

/// The usage of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// The number of versions that are objects.
    pub objects: u64,
    pub markers: u64,
    pub uploads: u64,
    /// The total size of all objects. Bytes that versions share count for each of them.
    pub bytes: u64,
    /// The total size of the parts of uploads.
    pub part_bytes: u64,
}

impl UsageRow {
    /// Counts one version, or one marker in place of an object.
    pub fn of_version(object: Option<&ObjectRow>) -> UsageRow {
        match object {
            Some(object) => UsageRow {
                objects: 1,
                bytes: object.size,
                ..UsageRow::default()
            },
            None => UsageRow {
                markers: 1,
                ..UsageRow::default()
            },
        }
    }

    /// Returns this usage with `added` and without `removed`; `None` if a count would overflow or
    /// fall below zero.
    pub fn changed(self, added: UsageRow, removed: UsageRow) -> Option<UsageRow> {
        let changed = |now: u64, added: u64, removed| now.checked_add(added)?.checked_sub(removed);
        Some(UsageRow {
            objects: changed(self.objects, added.objects, removed.objects)?,
            markers: changed(self.markers, added.markers, removed.markers)?,
            uploads: changed(self.uploads, added.uploads, removed.uploads)?,
            bytes: changed(self.bytes, added.bytes, removed.bytes)?,
            part_bytes: changed(self.part_bytes, added.part_bytes, removed.part_bytes)?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.uploads == 0 && !self.has_versions()
    }

    /// Returns whether there is a version of a key, be it a marker.
    pub fn has_versions(&self) -> bool {
        self.objects > 0 || self.markers > 0
    }
}

impl From<UsageRow> for Usage {
    fn from(row: UsageRow) -> Usage {
        Usage {
            objects: row.objects,
            markers: row.markers,
            uploads: row.uploads,
            object_bytes: row.bytes,
            part_bytes: row.part_bytes,
        }
    }
}

/// A bucket that holds more than its soft quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverQuotaRow {
    pub since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    pub id: VersionId,
    pub modified: Timestamp,
    pub owner: AccountId,
    /// `None`: a delete marker.
    pub object: Option<ObjectRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    pub attributes: Attributes,
    pub write_id: WriteId,
}

impl VersionRow {
    pub fn into_version(self, key: String, is_latest: bool) -> Version {
        Version {
            key,
            id: self.id,
            is_latest,
            modified: self.modified,
            object: self.object.map(|object| ObjectVersion {
                size: object.size,
                etag: object.etag,
                checksum: object.checksum,
                attributes: object.attributes,
                write_id: object.write_id,
            }),
            owner: self.owner,
        }
    }
}

/// The newest version of a key, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentRow {
    pub order: Order,
    pub size: u64,
    pub etag: ETag,
    pub modified: Timestamp,
    pub storage_class: String,
    pub owner: AccountId,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

impl CurrentRow {
    /// Makes the row of a version; `None` for a marker, which has no current row.
    pub fn of(order: Order, version: &VersionRow) -> Option<CurrentRow> {
        let object = version.object.as_ref()?;
        Some(CurrentRow {
            order,
            size: object.size,
            etag: object.etag,
            modified: version.modified,
            storage_class: object.attributes.storage_class.clone(),
            owner: version.owner.clone(),
            checksum: object.checksum.as_ref().map(|c| (c.algorithm, c.kind)),
        })
    }

    pub fn into_listed(self, key: String) -> ListedObject {
        ListedObject {
            key,
            size: self.size,
            etag: self.etag,
            modified: self.modified,
            storage_class: self.storage_class,
            owner: self.owner,
            checksum: self.checksum,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow(pub Order);

/// The bytes of a write id: their location and the number of rows that name them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRow {
    pub bucket: BucketId,
    /// The epoch in which its write began.
    pub epoch: Epoch,
    /// The number of versions, uploaded parts and entries of part lists that name it; never 0.
    pub refs: u64,
    pub size: u64,
    pub kind: DataKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataKind {
    /// In the family `values`.
    Inline,
    Shards(ShardSet),
    /// In the rows of `parts` under this write id.
    Parts {
        count: u32,
        /// The CRC64NVME of all bytes, combined from that of the parts; `None` if one has none.
        crc64nvme: Option<u64>,
    },
}

/// An entry of a part list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    pub write_id: WriteId,
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRow(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    pub id: UploadId,
    pub initiated: Timestamp,
    pub attributes: Attributes,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

impl UploadRow {
    pub fn into_upload(self, key: String) -> Upload {
        Upload {
            id: self.id,
            key,
            initiated: self.initiated,
            attributes: self.attributes,
            checksum: self.checksum,
        }
    }
}

/// The location of an upload's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadAt {
    pub bucket: BucketId,
    pub key: String,
    pub order: Order,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPartRow {
    pub write_id: WriteId,
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    pub modified: Timestamp,
    pub crc64nvme: Option<u64>,
}

/// The outcome of a finished upload, for repeated requests to finish it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRow {
    pub bucket: BucketId,
    pub key: String,
    /// The numbers of its parts.
    pub numbers: Vec<u16>,
    pub reply: Reply,
}

/// An upload that was finished at the time in the row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedTimeRow;

/// Shards, or a part list, that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageRow {
    pub bucket: BucketId,
    pub shards: Vec<GarbageShard>,
    /// A part list has this write id. Its parts still have their data rows.
    pub is_part_list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageShard {
    pub rank: u8,
    pub at: ShardAt,
}

impl GarbageShard {
    pub fn all_of(set: &ShardSet) -> Vec<GarbageShard> {
        let shards = (0..).zip(&set.shards);
        shards
            .map(|(rank, place)| GarbageShard {
                rank,
                at: place.at(),
            })
            .collect()
    }
}

/// A shard that may have to be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealRow {
    pub bucket: BucketId,
    pub since: Timestamp,
}

/// A write with fewer shards than its class, to be re-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndersizedRow {
    pub since: Timestamp,
}

/// The removed disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedDisksRow(pub Vec<RemovedDisk>);

/// A disk that never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedDisk {
    pub disk: DiskId,
    pub progress: QueueProgress,
}

/// The progress of queueing a removed disk's shards for heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueProgress {
    NotStarted,
    /// All data rows up to this one were checked.
    UpTo(WriteId),
    Complete,
}

impl RemovedDisksRow {
    pub fn has(&self, disk: DiskId) -> bool {
        self.0.iter().any(|removed| removed.disk == disk)
    }
}

#[cfg(test)]
mod tests;
