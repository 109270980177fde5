//! Data rows and their reference counts.
//!
//! A write id's row comes with its first reference and goes with its last, in the batch that
//! changes the row that refers to it.

use super::{Rows, Step};
use crate::meta::command::{NewData, Place};
use crate::meta::keys;
use crate::meta::record::{
    DataKind, DataRow, GarbageRow, GarbageShard, NarrowRow, OffsetRow, PartRow,
};
use crate::meta::txn::decode;
use drystone_store::error::{Refusal, Result};
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{BucketId, WriteId};

impl<'a> Step<'a> {
    /// The row of newly written bytes, with one reference.
    pub(super) fn add_data(&mut self, bucket: BucketId, data: &'a NewData) -> Result<()> {
        if self.txn.data_row(data.write_id)?.is_some() {
            // A write id is used once: these bytes were committed by another command.
            return Err(Refusal::Conflict.into());
        }
        let kind = match &data.place {
            Place::Inline(value) => {
                self.txn.put_value(data.write_id, value);
                DataKind::Inline
            }
            Place::Shards(shards) => {
                self.owe_missing(bucket, data.write_id, shards)?;
                if shards.narrow {
                    let since = self.time;
                    let row = self.keys.narrow(data.write_id);
                    self.txn.put(row, &NarrowRow { since });
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

    /// What was not written, and what was, but on a disk that has been expelled meanwhile.
    fn owe_missing(&mut self, bucket: BucketId, id: WriteId, shards: &ShardSet) -> Result<()> {
        let expelled = self.expelled()?;
        for (rank, shard) in (0..).zip(&shards.shards) {
            if shard.missing || expelled.has(shard.disk) {
                self.owe(bucket, id, rank)?;
            }
        }
        Ok(())
    }

    /// One more reference to bytes of the same bucket.
    pub(super) fn retain(&mut self, bucket: BucketId, id: WriteId) -> Result<()> {
        let row = self.txn.data_row(id)?;
        let Some(mut row) = row.filter(|row| row.bucket == bucket) else {
            return Err(Refusal::Conflict.into());
        };
        row.refs += 1;
        self.txn.put(self.keys.data(id), &row);
        Ok(())
    }

    /// One reference less. The bytes of the last one go: an inline value at once, shards into
    /// `garbage` of the epoch that now is, since a reader may have begun in it.
    pub(super) fn release(&mut self, id: WriteId) -> Result<()> {
        let key = self.keys.data(id);
        let mut row: DataRow = self.txn.owed(&key)?;
        if row.refs > 1 {
            row.refs -= 1;
            self.txn.put(key, &row);
            return Ok(());
        }
        self.txn.delete(key);
        match row.kind {
            DataKind::Inline => self.txn.delete_value(id),
            DataKind::Shards(shards) => {
                self.settle_write(id, &shards)?;
                self.discard_shards(row.bucket, id, GarbageShard::all_of(&shards))?;
            }
            DataKind::Parts { .. } => self.release_parts(id)?,
        }
        Ok(())
    }

    /// Shards that lost their name, beside those of this write that did so before in this epoch.
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
        });
        row.shards.extend(shards);
        self.txn.put(key, &row);
        Ok(())
    }

    fn release_parts(&mut self, list: WriteId) -> Result<()> {
        for (key, value) in self.txn.scan(&self.keys.parts(list), usize::MAX)? {
            let (_, number) = keys::parse_part(&key)?;
            let part: PartRow = decode(&key, &value)?;
            self.release(part.write_id)?;
            self.txn.delete(self.keys.part_number(list, number));
            self.txn.delete(key);
        }
        Ok(())
    }

    /// An entry of a part list; the reference to the part's bytes is the caller's to hand over.
    pub(super) fn put_part_row(&mut self, list: WriteId, offset: u64, number: u16, row: &PartRow) {
        self.txn.put(self.keys.part(list, offset, number), row);
        self.txn
            .put(self.keys.part_number(list, number), &OffsetRow(offset));
    }
}
