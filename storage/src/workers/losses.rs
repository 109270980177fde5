//! Losses: ends the metadata replicas of disks that are lost, and sees that the metadata continues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::disks::Disks;
use super::items::Items;
use crate::disk::{Disk, DiskState};
use crate::raft::recovery::start::Groups;
use drystone_store::env::{Env, Instant};
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

pub struct Losses {
    groups: Groups,
    disks: Arc<Disks>,
    /// Wakes the worker that takes failed disks back into use.
    renewal: Arc<Wakeup>,
    watched: Mutex<Vec<WatchedDisk>>,
    lost: Items<LostDisk>,
}

struct WatchedDisk {
    disk: DiskId,
    state: watch::Receiver<DiskState>,
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
            watched: Mutex::default(),
            lost: Items::new(env),
        }
    }

    /// Watches a disk until it is lost.
    pub fn watch(&self, disk: &dyn Disk) {
        self.watched().push(WatchedDisk {
            disk: disk.id(),
            state: disk.state(),
        });
        self.lost.wakeup.wake();
    }

    /// Waits until some of the watched disks are lost.
    async fn any_lost(&self) {
        let states: Vec<_> = {
            let watched = self.watched();
            watched
                .iter()
                .map(|watched| watched.state.clone())
                .collect()
        };
        let mut losses: FuturesUnordered<_> = states
            .into_iter()
            // An error means that the disk was dropped.
            .map(|mut state| async move { state.wait_for(is_lost).await.is_ok() })
            .collect();
        if losses.next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Moves the disks that are lost from those that are watched.
    fn collect_lost(&self) {
        let mut watched = self.watched();
        watched.retain(|WatchedDisk { disk, state }| {
            let now = state.borrow().clone();
            if is_lost(&now) {
                let lost = LostDisk {
                    disk: *disk,
                    why: now,
                };
                self.lost.add(lost);
                return false;
            }
            state.has_changed().is_ok()
        });
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

    fn watched(&self) -> MutexGuard<'_, Vec<WatchedDisk>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Worker for Losses {
    fn name(&self) -> &'static str {
        "losses"
    }

    async fn step(&self) -> Result<Next, StepError> {
        self.collect_lost();
        let collecting = async {
            loop {
                self.any_lost().await;
                self.collect_lost();
            }
        };
        let next = tokio::select! {
            next = self.lost.handle(|lost| self.handle(lost)) => next,
            () = collecting => None,
        };
        Ok(next.into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.lost.wakeup
    }

    async fn woken(&self) {
        tokio::select! {
            () = self.lost.wakeup.rung() => {}
            () = self.any_lost() => {}
        }
    }
}

fn is_lost(state: &DiskState) -> bool {
    matches!(state, DiskState::Lost(_) | DiskState::Failed(_))
}
