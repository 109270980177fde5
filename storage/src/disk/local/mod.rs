//! A directory of this machine as a disk.
//!
//! A shard is a file with its final name in one of 256 folders that were created with the disk. All
//! system calls run on the disk's own threads. The disk notices by itself that its directory was
//! emptied or has vanished, that its database failed, or that a write did, and says so in its
//! state; it never recovers from that. If the disk works after all, another is opened in its place
//! (`engine::renew`).

mod core;
pub mod probe;
mod read;
mod remove;
mod reserve;
mod walk;
mod write;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;

use self::core::{CHECK_EVERY, DiskCore, watch_disk};
use self::read::LocalReader;
pub use self::reserve::Reserve;
use self::write::{LocalWriter, Unsynced};
use crate::db::Db;
use crate::disk::identity::{DiskDirectory, shard_folder};
use crate::disk::io::Pool;
use crate::disk::pending::PendingList;
use crate::disk::shard_file::{Reader, Writer};
use crate::disk::{
    Disk, DiskError, DiskState, ShardHeader, ShardName, ShardReader, ShardShape, ShardWriter,
    Space, UnconfirmedShard,
};
use drystone_store::crash::DiskPoint;
use drystone_store::env::Operations;
use drystone_store::lock::Mutex;
use drystone_store::measure::{Histogram, Measure};
use drystone_store::types::{DiskId, Epoch};

/// Confirmed shards are removed from the list in batches of this size, at the latest by gc.
const CONFIRM_BATCH_LEN: usize = 64;
/// The maximum number of confirmed shards to remember. More of them stay on the list, and gc
/// confirms them once more.
const CONFIRM_LEN_MAX: usize = 16 << 10;

pub struct LocalDisk {
    core: Arc<DiskCore>,
}

impl LocalDisk {
    /// Opens the disk and reads its free space. Blocks. It must be called within the async runtime:
    /// the disk spawns a task that watches it.
    pub fn open(directory: DiskDirectory, db: Arc<Db>, reserve: Reserve) -> io::Result<LocalDisk> {
        let (id, dir) = (directory.identity.disk, directory.dir.clone());
        let (env, failure) = (db.env().clone(), db.failure());
        let (crash, log_syncs) = (db.crash().clone(), db.syncs().clone());
        let ticks = env.interval(CHECK_EVERY);
        let pool = Pool::new(env.as_ref(), db.operations().clone())?;
        #[cfg(test)]
        pool.set_gate(db.gate().clone());
        let core = Arc::new(DiskCore {
            env: env.clone(),
            id,
            dir,
            _directory: directory,
            reserve,
            pool,
            operations: db.operations().clone(),
            pending: PendingList::new(db, id),
            crash,
            log_syncs,
            state: watch::Sender::new(DiskState::Up),
            space: Mutex::new(None),
            is_looking: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            confirmed: Mutex::default(),
            unsynced: Arc::default(),
            syncs: Histogram::default(),
        });
        core.read_space()?;
        env.spawn(watch_disk(Arc::downgrade(&core), failure, ticks));
        Ok(LocalDisk { core })
    }
}

#[async_trait]
impl Disk for LocalDisk {
    fn id(&self) -> DiskId {
        self.core.id
    }

    fn state(&self) -> watch::Receiver<DiskState> {
        self.core.state.subscribe()
    }

    #[cfg(test)]
    fn fail(&self, why: &str) {
        self.core.leave(DiskState::Failed(why.into()));
    }

    fn measures(&self) -> Vec<Measure> {
        vec![
            Measure::durations(
                "disk_log_sync_seconds",
                "How long a sync of the metadata's log took.",
                &self.core.log_syncs,
            ),
            Measure::gauge(
                "disk_unsynced_bytes",
                "Bytes of shards that were written to the disk and are not synced.",
                self.core.unsynced.load(Ordering::Relaxed) as f64,
            ),
            Measure::durations(
                "disk_shard_sync_seconds",
                "How long the last sync of a shard took.",
                &self.core.syncs,
            ),
        ]
    }

    fn space(&self) -> Result<Space, DiskError> {
        self.core.writable()?;
        let known = *self.core.space.lock();
        let reading = known.ok_or_else(|| io::Error::other("its space is not known"))?;
        self.core.look_at_space();
        Ok(reading.left())
    }

    fn operations(&self) -> Arc<Operations> {
        self.core.operations.clone()
    }

    fn syncs(&self) -> (u64, f64) {
        let (log, shards) = (self.core.log_syncs.durations(), self.core.syncs.durations());
        (log.count() + shards.count(), log.seconds + shards.seconds)
    }

    fn give_up(&self, why: &str) {
        self.core.hangs.store(true, Ordering::Relaxed);
        self.core.pending.give_up(why);
        self.core.leave(DiskState::Failed(why.into()));
        self.core.pool.abandon();
    }

    async fn create(&self, header: ShardHeader) -> Result<Box<dyn ShardWriter>, DiskError> {
        self.core.writable()?;
        let added = self.core.pending.add(&header).await;
        added.map_err(|e| self.core.after_db(e))?;
        self.core.crash.pass_disk(DiskPoint::ShardListed);
        let core = self.core.clone();
        let made = self.core.pool.run(move || {
            core.take_space(0, 1)?;
            let made = Writer::create(core.env.files(), &core.path(&header.name), &header);
            core.crash.pass_disk(DiskPoint::ShardCreated);
            made.map_err(|e| core.after_write(e))
        });
        Ok(Box::new(LocalWriter {
            core: self.core.clone(),
            folder: shard_folder(&self.core.dir, header.name.write_id.0[0]),
            writer: Some(made.await??),
            unsynced: Unsynced::new(&self.core.unsynced),
            syncing: None,
        }))
    }

    async fn open(
        &self,
        name: ShardName,
        shape: ShardShape,
    ) -> Result<Box<dyn ShardReader>, DiskError> {
        self.core.readable()?;
        let core = self.core.clone();
        let opened = self.core.pool.run(move || {
            let opened = Reader::open(core.env.files(), &core.path(&name), name, shape);
            opened.map_err(|e| core.after_read(e))
        });
        Ok(Box::new(LocalReader {
            core: self.core.clone(),
            reader: Arc::new(opened.await??),
        }))
    }

    async fn remove(&self, shards: Vec<ShardName>) -> Result<(), DiskError> {
        self.core.remove(shards).await
    }

    async fn unconfirmed(
        &self,
        below: Epoch,
        max: usize,
    ) -> Result<Vec<UnconfirmedShard>, DiskError> {
        self.core.writable()?;
        let core = self.core.clone();
        let listed = self.core.pool.run(move || {
            core.flush_confirmed()
                .and_then(|()| core.pending.list(below, max))
                .map_err(|e| core.after_db(e))
        });
        listed.await?
    }

    async fn unlisted(&self, folder: u8) -> Result<Vec<ShardName>, DiskError> {
        self.core.find_unlisted(folder).await
    }

    async fn mark_unconfirmed(
        &self,
        shards: Vec<ShardName>,
        epoch: Epoch,
    ) -> Result<(), DiskError> {
        self.core.relist(shards, epoch).await
    }

    fn confirm(&self, shards: &[ShardName]) {
        let due = {
            let mut confirmed = self.core.confirmed.lock();
            if confirmed.len() + shards.len() <= CONFIRM_LEN_MAX {
                confirmed.extend_from_slice(shards);
            }
            confirmed.len() >= CONFIRM_BATCH_LEN
        };
        let core = self.core.clone();
        let flush = move || {
            if let Err(e) = core.flush_confirmed() {
                core.after_db(e);
            }
        };
        if due && !self.core.pool.try_start(flush) {
            tracing::debug!(disk = %self.core.id, "confirmed shards wait for a place");
        }
    }
}

#[cfg(test)]
mod tests;
