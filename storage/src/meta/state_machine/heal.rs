//! The heal queue, the replacement of a shard or of a whole set of shards, and the removed disks.
//!
//! A heal row says that a shard may be missing or damaged. It is written with its cause: a write
//! that left a shard out, a reader or scrub that met damage, or the removal of a disk. It is
//! deleted when the shard is replaced, when the shard was found whole, or with the data row.
//!
//! An undersized row says that a write has fewer shards than its class. It is written with the data
//! row, and deleted with it or when the write is re-encoded.

use std::collections::HashSet;

use super::{Execution, Reply, RowReads};
use crate::meta::command::{Reencoding, ScrubState, ShardSwap};
use crate::meta::keys;
use crate::meta::record::{
    DataKind, DataRow, GarbageShard, HealRow, QueueProgress, RemovedDisk, RemovedDisksRow, ScrubRow,
};
use crate::meta::txn::decode;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::shard_set::{ShardAt, ShardId, ShardPlace, ShardSet};
use drystone_store::types::{BucketId, DiskId, WriteId};

impl Execution<'_> {
    /// Queues a shard for heal. An existing entry keeps its time.
    pub(super) fn queue_shard(&mut self, bucket: BucketId, id: WriteId, rank: u8) -> Result<()> {
        let key = self.keys.heal(id, rank);
        if self.txn.raw(&key)?.is_none() {
            let since = self.time;
            self.txn.put(key, &HealRow { bucket, since });
        }
        Ok(())
    }

    /// Queues shards for heal, if a data row still names them.
    pub(super) fn queue_heal(&mut self, entries: &[ShardId]) -> Result<Reply> {
        for entry in entries {
            // A row that does not decode costs its own shards, not those beside them.
            let Some(row) = readable(self.txn.data_row(entry.write_id))? else {
                continue;
            };
            if place(&row, entry.rank).is_some() {
                self.queue_shard(row.bucket, entry.write_id, entry.rank)?;
            }
        }
        Ok(Reply::Done)
    }

    /// Removes entries whose shard was found whole, if it is still the shard that was checked.
    pub(super) fn settle_heals(&mut self, entries: &[(ShardId, ShardAt)]) -> Result<Reply> {
        let removed = self.removed_disks()?;
        for (entry, at) in entries {
            let row = readable(self.txn.data_row(entry.write_id))?;
            let place = row.as_ref().and_then(|row| place(row, entry.rank));
            let must_heal = place
                .is_some_and(|place| place.missing || place.at() != *at || removed.has(place.disk));
            if !must_heal {
                self.txn.delete(self.keys.heal(entry.write_id, entry.rank));
            }
        }
        Ok(Reply::Done)
    }

    /// Replaces one shard. Refused unless the row still has the old shard, no other shard of this
    /// write is on the new one's disk, and that disk was not removed. If refused, the new shard is
    /// an orphan.
    pub(super) fn swap_shard(&mut self, swap: &ShardSwap) -> Result<Reply> {
        let row = self.txn.data_row(swap.write_id)?;
        let mut row: DataRow = row.ok_or(Refusal::Conflict)?;
        let removed = self.removed_disks()?;
        let DataKind::Shards(set) = &mut row.kind else {
            return Err(Refusal::Conflict.into());
        };
        let is_other = |(rank, place): (usize, &ShardPlace)| {
            rank != usize::from(swap.rank) && place.disk == swap.to.disk
        };
        if set.shards.iter().enumerate().any(is_other) || removed.has(swap.to.disk) {
            return Err(Refusal::Conflict.into());
        }
        let place = set.shards.get_mut(usize::from(swap.rank));
        let place = place.filter(|place| place.at() == swap.from);
        let place = place.ok_or(Refusal::Conflict)?;
        *place = ShardPlace {
            disk: swap.to.disk,
            generation: swap.to.generation,
            checksum: swap.checksum,
            payload_checksum: place.payload_checksum,
            missing: false,
        };
        let replaced = GarbageShard {
            rank: swap.rank,
            at: swap.from,
        };
        self.discard_shards(row.bucket, swap.write_id, vec![replaced])?;
        self.txn.put(self.keys.data(swap.write_id), &row);
        self.txn.delete(self.keys.heal(swap.write_id, swap.rank));
        Ok(Reply::Done)
    }

    /// Replaces all shards of a write. Refused unless the row still has all old shards, the new
    /// ones are more, each is a file with a new name on a disk of its own, and none of those disks
    /// was removed. If refused, the new shards are orphans. A reader of the old shards holds an
    /// epoch, and the floor does not rise above that.
    pub(super) fn reencode_data(&mut self, reencoding: &Reencoding) -> Result<Reply> {
        let id = reencoding.write_id;
        let row = self.txn.data_row(id)?;
        let mut row: DataRow = row.ok_or(Refusal::Conflict)?;
        let DataKind::Shards(set) = &mut row.kind else {
            return Err(Refusal::Conflict.into());
        };
        if !set.places().eq(reencoding.from.iter().copied()) {
            return Err(Refusal::Conflict.into());
        }
        match &reencoding.to {
            None => {
                set.undersized = false;
                self.txn.delete(self.keys.undersized(id));
            }
            Some(to) => {
                let removed = self.removed_disks()?;
                let mut disks = HashSet::new();
                let may = |place: &ShardPlace| {
                    let own = disks.insert(place.disk) && !reencoding.from.contains(&place.at());
                    own && !place.missing && !removed.has(place.disk)
                };
                if to.shards.len() <= set.shards.len() || !to.shards.iter().all(may) {
                    return Err(Refusal::Conflict.into());
                }
                self.unqueue_write(id, set)?;
                let replaced = GarbageShard::all_of(set);
                *set = ShardSet {
                    undersized: false,
                    ..to.clone()
                };
                self.discard_shards(row.bucket, id, replaced)?;
            }
        }
        self.txn.put(self.keys.data(id), &row);
        Ok(Reply::Done)
    }

    /// Removes a write from the queues of heal and re-encoding, because its set of shards is
    /// removed.
    pub(super) fn unqueue_write(&mut self, id: WriteId, set: &ShardSet) -> Result<()> {
        for (heal, _) in self.txn.scan(&self.keys.heals_of(id), usize::MAX)? {
            self.txn.delete(heal);
        }
        if set.undersized {
            self.txn.delete(self.keys.undersized(id));
        }
        Ok(())
    }

    pub(super) fn note_scrub(&mut self, state: ScrubState) -> Result<Reply> {
        self.txn.put(self.keys.scrub(), &ScrubRow(state));
        Ok(Reply::Done)
    }

    pub(super) fn removed_disks(&self) -> Result<RemovedDisksRow> {
        Ok(self
            .txn
            .row(&self.keys.removed_disks())?
            .unwrap_or_default())
    }

    pub(super) fn remove_disk(&mut self, disk: DiskId) -> Result<Reply> {
        let mut removed = self.removed_disks()?;
        if !removed.has(disk) {
            let progress = QueueProgress::NotStarted;
            removed.0.push(RemovedDisk { disk, progress });
            self.txn.put(self.keys.removed_disks(), &removed);
        }
        Ok(Reply::Done)
    }

    /// Queues the shards on a removed disk, step by step. The progress is in the row, so a crash
    /// costs nothing. A data row that is written later, before that point, queues its own shards on
    /// the disk.
    pub(super) fn queue_disk(&mut self, disk: DiskId, max: usize) -> Result<Reply> {
        let (mut shards, mut removed) = (0, self.removed_disks()?);
        let nothing = Reply::Queued {
            shards,
            more: false,
        };
        let Some(entry) = removed.0.iter_mut().find(|entry| entry.disk == disk) else {
            return Ok(nothing);
        };
        let all = self.keys.all_data();
        let range = match entry.progress {
            QueueProgress::NotStarted => all,
            QueueProgress::UpTo(id) => all.starting_at(keys::successor(&self.keys.data(id))),
            QueueProgress::Complete => return Ok(nothing),
        };
        let rows = self.txn.scan(&range, max)?;
        for (key, value) in &rows {
            let id = keys::parse_data(key)?;
            entry.progress = QueueProgress::UpTo(id);
            // A row that does not decode costs its own bytes, not the heal of this disk.
            let Ok(DataRow { bucket, kind, .. }) = decode(key, value) else {
                continue;
            };
            let DataKind::Shards(set) = &kind else {
                continue;
            };
            for (rank, _) in (0..)
                .zip(&set.shards)
                .filter(|(_, place)| place.disk == disk)
            {
                self.queue_shard(bucket, id, rank)?;
                shards += 1;
            }
        }
        let more = rows.len() == max;
        if !more {
            entry.progress = QueueProgress::Complete;
        }
        self.txn.put(self.keys.removed_disks(), &removed);
        Ok(Reply::Queued { shards, more })
    }
}

/// Returns `None` in place of a row that does not decode.
fn readable(row: Result<Option<DataRow>>) -> Result<Option<DataRow>> {
    match row {
        Err(Error::BadRow(_)) => Ok(None),
        row => row,
    }
}

fn place(row: &DataRow, rank: u8) -> Option<&ShardPlace> {
    match &row.kind {
        DataKind::Shards(set) => set.shards.get(usize::from(rank)),
        DataKind::Inline | DataKind::Parts { .. } => None,
    }
}
