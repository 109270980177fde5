//! The disks of the store and how it keeps itself up: rows of group 0.
//!
//! A disk is up, away or gone. What is gone stays gone: its shards are made anew elsewhere, so one
//! that came back under its old id would bring back what was deleted meanwhile.

use super::{Reply, Rows, Step};
use crate::meta::command::UpkeepSettings;
use crate::meta::record::{DiskRow, Standing, UpkeepRow};
use drystone_store::error::{Refusal, Result};
use drystone_store::types::DiskId;

impl Step<'_> {
    pub(super) fn register_disks(&mut self, disks: &[(DiskId, String)]) -> Result<Reply> {
        for (disk, directory) in disks {
            let row: Option<DiskRow> = self.txn.row(&self.keys.disk(*disk))?;
            let since = match row {
                Some(row) if row.standing == Standing::Gone => continue,
                Some(row) if row.standing == Standing::Up => row.since,
                Some(_) | None => self.time,
            };
            let row = DiskRow {
                directory: directory.clone(),
                standing: Standing::Up,
                since,
                replaced_by: None,
            };
            self.txn.put(self.keys.disk(*disk), &row);
        }
        Ok(Reply::Done)
    }

    pub(super) fn mark_away(&mut self, disk: DiskId) -> Result<Reply> {
        let row: Option<DiskRow> = self.txn.row(&self.keys.disk(disk))?;
        if let Some(mut row) = row.filter(|row| row.standing == Standing::Up) {
            row.standing = Standing::Away;
            row.since = self.time;
            self.txn.put(self.keys.disk(disk), &row);
        }
        Ok(Reply::Done)
    }

    /// Asked again with the same disks, by an operator who got no answer, it finds itself done.
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
                standing: Standing::Up,
                since: self.time,
                replaced_by: None,
            };
            self.txn.put(self.keys.disk(*disk), &joined);
        }
        if row.standing != Standing::Gone {
            row.standing = Standing::Gone;
            row.since = self.time;
        }
        row.replaced_by = new_id.or(row.replaced_by);
        self.txn.put(self.keys.disk(old), &row);
        Ok(Reply::Done)
    }

    pub(super) fn set_upkeep(&mut self, settings: UpkeepSettings) -> Result<Reply> {
        self.txn.put(self.keys.upkeep(), &UpkeepRow(settings));
        Ok(Reply::Done)
    }
}
