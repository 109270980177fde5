//! Takes stock of a disk: whether it has what the metadata say it has.
//!
//! A disk that is an older copy of itself lacks what was written since. One that failed may lack
//! what its last syncs said was there, and the database that would know is made anew. Scrub would
//! find out within its period; till then the redundancy would be less than anyone knows.
//!
//! Each shard of the disk is opened, and its header and footer looked at. What is not there enters
//! the heal queue, which then looks closer. That stock is to be taken stands in the disk's own
//! database (`disk::pending`), with the list of its shards, until all is queued. Power goes
//! before that: it is taken once more, from the start. Rows that come up behind the walk are of
//! writes that the disk has acknowledged since.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::heal::Healer;
use crate::meta::command::{Change, HealEntry};
use crate::meta::view::upkeep::ShardToHeal;
use crate::raft::proposer::Proposer;
use crate::shards::{Examined, Owing, Shards};
use drystone_store::error::{Error, Result};
use drystone_store::types::{DiskId, WriteId};
use drystone_store::workers::Pace;

/// Data rows of one step.
const STEP_ROWS: usize = 256;
/// Shards that are opened at once.
const SHARDS_AT_ONCE: usize = 4;
/// What to open one costs of the pace, about.
const SHARD_BYTES: u64 = 8 << 10;
/// What failed is begun again after this.
const RETRY_AFTER: Duration = Duration::from_secs(60);

pub struct Stock {
    objects: Proposer,
    shards: Arc<Shards>,
    healer: Arc<Healer>,
    /// Heal's.
    pace: Arc<Pace>,
    under_way: AtomicUsize,
}

/// While this lives, nobody knows what a disk lacks.
pub struct Taking(Arc<Stock>);

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stock {
    pub fn new(
        objects: Proposer,
        shards: Arc<Shards>,
        healer: Arc<Healer>,
        pace: Arc<Pace>,
    ) -> Stock {
        Stock {
            objects,
            shards,
            healer,
            pace,
            under_way: AtomicUsize::new(0),
        }
    }

    pub fn begin(self: &Arc<Self>) -> Taking {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Taking(self.clone())
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }
}

impl Taking {
    /// Ends when all that the disk lacks is queued, or, with false, when the disk is down.
    pub async fn to_its_end(&self, disk: DiskId) -> bool {
        let Taking(stock) = self;
        tracing::warn!(%disk, "taking stock of a disk that may lack shards");
        while stock.is_up(disk) {
            match stock.take(disk).await {
                Ok((shards, lacking)) => {
                    tracing::info!(%disk, shards, lacking, "stock was taken of a disk");
                    return true;
                }
                Err(error) => tracing::warn!(%error, %disk, "stock is not taken to its end"),
            }
            sleep(RETRY_AFTER).await;
        }
        false
    }
}

impl Stock {
    fn is_up(&self, disk: DiskId) -> bool {
        let disks = self.shards.disks();
        let disk = disks.iter().find(|other| other.id() == disk);
        disk.is_some_and(|disk| disk.state().borrow().is_up())
    }

    /// Gives how many shards the disk should have, and how many of them it seems to lack.
    async fn take(&self, disk: DiskId) -> Result<(u64, u64)> {
        let (mut shards, mut lacking, mut after) = (0, 0, None);
        loop {
            let (rows, last): (Vec<ShardToHeal>, Option<WriteId>) = self
                .objects
                .group
                .read(move |view| view.shard_sets(after, STEP_ROWS))
                .await?;
            let on_disk = rows.into_iter().filter_map(|row| {
                let rank = rank_on(&row, disk)?;
                Some((row, rank))
            });
            let found = stream::iter(on_disk).map(|(row, rank)| self.look(row, rank));
            let mut found = found.buffer_unordered(SHARDS_AT_ONCE);
            let mut entries = Vec::new();
            while let Some((entry, found)) = found.next().await {
                shards += 1;
                match found {
                    Examined::Whole => {}
                    Examined::Away => {
                        let what = format!("disk {disk} went away");
                        return Err(Error::Unavailable(what));
                    }
                    Examined::Damaged(_) | Examined::Unknown(_) => entries.push(entry),
                }
            }
            drop(found);
            if !entries.is_empty() {
                lacking += entries.len() as u64;
                self.objects.propose(Change::QueueHeal { entries }).await?;
                self.healer.wake();
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok((shards, lacking)),
            }
        }
    }

    async fn look(&self, row: ShardToHeal, rank: u8) -> (HealEntry, Examined) {
        while self.pace.take(SHARD_BYTES).await.is_err() {
            self.pace.resumed().await;
        }
        let write_id = row.entry.write_id;
        let shard = Owing {
            write_id,
            bucket: row.bucket,
            size: row.size,
            set: &row.set,
            rank,
        };
        (HealEntry { write_id, rank }, self.shards.find(shard).await)
    }
}

/// Of a write, a disk has one shard at most. What was never written is owed already.
fn rank_on(row: &ShardToHeal, disk: DiskId) -> Option<u8> {
    let mut places = (0..).zip(&row.set.shards);
    let (rank, _) = places.find(|(_, place)| place.disk == disk && !place.missing)?;
    Some(rank)
}
