//! The disks of the store and the settings of its upkeep: rows of group 0.
//!
//! A disk is up, offline or removed. A removed disk stays removed: its shards are rebuilt
//! elsewhere, and if it came back under its old id it would bring back deleted shards.

use super::{Execution, Reply, RowReads};
use crate::meta::command::SettingsChange;
use crate::meta::record::{Availability, DiskRow, UpkeepRow};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::DiskId;

impl Execution<'_> {
    pub(super) fn register_disks(&mut self, disks: &[(DiskId, String)]) -> Result<Reply> {
        for (disk, directory) in disks {
            let row: Option<DiskRow> = match self.txn.row(&self.keys.disk(*disk)) {
                // It may say that the disk was removed.
                Err(Error::BadRow(what)) => {
                    tracing::error!(what, "a disk's row stays as it is");
                    continue;
                }
                row => row?,
            };
            let since = match row {
                Some(row) if row.availability == Availability::Removed => continue,
                Some(row) if row.availability == Availability::Up => row.since,
                Some(_) | None => self.time,
            };
            let row = DiskRow {
                directory: directory.clone(),
                availability: Availability::Up,
                since,
                replaced_by: None,
            };
            self.txn.put(self.keys.disk(*disk), &row);
        }
        Ok(Reply::Done)
    }

    pub(super) fn mark_offline(&mut self, disk: DiskId) -> Result<Reply> {
        let row: Option<DiskRow> = self.txn.row(&self.keys.disk(disk))?;
        if let Some(mut row) = row.filter(|row| row.availability == Availability::Up) {
            row.availability = Availability::Offline;
            row.since = self.time;
            self.txn.put(self.keys.disk(disk), &row);
        }
        Ok(Reply::Done)
    }

    /// Replaces a disk. Repeated with the same disks, by an operator who got no answer, it succeeds
    /// without a change.
    pub(super) fn replace_disk(
        &mut self,
        old: DiskId,
        new: Option<&(DiskId, String)>,
    ) -> Result<Reply> {
        let row: Option<DiskRow> = self.txn.row(&self.keys.disk(old))?;
        let mut row = row.ok_or(Refusal::Conflict)?;
        let new_id = new.map(|(disk, _)| *disk);
        if let Some((disk, directory)) = new {
            let known: Option<DiskRow> = self.txn.row(&self.keys.disk(*disk))?;
            match known {
                Some(_) if row.replaced_by == new_id => return Ok(Reply::Done),
                Some(_) => return Err(Refusal::Conflict.into()),
                None => {}
            }
            let joined = DiskRow {
                directory: directory.clone(),
                availability: Availability::Up,
                since: self.time,
                replaced_by: None,
            };
            self.txn.put(self.keys.disk(*disk), &joined);
        }
        if row.availability != Availability::Removed {
            row.availability = Availability::Removed;
            row.since = self.time;
        }
        row.replaced_by = new_id.or(row.replaced_by);
        self.txn.put(self.keys.disk(old), &row);
        Ok(Reply::Done)
    }

    pub(super) fn set_upkeep(&mut self, change: SettingsChange) -> Result<Reply> {
        let row: Option<UpkeepRow> = self.txn.row(&self.keys.upkeep())?;
        let settings = row.map(|UpkeepRow(settings)| settings).unwrap_or_default();
        let changed = UpkeepRow(settings.changed(change));
        self.txn.put(self.keys.upkeep(), &changed);
        Ok(Reply::Done)
    }
}
