//! The reads of gc, heal and scrub: garbage, the queues, and whether a row still names a shard.

use std::collections::BTreeSet;

use super::View;
use crate::meta::command::{ScrubState, UpkeepSettings};
use crate::meta::keys;
use crate::meta::record::{
    DataKind, DataRow, DiskRow, EpochsRow, GarbageRow, GarbageShard, HealRow, QueueProgress,
    Record as _, RemovedDisksRow, ScrubRow, UpkeepRow,
};
use crate::meta::txn::{RowReads as _, decode_or_skip};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardAt, ShardId, ShardSet};
use drystone_store::types::{BucketId, DiskId, Epoch, Timestamp, WriteId};

/// Shards, or a part list, that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    pub epoch: Epoch,
    pub write_id: WriteId,
    pub bucket: BucketId,
    pub shards: Vec<GarbageShard>,
    pub is_part_list: bool,
}

/// A page of garbage rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GarbagePage {
    /// Without the rows that do not decode and those in `named`, which stay.
    pub rows: Vec<Garbage>,
    /// The rows of shards that a data row names, which no command leaves, or that it may name.
    pub named: Vec<(Epoch, WriteId)>,
    /// The last row of the page, also if it does not decode; `None` after the end.
    pub last: Option<(Epoch, WriteId)>,
}

/// A shard to heal, with its write.
#[derive(Clone, Debug)]
pub struct ShardToHeal {
    pub entry: ShardId,
    pub bucket: BucketId,
    pub size: u64,
    pub set: ShardSet,
}

/// The shards of a write that its bytes can be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    pub data_shards: u8,
    /// The disks with a good shard, as far as the metadata know.
    pub good: Vec<DiskId>,
}

/// The length of the heal queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealQueue {
    pub shards: u64,
    /// The number of writes that have at least one of them.
    pub writes: u64,
    /// The time when the oldest entry was queued.
    pub oldest: Option<Timestamp>,
    /// The queue was not counted to its end.
    pub more: bool,
}

impl View<'_> {
    /// Returns whether the data row names this shard.
    pub fn names(&self, id: WriteId, rank: u8, at: ShardAt) -> Result<bool> {
        self.names_any(id, &[GarbageShard { rank, at }])
    }

    /// Returns whether the data row names one of these shards.
    fn names_any(&self, id: WriteId, shards: &[GarbageShard]) -> Result<bool> {
        let row = self.data_row(id)?;
        let Some(DataKind::Shards(set)) = row.map(|row| row.kind) else {
            return Ok(false);
        };
        Ok(shards.iter().any(|shard| {
            let place = set.shards.get(usize::from(shard.rank));
            place.is_some_and(|place| place.at() == shard.at)
        }))
    }

    /// Returns whether this shard may still be read: the data row names it, or it was moved to
    /// `garbage` in an epoch that is not yet below the floor. A row that does not decode may refer
    /// to it.
    pub fn refers_to(&self, id: WriteId, rank: u8, at: ShardAt) -> Result<bool> {
        if or_may(id, self.names(id, rank, at))? {
            return Ok(true);
        }
        let shard = GarbageShard { rank, at };
        let EpochsRow { epoch, floor, .. } = self.epochs()?;
        for epoch in floor.0..=epoch.0 {
            let row = self.row(&self.keys.garbage(Epoch(epoch), id));
            let names =
                |row: Option<GarbageRow>| row.is_some_and(|row| row.shards.contains(&shard));
            if or_may(id, row.map(names))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns a page of at most `max` garbage rows of epochs below `below` that come after
    /// `after`, oldest first.
    pub fn garbage(
        &self,
        after: Option<(Epoch, WriteId)>,
        below: Epoch,
        max: usize,
    ) -> Result<GarbagePage> {
        let mut range = self.keys.garbage_below(below);
        if let Some((epoch, id)) = after {
            range = range.starting_at(keys::successor(&self.keys.garbage(epoch, id)));
        }
        let mut page = GarbagePage::default();
        for (key, value) in self.scan(&range, max)? {
            let (epoch, write_id) = keys::parse_garbage(&key)?;
            page.last = Some((epoch, write_id));
            let Some(row) = decode_or_skip::<GarbageRow>(&key, &value) else {
                continue;
            };
            if or_may(write_id, self.names_any(write_id, &row.shards))? {
                page.named.push((epoch, write_id));
                continue;
            }
            page.rows.push(Garbage {
                epoch,
                write_id,
                bucket: row.bucket,
                shards: row.shards,
                is_part_list: row.is_part_list,
            });
        }
        Ok(page)
    }

    /// Writes a row of garbage into this replica, past the log.
    #[cfg(test)]
    pub fn plant_garbage(&self, epoch: Epoch, id: WriteId, row: &GarbageRow) {
        let state = self.db.family(crate::db::Family::State);
        let planted = self.db.rocks();
        let planted = planted.put_cf(state, self.keys.garbage(epoch, id), row.encode());
        planted.expect("a test's database can be written");
    }

    /// Returns at most `max` entries of the heal queue above `after`.
    pub fn heals(&self, after: Option<ShardId>, max: usize) -> Result<Vec<ShardId>> {
        let mut range = self.keys.heals();
        if let Some(ShardId { write_id, rank }) = after {
            range = range.starting_at(keys::successor(&self.keys.heal(write_id, rank)));
        }
        let rows = self.scan(&range, max)?;
        let entries = rows.iter().map(|(key, _)| {
            let (write_id, rank) = keys::parse_heal(key)?;
            Ok(ShardId { write_id, rank })
        });
        entries.collect()
    }

    /// Returns the shard of an entry, with its write. `None`: its data row does not exist any more,
    /// or does not decode, which costs that write alone.
    pub fn shard_to_heal(&self, entry: ShardId) -> Result<Option<ShardToHeal>> {
        let ShardId { write_id, rank } = entry;
        let Some(row) = self.raw(&self.keys.data(write_id))? else {
            return Ok(None);
        };
        let Ok(row) = DataRow::decode(&row) else {
            tracing::error!(%write_id, "a data row does not decode and is not healed");
            return Ok(None);
        };
        Ok(match row.kind {
            DataKind::Shards(set) if usize::from(rank) < set.shards.len() => Some(ShardToHeal {
                entry,
                bucket: row.bucket,
                size: row.size,
                set,
            }),
            DataKind::Shards(_) | DataKind::Inline | DataKind::Parts { .. } => None,
        })
    }

    /// Returns the progress of scrub. If the row does not decode, scrub begins from scratch (F-40).
    pub fn scrub(&self) -> Option<ScrubState> {
        let row: Result<Option<ScrubRow>> = self.row(&self.keys.scrub());
        let row = row.inspect_err(|error| tracing::warn!(%error, "scrub begins from scratch"));
        row.ok().flatten().map(|ScrubRow(state)| state)
    }

    /// Checks at most `max` data rows after `after`. Returns rank 0 of each write that has shards,
    /// and the last row that was checked, or `None` after the end. A row that does not decode is
    /// skipped.
    pub fn shard_sets(
        &self,
        after: Option<WriteId>,
        max: usize,
    ) -> Result<(Vec<ShardToHeal>, Option<WriteId>)> {
        let mut range = self.keys.all_data();
        if let Some(after) = after {
            range = range.starting_at(keys::successor(&self.keys.data(after)));
        }
        let rows = self.scan(&range, max)?;
        let (mut sets, mut last) = (Vec::new(), None);
        for (key, _) in &rows {
            let write_id = keys::parse_data(key)?;
            last = Some(write_id);
            sets.extend(self.shard_to_heal(ShardId { write_id, rank: 0 })?);
        }
        Ok((sets, last.filter(|_| rows.len() == max)))
    }

    /// Checks at most `max` data rows after `after`. Returns whether the bytes of each can be read
    /// from these disks alone, as far as the metadata know, and the last row that was checked, or
    /// `None` after the end.
    pub fn is_readable_on(
        &self,
        disks: &[DiskId],
        after: Option<WriteId>,
        max: usize,
    ) -> Result<(bool, Option<WriteId>)> {
        let (sets, last) = self.shard_sets(after, max)?;
        for ShardToHeal { entry, set, .. } in sets {
            let mut good = 0;
            for (rank, _) in (0..)
                .zip(&set.shards)
                .filter(|(_, place)| disks.contains(&place.disk))
            {
                // A shard that was not written is in the queue as well.
                let heal = self.keys.heal(entry.write_id, rank);
                good += u8::from(self.raw(&heal)?.is_none());
            }
            if good < set.data_shards {
                return Ok((false, last));
            }
        }
        Ok((true, last))
    }

    /// Checks at most `max` data rows after `after`. Returns the protection of each write that has
    /// shards by the disks that are `up`, and the last row that was checked, or `None` after the
    /// end. A row that does not decode is skipped.
    pub fn protections(
        &self,
        up: &BTreeSet<DiskId>,
        after: Option<WriteId>,
        max: usize,
    ) -> Result<(Vec<Protection>, Option<WriteId>)> {
        let mut range = self.keys.all_data();
        if let Some(after) = after {
            range = range.starting_at(keys::successor(&self.keys.data(after)));
        }
        let rows = self.scan(&range, max)?;
        let Some((last, _)) = rows.last() else {
            return Ok((Vec::new(), None));
        };
        let last = keys::parse_data(last)?;
        let queued = self.queued_between(after, last)?;
        let mut protections = Vec::new();
        for (key, value) in &rows {
            let write_id = keys::parse_data(key)?;
            let row: Option<DataRow> = decode_or_skip(key, value);
            let Some(DataKind::Shards(set)) = row.map(|row| row.kind) else {
                continue;
            };
            let good = (0..).zip(&set.shards).filter(|(rank, place)| {
                let (write_id, rank) = (write_id, *rank);
                up.contains(&place.disk)
                    && !place.missing
                    && !queued.contains(&ShardId { write_id, rank })
            });
            protections.push(Protection {
                data_shards: set.data_shards,
                good: good.map(|(_, place)| place.disk).collect(),
            });
        }
        Ok((protections, Some(last).filter(|_| rows.len() == max)))
    }

    /// Returns the entries of the heal queue whose writes are above `after` and not above `last`.
    fn queued_between(&self, after: Option<WriteId>, last: WriteId) -> Result<BTreeSet<ShardId>> {
        let mut range = self.keys.heals();
        if let Some(after) = after {
            range = range.starting_at(self.keys.heals_of(after).to);
        }
        range.to = self.keys.heals_of(last).to;
        let rows = self.scan(&range, usize::MAX)?;
        let entries = rows.iter().map(|(key, _)| {
            let (write_id, rank) = keys::parse_heal(key)?;
            Ok(ShardId { write_id, rank })
        });
        entries.collect()
    }

    /// Returns at most `max` undersized writes above `after`.
    pub fn undersized_writes(&self, after: Option<WriteId>, max: usize) -> Result<Vec<WriteId>> {
        let mut range = self.keys.all_undersized();
        if let Some(after) = after {
            range = range.starting_at(keys::successor(&self.keys.undersized(after)));
        }
        let rows = self.scan(&range, max)?;
        rows.iter().map(|(key, _)| keys::parse_data(key)).collect()
    }

    /// Counts the undersized writes, up to `max`.
    pub fn undersized_count(&self, max: usize) -> Result<u64> {
        let mut count = 0;
        let mut rows = self.rows(&self.keys.all_undersized());
        rows.seek_to_first();
        while rows.valid() && count < max as u64 {
            count += 1;
            rows.next();
        }
        self.ended(&rows)?;
        Ok(count)
    }

    /// Counts the heal queue, up to `max` rows of it.
    pub fn heal_queue(&self, max: usize) -> Result<HealQueue> {
        let mut queue = HealQueue::default();
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
            // An entry that does not decode is healed all the same.
            if let Ok(HealRow { since, .. }) = HealRow::decode(value) {
                queue.oldest = Some(queue.oldest.map_or(since, |oldest| oldest.min(since)));
            }
            rows.next();
        }
        self.ended(&rows)?;
        Ok(queue)
    }

    /// Group 0: returns every disk that is or was part of the store, without those whose rows do
    /// not decode.
    pub fn disks(&self) -> Result<Vec<(DiskId, DiskRow)>> {
        let rows = self.scan(&self.keys.disks(), usize::MAX)?;
        let disks = rows.iter().filter_map(|(key, value)| {
            let row = decode_or_skip(key, value)?;
            Some(keys::parse_disk(key).map(|id| (id, row)))
        });
        disks.collect()
    }

    /// Group 0: returns the settings of the store's upkeep.
    pub fn upkeep_settings(&self) -> Result<UpkeepSettings> {
        let row: Option<UpkeepRow> = self.row(&self.keys.upkeep())?;
        Ok(row.map(|UpkeepRow(settings)| settings).unwrap_or_default())
    }

    /// Returns the removed disks, each with whether all of its shards are queued.
    pub fn removed_disks(&self) -> Result<Vec<(DiskId, bool)>> {
        let row: RemovedDisksRow = self.row(&self.keys.removed_disks())?.unwrap_or_default();
        let disks = row.0.into_iter();
        Ok(disks
            .map(|entry| (entry.disk, entry.progress == QueueProgress::Complete))
            .collect())
    }
}

/// Adds that a row that does not decode may name a shard.
fn or_may(id: WriteId, named: Result<bool>) -> Result<bool> {
    match named {
        Err(Error::BadRow(what) | Error::Unfit(what)) => {
            tracing::error!(what, write_id = %id, "a shard is kept");
            Ok(true)
        }
        named => named,
    }
}
