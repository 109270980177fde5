//! Finds out whether a disk that failed can be written and read after all.
//!
//! A failed write or sync ends the use of a disk: the kernel's view of a file may differ from the
//! disk's from then on. The probe trusts none of those files. In the disk's directory and in each
//! folder of shards it writes a new file, syncs it, reads it back from the disk and removes it,
//! which is all that a disk needs to do. Power goes here: `probe` is left in the directory, and a
//! start that finds it removes it from the folders, too ([`clean`]).

use std::io;
use std::path::{Path, PathBuf};

use super::core::is_full;
use super::reserve::Reserve;
use crate::disk::identity::{DiskDirectory, is_still, shard_folder};
use drystone_store::env::{Env, Files, OpenMode};

const FILE: &str = "probe";
const LEN: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The disk has no room; with room it may work.
    #[error("it is full")]
    Full,
    #[error("it is not the same disk any more")]
    Other,
    #[error("a probe of it failed in {}: {source}", folder.display())]
    Failed { folder: PathBuf, source: io::Error },
}

/// Blocks, forever on a disk that hangs.
pub fn probe(disk: &DiskDirectory, env: &dyn Env, reserve: Reserve) -> Result<(), ProbeError> {
    let (dir, files) = (&disk.dir, env.files());
    let failed = |folder: &Path, source| {
        let folder = folder.to_owned();
        ProbeError::Failed { folder, source }
    };
    match is_still(files, dir, disk.identity.disk) {
        Ok(true) => {}
        Ok(false) => return Err(ProbeError::Other),
        Err(source) => return Err(failed(dir, source)),
    }
    let capacity = files.capacity(dir).map_err(|e| failed(dir, e))?;
    if reserve.measure(&capacity, env.instant()).space.for_metadata == 0 {
        return Err(ProbeError::Full);
    }
    let tried = |folder: &Path, try_it: fn(&dyn Env, &Path) -> io::Result<()>| {
        try_it(env, folder).map_err(|source| match is_full(&source) {
            true => ProbeError::Full,
            false => failed(folder, source),
        })
    };
    // The file in the directory is created first and removed last, so it marks that the others may
    // exist.
    tried(dir, write)?;
    let folders = (0..=u8::MAX).map(|first| shard_folder(dir, first));
    for folder in folders {
        tried(&folder, write)?;
        tried(&folder, remove)?;
    }
    tried(dir, remove)
}

fn write(env: &dyn Env, folder: &Path) -> io::Result<()> {
    let content: Vec<u8> = (0..LEN / 16).flat_map(|_| env.random()).collect();
    let files = env.files();
    let file = files.open(&folder.join(FILE), OpenMode::CreateEmpty)?;
    file.write_all_at(&content, 0)?;
    file.sync_all()?;
    files.sync_dir(folder)?;
    // Otherwise it would be read from memory.
    file.drop_cache()?;
    match file.read_all()? == content {
        true => Ok(()),
        false => Err(io::Error::other("it returned bytes that were not written")),
    }
}

fn remove(env: &dyn Env, folder: &Path) -> io::Result<()> {
    let files = env.files();
    files.remove_file(&folder.join(FILE))?;
    files.sync_dir(folder)
}

/// Removes the files that an interrupted probe left.
pub fn clean(files: &dyn Files, dir: &Path) -> io::Result<()> {
    if !files.exists(&dir.join(FILE)) {
        return Ok(());
    }
    let folders = (0..=u8::MAX).map(|first| shard_folder(dir, first));
    for folder in folders.chain([dir.to_owned()]) {
        match files.remove_file(&folder.join(FILE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
