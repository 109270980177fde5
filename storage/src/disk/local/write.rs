//! A shard that is being written to a local disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

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

pub(super) struct LocalWriter {
    pub(super) core: Arc<DiskCore>,
    pub(super) folder: PathBuf,
    /// `None` while a job has it; an abandoned job keeps it.
    pub(super) writer: Option<Writer>,
    /// Bytes since a sync was last begun.
    pub(super) unsynced: u64,
    pub(super) syncing: Option<oneshot::Receiver<Result<(), DiskError>>>,
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
        let started = self.core.pool.try_start(move || {
            let synced = file.sync_data().map_err(|e| core.after_sync(e));
            drop(covered);
            drop(done.send(synced));
        });
        // On a busy disk the next piece, or the end, syncs this one as well.
        self.syncing = started.then_some(answer);
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
        self.unsynced += bytes;
        let core = self.core.clone();
        let appended = self.core.pool.run(move || {
            core.take_space(bytes, 0)?;
            let appended = writer.append(&chunks);
            appended.map(|()| writer).map_err(|e| core.after_write(e))
        });
        let writer = appended.await??;
        let file = writer.file();
        self.writer = Some(writer);
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.unsynced = 0;
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
