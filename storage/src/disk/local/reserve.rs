//! The space of a disk that shards may use, and the space that is left for metadata.

use std::time::Duration;

use crate::disk::Space;
use drystone_store::env::{Capacity, Instant};

/// How long a reading of the free space is used.
const SPACE_FRESH_FOR: Duration = Duration::from_secs(1);

/// Space on a disk that shards leave free: for metadata, and for the deletes that make room again.
#[derive(Clone, Copy, Debug)]
pub struct Reserve {
    pub bytes: u64,
    pub percent: u64,
}

impl Default for Reserve {
    fn default() -> Reserve {
        Reserve {
            bytes: 2 << 30,
            percent: 5,
        }
    }
}

impl Reserve {
    /// On a small disk the reserve is at most this part of it.
    const SMALL_DISK_DIVISOR: u64 = 8;
    /// The minimum of the reserve, if half of the disk allows it: the space that the database's
    /// log, its flushes and its compactions may use at once.
    const DATABASE_BYTES: u64 = 128 << 20;
    /// The number of inodes that shards leave free: a part of all, and a maximum. The database
    /// needs one for each file that it flushes.
    const INODES_DIVISOR: u64 = 20;
    const INODES_MAX: u64 = 1000;

    pub(super) fn of(self, total: u64) -> u64 {
        let small = total / Self::SMALL_DISK_DIVISOR;
        let bytes = self
            .bytes
            .min(small.max(Self::DATABASE_BYTES.min(total / 2)));
        bytes.max(total / 100 * self.percent)
    }

    /// Divides the disk's free space between shards and metadata.
    pub(super) fn measure(self, capacity: &Capacity, now: Instant) -> SpaceReading {
        let (total, free) = (capacity.bytes, capacity.bytes_free);
        let reserve = self.of(total);
        let inodes = (capacity.inodes / Self::INODES_DIVISOR).min(Self::INODES_MAX);
        // Some file systems create inodes as they need them, and count none.
        let files = |kept: u64| match capacity.inodes {
            0 => u64::MAX,
            _ => capacity.inodes_free.saturating_sub(kept),
        };
        let room = |reserve: u64, kept: u64| match files(kept) {
            0 => 0,
            _ => free.saturating_sub(reserve),
        };
        SpaceReading {
            at: now,
            space: Space {
                total,
                free,
                above_reserve: room(reserve, inodes),
                for_metadata: room(reserve / 2, inodes / 2),
            },
            bytes: 0,
            files: files(inodes),
        }
    }
}

/// A reading of the free space.
#[derive(Clone, Copy)]
pub(super) struct SpaceReading {
    pub(super) at: Instant,
    pub(super) space: Space,
    /// Bytes that shards have used since.
    pub(super) bytes: u64,
    /// The number of files that shards may still create.
    pub(super) files: u64,
}

impl SpaceReading {
    /// Returns the space without what shards have taken since.
    pub(super) fn left(&self) -> Space {
        let space = self.space;
        Space {
            free: space.free.saturating_sub(self.bytes),
            above_reserve: match self.files {
                0 => 0,
                _ => space.above_reserve.saturating_sub(self.bytes),
            },
            for_metadata: space.for_metadata.saturating_sub(self.bytes),
            ..space
        }
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < SPACE_FRESH_FOR
    }
}
