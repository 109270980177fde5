//! Confirmation or removal of the shards on the disks' lists, for all disks side by side.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::{Collector, STEP_LEN_MAX};
use crate::shards::{Shards, UnconfirmedShard};
use drystone_store::error::Result;
use drystone_store::shard_set::ShardAt;
use drystone_store::types::{DiskId, Epoch};

impl Collector {
    /// Settles the unconfirmed shards below the floor. A disk that fails does not stop the others.
    pub(super) async fn settle_unconfirmed(&self, shards: &Shards, floor: Epoch) -> Result<()> {
        let disks = shards.disks();
        let settled = disks
            .iter()
            .map(|disk| self.settle_disk(shards, disk.id(), floor));
        join_all(settled).await.into_iter().collect()
    }

    async fn settle_disk(&self, shards: &Shards, disk: DiskId, floor: Epoch) -> Result<()> {
        loop {
            let entries = match shards.unconfirmed(disk, floor, STEP_LEN_MAX).await {
                Ok(entries) if entries.is_empty() => return Ok(()),
                Ok(entries) => entries,
                Err(error) => {
                    tracing::warn!(%error, "unconfirmed shards not listed");
                    return Ok(());
                }
            };
            let (named, orphans): (Vec<UnconfirmedShard>, Vec<UnconfirmedShard>) = self
                .proposer
                .group
                .read(move |view| {
                    let mut split = (Vec::new(), Vec::new());
                    for entry in &entries {
                        let at = ShardAt {
                            disk: entry.disk,
                            generation: entry.generation,
                        };
                        let named = view.refers_to(entry.write_id, entry.rank, at)?;
                        if named { &mut split.0 } else { &mut split.1 }.push(*entry);
                    }
                    Ok(split)
                })
                .await?;
            self.counts
                .orphans_confirmed
                .fetch_add(named.len() as u64, Ordering::Relaxed);
            self.counts
                .orphans_removed
                .fetch_add(orphans.len() as u64, Ordering::Relaxed);
            if !orphans.is_empty() {
                tracing::info!(count = orphans.len(), %disk, "removing orphaned shards");
            }
            shards.confirm_entries(disk, &named);
            shards.drop_orphans(disk, &orphans).await?;
        }
    }
}
