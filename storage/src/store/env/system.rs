//! The machine as an environment: its clocks, tokio's timers and tasks, threads, and files.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the way that all others are forbidden for"
)]

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use rand::RngExt as _;
use rustix::fs::{Advice, fadvise, statvfs};
use tokio::runtime::Handle;

use super::{
    Capacity, Env, File, FileId, FileSystem, Files, Instant, Job, Mount, Names, OpenMode, Work,
    mounts,
};
use crate::types::Timestamp;

/// The machine's clocks, the thread's cryptographic generator, the runtime of the caller, and the
/// files of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(since.as_millis() as i64)
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn random(&self) -> [u8; 16] {
        rand::rng().random()
    }

    fn sleep_until(&self, due: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(due))
    }

    fn start_task(&self, task: BoxFuture<'static, ()>) {
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(task)),
            Err(error) => tracing::warn!(%error, "a task is dropped"),
        }
    }

    fn start_work(&self, work: Work) {
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(error) => tracing::warn!(%error, "work is dropped"),
        }
    }

    fn start_thread(&self, name: &str, work: Work) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.into()).spawn(work)
    }

    fn run_jobs(&self, jobs: Vec<Job<'_>>) {
        std::thread::scope(|scope| {
            for job in jobs {
                scope.spawn(job);
            }
        });
    }

    fn files(&self) -> &dyn Files {
        self
    }
}

impl Files for SystemEnv {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::File::options();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::Create => options.write(true).create(true).truncate(false),
            OpenMode::CreateEmpty => options.write(true).create(true).truncate(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        Ok(Arc::new(options.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Names> {
        let entries = fs::read_dir(dir)?;
        Ok(Box::new(entries.map(|entry| Ok(entry?.file_name()))))
    }

    fn identify(&self, path: &Path) -> io::Result<FileId> {
        let metadata = fs::metadata(path)?;
        Ok(FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::copy(from, to).map(drop)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn capacity(&self, path: &Path) -> io::Result<Capacity> {
        let stat = statvfs(path)?;
        Ok(Capacity {
            bytes: stat.f_blocks * stat.f_frsize,
            bytes_free: stat.f_bavail * stat.f_frsize,
            inodes: stat.f_files,
            inodes_free: stat.f_favail,
        })
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let metadata = fs::metadata(path)?;
        let made = metadata.created().ok();
        let since = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        Ok(FileSystem {
            device: metadata.dev(),
            id: statvfs(path)?.f_fsid,
            made_ns: since.and_then(|since| u64::try_from(since.as_nanos()).ok()),
        })
    }

    fn mounts(&self) -> io::Result<Vec<Mount>> {
        fs::read("/proc/self/mountinfo").map(|text| mounts::parse(&text))
    }

    fn create_scratch_dir(&self, prefix: &str) -> io::Result<PathBuf> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
        Ok(dir.keep())
    }
}

impl File for fs::File {
    fn read_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::preadv(self, buffers, offset)?)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, buffers, offset)?)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        fs::File::sync_all(self)
    }

    fn start_writeback(&self, span: Range<u64>) {
        // The advice begins to write what is dirty, and drops what is not: a span that was just
        // written stays in memory.
        let Some(len) = NonZeroU64::new(span.end.saturating_sub(span.start)) else {
            return;
        };
        if let Err(error) = fadvise(self, span.start, Some(len), Advice::DontNeed) {
            tracing::debug!(%error, "the kernel accepts no advice on a file");
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(fadvise(self, 0, None, Advice::DontNeed)?)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match fs::File::try_lock(self) {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}
