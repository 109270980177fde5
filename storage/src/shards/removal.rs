//! Removal of shards.
//!
//! Each disk gets what it is to remove as one list. Nobody waits for a disk that is suspect: what
//! it has begun goes on in the background, and it gets few lists at once, so the others are not
//! held up and the slow one is not buried.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::disk_set::{Holder, late};
use super::plane::{Shards, shard_name};
use crate::disk::{Disk, DiskError, ShardName, UnconfirmedShard};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::ShardAt;
use drystone_store::types::{DiskId, WriteId};

/// How long a disk may take to remove a list. After that nobody waits for it.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

/// The result of removing the shards of a write, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalOutcome {
    /// No shard is left.
    All,
    /// Only shards on disks that are offline or down are left.
    ButOffline,
    /// A disk failed to remove a shard, or did not do it in time. It may succeed next time.
    Failed,
}

/// Shards of one write that nothing names any more.
#[derive(Clone, Debug)]
pub struct Removal {
    pub write_id: WriteId,
    pub shards: Vec<(u8, ShardAt)>,
}

/// The shards to be removed from one disk.
struct DiskList {
    disk: Arc<dyn Disk>,
    names: Vec<ShardName>,
    /// For each of the names, the number of the removal that it is of.
    removals: Vec<usize>,
}

impl Shards {
    /// Removes shards of a write.
    pub async fn remove(
        &self,
        write_id: WriteId,
        shards: impl IntoIterator<Item = (u8, ShardAt)>,
    ) -> RemovalOutcome {
        let shards = shards.into_iter().collect();
        let outcomes = self.remove_all(&[Removal { write_id, shards }]).await;
        outcomes[0]
    }

    /// Removes shards of many writes. Returns the outcome of each, in the same order.
    pub async fn remove_all(&self, removals: &[Removal]) -> Vec<RemovalOutcome> {
        let disk_set = self.disk_set();
        let mut outcomes = vec![RemovalOutcome::All; removals.len()];
        let mut lists: HashMap<DiskId, DiskList> = HashMap::new();
        for (n, Removal { write_id, shards }) in removals.iter().enumerate() {
            for &(rank, at) in shards {
                match disk_set.holder(at.disk) {
                    Holder::Present(disk) if disk.state().borrow().is_up() => {
                        let list = lists.entry(at.disk).or_insert_with(|| DiskList {
                            disk,
                            names: Vec::new(),
                            removals: Vec::new(),
                        });
                        list.names.push(shard_name(*write_id, rank, at));
                        list.removals.push(n);
                    }
                    Holder::Present(_) | Holder::Offline => {
                        outcomes[n] = outcomes[n].max(RemovalOutcome::ButOffline);
                    }
                    Holder::Removed => {}
                }
            }
        }
        let lists = lists.into_values().map(|list| async move {
            let removed = self.remove_from(list.disk, list.names).await;
            (removed, list.removals)
        });
        for (removed, removals) in join_all(lists).await {
            if removed.is_err() {
                removals
                    .into_iter()
                    .for_each(|n| outcomes[n] = RemovalOutcome::Failed);
            }
        }
        outcomes
    }

    /// Removes shards that nobody waits for: their disks' lists have those that stay.
    pub fn remove_aside(self: &Arc<Self>, removal: Removal) {
        let shards = self.clone();
        self.background.spawn(async move {
            shards.remove_all(&[removal]).await;
        });
    }

    /// Removes a list of shards from one disk. After an error the disk may still do it.
    async fn remove_from(
        &self,
        disk: Arc<dyn Disk>,
        names: Vec<ShardName>,
    ) -> Result<(), DiskError> {
        let id = disk.id();
        let slots = self.background.slots(id);
        let permit = tokio::select! {
            biased;
            permit = slots.acquire_owned() => permit,
            () = self.suspects.suspected(id) => return Err(late()),
        };
        let removal = self.background.spawn(async move {
            let removed = disk.remove(names).await;
            drop(permit);
            removed
        });
        let removed = tokio::select! {
            biased;
            ended = self.env.timeout(LIST_DEADLINE, removal) => match ended {
                Ok(Ok(Some(removed))) => removed,
                _ => Err(late()),
            },
            () = self.suspects.suspected(id) => Err(late()),
        };
        removed.inspect_err(|error| tracing::debug!(disk = %id, %error, "shards not removed"))
    }

    /// Removes shards of one disk that no row names, then their entries in its list.
    pub async fn drop_orphans(&self, on: DiskId, orphans: &[UnconfirmedShard]) -> Result<()> {
        let disk_set = self.disk_set();
        let Some(disk) = disk_set.disk(on).filter(|_| !orphans.is_empty()) else {
            return Ok(());
        };
        let names: Vec<_> = orphans.iter().map(UnconfirmedShard::name).collect();
        let removed = self.remove_from(disk.clone(), names.clone()).await;
        removed.map_err(|e| Error::Unavailable(format!("orphans not removed: {e}")))?;
        // If power fails here, gc finds the entries again, without files.
        disk.confirm(&names);
        Ok(())
    }

    /// Ends the removals in the background.
    pub async fn end_removals(&self) {
        self.background.end().await;
    }
}
