//! Losses: ends the metadata replicas of disks that are lost, and sees that the metadata continues.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};

use super::disks::Disks;
use super::items::Items;
use crate::disk::{Disk, DiskState};
use crate::raft::recovery::start::Groups;
use drystone_store::env::{Env, Instant};
use drystone_store::lock::Mutex;
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

pub struct Losses {
    groups: Groups,
    disks: Arc<Disks>,
    /// Wakes the worker that takes failed disks back into use.
    renewal: Arc<Wakeup>,
    watched: WatchList,
    lost: Items<LostDisk>,
}

/// The disks that are watched, each until it is lost or dropped.
#[derive(Default)]
struct WatchList {
    disks: Mutex<Vec<WatchedDisk>>,
    /// Rung when a disk is added.
    added: Notify,
}

struct WatchedDisk {
    disk: DiskId,
    state: watch::Receiver<DiskState>,
}

impl WatchList {
    fn add(&self, disk: DiskId, state: watch::Receiver<DiskState>) {
        self.disks.lock().push(WatchedDisk { disk, state });
        self.added.notify_one();
    }

    /// Takes the lost disks off the list, and returns them with the reasons. Waits until there are
    /// some, among those that are added meanwhile as well.
    async fn next_lost(&self) -> Vec<LostDisk> {
        loop {
            let lost = self.take_lost();
            if !lost.is_empty() {
                return lost;
            }
            tokio::select! {
                () = self.any_change() => {}
                () = self.added.notified() => {}
            }
        }
    }

    fn take_lost(&self) -> Vec<LostDisk> {
        let mut lost = Vec::new();
        self.disks.lock().retain(|WatchedDisk { disk, state }| {
            let now = state.borrow().clone();
            if is_lost(&now) {
                lost.push(LostDisk {
                    disk: *disk,
                    why: now,
                });
                return false;
            }
            // An error means that the disk was dropped.
            state.has_changed().is_ok()
        });
        lost
    }

    /// Waits until one of the disks that are listed now is lost or dropped.
    async fn any_change(&self) {
        let states: Vec<_> = {
            let disks = self.disks.lock();
            disks.iter().map(|disk| disk.state.clone()).collect()
        };
        let mut changes: FuturesUnordered<_> = states
            .into_iter()
            .map(|mut state| async move { state.wait_for(is_lost).await.is_ok() })
            .collect();
        if changes.next().await.is_none() {
            std::future::pending().await
        }
    }
}

struct LostDisk {
    disk: DiskId,
    why: DiskState,
}

impl Losses {
    pub fn new(
        env: Arc<dyn Env>,
        groups: Groups,
        disks: Arc<Disks>,
        renewal: Arc<Wakeup>,
    ) -> Losses {
        Losses {
            groups,
            disks,
            renewal,
            watched: WatchList::default(),
            lost: Items::new(env),
        }
    }

    /// Watches a disk until it is lost.
    pub fn watch(&self, disk: &dyn Disk) {
        self.watched.add(disk.id(), disk.state());
    }

    /// Waits until some of the watched disks are lost, and queues them.
    async fn queue_lost(&self) {
        for lost in self.watched.next_lost().await {
            self.lost.add(lost);
        }
    }

    /// Lost disks are handled side by side: what one waits for may be what another brings about.
    async fn handle(&self, lost: Arc<LostDisk>) -> Option<Instant> {
        let LostDisk { disk, why } = lost.as_ref();
        tracing::error!(%disk, ?why, "a disk is lost");
        if matches!(why, DiskState::Failed(_)) {
            self.groups.mark(*disk).await;
        }
        self.groups.system.replica_lost(*disk);
        self.groups.objects.replica_lost(*disk);
        match self.groups.recover_if_lost().await {
            Ok(true) => tracing::warn!("the metadata continues on the disks that are left"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the metadata does not continue"),
        }
        self.disks.wake();
        self.renewal.wake();
        None
    }
}

#[async_trait]
impl Worker for Losses {
    fn name(&self) -> &'static str {
        "losses"
    }

    async fn step(&self) -> Result<Next, StepError> {
        let queueing = async {
            loop {
                self.queue_lost().await;
            }
        };
        let next = tokio::select! {
            next = self.lost.handle(|lost| self.handle(lost)) => next,
            () = queueing => None,
        };
        Ok(next.into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.lost.wakeup
    }

    async fn woken(&self) {
        tokio::select! {
            () = self.lost.wakeup.rung() => {}
            () = self.queue_lost() => {}
        }
    }
}

fn is_lost(state: &DiskState) -> bool {
    matches!(state, DiskState::Lost(_) | DiskState::Failed(_))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Found by reading: a disk that was added while the loss of another one was handled was not
    /// watched until that had ended, which a disk that hangs can put off for ever.
    #[tokio::test]
    async fn a_disk_that_is_added_while_others_are_waited_for_is_watched_as_well() {
        let list = WatchList::default();
        let (_whole, state) = watch::channel(DiskState::Up);
        list.add(DiskId([1; 16]), state);
        let waiting = list.next_lost();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        let (added, state) = watch::channel(DiskState::Up);
        list.add(DiskId([2; 16]), state);
        assert!(waiting.as_mut().now_or_never().is_none());
        added.send_replace(DiskState::Lost("its directory is gone".into()));
        let lost: Vec<DiskId> = waiting.await.iter().map(|lost| lost.disk).collect();
        assert_eq!(lost, [DiskId([2; 16])]);
        drop(added);
        assert_eq!(list.disks.lock().len(), 1);
    }
}
