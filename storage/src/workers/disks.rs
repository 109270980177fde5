//! Which disks are here, away, and gone for good: brings the store to what group 0 says of them.
//!
//! Offline is not missing: what a disk that is away has is not made anew. It is given up by an
//! operator's word, or after a time that the settings give; and by time only where that costs
//! nothing: all objects can be read without it, and there is room to make its shards anew.
//!
//! A disk that is gone is first expelled from the objects' group, so that no command names it any
//! more without owing the shard to heal, and then all that it had is queued, a step of data rows at
//! a time. Where that stands is in the metadata: a start goes on with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::heal::Healer;
use super::wakeup::Wakeup;
use crate::meta::command::{Change, Reply, UpkeepSettings};
use crate::meta::view::{Availability, DiskRow, View};
use crate::raft::proposer::Proposer;
use crate::shards::Shards;
use drystone_store::error::Result;
use drystone_store::types::DiskId;

/// Data rows that one command looks at.
const STEP_ROWS: u32 = 500;
/// By the clock alone no disk is given up: this process must have missed it for so long, too.
const MISSED_AT_LEAST: Duration = Duration::from_secs(300);
/// What could not be done is looked at again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

pub struct Disks {
    system: Proposer,
    objects: Proposer,
    shards: Arc<Shards>,
    healer: Arc<Healer>,
    wakeup: Wakeup,
    /// Since when this process misses them.
    missed: Mutex<HashMap<DiskId, Instant>>,
}

impl Disks {
    pub fn new(
        system: Proposer,
        objects: Proposer,
        shards: Arc<Shards>,
        healer: Arc<Healer>,
    ) -> Disks {
        Disks {
            system,
            objects,
            shards,
            healer,
            wakeup: Wakeup::default(),
            missed: Mutex::default(),
        }
    }

    /// Every disk that is or was of the store.
    pub async fn known(&self) -> Result<Vec<(DiskId, DiskRow)>> {
        self.system.group.read(|view| view.disks()).await
    }

    pub async fn settings(&self) -> Result<UpkeepSettings> {
        self.system.group.read(|view| view.upkeep_settings()).await
    }

    pub async fn change(&self, change: Change) -> Result<Reply> {
        self.system.propose(change).await
    }

    /// A disk came or went, or the settings changed.
    pub fn wake(&self) {
        self.wakeup.wake();
    }

    pub async fn run(&self) {
        loop {
            let due = self.step().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the disks are not as the metadata say");
                Some(Instant::now() + AGAIN_AFTER)
            });
            self.wakeup.wait(due).await;
        }
    }

    /// Gives when there is something to be done again.
    async fn step(&self) -> Result<Option<Instant>> {
        let known = self.known().await?;
        let up: Vec<DiskId> = self.up();
        let mut away = Vec::new();
        for (disk, row) in &known {
            match row.availability {
                Availability::Removed => self.expel(*disk).await?,
                Availability::Up if !up.contains(disk) => {
                    tracing::error!(%disk, directory = row.directory, "a disk is away");
                    let disk = *disk;
                    self.change(Change::MarkOffline { disk }).await?;
                    away.push((disk, self.system.env.now().0));
                }
                Availability::Up => {}
                // It joined, and whoever wanted to say so was cut.
                Availability::Offline if up.contains(disk) => {
                    let disks = vec![(*disk, row.directory.clone())];
                    self.change(Change::RegisterDisks { disks }).await?;
                }
                Availability::Offline => away.push((*disk, row.since.0)),
            }
        }
        self.give_up(&known, &away, up).await
    }

    fn up(&self) -> Vec<DiskId> {
        let disks = self.shards.disks();
        let up = disks.iter().filter(|disk| disk.state().borrow().is_up());
        up.map(|disk| disk.id()).collect()
    }

    /// Power goes anywhere here: the metadata say how far it came, and the next start goes on.
    async fn expel(&self, disk: DiskId) -> Result<()> {
        if self.shards.expel_disk(disk) {
            // At a start heal may have taken it for one that is away, and waits for it.
            self.healer.wake_all();
        }
        let expelled = self.objects.group.read(|view| view.removed_disks()).await?;
        let done = expelled.iter().find(|(other, _)| *other == disk);
        if done.is_some_and(|(_, done)| *done) {
            return Ok(());
        }
        tracing::warn!(%disk, "a disk is gone for good: what it had is made anew");
        self.objects.propose(Change::RemoveDisk { disk }).await?;
        let mut total = 0;
        loop {
            let max = STEP_ROWS;
            let queued = self.objects.propose(Change::QueueDisk { disk, max });
            let Reply::Queued { shards, more } = queued.await? else {
                unreachable!("a step is answered by what it queued");
            };
            total += u64::from(shards);
            if shards > 0 {
                self.healer.wake();
            }
            if !more {
                tracing::info!(%disk, shards = total, "all that a disk had is queued for heal");
                self.healer.wake_all();
                return Ok(());
            }
        }
    }

    /// Gives up the disks that are away for too long; `away`: since when, by the clock.
    async fn give_up(
        &self,
        known: &[(DiskId, DiskRow)],
        away: &[(DiskId, i64)],
        up: Vec<DiskId>,
    ) -> Result<Option<Instant>> {
        self.lock_missed()
            .retain(|disk, _| away.iter().any(|(other, _)| other == disk));
        let after = self.settings().await?.remove_after();
        if after.is_zero() {
            return Ok(None);
        }
        let (now, time) = (Instant::now(), self.system.env.now().0);
        let mut next: Option<Instant> = None;
        for (disk, since) in away {
            let missed = *self.lock_missed().entry(*disk).or_insert(now);
            let passed = Duration::from_millis(u64::try_from(time - since).unwrap_or(0));
            // A clock that was ahead when it noted this would wait for itself: the process knows.
            let by_clock = (now + after.saturating_sub(passed)).min(missed + after);
            let due = by_clock.max(missed + after.min(MISSED_AT_LEAST));
            let due = if due > now {
                due
            } else if self.costs_nothing(known, away.len(), &up).await? {
                tracing::error!(%disk, "a disk is away for so long that it is given up");
                let (old, new) = (*disk, None);
                self.change(Change::ReplaceDisk { old, new }).await?;
                // What became of the one is seen before the next.
                self.wake();
                return Ok(None);
            } else {
                now + AGAIN_AFTER
            };
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        Ok(next)
    }

    /// Without any of the disks that are away, each object can be read and its shards have a place.
    async fn costs_nothing(
        &self,
        known: &[(DiskId, DiskRow)],
        away: usize,
        up: &[DiskId],
    ) -> Result<bool> {
        let geometry = self.shards.default_geometry();
        let gone = known
            .iter()
            .filter(|(_, row)| row.availability == Availability::Removed);
        let unhealed = match gone.count() {
            0 => 0,
            gone => {
                let queue = self.objects.group.read(|view| view.heal_queue(1)).await?;
                if queue.shards > 0 { gone } else { 0 }
            }
        };
        if away + unhealed > geometry.parity() || up.len() < geometry.total() {
            return Ok(false);
        }
        self.is_all_readable_on(up).await
    }

    /// A class may have less parity than the default, and what was written while few disks were up
    /// has less than its class.
    async fn is_all_readable_on(&self, disks: &[DiskId]) -> Result<bool> {
        let mut after = None;
        loop {
            let disks = disks.to_vec();
            let step =
                move |view: &View<'_>| view.is_readable_on(&disks, after, STEP_ROWS as usize);
            match self.objects.group.read(step).await? {
                (false, _) => return Ok(false),
                (true, None) => return Ok(true),
                (true, last) => after = last,
            }
        }
    }

    fn lock_missed(&self) -> std::sync::MutexGuard<'_, HashMap<DiskId, Instant>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
