//! A disk's list of shards not yet confirmed: what gc looks at instead of walking the disk.
//!
//! Lies in the disk's own RocksDB, so it is lost only together with the shards it tells of.

use std::sync::Arc;

use rocksdb::{Direction, IteratorMode, WriteBatch};

use crate::db::{Db, DbError, Family, log_tag};
use crate::disk::{ShardHeader, ShardName, Unconfirmed};
use crate::types::{BucketId, DiskId, Epoch, WriteId};

const KEY_LEN: usize = 22;
const VALUE_LEN: usize = 16;

pub struct Pending {
    db: Arc<Db>,
    disk: DiskId,
}

impl Pending {
    pub fn new(db: Arc<Db>, disk: DiskId) -> Pending {
        Pending { db, disk }
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Durable when it returns. Power goes before: nothing of the shard is on the disk. After: gc
    /// finds the entry, whatever of the shard is there.
    pub async fn add(&self, shard: &ShardHeader) -> Result<(), DbError> {
        let (key, value) = (encode_key(&shard.name), encode_value(shard));
        let family = self.db.family(Family::Log);
        self.db
            .synced(|batch| batch.put_cf(family, key, value))
            .await
    }

    /// Without a sync: an entry that comes back after a power cut is confirmed once more.
    pub fn remove(&self, shards: &[ShardName]) -> Result<(), DbError> {
        if shards.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for shard in shards {
            batch.delete_cf(self.db.family(Family::Log), encode_key(shard));
        }
        self.db.write_unsynced(batch)
    }

    pub fn list(&self, below: Epoch, max: usize) -> Result<Vec<Unconfirmed>, DbError> {
        let prefix = [log_tag::UNCONFIRMED];
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        let mut entries = Vec::new();
        for row in self
            .db
            .rocks()
            .iterator_cf(self.db.family(Family::Log), mode)
        {
            let (key, value) = row.map_err(|e| self.db.failed(e))?;
            if !key.starts_with(&prefix) || entries.len() >= max {
                break;
            }
            let entry = decode(self.disk, &key, &value)
                .ok_or_else(|| self.db.corrupt("malformed entry of an unconfirmed shard"))?;
            if entry.epoch < below {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

fn encode_key(shard: &ShardName) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[0] = log_tag::UNCONFIRMED;
    key[1..17].copy_from_slice(&shard.write_id.0);
    key[17] = shard.rank;
    key[18..].copy_from_slice(&shard.generation.to_be_bytes());
    key
}

fn encode_value(shard: &ShardHeader) -> [u8; VALUE_LEN] {
    let mut value = [0; VALUE_LEN];
    value[..8].copy_from_slice(&shard.epoch.0.to_le_bytes());
    value[8..].copy_from_slice(&shard.bucket.0.to_le_bytes());
    value
}

fn decode(disk: DiskId, key: &[u8], value: &[u8]) -> Option<Unconfirmed> {
    let key: &[u8; KEY_LEN] = key.try_into().ok()?;
    let value: &[u8; VALUE_LEN] = value.try_into().ok()?;
    Some(Unconfirmed {
        disk,
        epoch: Epoch(u64::from_le_bytes(value[..8].try_into().ok()?)),
        bucket: BucketId(u64::from_le_bytes(value[8..].try_into().ok()?)),
        write_id: WriteId(key[1..17].try_into().ok()?),
        rank: key[17],
        generation: u32::from_be_bytes(key[18..].try_into().ok()?),
    })
}
