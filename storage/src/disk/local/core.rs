//! The parts of a local disk that its readers, its writers and its jobs share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;

use super::reserve::{Reserve, SpaceReading};
use crate::db::{DbError, Hindrance, is_unreadable};
use crate::disk::identity::{DiskDirectory, forget_identity, is_still, shard_folder};
use crate::disk::io::Pool;
use crate::disk::pending::PendingList;
use crate::disk::shard_file::{Writer, file_name};
use crate::disk::{DiskError, DiskState, ShardName, Space};
use drystone_store::crash::{Crash, DiskPoint};
use drystone_store::env::{Env, Interval, Operations};
use drystone_store::lock::Mutex;
use drystone_store::measure::Histogram;
use drystone_store::types::DiskId;

/// How often a disk checks that its directory is still itself.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(2);

pub(super) struct DiskCore {
    pub(super) env: Arc<dyn Env>,
    pub(super) id: DiskId,
    pub(super) dir: PathBuf,
    /// Keeps the directory locked.
    pub(super) _directory: DiskDirectory,
    pub(super) reserve: Reserve,
    pub(super) pool: Pool,
    pub(super) operations: Arc<Operations>,
    pub(super) pending: PendingList,
    pub(super) crash: Crash,
    /// Durations of syncs of the database's log.
    pub(super) log_syncs: Arc<Histogram>,
    pub(super) state: watch::Sender<DiskState>,
    /// None only until the disk is open.
    pub(super) space: Mutex<Option<SpaceReading>>,
    /// A look at the space is in progress.
    pub(super) is_looking: AtomicBool,
    /// The disk was given up because it does not answer.
    pub(super) hangs: AtomicBool,
    pub(super) confirmed: Mutex<Vec<ShardName>>,
    /// The bytes of shards that were written and not synced.
    pub(super) unsynced: Arc<AtomicU64>,
    /// Durations of syncs of a shard's file and its folder, when the shard is sealed.
    pub(super) syncs: Histogram,
}

/// Checks a disk's directory and database until it is down or dropped.
pub(super) async fn watch_disk(
    disk: Weak<DiskCore>,
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
        disk.look_at_space();
        let checked = disk.clone();
        let check = async {
            if let Err(e) = disk.pool.run(move || checked.check()).await {
                tracing::warn!(disk = %disk.id, error = %e, "disk check did not run");
            }
        };
        // A check that hangs must not hide that the database fails.
        tokio::select! {
            () = check => {}
            _ = failure.wait_for(Option::is_some) => {}
        }
    }
}

impl DiskCore {
    /// Leaves `Up`; the first reason stays. Shards can still be read; reading does not need the
    /// database, which may be rebuilt.
    pub(super) fn leave(&self, to: DiskState) {
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

    /// Returns an error when shards can't be written to this disk any more.
    pub(super) fn writable(&self) -> Result<(), DiskError> {
        match &*self.state.borrow() {
            DiskState::Up => Ok(()),
            DiskState::Failed(why) | DiskState::Lost(why) => Err(DiskError::Down(why.clone())),
        }
    }

    /// Returns an error when shards can't be read from this disk any more.
    pub(super) fn readable(&self) -> Result<(), DiskError> {
        match &*self.state.borrow() {
            DiskState::Failed(why) if self.hangs.load(Ordering::Relaxed) => {
                Err(DiskError::Down(why.clone()))
            }
            DiskState::Up | DiskState::Failed(_) => Ok(()),
            DiskState::Lost(why) => Err(DiskError::Down(why.clone())),
        }
    }

    /// Checks that the directory is still this disk; an error means that the check itself failed.
    /// Blocks.
    pub(super) fn check(&self) -> io::Result<()> {
        match is_still(self.env.files(), &self.dir, self.id) {
            Ok(true) => {}
            Ok(false) => self.leave(DiskState::Lost("its identity is gone".into())),
            Err(e) if Hindrance::is_scarcity(&e) => {
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

    /// Maps a failed write, creation or removal to its consequence for the disk. Blocks.
    pub(super) fn after_write(&self, error: io::Error) -> DiskError {
        if is_full(&error) {
            if let Err(error) = self.read_space() {
                tracing::warn!(disk = %self.id, %error, "the space of a full disk is not known");
            }
            return DiskError::Full;
        }
        if Hindrance::is_scarcity(&error) || error.kind() == io::ErrorKind::AlreadyExists {
            return DiskError::Io(error);
        }
        if error.kind() == io::ErrorKind::NotFound {
            // The folders were created with the disk: without them it is not the disk any more.
            drop(self.check());
            self.leave(DiskState::Lost("a folder of shards is missing".into()));
        } else {
            self.leave(DiskState::Failed(error.to_string().into()));
        }
        self.writable().err().unwrap_or(DiskError::Io(error))
    }

    /// Maps a failed sync to its consequence for the disk. The kernel may have dropped what it
    /// could not write, also for want of room, and a later sync would not say so. Blocks.
    pub(super) fn after_sync(&self, error: io::Error) -> DiskError {
        // These come from opening a folder, before its sync.
        let unopened = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        let is_unopened = error
            .raw_os_error()
            .is_some_and(|code| unopened.contains(&code));
        if is_unopened || error.kind() == io::ErrorKind::NotFound {
            return self.after_write(error);
        }
        let why = format!("a sync failed: {error}");
        self.leave(DiskState::Failed(why.into()));
        self.writable().err().unwrap_or(DiskError::Io(error))
    }

    /// Maps a failed read. A shard is missing or damaged only if the disk is up, and answers when
    /// it is asked right after. Otherwise nothing is known of the shard. Blocks.
    pub(super) fn after_read(&self, error: DiskError) -> DiskError {
        let found = match error {
            DiskError::Io(e) if Hindrance::is_scarcity(&e) => return DiskError::Io(e),
            DiskError::Io(e) if e.kind() == io::ErrorKind::NotFound => DiskError::Missing,
            DiskError::Io(e) if is_unreadable(&e) => DiskError::Corrupt(e.to_string()),
            DiskError::Full | DiskError::Down(_) => return error,
            DiskError::Io(_) | DiskError::Missing | DiskError::Corrupt(_) => error,
        };
        let checked = self.writable().and_then(|()| {
            // From memory the identity would be there even if the disk is not.
            forget_identity(self.env.files(), &self.dir).ok();
            self.check().map_err(DiskError::Io)
        });
        let down = self.writable().err();
        down.or(checked.err()).unwrap_or(found)
    }

    pub(super) fn path(&self, name: &ShardName) -> PathBuf {
        let file = file_name(name);
        shard_folder(&self.dir, name.write_id.0[0]).join(file)
    }

    /// Begins a look at the space, unless the last one is fresh or one is in progress.
    pub(super) fn look_at_space(self: &Arc<Self>) {
        let (now, known) = (self.env.instant(), *self.space.lock());
        if known.is_some_and(|reading| reading.is_fresh(now))
            || self.is_looking.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let core = self.clone();
        let look = move || {
            if let Err(error) = core.read_space() {
                tracing::warn!(disk = %core.id, %error, "the space of a disk is not known");
            }
            core.is_looking.store(false, Ordering::Relaxed);
        };
        if !self.pool.try_start(look) {
            self.is_looking.store(false, Ordering::Relaxed);
        }
    }

    /// Looks at the space and publishes it. Blocks.
    pub(super) fn read_space(&self) -> io::Result<Space> {
        let capacity = self.env.files().capacity(&self.dir)?;
        let reading = self.reserve.measure(&capacity, self.env.instant());
        *self.space.lock() = Some(reading);
        Ok(reading.space)
    }

    /// Counts the space that a shard is about to use, and refuses a shard that would use the
    /// reserve: many writes may have been admitted by one reading, and the length of a body may be
    /// unknown. Blocks.
    pub(super) fn take_space(&self, bytes: u64, files: u64) -> Result<(), DiskError> {
        let now = self.env.instant();
        let fits = |reading: &mut Option<SpaceReading>| {
            let reading = reading.as_mut().filter(|reading| reading.is_fresh(now))?;
            reading.bytes += bytes;
            let fits = reading.bytes <= reading.space.above_reserve && files <= reading.files;
            reading.files = reading.files.saturating_sub(files);
            Some(fits)
        };
        if fits(&mut self.space.lock()) == Some(true) {
            return Ok(());
        }
        self.read_space()?;
        match fits(&mut self.space.lock()) {
            Some(false) => Err(DiskError::Full),
            _ => Ok(()),
        }
    }

    /// Makes a written shard durable. Blocks.
    pub(super) fn seal(
        &self,
        writer: Writer,
        object_size: u64,
        folder: &Path,
    ) -> Result<u64, DiskError> {
        self.crash.pass_disk(DiskPoint::ShardWritten);
        let file = writer.file();
        let checksum = writer.seal(object_size).map_err(|e| self.after_write(e))?;
        file.sync_data().map_err(|e| self.after_sync(e))?;
        self.crash.pass_disk(DiskPoint::ShardSealed);
        let synced = self.env.files().sync_dir(folder);
        synced.map_err(|e| self.after_sync(e))?;
        self.crash.pass_disk(DiskPoint::ShardDurable);
        Ok(checksum)
    }

    /// Removes confirmed shards from the list. Blocks.
    pub(super) fn flush_confirmed(&self) -> Result<(), DbError> {
        let confirmed = std::mem::take(&mut *self.confirmed.lock());
        if !confirmed.is_empty() {
            self.crash.pass_disk(DiskPoint::ListShrinking);
        }
        self.pending.remove(&confirmed)
    }

    pub(super) fn after_db(&self, error: DbError) -> DiskError {
        self.leave(DiskState::Failed(error.to_string().into()));
        DiskError::Io(error.into())
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
