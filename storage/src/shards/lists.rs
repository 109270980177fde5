//! Removal of shards, and the disks' lists of unconfirmed ones.

use std::sync::Arc;

use futures_util::future::join_all;

use super::disk_set::{Holder, within_deadline};
use super::plane::{Shards, shard_name};
use crate::disk::{Disk, ShardName, UnconfirmedShard};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::types::{DiskId, Epoch, WriteId};

/// The result of removing the shards of a write, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalOutcome {
    /// No shard is left.
    All,
    /// Only shards on disks that are offline or down are left.
    ButOffline,
    /// A disk failed to remove a shard. It may succeed next time.
    Failed,
}

impl Shards {
    /// Removes shards of a write.
    pub async fn remove(
        &self,
        write_id: WriteId,
        shards: impl IntoIterator<Item = (u8, ShardAt)>,
    ) -> RemovalOutcome {
        let disk_set = self.disk_set();
        let removals = shards.into_iter().map(|(rank, at)| {
            let (holder, name) = (disk_set.holder(at.disk), shard_name(write_id, rank, at));
            async move {
                match holder {
                    Holder::Present(disk) if disk.state().borrow().is_up() => {
                        match within_deadline(self.env.as_ref(), disk.remove(vec![name])).await {
                            Ok(()) => RemovalOutcome::All,
                            Err(_) => RemovalOutcome::Failed,
                        }
                    }
                    Holder::Present(_) | Holder::Offline => RemovalOutcome::ButOffline,
                    Holder::Removed => RemovalOutcome::All,
                }
            }
        });
        let removed = join_all(removals).await.into_iter().max();
        removed.unwrap_or(RemovalOutcome::All)
    }

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

    /// Returns up to `max` unconfirmed shards with epochs below `below`, from all disks that are
    /// up.
    pub async fn unconfirmed(&self, below: Epoch, max: usize) -> Result<Vec<UnconfirmedShard>> {
        let mut entries = Vec::new();
        for disk in self.disks() {
            if !disk.state().borrow().is_up() {
                continue;
            }
            let room = max - entries.len();
            match within_deadline(self.env.as_ref(), disk.unconfirmed(below, room)).await {
                Ok(more) => entries.extend(more),
                Err(e) => {
                    tracing::warn!(disk = %disk.id(), error = %e, "unconfirmed shards not listed")
                }
            }
        }
        Ok(entries)
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

    /// Removes shards that no row names, then their entries in the lists. A disk that fails does
    /// not stop the others.
    pub async fn drop_orphans(&self, orphans: Vec<UnconfirmedShard>) -> Result<()> {
        let mut kept = Ok(());
        for (disk, names) in self.by_disk(&orphans) {
            match within_deadline(self.env.as_ref(), disk.remove(names.clone())).await {
                // If power fails here, gc finds the entries again, without files.
                Ok(()) => disk.confirm(&names),
                Err(e) => kept = Err(Error::Unavailable(format!("orphans not removed: {e}"))),
            }
        }
        kept
    }

    /// Removes entries of shards that a row turned out to name.
    pub async fn confirm_entries(&self, entries: Vec<UnconfirmedShard>) -> Result<()> {
        for (disk, names) in self.by_disk(&entries) {
            disk.confirm(&names);
        }
        Ok(())
    }

    fn by_disk(&self, entries: &[UnconfirmedShard]) -> Vec<(Arc<dyn Disk>, Vec<ShardName>)> {
        let names = |disk: &Arc<dyn Disk>| -> Vec<ShardName> {
            let own = entries.iter().filter(|entry| entry.disk == disk.id());
            own.map(UnconfirmedShard::name).collect()
        };
        let lists = self.disks().into_iter().map(|disk| {
            let names = names(&disk);
            (disk, names)
        });
        lists.filter(|(_, names)| !names.is_empty()).collect()
    }
}
