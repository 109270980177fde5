//! Data rows and their reference counts.
//!
//! A write id's row is written with its first reference and deleted with its last, in the batch
//! that changes the row with the reference.

use super::{Execution, RowReads};
use crate::meta::command::{Location, NewData, Reply};
use crate::meta::keys;
use crate::meta::record::{
    DataKind, DataRow, GarbageRow, GarbageShard, OffsetRow, PartRow, UndersizedRow,
};
use crate::meta::txn::decode;
use drystone_store::error::{Refusal, Result};
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{BucketId, Epoch, WriteId};

impl<'a> Execution<'a> {
    /// Adds the row of newly written bytes, with one reference.
    pub(super) fn add_data(&mut self, bucket: BucketId, data: &'a NewData) -> Result<()> {
        if self.txn.data_row(data.write_id)?.is_some() {
            // A write id is used once: these bytes were committed by another command.
            return Err(Refusal::Conflict.into());
        }
        let kind = match &data.location {
            Location::Inline(value) => {
                self.txn.put_value(data.write_id, value);
                DataKind::Inline
            }
            Location::Shards(shards) => {
                self.queue_missing(bucket, data.write_id, shards)?;
                if shards.undersized {
                    let since = self.time;
                    let row = self.keys.undersized(data.write_id);
                    self.txn.put(row, &UndersizedRow { since });
                }
                DataKind::Shards(shards.clone())
            }
        };
        self.put_data(data.write_id, bucket, data.size, kind);
        Ok(())
    }

    pub(super) fn put_data(&mut self, id: WriteId, bucket: BucketId, size: u64, kind: DataKind) {
        let row = DataRow {
            bucket,
            epoch: self.epoch,
            refs: 1,
            size,
            kind,
        };
        self.txn.put(self.keys.data(id), &row);
    }

    /// Queues shards for heal that were not written, or whose disk was removed meanwhile.
    fn queue_missing(&mut self, bucket: BucketId, id: WriteId, shards: &ShardSet) -> Result<()> {
        let removed = self.removed_disks()?;
        for (rank, shard) in (0..).zip(&shards.shards) {
            if shard.missing || removed.has(shard.disk) {
                self.queue_shard(bucket, id, rank)?;
            }
        }
        Ok(())
    }

    /// Adds a reference to bytes of the same bucket. Returns the CRC64NVME of all of them, if they
    /// were uploaded in parts and it is known.
    pub(super) fn retain(&mut self, bucket: BucketId, id: WriteId) -> Result<Option<u64>> {
        let row = self.txn.data_row(id)?;
        let Some(mut row) = row.filter(|row| row.bucket == bucket) else {
            return Err(Refusal::Conflict.into());
        };
        row.refs += 1;
        self.txn.put(self.keys.data(id), &row);
        Ok(match row.kind {
            DataKind::Parts { crc64nvme, .. } => crc64nvme,
            DataKind::Inline | DataKind::Shards(_) => None,
        })
    }

    /// Removes a reference. With the last one the bytes go: an inline value at once, shards and
    /// part lists to `garbage` under the current epoch, because a reader may have begun in it.
    pub(super) fn release(&mut self, id: WriteId) -> Result<()> {
        let key = self.keys.data(id);
        let mut row: DataRow = self.txn.existing_row(&key)?;
        if row.refs > 1 {
            row.refs -= 1;
            self.txn.put(key, &row);
            return Ok(());
        }
        self.txn.delete(key);
        match row.kind {
            DataKind::Inline => self.txn.delete_value(id),
            DataKind::Shards(shards) => {
                self.unqueue_write(id, &shards)?;
                self.discard_shards(row.bucket, id, GarbageShard::all_of(&shards))?;
            }
            DataKind::Parts { .. } => {
                let row = GarbageRow {
                    bucket: row.bucket,
                    shards: Vec::new(),
                    is_part_list: true,
                };
                let key = self.keys.garbage(self.epochs.epoch, id);
                self.txn.put(key, &row);
            }
        }
        Ok(())
    }

    /// Adds shards that lost their name to `garbage`, beside those of the same write in this epoch.
    pub(super) fn discard_shards(
        &mut self,
        bucket: BucketId,
        id: WriteId,
        shards: Vec<GarbageShard>,
    ) -> Result<()> {
        let key = self.keys.garbage(self.epochs.epoch, id);
        let row: Option<GarbageRow> = self.txn.row(&key)?;
        let mut row = row.unwrap_or_else(|| GarbageRow {
            bucket,
            shards: Vec::new(),
            is_part_list: false,
        });
        row.shards.extend(shards);
        self.txn.put(key, &row);
        Ok(())
    }

    /// Removes at most `max` parts of a list that is garbage, and the list's row with the last of
    /// them. Answers whether parts are left. Refused unless the row lies below the floor: a reader
    /// of the object reads the list page by page, until its end.
    pub(super) fn release_parts(
        &mut self,
        epoch: Epoch,
        list: WriteId,
        max: usize,
    ) -> Result<Reply> {
        let garbage = self.keys.garbage(epoch, list);
        let row: Option<GarbageRow> = self.txn.row(&garbage)?;
        match row {
            // Done before.
            None => return Ok(Reply::Emptied { more: false }),
            Some(row) if row.is_part_list && epoch < self.epochs.floor => {}
            Some(_) => return Err(Refusal::Conflict.into()),
        }
        let parts = self.txn.scan(&self.keys.parts(list), max)?;
        for (key, value) in &parts {
            let (_, number) = keys::parse_part(key)?;
            let part: PartRow = decode(key, value)?;
            self.release(part.write_id)?;
            self.txn.delete(self.keys.part_number(list, number));
            self.txn.delete(key.clone());
        }
        let more = parts.len() == max;
        if !more {
            self.txn.delete(garbage);
        }
        Ok(Reply::Emptied { more })
    }

    /// Adds an entry to a part list. It takes over a reference to the part's bytes, which the
    /// caller must have.
    pub(super) fn put_part_row(&mut self, list: WriteId, offset: u64, number: u16, row: &PartRow) {
        self.txn.put(self.keys.part(list, offset, number), row);
        self.txn
            .put(self.keys.part_number(list, number), &OffsetRow(offset));
    }
}
