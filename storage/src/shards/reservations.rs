//! The space that writes in progress are going to use.
//!
//! A write whose size is known reserves each shard's part of its disk's free space before its first
//! byte, so that a write for which there is no room is refused then, and not after gigabytes. What
//! is written counts as used space, and is reserved no longer.

use std::collections::HashMap;
use std::sync::Arc;

use crate::disk::Disk;
use drystone_store::lock::Mutex;
use drystone_store::types::DiskId;

/// The bytes that are reserved on each disk.
#[derive(Default)]
pub(super) struct Reservations(Mutex<HashMap<DiskId, u64>>);

/// Bytes on a disk that one shard is going to use. They are free again when this is dropped.
pub(super) struct Reservation {
    of: Arc<Reservations>,
    disk: DiskId,
    bytes: u64,
}

impl Reservations {
    /// Returns the bytes that are reserved on a disk.
    pub(super) fn on(&self, disk: DiskId) -> u64 {
        self.0.lock().get(&disk).copied().unwrap_or(0)
    }

    /// Reserves `bytes` on each of the disks, or nothing if one of them has no room for so many.
    pub(super) fn reserve(
        self: &Arc<Self>,
        disks: &[Arc<dyn Disk>],
        bytes: u64,
    ) -> Option<Vec<Reservation>> {
        let mut reserved = self.0.lock();
        let has_room = |disk: &Arc<dyn Disk>| {
            let taken = reserved.get(&disk.id()).copied().unwrap_or(0);
            let free = disk.space().map_or(0, |space| space.above_reserve);
            free.saturating_sub(taken) >= bytes.max(1)
        };
        if !disks.iter().all(has_room) {
            return None;
        }
        let reservations = disks.iter().map(|disk| {
            *reserved.entry(disk.id()).or_default() += bytes;
            Reservation {
                of: self.clone(),
                disk: disk.id(),
                bytes,
            }
        });
        Some(reservations.collect())
    }

    fn release(&self, disk: DiskId, bytes: u64) {
        let mut reserved = self.0.lock();
        if let Some(left) = reserved.get_mut(&disk) {
            *left -= bytes;
            if *left == 0 {
                reserved.remove(&disk);
            }
        }
    }
}

impl Reservation {
    /// Notes that so many bytes of it were written.
    pub(super) fn used(&mut self, bytes: u64) {
        let used = bytes.min(self.bytes);
        self.bytes -= used;
        self.of.release(self.disk, used);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.of.release(self.disk, self.bytes);
    }
}
