//! Replicas that cannot continue although their disks work, and groups that stop because of them.

use std::sync::Arc;

use tokio::sync::watch;

use super::members::Members;
use drystone_store::error::Error;
use drystone_store::types::DiskId;

impl Members {
    /// Notes that the replica on a disk cannot continue although the disk works. If no majority is
    /// left without it, the group stops.
    pub(super) fn note_unfit(&self, disk: DiskId, why: Arc<str>) {
        let group = self.group.0;
        tracing::error!(%why, %disk, group, "a replica of the metadata stops; its disk is kept");
        let mut unfit = self.unfit.write();
        unfit.insert(disk);
        drop(unfit);
        if !self.has_majority() && self.halt().is_none() {
            let why: Arc<str> = format!(
                "group {group} of the metadata has stopped ({why}). Nothing is lost: use the \
                 version of the program that wrote this store, or a newer one"
            )
            .into();
            tracing::error!("{why}");
            self.halted.send_replace(Some(why));
        }
    }

    /// Returns the reason why the group has stopped, if it has.
    pub fn halt(&self) -> Option<Arc<str>> {
        self.halted.borrow().clone()
    }

    /// Returns the error of a request to a group that has stopped.
    pub fn halt_error(&self) -> Option<Error> {
        self.halt().map(|why| Error::Unavailable(why.to_string()))
    }

    /// Returns a receiver that becomes `Some` when the group stops.
    pub fn halts(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.halted.subscribe()
    }

    /// Returns the disks that can get a replica: those that work and answer in time, without those
    /// whose replica cannot continue.
    pub fn seatable(&self) -> Vec<DiskId> {
        let unfit = self.unfit.read();
        let healthy = self.responsive().into_iter().map(|disk| disk.id);
        healthy.filter(|disk| !unfit.contains(disk)).collect()
    }
}
