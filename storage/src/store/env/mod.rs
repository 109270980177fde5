//! The one way to time, sleep, randomness, tasks, threads and the file system.
//!
//! Code in `storage` that needs one of these is handed an [`Env`] and asks it;
//! `storage/clippy.toml` forbids the other ways. [`SystemEnv`] is the machine. A simulation of a
//! whole store hands in another one, in which time passes when nothing is left to do, and disks
//! fail and lose power on request.
//!
//! The state machine has no environment at all: the proposer of a command asks here once and writes
//! the answer into it.
//!
//! # What lies outside
//!
//! - RocksDB reads and writes its own files, on its own threads. A simulation keeps them in a
//!   directory of the machine, and may copy that directory to cut the power.
//! - openraft draws its election timeouts, sleeps and spawns by its own runtime, which is tokio.
//!   For the rest to agree with it, an [`Instant`] is tokio's. A simulation runs on one thread of a
//!   tokio runtime whose clock is paused.
//! - Locks, channels and condition variables are those of `std` and `tokio`.

mod files;
mod mounts;
mod operations;
mod system;
mod task;

use std::io;
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
pub use tokio::time::Instant;

pub use self::files::{
    Capacity, File, FileId, FileReader, FileSystem, Files, Names, OpenMode, ScratchDir,
};
pub use self::mounts::Mount;
pub use self::operations::{Operation, Operations};
pub use self::system::SystemEnv;
pub use self::task::{Elapsed, Interval, Task, TaskError, Timeout};
use crate::types::{Timestamp, WriteId};

/// Work that may block.
pub type Work = Box<dyn FnOnce() + Send>;

/// Work that is waited for, so that it may borrow.
pub type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// An environment: the machine, or a simulation of one.
///
/// Callers rather use what derives from it, on `dyn Env` itself: `sleep`, `timeout`, `interval`,
/// `spawn`, `spawn_blocking`, `run_side_by_side`.
///
/// # What an implementation must guarantee
///
/// - [`Env::instant`] never goes back. It is at or past `due` when [`Env::sleep_until`] returns.
/// - [`Env::random`] never gives the same bytes twice: they become ids.
/// - A task, work or thread that was started runs to its end unless the process ends, whether or
///   not somebody waits for it. Work that blocks never holds up a task.
/// - A simulator is **deterministic**: with the same seed, and the same calls in the same order,
///   all answers and the order in which tasks and work run are the same. So it draws all
///   randomness and each choice of what runs next from the seed, and asks nothing of the machine.
pub trait Env: Send + Sync + 'static {
    /// The time of day. It may jump, also back.
    fn now(&self) -> Timestamp;

    /// The time by a clock that never goes back, for deadlines and for how long something takes.
    fn instant(&self) -> Instant;

    /// Bytes that nobody can predict.
    fn random(&self) -> [u8; 16];

    /// Returns at `due`, or at once if that has passed.
    fn sleep_until(&self, due: Instant) -> BoxFuture<'static, ()>;

    /// Starts a task. Where there is no runtime any more, as in a destructor that runs late, the
    /// task is dropped.
    fn start_task(&self, task: BoxFuture<'static, ()>);

    /// Starts work that may block, on a thread for such work. Where there is no runtime any more,
    /// the work is dropped.
    fn start_work(&self, work: Work);

    /// Starts a thread, for work that blocks for as long as the process lives.
    fn start_thread(&self, name: &str, work: Work) -> io::Result<JoinHandle<()>>;

    /// Runs jobs side by side, and returns when all have ended. Panics if one has. Blocks.
    fn run_jobs(&self, jobs: Vec<Job<'_>>);

    /// Returns the file system.
    fn files(&self) -> &dyn Files;

    /// Returns a new id for a write, or for a request.
    fn write_id(&self) -> WriteId {
        WriteId(self.random())
    }

    /// Returns a random id, neither 0 nor `u64::MAX`.
    fn random_id(&self) -> u64 {
        1 + self.nonce() % (u64::MAX - 1)
    }

    /// Returns a random number.
    fn nonce(&self) -> u64 {
        let random = self.random();
        u64::from_be_bytes(random[..8].try_into().expect("8 of 16 bytes"))
    }
}

#[cfg(test)]
mod tests;
