//! The writes of one command, which it can read before they are written.
//!
//! A [`Txn`] reads the state's tables with its own changes on top, and ends in one batch. The trait
//! [`RowReads`] has the lookups that the state machine shares with readers, whose side of it is a
//! [`View`](super::view::View).

use std::collections::BTreeMap;

use rocksdb::{DBPinnableSlice, DBRawIterator, ReadOptions, WriteBatch};
use xxhash_rust::xxh3::Xxh3;

use super::keys::{self, KeyRange, Keys, STATE_ID_LEN};
use super::record::{
    BucketRow, CurrentRow, DataRow, EpochsRow, FinishedRow, OrderRow, Record, Undecodable,
    UploadAt, VersionRow,
};
use crate::db::{Db, Family};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::{BucketId, Epoch, Order, Timestamp, UploadId, VersionId, WriteId};

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reads of one state's rows, and the lookups built on them.
pub trait RowReads {
    fn keys(&self) -> Keys;
    fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Returns at most `max` rows, ascending.
    fn scan(&self, range: &KeyRange, max: usize) -> Result<Vec<Row>>;

    fn row<R: Record>(&self, key: &[u8]) -> Result<Option<R>> {
        self.raw(key)?.map(|value| decode(key, &value)).transpose()
    }

    /// Returns a row that must exist, because another row refers to it.
    fn existing_row<R: Record>(&self, key: &[u8]) -> Result<R> {
        self.row(key)?
            .ok_or_else(|| Error::Unfit(format!("row {} is missing", keys::hex(key))))
    }

    fn epochs_row(&self) -> Result<EpochsRow> {
        const START: EpochsRow = EpochsRow {
            epoch: Epoch(0),
            floor: Epoch(0),
            answers: Epoch(0),
            clock: Timestamp(i64::MIN),
        };
        Ok(self.row(&self.keys().epochs())?.unwrap_or(START))
    }

    /// Returns a bucket that exists and is not sealed.
    fn live_bucket(&self, id: BucketId) -> Result<BucketRow> {
        match self.row::<BucketRow>(&self.keys().bucket(id))? {
            Some(bucket) if !bucket.sealed => Ok(bucket),
            _ => Err(Refusal::NoSuchBucket.into()),
        }
    }

    fn current_row(&self, bucket: BucketId, key: &str) -> Result<Option<CurrentRow>> {
        self.row(&self.keys().current(bucket, key))
    }

    /// Returns the newest version of a key, which may be a marker.
    fn newest(&self, bucket: BucketId, key: &str) -> Result<Option<(Order, VersionRow)>> {
        let range = self.keys().versions_of(bucket, key);
        let Some((row, value)) = self.scan(&range, 1)?.pop() else {
            return Ok(None);
        };
        let (_, order) = keys::parse_version(&row)?;
        Ok(Some((order, decode(&row, &value)?)))
    }

    /// Returns the order of the version with this id, from the id or the index. The version may not
    /// exist.
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

    /// Returns the location of an upload that is not finished, if it is for this key.
    fn upload_at(&self, bucket: BucketId, key: &str, id: UploadId) -> Result<Option<UploadAt>> {
        let at: Option<UploadAt> = self.row(&self.keys().upload_id(id))?;
        Ok(at.filter(|at| at.bucket == bucket && at.key == key))
    }

    /// Returns the outcome of a finished upload, as long as it is kept.
    fn finished_row(
        &self,
        bucket: BucketId,
        key: &str,
        id: UploadId,
    ) -> Result<Option<FinishedRow>> {
        let row: Option<FinishedRow> = self.row(&self.keys().finished(id))?;
        Ok(row.filter(|row| row.bucket == bucket && row.key == key))
    }
}

pub fn decode<R: Record>(key: &[u8], value: &[u8]) -> Result<R> {
    R::decode(value).map_err(|error| {
        let what = format!("row {}: {error}", keys::hex(key));
        match error {
            Undecodable::UnknownVersion(_) => Error::Unfit(what),
            Undecodable::Empty | Undecodable::Malformed => Error::BadRow(what),
        }
    })
}

/// Decodes a row, for work that can do without it. One that does not decode costs its own entry
/// a check from outside reports it.
pub fn decode_or_skip<R: Record>(key: &[u8], value: &[u8]) -> Option<R> {
    let record = decode(key, value);
    record
        .inspect_err(|error| tracing::error!(%error, "a row is left out"))
        .ok()
}

/// Returns the checksum of all changes of a state, if it has one.
pub fn changes(rows: &impl RowReads) -> Result<Option<u64>> {
    let row = rows.raw(&rows.keys().changes())?;
    let row = row.map(|row| row.try_into().map(u64::from_be_bytes));
    row.transpose()
        .map_err(|_| Error::Unfit("the row of all changes has not 8 bytes".into()))
}

/// Ends the use of the whole disk after a read error of RocksDB: later reads can't be trusted.
pub fn failed(db: &Db, error: rocksdb::Error) -> Error {
    db.failed(error).into()
}

/// Returns options that keep an iterator within `range`, so that it never walks over deleted rows
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
    /// Changes of the family `values`, which no command reads; `None` deletes.
    values: BTreeMap<Vec<u8>, Option<&'a [u8]>>,
    /// Ranges of `state` to be deleted before all other changes.
    ranges: Vec<KeyRange>,
    /// The changes to undo since the savepoint, newest last; `None` without one.
    undo: Option<Vec<Undo<'a>>>,
}

/// A change of a transaction before a later one: `None` if there was none.
enum Undo<'a> {
    Row(Vec<u8>, Option<Option<Vec<u8>>>),
    Value(Vec<u8>, Option<Option<&'a [u8]>>),
}

impl<'a> Txn<'a> {
    pub fn new(db: &'a Db, keys: Keys) -> Txn<'a> {
        Txn {
            db,
            keys,
            rows: BTreeMap::new(),
            values: BTreeMap::new(),
            ranges: Vec::new(),
            undo: None,
        }
    }

    pub fn put<R: Record>(&mut self, key: Vec<u8>, row: &R) {
        self.set_row(key, Some(row.encode()));
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.set_row(key, None);
    }

    fn set_row(&mut self, key: Vec<u8>, row: Option<Vec<u8>>) {
        let undone = self.undo.is_some().then(|| key.clone());
        let before = self.rows.insert(key, row);
        if let (Some(undo), Some(key)) = (&mut self.undo, undone) {
            undo.push(Undo::Row(key, before));
        }
    }

    fn set_value(&mut self, id: WriteId, value: Option<&'a [u8]>) {
        let key = self.keys.value(id);
        let before = self.values.insert(key.clone(), value);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Value(key, before));
        }
    }

    /// Sets the point to which [`Txn::undo`] returns.
    pub fn set_savepoint(&mut self) {
        self.undo = Some(Vec::new());
    }

    /// Undoes the changes of rows and values since the savepoint.
    pub fn undo(&mut self) {
        for undo in self.undo.take().into_iter().flatten().rev() {
            match undo {
                Undo::Row(key, Some(before)) => drop(self.rows.insert(key, before)),
                Undo::Row(key, None) => drop(self.rows.remove(&key)),
                Undo::Value(key, Some(before)) => drop(self.values.insert(key, before)),
                Undo::Value(key, None) => drop(self.values.remove(&key)),
            }
        }
    }

    /// Deletes a range of rows, which this command must not read.
    pub fn delete_range(&mut self, range: KeyRange) {
        self.ranges.push(range);
    }

    pub fn put_value(&mut self, id: WriteId, value: &'a [u8]) {
        self.set_value(id, Some(value));
    }

    pub fn delete_value(&mut self, id: WriteId) {
        self.set_value(id, None);
    }

    /// Drops all changes.
    pub fn discard(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.ranges.clear();
        self.undo = None;
    }

    /// Writes all changes and `applied` in one batch, unsynced. If power goes, the state is
    /// complete up to an earlier entry, and the log, which is synced, is applied again from there.
    pub fn commit(self, applied: &[u8]) -> Result<()> {
        let changes = self.checksum()?;
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
        if let Some(changes) = changes {
            batch.put_cf(state, self.keys.changes(), changes.to_be_bytes());
        }
        batch.put_cf(state, self.keys.applied(), applied);
        Ok(self.db.write_unsynced(batch)?)
    }

    /// Returns the checksum of all changes up to these. A state that has none, because an earlier
    /// version of the program made it, gets none: its first changes are not known.
    fn checksum(&self) -> Result<Option<u64>> {
        let before = match changes(self)? {
            // Each command keeps the clock there.
            None if self.written(&self.keys.epochs())?.is_some() => return Ok(None),
            before => before.unwrap_or(0),
        };
        let mut checksum = Xxh3::with_seed(before);
        let mut add = |kind: u8, key: &[u8], value: &[u8]| {
            // Each replica has another state id.
            let key = &key[STATE_ID_LEN..];
            checksum.update(&[kind]);
            for bytes in [key, value] {
                checksum.update(&(bytes.len() as u64).to_le_bytes());
                checksum.update(bytes);
            }
        };
        for KeyRange { from, to } in &self.ranges {
            add(0, from, &to[STATE_ID_LEN..]);
        }
        for (key, row) in &self.rows {
            match row {
                Some(row) => add(1, key, row),
                None => add(2, key, &[]),
            }
        }
        for (key, value) in &self.values {
            match value {
                Some(value) => add(3, key, value),
                None => add(4, key, &[]),
            }
        }
        Ok(Some(checksum.digest()))
    }

    /// Returns a row as it is without this command.
    fn written(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let state = self.db.family(Family::State);
        let row: Option<DBPinnableSlice<'_>> = self
            .db
            .rocks()
            .get_pinned_cf(state, key)
            .map_err(|error| failed(self.db, error))?;
        Ok(row.map(|row| row.to_vec()))
    }

    fn written_rows(&self, range: &KeyRange) -> DBRawIterator<'_> {
        let state = self.db.family(Family::State);
        let mut rows = self.db.rocks().raw_iterator_cf_opt(state, bounded(range));
        rows.seek_to_first();
        rows
    }
}

impl RowReads for Txn<'_> {
    fn keys(&self) -> Keys {
        self.keys
    }

    fn raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(row) = self.rows.get(key) {
            return Ok(row.clone());
        }
        self.written(key)
    }

    /// Merges the rows in the database with the command's own changes, which win.
    fn scan(&self, range: &KeyRange, max: usize) -> Result<Vec<Row>> {
        let mut written = self.written_rows(range);
        let mut own = self
            .rows
            .range(range.from.clone()..range.to.clone())
            .peekable();
        let mut found = Vec::new();
        while found.len() < max {
            match (written.item(), own.peek()) {
                (None, None) => break,
                (Some((key, value)), next) if next.is_none_or(|(own, _)| key < own.as_slice()) => {
                    found.push((key.to_vec(), value.to_vec()));
                    written.next();
                }
                (item, _) => {
                    let Some((key, row)) = own.next() else { break };
                    if item.is_some_and(|(written, _)| written == key.as_slice()) {
                        written.next();
                    }
                    found.extend(row.clone().map(|row| (key.clone(), row)));
                }
            }
        }
        written.status().map_err(|error| failed(self.db, error))?;
        Ok(found)
    }
}
