//! What gc, heal and scrub read: garbage, the heal queue, and whether a shard still has a name.

use super::{Epochs, View};
use crate::meta::command::{HealEntry, ScrubState, UpkeepSettings};
use crate::meta::keys;
use crate::meta::record::{
    DataKind, DataRow, ExpelledRow, GarbageRow, GarbageShard, HealRow, Looked, Record as _,
    ScrubRow, UpkeepRow,
};
pub use crate::meta::record::{DiskRow, Standing};
use crate::meta::txn::{Rows as _, decode};
use drystone_store::error::Result;
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::types::{BucketId, DiskId, Epoch, Timestamp, WriteId};

/// Shards that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    pub epoch: Epoch,
    pub write_id: WriteId,
    pub bucket: BucketId,
    pub shards: Vec<GarbageShard>,
}

/// A shard in the heal queue, and the write that it is of.
#[derive(Clone, Debug)]
pub struct Owed {
    pub entry: HealEntry,
    pub bucket: BucketId,
    pub size: u64,
    pub set: ShardSet,
}

/// How much waits in the heal queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub shards: u64,
    /// Writes that have at least one of them.
    pub writes: u64,
    /// When the one that waits longest was queued.
    pub oldest: Option<Timestamp>,
    /// It was not counted to its end.
    pub more: bool,
}

impl View<'_> {
    /// Whether the data row names this shard.
    pub fn names(&self, id: WriteId, rank: u8, at: ShardAt) -> Result<bool> {
        let row = self.data_row(id)?;
        let place = match row.as_ref().map(|row| &row.kind) {
            Some(DataKind::Shards(set)) => set.shards.get(usize::from(rank)),
            _ => None,
        };
        Ok(place.is_some_and(|place| place.at() == at))
    }

    /// Whether this shard may still be read: the data row names it, or it went into `garbage` in an
    /// epoch that is not yet below the floor.
    pub fn refers_to(&self, id: WriteId, rank: u8, at: ShardAt) -> Result<bool> {
        if self.names(id, rank, at)? {
            return Ok(true);
        }
        let shard = GarbageShard { rank, at };
        let Epochs { epoch, floor } = self.epochs()?;
        for epoch in floor.0..=epoch.0 {
            let row: Option<GarbageRow> = self.row(&self.keys.garbage(Epoch(epoch), id))?;
            if row.is_some_and(|row| row.shards.contains(&shard)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Up to `max` garbage rows of epochs below `below` that come after `after`, oldest first.
    pub fn garbage(
        &self,
        after: Option<(Epoch, WriteId)>,
        below: Epoch,
        max: usize,
    ) -> Result<Vec<Garbage>> {
        let mut range = self.keys.garbage_below(below);
        if let Some((epoch, id)) = after {
            range = range.starting_at(keys::successor(&self.keys.garbage(epoch, id)));
        }
        let rows = self.scan(&range, max)?;
        let garbage = rows.iter().map(|(key, value)| {
            let (epoch, write_id) = keys::parse_garbage(key)?;
            let GarbageRow { bucket, shards } = decode(key, value)?;
            Ok(Garbage {
                epoch,
                write_id,
                bucket,
                shards,
            })
        });
        garbage.collect()
    }

    /// Up to `max` entries of the heal queue above `after`.
    pub fn heals(&self, after: Option<HealEntry>, max: usize) -> Result<Vec<HealEntry>> {
        let mut range = self.keys.heals();
        if let Some(HealEntry { write_id, rank }) = after {
            range = range.starting_at(keys::successor(&self.keys.heal(write_id, rank)));
        }
        let rows = self.scan(&range, max)?;
        let entries = rows.iter().map(|(key, _)| {
            let (write_id, rank) = keys::parse_heal(key)?;
            Ok(HealEntry { write_id, rank })
        });
        entries.collect()
    }

    /// What a heal of this entry has to know. `None`: its data row is gone or does not decode,
    /// which costs that write alone.
    pub fn owed_shard(&self, entry: HealEntry) -> Result<Option<Owed>> {
        let HealEntry { write_id, rank } = entry;
        let Some(row) = self.raw(&self.keys.data(write_id))? else {
            return Ok(None);
        };
        let Ok(row) = DataRow::decode(&row) else {
            tracing::error!(%write_id, "a data row does not decode: it is not healed");
            return Ok(None);
        };
        Ok(match row.kind {
            DataKind::Shards(set) if usize::from(rank) < set.shards.len() => Some(Owed {
                entry,
                bucket: row.bucket,
                size: row.size,
                set,
            }),
            DataKind::Shards(_) | DataKind::Inline | DataKind::Parts { .. } => None,
        })
    }

    /// How far scrub is. What does not decode is as good as nothing: it begins anew (F-40).
    pub fn scrub(&self) -> Option<ScrubState> {
        let row: Result<Option<ScrubRow>> = self.row(&self.keys.scrub());
        let row = row.inspect_err(|error| tracing::warn!(%error, "scrub begins from scratch"));
        row.ok().flatten().map(|ScrubRow(state)| state)
    }

    /// Of up to `max` data rows after `after` those that have shards; and the last one looked at,
    /// unless all have been. One that does not decode is passed by.
    pub fn shard_sets(
        &self,
        after: Option<WriteId>,
        max: usize,
    ) -> Result<(Vec<Owed>, Option<WriteId>)> {
        let mut range = self.keys.all_data();
        if let Some(after) = after {
            range = range.starting_at(keys::successor(&self.keys.data(after)));
        }
        let rows = self.scan(&range, max)?;
        let (mut sets, mut last) = (Vec::new(), None);
        for (key, _) in &rows {
            let write_id = keys::parse_data(key)?;
            last = Some(write_id);
            sets.extend(self.owed_shard(HealEntry { write_id, rank: 0 })?);
        }
        Ok((sets, last.filter(|_| rows.len() == max)))
    }

    /// Whether the bytes of up to `max` data rows after `after` can each be read from these disks
    /// alone, as far as the metadata know; and the last row looked at, unless all have been.
    pub fn is_readable_on(
        &self,
        disks: &[DiskId],
        after: Option<WriteId>,
        max: usize,
    ) -> Result<(bool, Option<WriteId>)> {
        let (sets, last) = self.shard_sets(after, max)?;
        for Owed { entry, set, .. } in sets {
            let mut good = 0;
            for (rank, _) in (0..)
                .zip(&set.shards)
                .filter(|(_, place)| disks.contains(&place.disk))
            {
                // What was not written is in the queue as well.
                let heal = self.keys.heal(entry.write_id, rank);
                good += u8::from(self.raw(&heal)?.is_none());
            }
            if good < set.data_shards {
                return Ok((false, last));
            }
        }
        Ok((true, last))
    }

    /// Up to `max` writes above `after` that are narrower than their class.
    pub fn narrow_writes(&self, after: Option<WriteId>, max: usize) -> Result<Vec<WriteId>> {
        let mut range = self.keys.narrows();
        if let Some(after) = after {
            range = range.starting_at(keys::successor(&self.keys.narrow(after)));
        }
        let rows = self.scan(&range, max)?;
        rows.iter().map(|(key, _)| keys::parse_data(key)).collect()
    }

    /// Counts them, up to `max`.
    pub fn narrow_count(&self, max: usize) -> Result<u64> {
        let mut count = 0;
        let mut rows = self.rows(&self.keys.narrows());
        rows.seek_to_first();
        while rows.valid() && count < max as u64 {
            count += 1;
            rows.next();
        }
        self.ended(&rows)?;
        Ok(count)
    }

    /// Counts the heal queue, up to `max` rows of it.
    pub fn queue(&self, max: usize) -> Result<Queue> {
        let mut queue = Queue::default();
        let mut rows = self.rows(&self.keys.heals());
        let mut last = None;
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            if queue.shards as usize >= max {
                queue.more = true;
                break;
            }
            let (write_id, _) = keys::parse_heal(key)?;
            queue.shards += 1;
            queue.writes += u64::from(last.replace(write_id) != Some(write_id));
            // A row that does not decode is healed all the same.
            if let Ok(HealRow { since, .. }) = HealRow::decode(value) {
                queue.oldest = Some(queue.oldest.map_or(since, |oldest| oldest.min(since)));
            }
            rows.next();
        }
        self.ended(&rows)?;
        Ok(queue)
    }

    /// Group 0: every disk that is or was of the store.
    pub fn disks(&self) -> Result<Vec<(DiskId, DiskRow)>> {
        let rows = self.scan(&self.keys.disks(), usize::MAX)?;
        let disks = rows
            .iter()
            .map(|(key, value)| Ok((keys::parse_disk(key)?, decode(key, value)?)));
        disks.collect()
    }

    /// Group 0: how the store keeps itself up.
    pub fn upkeep_settings(&self) -> Result<UpkeepSettings> {
        let row: Option<UpkeepRow> = self.row(&self.keys.upkeep())?;
        Ok(row.map(|UpkeepRow(settings)| settings).unwrap_or_default())
    }

    /// The disks that never come back, and whether all that they had is queued.
    pub fn expelled(&self) -> Result<Vec<(DiskId, bool)>> {
        let row: ExpelledRow = self.row(&self.keys.expelled())?.unwrap_or_default();
        let disks = row.0.into_iter();
        Ok(disks
            .map(|entry| (entry.disk, entry.looked == Looked::Everywhere))
            .collect())
    }
}
