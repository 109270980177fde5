//! The memory, threads and files that the databases of one node use together.

/// The part of the memory that memtables get; the rest is the cache.
const MEMTABLES_DIVISOR: u64 = 4;
/// The least memory of all memtables.
const MEMTABLES_BYTES_MIN: u64 = 32 << 20;
const CACHE_BYTES_MIN: u64 = 32 << 20;
/// The bounds of one family's memtable. Larger ones would only be flushed sooner than they are
/// full: with each 32 MiB of log, and by the length of the WAL.
const MEMTABLE_BYTES_MIN: u64 = 8 << 20;
const MEMTABLE_BYTES_MAX: u64 = 64 << 20;
/// The least part of a disk that one memtable is: RocksDB allots that much to each new WAL at once.
const MEMTABLE_DISK_DIVISOR: u64 = 256;
/// The number of families that are written to.
const FAMILIES: u64 = 3;
/// The least length of a disk's WAL at which it is shortened, and so what a restart replays.
const WAL_BYTES_MIN: u64 = 64 << 20;
/// Compactions leave half of the cores to requests.
const COMPACTIONS_CORES_DIVISOR: usize = 2;
const COMPACTIONS_MAX: usize = 16;
const FLUSHES_CORES_DIVISOR: usize = 4;
/// The part of the descriptors that is for tables.
const DESCRIPTORS_DIVISOR: u64 = 8;
const OPEN_FILES_MIN: u64 = 64;
const OPEN_FILES_MAX: u64 = 8192;

/// The resources that the databases of one node may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// The memory for the cache of table blocks and for memtables.
    pub memory_bytes: u64,
    pub cores: usize,
    /// The descriptors of the process, of which the databases use a part.
    pub descriptors: u64,
    pub databases: usize,
    /// The size of the disk that a database is on.
    pub disk_bytes: u64,
}

impl Resources {
    /// The least that a store works with.
    pub const SMALL: Resources = Resources {
        memory_bytes: MEMTABLES_BYTES_MIN + CACHE_BYTES_MIN,
        cores: 2,
        descriptors: 8192,
        databases: 4,
        disk_bytes: u64::MAX,
    };

    /// Returns these resources for a database on a disk of this size.
    pub(super) fn on_disk(self, disk_bytes: u64) -> Resources {
        Resources { disk_bytes, ..self }
    }

    pub(super) fn memtables_bytes(&self) -> u64 {
        (self.memory_bytes / MEMTABLES_DIVISOR).max(MEMTABLES_BYTES_MIN)
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        let rest = self.memory_bytes.saturating_sub(self.memtables_bytes());
        rest.max(CACHE_BYTES_MIN)
    }

    /// Returns the size at which the memtable of one family is flushed.
    pub(super) fn memtable_bytes(&self) -> u64 {
        let families = FAMILIES * self.databases.max(1) as u64;
        let share = self.memtables_bytes() / families;
        let share = share.min(self.disk_bytes / MEMTABLE_DISK_DIVISOR);
        share.clamp(MEMTABLE_BYTES_MIN, MEMTABLE_BYTES_MAX)
    }

    /// Returns the most WAL of one disk. It is longer than what memtables hold, so that they are
    /// full, or their log is dropped, before the WAL has them flushed.
    pub(super) fn wal_bytes(&self) -> u64 {
        (2 * self.memtable_bytes()).max(WAL_BYTES_MIN)
    }

    /// Returns the number of compactions at once, on all disks together.
    pub(super) fn compactions(&self) -> usize {
        (self.cores / COMPACTIONS_CORES_DIVISOR).clamp(1, COMPACTIONS_MAX)
    }

    /// Returns the number of flushes at once, on all disks together.
    pub(super) fn flushes(&self) -> usize {
        (self.cores / FLUSHES_CORES_DIVISOR).clamp(1, self.databases.max(1))
    }

    /// Returns the number of tables that one database keeps open.
    pub(super) fn open_files(&self) -> u64 {
        let share = self.descriptors / DESCRIPTORS_DIVISOR / self.databases.max(1) as u64;
        share.clamp(OPEN_FILES_MIN, OPEN_FILES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_threads_and_files_follow_the_machine() {
        let small = Resources::SMALL;
        assert_eq!(
            (small.cache_bytes(), small.memtables_bytes()),
            (32 << 20, 32 << 20)
        );
        assert_eq!(
            (small.memtable_bytes(), small.wal_bytes()),
            (8 << 20, 64 << 20)
        );
        assert_eq!(
            (small.compactions(), small.flushes(), small.open_files()),
            (1, 1, 256)
        );
        let large = Resources {
            memory_bytes: 8 << 30,
            cores: 32,
            descriptors: 1 << 20,
            databases: 12,
            disk_bytes: 1 << 40,
        };
        assert_eq!(
            (large.cache_bytes(), large.memtables_bytes()),
            (6 << 30, 2 << 30)
        );
        assert_eq!(
            (large.memtable_bytes(), large.wal_bytes()),
            ((2 << 30) / 36, 2 * ((2 << 30) / 36))
        );
        assert_eq!(
            (large.compactions(), large.flushes(), large.open_files()),
            (16, 8, 8192)
        );
        // On a disk of 4 GiB, and on one that is much smaller.
        for (disk_bytes, memtable) in [(4 << 30, 16 << 20), (64 << 20, 8 << 20)] {
            assert_eq!(large.on_disk(disk_bytes).memtable_bytes(), memtable);
        }
        // Less than the least is the least.
        let none = Resources {
            memory_bytes: 0,
            cores: 1,
            descriptors: 64,
            databases: 1,
            disk_bytes: 1 << 40,
        };
        assert_eq!(
            (none.cache_bytes(), none.memtables_bytes()),
            (32 << 20, 32 << 20)
        );
        assert_eq!(
            (none.compactions(), none.flushes(), none.open_files()),
            (1, 1, 64)
        );
    }
}
