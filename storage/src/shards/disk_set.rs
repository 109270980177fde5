//! The disks that shards are read from and written to, and how long they may take to answer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::disk::{Disk, DiskError};
use drystone_store::env::{Env, Instant};
use drystone_store::lock::Mutex;
use drystone_store::types::DiskId;

/// How long a disk may take to answer. After that a read or write goes on without it.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How long a disk is avoided that did not answer in time, while others can serve.
const SUSPECT_FOR: Duration = Duration::from_secs(30);

/// The disks of the moment. Each read and write works with a copy.
#[derive(Clone, Default)]
pub(super) struct DiskSet {
    pub(super) disks: Vec<Arc<dyn Disk>>,
    /// Disks that never come back: their shards are missing, not offline.
    pub(super) removed: HashSet<DiskId>,
    pub(super) changes: u64,
}

impl DiskSet {
    pub(super) fn disk(&self, id: DiskId) -> Option<&Arc<dyn Disk>> {
        self.disks.iter().find(|disk| disk.id() == id)
    }

    pub(super) fn holder(&self, id: DiskId) -> Holder {
        match self.disk(id) {
            _ if self.removed.contains(&id) => Holder::Removed,
            Some(disk) => Holder::Present(disk.clone()),
            None => Holder::Offline,
        }
    }
}

/// The disk that a row names for a shard.
pub(super) enum Holder {
    Present(Arc<dyn Disk>),
    /// It may come back, with the shard.
    Offline,
    /// It never comes back.
    Removed,
}

/// Waits for a disk's answer until the deadline. A late answer is an I/O error, and the operation
/// may still take effect.
pub(super) async fn within_deadline<T>(
    env: &dyn Env,
    answer: impl Future<Output = Result<T, DiskError>>,
) -> Result<T, DiskError> {
    let answer = env.timeout(DEADLINE, answer).await;
    answer.unwrap_or_else(|_| Err(late()))
}

/// Makes the error of a disk that does not answer in time.
pub(super) fn late() -> DiskError {
    DiskError::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        "it does not answer in time",
    ))
}

pub(super) fn is_late(error: &DiskError) -> bool {
    matches!(error, DiskError::Io(e) if e.kind() == std::io::ErrorKind::TimedOut)
}

/// The disks that do not answer in time.
pub(super) struct Suspects {
    pub(super) env: Arc<dyn Env>,
    /// The disks that missed a deadline recently.
    until: Mutex<HashMap<DiskId, Instant>>,
    /// The disks that do not answer now, or only slowly, as the watchdog finds.
    slow: watch::Sender<BTreeSet<DiskId>>,
}

impl Suspects {
    pub(super) fn new(env: Arc<dyn Env>) -> Suspects {
        Suspects {
            env,
            until: Mutex::default(),
            slow: watch::Sender::default(),
        }
    }

    /// Avoids a disk for a while that missed a deadline.
    pub(super) fn add(&self, disk: DiskId) {
        if !self.contains(disk) {
            tracing::warn!(%disk, "a disk missed a deadline: avoiding it for a while");
        }
        let until = self.env.after(SUSPECT_FOR);
        self.until.lock().insert(disk, until);
        self.slow.send_modify(|_| {});
    }

    /// Sets the disks that do not answer now, or only slowly.
    pub(super) fn set_slow(&self, slow: &BTreeSet<DiskId>) {
        self.slow.send_if_modified(|known| {
            for disk in slow.difference(known) {
                tracing::warn!(%disk, "a disk does not answer in time: avoiding it");
            }
            for disk in known.difference(slow) {
                tracing::info!(%disk, "a disk answers in time again");
            }
            let changed = known != slow;
            known.clone_from(slow);
            changed
        });
    }

    /// Waits until the disk is suspect.
    pub(super) async fn suspected(&self, disk: DiskId) {
        let mut changes = self.slow.subscribe();
        while !self.contains(disk) {
            // The sender is this one's.
            changes.changed().await.ok();
        }
    }

    pub(super) fn contains(&self, disk: DiskId) -> bool {
        if self.slow.borrow().contains(&disk) {
            return true;
        }
        let until = self.until.lock().get(&disk).copied();
        until.is_some_and(|until| self.env.instant() < until)
    }
}
