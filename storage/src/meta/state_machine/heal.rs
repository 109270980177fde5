//! The heal queue, the swap of a shard for one made anew or of a whole set for a wider one, and the
//! disks that never come back.
//!
//! A heal row says that a shard may not be what its data row says. It comes with what causes it (a
//! write that left a shard out, a reader or scrub that met damage, a disk expelled) and goes with
//! what settles it: a swap, a look that found the shard whole, or the end of the data row. A narrow
//! row says that a write has fewer shards than its class. It comes with the data row and goes with
//! it, or when the write is coded again.

use std::collections::HashSet;

use super::{Reply, Rows, Step};
use crate::meta::command::{HealEntry, Recode, ScrubState, Swap};
use crate::meta::keys;
use crate::meta::record::{
    DataKind, DataRow, ExpelledDisk, ExpelledRow, GarbageShard, HealRow, Looked, ScrubRow,
};
use crate::meta::txn::decode;
use drystone_store::error::{Refusal, Result};
use drystone_store::shard_set::{ShardAt, ShardPlace, ShardSet};
use drystone_store::types::{BucketId, DiskId, WriteId};

impl Step<'_> {
    /// An entry that is there keeps its time.
    pub(super) fn owe(&mut self, bucket: BucketId, id: WriteId, rank: u8) -> Result<()> {
        let key = self.keys.heal(id, rank);
        if self.txn.raw(&key)?.is_none() {
            let since = self.time;
            self.txn.put(key, &HealRow { bucket, since });
        }
        Ok(())
    }

    /// Only shards that a data row still names are healed.
    pub(super) fn queue_heal(&mut self, entries: &[HealEntry]) -> Result<Reply> {
        for entry in entries {
            let Some(row) = self.txn.data_row(entry.write_id)? else {
                continue;
            };
            if place(&row, entry.rank).is_some() {
                self.owe(row.bucket, entry.write_id, entry.rank)?;
            }
        }
        Ok(Reply::Done)
    }

    /// Takes entries off whose shard is still the one that was looked at.
    pub(super) fn settle_heals(&mut self, entries: &[(HealEntry, ShardAt)]) -> Result<Reply> {
        let expelled = self.expelled()?;
        for (entry, at) in entries {
            let row = self.txn.data_row(entry.write_id)?;
            let place = row.as_ref().and_then(|row| place(row, entry.rank));
            let owed = place.is_some_and(|place| {
                place.missing || place.at() != *at || expelled.has(place.disk)
            });
            if !owed {
                self.txn.delete(self.keys.heal(entry.write_id, entry.rank));
            }
        }
        Ok(Reply::Done)
    }

    /// Fenced: the row is there and has the old shard still, no other shard of this write lies on
    /// the new one's disk, and that disk was not expelled. Refused, the new shard is an orphan.
    pub(super) fn swap_shard(&mut self, swap: &Swap) -> Result<Reply> {
        let row = self.txn.data_row(swap.write_id)?;
        let mut row: DataRow = row.ok_or(Refusal::Conflict)?;
        let expelled = self.expelled()?;
        let DataKind::Shards(set) = &mut row.kind else {
            return Err(Refusal::Conflict.into());
        };
        let is_other = |(rank, place): (usize, &ShardPlace)| {
            rank != usize::from(swap.rank) && place.disk == swap.to.disk
        };
        if set.shards.iter().enumerate().any(is_other) || expelled.has(swap.to.disk) {
            return Err(Refusal::Conflict.into());
        }
        let place = set.shards.get_mut(usize::from(swap.rank));
        let place = place.filter(|place| place.at() == swap.from);
        let place = place.ok_or(Refusal::Conflict)?;
        *place = ShardPlace {
            disk: swap.to.disk,
            generation: swap.to.generation,
            checksum: swap.checksum,
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

    /// Fenced: the row is there and has all old shards still, the new ones are more, each is a file
    /// of another name on a disk of its own, and none of those disks was expelled. Refused, the new
    /// shards are orphans. Any reader of the old ones holds an epoch, above which no floor rises.
    pub(super) fn recode_data(&mut self, recode: &Recode) -> Result<Reply> {
        let id = recode.write_id;
        let row = self.txn.data_row(id)?;
        let mut row: DataRow = row.ok_or(Refusal::Conflict)?;
        let DataKind::Shards(set) = &mut row.kind else {
            return Err(Refusal::Conflict.into());
        };
        if !set.places().eq(recode.from.iter().copied()) {
            return Err(Refusal::Conflict.into());
        }
        match &recode.to {
            None => {
                set.narrow = false;
                self.txn.delete(self.keys.narrow(id));
            }
            Some(to) => {
                let expelled = self.expelled()?;
                let mut disks = HashSet::new();
                let may = |place: &ShardPlace| {
                    let own = disks.insert(place.disk) && !recode.from.contains(&place.at());
                    own && !place.missing && !expelled.has(place.disk)
                };
                if to.shards.len() <= set.shards.len() || !to.shards.iter().all(may) {
                    return Err(Refusal::Conflict.into());
                }
                self.settle_write(id, set)?;
                let replaced = GarbageShard::all_of(set);
                *set = ShardSet {
                    narrow: false,
                    ..to.clone()
                };
                self.discard_shards(row.bucket, id, replaced)?;
            }
        }
        self.txn.put(self.keys.data(id), &row);
        Ok(Reply::Done)
    }

    /// Nothing is owed any more to a set of shards that goes.
    pub(super) fn settle_write(&mut self, id: WriteId, set: &ShardSet) -> Result<()> {
        for (heal, _) in self.txn.scan(&self.keys.heals_of(id), usize::MAX)? {
            self.txn.delete(heal);
        }
        if set.narrow {
            self.txn.delete(self.keys.narrow(id));
        }
        Ok(())
    }

    pub(super) fn note_scrub(&mut self, state: ScrubState) -> Result<Reply> {
        self.txn.put(self.keys.scrub(), &ScrubRow(state));
        Ok(Reply::Done)
    }

    pub(super) fn expelled(&self) -> Result<ExpelledRow> {
        Ok(self.txn.row(&self.keys.expelled())?.unwrap_or_default())
    }

    pub(super) fn expel_disk(&mut self, disk: DiskId) -> Result<Reply> {
        let mut expelled = self.expelled()?;
        if !expelled.has(disk) {
            let looked = Looked::Nowhere;
            expelled.0.push(ExpelledDisk { disk, looked });
            self.txn.put(self.keys.expelled(), &expelled);
        }
        Ok(Reply::Done)
    }

    /// How far it looked is in the row, so that a cut costs nothing. Rows that come later behind
    /// that point owe what they have on the disk by themselves.
    pub(super) fn queue_disk(&mut self, disk: DiskId, max: usize) -> Result<Reply> {
        let (mut shards, mut expelled) = (0, self.expelled()?);
        let nothing = Reply::Queued {
            shards,
            more: false,
        };
        let Some(entry) = expelled.0.iter_mut().find(|entry| entry.disk == disk) else {
            return Ok(nothing);
        };
        let all = self.keys.all_data();
        let range = match entry.looked {
            Looked::Nowhere => all,
            Looked::UpTo(id) => all.starting_at(keys::successor(&self.keys.data(id))),
            Looked::Everywhere => return Ok(nothing),
        };
        let rows = self.txn.scan(&range, max)?;
        for (key, value) in &rows {
            let id = keys::parse_data(key)?;
            entry.looked = Looked::UpTo(id);
            // A row that does not decode is the loss of its own bytes, not of this disk's heal.
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
                self.owe(bucket, id, rank)?;
                shards += 1;
            }
        }
        let more = rows.len() == max;
        if !more {
            entry.looked = Looked::Everywhere;
        }
        self.txn.put(self.keys.expelled(), &expelled);
        Ok(Reply::Queued { shards, more })
    }
}

fn place(row: &DataRow, rank: u8) -> Option<&ShardPlace> {
    match &row.kind {
        DataKind::Shards(set) => set.shards.get(usize::from(rank)),
        DataKind::Inline | DataKind::Parts { .. } => None,
    }
}
