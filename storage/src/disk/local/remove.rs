//! Removal of shards from a local disk.

use std::io;
use std::sync::Arc;

use super::core::DiskCore;
use crate::disk::identity::{is_still, shard_folder};
use crate::disk::{DiskError, ShardName};
use drystone_store::crash::DiskPoint;

/// The most files that one job unlinks, and the most folders that one syncs. Jobs are short, so
/// that the watchdog does not take a disk that has much to remove for one that hangs.
const UNLINKS_PER_JOB: usize = 64;
const SYNCS_PER_JOB: usize = 8;

impl DiskCore {
    /// Unlinks the files, and then syncs each of their folders once: with the first one, most file
    /// systems make all removals durable.
    pub(super) async fn remove(
        self: &Arc<Self>,
        mut shards: Vec<ShardName>,
    ) -> Result<(), DiskError> {
        self.writable()?;
        self.crash.pass_disk(DiskPoint::ShardsLeaving);
        // By folder, as it is the beginning of the name.
        shards.sort_unstable();
        for some in shards.chunks(UNLINKS_PER_JOB) {
            let (core, some) = (self.clone(), some.to_vec());
            let unlinked = self.pool.run(move || core.unlink(&some));
            unlinked.await??;
        }
        self.crash.pass_disk(DiskPoint::ShardsUnlinked);
        let mut folders: Vec<u8> = shards.iter().map(|shard| shard.write_id.0[0]).collect();
        folders.dedup();
        // Syncs that run side by side share the disk's flushes.
        let (some, others) = folders.split_at(folders.len() / 2);
        futures_util::try_join!(self.sync_in_turn(some), self.sync_in_turn(others))?;
        self.crash.pass_disk(DiskPoint::ShardsRemoved);
        Ok(())
    }

    async fn sync_in_turn(self: &Arc<Self>, folders: &[u8]) -> Result<(), DiskError> {
        for some in folders.chunks(SYNCS_PER_JOB) {
            let (core, some) = (self.clone(), some.to_vec());
            let synced = self.pool.run(move || core.sync_folders(&some));
            synced.await??;
        }
        Ok(())
    }

    /// Unlinks the files. Blocks.
    fn unlink(&self, shards: &[ShardName]) -> Result<(), DiskError> {
        let files = self.env.files();
        let mut absent = false;
        for shard in shards {
            match files.remove_file(&self.path(shard)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => absent = true,
                other => other.map_err(|e| self.after_write(e))?,
            }
        }
        // Is the shard missing, or is this another disk?
        if absent && !is_still(files, &self.dir, self.id).map_err(|e| self.after_write(e))? {
            return Err(self.after_write(io::ErrorKind::NotFound.into()));
        }
        Ok(())
    }

    /// Makes removals in these folders durable. Blocks.
    fn sync_folders(&self, folders: &[u8]) -> Result<(), DiskError> {
        let files = self.env.files();
        let mut folders = folders.iter().copied();
        let synced = folders.try_for_each(|first| files.sync_dir(&shard_folder(&self.dir, first)));
        synced.map_err(|e| self.after_sync(e))
    }
}
