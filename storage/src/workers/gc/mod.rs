//! Removes what no version names: garbage and orphans.
//!
//! *Garbage* lost its last name by a command, which wrote a row for it in the same batch.
//! *Orphans* were never named: their writer failed, or was cut off before its command. Each disk
//! lists the shards it took until they are confirmed, so orphans are found without walking disks.
//!
//! A round, for one group:
//!
//! 1. The epoch is raised, and then the floor, to the oldest epoch that is still held.
//! 2. Garbage below the floor: shards first, then the rows. Power goes between: the rows are there,
//!    the next round finds the shards gone and forgets them. A disk that does not answer keeps
//!    its rows; those of one that is away wait until a disk comes or goes.
//! 3. Unconfirmed shards below the floor: a linearizable look says whether a row names them on
//!    that disk. Named ones are confirmed, the others removed, shard first. A writer that is still
//!    on its way with such a shard is refused at its commit, as its epoch is below the floor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::meta::command::{Change, Command, Reply};
use crate::raft::epochs::Epochs;
use crate::raft::group::Group;
use crate::shards::{Removed, Shards, Unconfirmed};
use drystone_store::env::Env;
use drystone_store::error::Result;
use drystone_store::shard_set::ShardAt;
use drystone_store::types::{Epoch, WriteId};

/// Rows looked at in one step; a round takes as many steps as there are rows.
const STEP_LEN_MAX: usize = 1000;

/// What gc of one group has done since the process began.
#[derive(Default)]
pub struct Counts {
    pub garbage_removed: AtomicU64,
    pub orphans_removed: AtomicU64,
    pub orphans_confirmed: AtomicU64,
}

/// The collector of one group.
pub struct Collector {
    env: Arc<dyn Env>,
    group: Group,
    epochs: Arc<Epochs>,
    /// Absent for a group that never names any.
    shards: Option<Arc<Shards>>,
    /// Garbage below this epoch lies only on disks that are away. None is added below the floor.
    swept: AtomicU64,
    /// How often disks had come or gone when it was so.
    changes: AtomicU64,
    counts: Arc<Counts>,
}

impl Collector {
    pub fn new(
        env: Arc<dyn Env>,
        group: Group,
        epochs: Arc<Epochs>,
        shards: Option<Arc<Shards>>,
        counts: Arc<Counts>,
    ) -> Collector {
        Collector {
            env,
            group,
            epochs,
            shards,
            swept: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            counts,
        }
    }

    /// Returns when a write finds no room on the disks; never for a group without shards.
    pub async fn wanted(&self) {
        match &self.shards {
            Some(shards) => shards.starved().await,
            None => std::future::pending().await,
        }
    }

    /// One round. Interrupted anywhere, the next one goes on with what is left.
    pub async fn round(&self) -> Result<()> {
        let floor = self.raise().await?;
        let Some(shards) = &self.shards else {
            return Ok(());
        };
        self.remove_garbage(shards, floor).await?;
        self.settle_unconfirmed(shards, floor).await
    }

    async fn raise(&self) -> Result<Epoch> {
        let epoch = self.group.read(|view| view.epochs()).await?.epoch;
        let raised = self
            .propose(
                epoch,
                Change::RaiseEpoch {
                    to: Epoch(epoch.0 + 1),
                },
            )
            .await?;
        let (epoch, _) = epochs(raised);
        self.epochs.raise(epoch);
        let to = self.epochs.oldest();
        let (_, floor) = epochs(self.propose(epoch, Change::RaiseFloor { to }).await?);
        Ok(floor)
    }

    async fn remove_garbage(&self, shards: &Shards, floor: Epoch) -> Result<()> {
        let changes = shards.changes();
        if self.changes.swap(changes, Ordering::Relaxed) != changes {
            self.swept.store(0, Ordering::Relaxed);
        }
        let swept = self.swept.load(Ordering::Relaxed);
        let last_swept = |epoch| (Epoch(epoch), WriteId([u8::MAX; 16]));
        let mut after = swept.checked_sub(1).map(last_swept);
        let mut failed = false;
        loop {
            let rows = self
                .group
                .read(move |view| view.garbage(after, floor, STEP_LEN_MAX))
                .await?;
            let Some(last) = rows.last() else {
                if !failed {
                    self.swept.store(floor.0, Ordering::Relaxed);
                }
                return Ok(());
            };
            after = Some((last.epoch, last.write_id));
            let mut gone = Vec::with_capacity(rows.len());
            for row in rows {
                let garbage = row.shards.iter().map(|shard| (shard.rank, shard.at));
                match shards.remove(row.write_id, garbage).await {
                    Removed::All => gone.push((row.epoch, row.write_id)),
                    Removed::ButAway => {}
                    Removed::Failed => failed = true,
                }
            }
            self.counts
                .garbage_removed
                .fetch_add(gone.len() as u64, Ordering::Relaxed);
            if !gone.is_empty() {
                self.propose(floor, Change::ForgetGarbage { entries: gone })
                    .await?;
            }
        }
    }

    async fn settle_unconfirmed(&self, shards: &Shards, floor: Epoch) -> Result<()> {
        loop {
            let entries = shards.unconfirmed(floor, STEP_LEN_MAX).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let (named, orphans): (Vec<Unconfirmed>, Vec<Unconfirmed>) = self
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
                tracing::info!(count = orphans.len(), "removing orphaned shards");
            }
            shards.confirm_entries(named).await?;
            shards.drop_orphans(orphans).await?;
        }
    }

    async fn propose(&self, epoch: Epoch, change: Change) -> Result<Reply> {
        let request = self.env.write_id();
        let time = self.env.now();
        self.group
            .propose(Command {
                request,
                epoch,
                time,
                change,
            })
            .await
    }
}

fn epochs(reply: Reply) -> (Epoch, Epoch) {
    match reply {
        Reply::Epochs { epoch, floor } => (epoch, floor),
        other => unreachable!("a raise is answered by the epochs, not {other:?}"),
    }
}

#[cfg(test)]
mod tests;
