//! Inventory: checks whether a disk has the shards that the metadata place on it.
//!
//! A disk that is an older copy of itself lacks what was written since. A disk that failed may lack
//! what its last syncs promised, and its database, which would know, is rebuilt. Scrub would find
//! out within its period; until then the redundancy would be less than anyone knows.
//!
//! Each shard of the disk is opened, and its header and footer are checked. A missing shard enters
//! the heal queue, and heal examines it. That an inventory is due is noted in the disk's own
//! database (`disk::pending`), with the list of its shards, until everything is queued. Power goes
//! before that: the inventory begins again. Rows that appear behind the walk belong to writes that
//! the disk has acknowledged since.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};

use super::heal::Healer;
use super::items::Items;
use crate::db::{Db, DbError};
use crate::disk::pending::{inventory_taken, needs_inventory};
use crate::meta::command::Change;
use crate::meta::view::upkeep::ShardToHeal;
use crate::raft::proposer::Proposer;
use crate::shards::{ShardCondition, ShardRef, Shards};
use drystone_store::env::{Env, Instant};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::ShardId;
use drystone_store::types::{DiskId, WriteId};
use drystone_store::workers::{Next, Pace, RETRY_AFTER, StepError, Wakeup, Worker};

/// Data rows of one step.
const STEP_ROWS: usize = 256;
/// Shards that are opened at the same time.
const SHARDS_AT_ONCE: usize = 4;
/// About what opening one costs of the pace.
const SHARD_BYTES: u64 = 8 << 10;

pub struct Inventory {
    objects: Proposer,
    shards: Arc<Shards>,
    healer: Arc<Healer>,
    /// Heal's.
    pace: Arc<Pace>,
    under_way: Arc<AtomicUsize>,
    disks: Items<ListedDisk>,
}

/// While this lives, nobody knows what a disk lacks.
///
/// It holds the counter alone: the list of disks holds these, and a list that held its own worker
/// would keep a closed store's databases and locks for ever.
pub struct Announced(Arc<AtomicUsize>);

impl Drop for Announced {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A disk that may be due for an inventory.
struct ListedDisk {
    disk: DiskId,
    /// Not held open: it may have to be rebuilt meanwhile.
    db: Weak<Db>,
    _announced: Announced,
}

impl Inventory {
    pub fn new(
        objects: Proposer,
        shards: Arc<Shards>,
        healer: Arc<Healer>,
        pace: Arc<Pace>,
    ) -> Inventory {
        Inventory {
            disks: Items::new(objects.env.clone()),
            objects,
            shards,
            healer,
            pace,
            under_way: Arc::default(),
        }
    }

    /// Counts a disk as one whose shards nobody knows.
    pub fn announce(&self) -> Announced {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Announced(self.under_way.clone())
    }

    /// Begins the inventory of a disk, if its database says that one is due.
    pub fn begin(&self, announced: Announced, disk: DiskId, db: &Arc<Db>) {
        self.disks.add(ListedDisk {
            disk,
            db: Arc::downgrade(db),
            _announced: announced,
        });
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Gives when the disk is to be tried again.
    async fn check(&self, listed: Arc<ListedDisk>) -> Option<Instant> {
        let (disk, db, env) = (listed.disk, &listed.db, &*self.objects.env);
        match ask(env, db, needs_inventory).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                tracing::warn!(%error, %disk, "no inventory of a disk");
                return None;
            }
        }
        if !self.is_up(disk) {
            return None;
        }
        tracing::warn!(%disk, "inventory of a disk that may lack shards");
        match self.take(disk).await {
            Ok((shards, lacking)) => {
                tracing::info!(%disk, shards, lacking, "the inventory of a disk has ended");
            }
            Err(error) => {
                tracing::warn!(%error, %disk, "the inventory of a disk is interrupted");
                return Some(self.objects.env.after(RETRY_AFTER));
            }
        }
        if let Err(error) = ask(env, db, inventory_taken).await {
            tracing::warn!(%error, %disk, "the inventory of a disk will be repeated");
        }
        None
    }

    fn is_up(&self, disk: DiskId) -> bool {
        let disks = self.shards.disks();
        let disk = disks.iter().find(|other| other.id() == disk);
        disk.is_some_and(|disk| disk.state().borrow().is_up())
    }

    /// Gives the number of shards that the disk should have, and how many of them it seems to lack.
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
            let checks = stream::iter(on_disk).map(|(row, rank)| self.check_shard(row, rank));
            let mut checks = checks.buffer_unordered(SHARDS_AT_ONCE);
            let mut entries = Vec::new();
            while let Some((entry, examined)) = checks.next().await {
                shards += 1;
                match examined {
                    ShardCondition::Whole => {}
                    ShardCondition::Offline => {
                        let what = format!("disk {disk} went offline");
                        return Err(Error::Unavailable(what));
                    }
                    ShardCondition::Damaged(_) | ShardCondition::Unknown(_) => entries.push(entry),
                }
            }
            drop(checks);
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

    async fn check_shard(&self, row: ShardToHeal, rank: u8) -> (ShardId, ShardCondition) {
        while self.pace.take(SHARD_BYTES).await.is_err() {
            self.pace.resumed().await;
        }
        let write_id = row.entry.write_id;
        let shard = ShardRef {
            write_id,
            bucket: row.bucket,
            size: row.size,
            set: &row.set,
            rank,
        };
        (ShardId { write_id, rank }, self.shards.find(shard).await)
    }
}

#[async_trait]
impl Worker for Inventory {
    fn name(&self) -> &'static str {
        "inventory"
    }

    async fn step(&self) -> Result<Next, StepError> {
        Ok(self.disks.handle(|listed| self.check(listed)).await.into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.disks.wakeup
    }

    // Has no pace of the runner's: whether a disk is due is found out even while heal is paused.

    fn status(&self) -> Option<String> {
        let disks = self.disks.len();
        (disks > 0).then(|| format!("{disks} disks to check"))
    }
}

/// The rank of the shard that a row places on the disk: at most one of a write. A shard that was
/// never written is in the heal queue.
fn rank_on(row: &ShardToHeal, disk: DiskId) -> Option<u8> {
    let mut places = (0..).zip(&row.set.shards);
    let (rank, _) = places.find(|(_, place)| place.disk == disk && !place.missing)?;
    Some(rank)
}

/// Holds the database open only as long as the question takes, as it may have to be rebuilt.
async fn ask<T: Send + 'static>(
    env: &dyn Env,
    db: &Weak<Db>,
    question: fn(&Db) -> Result<T, DbError>,
) -> Result<T> {
    let db = db.upgrade().ok_or(Error::Closing)?;
    let answer = env.spawn_blocking(move || question(&db)).await;
    Ok(answer.map_err(|_| Error::Closing)??)
}
