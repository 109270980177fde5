//! A disk's list of unconfirmed shards, which gc reads instead of walking the disk.
//!
//! The list lies in the disk's own RocksDB. When that database is rebuilt, the list is rebuilt from
//! the files. Files that the metadata name may be missing then, so the disk needs an **inventory**
//! (`workers::inventory`). A note in the same database says so until it is done.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{Direction, IteratorMode, WriteBatch};

use crate::db::{Db, DbError, Family, log_tag};
use crate::disk::identity::shard_folder;
use crate::disk::shard_file::file_name;
use crate::disk::{ShardHeader, ShardName, UnconfirmedShard};
use drystone_store::lock::RwLock;
use drystone_store::types::{BucketId, DiskId, Epoch, WriteId};

const KEY_LEN: usize = 22;
const VALUE_LEN: usize = 16;
/// The key of the note that the disk needs an inventory.
const INVENTORY_KEY: [u8; 1] = [log_tag::INVENTORY];

pub struct PendingList {
    /// `None` once it was closed.
    db: RwLock<Option<Arc<Db>>>,
    disk: DiskId,
}

impl PendingList {
    pub fn new(db: Arc<Db>, disk: DiskId) -> PendingList {
        let db = RwLock::new(Some(db));
        PendingList { db, disk }
    }

    fn db(&self) -> Result<Arc<Db>, DbError> {
        let db = self.db.read();
        db.clone().ok_or(DbError::Closed)
    }

    /// Ends the use of the database, which hangs.
    pub fn give_up(&self, why: &str) {
        if let Ok(db) = self.db() {
            db.give_up(why);
        }
    }

    /// The list is not asked for any more, and nothing here keeps its database open.
    pub fn close(&self) {
        let mut db = self.db.write();
        let last = db.take();
        drop(db);
        drop(last);
    }

    /// Adds a shard durably. Power goes before: nothing of the shard is on the disk. After: gc
    /// finds the entry, whatever of the shard is there.
    pub async fn add(&self, shard: &ShardHeader) -> Result<(), DbError> {
        let (key, value) = (encode_key(&shard.name), encode_value(shard));
        let db = self.db()?;
        db.synced(|batch| batch.put_cf(db.family(Family::Log), key, value))
            .await
    }

    /// Returns those of `shards` that are not on the list. Blocks.
    pub fn without_listed(&self, mut shards: Vec<ShardName>) -> Result<Vec<ShardName>, DbError> {
        let db = self.db()?;
        let family = db.family(Family::Log);
        let keys: Vec<_> = shards.iter().map(|s| (family, encode_key(s))).collect();
        let mut rows = db.rocks().multi_get_cf(keys).into_iter();
        let mut failed = None;
        shards.retain(|_| match rows.next() {
            Some(Ok(row)) => row.is_none(),
            Some(Err(e)) => {
                failed = Some(e);
                false
            }
            None => false,
        });
        failed.map_or(Ok(shards), |e| Err(db.failed(e)))
    }

    /// Adds shards that have files to the list, as of `epoch`; see [`relist`]. It does not sync:
    /// the next walk finds a lost entry again. Blocks.
    pub fn add_existing(&self, shards: &[ShardName], epoch: Epoch) -> Result<(), DbError> {
        let (db, mut batch) = (self.db()?, WriteBatch::default());
        for shard in shards {
            let family = db.family(Family::Log);
            batch.put_cf(family, encode_key(shard), value_without_bucket(epoch));
        }
        db.write_unsynced(batch)
    }

    /// Removes shards without a sync: an entry that is back after a power cut is confirmed once
    /// more.
    pub fn remove(&self, shards: &[ShardName]) -> Result<(), DbError> {
        if shards.is_empty() {
            return Ok(());
        }
        let (db, mut batch) = (self.db()?, WriteBatch::default());
        for shard in shards {
            batch.delete_cf(db.family(Family::Log), encode_key(shard));
        }
        db.write_unsynced(batch)
    }

    pub fn list(&self, below: Epoch, max: usize) -> Result<Vec<UnconfirmedShard>, DbError> {
        let prefix = [log_tag::UNCONFIRMED];
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        let (db, mut entries) = (self.db()?, Vec::new());
        for row in db.rocks().iterator_cf(db.family(Family::Log), mode) {
            let (key, value) = row.map_err(|e| db.failed(e))?;
            if !key.starts_with(&prefix) || entries.len() >= max {
                break;
            }
            let entry = decode(self.disk, &key, &value)
                .ok_or_else(|| db.corrupt("malformed entry of an unconfirmed shard"))?;
            if entry.epoch < below {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// Adds all shards that have files on a disk to the list, as of `epoch`, for a database that lost
/// the list or has an older one. gc then confirms those that metadata name and removes the others.
/// Returns their number. Blocks.
///
/// `epoch` is the current one: no write that is under way began later, so the floor guards it as
/// well as the true one would. The bucket of an entry is only read by people.
///
/// Everything else that the lost database knew of the shards is lost with it, so `relist` also
/// writes the note that the disk needs an inventory ([`needs_inventory`]).
///
/// The entries are durable when it returns. Power goes before: a part of the list is there, and the
/// caller tries again.
pub fn relist(dir: &Path, db: &Db, epoch: Epoch) -> io::Result<u64> {
    let mut count = 0;
    let mut batch = WriteBatch::default();
    batch.put_cf(db.family(Family::Log), INVENTORY_KEY, []);
    db.write_unsynced(batch)?;
    for first in 0..=u8::MAX {
        let mut batch = WriteBatch::default();
        for name in db.env().files().list(&shard_folder(dir, first))? {
            let name = name?;
            // Other files there are not the store's.
            if let Some(name) = name.to_str().and_then(parse_name) {
                batch.put_cf(
                    db.family(Family::Log),
                    encode_key(&name),
                    value_without_bucket(epoch),
                );
                count += 1;
            }
        }
        db.write_unsynced(batch)?;
    }
    db.flush(&[Family::Log])?;
    Ok(count)
}

/// Returns whether the metadata may name shards that the disk lacks, and nobody has checked yet.
/// Blocks.
pub fn needs_inventory(db: &Db) -> Result<bool, DbError> {
    let row = db
        .rocks()
        .get_pinned_cf(db.family(Family::Log), INVENTORY_KEY);
    Ok(row.map_err(|e| db.failed(e))?.is_some())
}

/// Removes the note, once all shards that the disk lacks are queued for heal. It does not sync: a
/// second inventory does no harm. Blocks.
pub fn inventory_taken(db: &Db) -> Result<(), DbError> {
    let mut batch = WriteBatch::default();
    batch.delete_cf(db.family(Family::Log), INVENTORY_KEY);
    db.write_unsynced(batch)
}

/// Parses the name of a shard's file.
pub fn parse_name(file: &str) -> Option<ShardName> {
    let mut parts = file.split('.');
    let (id, rank, generation) = (parts.next()?, parts.next()?, parts.next()?);
    let id = u128::from_str_radix(id, 16)
        .ok()
        .filter(|_| id.len() == 32)?;
    let name = ShardName {
        write_id: WriteId(id.to_be_bytes()),
        rank: u8::from_str_radix(rank, 16).ok()?,
        generation: u32::from_str_radix(generation, 16).ok()?,
    };
    (parts.next().is_none() && file_name(&name) == file).then_some(name)
}

fn encode_key(shard: &ShardName) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[0] = log_tag::UNCONFIRMED;
    key[1..17].copy_from_slice(&shard.write_id.0);
    key[17] = shard.rank;
    key[18..].copy_from_slice(&shard.generation.to_be_bytes());
    key
}

/// Returns an entry without a bucket: nobody knows it any more.
fn value_without_bucket(epoch: Epoch) -> [u8; VALUE_LEN] {
    let mut value = [0; VALUE_LEN];
    value[..8].copy_from_slice(&epoch.0.to_le_bytes());
    value
}

fn encode_value(shard: &ShardHeader) -> [u8; VALUE_LEN] {
    let mut value = [0; VALUE_LEN];
    value[..8].copy_from_slice(&shard.epoch.0.to_le_bytes());
    value[8..].copy_from_slice(&shard.bucket.0.to_le_bytes());
    value
}

fn decode(disk: DiskId, key: &[u8], value: &[u8]) -> Option<UnconfirmedShard> {
    let key: &[u8; KEY_LEN] = key.try_into().ok()?;
    let value: &[u8; VALUE_LEN] = value.try_into().ok()?;
    Some(UnconfirmedShard {
        disk,
        epoch: Epoch(u64::from_le_bytes(value[..8].try_into().ok()?)),
        bucket: BucketId(u64::from_le_bytes(value[8..].try_into().ok()?)),
        write_id: WriteId(key[1..17].try_into().ok()?),
        rank: key[17],
        generation: u32::from_be_bytes(key[18..].try_into().ok()?),
    })
}
