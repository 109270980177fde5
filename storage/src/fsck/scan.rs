//! The rows of a database, in the order of their keys.

use rocksdb::{DBRawIterator, ReadOptions};

use crate::db::{Db, DbError, Family, StateId};
use crate::meta::keys::hex;
use crate::meta::record::Record;
use drystone_store::error::{Error, Result};

/// The numbers of the tables, as in FORMAT.md.
pub mod table {
    pub const EPOCHS: u8 = 0x02;
    pub const COUNTERS: u8 = 0x08;
    pub const NAMES: u8 = 0x09;
    pub const BUCKETS: u8 = 0x10;
    pub const USAGE: u8 = 0x12;
    pub const OVER_QUOTA: u8 = 0x13;
    pub const VERSIONS: u8 = 0x18;
    pub const CURRENT: u8 = 0x19;
    pub const IDS: u8 = 0x1a;
    pub const DATA: u8 = 0x20;
    pub const PARTS: u8 = 0x21;
    pub const PART_NUMBERS: u8 = 0x22;
    pub const UPLOADS: u8 = 0x28;
    pub const UPLOAD_IDS: u8 = 0x29;
    pub const UPLOAD_PARTS: u8 = 0x2a;
    pub const FINISHED: u8 = 0x2b;
    pub const FINISHED_TIMES: u8 = 0x2c;
    pub const GARBAGE: u8 = 0x30;
    pub const HEAL: u8 = 0x31;
    pub const REMOVED_DISKS: u8 = 0x32;
    pub const UNDERSIZED: u8 = 0x34;
}

/// Makes a row's key in the family `state`.
pub fn key(state: StateId, table: u8, rest: &[u8]) -> Vec<u8> {
    [&state.0.to_be_bytes(), &[table][..], rest].concat()
}

/// Reads the record of one row, if the row exists.
pub fn get<R: Record>(db: &Db, key: &[u8]) -> Result<Option<R>> {
    let row = db.rocks().get_cf(db.family(Family::State), key);
    let row = row.map_err(|e| Error::from(db.failed(e)))?;
    row.map(|value| decode(key, &value)).transpose()
}

pub fn decode<R: Record>(key: &[u8], value: &[u8]) -> Result<R> {
    R::decode(value).map_err(|error| Error::BadRow(format!("row {}: {error}", hex(key))))
}

/// Iterates over the rows whose keys begin with a prefix, in ascending order.
pub struct Scan<'a> {
    db: &'a Db,
    rows: DBRawIterator<'a>,
    prefix: Vec<u8>,
    /// The bytes that are cut off from each key.
    stripped: usize,
}

/// A key without the part that its scan cuts off, and its value.
pub type Row = (Vec<u8>, Vec<u8>);

impl<'a> Scan<'a> {
    /// Scans the rows with this prefix. Keys are returned without it.
    pub fn new(db: &'a Db, family: Family, prefix: &[u8]) -> Scan<'a> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut rows = db.rocks().raw_iterator_cf_opt(db.family(family), options);
        rows.seek(prefix);
        Scan {
            db,
            rows,
            prefix: prefix.to_vec(),
            stripped: prefix.len(),
        }
    }

    /// Scans the rows of a table that begin with `within`. Keys are returned without state and
    /// table.
    pub fn of_table(db: &'a Db, state: StateId, table: u8, within: &[u8]) -> Scan<'a> {
        let scan = Scan::new(db, Family::State, &key(state, table, within));
        let stripped = scan.stripped - within.len();
        Scan { stripped, ..scan }
    }

    pub fn next(&mut self) -> Result<Option<Row>, DbError> {
        let Some((key, value)) = self.rows.item() else {
            self.rows.status().map_err(|e| self.db.failed(e))?;
            return Ok(None);
        };
        if !key.starts_with(&self.prefix) {
            return Ok(None);
        }
        let row = (key[self.stripped..].to_vec(), value.to_vec());
        self.rows.next();
        Ok(Some(row))
    }
}
