//! Disks: marks disks offline, removes them, and makes the store match group 0's record of them.
//!
//! Offline is not missing: the shards of an offline disk are not rebuilt. A disk is removed by an
//! operator's word, or after a time that the settings give; by time only where that costs nothing:
//! all objects can be read without it, and there is room to rebuild its shards.
//!
//! A removed disk first leaves the objects' group, so that no command names it any more without
//! queueing the shard for heal. Then all that it had is queued, some data rows at a time. The
//! metadata say how far that is, and a start continues with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::heal::Healer;
use super::survey::Surveyor;
use crate::meta::command::{Change, Reply, UpkeepSettings};
use crate::meta::view::{Availability, DiskRow, View};
use crate::raft::proposer::Proposer;
use crate::shards::Shards;
use drystone_store::env::Instant;
use drystone_store::error::Result;
use drystone_store::lock::Mutex;
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// The number of data rows that one command looks at.
const STEP_ROWS: u32 = 500;
/// How long this process must have missed a disk before it is removed, whatever the clock says.
const MISSED_AT_LEAST: Duration = Duration::from_secs(300);
/// A disk whose removal would cost something is judged again after this.
const RECHECK_AFTER: Duration = Duration::from_secs(60);

pub struct Disks {
    system: Proposer,
    objects: Proposer,
    shards: Arc<Shards>,
    healer: Arc<Healer>,
    surveyor: Arc<Surveyor>,
    wakeup: Wakeup,
    /// Since when this process misses each disk.
    missed: Mutex<HashMap<DiskId, Instant>>,
}

impl Disks {
    pub fn new(
        system: Proposer,
        objects: Proposer,
        shards: Arc<Shards>,
        healer: Arc<Healer>,
        surveyor: Arc<Surveyor>,
    ) -> Disks {
        Disks {
            system,
            objects,
            shards,
            healer,
            surveyor,
            wakeup: Wakeup::default(),
            missed: Mutex::default(),
        }
    }

    /// Every disk that is or was part of the store.
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

    /// The disks that were removed.
    pub async fn removed(&self) -> Result<Vec<DiskId>> {
        let known = self.known().await?.into_iter();
        let removed = known.filter(|(_, row)| row.availability == Availability::Removed);
        Ok(removed.map(|(disk, _)| disk).collect())
    }

    /// The number of disks that the store should have; those that are `online`, if nobody can tell.
    pub async fn expected(&self, online: usize) -> usize {
        match self.known().await {
            Ok(known) => {
                let own = known
                    .iter()
                    .filter(|(_, row)| row.availability != Availability::Removed);
                own.count()
            }
            Err(_) => online,
        }
    }

    /// Gives when there is something to do again.
    async fn bring_up_to_date(&self) -> Result<Option<Instant>> {
        self.surveyor.wake();
        let known = self.known().await?;
        let up: Vec<DiskId> = self.up();
        let mut offline = Vec::new();
        for (disk, row) in &known {
            match row.availability {
                Availability::Removed => self.remove(*disk).await?,
                Availability::Up if !up.contains(disk) => {
                    tracing::error!(%disk, directory = row.directory, "a disk is offline");
                    let disk = *disk;
                    self.change(Change::MarkOffline { disk }).await?;
                    offline.push((disk, self.system.env.now().0));
                }
                Availability::Up => {}
                // It joined, and the command that says so did not come through.
                Availability::Offline if up.contains(disk) => {
                    let disks = vec![(*disk, row.directory.clone())];
                    self.change(Change::RegisterDisks { disks }).await?;
                }
                Availability::Offline => offline.push((*disk, row.since.0)),
            }
        }
        self.remove_overdue(&known, &offline, up).await
    }

    fn up(&self) -> Vec<DiskId> {
        let disks = self.shards.disks();
        let up = disks.iter().filter(|disk| disk.state().borrow().is_up());
        up.map(|disk| disk.id()).collect()
    }

    /// Queues all that a removed disk had.
    ///
    /// Power goes anywhere here: the metadata say how far it came, and the next start continues.
    async fn remove(&self, disk: DiskId) -> Result<()> {
        if self.shards.remove_disk(disk) {
            // After a start heal may have taken it for an offline one, and waits for it.
            self.healer.wake_all();
        }
        let removed = self.objects.group.read(|view| view.removed_disks()).await?;
        let done = removed.iter().find(|(other, _)| *other == disk);
        if done.is_some_and(|(_, done)| *done) {
            return Ok(());
        }
        tracing::warn!(%disk, "a disk is removed: its shards will be rebuilt");
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
                tracing::info!(%disk, shards = total, "all shards of a disk are queued for heal");
                self.healer.wake_all();
                return Ok(());
            }
        }
    }

    /// Removes the disks that are offline for too long. `offline` says since when each is, by the
    /// clock. Gives when the next one is due.
    async fn remove_overdue(
        &self,
        known: &[(DiskId, DiskRow)],
        offline: &[(DiskId, i64)],
        up: Vec<DiskId>,
    ) -> Result<Option<Instant>> {
        self.missed
            .lock()
            .retain(|disk, _| offline.iter().any(|(other, _)| other == disk));
        let after = self.settings().await?.remove_after();
        if after.is_zero() {
            return Ok(None);
        }
        let (now, time) = (self.system.env.instant(), self.system.env.now().0);
        let mut next: Option<Instant> = None;
        for (disk, since) in offline {
            let missed = *self.missed.lock().entry(*disk).or_insert(now);
            let passed = Duration::from_millis(u64::try_from(time - since).unwrap_or(0));
            // A clock that was ahead when it noted `since` would wait for itself: the process's own
            // time decides then.
            let by_clock = (now + after.saturating_sub(passed)).min(missed + after);
            let due = by_clock.max(missed + after.min(MISSED_AT_LEAST));
            let due = if due > now {
                due
            } else if self.costs_nothing(known, offline.len(), &up).await? {
                tracing::error!(%disk, "a disk is offline for too long and is removed");
                let (old, new) = (*disk, None);
                self.change(Change::ReplaceDisk { old, new }).await?;
                // The state after this removal decides about the next.
                self.wake();
                return Ok(None);
            } else {
                now + RECHECK_AFTER
            };
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        Ok(next)
    }

    /// Whether each object can be read without any of the offline disks, and its shards have a
    /// place.
    async fn costs_nothing(
        &self,
        known: &[(DiskId, DiskRow)],
        offline: usize,
        up: &[DiskId],
    ) -> Result<bool> {
        let geometry = self.shards.default_geometry();
        let removed = known
            .iter()
            .filter(|(_, row)| row.availability == Availability::Removed);
        let unhealed = match removed.count() {
            0 => 0,
            removed => {
                let queue = self.objects.group.read(|view| view.heal_queue(1)).await?;
                if queue.shards > 0 { removed } else { 0 }
            }
        };
        if offline + unhealed > geometry.parity() || up.len() < geometry.total() {
            return Ok(false);
        }
        self.is_all_readable_on(up).await
    }

    /// Looks at each write: a class may have less parity than the default, and an undersized write
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
}

#[async_trait]
impl Worker for Disks {
    fn name(&self) -> &'static str {
        "disks"
    }

    async fn step(&self) -> Result<Next, StepError> {
        Ok(self.bring_up_to_date().await?.into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn status(&self) -> Option<String> {
        let offline = self.missed.lock().len();
        (offline > 0).then(|| format!("{offline} offline"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::engine::{Engine, Options};
    use drystone_store::env::{Env as _, SystemEnv};
    use drystone_store::instance::Instance as _;

    /// Found by reading: a disk that joined after its command's answer was lost counted as offline,
    /// and would have been removed while it worked.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn r_12_a_disk_that_is_here_does_not_stay_offline() {
        let root = tempfile::tempdir().unwrap();
        let directories = (0..2).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories)).await.unwrap();
        let disk = engine.shards.disks()[0].id();
        let disks = &engine.workers.disks;
        disks.change(Change::MarkOffline { disk }).await.unwrap();
        disks.wake();
        let back = async {
            let is_up =
                |(id, row): &(DiskId, DiskRow)| *id == disk && row.availability == Availability::Up;
            while !disks.known().await.unwrap().iter().any(is_up) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(120), back).await.unwrap();
        engine.close().await;
    }

    /// Found by reading: the tasks that waited for it ended in a panic, at every start again.
    #[test]
    fn r_16_no_setting_is_longer_than_a_clock_can_tell() {
        let settings = UpkeepSettings {
            remove_after_seconds: u64::MAX,
            scrub_period_seconds: u64::MAX,
            ..UpkeepSettings::default()
        };
        for time in [settings.remove_after(), settings.scrub_period()] {
            assert!(SystemEnv.instant().checked_add(2 * time).is_some());
        }
    }
}
