//! Typed reads of one snapshot of a state.
//!
//! Everything read through one [`View`] is of one moment. A read of a bucket that is sealed or does
//! not exist is refused with `NoSuchBucket`. A row that does not decode is an error only for reads
//! that need it; listings leave it out. Pages have at most `max` entries, which callers must bound.

pub mod content;
mod list;
pub mod upkeep;

use rocksdb::{DBRawIterator, Snapshot};

use super::keys::{self, KeyRange, Keys};
use super::record::{
    AccountRow, BucketRow, NameRow, NameState, OffsetRow, OverQuotaRow, PartRow, SettingRow,
    UploadPartRow, UploadRow, UsageRow, VersionRow,
};
pub use super::record::{Availability, DataKind, DataRow, DiskRow, EpochsRow};
pub use super::txn::RowReads;
use super::txn::{Row, bounded, decode, decode_or_skip, failed};
use crate::db::{Db, Family};
use drystone_store::buckets::{Addition, AdditionOf};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::{
    Account, AccountId, Bucket, BucketId, ByteRange, Checksum, ETag, ObjectPart, Order, Timestamp,
    Upload, UploadId, UploadedPart, Usage, Version, VersionId, VersionSelector, Versioning,
    WriteId,
};

/// One snapshot of a state's tables.
pub struct View<'a> {
    db: &'a Db,
    keys: Keys,
    snapshot: Snapshot<'a>,
    /// The number of rows and values that were read.
    #[cfg(test)]
    reads: std::cell::Cell<usize>,
}

/// A bucket's name in group 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketName {
    pub name: String,
    pub id: BucketId,
    pub owner: AccountId,
    /// The creation of its bucket is complete.
    pub active: bool,
}

/// An entry of a finished multipart object's part list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartEntry {
    pub number: u16,
    /// Its first byte in the object.
    pub offset: u64,
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    pub write_id: WriteId,
}

impl PartEntry {
    /// Returns its bytes in the object.
    pub fn range(&self) -> ByteRange {
        ByteRange {
            start: self.offset,
            end: self.offset + self.size,
        }
    }

    pub fn into_object_part(self) -> ObjectPart {
        ObjectPart {
            number: self.number,
            offset: self.offset,
            size: self.size,
            checksum: self.checksum,
        }
    }
}

/// A part of an upload that is not finished, with the write id of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    pub part: UploadedPart,
    pub write_id: WriteId,
}

impl RowReads for View<'_> {
    fn keys(&self) -> Keys {
        self.keys
    }

    fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.count_read();
        let state = self.db.family(Family::State);
        let row = self.snapshot.get_pinned_cf(state, key);
        let row = row.map_err(|error| failed(self.db, error))?;
        Ok(row.map(|row| row.to_vec()))
    }

    fn scan(&self, range: &KeyRange, max: usize) -> Result<Vec<Row>> {
        let mut rows = self.rows(range);
        rows.seek_to_first();
        let mut found = Vec::new();
        while found.len() < max
            && let Some((key, value)) = rows.item()
        {
            self.count_read();
            found.push((key.to_vec(), value.to_vec()));
            rows.next();
        }
        self.ended(&rows)?;
        Ok(found)
    }
}

impl<'a> View<'a> {
    pub(super) fn new(db: &'a Db, keys: Keys) -> View<'a> {
        View {
            db,
            keys,
            snapshot: db.rocks().snapshot(),
            #[cfg(test)]
            reads: std::cell::Cell::default(),
        }
    }

    fn count_read(&self) {
        #[cfg(test)]
        self.reads.set(self.reads.get() + 1);
    }

    #[cfg(test)]
    pub fn reads(&self) -> usize {
        self.reads.get()
    }

    /// Returns an iterator over `range` that is not at a row yet.
    fn rows(&self, range: &KeyRange) -> DBRawIterator<'_> {
        let state = self.db.family(Family::State);
        self.snapshot.raw_iterator_cf_opt(state, bounded(range))
    }

    /// Fails if the iterator stopped at an error: otherwise it would look like one at its end.
    fn ended(&self, rows: &DBRawIterator<'_>) -> Result<()> {
        rows.status().map_err(|error| failed(self.db, error))
    }

    /// Returns the group's epoch and floor.
    pub fn epochs(&self) -> Result<EpochsRow> {
        self.epochs_row()
    }
}

/// Group 0: names and accounts.
impl View<'_> {
    pub fn account(&self, id: &AccountId) -> Result<Option<Account>> {
        let row: Option<AccountRow> = self.row(&self.keys.account(id))?;
        Ok(row.map(|row| Account {
            id: id.clone(),
            canonical_id: row.canonical_id,
            display_name: row.display_name,
        }))
    }

    /// Returns a name that is active or reserved.
    pub fn name(&self, name: &str) -> Result<Option<BucketName>> {
        let row: Option<NameRow> = self.row(&self.keys.name(name))?;
        Ok(row.map(|row| bucket_name(name, row)))
    }

    /// Returns the bucket with an active name.
    pub fn bucket_id(&self, name: &str) -> Result<Option<BucketId>> {
        let name = self.name(name)?.filter(|name| name.active);
        Ok(name.map(|name| name.id))
    }

    /// Returns at most `max` active names with `prefix` and above `after`, ascending; only those of
    /// `owner` if one is given.
    pub fn list_names(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
        owner: Option<&AccountId>,
    ) -> Result<Vec<BucketName>> {
        let mut from = self.keys.name(after);
        from.push(0);
        let range = self.keys.names(prefix);
        let range = if after.is_empty() {
            range
        } else {
            range.starting_at(from)
        };
        if range.from >= range.to {
            return Ok(Vec::new());
        }
        let mut rows = self.rows(&range);
        rows.seek_to_first();
        let mut found = Vec::new();
        while found.len() < max
            && let Some((key, value)) = rows.item()
        {
            let name = keys::parse_name(key)?;
            let row = decode_or_skip(key, value).map(|row| bucket_name(name, row));
            let is_listed =
                |name: &BucketName| name.active && owner.is_none_or(|owner| name.owner == *owner);
            found.extend(row.filter(is_listed));
            rows.next();
        }
        self.ended(&rows)?;
        Ok(found)
    }
}

fn bucket_name(name: &str, row: NameRow) -> BucketName {
    BucketName {
        name: name.to_owned(),
        id: row.id,
        owner: row.owner,
        active: row.state == NameState::Active,
    }
}

/// Buckets, versions and their bytes.
impl View<'_> {
    pub fn bucket(&self, id: BucketId) -> Result<Bucket> {
        let row = self.live_bucket(id)?;
        let mut settings = Vec::new();
        for setting in keys::SETTINGS {
            let document: Option<SettingRow> = self.row(&self.keys.setting(id, setting))?;
            settings.extend(document.map(|SettingRow(document)| (setting, document)));
        }
        Ok(Bucket {
            id,
            name: row.name,
            owner: row.owner,
            created: row.created,
            location: row.location,
            versioning: row.versioning,
            quota: row.quota,
            settings,
        })
    }

    /// Returns a bucket's usage; zero if there is no such bucket.
    pub fn usage(&self, id: BucketId) -> Result<Usage> {
        let row: Option<UsageRow> = self.row(&self.keys.usage(id))?;
        Ok(row.unwrap_or_default().into())
    }

    /// Returns at most `max` buckets that hold more than their soft quotas, and since when.
    pub fn over_quotas(&self, max: usize) -> Result<Vec<(BucketId, Timestamp)>> {
        let rows = self.scan(&self.keys.over_quotas(), max)?;
        let over = rows.iter().filter_map(|(key, value)| {
            let OverQuotaRow { since } = decode_or_skip(key, value)?;
            Some(keys::parse_bucket(key).map(|bucket| (bucket, since)))
        });
        over.collect()
    }

    /// Refuses an addition that the hard quota would refuse now, as far as that is known before the
    /// write.
    pub fn check_quota(&self, bucket: BucketId, addition: &Addition) -> Result<()> {
        let row = self.live_bucket(bucket)?;
        if row.quota.hard_bytes.is_none() && row.quota.hard_objects.is_none() {
            return Ok(());
        }
        let used = self.usage(bucket)?;
        let mut after = used;
        match &addition.of {
            AdditionOf::Object { key } => {
                let replaced = match row.versioning {
                    Versioning::Enabled => None,
                    Versioning::Off | Versioning::Suspended => {
                        self.find_version(bucket, key, VersionId::Null)?
                    }
                };
                after.objects += 1;
                if let Some(object) = replaced.and_then(|(_, row)| row.object) {
                    after.objects -= 1;
                    after.object_bytes -= object.size;
                }
                after.object_bytes = after.object_bytes.saturating_add(addition.bytes);
            }
            AdditionOf::Part { upload, number } => {
                let replaced = self.row(&self.keys.upload_part(*upload, *number))?;
                let replaced = replaced.map_or(0, |part: UploadPartRow| part.size);
                after.part_bytes = (after.part_bytes - replaced).saturating_add(addition.bytes);
            }
        }
        Ok(row.quota.allows(&used, &after)?)
    }

    /// Returns at most `max` buckets above `after` whose deletion has begun and is not complete,
    /// with their names.
    pub fn sealed_buckets(
        &self,
        after: Option<BucketId>,
        max: usize,
    ) -> Result<Vec<(BucketId, String)>> {
        let mut range = self.keys.buckets();
        if let Some(after) = after {
            range = range.starting_at(keys::successor(&self.keys.bucket(after)));
        }
        let mut rows = self.rows(&range);
        rows.seek_to_first();
        let mut found = Vec::new();
        while found.len() < max
            && let Some((key, value)) = rows.item()
        {
            let row: Option<BucketRow> = decode_or_skip(key, value);
            if let Some(row) = row.filter(|row| row.sealed) {
                found.push((keys::parse_bucket(key)?, row.name));
            }
            rows.next();
        }
        self.ended(&rows)?;
        Ok(found)
    }

    /// Returns a version that is an object. Refused like `ObjectStore::open_object`.
    pub fn version(
        &self,
        bucket: BucketId,
        key: &str,
        selector: VersionSelector,
    ) -> Result<Version> {
        let versioning = self.live_bucket(bucket)?.versioning;
        let (row, is_latest) = match selector {
            VersionSelector::Latest => (self.latest(bucket, versioning, key)?, true),
            VersionSelector::Id(id) => {
                let found = self.find_version(bucket, key, id)?;
                let (order, row) = found.ok_or(Refusal::NoSuchVersion)?;
                // A marker is refused below in any case; the newest object is current.
                let current = self.current_row(bucket, key)?;
                (row, current.is_some_and(|current| current.order == order))
            }
        };
        if row.object.is_none() {
            return Err(Refusal::DeleteMarker {
                id: row.id,
                modified: row.modified,
                latest: selector == VersionSelector::Latest,
            }
            .into());
        }
        Ok(row.into_version(key.to_owned(), is_latest))
    }

    /// Returns the newest version, by way of `current`, so that an object costs two point reads.
    /// Only a key without an object in a versioned bucket costs a seek, because there may be a
    /// marker.
    fn latest(&self, bucket: BucketId, versioning: Versioning, key: &str) -> Result<VersionRow> {
        match self.current_row(bucket, key)? {
            None if versioning == Versioning::Off => Err(Refusal::NoSuchKey.into()),
            Some(current) => self.existing_row(&self.keys.version(bucket, key, current.order)),
            None => {
                let newest = self.newest(bucket, key)?;
                let (_, row) = newest.ok_or(Refusal::NoSuchKey)?;
                Ok(row)
            }
        }
    }

    pub fn data(&self, id: WriteId) -> Result<Option<DataRow>> {
        self.data_row(id)
    }

    /// Returns the bytes of a data row that is `Inline`.
    pub fn value(&self, id: WriteId) -> Result<Vec<u8>> {
        self.count_read();
        let values = self.db.family(Family::Values);
        let value = self.snapshot.get_cf(values, self.keys.value(id));
        let value = value.map_err(|error| failed(self.db, error))?;
        value.ok_or_else(|| Error::Corrupt(format!("inline value {id} is missing")))
    }
}

/// Part lists of finished objects.
impl View<'_> {
    /// Returns the part with the byte at `offset`.
    pub fn part_at(&self, list: WriteId, offset: u64) -> Result<Option<PartEntry>> {
        let mut rows = self.rows(&self.keys.parts(list));
        self.count_read();
        rows.seek_for_prev(self.keys.part(list, offset, u16::MAX));
        let found = match rows.item() {
            Some((key, value)) => Some(decode_part(key, value)?),
            None => None,
        };
        self.ended(&rows)?;
        Ok(found.filter(|part| offset - part.offset < part.size))
    }

    /// Returns at most `max` parts with numbers above `after`, ascending by number and so by
    /// offset.
    pub fn parts(&self, list: WriteId, after: u16, max: usize) -> Result<Vec<PartEntry>> {
        let numbers = self.keys.part_numbers(list);
        let above = keys::successor(&self.keys.part_number(list, after));
        let Some((key, value)) = self.scan(&numbers.starting_at(above), 1)?.pop() else {
            return Ok(Vec::new());
        };
        let OffsetRow(offset) = decode(&key, &value)?;
        let first = self.keys.part(list, offset, keys::parse_number(&key)?);
        self.decoded_parts(&self.keys.parts(list).starting_at(first), max)
    }

    /// Returns at most `max` parts that hold bytes of the range, ascending.
    pub fn parts_within(
        &self,
        list: WriteId,
        range: ByteRange,
        max: usize,
    ) -> Result<Vec<PartEntry>> {
        let first = match range.is_empty() {
            true => None,
            false => self.part_at(list, range.start)?,
        };
        let Some(first) = first else {
            return Ok(Vec::new());
        };
        let parts = KeyRange {
            from: self.keys.part(list, first.offset, first.number),
            to: self.keys.part(list, range.end, 0),
        };
        self.decoded_parts(&parts, max)
    }

    fn decoded_parts(&self, range: &KeyRange, max: usize) -> Result<Vec<PartEntry>> {
        let rows = self.scan(range, max)?;
        rows.iter()
            .map(|(key, value)| decode_part(key, value))
            .collect()
    }

    pub fn part(&self, list: WriteId, number: u16) -> Result<Option<PartEntry>> {
        let offset: Option<OffsetRow> = self.row(&self.keys.part_number(list, number))?;
        let Some(OffsetRow(offset)) = offset else {
            return Ok(None);
        };
        let key = self.keys.part(list, offset, number);
        let row = self.existing_row(&key)?;
        Ok(Some(part_entry(offset, number, row)))
    }
}

fn decode_part(key: &[u8], value: &[u8]) -> Result<PartEntry> {
    let (offset, number) = keys::parse_part(key)?;
    Ok(part_entry(offset, number, decode(key, value)?))
}

fn part_entry(offset: u64, number: u16, row: PartRow) -> PartEntry {
    PartEntry {
        number,
        offset,
        size: row.size,
        etag: row.etag,
        checksum: row.checksum,
        write_id: row.write_id,
    }
}

/// Uploads and their parts.
impl View<'_> {
    /// Returns an upload that is not finished. Refused unless it is for this key.
    pub fn upload(&self, bucket: BucketId, key: &str, id: UploadId) -> Result<Upload> {
        self.live_bucket(bucket)?;
        let at = self.upload_at(bucket, key, id)?;
        let order: Order = at.ok_or(Refusal::NoSuchUpload)?.order;
        let row: UploadRow = self.existing_row(&self.keys.upload(bucket, key, order))?;
        Ok(row.into_upload(key.to_owned()))
    }

    /// Returns the parts of a finished upload and the answer to it, as long as they are kept.
    #[cfg(test)]
    pub fn finished(
        &self,
        bucket: BucketId,
        key: &str,
        id: UploadId,
    ) -> Result<Option<(Vec<u16>, crate::meta::command::Reply)>> {
        let row = self.finished_row(bucket, key, id)?;
        Ok(row.map(|row| (row.numbers, row.reply)))
    }

    /// Returns at most `max` parts of an upload with numbers above `after`, ascending.
    pub fn upload_parts(&self, id: UploadId, after: u16, max: usize) -> Result<Vec<StoredPart>> {
        let above = keys::successor(&self.keys.upload_part(id, after));
        let range = self.keys.upload_parts(id).starting_at(above);
        let rows = self.scan(&range, max)?;
        let parts = rows.iter().map(|(key, value)| {
            let number = keys::parse_number(key)?;
            Ok(stored_part(number, decode(key, value)?))
        });
        parts.collect()
    }

    /// Returns the parts with these numbers, in their order; `None` for a number without a part.
    pub fn chosen_parts(&self, id: UploadId, numbers: &[u16]) -> Result<Vec<Option<StoredPart>>> {
        let parts = numbers.iter().map(|&number| {
            let row: Option<UploadPartRow> = self.row(&self.keys.upload_part(id, number))?;
            Ok(row.map(|row| stored_part(number, row)))
        });
        parts.collect()
    }
}

fn stored_part(number: u16, row: UploadPartRow) -> StoredPart {
    StoredPart {
        part: UploadedPart {
            number,
            size: row.size,
            etag: row.etag,
            modified: row.modified,
            checksum: row.checksum,
            crc64nvme: row.crc64nvme,
        },
        write_id: row.write_id,
    }
}
