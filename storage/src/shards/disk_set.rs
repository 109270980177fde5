//! The disks that shards are read from and written to, and how long they may take to answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, DiskError};
use drystone_store::env::{Env, Instant};
use drystone_store::lock::Mutex;
use drystone_store::types::DiskId;

/// How long a disk may take to answer. After that a read or write goes on without it.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// How long a disk that missed its deadline is avoided while others can serve.
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
    match env.timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(late) => Err(DiskError::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            late,
        ))),
    }
}

pub(super) fn is_late(error: &DiskError) -> bool {
    matches!(error, DiskError::Io(e) if e.kind() == std::io::ErrorKind::TimedOut)
}

/// The disks that missed a deadline recently.
pub(super) struct Suspects {
    pub(super) env: Arc<dyn Env>,
    until: Mutex<HashMap<DiskId, Instant>>,
}

impl Suspects {
    pub(super) fn new(env: Arc<dyn Env>) -> Suspects {
        let until = Mutex::default();
        Suspects { env, until }
    }

    pub(super) fn add(&self, disk: DiskId) {
        tracing::warn!(%disk, "disk missed a deadline, avoiding it for a while");
        let mut until = self.until.lock();
        until.insert(disk, self.env.after(SUSPECT_FOR));
    }

    pub(super) fn contains(&self, disk: DiskId) -> bool {
        let until = self.until.lock();
        until
            .get(&disk)
            .is_some_and(|until| self.env.instant() < *until)
    }
}
