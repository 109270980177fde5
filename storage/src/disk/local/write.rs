//! A shard that is being written to a local disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::core::DiskCore;
use crate::disk::shard_file::Writer;
use crate::disk::{DiskError, ShardWriter};
use drystone_store::env::File;

/// Bytes after which a shard being written is synced in the background, so that little is left for
/// the sync at its end.
const SYNC_EVERY_BYTES: u64 = 32 << 20;
/// The same while the disk has more than [`UNSYNCED_BYTES_MAX`] to write.
const SYNC_EVERY_BYTES_MIN: u64 = 1 << 20;
/// The bytes of all shards of a disk that may wait in memory for it. With more, the kernel would
/// make whoever writes next wait for all of them, which looks like a disk that hangs.
pub(super) const UNSYNCED_BYTES_MAX: u64 = 128 << 20;
/// Bytes after which the kernel is asked to write what it has of a shard.
const WRITEBACK_EVERY_BYTES: u64 = 1 << 20;

pub(super) struct LocalWriter {
    pub(super) core: Arc<DiskCore>,
    pub(super) folder: PathBuf,
    /// `None` while a job has it; an abandoned job keeps it.
    pub(super) writer: Option<Writer>,
    /// Bytes since a sync was last begun.
    pub(super) unsynced: Unsynced,
    pub(super) syncing: Option<oneshot::Receiver<Result<(), DiskError>>>,
}

/// Bytes of a shard that were written and not synced. Dropped, they count no longer.
pub(super) struct Unsynced {
    of: Arc<AtomicU64>,
    bytes: u64,
}

impl Unsynced {
    /// Makes an empty one, which counts into the disk's sum.
    pub(super) fn new(of: &Arc<AtomicU64>) -> Unsynced {
        Unsynced {
            of: of.clone(),
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.of.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns whether a sync is due.
    fn is_due(&self) -> bool {
        let all = self.of.load(Ordering::Relaxed);
        let limit = match all > UNSYNCED_BYTES_MAX {
            true => SYNC_EVERY_BYTES_MIN,
            false => SYNC_EVERY_BYTES,
        };
        self.bytes >= limit
    }
}

impl Drop for Unsynced {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl LocalWriter {
    fn take(&mut self) -> Result<Writer, DiskError> {
        self.core.writable()?;
        let failed = || io::Error::other("an earlier write of this shard failed");
        self.writer.take().ok_or_else(|| failed().into())
    }

    /// Waits for the sync begun last and begins the next.
    async fn sync_aside(&mut self, file: Arc<dyn File>) -> Result<(), DiskError> {
        self.finish_sync().await?;
        let (done, answer) = oneshot::channel();
        let core = self.core.clone();
        let none = Unsynced::new(&self.core.unsynced);
        let covered = std::mem::replace(&mut self.unsynced, none);
        let bytes = covered.bytes;
        let started = self.core.pool.try_start(move || {
            let synced = file.sync_data().map_err(|e| core.after_sync(e));
            drop(covered);
            drop(done.send(synced));
        });
        if !started {
            // On a busy disk the next piece, or the end, syncs this one as well.
            self.unsynced.add(bytes);
            return Ok(());
        }
        self.syncing = Some(answer);
        Ok(())
    }

    async fn finish_sync(&mut self) -> Result<(), DiskError> {
        match self.syncing.take() {
            None => Ok(()),
            Some(answer) => answer.await.map_err(io::Error::other)?,
        }
    }
}

#[async_trait]
impl ShardWriter for LocalWriter {
    async fn write(&mut self, chunks: Vec<Bytes>) -> Result<(), DiskError> {
        let mut writer = self.take()?;
        let bytes = chunks.iter().map(|c| c.len() as u64).sum::<u64>();
        self.unsynced.add(bytes);
        let core = self.core.clone();
        let appended = self.core.pool.run(move || {
            core.take_space(bytes, 0)?;
            writer.append(&chunks).map_err(|e| core.after_write(e))?;
            writer.start_writeback(WRITEBACK_EVERY_BYTES);
            Ok::<_, DiskError>(writer)
        });
        let writer = appended.await??;
        let file = writer.file();
        self.writer = Some(writer);
        if self.unsynced.is_due() {
            self.sync_aside(file).await?;
        }
        Ok(())
    }

    /// Power goes before the folder's sync: the file is complete, its name may be missing. After
    /// it: the shard is durable. Until it is confirmed, gc knows it either way.
    async fn finish(mut self: Box<Self>, object_size: u64) -> Result<u64, DiskError> {
        self.finish_sync().await?;
        let writer = self.take()?;
        let (core, folder) = (self.core.clone(), std::mem::take(&mut self.folder));
        let sealed = self.core.pool.run(move || {
            let began = core.env.instant();
            let sealed = core.seal(writer, object_size, &folder);
            core.syncs.add(core.env.elapsed(began));
            sealed
        });
        let checksum = sealed.await??;
        // A sync that failed elsewhere meanwhile may have concerned this shard.
        self.core.writable()?;
        Ok(checksum)
    }
}
