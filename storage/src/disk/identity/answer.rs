//! Disks that do not answer when the store starts.
//!
//! Reading what the system has cached says nothing about a disk, so each one is asked to write and
//! to sync. One that hangs then takes no part in the start: it is lost until the next one, like a
//! disk that returns errors.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::directory::{DirectoryState, inspect, lock};
use drystone_store::env::{Env, Files};

/// The time for a disk to answer. One that stood still needs ten seconds to spin up.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Returns the directories whose disks do not answer in time.
pub async fn find_silent(dirs: &[PathBuf], env: &Arc<dyn Env>) -> Vec<PathBuf> {
    let asked = dirs.iter().map(|dir| async move {
        let (work_env, work_dir) = (env.clone(), dir.clone());
        let asking = env.spawn_blocking(move || ask(work_env.files(), &work_dir));
        let is_silent = env.timeout(ANSWER_WITHIN, asking).await.is_err();
        is_silent.then(|| dir.clone())
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Writes to a disk and syncs it. Nothing is written into a directory that is no disk. Errors are
/// an answer, too: who uses the disk finds them again. Blocks, forever on a disk that hangs.
fn ask(files: &dyn Files, dir: &Path) {
    if let Ok(DirectoryState::Disk(_)) = inspect(files, dir)
        && let Ok(lock) = lock(files, dir)
        && lock.write_all_at(&[0], 0).is_ok()
    {
        lock.sync_all().ok();
    }
}
