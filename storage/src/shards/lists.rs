//! The disks' lists of unconfirmed shards.

use super::disk_set::{late, within_deadline};
use super::plane::{Shards, shard_name};
use crate::disk::{ShardName, UnconfirmedShard};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::types::{DiskId, Epoch, WriteId};

impl Shards {
    /// Confirms the shards of a committed write: they leave the lists of unconfirmed shards some
    /// time later.
    pub fn confirm(&self, write_id: WriteId, set: &ShardSet) {
        for (rank, place) in (0..).zip(&set.shards).filter(|(_, place)| !place.missing) {
            self.confirm_shard(write_id, rank, place.at());
        }
    }

    /// Confirms one shard.
    pub fn confirm_shard(&self, write_id: WriteId, rank: u8, at: ShardAt) {
        if let Some(disk) = self.disk_set().disk(at.disk) {
            disk.confirm(&[shard_name(write_id, rank, at)]);
        }
    }

    /// Returns up to `max` of a disk's unconfirmed shards with epochs below `below`, or nothing if
    /// the disk is not up.
    pub async fn unconfirmed(
        &self,
        disk: DiskId,
        below: Epoch,
        max: usize,
    ) -> Result<Vec<UnconfirmedShard>> {
        let disk_set = self.disk_set();
        let disk = disk_set.disk(disk);
        let Some(disk) = disk.filter(|disk| disk.state().borrow().is_up()) else {
            return Ok(Vec::new());
        };
        let listed = within_deadline(self.env.as_ref(), disk.unconfirmed(below, max));
        let listed = tokio::select! {
            biased;
            listed = listed => listed,
            () = self.suspects.suspected(disk.id()) => Err(late()),
        };
        listed.map_err(|e| Error::Unavailable(format!("disk {}: {e}", disk.id())))
    }

    /// Returns the shards in one of a disk's folders that are not on the disk's list, or nothing if
    /// the disk is not up.
    pub async fn unlisted(&self, disk: DiskId, folder: u8) -> Result<Vec<ShardName>> {
        let disk_set = self.disk_set();
        let disk = disk_set.disk(disk);
        let Some(disk) = disk.filter(|disk| disk.state().borrow().is_up()) else {
            return Ok(Vec::new());
        };
        let found = within_deadline(self.env.as_ref(), disk.unlisted(folder)).await;
        found.map_err(|e| Error::Unavailable(format!("disk {}: {e}", disk.id())))
    }

    /// Puts shards back on a disk's list of unconfirmed shards, with `epoch` as theirs.
    pub async fn mark_unconfirmed(
        &self,
        on: DiskId,
        shards: Vec<ShardName>,
        epoch: Epoch,
    ) -> Result<()> {
        let disk_set = self.disk_set();
        let Some(disk) = disk_set.disk(on) else {
            return Ok(());
        };
        let listed = within_deadline(self.env.as_ref(), disk.mark_unconfirmed(shards, epoch)).await;
        listed.map_err(|e| Error::Unavailable(format!("disk {on}: {e}")))
    }

    /// Removes a disk's entries of shards that a row turned out to name.
    pub fn confirm_entries(&self, on: DiskId, entries: &[UnconfirmedShard]) {
        let names: Vec<_> = entries.iter().map(UnconfirmedShard::name).collect();
        if let Some(disk) = self.disk_set().disk(on) {
            disk.confirm(&names);
        }
    }
}
