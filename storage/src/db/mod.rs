//! One disk's RocksDB: its families, its options, and the log thread whose syncs all writers share.
//!
//! The database holds everything that a disk keeps besides shards: the Raft logs and states of all
//! its replicas, and the disk's own lists. [`Db::write_synced`] is the only way to make something
//! durable. It only queues; the disk's **log thread** writes everything that waits as one batch,
//! syncs the WAL once and then calls back in the order of queueing. [`Db::write_unsynced`] puts a
//! batch into the same WAL, so a crash that loses it also loses everything that was written after
//! it, and nothing before it.
//!
//! The first failed write, sync or read **ends the use of this database** (B-66): everything later
//! fails at once with the same error, and receivers of [`Db::failure`] get it. An fsync is never
//! repeated, because the kernel may have dropped the pages that it could not write. The process
//! goes on; the owner replaces the lost replicas.
//!
//! A database that has lost synced writes refuses to open (B-67). RocksDB distinguishes a bad
//! record in the WAL from one that is incomplete at the WAL's end, but cannot tell whether that end
//! had been synced. So the sequence number of the last synced write is kept apart, in the file
//! `synced`.

mod copy;
mod family;
mod hindrance;
mod ingest;
mod options;
mod reread;
mod resources;

pub use self::family::{Family, StateId, log_tag};
pub use self::hindrance::{Hindrance, is_unreadable};
pub use self::ingest::TABLE_BYTES;
pub use self::reread::ReadAt;
pub use self::resources::Resources;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, FlushOptions, WriteBatch, WriteBufferManager,
};
use tokio::sync::{Notify, watch};

use drystone_store::crash::{Crash, DiskPoint};
use drystone_store::env::{Env, File, OpenMode, Operations, TaskError};
use drystone_store::error::Error;
use drystone_store::lock::{Condvar, Mutex};
use drystone_store::measure::Histogram;

/// The folder of table files that the database does not have yet.
const INCOMING: &str = "incoming";
/// The most bytes that wait for the log thread. Beyond that, writers wait.
const LOG_QUEUE_BYTES_MAX: usize = 16 << 20;

/// The reason why a disk's database is not used any more, or not now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    /// A write, sync or read failed once; the database is not used any more.
    #[error("disk's database failed: {0}")]
    Failed(Arc<str>),
    /// A read returned bytes that were not written; the database is not used any more.
    #[error("disk's database is damaged: {0}")]
    Damaged(Arc<str>),
    /// The program cannot continue with what the database holds, which is whole: another version
    /// wrote it, or it contradicts itself. The database stays in use for everything else.
    #[error("{0}")]
    Unfit(Arc<str>),
    /// Synced writes are missing.
    #[error("disk's database lost synced writes: {found} of {synced}")]
    Shortened { synced: u64, found: u64 },
    /// The database may be whole, but could not be opened or read.
    #[error("disk's database cannot be used now: {0} ({1})")]
    Hindered(Hindrance, Arc<str>),
    #[error("disk's database is closed")]
    Closed,
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Error {
        match error {
            DbError::Closed => Error::Closing,
            DbError::Unfit(what) => Error::Unfit(what.to_string()),
            other => Error::Unavailable(other.to_string()),
        }
    }
}

impl From<DbError> for io::Error {
    fn from(error: DbError) -> io::Error {
        io::Error::other(error)
    }
}

/// The resources that the databases of one node share, so that its memory is bounded for any number
/// of disks.
#[derive(Clone)]
pub struct DbShared {
    env: Arc<dyn Env>,
    /// The threads that flush and compact.
    rocks_env: rocksdb::Env,
    cache: Cache,
    write_buffers: WriteBufferManager,
    resources: Resources,
    crash: Crash,
}

impl DbShared {
    /// Makes what databases share.
    pub fn new(env: Arc<dyn Env>, resources: Resources) -> Result<DbShared, DbError> {
        let rocks_env = rocksdb::Env::new();
        let mut rocks_env = rocks_env.map_err(|e| DbError::Failed(e.into_string().into()))?;
        // Flushes go first.
        rocks_env.set_high_priority_background_threads(resources.flushes() as i32);
        rocks_env.set_background_threads(resources.compactions() as i32);
        let cache_bytes = resources.cache_bytes() as usize;
        let memtables_bytes = resources.memtables_bytes() as usize;
        Ok(DbShared {
            env,
            rocks_env,
            cache: Cache::new_lru_cache(cache_bytes),
            write_buffers: WriteBufferManager::new_write_buffer_manager(memtables_bytes, false),
            resources,
            crash: Crash::default(),
        })
    }

    /// The environment that these databases are used in.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    pub fn crash(&self) -> &Crash {
        &self.crash
    }

    /// Sets the crash points that operations on these databases pass.
    pub fn with_crash(self, crash: Crash) -> DbShared {
        DbShared { crash, ..self }
    }
}

type Callback = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// The writes that wait for the log thread.
#[derive(Default)]
struct LogQueue {
    batch: WriteBatch,
    done: Vec<Callback>,
    /// The callbacks of the batch that the log thread writes now. A database that fails meanwhile
    /// calls them at once, as the thread may hang.
    writing: Vec<Callback>,
    closing: bool,
}

struct Core {
    rocks: rocksdb::DB,
    dir: PathBuf,
    cache: Cache,
    resources: Resources,
    env: Arc<dyn Env>,
    synced_file: Arc<dyn File>,
    queue: Mutex<LogQueue>,
    queued: Condvar,
    /// The log thread has emptied the queue.
    taken: Notify,
    /// Dropped after `rocks`, so that its end tells receivers that everything is closed.
    failure: watch::Sender<Option<DbError>>,
    syncs: Arc<Histogram>,
    /// Writes, syncs and flushes in progress, and what else its disk does.
    operations: Arc<Operations>,
    crash: Crash,
    #[cfg(test)]
    options: rocksdb::Options,
    #[cfg(test)]
    faults: testing::Faults,
}

/// The purpose for which a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Birth,
    Store,
    /// A check from outside: nothing is compacted.
    Copy,
}

/// One disk's database. Dropping it closes it, as [`Db::close`] does.
pub struct Db {
    core: Arc<Core>,
    log_thread: Mutex<Option<JoinHandle<()>>>,
}

impl Db {
    /// Makes the database of a new disk in `dir`, or finishes making it after a crash.
    pub fn create(dir: &Path, shared: &DbShared) -> Result<Arc<Db>, DbError> {
        let io = |e: io::Error| DbError::of_opening(&e);
        let files = shared.env.files();
        files.create_dir_all(dir).map_err(io)?;
        // Power goes before the bound is there: `open` refuses the database, and the disk's birth,
        // which is not committed yet, comes here again. RocksDB completes its own files.
        let path = dir.join("synced");
        if !files.exists(&path) {
            let file = files.open(&path, OpenMode::CreateEmpty).map_err(io)?;
            file.write_all_at(&encode_bound(0), 0).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        let db = Self::open_with(dir, shared, Purpose::Birth)?;
        // The folder's own name, too: another disk of this birth may be marked born before this
        // one.
        for folder in [Some(dir), dir.parent()].into_iter().flatten() {
            files.sync_dir(folder).map_err(io)?;
        }
        db.crash().pass_disk(DiskPoint::DatabaseCreated);
        Ok(db)
    }

    /// Opens the database that `create` made in `dir`. Replays its WAL, which takes time.
    pub fn open(dir: &Path, shared: &DbShared) -> Result<Arc<Db>, DbError> {
        Self::open_with(dir, shared, Purpose::Store)
    }

    fn open_with(dir: &Path, shared: &DbShared, purpose: Purpose) -> Result<Arc<Db>, DbError> {
        let io = |e: io::Error| DbError::of_opening(&e);
        let files = shared.env.files();
        let disk_bytes = files.capacity(dir).map_err(io)?.bytes;
        let resources = shared.resources.on_disk(disk_bytes);
        let mut options =
            options::of_database(&shared.rocks_env, &shared.write_buffers, &resources);
        options.create_if_missing(purpose == Purpose::Birth);
        options.create_missing_column_families(purpose == Purpose::Birth);
        // The default family always exists; without options of its own it would add a cache.
        let names = Family::ALL.map(|family| (family.name(), Some(family)));
        let families = names
            .into_iter()
            .chain([("default", None)])
            .map(|(name, family)| {
                let mut options = options::of_family(family, &shared.cache, &resources);
                options.set_disable_auto_compactions(purpose == Purpose::Copy);
                ColumnFamilyDescriptor::new(name, options)
            });
        let rocks = rocksdb::DB::open_cf_descriptors(&options, dir.join("rocksdb"), families)
            .map_err(DbError::of_rocks)?;
        if purpose != Purpose::Copy {
            options::flush_after_scans(&rocks).map_err(DbError::of_rocks)?;
        }

        let incoming = dir.join(INCOMING);
        if files.exists(&incoming) {
            files.remove_dir_all(&incoming).map_err(io)?;
        }
        let synced_file = files.open(&dir.join("synced"), OpenMode::Write);
        let synced_file = synced_file.map_err(io)?;
        let synced = read_bound(synced_file.as_ref()).map_err(io)?;
        let found = rocks.latest_sequence_number();
        if found < synced {
            return Err(DbError::Shortened { synced, found });
        }

        let core = Arc::new(Core {
            rocks,
            dir: dir.to_owned(),
            cache: shared.cache.clone(),
            resources,
            env: shared.env.clone(),
            synced_file,
            queue: Mutex::default(),
            queued: Condvar::new(),
            taken: Notify::new(),
            failure: watch::Sender::new(None),
            syncs: Arc::default(),
            operations: Arc::default(),
            crash: shared.crash.clone(),
            #[cfg(test)]
            options,
            #[cfg(test)]
            faults: testing::Faults::default(),
        });
        let for_thread = core.clone();
        let work = Box::new(move || for_thread.serve_log_thread());
        let thread = shared.env.start_thread("log", work);
        Ok(Arc::new(Db {
            core,
            log_thread: Mutex::new(Some(thread.map_err(io)?)),
        }))
    }

    /// Returns the crash points of this database.
    pub fn crash(&self) -> &Crash {
        &self.core.crash
    }

    /// Returns the environment that this database is used in.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.core.env
    }

    /// Runs `work` on this database, on a thread that may block. Returns as soon as the database
    /// fails; the work may still be in progress then, on a disk that hangs.
    pub async fn run_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Db>) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let db = self.clone();
        let mut failure = self.failure();
        let working = self.env().spawn_blocking(move || work(&db));
        let ended = tokio::select! {
            biased;
            ended = working => ended,
            error = first_failure(&mut failure) => return Err(error),
        };
        match ended {
            Ok(result) => result,
            Err(TaskError::Panicked(panic)) => resume_unwind(panic),
            Err(TaskError::Dropped) => Err(DbError::Closed),
        }
    }

    /// Returns RocksDB itself, for reads and snapshots. Its errors must go to [`Db::failed`].
    pub fn rocks(&self) -> &rocksdb::DB {
        &self.core.rocks
    }

    pub fn family(&self, family: Family) -> &ColumnFamily {
        self.core
            .rocks
            .cf_handle(family.name())
            .expect("opened with all families")
    }

    /// Queues the writes that `fill` puts into the log thread's next batch. After that batch is
    /// synced or has failed, the log thread calls `done`, in the order of queueing; it must not
    /// block. Waits only while the queue is full.
    pub async fn write_synced(
        &self,
        fill: impl FnOnce(&mut WriteBatch),
        done: impl FnOnce(Result<(), DbError>) + Send + 'static,
    ) {
        loop {
            let taken = self.core.taken.notified();
            tokio::pin!(taken);
            taken.as_mut().enable();
            {
                let mut queue = self.core.queue.lock();
                if let Err(error) = self.core.usable(&queue) {
                    drop(queue);
                    return done(Err(error));
                }
                if queue.batch.size_in_bytes() < LOG_QUEUE_BYTES_MAX {
                    fill(&mut queue.batch);
                    queue.done.push(Box::new(done));
                    self.core.queued.notify_one();
                    return;
                }
            }
            taken.await;
        }
    }

    /// Writes like `write_synced`, and returns once the writes are durable.
    pub async fn synced(&self, fill: impl FnOnce(&mut WriteBatch)) -> Result<(), DbError> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.write_synced(fill, move |result| drop(tx.send(result)))
            .await;
        rx.await.unwrap_or(Err(DbError::Closed))
    }

    /// Writes at once, to the WAL but without a sync. Blocks; not for async threads.
    pub fn write_unsynced(&self, batch: WriteBatch) -> Result<(), DbError> {
        self.core.usable(&self.core.queue.lock())?;
        let _operation = self.core.operations.begin();
        self.core.write(batch)
    }

    /// Flushes the families' memtables to synced files. Blocks; not for async threads.
    pub fn flush(&self, families: &[Family]) -> Result<(), DbError> {
        self.core.usable(&self.core.queue.lock())?;
        let _operation = self.core.operations.begin();
        for family in families {
            let options = FlushOptions::default();
            let flushed = self.core.rocks.flush_cf_opt(self.family(*family), &options);
            flushed.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// Ends the use of this database because of `error`, and returns the error for the caller.
    pub fn failed(&self, error: rocksdb::Error) -> DbError {
        self.core.end(DbError::of_rocks(error))
    }

    /// Ends the use of this database because a read returned bytes that were not written.
    pub fn corrupt(&self, what: impl Into<String>) -> DbError {
        self.core.end(DbError::Damaged(what.into().into()))
    }

    /// Ends the use of this database because its disk failed, was replaced or was removed.
    pub fn give_up(&self, why: &str) -> DbError {
        self.core.end(DbError::Failed(why.into()))
    }

    /// Returns a receiver that becomes `Some` with the first failure, and stays so.
    pub fn failure(&self) -> watch::Receiver<Option<DbError>> {
        self.core.failure.subscribe()
    }

    /// Returns the number and the durations of the log thread's syncs of the WAL.
    pub fn syncs(&self) -> &Arc<Histogram> {
        &self.core.syncs
    }

    /// Returns the free bytes of the file system that the database is on. Blocks.
    pub fn free_bytes(&self) -> Result<u64, DbError> {
        let capacity = self.env().files().capacity(&self.core.dir);
        Ok(capacity.map_err(|e| DbError::of_opening(&e))?.bytes_free)
    }

    /// Returns the operations in progress on this database's disk.
    pub fn operations(&self) -> &Arc<Operations> {
        &self.core.operations
    }

    /// Writes everything that waits, ends the log thread and refuses later writes. Blocks, but not
    /// for the log thread of a database that has failed: its disk may hang.
    pub fn close(&self) {
        self.core.queue.lock().closing = true;
        self.core.queued.notify_one();
        let mut slot = self.log_thread.lock();
        if let Some(thread) = slot.take()
            && self.core.failure.borrow().is_none()
            // A callback may drop the last handle.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("log thread panicked");
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.close();
    }
}

impl Core {
    fn usable(&self, queue: &LogQueue) -> Result<(), DbError> {
        if let Some(failure) = &*self.failure.borrow() {
            return Err(failure.clone());
        }
        if queue.closing {
            Err(DbError::Closed)
        } else {
            Ok(())
        }
    }

    /// Runs the log thread. If it panics, the use of the database ends, so that nobody waits for
    /// it.
    fn serve_log_thread(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.run_log_thread())).is_err() {
            self.fail("its log thread panicked".into());
        }
    }

    fn run_log_thread(&self) {
        loop {
            let mut queue = self.queue.lock();
            while queue.done.is_empty() && !queue.closing {
                queue = self.queued.wait(queue);
            }
            if queue.done.is_empty() {
                return;
            }
            let batch = std::mem::take(&mut queue.batch);
            queue.writing = std::mem::take(&mut queue.done);
            drop(queue);
            self.taken.notify_waiters();

            let operation = self.operations.begin();
            let result = self.write_and_sync(batch);
            drop(operation);
            // Empty if the database failed meanwhile.
            let done = std::mem::take(&mut self.queue.lock().writing);
            for done in done {
                done(result.clone());
            }
        }
    }

    /// Writes a batch and syncs the WAL.
    ///
    /// Power goes before the sync: no write of the batch was acknowledged, and a part of them may
    /// be there. After it: all of them are there.
    fn write_and_sync(&self, batch: WriteBatch) -> Result<(), DbError> {
        if let Some(failure) = &*self.failure.borrow() {
            return Err(failure.clone());
        }
        self.write(batch)?;
        self.crash.pass_disk(DiskPoint::LogWritten);
        // Read before the sync, which may cover more writes but never fewer.
        let bound = self.rocks.latest_sequence_number();
        #[cfg(test)]
        self.faults.check().map_err(|e| self.fail(e))?;
        let began = self.env.instant();
        // Not `WriteOptions::sync`: that would block unsynced writes until it is done.
        self.rocks
            .flush_wal(true)
            .map_err(|e| self.fail(e.into_string()))?;
        self.crash.pass_disk(DiskPoint::LogSynced);
        self.syncs.add(self.env.elapsed(began));
        // Not synced itself: a power failure may leave an older bound, which promises less.
        let written = self.synced_file.write_all_at(&encode_bound(bound), 0);
        written.map_err(|e| self.fail(e.to_string()))
    }

    fn write(&self, batch: WriteBatch) -> Result<(), DbError> {
        #[cfg(test)]
        self.faults.check().map_err(|e| self.fail(e))?;
        self.rocks
            .write(batch)
            .map_err(|e| self.fail(e.into_string()))
    }

    fn fail(&self, what: String) -> DbError {
        self.end(DbError::Failed(what.into()))
    }

    fn end(&self, error: DbError) -> DbError {
        let first = self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(error.clone());
            }
            first
        });
        if first {
            let path = self.rocks.path().display();
            tracing::error!(%error, %path, "disk's database failed");
        }
        self.taken.notify_waiters();
        // Nobody waits for a log thread that may hang. The failure is published first: what is
        // queued from now on is refused.
        let (writing, done) = {
            let mut queue = self.queue.lock();
            queue.batch = WriteBatch::default();
            (
                std::mem::take(&mut queue.writing),
                std::mem::take(&mut queue.done),
            )
        };
        for done in writing.into_iter().chain(done) {
            done(Err(error.clone()));
        }
        error
    }
}

/// Waits until a database fails, and forever if it is closed without a failure.
async fn first_failure(failure: &mut watch::Receiver<Option<DbError>>) -> DbError {
    match failure
        .wait_for(Option::is_some)
        .await
        .map(|failure| failure.clone())
    {
        Ok(Some(error)) => error,
        _ => std::future::pending().await,
    }
}

/// Encodes the bound's file: the sequence number and its checksum, both little-endian.
fn encode_bound(sequence: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..8]);
    bytes[8..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads the bound's file. A bound that does not verify was written incompletely and promises
/// nothing.
fn read_bound(file: &dyn File) -> io::Result<u64> {
    let mut bytes = [0; 16];
    match file.read_exact_at(&mut bytes, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
        other => other?,
    }
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&bytes[..8]);
    let sequence = u64::from_le_bytes(sequence);
    Ok(if encode_bound(sequence) == bytes {
        sequence
    } else {
        0
    })
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
