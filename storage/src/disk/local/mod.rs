//! A directory of this machine as a disk.
//!
//! A shard is a file with its final name in one of 256 folders that were made when the disk was.
//! All system calls run on the disk's own threads. The disk notices by itself that its directory
//! was emptied or has vanished, that its database failed, or that a write did, and says so in its
//! state; it never comes back from that. Where the disk is well after all, another is opened in its
//! place (`engine::renew`).

pub mod probe;
mod read;
mod reserve;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::io::Errno;
use tokio::sync::{oneshot, watch};

use self::read::LocalReader;
pub use self::reserve::Reserve;
use self::reserve::SpaceReading;
use crate::db::{Db, DbError};
use crate::disk::identity::{DiskDirectory, is_still, shard_folder};
use crate::disk::io::Pool;
use crate::disk::pending::PendingList;
use crate::disk::shard_file::{Reader, Writer, file_name};
use crate::disk::{
    Disk, DiskError, DiskState, ShardHeader, ShardName, ShardReader, ShardShape, ShardWriter,
    Space, UnconfirmedShard,
};
use drystone_store::crash::{Crash, DiskPoint};
use drystone_store::env::{Env, File, Interval};
use drystone_store::measure::{Histogram, Measure};
use drystone_store::types::{DiskId, Epoch};

/// How often a disk looks whether its directory is still itself.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// Bytes after which a shard being written is synced beside the writing, so that little is left
/// for the sync at its end.
const SYNC_EVERY_BYTES: u64 = 32 << 20;
/// Confirmed shards are taken off the list in batches of this size, at the latest by gc.
const CONFIRM_BATCH_LEN: usize = 64;
/// Past this the list keeps them, and gc confirms them once more.
const CONFIRM_LEN_MAX: usize = 16 << 10;

pub struct LocalDisk {
    inner: Arc<Inner>,
}

struct Inner {
    env: Arc<dyn Env>,
    id: DiskId,
    dir: PathBuf,
    /// Keeps the directory locked.
    _settled: DiskDirectory,
    reserve: Reserve,
    pool: Pool,
    pending: PendingList,
    crash: Crash,
    /// Of the database's log.
    log_syncs: Arc<Histogram>,
    state: watch::Sender<DiskState>,
    space: Mutex<Option<SpaceReading>>,
    confirmed: Mutex<Vec<ShardName>>,
    /// Of a shard's file and its folder, at the shard's end.
    syncs: Histogram,
}

impl LocalDisk {
    /// Must be called within the async runtime: a task of the disk's own looks after it.
    pub fn open(settled: DiskDirectory, db: Arc<Db>, reserve: Reserve) -> io::Result<LocalDisk> {
        let (id, dir) = (settled.identity.disk, settled.dir.clone());
        let (env, failure) = (db.env().clone(), db.failure());
        let (crash, log_syncs) = (db.crash().clone(), db.syncs().clone());
        let ticks = env.interval(CHECK_EVERY);
        let inner = Arc::new(Inner {
            env: env.clone(),
            id,
            dir,
            _settled: settled,
            reserve,
            pool: Pool::new(env.as_ref())?,
            pending: PendingList::new(db, id),
            crash,
            log_syncs,
            state: watch::Sender::new(DiskState::Up),
            space: Mutex::default(),
            confirmed: Mutex::default(),
            syncs: Histogram::default(),
        });
        env.spawn(look_after(Arc::downgrade(&inner), failure, ticks));
        Ok(LocalDisk { inner })
    }
}

/// Checks a disk's directory and database until it is down or dropped.
async fn look_after(
    disk: Weak<Inner>,
    mut failure: watch::Receiver<Option<DbError>>,
    mut ticks: Interval,
) {
    loop {
        tokio::select! {
            changed = failure.changed() => if changed.is_err() { return },
            () = ticks.tick() => {}
        }
        let Some(disk) = disk.upgrade() else { return };
        let failed = failure.borrow().as_ref().map(DbError::to_string);
        if let Some(why) = failed {
            disk.leave(DiskState::Failed(why.into()));
        }
        if !disk.state.borrow().is_up() {
            return;
        }
        let checked = disk.clone();
        if let Err(e) = disk.pool.run(move || checked.check()).await {
            tracing::warn!(disk = %disk.id, error = %e, "disk check did not run");
        }
    }
}

impl Inner {
    /// The first reason to leave `Up` stays. What is there can still be read; the database is not
    /// needed for that, and may be made anew.
    fn leave(&self, to: DiskState) {
        let left = self.state.send_if_modified(|state| {
            let lost = matches!((&*state, &to), (DiskState::Failed(_), DiskState::Lost(_)));
            let leaves = state.is_up() || lost;
            if leaves {
                *state = to;
            }
            leaves
        });
        if left {
            self.pending.close();
            let state = &*self.state.borrow();
            tracing::error!(disk = %self.id, dir = %self.dir.display(), ?state, "disk is down");
        }
    }

    /// `Err` when shards can't be written to this disk any more.
    fn writable(&self) -> Result<(), DiskError> {
        match &*self.state.borrow() {
            DiskState::Up => Ok(()),
            DiskState::Failed(why) | DiskState::Lost(why) => Err(DiskError::Down(why.clone())),
        }
    }

    /// `Err` when nothing is there to be read any more.
    fn readable(&self) -> Result<(), DiskError> {
        match &*self.state.borrow() {
            DiskState::Up | DiskState::Failed(_) => Ok(()),
            DiskState::Lost(why) => Err(DiskError::Down(why.clone())),
        }
    }

    /// Sees whether the directory is still this disk; an error says that it could not be seen.
    /// Blocks.
    fn check(&self) -> io::Result<()> {
        match is_still(self.env.files(), &self.dir, self.id) {
            Ok(true) => {}
            Ok(false) => self.leave(DiskState::Lost("its identity is gone".into())),
            Err(e) if is_scarcity(&e) => {
                tracing::warn!(disk = %self.id, error = %e, "disk could not be checked");
                return Err(e);
            }
            Err(e) => {
                self.leave(DiskState::Failed(e.to_string().into()));
                return Err(e);
            }
        }
        Ok(())
    }

    /// What a failed write, creation or sync means for the disk. Blocks.
    fn after_write(&self, error: io::Error) -> DiskError {
        if is_full(&error) {
            *self.lock_space() = None;
            return DiskError::Full;
        }
        if is_scarcity(&error) || error.kind() == io::ErrorKind::AlreadyExists {
            return DiskError::Io(error);
        }
        if error.kind() == io::ErrorKind::NotFound {
            // The folders were made with the disk: without them it is not the disk any more.
            drop(self.check());
            self.leave(DiskState::Lost("a folder of shards is missing".into()));
        } else {
            self.leave(DiskState::Failed(error.to_string().into()));
        }
        self.writable().err().unwrap_or(DiskError::Io(error))
    }

    /// What a failed read means: a shard is missing only where the disk is surely itself. Blocks.
    fn after_read(&self, error: DiskError) -> DiskError {
        match error {
            DiskError::Io(e) if e.kind() == io::ErrorKind::NotFound => {
                let checked = self.check();
                let down = self.readable().err();
                down.or(checked.err().map(DiskError::Io))
                    .unwrap_or(DiskError::Missing)
            }
            DiskError::Io(e) if !is_scarcity(&e) => DiskError::Corrupt(e.to_string()),
            other => other,
        }
    }

    fn path(&self, name: &ShardName) -> PathBuf {
        let file = file_name(name);
        shard_folder(&self.dir, name.write_id.0[0]).join(file)
    }

    /// Blocks.
    fn read_space(&self) -> io::Result<Space> {
        let capacity = self.env.files().capacity(&self.dir)?;
        let reading = self.reserve.measure(&capacity, self.env.instant());
        *self.lock_space() = Some(reading);
        Ok(reading.space)
    }

    fn lock_space(&self) -> std::sync::MutexGuard<'_, Option<SpaceReading>> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a shard is about to take, and refuses what would go into the reserve: many
    /// writes may have been let in by one reading, and a body need not say how long it is. Blocks.
    fn take_space(&self, bytes: u64, files: u64) -> Result<(), DiskError> {
        let now = self.env.instant();
        let fits = |reading: &mut Option<SpaceReading>| {
            let reading = reading.as_mut().filter(|reading| reading.is_fresh(now))?;
            reading.bytes += bytes;
            let fits = reading.bytes <= reading.space.above_reserve && files <= reading.files;
            reading.files = reading.files.saturating_sub(files);
            Some(fits)
        };
        if fits(&mut self.lock_space()) == Some(true) {
            return Ok(());
        }
        self.read_space()?;
        match fits(&mut self.lock_space()) {
            Some(false) => Err(DiskError::Full),
            _ => Ok(()),
        }
    }

    /// Unlinks the files and syncs their folders. Blocks.
    fn unlink(&self, shards: &[ShardName]) -> io::Result<()> {
        self.crash.pass_disk(DiskPoint::ShardsLeaving);
        let files = self.env.files();
        let mut folders = Vec::new();
        let mut absent = false;
        for shard in shards {
            match files.remove_file(&self.path(shard)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => absent = true,
                other => other?,
            }
            folders.push(shard.write_id.0[0]);
        }
        // Not there, or not this disk?
        if absent && !is_still(files, &self.dir, self.id)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.crash.pass_disk(DiskPoint::ShardsUnlinked);
        folders.sort_unstable();
        folders.dedup();
        folders
            .into_iter()
            .try_for_each(|folder| files.sync_dir(&shard_folder(&self.dir, folder)))?;
        self.crash.pass_disk(DiskPoint::ShardsRemoved);
        Ok(())
    }

    /// Makes a shard that is written durable. Blocks.
    fn seal(&self, writer: Writer, object_size: u64, folder: &Path) -> io::Result<u64> {
        self.crash.pass_disk(DiskPoint::ShardWritten);
        let checksum = writer.seal(object_size)?;
        self.crash.pass_disk(DiskPoint::ShardSealed);
        self.env.files().sync_dir(folder)?;
        self.crash.pass_disk(DiskPoint::ShardDurable);
        Ok(checksum)
    }

    /// Takes confirmed shards off the list. Blocks.
    fn flush_confirmed(&self) -> Result<(), DbError> {
        let confirmed = std::mem::take(&mut *self.lock_confirmed());
        if !confirmed.is_empty() {
            self.crash.pass_disk(DiskPoint::ListShrinking);
        }
        self.pending.remove(&confirmed)
    }

    fn lock_confirmed(&self) -> std::sync::MutexGuard<'_, Vec<ShardName>> {
        self.confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn after_db(&self, error: DbError) -> DiskError {
        self.leave(DiskState::Failed(error.to_string().into()));
        DiskError::Io(error.into())
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// The process or machine lacks something for the moment; the disk is none the worse.
fn is_scarcity(error: &io::Error) -> bool {
    let scarce = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|code| scarce.contains(&code))
}

#[async_trait]
impl Disk for LocalDisk {
    fn id(&self) -> DiskId {
        self.inner.id
    }

    fn state(&self) -> watch::Receiver<DiskState> {
        self.inner.state.subscribe()
    }

    #[cfg(test)]
    fn fail(&self, why: &str) {
        self.inner.leave(DiskState::Failed(why.into()));
    }

    fn measures(&self) -> Vec<Measure> {
        vec![
            Measure::durations(
                "disk_log_sync_seconds",
                "How long a sync of the metadata's log took.",
                &self.inner.log_syncs,
            ),
            Measure::durations(
                "disk_shard_sync_seconds",
                "How long the last sync of a shard took.",
                &self.inner.syncs,
            ),
        ]
    }

    async fn space(&self) -> Result<Space, DiskError> {
        self.inner.writable()?;
        let known = *self.inner.lock_space();
        let now = self.inner.env.instant();
        if let Some(reading) = known.filter(|reading| reading.is_fresh(now)) {
            return Ok(reading.space);
        }
        let inner = self.inner.clone();
        Ok(self.inner.pool.run(move || inner.read_space()).await??)
    }

    async fn create(&self, header: ShardHeader) -> Result<Box<dyn ShardWriter>, DiskError> {
        self.inner.writable()?;
        let added = self.inner.pending.add(&header).await;
        added.map_err(|e| self.inner.after_db(e))?;
        self.inner.crash.pass_disk(DiskPoint::ShardListed);
        let inner = self.inner.clone();
        let made = self.inner.pool.run(move || {
            inner.take_space(0, 1)?;
            let made = Writer::create(inner.env.files(), &inner.path(&header.name), &header);
            inner.crash.pass_disk(DiskPoint::ShardCreated);
            made.map_err(|e| inner.after_write(e))
        });
        Ok(Box::new(LocalWriter {
            inner: self.inner.clone(),
            folder: shard_folder(&self.inner.dir, header.name.write_id.0[0]),
            writer: Some(made.await??),
            unsynced: 0,
            syncing: None,
        }))
    }

    async fn open(
        &self,
        name: ShardName,
        shape: ShardShape,
    ) -> Result<Box<dyn ShardReader>, DiskError> {
        self.inner.readable()?;
        let inner = self.inner.clone();
        let opened = self.inner.pool.run(move || {
            let opened = Reader::open(inner.env.files(), &inner.path(&name), name, shape);
            opened.map_err(|e| inner.after_read(e))
        });
        Ok(Box::new(LocalReader {
            inner: self.inner.clone(),
            reader: Arc::new(opened.await??),
        }))
    }

    async fn remove(&self, shards: Vec<ShardName>) -> Result<(), DiskError> {
        self.inner.writable()?;
        let inner = self.inner.clone();
        let removed = self
            .inner
            .pool
            .run(move || inner.unlink(&shards).map_err(|e| inner.after_write(e)));
        removed.await?
    }

    async fn unconfirmed(
        &self,
        below: Epoch,
        max: usize,
    ) -> Result<Vec<UnconfirmedShard>, DiskError> {
        self.inner.writable()?;
        let inner = self.inner.clone();
        let listed = self.inner.pool.run(move || {
            inner
                .flush_confirmed()
                .and_then(|()| inner.pending.list(below, max))
                .map_err(|e| inner.after_db(e))
        });
        listed.await?
    }

    async fn unlisted(&self, folder: u8) -> Result<Vec<ShardName>, DiskError> {
        self.find_unlisted(folder).await
    }

    async fn list_again(&self, shards: Vec<ShardName>, epoch: Epoch) -> Result<(), DiskError> {
        self.put_on_list(shards, epoch).await
    }

    fn confirm(&self, shards: &[ShardName]) {
        let due = {
            let mut confirmed = self.inner.lock_confirmed();
            if confirmed.len() + shards.len() <= CONFIRM_LEN_MAX {
                confirmed.extend_from_slice(shards);
            }
            confirmed.len() >= CONFIRM_BATCH_LEN
        };
        let inner = self.inner.clone();
        let flush = move || {
            if let Err(e) = inner.flush_confirmed() {
                inner.after_db(e);
            }
        };
        if due && !self.inner.pool.try_start(flush) {
            tracing::debug!(disk = %self.inner.id, "confirmed shards wait for a place");
        }
    }
}

struct LocalWriter {
    inner: Arc<Inner>,
    folder: PathBuf,
    /// Away while a job has it; an abandoned job keeps it.
    writer: Option<Writer>,
    /// Bytes since a sync was last begun.
    unsynced: u64,
    syncing: Option<oneshot::Receiver<Result<(), DiskError>>>,
}

impl LocalWriter {
    fn take(&mut self) -> Result<Writer, DiskError> {
        self.inner.writable()?;
        let gone = || io::Error::other("an earlier write of this shard failed");
        self.writer.take().ok_or_else(|| gone().into())
    }

    /// Waits for the sync begun last and begins the next.
    async fn sync_aside(&mut self, file: Arc<dyn File>) -> Result<(), DiskError> {
        self.settle_sync().await?;
        let (done, answer) = oneshot::channel();
        let inner = self.inner.clone();
        let started = self.inner.pool.try_start(move || {
            let synced = file.sync_data().map_err(|e| inner.after_write(e));
            drop(done.send(synced));
        });
        // A busy disk: the next piece, or the end, syncs this one too.
        self.syncing = started.then_some(answer);
        Ok(())
    }

    async fn settle_sync(&mut self) -> Result<(), DiskError> {
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
        let inner = self.inner.clone();
        let appended = self.inner.pool.run(move || {
            inner.take_space(bytes, 0)?;
            let appended = writer.append(&chunks);
            appended.map(|()| writer).map_err(|e| inner.after_write(e))
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

    /// Power goes before the folder's sync: the file is whole, its name may not be there. After
    /// it: the shard is there to stay. Until it is confirmed, gc knows it either way.
    async fn finish(mut self: Box<Self>, object_size: u64) -> Result<u64, DiskError> {
        self.settle_sync().await?;
        let writer = self.take()?;
        let (inner, folder) = (self.inner.clone(), std::mem::take(&mut self.folder));
        let sealed = self.inner.pool.run(move || {
            let began = inner.env.instant();
            let sealed = inner.seal(writer, object_size, &folder);
            let sealed = sealed.map_err(|e| inner.after_write(e));
            inner.syncs.add(inner.env.elapsed(began));
            sealed
        });
        let checksum = sealed.await??;
        // A sync that failed elsewhere meanwhile may have been about this shard.
        self.inner.writable()?;
        Ok(checksum)
    }
}

#[cfg(test)]
mod tests;
