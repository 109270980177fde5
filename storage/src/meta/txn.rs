//! One command's writes, readable by itself before they are written.
//!
//! A [`Txn`] reads the state's tables with its own changes laid over them and ends in one batch.
//! [`Rows`] is what it has in common with a [`View`](super::view::View): the lookups that the state
//! machine and readers share.

use std::collections::BTreeMap;

use rocksdb::{DBPinnableSlice, DBRawIterator, ReadOptions, WriteBatch};

use super::keys::{self, KeyRange, Keys};
use super::record::{
    BucketRow, CurrentRow, DataRow, EpochsRow, FinishedRow, OrderRow, Record, UploadAt, VersionRow,
};
use crate::db::{Db, Family};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::{BucketId, Epoch, Order, UploadId, VersionId, WriteId};

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// In how many epochs a finished upload is looked for: a week of them.
const FINISHED_EPOCHS_MAX: usize = 1008;

/// Reads of one state's rows, and the lookups built on them.
pub trait Rows {
    fn keys(&self) -> Keys;
    fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Up to `max` rows, ascending.
    fn scan(&self, range: &KeyRange, max: usize) -> Result<Vec<Row>>;

    fn row<R: Record>(&self, key: &[u8]) -> Result<Option<R>> {
        self.raw(key)?.map(|value| decode(key, &value)).transpose()
    }

    /// A row that another row says is there.
    fn owed<R: Record>(&self, key: &[u8]) -> Result<R> {
        self.row(key)?
            .ok_or_else(|| Error::Corrupt(format!("row {} is missing", keys::hex(key))))
    }

    fn epochs_row(&self) -> Result<EpochsRow> {
        const START: EpochsRow = EpochsRow {
            epoch: Epoch(0),
            floor: Epoch(0),
        };
        Ok(self.row(&self.keys().epochs())?.unwrap_or(START))
    }

    /// A bucket that is there and not sealed.
    fn live_bucket(&self, id: BucketId) -> Result<BucketRow> {
        match self.row::<BucketRow>(&self.keys().bucket(id))? {
            Some(bucket) if !bucket.sealed => Ok(bucket),
            _ => Err(Refusal::NoSuchBucket.into()),
        }
    }

    fn current_row(&self, bucket: BucketId, key: &str) -> Result<Option<CurrentRow>> {
        self.row(&self.keys().current(bucket, key))
    }

    /// The newest version of a key, be it an object or a marker.
    fn newest(&self, bucket: BucketId, key: &str) -> Result<Option<(Order, VersionRow)>> {
        let range = self.keys().versions_of(bucket, key);
        let Some((row, value)) = self.scan(&range, 1)?.pop() else {
            return Ok(None);
        };
        let (_, order) = keys::parse_version(&row)?;
        Ok(Some((order, decode(&row, &value)?)))
    }

    /// Where the version with this id stands, as far as the id or the index tells.
    fn order_of(&self, bucket: BucketId, key: &str, id: VersionId) -> Result<Option<Order>> {
        match keys::order_of(id) {
            Some(order) => Ok(Some(order)),
            None => {
                let row: Option<OrderRow> = self.row(&self.keys().null_id(bucket, key))?;
                Ok(row.map(|OrderRow(order)| order))
            }
        }
    }

    fn find_version(
        &self,
        bucket: BucketId,
        key: &str,
        id: VersionId,
    ) -> Result<Option<(Order, VersionRow)>> {
        let Some(order) = self.order_of(bucket, key, id)? else {
            return Ok(None);
        };
        let row: Option<VersionRow> = self.row(&self.keys().version(bucket, key, order))?;
        Ok(row.filter(|row| row.id == id).map(|row| (order, row)))
    }

    fn data_row(&self, id: WriteId) -> Result<Option<DataRow>> {
        self.row(&self.keys().data(id))
    }

    /// An upload that is not finished, if it is this key's.
    fn upload_at(&self, bucket: BucketId, key: &str, id: UploadId) -> Result<Option<UploadAt>> {
        let at: Option<UploadAt> = self.row(&self.keys().upload_id(id))?;
        Ok(at.filter(|at| at.bucket == bucket && at.key == key))
    }

    /// What became of an upload, known until the floor passes the epoch it was finished in. The
    /// rows are sorted by epoch, so that they go by range: the few epochs above the floor are
    /// tried, the latest first.
    fn finished_row(
        &self,
        bucket: BucketId,
        key: &str,
        id: UploadId,
    ) -> Result<Option<FinishedRow>> {
        let EpochsRow { epoch, floor } = self.epochs_row()?;
        for epoch in (floor.0..=epoch.0).rev().take(FINISHED_EPOCHS_MAX) {
            let row: Option<FinishedRow> = self.row(&self.keys().finished(Epoch(epoch), id))?;
            if let Some(row) = row {
                return Ok((row.bucket == bucket && row.key == key).then_some(row));
            }
        }
        Ok(None)
    }
}

pub fn decode<R: Record>(key: &[u8], value: &[u8]) -> Result<R> {
    R::decode(value).map_err(|error| Error::Corrupt(format!("row {}: {error}", keys::hex(key))))
}

/// A read error of RocksDB ends the use of the whole disk: what it says next can't be trusted.
pub fn failed(db: &Db, error: rocksdb::Error) -> Error {
    db.failed(error).into()
}

/// Options that keep an iterator within `range`, so that it never walks over what others deleted
/// beyond it.
pub fn bounded(range: &KeyRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_range(range.from.clone()..range.to.clone());
    options
}

/// The writes of one command, not yet in the database.
pub struct Txn<'a> {
    db: &'a Db,
    keys: Keys,
    /// Changes of the family `state`; `None` deletes.
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Changes of the family `values`, which no command reads.
    values: BTreeMap<Vec<u8>, Option<&'a [u8]>>,
    /// Ranges of `state` deleted before all else.
    ranges: Vec<KeyRange>,
}

impl<'a> Txn<'a> {
    pub fn new(db: &'a Db, keys: Keys) -> Txn<'a> {
        Txn {
            db,
            keys,
            rows: BTreeMap::new(),
            values: BTreeMap::new(),
            ranges: Vec::new(),
        }
    }

    pub fn put<R: Record>(&mut self, key: Vec<u8>, row: &R) {
        self.rows.insert(key, Some(row.encode()));
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.rows.insert(key, None);
    }

    /// Deletes rows that this command does not read.
    pub fn delete_range(&mut self, range: KeyRange) {
        self.ranges.push(range);
    }

    pub fn put_value(&mut self, id: WriteId, value: &'a [u8]) {
        self.values.insert(self.keys.value(id), Some(value));
    }

    pub fn delete_value(&mut self, id: WriteId) {
        self.values.insert(self.keys.value(id), None);
    }

    /// Forgets all changes.
    pub fn discard(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.ranges.clear();
    }

    /// Writes all changes and `applied` in one batch, unsynced: if power goes, the state is that
    /// of an earlier entry as a whole, and the log, which is synced, is applied again from there.
    pub fn commit(self, applied: &[u8]) -> Result<()> {
        let state = self.db.family(Family::State);
        let values = self.db.family(Family::Values);
        let mut batch = WriteBatch::default();
        for KeyRange { from, to } in self.ranges {
            batch.delete_range_cf(state, from, to);
        }
        for (key, row) in self.rows {
            match row {
                Some(row) => batch.put_cf(state, key, row),
                None => batch.delete_cf(state, key),
            }
        }
        for (key, value) in self.values {
            match value {
                Some(value) => batch.put_cf(values, key, value),
                None => batch.delete_cf(values, key),
            }
        }
        batch.put_cf(state, self.keys.applied(), applied);
        Ok(self.db.write_unsynced(batch)?)
    }

    fn stored(&self, range: &KeyRange) -> DBRawIterator<'_> {
        let state = self.db.family(Family::State);
        let mut rows = self.db.rocks().raw_iterator_cf_opt(state, bounded(range));
        rows.seek_to_first();
        rows
    }
}

impl Rows for Txn<'_> {
    fn keys(&self) -> Keys {
        self.keys
    }

    fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(row) = self.rows.get(key) {
            return Ok(row.clone());
        }
        let state = self.db.family(Family::State);
        let row: Option<DBPinnableSlice<'_>> = self
            .db
            .rocks()
            .get_pinned_cf(state, key)
            .map_err(|error| failed(self.db, error))?;
        Ok(row.map(|row| row.to_vec()))
    }

    /// Merges what is stored with the command's own changes, which win.
    fn scan(&self, range: &KeyRange, max: usize) -> Result<Vec<Row>> {
        let mut stored = self.stored(range);
        let mut own = self
            .rows
            .range(range.from.clone()..range.to.clone())
            .peekable();
        let mut found = Vec::new();
        while found.len() < max {
            match (stored.item(), own.peek()) {
                (None, None) => break,
                (Some((key, value)), next) if next.is_none_or(|(own, _)| key < own.as_slice()) => {
                    found.push((key.to_vec(), value.to_vec()));
                    stored.next();
                }
                (item, _) => {
                    let Some((key, row)) = own.next() else { break };
                    if item.is_some_and(|(stored, _)| stored == key.as_slice()) {
                        stored.next();
                    }
                    found.extend(row.clone().map(|row| (key.clone(), row)));
                }
            }
        }
        stored.status().map_err(|error| failed(self.db, error))?;
        Ok(found)
    }
}
