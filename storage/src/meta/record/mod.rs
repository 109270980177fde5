//! Values of every table: versioned records.
//!
//! A value is one byte, the record's version, and then its fields as `postcard` writes them. A
//! record that changes keeps its old shape as a type of its own, named as its `Previous`, with a
//! `From` to the new one: so any older row decodes through the chain, and the compiler holds it.
//! The tests pin the bytes. FORMAT.md gives the fields.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::{Outcome, Reply, ScrubState, UpkeepSettings};
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::store::ListedObject;
use drystone_store::types::{
    AccountId, Attributes, BucketId, Checksum, ChecksumAlgorithm, ChecksumType, DiskId, ETag,
    Epoch, ObjectVersion, Order, Quota, Timestamp, Upload, UploadId, Usage, Version, VersionId,
    Versioning, WriteId,
};

/// The bytes are no record that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    #[error("record is empty")]
    Empty,
    #[error("record version {0} is not known")]
    UnknownVersion(u8),
    #[error("record does not decode")]
    Malformed,
}

pub trait Record: Serialize + DeserializeOwned {
    /// Never used for another shape of this record.
    const VERSION: u8;
    /// The shape with the next lower version; [`First`] for the first one.
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

/// What comes before the first version of a record: nothing.
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
    GarbageRow,
    HealRow,
    NarrowRow,
    ExpelledRow,
    DiskRow,
    UpkeepRow,
    ScrubRow,
);

/// The group's epoch and its floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochsRow {
    pub epoch: Epoch,
    pub floor: Epoch,
}

/// What a command was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow(pub Outcome);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersRow {
    pub next_bucket: BucketId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameState {
    /// Taken; its bucket may not be there yet.
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
    /// Being deleted: for everyone but its deletion it is gone.
    pub sealed: bool,
}

/// A disk of the store, or one that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRow {
    /// Where it was seen last.
    pub directory: String,
    pub standing: Standing,
    /// When it came to stand so.
    pub since: Timestamp,
    pub replaced_by: Option<DiskId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    Up,
    /// It may come back.
    Away,
    /// It never comes back; its id is never used again.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpkeepRow(pub UpkeepSettings);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRow(pub ScrubState);

/// A bucket's setting, as the front end wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRow(pub Vec<u8>);

/// How much is in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Versions that are objects.
    pub objects: u64,
    pub markers: u64,
    pub uploads: u64,
    /// Sizes of all objects; bytes that versions share count for each.
    pub bytes: u64,
    /// Sizes of the parts of uploads.
    pub part_bytes: u64,
}

impl UsageRow {
    pub fn is_empty(&self) -> bool {
        self.objects == 0 && self.markers == 0 && self.uploads == 0
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

/// A bucket holds more than its soft quota.
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

/// What a listing shows of the newest version of a key.
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
    /// `None` for a marker, which has no current row.
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

/// The bytes of a write id: where they are and how many rows name them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRow {
    pub bucket: BucketId,
    /// The epoch its write began in.
    pub epoch: Epoch,
    /// Versions, uploaded parts and entries of part lists that name it; never 0.
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

/// Where an upload's row is.
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

/// What a finished upload became, for whoever asks to finish it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRow {
    pub bucket: BucketId,
    pub key: String,
    /// The parts it was made of.
    pub numbers: Vec<u16>,
    pub reply: Reply,
}

/// Shards that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageRow {
    pub bucket: BucketId,
    pub shards: Vec<GarbageShard>,
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

/// A shard that has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealRow {
    pub bucket: BucketId,
    pub since: Timestamp,
}

/// A write in a narrower geometry than its class's, to be coded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NarrowRow {
    pub since: Timestamp,
}

/// The disks that never come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpelledRow(pub Vec<ExpelledDisk>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpelledDisk {
    pub disk: DiskId,
    /// How far the data rows have been looked at for shards on it.
    pub looked: Looked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Looked {
    Nowhere,
    UpTo(WriteId),
    Everywhere,
}

impl ExpelledRow {
    pub fn has(&self, disk: DiskId) -> bool {
        self.0.iter().any(|expelled| expelled.disk == disk)
    }
}

#[cfg(test)]
mod tests;
